//! Nobody writes between the pre-restore snapshot and the emptying of a database: what they wrote would be in neither.
//!
//! Locks say so, not settings, for nothing of a lock survives a crash: one transaction takes a lock on every table that
//! lets readers (and so the snapshot) in and no writers, and it is the same one that drops the tables in the end.

use std::time::Duration;

use pgkeep_dump::{ConnectSettings, Connection, SessionSettings};

use crate::error::Doing;
use crate::survey::texts;
use crate::{Error, Result};

/// Between two rounds of ending sessions.
const ROUND: Duration = Duration::from_millis(50);
/// Longest wait for a lock, while the sessions that hold it are ended.
const LOCK_TIMEOUT: &str = "60s";
/// Tables locked by one statement.
const TABLES: usize = 100;

/// A transaction that keeps writers out.
#[derive(Debug)]
pub(crate) struct Standstill {
    /// In the transaction.
    pub(crate) connection: Connection,
}

impl Standstill {
    /// Ends the sessions that write, and lets nobody begin to.
    pub(crate) async fn begin(settings: &ConnectSettings) -> Result<Self> {
        let doing = || format!("locking the tables of database {}", settings.database());
        let mut connection = Connection::connect(settings, SessionSettings::Admin).await.doing(doing())?;
        let session = connection.backend_pid();
        let locked = async {
            let tables = texts(&mut connection, &listed("true")).await?;
            connection.execute(format!("BEGIN; SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")).await?;
            for some in tables.chunks(TABLES) {
                let names: Vec<String> = some.iter().map(|name| format!("ONLY {name}")).collect();
                connection.execute(format!("LOCK TABLE {} IN SHARE MODE", names.join(", "))).await?;
            }
            Ok::<_, pgkeep_dump::Error>(())
        };
        ending_others(settings, session, locked).await?.doing(doing())?;
        Ok(Self { connection })
    }

    /// An error if there are tables now that were not locked: what is in them may not be in the snapshot.
    pub(crate) async fn check(&mut self, database: &str) -> Result<()> {
        let unlocked = "NOT EXISTS (SELECT FROM pg_catalog.pg_locks l WHERE l.pid = pg_catalog.pg_backend_pid() \
             AND l.locktype = 'relation' AND l.relation = c.oid AND l.mode = 'ShareLock')";
        let newer = texts(&mut self.connection, &listed(unlocked)).await.doing("looking for new tables")?;
        if newer.is_empty() {
            return Ok(());
        }
        Err(Error::Changed(format!(
            "since the pre-restore snapshot was begun, there is something new in database {database}: {}",
            newer.join(", ")
        )))
    }
}

/// Tables that this role may lock.
fn listed(which: &str) -> String {
    format!(
        "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) FROM pg_catalog.pg_class c \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' \
         AND pg_catalog.has_table_privilege(c.oid, 'UPDATE, DELETE, TRUNCATE') AND {which} ORDER BY c.oid"
    )
}

/// Does `work` in a session of the database while all others there are ended, as far as this role may.
pub(crate) async fn ending_others<T>(
    settings: &ConnectSettings,
    session: i32,
    work: impl Future<Output = T>,
) -> Result<T> {
    let mut ending = Connection::connect(settings, SessionSettings::Admin)
        .await
        .doing(format!("ending the sessions of database {}", settings.database()))?;
    let sql = format!(
        "SELECT pg_catalog.count(pg_catalog.pg_terminate_backend(pid)) FROM pg_catalog.pg_stat_activity \
         WHERE datname = pg_catalog.current_database() AND pid NOT IN (pg_catalog.pg_backend_pid(), {session}) \
         AND ((SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) \
           OR (usesysid IS NOT NULL AND pg_catalog.pg_has_role(usesysid, 'USAGE') \
             AND NOT COALESCE((SELECT rolsuper FROM pg_catalog.pg_roles WHERE oid = usesysid), true)))"
    );
    let ended = async {
        loop {
            if ending.query(&sql).await.is_err_and(|error| error.server_error().is_none()) {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(ROUND).await;
        }
    };
    let done = tokio::select! {
        biased;
        done = work => done,
        () = ended => unreachable!("sessions are ended until the work is done"),
    };
    Ok(done)
}
