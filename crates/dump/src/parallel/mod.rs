//! The parallel engine: several sessions on one snapshot write one archive.
//!
//! 1. The leader begins a transaction and exports its snapshot.
//! 2. A `pg_dump` on that snapshot writes header and table of contents, and then waits for us to read on.
//! 3. While it lives, and with it its locks, the leader takes the same locks; nothing can have changed in between.
//! 4. `pg_dump` is ended. Workers on the same snapshot copy the data: small tables several at a time, big ones in ranges of
//!    row positions, each task a stretch of the archive, begun in archive order.
//!
//! What it can't do safely, `pg_dump` does, and one line says why: that very child, whose tables are then known to be what
//! they were in the snapshot, or [`PgDumpEngine`] where there can be none beside the leader.

mod copying;
mod large_objects;
mod leader;
mod ranges;
mod schedule;
mod statements;
mod survey;
mod turns;
mod workers;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use pgkeep_archive::Toc;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::pg_dump::{Opening, Server};
use crate::{
    ChildFailure, ClientTools, ConnectSettings, Dump, DumpOptions, DumpOutcome, DumpStream, Error, Globals,
    GlobalsPasswords, LargeObjectReading, PgDumpEngine, Result, ServerFacts,
};
use leader::Leader;
use schedule::Schedule;
use survey::Survey;
use workers::Crew;

pub(crate) use workers::Dispatcher;

/// How often it is begun: the locks are tried for before `pg_dump` is left to do everything, and a snapshot that fits the tables
/// before there is no backup.
const TRIES: usize = 5;
/// The pause between two tries.
const PAUSE: Duration = Duration::from_millis(500);
/// Plain text of one range, about. Several blocks, and few enough for a session to hold all of them: whoever reads a range
/// must be able to end it although nobody takes its blocks, or the server's process waits with it, and with that a
/// standby's replay.
const RANGE_BYTES: usize = 8 << 20;

/// What is done when somebody waits for a lock until the backup has ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnBlockedDdl {
    /// It waits, and the log says who.
    #[default]
    Wait,
    /// The backup gives up.
    Abort,
}

/// The engine that copies with several sessions.
#[derive(Debug, Clone)]
pub struct ParallelEngine {
    inner: PgDumpEngine,
    jobs: usize,
    range_bytes: usize,
    on_blocked_ddl: OnBlockedDdl,
}

/// Why the data can't be copied by workers, now or at all.
#[derive(Debug)]
enum Setback {
    /// A table is not what it was in the snapshot; with a new one it can be right. If it never is, this is the error: `pg_dump`
    /// would find the table empty, and say nothing.
    Again(Error),
    /// Somebody waits to change a table. `pg_dump` has its lock, and can go on.
    Queued(String),
    /// It is nothing for this engine.
    Unsuited(String),
    /// There is no connection to be had beside the leader's.
    Crowded(String),
    /// It failed, and would fail by any engine.
    Failed(Error),
}

impl Setback {
    fn unsuited(reason: impl Into<String>) -> Self {
        Self::Unsuited(reason.into())
    }
}

impl From<Error> for Setback {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// Lines for the log.
#[derive(Debug, Clone)]
pub(crate) struct Notes(mpsc::UnboundedSender<String>);

impl Notes {
    pub(crate) fn channel() -> (Self, mpsc::UnboundedReceiver<String>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), receiver)
    }

    pub(crate) fn tell(&self, line: String) {
        tracing::info!("{line}");
        // Nobody may be listening.
        let _ = self.0.send(line);
    }
}

impl ParallelEngine {
    /// An engine for the database of `settings` with `jobs` sessions that copy, beside the one that holds the snapshot; of the
    /// `installed` tools it takes the smallest major that is not older than the server.
    pub fn new(settings: ConnectSettings, installed: Vec<ClientTools>, options: DumpOptions, jobs: usize) -> Self {
        let inner = PgDumpEngine::new(settings, installed, options);
        Self { inner, jobs, range_bytes: RANGE_BYTES, on_blocked_ddl: OnBlockedDdl::default() }
    }

