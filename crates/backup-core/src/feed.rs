//! Stored bytes for a thread that reads as programs read files.

use std::io::{self, Read};
use std::ops::Range;

use bytes::Bytes;
use futures::TryStreamExt;
use pgkeep_storage::{Key, Storage};
use tokio::sync::mpsc;

use crate::plain::Digested;
use crate::{Error, Result, objects};

/// Sends the bytes of an object, or a range of them, until there are no more, or nobody wants them.
pub(crate) async fn feed(
    storage: &dyn Storage,
    key: &Key,
    range: Option<Range<u64>>,
    sender: mpsc::Sender<Result<Bytes>>,
) {
    let at = objects::at(storage);
    let mut pieces = match storage.read(key, range).await {
        Ok(pieces) => pieces,
        Err(error) => return drop(sender.send(Err(at(error))).await),
    };
    loop {
        let piece = match pieces.try_next().await {
            Ok(None) => break,
            Ok(Some(piece)) => Ok(piece),
            Err(error) => Err(at(error)),
        };
        let failed = piece.is_err();
        if sender.send(piece).await.is_err() || failed {
            break;
        }
    }
}

/// The bytes as they come.
#[derive(Debug)]
pub(crate) struct Feed {
    pieces: mpsc::Receiver<Result<Bytes>>,
    current: Bytes,
    /// What came so far, if that is wanted.
    digested: Option<Digested>,
    /// Why no more came.
    pub(crate) failure: Option<Error>,
}

impl Feed {
    /// Bytes that are digested on the way.
    pub(crate) fn digesting(pieces: mpsc::Receiver<Result<Bytes>>) -> Self {
        Self { digested: Some(Digested::default()), ..Self::new(pieces) }
    }

    pub(crate) fn new(pieces: mpsc::Receiver<Result<Bytes>>) -> Self {
        Self { pieces, current: Bytes::new(), digested: None, failure: None }
    }

    /// What came so far.
    pub(crate) fn digested(&self) -> Digested {
        self.digested.clone().unwrap_or_default()
    }

    /// The next bytes, waited for until there are so many, or no more; they are not taken.
    pub(crate) fn peek(&mut self, bytes: usize) -> io::Result<&[u8]> {
        while self.current.len() < bytes {
            let Some(piece) = self.piece()? else { break };
            self.current =
                if self.current.is_empty() { piece } else { [&self.current[..], &piece[..]].concat().into() };
        }
        Ok(&self.current)
    }

    fn piece(&mut self) -> io::Result<Option<Bytes>> {
        match self.pieces.blocking_recv() {
            None => Ok(None),
            Some(Ok(piece)) => {
                if let Some(digested) = &mut self.digested {
                    digested.update(&piece);
                }
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

impl Read for Feed {
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
