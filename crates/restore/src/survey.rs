//! What the server and the target are like before anything is done: questions to the catalogs, nothing else.

use std::collections::{BTreeMap, BTreeSet};

use pgkeep_dump::{ConnectSettings, Connection, Row, ServerFacts, SessionSettings, quote_literal};

use crate::error::Doing;
use crate::{Result, SessionFact, sessions};

/// Facts of server, role and target.
#[derive(Debug, Clone)]
pub(crate) struct TargetFacts {
    /// Pinned to the host that answered, with the target's database.
    pub(crate) connect: ConnectSettings,
    /// `server_version_num`.
    pub(crate) version_num: u32,
    /// `server_version`.
    pub(crate) version: String,
    /// A standby takes no restore.
    pub(crate) standby: bool,
    /// The role.
    pub(crate) role: Role,
    /// The target database, if it exists.
    pub(crate) database: Option<Database>,
    /// Every role.
    pub(crate) roles: BTreeSet<String>,
    /// Roles that this one is a member of, itself included: it can give them objects.
    pub(crate) member_of: BTreeSet<String>,
    /// Extensions that can be created: default version, and whether an ordinary owner may create them.
    pub(crate) extensions: BTreeMap<String, (String, bool)>,
    /// Tablespaces.
    pub(crate) tablespaces: BTreeSet<String>,
    /// Every database, by name.
    pub(crate) databases: BTreeSet<String>,
    /// Where the server keeps its data, if it tells.
    pub(crate) data_folder: Option<String>,
}

/// The role that restores.
#[derive(Debug, Clone, Default)]
pub(crate) struct Role {
    pub(crate) name: String,
    pub(crate) superuser: bool,
    pub(crate) create_databases: bool,
    /// May create subscriptions (16 and later).
    pub(crate) create_subscriptions: bool,
}

/// An existing target database.
#[derive(Debug, Clone)]
pub(crate) struct Database {
    pub(crate) oid: u32,
    pub(crate) template: bool,
    /// Whether the role may act as its owner.
    pub(crate) owned: bool,
    pub(crate) bytes: Option<u64>,
    pub(crate) sessions: Vec<SessionFact>,
    pub(crate) prepared: Vec<String>,
    pub(crate) slots: Vec<String>,
    pub(crate) subscriptions: Vec<String>,
    /// Locale, owner, settings: read from inside; `None` if it cannot be connected to.
    pub(crate) facts: Option<Box<ServerFacts>>,
    /// Whether it holds nothing of a user's.
    pub(crate) empty: bool,
}

/// Asks everything. `inside` is set where no other database may be needed (in place, tables).
pub(crate) async fn survey(settings: &ConnectSettings, target: &str, inside: bool) -> Result<TargetFacts> {
    let mut connection = if inside {
        Connection::connect(&settings.with_database(target), SessionSettings::Admin)
            .await
            .doing(format!("connecting to database {target}"))?
    } else {
        sessions::maintenance(settings, &[]).await?
    };
    let connect = connection.resolved().with_database(target);
    let facts = ask(&mut connection, connect, target).await.doing("asking the server what it is like")?;
    let _ = connection.close().await;
    Ok(facts)
}

async fn ask(
    connection: &mut Connection,
    connect: ConnectSettings,
    target: &str,
) -> Result<TargetFacts, pgkeep_dump::Error> {
    let rows =
        connection.query("SELECT pg_catalog.current_setting('server_version'), pg_catalog.pg_is_in_recovery()").await?;
    let version = rows.first().and_then(|row| row.text(0)).unwrap_or_default();
    let standby = rows.first().is_some_and(|row| truth(row, 1));
    let role = role(connection).await?;
    let database = database(connection, &connect, target, &role).await?;
    let roles = names(connection, "SELECT rolname FROM pg_catalog.pg_roles").await?;
    let membership = if connection.server_version() >= 160_000 { "SET" } else { "MEMBER" };
    let member_of = names(
        connection,
        &format!("SELECT rolname FROM pg_catalog.pg_roles WHERE pg_catalog.pg_has_role(oid, '{membership}')"),
    )
    .await?;
    let extensions = connection
        .query(
            "SELECT e.name, e.default_version, COALESCE(v.trusted OR NOT v.superuser, false) \
             FROM pg_catalog.pg_available_extensions e \
             LEFT JOIN pg_catalog.pg_available_extension_versions v ON v.name = e.name AND v.version = e.default_version",
        )
        .await?
        .iter()
        .map(|row| (row.text(0).unwrap_or_default(), (row.text(1).unwrap_or_default(), truth(row, 2))))
        .collect();
    let tablespaces = names(connection, "SELECT spcname FROM pg_catalog.pg_tablespace").await?;
    let databases = names(connection, "SELECT datname FROM pg_catalog.pg_database").await?;
    // Only some roles may read it.
    let data_folder =
        match connection.query("SELECT setting FROM pg_catalog.pg_settings WHERE name = 'data_directory'").await {
            Ok(rows) => rows.first().and_then(|row| row.text(0)),
            Err(_) => None,
        };
    Ok(TargetFacts {
        connect,
        version_num: connection.server_version(),
        version,
        standby,
        role,
        database,
        roles,
        member_of,
        extensions,
        tablespaces,
        databases,
        data_folder,
    })
}