    /// Whether role passwords go into the globals.
    pub fn with_globals_passwords(self, passwords: GlobalsPasswords) -> Self {
        Self { inner: self.inner.with_globals_passwords(passwords), ..self }
    }

    /// The folder for children's private files (mode 0700, removed with the child); else the system's temporary folder.
    pub fn with_work_folder(self, work: std::path::PathBuf) -> Self {
        Self { inner: self.inner.with_work_folder(work), ..self }
    }

    /// What is done when somebody waits for us.
    pub fn with_on_blocked_ddl(self, on_blocked_ddl: OnBlockedDdl) -> Self {
        Self { on_blocked_ddl, ..self }
    }

    /// Plain text of one range, in bytes, about: 8 MiB if nothing is said. Tables with less are not divided.
    pub fn with_range_bytes(self, range_bytes: usize) -> Self {
        Self { range_bytes: range_bytes.max(1), ..self }
    }

    /// The globals, with what is missing from them as a list.
    pub async fn globals_with_warnings(&self, cancel: CancellationToken) -> Result<Globals> {
        self.inner.globals_with_warnings(cancel).await
    }

    /// From the snapshot to workers that copy; if this is the last try, or nothing for workers, to a `pg_dump` that copies.
    async fn begin(&self, cancel: &CancellationToken, is_last: bool) -> Result<DumpStream, Setback> {
        let options = &self.inner.options;
        if let Some(option) = ["enable-row-security", "serializable-deferrable", "encoding"]
            .into_iter()
            .find(|option| options.selection.has(option))
        {
            return Err(Setback::unsuited(format!("--{option} is left to pg_dump")));
        }
        let mut leader = Leader::begin(&self.inner.settings).await?;
        let server = Server::of(&mut leader.connection).await?;
        let tools = ClientTools::choose(&self.inner.installed, server.major)?;
        let outcome =
            DumpOutcome { pg_dump_version: tools.version.clone(), snapshot_time: leader.clock, warnings: Vec::new() };
        let mut opening = match Opening::read(&self.inner, tools, &server, &leader.snapshot).await {
            Ok(opening) => opening,
            Err(Error::Child(error)) if error.is_for_want_of_connections() => {
                leader.connection.leave().await?;
                return Err(Setback::Crowded(format!(
                    "it can't connect beside the session that holds the snapshot ({})",
                    error.message.unwrap_or_default()
                )));
            }
            Err(Error::Child(error)) if error.failure == ChildFailure::Vanished => {
                return Err(Setback::Again(Error::Child(error)));
            }
            Err(error) => return Err(Setback::Failed(error)),
        };
        let toc = Arc::clone(opening.toc());
        follow_encoding(&mut leader, &toc).await?;

        let survey = match lock_all(&mut leader, &toc).await {
            Ok(survey) => survey,
            Err(Setback::Unsuited(why)) => return self.go_on(opening, leader, outcome, &why, cancel).await,
            // Whoever waits does so for that child.
            Err(Setback::Queued(why)) if is_last && self.on_blocked_ddl == OnBlockedDdl::Abort => {
                return Err(Setback::Failed(Error::WaitedFor { waits: why }));
            }
            Err(Setback::Queued(why)) if is_last => return self.go_on(opening, leader, outcome, &why, cancel).await,
            Err(setback) => return Err(setback),
        };
        if opening.has_ended()? {
            // All of it lay in the pipe; who wrote it may have ended, and its locks with it, before we had ours.
            return Ok(opening.go_on(options.block_bytes, outcome, self.inner.dumps.begin(), cancel.clone()).await?);
        }
        let warnings = opening.end().await?;

        let large_object_bytes = survey.large_object_bytes;
        let schedule = Schedule::new(Arc::clone(&toc), survey.into_sources(), large_object_bytes, self.range_bytes);
        let crew = Crew {
            settings: server.settings,
            encoding: toc.encoding(),
            jobs: self.jobs.max(1),
            block_bytes: options.block_bytes,
            on_blocked_ddl: self.on_blocked_ddl,
            under_way: self.inner.dumps.begin(),
        };
        Ok(crew.set_out(leader, toc, schedule, DumpOutcome { warnings, ..outcome }, cancel.clone()))
    }

