//! A plain archive as a stream of pieces.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::task::AbortOnDropHandle;

use crate::pipeline::joined;
use crate::{Error, Meta, PlainDigest, Result};

/// Pieces that wait for the reader.
const WAITING: usize = 2;

/// The plain archive of a backup as a stream of pieces. After the last piece, `next` gives `None` only if every size and
/// digest matched. Dropped, it ends what is under way.
pub struct PlainArchive {
    pieces: mpsc::Receiver<Piece>,
    ended: bool,
    _source: AbortOnDropHandle<()>,
}

enum Piece {
    Bytes(Bytes),
    End,
    Failed(Error),
}

/// Where the pieces of a [`PlainArchive`] come from.
#[derive(Clone)]
pub(crate) struct Pieces(mpsc::Sender<Piece>);

/// The reader has gone away: no error, nobody is there to hear it.
#[derive(Debug)]
pub(crate) struct Gone;

impl PlainArchive {
    /// An archive whose pieces `source` sends; its `Ok` says that every check was passed.
    pub(crate) fn from_task<F>(source: impl FnOnce(Pieces) -> F) -> Self
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let (sender, pieces) = mpsc::channel(WAITING);
        let work = source(Pieces(sender.clone()));
        let task = tokio::spawn(async move {
            let last = match work.await {
                Ok(()) => Piece::End,
                Err(error) => Piece::Failed(error),
            };
            let _ = sender.send(last).await;
        });
        Self { pieces, ended: false, _source: AbortOnDropHandle::new(task) }
    }

    /// The next plain bytes.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        if self.ended {
            return Ok(None);
        }
        match self.pieces.recv().await {
            Some(Piece::Bytes(bytes)) => Ok(Some(bytes)),
            Some(Piece::End) => {
                self.ended = true;
                Ok(None)
            }
            Some(Piece::Failed(error)) => Err(error),
            None => Err(Error::Task("reading a backup ended without a word".to_owned())),
        }
    }
}

impl fmt::Debug for PlainArchive {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("PlainArchive").field("ended", &self.ended).finish_non_exhaustive()
    }
}

impl Pieces {
    pub(crate) async fn send(&self, bytes: Bytes) -> Result<(), Gone> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.0.send(Piece::Bytes(bytes)).await.map_err(|_| Gone)
    }

    pub(crate) async fn send_all(&self, cut: Vec<Bytes>) -> Result<(), Gone> {
        for bytes in cut {
            self.send(bytes).await?;
        }
        Ok(())
    }

    pub(crate) fn blocking_send(&self, bytes: Bytes) -> Result<(), Gone> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.0.blocking_send(Piece::Bytes(bytes)).map_err(|_| Gone)
    }
}

/// Size and digest of bytes that go by.
#[derive(Debug, Clone, Default)]
pub(crate) struct Digested {
    sha256: Sha256,
    pub(crate) bytes: u64,
}

impl Digested {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        self.bytes += bytes.len() as u64;
    }

    /// sha256 in hex.
    pub(crate) fn sha256(self) -> String {
        hex::encode(self.sha256.finalize())
    }

    /// An error unless these were the bytes that `object` should be made of.
    pub(crate) fn check(self, object: &str, bytes: u64, sha256: &str) -> Result<()> {
        let damaged = |reason: String| Err(Error::Damaged { object: object.to_owned(), reason });
        if self.bytes != bytes {
            return damaged(format!("it has {} bytes instead of {bytes}", self.bytes));
        }
        let found = self.sha256();
        if found != sha256 {
            return damaged(format!("its sha256 is {found} instead of {sha256}"));
        }
        Ok(())
    }
}

/// Size and digest of plain bytes that go by.
#[derive(Debug, Clone, Default)]
pub(crate) struct PlainDigested {
    blake3: Box<blake3::Hasher>,
    bytes: u64,
}