async fn role(connection: &mut Connection) -> Result<Role, pgkeep_dump::Error> {
    let subscriptions = if connection.server_version() >= 160_000 {
        "pg_catalog.pg_has_role('pg_create_subscription', 'USAGE')"
    } else {
        "false"
    };
    let rows = connection
        .query(format!(
            "SELECT rolname, rolsuper, rolcreatedb, {subscriptions} FROM pg_catalog.pg_roles WHERE rolname = current_user"
        ))
        .await?;
    Ok(rows.first().map_or_else(Role::default, |row| Role {
        name: row.text(0).unwrap_or_default(),
        superuser: truth(row, 1),
        create_databases: truth(row, 2),
        create_subscriptions: truth(row, 3),
    }))
}

async fn database(
    connection: &mut Connection,
    connect: &ConnectSettings,
    target: &str,
    role: &Role,
) -> Result<Option<Database>, pgkeep_dump::Error> {
    let name = quote_literal(target);
    let rows = connection
        .query(format!(
            "SELECT oid, datistemplate, pg_catalog.pg_has_role(datdba, 'MEMBER'), datallowconn, \
             CASE WHEN pg_catalog.has_database_privilege(oid, 'CONNECT') OR pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE') \
             THEN pg_catalog.pg_database_size(oid) END \
             FROM pg_catalog.pg_database WHERE datname = {name}"
        ))
        .await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let oid: u32 = row.get(0)?;
    let mut database = Database {
        oid,
        template: truth(row, 1),
        owned: role.superuser || truth(row, 2),
        bytes: row.text(4).and_then(|bytes| bytes.parse().ok()),
        sessions: sessions_of(connection, target).await?,
        prepared: texts(connection, &format!("SELECT gid FROM pg_catalog.pg_prepared_xacts WHERE database = {name}"))
            .await?,
        slots: texts(
            connection,
            &format!("SELECT slot_name FROM pg_catalog.pg_replication_slots WHERE database = {name} AND NOT temporary"),
        )
        .await?,
        subscriptions: texts(
            connection,
            &format!("SELECT subname FROM pg_catalog.pg_subscription WHERE subdbid = {oid} AND subenabled"),
        )
        .await?,
        facts: None,
        empty: false,
    };
    if truth(row, 3) {
        // A database that cannot be entered can still be renamed.
        match inside(connect).await {
            Ok((facts, empty)) => {
                database.facts = Some(Box::new(facts));
                database.empty = empty;
            }
            Err(error) => tracing::debug!(%error, target, "target database cannot be entered"),
        }
    }
    Ok(Some(database))
}

/// Sessions of clients on a database, by user and application.
async fn sessions_of(connection: &mut Connection, database: &str) -> Result<Vec<SessionFact>, pgkeep_dump::Error> {
    let rows = connection
        .query(format!(
            "SELECT COALESCE(usename, ''), COALESCE(NULLIF(application_name, ''), backend_type, ''), pg_catalog.count(*), \
             COALESCE(pg_catalog.bool_and((SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) \
               OR (usesysid IS NOT NULL AND (pg_catalog.pg_has_role(usesysid, 'USAGE') \
                 OR pg_catalog.pg_has_role('pg_signal_backend', 'USAGE')) \
                 AND NOT (SELECT rolsuper FROM pg_catalog.pg_roles WHERE oid = usesysid))), false) \
             FROM pg_catalog.pg_stat_activity \
             WHERE datname = {} AND pid <> pg_catalog.pg_backend_pid() \
             AND backend_type NOT LIKE 'autovacuum%' AND backend_type <> 'parallel worker' \
             GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2",
            quote_literal(database)
        ))
        .await?;
    rows.iter()
        .map(|row| {
            Ok(SessionFact {
                user: row.text(0).unwrap_or_default(),
                application: row.text(1).unwrap_or_default(),
                count: row.get(2)?,
                can_be_ended: truth(row, 3),
            })
        })
        .collect()
}

async fn inside(connect: &ConnectSettings) -> Result<(ServerFacts, bool), pgkeep_dump::Error> {
    let mut connection = Connection::connect(connect, SessionSettings::Admin).await?;
    let facts = ServerFacts::read(&mut connection).await?;
    let rows = connection
        .query(
            "SELECT NOT EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             WHERE n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' \
             AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass \
               AND d.objid = c.oid AND d.deptype = 'e')) \
             AND NOT EXISTS (SELECT FROM pg_catalog.pg_largeobject_metadata)",
        )
        .await?;
    let empty = rows.first().is_some_and(|row| truth(row, 0));
    connection.close().await?;
    Ok((facts, empty))
}

async fn names(connection: &mut Connection, sql: &str) -> Result<BTreeSet<String>, pgkeep_dump::Error> {
    Ok(texts(connection, sql).await?.into_iter().collect())
}

/// The first column of every row.
pub(crate) async fn texts(connection: &mut Connection, sql: &str) -> Result<Vec<String>, pgkeep_dump::Error> {
    Ok(connection.query(sql).await?.iter().filter_map(|row| row.text(0)).collect())
}

/// A boolean column.
pub(crate) fn truth(row: &Row, column: usize) -> bool {
    row.bytes(column).is_some_and(|bytes| bytes.as_ref() == b"t")
}

/// Bytes free where the server keeps its data, if it keeps it on this host.
pub(crate) fn free_bytes(facts: &TargetFacts) -> Option<u64> {
    let folder = facts.data_folder.as_ref()?;
    let server = facts.connect.server();
    let local =
        server.starts_with('/') || ["localhost", "127.", "[::1]", "::1"].iter().any(|host| server.starts_with(host));
    // The same path on this host could be another server's, or none at all (a container's): then nothing is said.
    if !local || !std::path::Path::new(folder).join("postmaster.pid").exists() {
        return None;
    }
    let space = rustix::fs::statvfs(folder.as_str()).ok()?;
    Some(space.f_bavail * space.f_frsize)
}
