//! The `pg_dump` engine: one child, its output cut into blocks.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use chrono::{DateTime, Utc};
use pgkeep_archive::{Block, BlockWriter, Decoder, Event, Toc};
use tokio::process::{ChildStdout, Command};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::child::Child;
use crate::engine::joined;
use crate::facts::{NOW, database_encoding, server_time};
use crate::globals::globals;
use crate::{
    ClientTools, ConnectSettings, Connection, Dump, DumpOptions, DumpOutcome, DumpStream, Error, Globals,
    GlobalsPasswords, PrivateFacts, PrivateFolder, Result, Selection, ServerFacts, SessionSettings, StreamSegment,
    Tool, preflight,
};

/// Blocks that wait for whoever takes them, beside the one in the making.
const BLOCKS_AHEAD: usize = 2;
/// Bytes read at once.
const READ_BYTES: usize = 1 << 20;
/// How long `pg_dump` may take to exit once its output has ended.
const EXIT_LIMIT: Duration = Duration::from_mins(1);
/// The wait for a lock of [`schema_toc`].
const SCHEMA_LOCK_WAIT: Duration = Duration::from_secs(30);

/// The engine that runs `pg_dump --format=custom --compress=0` and passes its archive on in blocks.
#[derive(Debug, Clone)]
pub struct PgDumpEngine {
    settings: ConnectSettings,
    installed: Vec<ClientTools>,
    options: DumpOptions,
    passwords: GlobalsPasswords,
    work: PathBuf,
}

impl PgDumpEngine {
    /// An engine for the database of `settings`; of the `installed` tools it takes the smallest major that is not older
    /// than the server.
    pub fn new(settings: ConnectSettings, installed: Vec<ClientTools>, options: DumpOptions) -> Self {
        Self { settings, installed, options, passwords: GlobalsPasswords::Never, work: std::env::temp_dir() }
    }

    /// Whether role passwords go into the globals.
    pub fn with_globals_passwords(self, passwords: GlobalsPasswords) -> Self {
        Self { passwords, ..self }
    }

    /// The folder for children's private files (mode 0700, removed with the child); else the system's temporary folder.
    pub fn with_work_folder(self, work: PathBuf) -> Self {
        Self { work, ..self }
    }

    /// The globals, with what is missing from them as a list.
    pub async fn globals_with_warnings(&self, cancel: CancellationToken) -> Result<Globals> {
        let mut connection = connect(&self.settings, &cancel).await?;
        let facts = PrivateFacts::read(&mut connection).await?;
        let tools = ClientTools::choose(&self.installed, major(&connection))?;
        let settings = connection.resolved().clone();
        connection.close().await?;
        globals(tools, &settings, &self.work, &facts, self.passwords, &cancel).await
    }
}

#[async_trait]
impl Dump for PgDumpEngine {
    fn name(&self) -> &'static str {
        "pg_dump"
    }

    async fn facts(&self) -> Result<ServerFacts> {
        let mut connection = connect(&self.settings, &CancellationToken::new()).await?;
        let mut facts = ServerFacts::read(&mut connection).await?;
        facts.warnings = preflight(&mut connection, &self.options.selection).await?.lines();
        connection.close().await?;
        Ok(facts)
    }

    async fn start(&self, cancel: CancellationToken) -> Result<DumpStream> {
        let server = Server::ask(&self.settings, &cancel).await?;
        let tools = ClientTools::choose(&self.installed, server.major)?;
        let (command, private) =
            dump_command(tools, &server, &self.options.selection, self.options.lock_wait, &self.work)?;
        let child = Child::spawn(command, Tool::PgDump, private)?;
        let outcome =
            DumpOutcome { pg_dump_version: tools.version.clone(), snapshot_time: server.clock, warnings: Vec::new() };
        stream(child, self.options.block_bytes, outcome, cancel).await
    }

    async fn globals(&self, cancel: CancellationToken) -> Result<Bytes> {
        Ok(self.globals_with_warnings(cancel).await?.sql)
    }
}

/// The header and table of contents that pg_dump writes for a database now: what the proof of a schema compares.
///
/// The child is ended once they are there, so nothing is said about its rows.
pub async fn schema_toc(
    settings: &ConnectSettings,
    tools: &ClientTools,
    selection: &Selection,
    cancel: CancellationToken,
) -> Result<Arc<Toc>> {
    let server = Server::ask(settings, &cancel).await?;
    let (command, private) = dump_command(tools, &server, selection, SCHEMA_LOCK_WAIT, &std::env::temp_dir())?;
    let child = Child::spawn(command, Tool::PgDump, private)?;
    first_toc(child, cancel).await
}

async fn first_toc(mut child: Child, cancel: CancellationToken) -> Result<Arc<Toc>> {
    let stdout = child.stdout()?;
    let reading = tokio::task::spawn_blocking(move || read_toc(blocking(stdout)?));
    let toc = tokio::select! {
        () = cancel.cancelled() => None,
        read = reading => Some(joined(read)),
    };
    match toc {
        None => {
            child.end().await?;
            Err(Error::Interrupted)
        }
        Some(Ok(toc)) => {
            child.end().await?;
            Ok(toc)
        }
        // Its own words say more than "the archive ends here".
        Some(Err(error)) => match tokio::time::timeout(EXIT_LIMIT, child.wait()).await {
            Ok(ended) => Err(ended?.success().err().unwrap_or(error)),
            Err(_) => Err(error),
        },
    }
}

