//! Reading an archive that is one stream of anybody's making: plain, or compressed outside.

use std::io::{self, Read};
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use pgkeep_compress::{Codec, detect};
use pgkeep_storage::{Key, Storage};
use tokio::sync::mpsc;

use crate::pipeline::joined;
use crate::plain::{Digested, Pieces};
use crate::{Error, Meta, Result, objects};

/// Stored pieces that wait for the decompressor.
const WAITING: usize = 4;
/// Size of the pieces that are handed on.
const PIECE_BYTES: usize = 1 << 20;
/// Bytes that tell the compression.
const MAGIC_BYTES: usize = 4;

/// An archive in a store, of which only the bytes are known; its meta, if it was adopted.
#[derive(Debug, Clone)]
pub(crate) struct UnframedArchive {
    pub(crate) meta: Option<Arc<Meta>>,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) key: Key,
}

/// Takes a plain archive piece by piece, on a thread that may block.
pub(crate) trait PlainSink: Send + 'static {
    /// Takes the next piece; whether more are wanted.
    fn take(&mut self, plain: Bytes) -> Result<bool>;
}

impl PlainSink for Pieces {
    fn take(&mut self, plain: Bytes) -> Result<bool> {
        Ok(self.blocking_send(plain).is_ok())
    }
}

/// What an unframed archive was found to be.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    /// Name of its compression, as far as it can be told: `gzip`.
    pub(crate) compression: String,
    pub(crate) stored: Digested,
    pub(crate) plain: Digested,
}

impl UnframedArchive {
    /// Sends the whole plain archive; if it has a meta, checks sizes and digests at its end.
    pub(crate) async fn send_all(self, pieces: Pieces) -> Result<()> {
        let object = self.object();
        let ((_, Some(found)), Some(meta)) = (self.clone().read(pieces).await?, &self.meta) else { return Ok(()) };
        found.stored.check(&object, meta.stored.bytes, &meta.stored.sha256)?;
        found.plain.check(&format!("the plain archive in {object}"), meta.plain.bytes, &meta.plain.sha256)
    }

    /// Hands the plain archive to `sink`, and gives the sink back. There is nothing found if it did not want all.
    pub(crate) async fn read<S: PlainSink>(self, sink: S) -> Result<(S, Option<Found>)> {
        let (sender, stored) = mpsc::channel(WAITING);
        let object = self.object();
        let decoding = tokio::task::spawn_blocking(move || decode(Stored::new(stored), sink, &object));
        let feeding = async {
            let at = objects::at(self.storage.as_ref());
            let mut pieces = match self.storage.read(&self.key, None).await {
                Ok(pieces) => pieces,
                Err(error) => return drop(sender.send(Err(at(error))).await),
            };
            loop {
                let piece = match pieces.try_next().await {
                    Ok(None) => break,
                    Ok(Some(piece)) => Ok(piece),
                    Err(error) => Err(at(error)),
                };
                if sender.send(piece).await.is_err() {
                    break;
                }
            }
            drop(sender);
        };
        let ((), decoded) = tokio::join!(feeding, decoding);
        joined(decoded)?
    }

    pub(crate) fn object(&self) -> String {
        format!("{}/{}", self.storage.location(), self.key)
    }
}

fn decode<S: PlainSink>(mut stored: Stored, mut sink: S, object: &str) -> Result<(S, Option<Found>)> {
    let mut refusal = None;
    let mut take = |plain: Bytes| match sink.take(plain) {
        Ok(more) => more,
        Err(error) => {
            refusal = Some(error);
            false
        }
    };
    let codec = stored.head().map(|()| detect(&stored.current));
    let pumped = codec.and_then(|codec| pump(&mut stored, codec.as_deref(), &mut take).map(|plain| (codec, plain)));
    if let Some(error) = refusal.or(stored.failure.take()) {
        return Err(error);
    }
    match pumped {
        Ok((_, None)) => Ok((sink, None)),
        Ok((codec, Some(plain))) => {
            let label = codec.map_or_else(|| "none".to_owned(), |codec| codec.label());
            // The level is the reader's, not the writer's.
            let compression = label.split('-').next().unwrap_or_default().to_owned();
            Ok((sink, Some(Found { compression, stored: stored.digested, plain })))
        }
        Err(error) => Err(Error::Damaged { object: object.to_owned(), reason: error.to_string() }),
    }
}

/// Moves plain bytes from the stream to `take`.
fn pump(
    stored: &mut Stored,
    codec: Option<&dyn Codec>,
    take: &mut impl FnMut(Bytes) -> bool,
) -> io::Result<Option<Digested>> {
    let mut plain = Digested::default();
    {
        let mut reader: Box<dyn Read + Send + '_> = match codec {
            Some(codec) => codec.reader(Box::new(&mut *stored)).map_err(io::Error::other)?,
            None => Box::new(&mut *stored),
        };
        loop {
            let mut piece = Vec::with_capacity(PIECE_BYTES);
            let read = reader.by_ref().take(PIECE_BYTES as u64).read_to_end(&mut piece)?;
            if read == 0 {
                break;
            }
            plain.update(&piece);
            if !take(piece.into()) {
                return Ok(None);
            }
        }
    }
    // What the decompressor left is not part of anything.
    if io::copy(stored, &mut io::sink())? > 0 {
        return Err(io::Error::other("it goes on after the end of the compressed stream"));
    }
    Ok(Some(plain))
}

/// The stored bytes as they come, digested.
struct Stored {
    pieces: mpsc::Receiver<Result<Bytes>>,
    current: Bytes,
    digested: Digested,
    failure: Option<Error>,
}

impl Stored {
    fn new(pieces: mpsc::Receiver<Result<Bytes>>) -> Self {
        Self { pieces, current: Bytes::new(), digested: Digested::default(), failure: None }
    }

    /// Waits until the first bytes are there, or all there are.
    fn head(&mut self) -> io::Result<()> {
        while self.current.len() < MAGIC_BYTES {
            let Some(piece) = self.piece()? else { break };
            self.current =
                if self.current.is_empty() { piece } else { [&self.current[..], &piece[..]].concat().into() };
        }
        Ok(())
    }

    fn piece(&mut self) -> io::Result<Option<Bytes>> {
        match self.pieces.blocking_recv() {
            None => Ok(None),
            Some(Ok(piece)) => {
                self.digested.update(&piece);
                Ok(Some(piece))
            }
            Some(Err(error)) => {
                let text = error.to_string();
                self.failure = Some(error);
                Err(io::Error::other(text))
            }
        }
    }
}

impl Read for Stored {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            let Some(piece) = self.piece()? else { return Ok(0) };
            self.current = piece;
        }
        let count = buffer.len().min(self.current.len());
        buffer[..count].copy_from_slice(&self.current.split_to(count));
        Ok(count)
    }
}
