//! A child of which header and table of contents were read, and nothing else yet.

use std::fs::File;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use pgkeep_archive::{Decoder, Event, Toc};
use tokio_util::sync::CancellationToken;

use super::pump::Archive;
use super::{EXIT_LIMIT, PgDumpEngine, READING, Server, dump_command, stream_on};
use crate::child::Child;
use crate::dumps::UnderWay;
use crate::engine::joined;
use crate::{ClientTools, ConnectSettings, DumpOutcome, DumpStream, Error, Result, Selection, Tool};

/// The wait for a lock of [`schema_toc`].
const SCHEMA_LOCK_WAIT: Duration = Duration::from_secs(30);
/// What a child's pipe holds, in bytes: as little as can be, so that a child with rows to write is still there when its
/// table of contents has been read.
const PIPE_BYTES: usize = 4 << 10;

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
    first_toc(Child::spawn(command, Tool::PgDump, private)?, cancel).await
}

pub(super) async fn first_toc(child: Child, cancel: CancellationToken) -> Result<Arc<Toc>> {
    let opening = tokio::select! {
        // Dropped, the child is killed.
        () = cancel.cancelled() => return Err(Error::Interrupted),
        opening = Opening::of(child) => opening?,
    };
    let toc = Arc::clone(opening.toc());
    opening.end().await?;
    Ok(toc)
}

/// A `pg_dump` that waits, with its locks and its snapshot, until somebody reads on.
#[derive(Debug)]
pub(crate) struct Opening {
    child: Child,
    stdout: File,
    decoder: Decoder,
    toc: Arc<Toc>,
}

impl Opening {
    /// Starts a child of `engine` on an exported snapshot, and reads as far as its table of contents.
    pub(crate) async fn read(
        engine: &PgDumpEngine,
        tools: &ClientTools,
        server: &Server,
        snapshot: &str,
    ) -> Result<Self> {
        let (mut command, private) = engine.command(tools, server)?;
        command.arg(format!("--snapshot={snapshot}"));
        Self::of(Child::spawn(command, Tool::PgDump, private)?).await
    }

    async fn of(mut child: Child) -> Result<Self> {
        let stdout = child.stdout_of(PIPE_BYTES)?.into_owned_fd().map_err(|source| Error::io(READING, source))?;
        match joined(tokio::task::spawn_blocking(move || read_toc(File::from(stdout))).await) {
            Ok((stdout, decoder, toc)) => Ok(Self { child, stdout, decoder, toc }),
            // Its own words say more than "the archive ends here".
            Err(error) => match tokio::time::timeout(EXIT_LIMIT, child.wait()).await {
                Ok(ended) => Err(ended?.success().err().unwrap_or(error)),
                Err(_) => Err(error),
            },
        }
    }

    pub(crate) fn toc(&self) -> &Arc<Toc> {
        &self.toc
    }

    /// Whether the child has exited, and with it its locks are gone.
    pub(crate) fn has_ended(&mut self) -> Result<bool> {
        self.child.has_ended()
    }

    /// Ends the child; its warnings so far.
    pub(crate) async fn end(self) -> Result<Vec<String>> {
        let warnings = self.child.warnings();
        drop(self.stdout);
        self.child.end().await?;
        Ok(warnings)
    }

    /// Lets the child do everything.
    pub(crate) async fn go_on(
        self,
        block_bytes: usize,
        outcome: DumpOutcome,
        under_way: UnderWay,
        cancel: CancellationToken,
    ) -> Result<DumpStream> {
        let Self { child, stdout, decoder, toc } = self;
        // From now on as much as can be; see `Child::stdout`.
        let _ = rustix::pipe::fcntl_setpipe_size(&stdout, crate::child::PIPE_BYTES);
        let archive = Archive { stdout, decoder, toc: Some(toc) };
        stream_on(child, archive, block_bytes, outcome, under_way, cancel).await
    }
}

fn read_toc(mut stdout: File) -> Result<(File, Decoder, Arc<Toc>)> {
    let mut decoder = Decoder::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let length = stdout.read(&mut buffer).map_err(|source| Error::io(READING, source))?;
        if length == 0 {
            decoder.finish()?;
            return Err(Error::io(READING, std::io::ErrorKind::UnexpectedEof.into()));
        }
        decoder.push(&buffer[..length]);
        if let Some(Event::Toc(toc)) = decoder.next_event()? {
            return Ok((stdout, decoder, toc));
        }
    }
}
