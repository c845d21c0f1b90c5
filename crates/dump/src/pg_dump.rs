//! The `pg_dump` engine: one child, its output cut into blocks.

mod opening;
mod pump;

use std::fs::File;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use pgkeep_archive::{Block, Decoder};
use tokio::process::Command;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::child::Child;
use crate::dumps::{Dumps, UnderWay};
use crate::engine::joined;
use crate::facts::{NOW, database_encoding, server_time};
use crate::globals::PgDumpall;
use crate::{
    ClientTools, ConnectSettings, Connection, Dump, DumpOptions, DumpOutcome, DumpStream, Error, Globals,
    GlobalsPasswords, LargeObjectReading, PrivateFacts, PrivateFolder, Result, Selection, ServerFacts, SessionSettings,
    StreamSegment, Tool, preflight,
};
use pump::{Archive, Pump, PumpError};

pub(crate) use opening::Opening;
pub use opening::schema_toc;

/// Blocks that wait for whoever takes them, beside the one in the making.
const BLOCKS_AHEAD: usize = 2;
/// What fails when a child's output can't be read.
const READING: &str = "read from pg_dump";
/// How long `pg_dump` may take to exit once its output has ended.
const EXIT_LIMIT: Duration = Duration::from_mins(1);

/// The engine that runs `pg_dump --format=custom --compress=0` and passes its archive on in blocks.
#[derive(Debug, Clone)]
pub struct PgDumpEngine {
    pub(crate) settings: ConnectSettings,
    pub(crate) installed: Vec<ClientTools>,
    pub(crate) options: DumpOptions,
    passwords: GlobalsPasswords,
    work: PathBuf,
    pub(crate) dumps: Dumps,
}

impl PgDumpEngine {
    /// An engine for the database of `settings`; of the `installed` tools it takes the smallest major that is not older
    /// than the server.
    pub fn new(settings: ConnectSettings, installed: Vec<ClientTools>, options: DumpOptions) -> Self {
        let (passwords, work) = (GlobalsPasswords::Never, std::env::temp_dir());
        Self { settings, installed, options, passwords, work, dumps: Dumps::default() }
    }

    /// Whether role passwords go into the globals.
    pub fn with_globals_passwords(self, passwords: GlobalsPasswords) -> Self {
        Self { passwords, ..self }
    }

    /// The folder for children's private files (mode 0700, removed with the child); else the system's temporary folder.
    pub fn with_work_folder(self, work: PathBuf) -> Self {
        Self { work, ..self }
    }

    fn command(&self, tools: &ClientTools, server: &Server) -> Result<(Command, PrivateFolder)> {
        dump_command(tools, server, &self.options.selection, self.options.lock_wait, &self.work)
    }

    /// The server's facts, and what a dump that reads large objects so will not get.
    pub(crate) async fn facts_for(&self, reading: LargeObjectReading) -> Result<ServerFacts> {
        let mut connection = connect(&self.settings, &CancellationToken::new()).await?;
        let mut facts = ServerFacts::read(&mut connection).await?;
        facts.warnings = preflight(&mut connection, &self.options.selection, reading).await?.lines();
        // It may be the only one that this role may have.
        connection.leave().await?;
        Ok(facts)
    }

    /// The globals, with what is missing from them as a list. If a dump of this engine takes every connection there is, it
    /// waits for one.
    pub async fn globals_with_warnings(&self, cancel: CancellationToken) -> Result<Globals> {
        let mut tries = 0;
        let mut connection = loop {
            match connect(&self.settings, &cancel).await {
                Ok(connection) => break connection,
                Err(error) if self.dumps.wait_for_a_place(&error, &mut tries, &cancel).await? => {}
                Err(error) => return Err(error),
            }
        };
        let facts = PrivateFacts::read(&mut connection).await?;
        let tools = ClientTools::choose(&self.installed, major(&connection))?;
        let settings = connection.resolved().clone();
        connection.leave().await?;
        let all = PgDumpall { tools, settings: &settings, work: &self.work, dumps: &self.dumps, cancel: &cancel };
        all.globals(&facts, self.passwords).await
    }
}

