//! In place: the whole backup is verified, the database emptied, and filled again.
//!
//! The way for servers where no database can be created. Schema `public` stays and is emptied (its initial privileges
//! cannot be made again); everything else goes, extensions included where this role may drop them. Anything else that this
//! role may not drop stands in the way, and then nothing is removed.

use std::collections::HashMap;

use pgkeep_archive::Decoder;
use pgkeep_core::BackupSource;
use pgkeep_dump::{ConnectSettings, Connection, SessionSettings};
use tokio_util::sync::CancellationToken;

use crate::error::Doing;
use crate::standstill::{Standstill, ending_others};
use crate::survey::texts;
use crate::{Error, Result};

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

/// What belongs to roles that this one cannot act for, so that it cannot be dropped; one line each.
pub(crate) async fn of_others(settings: &ConnectSettings) -> Result<Vec<String>> {
    let doing = || format!("asking who owns what in database {}", settings.database());
    let mut connection = Connection::connect(settings, SessionSettings::Admin).await.doing(doing())?;
    let all = async {
        let mut lines = texts(&mut connection, &owned_by_others()).await?;
        lines.extend(texts(&mut connection, LARGE_OBJECTS_OF_OTHERS).await?);
        connection.close().await?;
        Ok(lines)
    };
    all.await.doing(doing())
}

const LARGE_OBJECTS_OF_OTHERS: &str = "\
    SELECT pg_catalog.concat(pg_catalog.count(*), ' large objects (role ', pg_catalog.pg_get_userbyid(lomowner), ')') \
    FROM pg_catalog.pg_largeobject_metadata WHERE NOT pg_catalog.pg_has_role(lomowner, 'USAGE') GROUP BY lomowner";

/// Who owns a schema may drop what is in it. `NULL` is an owner for what only superusers drop.
fn owned_by_others() -> String {
    let outside = [
        ("pg_event_trigger", "evtowner", "true"),
        ("pg_publication", "pubowner", "true"),
        ("pg_namespace", "nspowner", "nspname NOT IN ('public', 'information_schema') AND nspname !~ '^pg_'"),
        ("pg_foreign_server", "srvowner", "true"),
        ("pg_foreign_data_wrapper", "fdwowner", "true"),
        ("pg_language", "lanowner", "oid >= 16384"),
        ("pg_am", "NULL::oid", "oid >= 16384"),
    ];
    let in_public = [
        ("pg_class", "relowner", "relnamespace", "relkind IN ('r', 'p', 'v', 'm', 'f', 'S')"),
        ("pg_proc", "proowner", "pronamespace", "true"),
        // Rows' and arrays' types go with what they are of.
        ("pg_type", "typowner", "typnamespace", "typtype <> 'c' AND typelem = 0"),
        ("pg_operator", "oprowner", "oprnamespace", "true"),
        ("pg_opclass", "opcowner", "opcnamespace", "true"),
        ("pg_opfamily", "opfowner", "opfnamespace", "true"),
        ("pg_collation", "collowner", "collnamespace", "true"),
        ("pg_conversion", "conowner", "connamespace", "true"),
        ("pg_ts_config", "cfgowner", "cfgnamespace", "true"),
        ("pg_ts_dict", "dictowner", "dictnamespace", "true"),
        ("pg_statistic_ext", "stxowner", "stxnamespace", "true"),
    ];
    let mut parts: Vec<String> = outside
        .iter()
        .map(|(catalog, owner, which)| {
            format!("SELECT tableoid, oid, {owner} AS owner FROM pg_catalog.{catalog} WHERE {which}")
        })
        .collect();
    parts.extend(in_public.iter().map(|(catalog, owner, schema, which)| {
        format!(
            "SELECT c.tableoid, c.oid, {owner} FROM pg_catalog.{catalog} c JOIN pg_catalog.pg_namespace n ON n.oid = {schema} \
             WHERE nspname = 'public' AND NOT pg_catalog.pg_has_role(nspowner, 'USAGE') AND {which}"
        )
    }));
    format!(
        "SELECT pg_catalog.concat(i.type, ' ', i.identity, ' (', COALESCE('role ' || pg_catalog.pg_get_userbyid(o.owner), 'superusers'), ')') \
         FROM ({}) o, pg_catalog.pg_identify_object(o.tableoid, o.oid, 0) i \
         WHERE NOT COALESCE(pg_catalog.pg_has_role(o.owner, 'USAGE'), \
           (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user)) AND {NOT_OF_EXTENSION} ORDER BY 1",
        parts.join(" UNION ALL ")
    )
}

