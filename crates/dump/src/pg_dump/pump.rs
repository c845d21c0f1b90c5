//! What a child writes, made into blocks by a thread of its own.

use std::fs::File;
use std::io::Read;
use std::sync::Arc;

use bytes::BytesMut;
use pgkeep_archive::{Block, BlockWriter, Decoder, Event, Toc};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::READING;
use crate::{Error, Result};

/// Bytes read at once.
const READ_BYTES: usize = 1 << 20;

/// An archive on its way out of a child.
#[derive(Debug)]
pub(super) struct Archive {
    pub(super) stdout: File,
    /// What was read and not taken yet.
    pub(super) decoder: Decoder,
    /// Its table of contents, if that was taken.
    pub(super) toc: Option<Arc<Toc>>,
}

/// Reads a pipe in a thread of its own: what passes here is the whole database.
pub(super) struct Pump {
    pub(super) toc: Option<oneshot::Sender<Arc<Toc>>>,
    pub(super) blocks: mpsc::Sender<Result<Block>>,
    pub(super) stop: CancellationToken,
    pub(super) runtime: tokio::runtime::Handle,
    pub(super) block_bytes: usize,
}

pub(super) enum PumpError {
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
    pub(super) fn run(mut self, archive: Archive) -> Result<(), PumpError> {
        let Archive { mut stdout, mut decoder, toc } = archive;
        let mut writer = BlockWriter::new(self.block_bytes);
        let mut buffer = BytesMut::zeroed(READ_BYTES);
        if let Some(toc) = toc {
            self.take(Event::Toc(toc), &mut writer)?;
            while let Some(event) = decoder.next_event()? {
                self.take(event, &mut writer)?;
            }
        }
        loop {
            let length = stdout.read(&mut buffer).map_err(|source| Error::io(READING, source))?;
            if length == 0 {
                decoder.finish().map_err(PumpError::Ended)?;
                writer.finish()?;
                return self.pass_on(&mut writer);
            }
            let whole = buffer.freeze();
            decoder.push_bytes(whole.slice(..length));
            while let Some(event) = decoder.next_event()? {
                self.take(event, &mut writer)?;
            }
            // As a rule nobody holds a piece of it any more.
            buffer = whole.try_into_mut().unwrap_or_else(|_| BytesMut::zeroed(READ_BYTES));
        }
    }

    fn take(&mut self, event: Event, writer: &mut BlockWriter) -> Result<(), PumpError> {
        writer.event(&event)?;
        if let Event::Toc(toc) = event
            && let Some(sender) = self.toc.take()
        {
            // Whoever waited for it may be gone; the blocks will tell.
            let _ = sender.send(toc);
        }
        self.pass_on(writer)
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