#[async_trait]
impl Dump for PgDumpEngine {
    fn name(&self) -> &'static str {
        "pg_dump"
    }

    async fn facts(&self) -> Result<ServerFacts> {
        self.facts_for(LargeObjectReading::OneByOne).await
    }

    async fn start(&self, cancel: CancellationToken) -> Result<DumpStream> {
        let server = Server::ask(&self.settings, &cancel).await?;
        let tools = ClientTools::choose(&self.installed, server.major)?;
        let (command, private) = self.command(tools, &server)?;
        let child = Child::spawn(command, Tool::PgDump, private)?;
        let outcome =
            DumpOutcome { pg_dump_version: tools.version.clone(), snapshot_time: server.clock, warnings: Vec::new() };
        stream(child, self.options.block_bytes, outcome, self.dumps.begin(), cancel).await
    }

    async fn globals(&self, cancel: CancellationToken) -> Result<Bytes> {
        Ok(self.globals_with_warnings(cancel).await?.sql)
    }
}

/// What has to be known of a server before pg_dump is run on it.
#[derive(Debug)]
pub(crate) struct Server {
    /// Pinned to the host that answered.
    pub(crate) settings: ConnectSettings,
    pub(crate) major: u32,
    encoding: String,
    clock: DateTime<Utc>,
}

impl Server {
    async fn ask(settings: &ConnectSettings, cancel: &CancellationToken) -> Result<Self> {
        let mut connection = connect(settings, cancel).await?;
        let server = Self::of(&mut connection).await?;
        // Where a role may have one connection only, the child takes its place.
        connection.leave().await?;
        Ok(server)
    }

    /// The server of a session.
    pub(crate) async fn of(connection: &mut Connection) -> Result<Self> {
        let encoding = database_encoding(connection).await?;
        let row = connection.query_one(format!("SELECT {NOW}")).await?;
        let clock = server_time(&row, 0)?;
        Ok(Self { settings: connection.resolved().clone(), major: major(connection), encoding, clock })
    }
}

async fn connect(settings: &ConnectSettings, cancel: &CancellationToken) -> Result<Connection> {
    let connecting = async {
        let mut connection = Connection::connect(settings, SessionSettings::Dump).await?;
        connection.refuse_pooler().await?;
        Ok(connection)
    };
    tokio::select! {
        () = cancel.cancelled() => Err(Error::Interrupted),
        connection = connecting => connection,
    }
}

fn major(connection: &Connection) -> u32 {
    connection.server_version() / 10_000
}

fn dump_command(
    tools: &ClientTools,
    server: &Server,
    selection: &Selection,
    lock_wait: Duration,
    work: &std::path::Path,
) -> Result<(Command, PrivateFolder)> {
    selection.check(tools.major)?;
    let (mut command, private) = tools.command(Tool::PgDump, Some(&server.settings), work)?;
    command
        .args(["--format=custom", "--compress=0", "--no-password"])
        // 0 would be "for ever".
        .arg(format!("--lock-wait-timeout={}", lock_wait.as_millis().max(1)));
    if !selection.has("encoding") {
        // Nobody's ALTER ROLE … SET client_encoding decides what an archive is written in.
        command.arg(format!("--encoding={}", server.encoding));
    }
    command.args(&selection.arguments).stdout(Stdio::piped());
    Ok((command, private))
}

/// Passes a child's archive on; returns when its table of contents is there.
async fn stream(
    mut child: Child,
    block_bytes: usize,
    outcome: DumpOutcome,
    under_way: UnderWay,
    cancel: CancellationToken,
) -> Result<DumpStream> {
    let stdout = child.stdout()?.into_owned_fd().map(File::from).map_err(|source| Error::io(READING, source))?;
    let archive = Archive { stdout, decoder: Decoder::new(), toc: None };
    stream_on(child, archive, block_bytes, outcome, under_way, cancel).await
}

