//! The leader: the session that holds the snapshot and every lock, from before the first row to after the last.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::mpsc;

use super::copying::{Ran, Work, copy};
use super::statements::{COPYING, Locking, lock};
use super::survey::Table;
use super::{Dispatcher, Notes, OnBlockedDdl, Setback};
use crate::facts::{NOW, server_time};
use crate::{ConnectSettings, Connection, Error, Result, SessionSettings, TransactionStatus};

/// Tables that are locked by one statement.
const LOCKED_AT_ONCE: usize = 1000;
/// How often the leader shows that it lives, and looks who waits for it.
const WATCH_EVERY: Duration = Duration::from_secs(5);

/// The session that the backup stands on.
#[derive(Debug)]
pub(super) struct Leader {
    pub(super) connection: Connection,
    /// The name under which others take the same snapshot.
    pub(super) snapshot: String,
    /// The server's clock when it was taken.
    pub(super) clock: DateTime<Utc>,
}

impl Leader {
    /// Connects, begins the transaction, exports its snapshot.
    pub(super) async fn begin(settings: &ConnectSettings) -> Result<Self> {
        let mut connection = Connection::connect(settings, SessionSettings::Dump).await?;
        connection.refuse_pooler().await?;
        connection.execute(COPYING).await?;
        let row = connection.query_one(format!("SELECT {NOW}")).await?;
        let clock = server_time(&row, 0)?;
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        let row = connection.query_one("SELECT pg_catalog.pg_export_snapshot()").await?;
        let snapshot = row.text(0).unwrap_or_default();
        Ok(Self { connection, snapshot, clock })
    }

    /// Takes ACCESS SHARE on every table, without waiting.
    pub(super) async fn lock(&mut self, tables: &[Table]) -> Result<(), Setback> {
        let tables: Vec<&Table> = tables.iter().collect();
        self.connection.execute("SAVEPOINT locks").await?;
        for tables in tables.chunks(LOCKED_AT_ONCE) {
            if let Err(error) = self.connection.execute(lock(tables)).await {
                let setback = match error.sqlstate() {
                    Some("55P03") => Setback::Queued(format!("somebody waits to change a table ({error})")),
                    Some("42P01" | "42809" | "3F000") => Setback::Again(error),
                    Some("53200") => Setback::unsuited("the server has no room for the locks of a second session"),
                    _ => return Err(Setback::Failed(error)),
                };
                // The session may be asked on, and must not be in the way of whoever waits.
                self.connection.execute("ROLLBACK TO SAVEPOINT locks").await?;
                return Err(setback);
            }
        }
        self.connection.execute("RELEASE SAVEPOINT locks").await?;
        Ok(())
    }

    /// Stays in its transaction until the workers have ended, does for them what a lock keeps them from, and watches over
    /// those whom the backup makes wait. With no worker at all, it does everything.
    pub(super) async fn hold(mut self, mut duty: Duty) -> Result<()> {
        let mut waiting = HashSet::new();
        let mut watch = tokio::time::interval(WATCH_EVERY);
        watch.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        watch.tick().await;
        let mut pending = BTreeMap::new();
        let mut working = true;
        while working || !pending.is_empty() {
            // What was handed over first need not come first in the archive, and whatever is begun must be taken to its end.
            let turn = pending.first_key_value().map(|(_, work): (&u64, &Work)| work.turn.comes());
            tokio::select! {
                work = duty.handed.recv(), if working => match work {
                    Some(work) => drop(pending.insert(work.turn.number(), work)),
                    None => working = false,
                },
                () = async { if let Some(turn) = turn { turn.await } }, if !pending.is_empty() => {
                    if let Some((_, work)) = pending.pop_first() {
                        self.look_who_waits(&duty, &mut waiting).await?;
                        self.copy(&work, duty.block_bytes).await?;
                    }
                }
                _ = watch.tick() => self.look_who_waits(&duty, &mut waiting).await?,
            }
        }
        if let Some(dispatcher) = &duty.alone {
            while let Some(work) = dispatcher.next().await? {
                self.look_who_waits(&duty, &mut waiting).await?;
                self.copy(&work, duty.block_bytes).await?;
            }
        }
        // Law 2: the snapshot and the locks were there all the time.
        self.connection.execute("SELECT 1").await?;
        if self.connection.transaction() != TransactionStatus::Active {
            return Err(Error::Changed { what: "the transaction that holds the snapshot has ended".to_owned() });
        }
        self.connection.execute("COMMIT").await?;
        self.connection.close().await
    }

    async fn copy(&mut self, work: &Work, block_bytes: usize) -> Result<()> {
        match copy(&mut self.connection, work, Locking::Held, block_bytes).await? {
            Ran::Done => Ok(()),
            Ran::Locked(error) => Err(error),
        }
    }

    async fn look_who_waits(&mut self, duty: &Duty, known: &mut HashSet<(i32, String)>) -> Result<()> {
        let ours: Vec<String> =
            duty.workers.iter().chain([&self.connection.backend_pid()]).map(i32::to_string).collect();
        let sql = format!(
            "SELECT pg_catalog.pg_stat_clear_snapshot(); SELECT l.pid, l.mode, CASE WHEN l.locktype = 'relation' THEN l.relation::pg_catalog.regclass END, \
             a.usename, a.application_name FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid \
             WHERE NOT l.granted AND pg_catalog.pg_blocking_pids(l.pid) && '{{{}}}'::pg_catalog.int4[]",
            ours.join(",")
        );
        for row in self.connection.query(sql).await? {
            let pid: i32 = row.get(0)?;
            let relation = row.text(2);
            if !known.insert((pid, relation.clone().unwrap_or_default())) {
                continue;
            }
            let text = |column: usize| row.text(column).unwrap_or_default();
            let (what, others) = match &relation {
                Some(relation) => {
                    (format!("{} on {relation}", text(1)), ", and whoever comes to the table after it waits as well")
                }
                // CREATE INDEX CONCURRENTLY and the like wait for every snapshot older than theirs.
                None => ("the end of a transaction of this backup".to_owned(), ""),
            };
            let waits = format!("session {pid} (user {}, {}) waits for {what}", text(3), text(4));
            if duty.on_blocked_ddl == OnBlockedDdl::Abort {
                return Err(Error::WaitedFor { waits });
            }
            duty.notes.tell(format!("{waits} until this backup is made{others}"));
        }
        Ok(())
    }
}

/// What the leader does while it holds.
#[derive(Debug)]
pub(super) struct Duty {
    /// What workers could not do; its end is the end of the workers.
    pub(super) handed: mpsc::UnboundedReceiver<Work>,
    /// The tasks, where there are no workers.
    pub(super) alone: Option<std::sync::Arc<Dispatcher>>,
    /// The workers' server processes.
    pub(super) workers: Vec<i32>,
    pub(super) block_bytes: usize,
    pub(super) on_blocked_ddl: OnBlockedDdl,
    pub(super) notes: Notes,
}
