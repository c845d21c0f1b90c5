//! Reading an encrypted archive, whole or in ranges of what it holds.
//!
//! age cuts what it encrypts into chunks of 64 KiB, each sealed by itself (age-encryption.org/v1, "Payload"). So a range
//! needs the header, once, and the chunks in which it lies. Decryption has a thread of its own.

use std::fmt;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use pgkeep_storage::{Error as StorageError, Key, Storage};
use tokio::sync::{OnceCell, mpsc};
use tokio_util::task::AbortOnDropHandle;

use crate::feed::{Feed, feed};
use crate::identities::{ALTERED, Locked, ObjectKey};
use crate::pipeline::joined;
use crate::{Error, Identities, Result, StoredDigest, objects};

/// Bytes of a chunk, decrypted and encrypted.
const CHUNK: u64 = 64 << 10;
const SEALED_CHUNK: u64 = CHUNK + 16;
/// Most headers are shorter than the first of these; none is longer than the second, which holds thousands of recipients.
const HEADER_BYTES: [u64; 2] = [4 << 10, 1 << 20];
/// Stored pieces that wait to be decrypted, and decrypted ones that wait to be taken.
const WAITING: usize = 2;
/// Size of the decrypted pieces.
const PIECE_BYTES: u64 = 1 << 20;

/// An encrypted archive in a store. Its header is read once, however many ranges are read.
pub(crate) struct SealedArchive {
    storage: Arc<dyn Storage>,
    key: Key,
    stored: StoredDigest,
    identities: Identities,
    opened: OnceCell<Arc<Opened>>,
}

/// What the header said.
#[derive(Debug)]
struct Opened {
    key: ObjectKey,
    /// Header and nonce.
    head: Bytes,
}

impl SealedArchive {
    pub(crate) fn new(storage: Arc<dyn Storage>, key: Key, stored: StoredDigest, identities: Identities) -> Self {
        Self { storage, key, stored, identities, opened: OnceCell::new() }
    }

    /// What the archive holds, or `range` of it. A whole one ends well only if its stored bytes are those that were written.
    pub(crate) async fn read(self: &Arc<Self>, range: Option<Range<u64>>) -> Result<BoxStream<'static, Result<Bytes>>> {
        let archive = Arc::clone(self);
        let Some(range) = range else {
            return Ok(self.decrypted(None, move |feed, pieces| archive.send_whole(feed, pieces)));
        };
        let opened = Arc::clone(self.opened.get_or_try_init(|| self.open()).await?);
        let begin = opened.head.len() as u64;
        let first = range.start / CHUNK;
        let chunks = begin + first * SEALED_CHUNK..begin + range.end.div_ceil(CHUNK) * SEALED_CHUNK;
        let chunks = chunks.start..chunks.end.min(self.stored.bytes);
        if chunks.start >= chunks.end {
            return Err(self.damaged(format!("it has only {} bytes", self.stored.bytes)));
        }
        Ok(self.decrypted(Some(chunks), move |feed, pieces| archive.send_range(&opened, range, feed, pieces)))
    }

    /// Reads the header and finds the key.
    async fn open(&self) -> Result<Arc<Opened>> {
        let mut attempt = 0;
        loop {
            let bytes = HEADER_BYTES[attempt].min(self.stored.bytes);
            let head = self.storage.read(&self.key, Some(0..bytes)).await.map_err(|error| self.failed(error))?;
            let head: BytesMut = head.try_collect().await.map_err(|error| self.failed(error))?;
            let head = head.freeze();
            let identities = self.identities.clone();
            // A passphrase takes a second of work.
            let opened = tokio::task::spawn_blocking(move || {
                let mut rest = io::Cursor::new(&head);
                let key = identities.reader(&mut rest).map(|(_, key)| key);
                key.map(|key| Opened { key, head: head.slice(..rest.position() as usize) })
            });
            match joined(opened.await)? {
                Ok(opened) => return Ok(Arc::new(opened)),
                Err(Locked::Damaged(_)) if attempt == 0 && bytes < self.stored.bytes => attempt += 1,
                Err(locked) => return Err(self.locked(locked)),
            }
        }
    }

    /// A stream of what a thread makes of stored bytes.
    fn decrypted(
        &self,
        stored: Option<Range<u64>>,
        work: impl FnOnce(Feed, &mpsc::Sender<Result<Bytes>>) -> Result<()> + Send + 'static,
    ) -> BoxStream<'static, Result<Bytes>> {
        let (sender, fed) = mpsc::channel(WAITING);
        let (pieces, decrypted) = mpsc::channel(WAITING);
        let (storage, key, whole) = (Arc::clone(&self.storage), self.key.clone(), stored.is_none());
        let feeding = tokio::spawn(async move { feed(storage.as_ref(), &key, stored, sender).await });
        tokio::task::spawn_blocking(move || {
            let fed = if whole { Feed::digesting(fed) } else { Feed::new(fed) };
            if let Err(error) = work(fed, &pieces) {
                let _ = pieces.blocking_send(Err(error));
            }
        });
        let state = (decrypted, AbortOnDropHandle::new(feeding));
        stream::unfold(state, async |mut state| state.0.recv().await.map(|piece| (piece, state))).boxed()
    }

    fn send_whole(&self, mut fed: Feed, pieces: &mpsc::Sender<Result<Bytes>>) -> Result<()> {
        let sent = match self.identities.reader(&mut fed) {
            Ok((reader, _)) => send(reader, u64::MAX, pieces).map_err(|_| Locked::Damaged(ALTERED.to_owned())),
            Err(locked) => Err(locked),
        };
        if let Some(failure) = fed.failure.take() {
            return Err(self.of_store(failure));
        }
        if sent.map_err(|locked| self.locked(locked))? == Sent::Unwanted {
            return Ok(());
        }
        fed.digested().check(&self.object(), self.stored.bytes, &self.stored.sha256)
    }

    fn send_range(
        &self,
        opened: &Opened,
        range: Range<u64>,
        fed: Feed,
        pieces: &mpsc::Sender<Result<Bytes>>,
    ) -> Result<()> {
        let begin = opened.head.len() as u64 + range.start / CHUNK * SEALED_CHUNK;
        let mut window = Window { head: opened.head.clone(), begin, at: 0, fed };
        let sent = sent_range(&mut window, &opened.key, &range, pieces);
        if let Some(failure) = window.fed.failure.take() {
            return Err(self.of_store(failure));
        }
        sent.map(drop).map_err(|error| {
            let place = format!("{ALTERED}, between bytes {} and {} of what it holds", range.start, range.end);
            self.damaged(if error.kind() == io::ErrorKind::UnexpectedEof { ALTERED.to_owned() } else { place })
        })
    }

    /// What could not be opened. That the key fits is known: it opened the meta, which was encrypted to the same recipients.
    fn locked(&self, locked: Locked) -> Error {
        match locked {
            Locked::WrongKey => self.damaged("its header is not the one that was written: no key opens it".to_owned()),
            Locked::Damaged(reason) => self.damaged(reason),
        }
    }

    fn damaged(&self, reason: String) -> Error {
        Error::Damaged { object: self.object(), reason }
    }

    /// An error of the store, or of what it holds: a missing part is damage.
    fn failed(&self, error: StorageError) -> Error {
        self.of_store(objects::at(self.storage.as_ref())(error))
    }

    fn of_store(&self, error: Error) -> Error {
        match error {
            Error::Storage { source: StorageError::OutOfRange { bytes, .. }, .. } => {
                self.damaged(format!("it has {bytes} bytes instead of {}", self.stored.bytes))
            }
            error => error,
        }
    }

    fn object(&self) -> String {
        format!("{}/{}", self.storage.location(), self.key)
    }
}