impl PlainDigested {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.blake3.update(bytes);
        self.bytes += bytes.len() as u64;
    }

    pub(crate) fn finish(self) -> PlainDigest {
        PlainDigest { bytes: self.bytes, blake3: self.blake3.finalize().to_hex().to_string() }
    }

    /// An error unless these were the bytes that `object` should be made of.
    pub(crate) fn check(self, object: &str, expected: &PlainDigest) -> Result<()> {
        let damaged = |reason: String| Err(Error::Damaged { object: object.to_owned(), reason });
        let found = self.finish();
        if found.bytes != expected.bytes {
            return damaged(format!("it has {} bytes instead of {}", found.bytes, expected.bytes));
        }
        if found.blake3 != expected.blake3 {
            return damaged(format!("its BLAKE3 is {} instead of {}", found.blake3, expected.blake3));
        }
        Ok(())
    }
}

impl PlainDigest {
    /// Of all these bytes.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let mut digested = PlainDigested::default();
        digested.update(bytes);
        digested.finish()
    }

    /// An error unless `bytes` are what `object` should be made of.
    pub(crate) fn check(&self, object: &str, bytes: &[u8]) -> Result<()> {
        let mut digested = PlainDigested::default();
        digested.update(bytes);
        digested.check(object, self)
    }
}

/// A thread that digests stored and plain bytes while others go on.
#[derive(Debug)]
pub(crate) struct Digester {
    /// Stored bytes are digested too.
    both: bool,
    frames: mpsc::Sender<(Bytes, Bytes)>,
    task: JoinHandle<(Digested, PlainDigested)>,
}

impl Digester {
    pub(crate) fn spawn(both: bool) -> Self {
        let (sender, mut frames) = mpsc::channel::<(Bytes, Bytes)>(WAITING);
        let task = tokio::task::spawn_blocking(move || {
            let (mut stored, mut plain) = (Digested::default(), PlainDigested::default());
            while let Some((stored_bytes, plain_bytes)) = frames.blocking_recv() {
                if both {
                    stored.update(&stored_bytes);
                }
                plain.update(&plain_bytes);
            }
            (stored, plain)
        });
        Self { both, frames: sender, task }
    }

    /// Takes the next frame and its content.
    pub(crate) async fn take(&self, stored: Bytes, plain: Bytes) {
        // Only a panic ends the thread early, and that is found when it is joined.
        let _ = self.frames.send((stored, plain)).await;
    }

    /// An error unless it was the archive of `meta`.
    pub(crate) async fn check(self, meta: &Meta, object: &str) -> Result<()> {
        drop(self.frames);
        let (stored, plain) = joined(self.task.await)?;
        if self.both {
            stored.check(object, meta.stored.bytes, &meta.stored.sha256)?;
        }
        plain.check(&format!("the plain archive in {object}"), &meta.plain)
    }
}

/// Cuts wanted ranges out of a stream.
#[derive(Debug, Clone)]
pub(crate) struct Slicer {
    /// In order, apart from one another.
    wanted: Arc<[Range<u64>]>,
}

impl Slicer {
    pub(crate) fn new(wanted: impl IntoIterator<Item = Range<u64>>) -> Self {
        Self { wanted: wanted.into_iter().collect() }
    }

    /// What is wanted of `bytes`, which lie at `offset`.
    pub(crate) fn cut(&self, offset: u64, bytes: &Bytes) -> Vec<Bytes> {
        let end = offset + bytes.len() as u64;
        let first = self.wanted.partition_point(|range| range.end <= offset);
        self.wanted[first..]
            .iter()
            .take_while(|range| range.start < end)
            .map(|range| {
                let from = range.start.max(offset) - offset;
                let to = range.end.min(end) - offset;
                bytes.slice(from as usize..to as usize)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slicer_cuts_what_is_wanted_however_the_stream_is_cut() {
        let all: Bytes = (0..100).collect::<Vec<u8>>().into();
        let slicer = Slicer::new([3..7, 7..8, 20..90]);
        let expected: Vec<u8> = (3..8).chain(20..90).collect();
        for piece in [1, 3, 7, 50, 100] {
            let mut cut = Vec::new();
            for at in (0..100).step_by(piece) {
                for bytes in slicer.cut(at as u64, &all.slice(at..(at + piece).min(100))) {
                    cut.extend_from_slice(&bytes);
                }
            }
            assert_eq!(cut, expected, "{piece}");
        }
    }
}
