//! Reading an archive that is one stream of anybody's making: plain, or compressed outside.

use std::io::{self, BufRead, BufReader, Read};
use std::sync::Arc;

use bytes::Bytes;
use pgkeep_compress::{Codec, detect};
use pgkeep_storage::{Key, Storage};
use tokio::sync::mpsc;

use crate::feed::{Feed, feed};
use crate::identities::{ALTERED, Locked, is_encrypted};
use crate::pipeline::joined;
use crate::plain::{Digested, Pieces, PlainDigested};
use crate::{Error, Identities, Meta, Result};

/// Stored pieces that wait for the decompressor.
const WAITING: usize = 4;
/// Size of the pieces that are handed on.
const PIECE_BYTES: usize = 1 << 20;
/// Stored bytes read ahead.
const MOST_BUFFERED: usize = 64 << 10;
/// Bytes that tell the compression, or encryption.
const MAGIC_BYTES: usize = 32;

/// An archive in a store, of which only the bytes are known; its meta, if it was adopted.
#[derive(Debug, Clone)]
pub(crate) struct UnframedArchive {
    pub(crate) meta: Option<Arc<Meta>>,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) key: Key,
    /// What opens it, should it be encrypted.
    pub(crate) identities: Identities,
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
    pub(crate) encrypted: bool,
    pub(crate) stored: Digested,
    pub(crate) plain: PlainDigested,
}

impl UnframedArchive {
    /// Sends the whole plain archive; if it has a meta, checks sizes and digests at its end.
    pub(crate) async fn send_all(self, pieces: Pieces) -> Result<()> {
        let object = self.object();
        let ((_, Some(found)), Some(meta)) = (self.clone().read(pieces).await?, &self.meta) else { return Ok(()) };
        found.stored.check(&object, meta.stored.bytes, &meta.stored.sha256)?;
        found.plain.check(&format!("the plain archive in {object}"), &meta.plain)
    }

    /// Hands the plain archive to `sink`, and gives the sink back. There is nothing found if it did not want all.
    pub(crate) async fn read<S: PlainSink>(self, sink: S) -> Result<(S, Option<Found>)> {
        let (sender, stored) = mpsc::channel(WAITING);
        let (object, identities) = (self.object(), self.identities.clone());
        let decoding = tokio::task::spawn_blocking(move || decode(Feed::digesting(stored), &identities, sink, &object));
        let feeding = feed(self.storage.as_ref(), &self.key, None, sender);
        let ((), decoded) = tokio::join!(feeding, decoding);
        joined(decoded)?
    }

    pub(crate) fn object(&self) -> String {
        format!("{}/{}", self.storage.location(), self.key)
    }
}

fn decode<S: PlainSink>(
    mut stored: Feed,
    identities: &Identities,
    mut sink: S,
    object: &str,
) -> Result<(S, Option<Found>)> {
    let mut refusal = None;
    let mut take = |plain: Bytes| match sink.take(plain) {
        Ok(more) => more,
        Err(error) => {
            refusal = Some(error);
            false
        }
    };
    let damaged = |reason: String| Error::Damaged { object: object.to_owned(), reason };
    let encrypted = stored.peek(MAGIC_BYTES).is_ok_and(is_encrypted);
    let pumped = if !encrypted {
        decompress(&mut stored, &mut take).map_err(|error| damaged(error.to_string()))
    } else if identities.is_empty() {
        Err(Error::KeyMissing { object: object.to_owned(), recipients: Vec::new() })
    } else {
        match identities.reader(&mut stored) {
            Ok((mut reader, _)) => decompress(&mut reader, &mut take).map_err(|error| {
                let by_age = error.kind() == io::ErrorKind::InvalidData || error.kind() == io::ErrorKind::UnexpectedEof;
                damaged(if by_age { ALTERED.to_owned() } else { error.to_string() })
            }),
            Err(Locked::WrongKey) => Err(Error::KeyWrong { object: object.to_owned(), recipients: Vec::new() }),
            Err(Locked::Damaged(reason)) => Err(damaged(reason)),
        }
    };
    if let Some(error) = refusal.or(stored.failure.take()) {
        return Err(error);
    }
    match pumped? {
        (_, None) => Ok((sink, None)),
        (codec, Some(plain)) => {
            let label = codec.map_or_else(|| "none".to_owned(), |codec| codec.label());
            // The level is the reader's, not the writer's.
            let compression = label.split('-').next().unwrap_or_default().to_owned();
            Ok((sink, Some(Found { compression, encrypted, stored: stored.digested(), plain })))
        }
    }
}

type Decompressed = (Option<Arc<dyn Codec>>, Option<PlainDigested>);

/// Moves the plain bytes of a stream to `take`: how it was compressed, and what it held if all of it was wanted.
fn decompress(stored: &mut (dyn Read + Send), take: &mut impl FnMut(Bytes) -> bool) -> io::Result<Decompressed> {
    let mut stored = BufReader::with_capacity(MOST_BUFFERED, stored);
    let codec = detect(stored.fill_buf()?);
    let plain = pump(&mut stored, codec.as_deref(), take)?;
    Ok((codec, plain))
}

/// Moves plain bytes from the stream to `take`.
fn pump(
    stored: &mut (dyn Read + Send),
    codec: Option<&dyn Codec>,
    take: &mut impl FnMut(Bytes) -> bool,
) -> io::Result<Option<PlainDigested>> {
    let mut plain = PlainDigested::default();
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