impl fmt::Debug for SealedArchive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealedArchive").field("object", &self.object()).finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sent {
    All,
    /// The taker has gone away.
    Unwanted,
}

/// Sends up to `bytes` of what `reader` gives.
fn send(mut reader: impl Read, bytes: u64, pieces: &mpsc::Sender<Result<Bytes>>) -> io::Result<Sent> {
    let mut left = bytes;
    while left > 0 {
        let wanted = left.min(PIECE_BYTES);
        let mut piece = Vec::with_capacity(wanted as usize);
        reader.by_ref().take(wanted).read_to_end(&mut piece)?;
        left -= piece.len() as u64;
        let ended = (piece.len() as u64) < wanted;
        if !piece.is_empty() && pieces.blocking_send(Ok(piece.into())).is_err() {
            return Ok(Sent::Unwanted);
        }
        if ended {
            break;
        }
    }
    Ok(Sent::All)
}

fn sent_range(
    window: &mut Window,
    key: &ObjectKey,
    range: &Range<u64>,
    pieces: &mpsc::Sender<Result<Bytes>>,
) -> io::Result<Sent> {
    let opened =
        age::Decryptor::new(window).and_then(|decryptor| decryptor.decrypt(std::iter::once(key as &dyn age::Identity)));
    let mut reader = opened.map_err(|error| io::Error::other(error.to_string()))?;
    let first = range.start / CHUNK * CHUNK;
    if first > 0 {
        // One byte into the chunk: at its very beginning age would look whether that is the end, in a chunk we have not.
        reader.seek(SeekFrom::Start(first + 1))?;
    }
    reader.seek(SeekFrom::Start(range.start))?;
    send(reader, range.end - range.start, pieces)
}

/// The header, and the chunks from `begin` on, as if they were the whole file.
struct Window {
    head: Bytes,
    begin: u64,
    at: u64,
    fed: Feed,
}

impl Read for Window {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let head = self.head.len() as u64;
        let count = if self.at < head {
            let rest = &self.head[self.at as usize..];
            let count = rest.len().min(buffer.len());
            buffer[..count].copy_from_slice(&rest[..count]);
            count
        } else if self.at >= self.begin {
            self.fed.read(buffer)?
        } else {
            return Err(io::Error::other("a part of an encrypted archive was not fetched"));
        };
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for Window {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match to {
            SeekFrom::Current(0) => {}
            SeekFrom::Start(at) if at == self.at || (at == self.begin && self.at <= self.begin) => self.at = at,
            _ => return Err(io::Error::other("a part of an encrypted archive was not fetched")),
        }
        Ok(self.at)
    }
}
