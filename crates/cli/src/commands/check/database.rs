//! The server, the database, what of it the role can read, and the client tools.

use chrono::{DateTime, Utc};
use pgkeep_dump::{
    ClientTools, ConnectSettings, Connection, Error, LargeObjectReading, Notice, Selection, ServerFacts,
    SessionSettings, Tool, preflight, quote_identifier, schema_toc,
};

use super::findings::Findings;
use super::{Scene, restore};
use crate::failure::{Failure, Result, chain};
use crate::hint::Code;
use crate::render::{count, size};
use crate::settings::variable;

/// Clocks further apart than this are worth a line.
const SKEW_SECONDS: i64 = 60;
/// How many of what the role may not read are named.
const NAMED: usize = 20;

/// The role of the session.
#[derive(Debug, Clone)]
pub(super) struct Role {
    pub(super) name: String,
    pub(super) superuser: bool,
    pub(super) creates_databases: bool,
}

impl Role {
    /// The name as SQL has it.
    pub(super) fn quoted(&self) -> String {
        quote_identifier(&self.name)
    }
}

pub(super) async fn check(scene: Scene<'_>, findings: &mut Findings) {
    findings.group("database");
    let tools = scene.context.client_tools().await;
    let settings = match scene.context.connect_settings() {
        Ok(settings) => settings,
        Err(failure) => {
            findings.failed("settings", failure);
            installed(findings, tools, None);
            return;
        }
    };
    let Some(mut connection) = connect(findings, &settings).await else {
        installed(findings, tools, None);
        return;
    };
    let facts = match ServerFacts::read(&mut connection).await {
        Ok(facts) => facts,
        Err(error) => {
            findings.failed("facts", error);
            return;
        }
    };
    findings.pass("database", format!("{}, {}, {}", facts.identity.database, size(facts.size_bytes), facts.encoding));
    clock(findings, "server's clock", facts.server_time, Utc::now());
    let Some(role) = role(findings, &mut connection).await else { return };
    let readable = match selection(scene) {
        Ok(selection) => {
            let readable = reading(scene, findings, &mut connection, &selection, &role).await;
            Some((selection, readable))
        }
        Err(failure) => {
            findings.failed("PGDUMP_OPTIONS", failure);
            None
        }
    };
    role_passwords(scene, findings, &mut connection, &role).await;
    locks(findings, &mut connection).await;
    if facts.standby {
        standby(findings, &mut connection).await;
    }
    restore::check(scene, findings, connection, &facts, &role).await;
    findings.group("client tools");
    let chosen = installed(findings, tools, Some(facts.major()));
    if let (Some(tools), Some((selection, true))) = (chosen, readable) {
        try_pg_dump(scene, findings, &settings, &tools, &selection).await;
    }
}

/// Connects; says of what is in the way what exactly is missing.
async fn connect(findings: &mut Findings, settings: &ConnectSettings) -> Option<Connection> {
    let mut connection = match Connection::connect(settings, SessionSettings::Dump).await {
        Ok(connection) => connection,
        Err(error) => {
            refused(findings, settings, error);
            return None;
        }
    };
    let resolved = connection.resolved().clone();
    let version = connection.parameter("server_version").unwrap_or_default().to_owned();
    let encrypted = if connection.is_encrypted() { "encrypted" } else { "not encrypted" };
    findings
        .pass("connect", format!("PostgreSQL {version} at {}, as {}, {encrypted}", resolved.server(), resolved.user()));
    if !connection.is_encrypted() && leaves_the_machine(&resolved.server()) {
        findings
            .warn("encryption", "rows travel to this machine in plain text")
            .hint("add sslmode=verify-full (and sslrootcert) to DATABASE_URL");
    }
    match connection.refuse_pooler().await {
        Ok(()) => {
            findings.pass("no pooler", "the session stays on one server process");
            Some(connection)
        }
        Err(error) => {
            refused(findings, settings, error);
            None
        }
    }
}

fn refused(findings: &mut Findings, settings: &ConnectSettings, error: Error) {
    let is_pooler = matches!(error, Error::Pooler { .. });
    // 42501 at this point is the database's own CONNECT.
    let no_connect = error.sqlstate() == Some("42501");
    let finding = findings.failed(if is_pooler { "no pooler" } else { "connect" }, error);
    if no_connect {
        finding.missing(format!(
            "GRANT CONNECT ON DATABASE {} TO {}",
            quote_identifier(settings.database()),
            quote_identifier(settings.user())
        ));
    }
}

fn leaves_the_machine(server: &str) -> bool {
    let host = server.rsplit_once(':').map_or(server, |(host, _)| host).trim_matches(['[', ']']);
    !(host.starts_with('/')
        || host.starts_with('@')
        || host == "localhost"
        || host == "::1"
        || host.starts_with("127."))
}

