//! Adding tables to a database that exists.

use std::collections::HashSet;

use pgkeep_dump::{ConnectSettings, Connection, SessionSettings, quote_identifier, quote_literal};

use crate::error::{Doing, one_line};
use crate::lists::Lists;
use crate::{RestorePlan, Result, TableName};

/// Which of these tables are there already.
pub(crate) async fn existing(connect: &ConnectSettings, tables: &[TableName]) -> Result<Vec<TableName>> {
    let doing = "looking for the tables in the target database";
    let mut connection = Connection::connect(connect, SessionSettings::Admin).await.doing(doing)?;
    let mut found = Vec::new();
    for table in tables {
        if exists(&mut connection, &table.schema, &table.name).await.doing(doing)? {
            found.push(table.clone());
        }
    }
    let _ = connection.close().await;
    Ok(found)
}

/// The lists without what would change something that is there: grants and comments of what the tables only need, and the
/// standing of sequences that others use.
pub(crate) async fn lists_for_existing(plan: &RestorePlan, connect: &ConnectSettings) -> Result<Lists> {
    let doing = "looking for what the tables need in the target database";
    let mut connection = Connection::connect(connect, SessionSettings::Admin).await.doing(doing)?;
    let needed = &plan.lists.needed;
    let mut left_out = HashSet::new();
    for entry in needed.iter().filter_map(|&id| plan.toc.entry(id)) {
        let theirs = match entry.desc.as_str() {
            "ACL" | "COMMENT" | "SECURITY LABEL" => true,
            "SEQUENCE SET" => {
                let schema = entry.namespace.as_ref().map(pgkeep_archive::PgText::lossy).unwrap_or_default();
                exists(&mut connection, &schema, &entry.tag.lossy()).await.doing(doing)?
            }
            _ => false,
        };
        if theirs {
            left_out.insert(entry.dump_id);
        }
    }
    let _ = connection.close().await;
    Ok(plan.lists.lists.clone().without(&left_out))
}

/// Removes the tables again after a failure: they were not there before.
pub(crate) async fn take_back(plan: &RestorePlan, connect: &ConnectSettings) -> Vec<String> {
    let mut connection = match Connection::connect(connect, SessionSettings::Admin).await {
        Ok(connection) => connection,
        Err(error) => {
            return vec![format!("what was restored of the tables is left in {}: {}", plan.database, one_line(&error))];
        }
    };
    let mut left = Vec::new();
    let own = plan.lists.lists.before.iter().filter(|id| !plan.lists.needed.contains(*id));
    let tables: Vec<_> = own
        .filter_map(|&id| plan.toc.entry(id))
        .filter(|entry| matches!(entry.desc.as_str(), "TABLE" | "FOREIGN TABLE"))
        .map(|entry| {
            let schema = entry.namespace.as_ref().map(pgkeep_archive::PgText::lossy).unwrap_or_default();
            let kind = if entry.desc == "TABLE" { "TABLE" } else { "FOREIGN TABLE" };
            (kind, format!("{}.{}", quote_identifier(&schema), quote_identifier(&entry.tag.lossy())))
        })
        .collect();
    // Partitions first; one that went with its root is not missed.
    for (kind, table) in tables.iter().rev() {
        if let Err(error) = connection.execute(format!("DROP {kind} IF EXISTS {table}")).await {
            left.push(format!("{table} is left half restored in {}: {}", plan.database, one_line(&error)));
        }
    }
    left
}

async fn exists(connection: &mut Connection, schema: &str, name: &str) -> Result<bool, pgkeep_dump::Error> {
    let rows = connection
        .query(format!(
            "SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             WHERE n.nspname = {} AND c.relname = {}",
            quote_literal(schema),
            quote_literal(name)
        ))
        .await?;
    Ok(!rows.is_empty())
}
