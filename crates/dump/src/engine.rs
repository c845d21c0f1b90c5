//! Engines: `trait Dump` and what it yields.

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use pgkeep_archive::Block;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{Error, Result, Selection, ServerFacts};

/// Options of a dump.
#[derive(Debug, Clone)]
pub struct DumpOptions {
    /// What is dumped.
    pub selection: Selection,
    /// Longest wait for one lock.
    pub lock_wait: Duration,
    /// Plain bytes of a block, about.
    pub block_bytes: usize,
}

/// The whole database, half a minute's wait for a lock, blocks of 4 MiB.
impl Default for DumpOptions {
    fn default() -> Self {
        Self { selection: Selection::default(), lock_wait: Duration::from_secs(30), block_bytes: 4 << 20 }
    }
}

/// A way to get an archive out of a server. The end of the blocks is not success; [`DumpStream::finish`] is.
///
/// Every future may be dropped at any time, and so may a [`DumpStream`]: children and sessions end, politely where time
/// allows, and nothing stays behind.
#[async_trait]
pub trait Dump: Debug + Send + Sync {
    /// The engine's name in metas and logs: `pg_dump`, `parallel`.
    fn name(&self) -> &'static str;
    /// Connects and reads the facts, preflight warnings included.
    async fn facts(&self) -> Result<ServerFacts>;
    /// Starts the dump; returns when the table of contents is there. Cancelling ends every child and session.
    async fn start(&self, cancel: CancellationToken) -> Result<DumpStream>;
    /// Roles, memberships and tablespaces as SQL, after [`crate::PrivateFacts`] as a structured comment line. What
    /// could not be had is a comment line too: [`crate::globals_warnings`].
    async fn globals(&self, cancel: CancellationToken) -> Result<Bytes>;
}

/// An archive on its way: its table of contents, then segments in archive order.
#[derive(Debug)]
pub struct DumpStream {
    /// The parsed table of contents.
    pub toc: std::sync::Arc<pgkeep_archive::Toc>,
    /// The engine that does the work, which may be another one than was asked.
    pub engine: &'static str,
    /// Segments in archive order. The first begins with the header and TOC bytes.
    pub segments: mpsc::Receiver<StreamSegment>,
    /// Lines for the log: what the engine does otherwise than one might expect, and why. They say nothing against the dump.
    pub notes: mpsc::UnboundedReceiver<String>,
    /// Resolves when the engine is done; an error here means that nothing that was received may be published.
    pub outcome: tokio::task::JoinHandle<Result<DumpOutcome>>,
}

/// A stretch of the archive: a bounded stream of blocks.
#[derive(Debug)]
pub struct StreamSegment {
    /// The blocks, in order. Their end is the end of the segment or of a dump that failed; only [`DumpStream::finish`]
    /// tells which, and why. Dropping this receiver before its end ends the dump.
    pub blocks: mpsc::Receiver<Result<Block>>,
}

/// What a finished dump says of itself.
#[derive(Debug, Clone)]
pub struct DumpOutcome {
    /// What `pg_dump --version` prints.
    pub pg_dump_version: String,
    /// When the snapshot was taken, by the server's clock (not after the true moment).
    pub snapshot_time: DateTime<Utc>,
    /// Lines on stderr that are not on the list of harmless ones.
    pub warnings: Vec<String>,
}

impl DumpStream {
    /// Waits for the engine's own verdict; call it when all segments are drained. Called earlier, it gives the dump up.
    pub async fn finish(self) -> Result<DumpOutcome> {
        let Self { segments, outcome, .. } = self;
        drop(segments);
        joined(outcome.await)
    }
}

/// The result of a task; its panic goes on here.
pub(crate) fn joined<T, E: From<Error>>(result: Result<Result<T, E>, tokio::task::JoinError>) -> Result<T, E> {
    match result {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is shutting down.
            Err(_) => Err(Error::Interrupted.into()),
        },
    }
}