/// Passes on an archive of which some may have been read already.
async fn stream_on(
    child: Child,
    archive: Archive,
    block_bytes: usize,
    outcome: DumpOutcome,
    under_way: UnderWay,
    cancel: CancellationToken,
) -> Result<DumpStream> {
    let (toc_sender, toc) = oneshot::channel();
    let (blocks_sender, blocks) = mpsc::channel(BLOCKS_AHEAD);
    let pump = Pump {
        toc: Some(toc_sender),
        blocks: blocks_sender.clone(),
        stop: CancellationToken::new(),
        runtime: tokio::runtime::Handle::current(),
        block_bytes,
    };
    let outcome = tokio::spawn(async move {
        let _until_it_ends = under_way;
        supervise(child, archive, pump, blocks_sender, outcome, cancel).await
    });
    if let Ok(toc) = toc.await {
        let (segment, segments) = mpsc::channel(1);
        // There is room for one, and the receiver is at hand.
        let _ = segment.try_send(StreamSegment { blocks });
        let (_, notes) = mpsc::unbounded_channel();
        return Ok(DumpStream { toc, engine: "pg_dump", segments, notes, outcome });
    }
    // It ended before its table of contents; `blocks` lives until the reason is known.
    let reason = joined(outcome.await);
    drop(blocks);
    Err(reason.err().unwrap_or(Error::Interrupted))
}

/// The whole life of the child: what it writes is passed on, how it ends is weighed. Success takes both: an archive that
/// is whole, and an exit status of 0.
async fn supervise(
    mut child: Child,
    archive: Archive,
    pump: Pump,
    blocks: mpsc::Sender<Result<Block>>,
    mut outcome: DumpOutcome,
    cancel: CancellationToken,
) -> Result<DumpOutcome> {
    let stop = pump.stop.clone();
    let mut pumping = tokio::task::spawn_blocking(move || pump.run(archive));
    let pumped = tokio::select! {
        biased;
        () = cancel.cancelled() => None,
        pumped = &mut pumping => Some(joined(pumped)),
        () = blocks.closed() => None,
    };
    // From here on nothing more comes; the reader may see the end of the blocks.
    drop(blocks);
    match pumped {
        None => {
            stop.cancel();
            child.end().await?;
            // It sees the end of the pipe, or the stop.
            let _ = tokio::time::timeout(EXIT_LIMIT, pumping).await;
            Err(Error::Interrupted)
        }
        Some(Ok(())) => {
            let ended = tokio::select! {
                () = cancel.cancelled() => Err(Error::Interrupted),
                ended = tokio::time::timeout(EXIT_LIMIT, child.wait()) => {
                    ended.unwrap_or_else(|_| Err(Error::Timeout { what: "pg_dump's exit".to_owned(), after: EXIT_LIMIT }))
                }
            };
            match ended {
                Ok(ended) => {
                    outcome.warnings = ended.success()?;
                    Ok(outcome)
                }
                Err(error) => {
                    child.end().await?;
                    Err(error)
                }
            }
        }
        // A child that failed cuts its archive short: its own words are the reason.
        Some(Err(PumpError::Ended(error))) => {
            if let Ok(ended) = tokio::time::timeout(EXIT_LIMIT, child.wait()).await {
                return Err(ended?.success().err().unwrap_or(Error::Archive(error)));
            }
            child.end().await?;
            Err(Error::Archive(error))
        }
        Some(Err(error)) => {
            child.end().await?;
            Err(match error {
                PumpError::Ended(error) | PumpError::Damaged(error) => Error::Archive(error),
                PumpError::Read(error) => error,
                PumpError::Stopped => Error::Interrupted,
            })
        }
    }
}

#[cfg(test)]
mod tests;