/// Compares a clock with this machine's.
pub(super) fn clock(findings: &mut Findings, name: &str, theirs: DateTime<Utc>, ours: DateTime<Utc>) {
    let apart = (theirs - ours).num_seconds();
    if apart.abs() <= SKEW_SECONDS {
        findings.pass(name, format!("{} apart from this machine's", count(apart.unsigned_abs(), "second")));
    } else {
        let direction = if apart > 0 { "ahead of" } else { "behind" };
        findings
            .warn(name, format!("{} {direction} this machine's", count(apart.unsigned_abs(), "second")))
            .hint("names and retention go by this machine's clock, locks by the store's: run chrony or timedatectl set-ntp true on both");
    }
}

async fn role(findings: &mut Findings, connection: &mut Connection) -> Option<Role> {
    let rows = connection
        .query(
            "SELECT current_user, rolsuper, rolcreatedb, pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CONNECT') \
             FROM pg_catalog.pg_roles WHERE rolname = current_user",
        )
        .await;
    let row = match rows {
        Ok(rows) => rows.into_iter().next()?,
        Err(error) => {
            findings.failed("role", error);
            return None;
        }
    };
    let role =
        Role { name: row.text(0).unwrap_or_default(), superuser: row.is_true(1), creates_databases: row.is_true(2) };
    let kind = if role.superuser { "a superuser" } else { "no superuser" };
    findings.pass("role", format!("{}, {kind}; REPLICATION is not needed", role.name));
    Some(role)
}

/// What of the database a backup holds, as set.
fn selection(scene: Scene<'_>) -> Result<Selection> {
    let Some(found) = scene.context.settings.layers.get(&variable::PGDUMP_OPTIONS) else {
        return Ok(Selection::default());
    };
    let words = shell_words::split(&found.text)
        .map_err(|error| Failure::settings(format!("{} can't be split into options: {error}", found.origin)))?;
    let (selection, notices) = Selection::parse(&words).map_err(|error| Failure::settings(chain(&error)))?;
    for notice in notices.iter().filter(|notice| matches!(notice, Notice::Caution { .. })) {
        scene.context.reporter.count_warning(notice.to_string());
    }
    Ok(selection)
}

/// Whether every table, sequence and large object can be read.
async fn reading(
    scene: Scene<'_>,
    findings: &mut Findings,
    connection: &mut Connection,
    selection: &Selection,
    role: &Role,
) -> bool {
    let engine = scene.context.settings.layers.get(&variable::ENGINE);
    let large_objects = match engine {
        Some(found) if found.text == "pg_dump" => LargeObjectReading::OneByOne,
        _ => LargeObjectReading::ByPages,
    };
    let found = match preflight(connection, selection, large_objects).await {
        Ok(found) => found,
        Err(error) => {
            findings.failed("read everything", error);
            return false;
        }
    };
    for blocker in found.blockers.iter().take(NAMED) {
        let finding = findings.fail("read", blocker.problem.clone()).code(Code::DatabasePermission);
        // Large objects are not what it covers.
        let for_all = if blocker.problem.contains("large object") {
            String::new()
        } else {
            format!("; GRANT pg_read_all_data TO {} covers every table and sequence at once", role.quoted())
        };
        if let Some(remedy) = &blocker.remedy {
            finding.missing(remedy.clone()).hint(format!("run that as the owner or a superuser{for_all}"));
        }
    }
    for loss in found.losses.iter().take(NAMED) {
        let finding = findings.warn("not in the backup", loss.problem.clone());
        if let Some(remedy) = &loss.remedy {
            finding.missing(remedy.clone());
        }
    }
    if !found.blockers.is_empty() {
        return false;
    }
    match connection.query_one(COUNTS).await {
        Ok(row) => {
            let number = |column| row.get::<u64>(column).unwrap_or(0);
            findings.pass(
                "read everything",
                format!(
                    "{}, {} and {} can be read",
                    count(number(0), "table"),
                    count(number(1), "sequence"),
                    count(number(2), "large object")
                ),
            );
        }
        Err(error) => {
            findings.failed("read everything", error);
        }
    }
    true
}

const COUNTS: &str = "SELECT pg_catalog.count(*) FILTER (WHERE c.relkind IN ('r', 'p')), pg_catalog.count(*) FILTER (WHERE c.relkind = 'S'), \
     (SELECT pg_catalog.count(*) FROM pg_catalog.pg_largeobject_metadata) \
     FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
     WHERE n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'";

async fn role_passwords(scene: Scene<'_>, findings: &mut Findings, connection: &mut Connection, role: &Role) {
    if !scene.context.settings.role_passwords || role.superuser {
        return;
    }
    let asked = connection.query_one("SELECT pg_catalog.has_table_privilege('pg_catalog.pg_authid', 'SELECT')").await;
    match asked {
        Ok(row) if row.is_true(0) => {
            findings.pass("role passwords", "can be read");
        }
        Ok(_) => {
            findings
                .warn("role passwords", "BACKUP_ROLE_PASSWORDS is on, and this role may not read them")
                .missing(format!("GRANT SELECT ON pg_catalog.pg_authid TO {}", role.quoted()));
        }
        Err(error) => {
            findings.failed("role passwords", error);
        }
    }
}

