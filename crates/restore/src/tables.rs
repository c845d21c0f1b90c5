//! Adding tables to a database that exists. What was there before is never dropped: a failure takes back what this
//! restore has made, known by its OIDs, and nothing else.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use pgkeep_archive::{PgText, Toc, TocEntry};
use pgkeep_dump::{ConnectSettings, Connection, SessionSettings, quote_literal};

use crate::error::{Doing, one_line};
use crate::lists::{Lists, TableLists};
use crate::survey::truth;
use crate::{RestorePlan, Result, TableName};

/// How long dropping waits for a lock.
const LOCK_TIMEOUT: &str = "10s";

/// One of the relations that the tables consist of: they, their partitions, sequences, indexes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Relation {
    /// Its entry.
    id: i32,
    kind: &'static str,
    name: TableName,
}

impl fmt::Display for Relation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

/// What a restore of tables has made so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Made {
    /// Nothing of the tables' own.
    #[default]
    Nothing,
    /// Some of these, which were absent before; which, nobody knows for sure.
    Perhaps(Vec<Relation>),
    /// The relations of these OIDs.
    These(Vec<u32>),
}

/// The tables' own relations, tables first.
pub(crate) fn own(toc: &Toc, lists: &TableLists) -> Vec<Relation> {
    let ids = lists.lists.before.iter().chain(&lists.lists.after).filter(|id| !lists.needed.contains(*id));
    let mut relations: Vec<Relation> = ids.filter_map(|&id| toc.entry(id)).filter_map(relation).collect();
    relations.sort_by_key(|relation| relation.kind != "table");
    relations
}

fn relation(entry: &TocEntry) -> Option<Relation> {
    let kind = match entry.desc.as_str() {
        "TABLE" | "FOREIGN TABLE" => "table",
        "SEQUENCE" => "sequence",
        "INDEX" => "index",
        _ => return None,
    };
    let schema = entry.namespace.as_ref().map(PgText::lossy).unwrap_or_default();
    Some(Relation { id: entry.dump_id, kind, name: TableName { schema, name: entry.tag.lossy() } })
}

/// Which of these are there already; where tables are, what belongs to them is not named as well.
pub(crate) async fn existing(connect: &ConnectSettings, relations: &[Relation]) -> Result<Vec<Relation>> {
    let doing = "looking for the tables in the target database";
    let mut connection = Connection::connect(connect, SessionSettings::Admin).await.doing(doing)?;
    let known = oids(&mut connection, relations).await.doing(doing)?;
    let _ = connection.close().await;
    let found: Vec<Relation> =
        relations.iter().filter(|relation| known.contains_key(&relation.name)).cloned().collect();
    let is_table = |relation: &Relation| relation.kind == "table";
    Ok(if found.iter().any(is_table) { found.into_iter().filter(is_table).collect() } else { found })
}

/// What has become of the relations that were absent, after a pass whose errors were of these statements. The second half
/// are those that somebody else has made meanwhile.
pub(crate) async fn made(
    connect: &ConnectSettings,
    toc: &Toc,
    relations: &[Relation],
    failed: &[Option<String>],
) -> Result<(Made, Vec<Relation>)> {
    let definitions: Vec<(i32, String)> = relations
        .iter()
        .filter_map(|relation| Some((relation.id, words(&toc.entry(relation.id)?.definition.lossy()))))
        .collect();
    let mut refused = HashSet::new();
    for statement in failed {
        let ids = statement.as_deref().and_then(|statement| creations(&definitions, statement));
        let Some(ids) = ids else { return Ok((Made::Perhaps(relations.to_vec()), Vec::new())) };
        refused.extend(ids);
    }
    let doing = "looking for the new tables";
    let mut connection = Connection::connect(connect, SessionSettings::Admin).await.doing(doing)?;
    let known = oids(&mut connection, relations).await.doing(doing)?;
    let _ = connection.close().await;
    let there = relations.iter().filter(|relation| relation.kind != "index" && known.contains_key(&relation.name));
    let (theirs, ours): (Vec<&Relation>, Vec<&Relation>) = there.partition(|one| refused.contains(&one.id));
    let ours = ours.into_iter().filter_map(|relation| known.get(&relation.name).copied()).collect();
    Ok((Made::These(ours), theirs.into_iter().cloned().collect()))
}