fn read_toc(mut stdout: File) -> Result<Arc<Toc>> {
    let mut decoder = Decoder::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let length = stdout.read(&mut buffer).map_err(|source| Error::io("read from pg_dump", source))?;
        if length == 0 {
            decoder.finish()?;
            return Err(Error::io("read from pg_dump", std::io::ErrorKind::UnexpectedEof.into()));
        }
        decoder.push(&buffer[..length]);
        if let Some(Event::Toc(toc)) = decoder.next_event()? {
            return Ok(toc);
        }
    }
}

/// What has to be known of a server before pg_dump is run on it.
#[derive(Debug)]
struct Server {
    /// Pinned to the host that answered.
    settings: ConnectSettings,
    major: u32,
    encoding: String,
    clock: DateTime<Utc>,
}

impl Server {
    async fn ask(settings: &ConnectSettings, cancel: &CancellationToken) -> Result<Self> {
        let mut connection = connect(settings, cancel).await?;
        let encoding = database_encoding(&mut connection).await?;
        let rows = connection.query(format!("SELECT {NOW}")).await?;
        let row = rows.first().ok_or(Error::Statement { problem: "the server does not tell the time" })?;
        let clock = server_time(row, 0)?;
        let server = Self { settings: connection.resolved().clone(), major: major(&connection), encoding, clock };
        connection.close().await?;
        Ok(server)
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
    cancel: CancellationToken,
) -> Result<DumpStream> {
    let stdout = child.stdout()?;
    let (toc_sender, toc) = oneshot::channel();
    let (blocks_sender, blocks) = mpsc::channel(BLOCKS_AHEAD);
    let pump = Pump {
        toc: Some(toc_sender),
        blocks: blocks_sender.clone(),
        stop: CancellationToken::new(),
        runtime: tokio::runtime::Handle::current(),
        block_bytes,
    };
    let outcome = tokio::spawn(supervise(child, stdout, pump, blocks_sender, outcome, cancel));
    if let Ok(toc) = toc.await {
        let (segment, segments) = mpsc::channel(1);
        // There is room for one, and the receiver is at hand.
        let _ = segment.try_send(StreamSegment { blocks });
        return Ok(DumpStream { toc, segments, outcome });
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
    stdout: ChildStdout,
    pump: Pump,
    blocks: mpsc::Sender<Result<Block>>,
    mut outcome: DumpOutcome,
    cancel: CancellationToken,
) -> Result<DumpOutcome> {
    let stop = pump.stop.clone();
    let mut pumping = tokio::task::spawn_blocking(move || pump.run(blocking(stdout)?));
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

/// Reads a pipe in a thread of its own: what passes here is the whole database.
struct Pump {
    toc: Option<oneshot::Sender<Arc<Toc>>>,
    blocks: mpsc::Sender<Result<Block>>,
    stop: CancellationToken,
    runtime: tokio::runtime::Handle,
    block_bytes: usize,
}

enum PumpError {
    /// The archive ends too early.
    Ended(pgkeep_archive::Error),
    /// The archive is none.
    Damaged(pgkeep_archive::Error),
    /// The pipe cannot be read.
    Read(Error),
    /// Nobody wants it any more.
    Stopped,
}

impl From<Error> for PumpError {
    fn from(error: Error) -> Self {
        Self::Read(error)
    }
}

impl From<pgkeep_archive::Error> for PumpError {
    fn from(error: pgkeep_archive::Error) -> Self {
        Self::Damaged(error)
    }
}

impl Pump {
    fn run(mut self, mut stdout: File) -> Result<(), PumpError> {
        let mut decoder = Decoder::new();
        let mut writer = BlockWriter::new(self.block_bytes);
        let mut buffer = BytesMut::zeroed(READ_BYTES);
        loop {
            let length = stdout.read(&mut buffer).map_err(|source| Error::io("read from pg_dump", source))?;
            if length == 0 {
                decoder.finish().map_err(PumpError::Ended)?;
                writer.finish()?;
                return self.pass_on(&mut writer);
            }
            let whole = buffer.freeze();
            decoder.push_bytes(whole.slice(..length));
            while let Some(event) = decoder.next_event()? {
                writer.event(&event)?;
                if let Event::Toc(toc) = event
                    && let Some(sender) = self.toc.take()
                {
                    // Whoever waited for it may be gone; the blocks will tell.
                    let _ = sender.send(toc);
                }
                self.pass_on(&mut writer)?;
            }
            // As a rule nobody holds a piece of it any more.
            buffer = whole.try_into_mut().unwrap_or_else(|_| BytesMut::zeroed(READ_BYTES));
        }
    }

    /// Hands full blocks over; waits while the reader is slower.
    fn pass_on(&self, writer: &mut BlockWriter) -> Result<(), PumpError> {
        while let Some(block) = writer.take() {
            match self.blocks.try_send(Ok(block)) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Closed(_)) => return Err(PumpError::Stopped),
                Err(mpsc::error::TrySendError::Full(block)) => self.runtime.block_on(async {
                    tokio::select! {
                        () = self.stop.cancelled() => Err(PumpError::Stopped),
                        sent = self.blocks.send(block) => sent.map_err(|_| PumpError::Stopped),
                    }
                })?,
            }
        }
        Ok(())
    }
}

/// A pipe for a thread that may block on it.
fn blocking(stdout: ChildStdout) -> Result<File> {
    stdout.into_owned_fd().map(File::from).map_err(|source| Error::io("read from pg_dump", source))
}

#[cfg(test)]
mod tests;
