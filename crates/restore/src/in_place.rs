//! In place: the whole backup is verified, the database emptied, and filled again.
//!
//! The way for servers where no database can be created. Schema `public` stays and is emptied (its initial privileges
//! cannot be made again); everything else goes, extensions included where this role may drop them.

use std::time::Duration;

use pgkeep_archive::Decoder;
use pgkeep_core::BackupSource;
use pgkeep_dump::{ConnectSettings, Connection, SessionSettings};
use tokio_util::sync::CancellationToken;

use crate::error::Doing;
use crate::survey::texts;
use crate::{Error, Result};

/// Between two rounds of ending sessions.
const ROUND: Duration = Duration::from_millis(50);
/// Large objects removed in one transaction.
const LARGE_OBJECTS: usize = 1000;
const NOT_OF_EXTENSION: &str = "NOT EXISTS (SELECT FROM pg_catalog.pg_depend e WHERE e.classid = o.tableoid AND e.objid = o.oid AND e.deptype = 'e')";

/// Reads the whole backup and parses it to its end: every digest is compared on the way.
pub(crate) async fn verify(source: &BackupSource, jobs: usize, cancel: &CancellationToken) -> Result<()> {
    let mut archive = source.open(jobs).await?;
    let mut decoder = Decoder::new();
    loop {
        let bytes = tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(Error::Interrupted),
            bytes = archive.next() => bytes?,
        };
        let Some(bytes) = bytes else { break };
        decoder.push(&bytes);
        while decoder.next_event()?.is_some() {}
    }
    Ok(decoder.finish()?)
}

