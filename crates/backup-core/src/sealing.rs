//! The encrypting stage of a backup: compressed frames in, the bytes of one file of age's format out.

use std::io::{self, Write};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::plain::Digested;
use crate::{Error, Recipients, Result, StoredDigest};

/// Frames that wait to be encrypted, and pieces that wait to be stored.
const WAITING: usize = 2;
/// Size of the pieces that are stored.
const PIECE_BYTES: usize = 1 << 20;

/// A thread that encrypts what it is sent, in order. Pieces come out as frames go in; memory holds a few of each.
#[derive(Debug)]
pub(crate) struct Sealing {
    pub(crate) frames: mpsc::Sender<Bytes>,
    pub(crate) pieces: mpsc::Receiver<Bytes>,
    /// All that came out, once `frames` is dropped.
    pub(crate) task: JoinHandle<Result<StoredDigest>>,
}

impl Sealing {
    pub(crate) fn spawn(recipients: Recipients) -> Self {
        let (frames, incoming) = mpsc::channel(WAITING);
        let (pieces, outgoing) = mpsc::channel(WAITING);
        let task = tokio::task::spawn_blocking(move || seal(&recipients, incoming, pieces));
        Self { frames, pieces: outgoing, task }
    }
}

fn seal(
    recipients: &Recipients,
    mut frames: mpsc::Receiver<Bytes>,
    pieces: mpsc::Sender<Bytes>,
) -> Result<StoredDigest> {
    let failed = |error: io::Error| Error::Task(format!("encrypting ended: {error}"));
    let mut writer = recipients.writer(Outlet { pieces, filling: Vec::new(), digested: Digested::default() })?;
    while let Some(frame) = frames.blocking_recv() {
        writer.write_all(&frame).map_err(failed)?;
    }
    let mut outlet = writer.finish().map_err(failed)?;
    outlet.pass_on().map_err(failed)?;
    Ok(StoredDigest { bytes: outlet.digested.bytes, sha256: outlet.digested.sha256() })
}

/// Where encrypted bytes come out.
struct Outlet {
    pieces: mpsc::Sender<Bytes>,
    filling: Vec<u8>,
    digested: Digested,
}

impl Outlet {
    fn pass_on(&mut self) -> io::Result<()> {
        let piece = std::mem::take(&mut self.filling);
        if piece.is_empty() {
            return Ok(());
        }
        self.digested.update(&piece);
        let gone = |_| io::Error::new(io::ErrorKind::BrokenPipe, "nobody stores what is encrypted");
        self.pieces.blocking_send(piece.into()).map_err(gone)
    }
}

impl Write for Outlet {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.filling.len() + bytes.len() > PIECE_BYTES {
            self.pass_on()?;
        }
        if self.filling.capacity() == 0 {
            self.filling.reserve_exact(PIECE_BYTES);
        }
        self.filling.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