/// The entries that a failed statement may have been to create; `None` if it was to create something nobody knows. What
/// `pg_restore` tells of a statement may be its beginning only.
fn creations(definitions: &[(i32, String)], statement: &str) -> Option<Vec<i32>> {
    let statement = words(statement);
    let statement = statement.trim_end_matches(['.', ' ', char::REPLACEMENT_CHARACTER]);
    let ids: Vec<i32> =
        definitions.iter().filter(|(_, definition)| definition.starts_with(statement)).map(|&(id, _)| id).collect();
    // Owners, settings: of no table in particular.
    let creates_nothing = !statement.starts_with("CREATE");
    (creates_nothing || !ids.is_empty()).then_some(ids)
}

fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

async fn oids(
    connection: &mut Connection,
    relations: &[Relation],
) -> Result<BTreeMap<TableName, u32>, pgkeep_dump::Error> {
    if relations.is_empty() {
        return Ok(BTreeMap::new());
    }
    let names: Vec<String> = relations
        .iter()
        .map(|Relation { name, .. }| format!("({}, {})", quote_literal(&name.schema), quote_literal(&name.name)))
        .collect();
    let rows = connection
        .query(format!(
            "SELECT n.nspname, c.relname, c.oid FROM pg_catalog.pg_class c \
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE (n.nspname, c.relname) IN ({})",
            names.join(", ")
        ))
        .await?;
    let named = |row: &pgkeep_dump::Row| TableName {
        schema: row.text(0).unwrap_or_default(),
        name: row.text(1).unwrap_or_default(),
    };
    rows.iter().map(|row| Ok((named(row), row.get(2)?))).collect()
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

/// Removes what was made again after a failure; what cannot be removed is returned, one line each.
pub(crate) async fn take_back(plan: &RestorePlan, connect: &ConnectSettings, made: Made) -> Vec<String> {
    if made == Made::Nothing {
        return Vec::new();
    }
    let left = |what: &str, error: &pgkeep_dump::Error| {
        format!("{what} is left half restored in {}: {}", plan.database, one_line(error))
    };
    match take_back_all(connect, made).await {
        Ok(lines) => lines.iter().map(|(what, error)| left(what, error)).collect(),
        Err(error) => vec![left("what was restored of the tables", &error)],
    }
}

async fn take_back_all(
    connect: &ConnectSettings,
    made: Made,
) -> Result<Vec<(String, pgkeep_dump::Error)>, pgkeep_dump::Error> {
    let mut connection = Connection::connect(connect, SessionSettings::Admin).await?;
    let (all, only_empty) = match made {
        Made::Nothing => return Ok(Vec::new()),
        // Their rows cannot be ours: none are loaded before it is known what was made.
        Made::Perhaps(relations) => (oids(&mut connection, &relations).await?.into_values().collect(), true),
        Made::These(oids) => (oids, false),
    };
    if drop_these(&mut connection, &all, only_empty).await.is_ok() {
        return Ok(Vec::new());
    }
    // Something else refers to one of them by now: as many as can go, those that others of them refer to later.
    let mut left = Vec::new();
    let mut open = all;
    loop {
        let before = open.len();
        left.clear();
        let mut again = Vec::new();
        for oid in open.into_iter().rev() {
            if let Err(error) = drop_these(&mut connection, &[oid], only_empty).await {
                let name = found(&mut connection, &[oid]).await?.pop().map_or_else(String::new, |one| one.name);
                left.push((name, error));
                again.push(oid);
            }
        }
        again.reverse();
        open = again;
        if open.is_empty() || open.len() == before {
            break;
        }
    }
    let _ = connection.close().await;
    Ok(left)
}

/// A relation as it is now.
#[derive(Debug)]
struct Found {
    oid: u32,
    /// `pg_class.relkind`.
    kind: String,
    /// Quoted.
    name: String,
}

async fn found(connection: &mut Connection, oids: &[u32]) -> Result<Vec<Found>, pgkeep_dump::Error> {
    if oids.is_empty() {
        return Ok(Vec::new());
    }
    let rows = connection
        .query(format!(
            "SELECT c.oid, c.relkind, pg_catalog.format('%I.%I', n.nspname, c.relname) FROM pg_catalog.pg_class c \
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid IN ({})",
            listed(oids)
        ))
        .await?;
    rows.iter()
        .map(|row| {
            Ok(Found { oid: row.get(0)?, kind: row.text(1).unwrap_or_default(), name: row.text(2).unwrap_or_default() })
        })
        .collect()
}

fn listed(oids: &[u32]) -> String {
    oids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Drops these relations and no other, all or none. With `only_empty`, tables that hold rows are left alone.
async fn drop_these(connection: &mut Connection, oids: &[u32], only_empty: bool) -> Result<(), pgkeep_dump::Error> {
    connection.execute(format!("BEGIN; SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")).await?;
    match drop_within(connection, oids, only_empty).await {
        Ok(()) => connection.execute("COMMIT").await.map(drop),
        Err(error) => {
            connection.execute("ROLLBACK").await?;
            Err(error)
        }
    }
}

async fn drop_within(connection: &mut Connection, oids: &[u32], only_empty: bool) -> Result<(), pgkeep_dump::Error> {
    let mut ours = Vec::new();
    for one in found(connection, oids).await? {
        match one.kind.as_str() {
            "r" if only_empty => {
                connection.execute(format!("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", one.name)).await?;
                let rows = connection.query(format!("SELECT EXISTS (SELECT FROM ONLY {})", one.name)).await?;
                if !rows.iter().any(|row| truth(row, 0)) {
                    ours.push(one);
                }
            }
            // A sequence of its own has no rows that would tell.
            "S" if only_empty => {}
            "r" | "p" | "f" | "S" => ours.push(one),
            _ => {}
        }
    }
    let mine: Vec<u32> = ours.iter().map(|one| one.oid).collect();
    if mine.is_empty() {
        return Ok(());
    }
    let_go(connection, &mine).await?;
    for (kind, relkinds) in [("FOREIGN TABLE", &["f"][..]), ("TABLE", &["r", "p"]), ("SEQUENCE", &["S"])] {
        // What went with a table is not missed.
        let names: Vec<String> = found(connection, &mine)
            .await?
            .into_iter()
            .filter(|one| relkinds.contains(&one.kind.as_str()))
            .map(|one| one.name)
            .collect();
        if !names.is_empty() {
            connection.execute(format!("DROP {kind} {}", names.join(", "))).await?;
        }
    }
    // Dropped by their names: were these still the ones that were meant?
    if found(connection, &mine).await?.is_empty() {
        Ok(())
    } else {
        Err(pgkeep_dump::Error::Statement { problem: "a table got another name in the same moment" })
    }
}

/// Others' tables that have become partitions or children of these are let go, for they would be dropped with them.
async fn let_go(connection: &mut Connection, oids: &[u32]) -> Result<(), pgkeep_dump::Error> {
    let rows = connection
        .query(format!(
            "SELECT p.relkind, pg_catalog.format('%I.%I', pn.nspname, p.relname), pg_catalog.format('%I.%I', cn.nspname, c.relname) \
             FROM pg_catalog.pg_inherits i \
             JOIN pg_catalog.pg_class p ON p.oid = i.inhparent JOIN pg_catalog.pg_namespace pn ON pn.oid = p.relnamespace \
             JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid JOIN pg_catalog.pg_namespace cn ON cn.oid = c.relnamespace \
             WHERE i.inhparent IN ({0}) AND i.inhrelid NOT IN ({0})",
            listed(oids)
        ))
        .await?;
    for row in &rows {
        let (parent, child) = (row.text(1).unwrap_or_default(), row.text(2).unwrap_or_default());
        let sql = if row.text(0).as_deref() == Some("p") {
            format!("ALTER TABLE {parent} DETACH PARTITION {child}")
        } else {
            format!("ALTER TABLE {child} NO INHERIT {parent}")
        };
        connection.execute(sql).await?;
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_statement_is_known_by_its_beginning() {
        let definitions = vec![
            (1, words("CREATE TABLE public.a (\n    id integer\n);\n")),
            (2, words("CREATE TABLE public.ab (\n    id integer\n);\n")),
        ];
        let of = |statement: &str| creations(&definitions, statement);
        assert_eq!(of("CREATE TABLE public.a (\n    id integer\n);"), Some(vec![1]));
        assert_eq!(of("CREATE TABLE public.ab (\n    id inte..."), Some(vec![2]));
        // Not to be told apart: neither is taken for ours.
        assert_eq!(of("CREATE TABLE public.a..."), Some(vec![1, 2]));
        assert_eq!(of("ALTER TABLE public.a OWNER TO gone;"), Some(vec![]));
        assert_eq!(of("CREATE TABLE public.other ("), None);
        assert_eq!(of(""), Some(vec![1, 2]));
    }
}