/// Empties the database while other sessions on it are ended. What could not be removed is returned, one line each.
pub(crate) async fn empty(settings: &ConnectSettings) -> Result<Vec<String>> {
    let doing = || format!("emptying database {}", settings.database());
    let mut connection = Connection::connect(settings, SessionSettings::Admin).await.doing(doing())?;
    let mut ending = Connection::connect(settings, SessionSettings::Admin).await.doing(doing())?;
    let sql = format!(
        "SELECT pg_catalog.count(pg_catalog.pg_terminate_backend(pid)) FROM pg_catalog.pg_stat_activity \
         WHERE datname = pg_catalog.current_database() AND pid NOT IN (pg_catalog.pg_backend_pid(), {}) \
         AND ((SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) \
           OR (usesysid IS NOT NULL AND pg_catalog.pg_has_role(usesysid, 'USAGE') \
             AND NOT COALESCE((SELECT rolsuper FROM pg_catalog.pg_roles WHERE oid = usesysid), true)))",
        connection.backend_pid()
    );
    let emptied = async {
        let mut left = drop_everything(&mut connection).await?;
        left.extend(unlink_large_objects(&mut connection).await?);
        Ok::<_, pgkeep_dump::Error>(left)
    };
    let ended = async {
        loop {
            if ending.query(&sql).await.is_err_and(|error| error.server_error().is_none()) {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(ROUND).await;
        }
    };
    tokio::select! {
        biased;
        left = emptied => left.doing(doing()),
        () = ended => unreachable!("sessions are ended until the database is empty"),
    }
}

/// One transaction if the server's lock table has room for it, else statement by statement.
async fn drop_everything(connection: &mut Connection) -> Result<Vec<String>, pgkeep_dump::Error> {
    let statements = drops(connection).await?;
    connection.execute("BEGIN; SET LOCAL lock_timeout = '60s'").await?;
    let mut left = Vec::new();
    for (statement, subject) in &statements {
        connection.execute("SAVEPOINT one").await?;
        match connection.execute(statement).await {
            Ok(_) => {
                connection.execute("RELEASE SAVEPOINT one").await?;
            }
            Err(pgkeep_dump::Error::Server(error)) if error.sqlstate == "53200" => {
                connection.execute("ROLLBACK").await?;
                return drop_one_by_one(connection, &statements).await;
            }
            Err(pgkeep_dump::Error::Server(error)) if !error.is_fatal() => {
                connection.execute("ROLLBACK TO SAVEPOINT one").await?;
                left.push(format!("{subject} stays: {}", error.message));
            }
            Err(error) => return Err(error),
        }
    }
    connection.execute("COMMIT").await?;
    Ok(left)
}

async fn drop_one_by_one(
    connection: &mut Connection,
    statements: &[(String, String)],
) -> Result<Vec<String>, pgkeep_dump::Error> {
    let mut left = Vec::new();
    for (statement, subject) in statements {
        match connection.execute(statement).await {
            Ok(_) => {}
            Err(pgkeep_dump::Error::Server(error)) if !error.is_fatal() => {
                left.push(format!("{subject} stays: {}", error.message));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(left)
}

/// Statements that remove everything a user has made, each with its subject for people. What an earlier one took along is
/// not missed (`IF EXISTS`).
async fn drops(connection: &mut Connection) -> Result<Vec<(String, String)>, pgkeep_dump::Error> {
    let lists = [
        (
            "EVENT TRIGGER",
            format!(
                "SELECT pg_catalog.quote_ident(evtname) FROM pg_catalog.pg_event_trigger o WHERE {NOT_OF_EXTENSION}"
            ),
        ),
        ("PUBLICATION", "SELECT pg_catalog.quote_ident(pubname) FROM pg_catalog.pg_publication".to_owned()),
        (
            "EXTENSION",
            "SELECT pg_catalog.quote_ident(extname) FROM pg_catalog.pg_extension WHERE extname <> 'plpgsql'".to_owned(),
        ),
        (
            "SCHEMA",
            format!(
                "SELECT pg_catalog.quote_ident(nspname) FROM pg_catalog.pg_namespace o \
                 WHERE nspname NOT IN ('public', 'information_schema') AND nspname !~ '^pg_' AND {NOT_OF_EXTENSION}"
            ),
        ),
    ];
    let mut statements = Vec::new();
    for (kind, sql) in lists {
        push(&mut statements, kind, texts(connection, &sql).await?);
    }
    // What schema public holds, as the catalog itself names it.
    let rows = connection
        .query(
            "SELECT i.type, i.identity FROM pg_catalog.pg_depend d, pg_catalog.pg_identify_object(d.classid, d.objid, 0) i \
             WHERE d.refclassid = 'pg_catalog.pg_namespace'::pg_catalog.regclass \
             AND d.refobjid = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = 'public') AND d.deptype = 'n' \
             AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend e WHERE e.classid = d.classid AND e.objid = d.objid AND e.deptype = 'e') \
             AND i.type NOT IN ('extension', 'default acl', 'publication namespace')",
        )
        .await?;
    for row in &rows {
        let kind = kind_of(&row.text(0).unwrap_or_default());
        push(&mut statements, &kind, row.text(1).into_iter().collect());
    }
    // What lies in no schema.
    for (kind, catalog) in [
        ("SERVER", "pg_foreign_server"),
        ("FOREIGN DATA WRAPPER", "pg_foreign_data_wrapper"),
        ("CAST", "pg_cast"),
        ("TRANSFORM", "pg_transform"),
        ("LANGUAGE", "pg_language"),
        ("ACCESS METHOD", "pg_am"),
    ] {
        let sql = format!(
            "SELECT i.identity FROM pg_catalog.{catalog} o, pg_catalog.pg_identify_object(o.tableoid, o.oid, 0) i \
             WHERE o.oid >= 16384 AND {NOT_OF_EXTENSION}"
        );
        push(&mut statements, kind, texts(connection, &sql).await?);
    }
    Ok(statements)
}

fn push(statements: &mut Vec<(String, String)>, kind: &str, names: Vec<String>) {
    for name in names {
        statements.push((format!("DROP {kind} IF EXISTS {name} CASCADE"), format!("{} {name}", kind.to_lowercase())));
    }
}

/// The word that DROP wants for a type of object as `pg_identify_object` calls it.
fn kind_of(kind: &str) -> String {
    match kind {
        "composite type" => "TYPE".to_owned(),
        "statistics object" => "STATISTICS".to_owned(),
        kind => kind.to_uppercase(),
    }
}

async fn unlink_large_objects(connection: &mut Connection) -> Result<Vec<String>, pgkeep_dump::Error> {
    let sql = format!(
        "SELECT pg_catalog.lo_unlink(oid) FROM (SELECT oid FROM pg_catalog.pg_largeobject_metadata LIMIT {LARGE_OBJECTS}) AS batch"
    );
    loop {
        match connection.query(&sql).await {
            Ok(rows) if rows.is_empty() => return Ok(Vec::new()),
            Ok(_) => {}
            Err(pgkeep_dump::Error::Server(error)) if !error.is_fatal() => {
                return Ok(vec![format!("large objects stay: {}", error.message)]);
            }
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_those_that_drop_knows() {
        assert_eq!(kind_of("composite type"), "TYPE");
        assert_eq!(kind_of("materialized view"), "MATERIALIZED VIEW");
        let mut statements = Vec::new();
        push(&mut statements, "TABLE", vec!["public.\"odd one\"".into()]);
        assert_eq!(statements[0].0, "DROP TABLE IF EXISTS public.\"odd one\" CASCADE");
    }
}