/// Empties the database while other sessions on it are ended. Extensions that could not be removed are returned, one line
/// each; if anything else stays, nothing is removed, and that is an error. `begun` is set as soon as something may be gone.
pub(crate) async fn empty(
    settings: &ConnectSettings,
    standstill: Option<Standstill>,
    begun: &mut bool,
) -> Result<Vec<String>> {
    let doing = || format!("emptying database {}", settings.database());
    let (mut connection, locked) = match standstill {
        Some(mut standstill) => {
            standstill.check(settings.database()).await?;
            (standstill.connection, true)
        }
        None => (Connection::connect(settings, SessionSettings::Admin).await.doing(doing())?, false),
    };
    let session = connection.backend_pid();
    let emptied = async {
        if !locked {
            connection.execute("BEGIN; SET LOCAL lock_timeout = '60s'").await?;
        }
        let staying = drop_everything(&mut connection, begun).await?;
        if staying.others.is_empty() {
            unlink_large_objects(&mut connection).await?;
        }
        Ok::<_, pgkeep_dump::Error>(staying)
    };
    let staying = ending_others(settings, session, emptied).await?.doing(doing())?;
    if staying.others.is_empty() { Ok(staying.extensions) } else { Err(Error::Blocked { blockers: staying.others }) }
}

/// What could not be removed, one line each.
#[derive(Debug, Default)]
struct Staying {
    extensions: Vec<String>,
    /// Everything else.
    others: Vec<String>,
}

impl Staying {
    /// What there still is, with the reasons that were heard.
    async fn find(connection: &mut Connection, reasons: &HashMap<String, String>) -> Result<Self, pgkeep_dump::Error> {
        let mut staying = Self::default();
        for removal in drops(connection).await? {
            let subject = &removal.subject;
            let line = match reasons.get(subject) {
                Some(reason) => format!("{subject} stays: {reason}"),
                None => format!("{subject} stays"),
            };
            if removal.extension { &mut staying.extensions } else { &mut staying.others }.push(line);
        }
        Ok(staying)
    }
}

/// Within the transaction that has begun, if the server's lock table has room for it, else statement by statement.
async fn drop_everything(connection: &mut Connection, begun: &mut bool) -> Result<Staying, pgkeep_dump::Error> {
    let statements = drops(connection).await?;
    let mut reasons = HashMap::new();
    for Removal { statement, subject, .. } in &statements {
        connection.execute("SAVEPOINT one").await?;
        match connection.execute(statement).await {
            Ok(_) => {
                connection.execute("RELEASE SAVEPOINT one").await?;
            }
            Err(pgkeep_dump::Error::Server(error)) if error.sqlstate == "53200" => {
                connection.execute("ROLLBACK").await?;
                return drop_one_by_one(connection, &statements, begun).await;
            }
            Err(pgkeep_dump::Error::Server(error)) if !error.is_fatal() => {
                connection.execute("ROLLBACK TO SAVEPOINT one").await?;
                reasons.insert(subject.clone(), error.message);
            }
            Err(error) => return Err(error),
        }
    }
    let staying = Staying::find(connection, &reasons).await?;
    if !staying.others.is_empty() {
        connection.execute("ROLLBACK").await?;
        return Ok(staying);
    }
    // Even if no answer comes.
    *begun = true;
    connection.execute("COMMIT").await?;
    Ok(staying)
}

async fn drop_one_by_one(
    connection: &mut Connection,
    statements: &[Removal],
    begun: &mut bool,
) -> Result<Staying, pgkeep_dump::Error> {
    let mut reasons = HashMap::new();
    *begun = true;
    for Removal { statement, subject, .. } in statements {
        match connection.execute(statement).await {
            Ok(_) => {}
            Err(pgkeep_dump::Error::Server(error)) if !error.is_fatal() => {
                reasons.insert(subject.clone(), error.message);
            }
            Err(error) => return Err(error),
        }
    }
    Staying::find(connection, &reasons).await
}

/// Something to drop.
#[derive(Debug)]
struct Removal {
    statement: String,
    /// For people.
    subject: String,
    /// It may stay.
    extension: bool,
}

/// Statements that remove everything a user has made. What an earlier one took along is
/// not missed (`IF EXISTS`).
async fn drops(connection: &mut Connection) -> Result<Vec<Removal>, pgkeep_dump::Error> {
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

fn push(statements: &mut Vec<Removal>, kind: &str, names: Vec<String>) {
    statements.extend(names.into_iter().map(|name| Removal {
        statement: format!("DROP {kind} IF EXISTS {name} CASCADE"),
        subject: format!("{} {name}", kind.to_lowercase()),
        extension: kind == "EXTENSION",
    }));
}

/// The word that DROP wants for a type of object as `pg_identify_object` calls it.
fn kind_of(kind: &str) -> String {
    match kind {
        "composite type" => "TYPE".to_owned(),
        "statistics object" => "STATISTICS".to_owned(),
        kind => kind.to_uppercase(),
    }
}

async fn unlink_large_objects(connection: &mut Connection) -> Result<(), pgkeep_dump::Error> {
    let sql = format!(
        "SELECT pg_catalog.lo_unlink(oid) FROM (SELECT oid FROM pg_catalog.pg_largeobject_metadata LIMIT {LARGE_OBJECTS}) AS batch"
    );
    while !connection.query(&sql).await?.is_empty() {}
    Ok(())
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
        assert_eq!(statements[0].statement, "DROP TABLE IF EXISTS public.\"odd one\" CASCADE");
    }
}