/// A dump locks every table at once: the server's lock table must have room.
async fn locks(findings: &mut Findings, connection: &mut Connection) {
    const SQL: &str = "SELECT (SELECT pg_catalog.count(*) FROM pg_catalog.pg_class WHERE relkind IN ('r', 'p', 'v', 'm', 'S', 'f')), \
         pg_catalog.current_setting('max_locks_per_transaction')::pg_catalog.int8 * \
         (pg_catalog.current_setting('max_connections')::pg_catalog.int8 + pg_catalog.current_setting('max_prepared_transactions')::pg_catalog.int8)";
    let Ok(row) = connection.query_one(SQL).await else { return };
    let (Ok(wanted), Ok(room)) = (row.get::<u64>(0), row.get::<u64>(1)) else { return };
    if wanted > room {
        findings
            .warn("lock table", format!("a dump holds {wanted} locks at once, and the server has room for {room}"))
            .hint("raise max_locks_per_transaction in postgresql.conf and restart the server");
    }
}

async fn standby(findings: &mut Findings, connection: &mut Connection) {
    const SQL: &str = "SELECT pg_catalog.current_setting('max_standby_streaming_delay'), pg_catalog.current_setting('hot_standby_feedback')";
    let Ok(row) = connection.query_one(SQL).await else { return };
    let (delay, feedback) = (row.text(0).unwrap_or_default(), row.text(1).unwrap_or_default());
    if delay == "-1" || feedback == "on" {
        findings.pass("standby", "replay waits for a long dump");
    } else {
        findings
            .warn("standby", format!("replay cancels a dump that is in its way for longer than {delay}"))
            .hint("set hot_standby_feedback = on or max_standby_streaming_delay = -1 on the standby");
    }
}

/// The client tools for the server's major version.
fn installed(findings: &mut Findings, tools: Result<Vec<ClientTools>>, major: Option<u32>) -> Option<ClientTools> {
    findings.group("client tools");
    let tools = match tools {
        Ok(tools) => tools,
        Err(failure) => {
            findings.failed("found", failure);
            return None;
        }
    };
    let Some(major) = major else {
        let names: Vec<_> = tools.iter().map(ToString::to_string).collect();
        if names.is_empty() {
            findings.fail("found", "no pg_dump is installed").code(Code::ClientToolsMissing);
        } else {
            findings.pass("found", names.join(", "));
        }
        return None;
    };
    let chosen = match ClientTools::choose(&tools, major) {
        Ok(chosen) => chosen.clone(),
        Err(error) => {
            findings.failed("found", error);
            return None;
        }
    };
    let missing: Vec<_> = [Tool::PgDump, Tool::PgRestore, Tool::PgDumpall]
        .into_iter()
        .filter(|tool| !chosen.path(*tool).is_file())
        .map(Tool::name)
        .collect();
    if missing.is_empty() {
        findings.pass("found", format!("pg_dump, pg_restore and pg_dumpall {chosen}, for server version {major}"));
        return Some(chosen);
    }
    findings
        .fail("found", format!("{} is missing in {}", missing.join(", "), chosen.folder.display()))
        .code(Code::ClientToolsMissing)
        .hint(format!(
            "install the whole package: postgresql-client-{0} on Debian and Ubuntu, postgresql{0} on RHEL and Fedora",
            chosen.major
        ));
    None
}

/// The real thing: pg_dump logs in by itself, locks every table, and writes the schema.
async fn try_pg_dump(
    scene: Scene<'_>,
    findings: &mut Findings,
    settings: &ConnectSettings,
    tools: &ClientTools,
    selection: &Selection,
) {
    match schema_toc(settings, tools, selection, scene.context.cancel.clone()).await {
        Ok(toc) => {
            findings.pass("pg_dump", format!("dumps the schema: {} entries", toc.entries.len()));
        }
        Err(error) => {
            let failure = Failure::from(error);
            if failure.code == Code::DatabaseTimeout {
                findings.warn("pg_dump", failure.message).hint("somebody holds a lock; a backup would wait for it too");
            } else {
                findings.failed("pg_dump", failure);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_apart_are_told() {
        let now = Utc::now();
        let mut findings = Findings::default();
        clock(&mut findings, "clock", now + chrono::Duration::seconds(59), now);
        assert!(findings.warnings().is_empty());
        clock(&mut findings, "clock", now - chrono::Duration::seconds(600), now);
        assert!(findings.warnings()[0].contains("600 seconds behind"), "{:?}", findings.warnings());
    }

    #[test]
    fn sockets_and_loopback_stay_here() {
        for server in ["/var/run/postgresql", "localhost:5432", "127.0.0.1:5432", "[::1]:5432"] {
            assert!(!leaves_the_machine(server), "{server}");
        }
        assert!(leaves_the_machine("db.example.org:5432") && leaves_the_machine("10.0.0.7:5432"));
    }
}