    /// Lets the child do everything, if what it has locked is what the snapshot saw.
    async fn go_on(
        &self,
        opening: Opening,
        mut leader: Leader,
        outcome: DumpOutcome,
        reason: &str,
        cancel: &CancellationToken,
    ) -> Result<DumpStream, Setback> {
        if let Some(table) = survey::rewritten(&mut leader.connection, opening.toc()).await? {
            return Err(rewritten(table));
        }
        let (block_bytes, under_way) = (self.inner.options.block_bytes, self.inner.dumps.begin());
        let stream = opening.go_on(block_bytes, outcome, under_way, cancel.clone()).await?;
        Ok(with_reason(stream, reason))
    }

    async fn leave_to_pg_dump(&self, reason: &str, cancel: CancellationToken) -> Result<DumpStream> {
        Ok(with_reason(self.inner.start(cancel).await?, reason))
    }
}

/// A stream of `pg_dump`'s, and why.
fn with_reason(stream: DumpStream, reason: &str) -> DumpStream {
    let (notes, receiver) = Notes::channel();
    notes.tell(format!("pg_dump does all of the work: {reason}"));
    DumpStream { notes: receiver, ..stream }
}

/// Looks up and locks all tables of the archive, and finds them as they were in the snapshot.
async fn lock_all(leader: &mut Leader, toc: &Toc) -> Result<Survey, Setback> {
    let mut survey = Survey::read(&mut leader.connection, toc).await?;
    leader.lock(&survey.tables).await?;
    survey.weigh(&mut leader.connection).await?;
    Ok(survey)
}

fn rewritten(table: String) -> Setback {
    Setback::Again(Error::Rewritten { table, tries: TRIES })
}

/// Names in statements, and rows, are in the archive's encoding.
async fn follow_encoding(leader: &mut Leader, toc: &Toc) -> Result<()> {
    match toc.encoding() {
        Some(encoding) => leader.connection.set_client_encoding(&encoding).await,
        None => Ok(()),
    }
}

#[async_trait]
impl Dump for ParallelEngine {
    fn name(&self) -> &'static str {
        "parallel"
    }

    async fn facts(&self) -> Result<ServerFacts> {
        self.inner.facts_for(LargeObjectReading::ByPages).await
    }

    async fn start(&self, cancel: CancellationToken) -> Result<DumpStream> {
        let mut attempt = 1;
        loop {
            let begun = tokio::select! {
                () = cancel.cancelled() => return Err(Error::Interrupted),
                begun = self.begin(&cancel, attempt == TRIES) => begun,
            };
            let why = match begun {
                Ok(stream) => return Ok(stream),
                Err(Setback::Failed(error)) => return Err(error),
                Err(Setback::Unsuited(why) | Setback::Crowded(why)) => {
                    return self.leave_to_pg_dump(&why, cancel).await;
                }
                Err(Setback::Again(error)) if attempt == TRIES => return Err(error),
                Err(Setback::Again(error)) => error.to_string(),
                Err(Setback::Queued(why)) => why,
            };
            tracing::info!(attempt, why, "the dump begins again");
            attempt += 1;
            tokio::select! {
                () = cancel.cancelled() => return Err(Error::Interrupted),
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    }

    async fn globals(&self, cancel: CancellationToken) -> Result<Bytes> {
        self.inner.globals(cancel).await
    }
}
