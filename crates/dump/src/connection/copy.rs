//! COPY data, in and out, in bounded memory.

use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use postgres_protocol::message::backend::{COPY_DATA_TAG, Message};
use postgres_protocol::message::frontend;

use super::{Connection, rows_of_tag};
use crate::{Error, Result};

/// A piece that is put together of small messages is given out once it has this size…
const PIECE_BYTES: usize = 64 * 1024;
/// …and never becomes larger than this.
const PIECE_LIMIT: usize = 256 * 1024;
/// What is at least this large is passed on without copying.
pub(super) const DIRECT_BYTES: usize = 32 * 1024;
/// Small sends are put together until they have this size.
const BATCH_BYTES: usize = 128 * 1024;
/// The longest message we send; the server reads each as a whole.
const MESSAGE_BYTES: usize = 1024 * 1024;

/// Data coming out of a COPY, in pieces of some 64 to 256 KiB that need not be rows: a huge value arrives in several. Dropped before
/// its end, it closes the connection.
pub struct CopyOut<'c> {
    connection: &'c mut Connection,
    /// Bytes of the current CopyData that did not come yet.
    remaining: usize,
    piece: BytesMut,
    rows: u64,
    done: bool,
}

impl fmt::Debug for CopyOut<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CopyOut")
            .field("connection", &self.connection)
            .field("done", &self.done)
            .finish_non_exhaustive()
    }
}

impl<'c> CopyOut<'c> {
    pub(super) fn new(connection: &'c mut Connection) -> Self {
        Self { connection, remaining: 0, piece: BytesMut::new(), rows: 0, done: false }
    }

    /// The next piece; `None` once the server has said `CommandComplete`. Safe to drop while it waits, and to call again.
    ///
    /// Should the server fail midway the error comes out here, and the connection is usable again.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        while !self.done {
            if let Some(piece) = self.take_piece() {
                return Ok(Some(piece));
            }
            if self.remaining == 0 && self.connection.wire.inbox.first().is_some_and(|tag| *tag != COPY_DATA_TAG) {
                if !self.piece.is_empty() {
                    return Ok(Some(self.piece.split().freeze()));
                }
                self.take_answer().await?;
            } else {
                self.connection.wire.fill().await?;
            }
        }
        Ok(None)
    }

    /// Rows by the command tag; only after `next` gave `None`.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// What is in the inbox, if it makes a piece.
    fn take_piece(&mut self) -> Option<Bytes> {
        let inbox = &mut self.connection.wire.inbox;
        if self.piece.is_empty() {
            if self.remaining == 0 && inbox.len() > DIRECT_BYTES {
                self.remaining = take_long_header(inbox);
            }
            let available = self.remaining.min(inbox.len()).min(PIECE_LIMIT);
            if available >= DIRECT_BYTES {
                self.remaining -= available;
                return Some(inbox.split_to(available).freeze());
            }
        }
        let wanted = PIECE_LIMIT - self.piece.len();
        if self.piece.capacity() == self.piece.len() {
            self.piece.reserve(wanted.max(PIECE_BYTES));
        }
        let consumed = coalesce(inbox, &mut self.remaining, &mut self.piece);
        inbox.advance(consumed);
        (self.piece.len() >= PIECE_BYTES).then(|| self.piece.split().freeze())
    }

    /// Something else than data.
    async fn take_answer(&mut self) -> Result<()> {
        // A notice was passed over, and data follow it.
        let Some(message) = self.connection.wire.next_unless_data().await? else { return Ok(()) };
        match message {
            Message::CopyDone => {}
            // A notice came before it.
            Message::CopyData(body) => self.piece.extend_from_slice(body.data()),
            Message::CommandComplete(body) => self.rows = rows_of_tag(body.tag().unwrap_or_default()),
            Message::ReadyForQuery(body) => {
                self.connection.ready(&body);
                self.done = true;
            }
            Message::ErrorResponse(body) => {
                self.done = true;
                return Err(self.connection.fail(&body).await);
            }
            _ => return Err(self.connection.wire.broken("something else than data comes out of a COPY")),
        }
        Ok(())
    }
}

impl Drop for CopyOut<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.connection.wire.close();
        }
    }
}

/// Takes the header of a CopyData that is long enough to be passed on without copying; the length of its data, or 0.
fn take_long_header(inbox: &mut BytesMut) -> usize {
    if inbox[0] != COPY_DATA_TAG {
        return 0;
    }
    let length = data_length(inbox);
    if length < DIRECT_BYTES {
        return 0;
    }
    inbox.advance(5);
    length
}

/// The length of a CopyData's data.
pub(super) fn data_length(header: &[u8]) -> usize {
    (u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize).saturating_sub(4)
}

/// Copies the data of small messages from `inbox` to `piece` up to its limit, whole messages only unless they are long; the bytes
/// of `inbox` that are used up.
fn coalesce(inbox: &[u8], remaining: &mut usize, piece: &mut BytesMut) -> usize {
    let mut at = 0;
    loop {
        if *remaining > 0 {
            let count = (*remaining).min(inbox.len() - at).min(PIECE_LIMIT - piece.len());
            piece.extend_from_slice(&inbox[at..at + count]);
            at += count;
            *remaining -= count;
            if *remaining > 0 {
                return at;
            }
        }
        let rest = &inbox[at..];
        if rest.len() < 5 || rest[0] != COPY_DATA_TAG {
            return at;
        }
        let length = data_length(rest);
        let is_whole = rest.len() - 5 >= length;
        let fits = piece.len() + length <= PIECE_LIMIT;
        if length < DIRECT_BYTES && !(is_whole && fits) {
            return at;
        }
        at += 5;
        *remaining = length;
    }
}

/// Data going into a COPY. Dropped before [`finish`](Self::finish) or [`abort`](Self::abort), it closes the connection, and the
/// server forgets what was sent.
pub struct CopyIn<'c> {
    connection: &'c mut Connection,
    batch: BytesMut,
    /// A message was begun and not sent to its end.
    torn: bool,
    done: bool,
}

impl fmt::Debug for CopyIn<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CopyIn").field("connection", &self.connection).field("done", &self.done).finish_non_exhaustive()
    }
}

impl<'c> CopyIn<'c> {
    pub(super) fn new(connection: &'c mut Connection) -> Self {
        Self { connection, batch: BytesMut::new(), torn: false, done: false }
    }

    /// Sends bytes of COPY text; waits while the server is slower. An error that the server raised meanwhile comes out here or
    /// in [`finish`](Self::finish); the connection is usable again after it.
    pub async fn send(&mut self, bytes: Bytes) -> Result<()> {
        self.check()?;
        if bytes.len() < DIRECT_BYTES {
            self.batch.extend_from_slice(&bytes);
            return if self.batch.len() >= BATCH_BYTES { self.send_batch().await } else { Ok(()) };
        }
        self.send_batch().await?;
        let mut rest = bytes;
        while !rest.is_empty() {
            let message = rest.split_to(rest.len().min(MESSAGE_BYTES));
            self.send_message(message).await?;
        }
        Ok(())
    }

    /// Ends the COPY and returns the rows by the command tag.
    pub async fn finish(mut self) -> Result<u64> {
        self.check()?;
        self.send_batch().await?;
        self.torn = true;
        frontend::copy_done(&mut self.connection.wire.outbox);
        if let Err(lost) = self.connection.wire.flush().await {
            return Err(self.connection.last_words(lost));
        }
        let mut rows = 0;
        loop {
            match self.connection.wire.next().await? {
                Message::CommandComplete(body) => rows = rows_of_tag(body.tag().unwrap_or_default()),
                Message::ReadyForQuery(body) => {
                    self.connection.ready(&body);
                    self.done = true;
                    return Ok(rows);
                }
                Message::ErrorResponse(body) => {
                    self.done = true;
                    return Err(self.connection.fail(&body).await);
                }
                _ => return Err(self.connection.wire.broken("something else than its end follows a COPY")),
            }
        }
    }

    /// Gives it up (`CopyFail`) and waits until the server is ready again. The reason stands in the server's log.
    pub async fn abort(mut self, reason: &str) -> Result<()> {
        if self.done {
            return Ok(());
        }
        self.check()?;
        self.torn = true;
        let reason = reason.replace('\0', " ");
        if let Err(error) = frontend::copy_fail(&reason, &mut self.connection.wire.outbox) {
            return Err(self.connection.wire.broken(error.to_string()));
        }
        self.connection.wire.flush().await?;
        loop {
            match self.connection.wire.next().await? {
                // That it was given up, or that it had failed before.
                Message::ErrorResponse(_) | Message::CommandComplete(_) => {}
                Message::ReadyForQuery(body) => {
                    self.connection.ready(&body);
                    self.done = true;
                    return Ok(());
                }
                _ => return Err(self.connection.wire.broken("something else than its end follows a COPY")),
            }
        }
    }

    fn check(&self) -> Result<()> {
        if self.torn || self.done {
            return Err(Error::Abandoned { server: self.connection.wire.server.clone() });
        }
        Ok(())
    }

    async fn send_batch(&mut self) -> Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let batch = self.batch.split().freeze();
        self.send_message(batch).await
    }

    async fn send_message(&mut self, mut data: Bytes) -> Result<()> {
        self.torn = true;
        let wire = &mut self.connection.wire;
        wire.outbox.put_u8(COPY_DATA_TAG);
        wire.outbox.put_u32(data.len() as u32 + 4);
        let sent = wire.flush_with(&mut data).await;
        if sent.is_ok() {
            wire.peek().await?;
        }
        // A server that hangs up says why before.
        while let Some(message) = self.connection.wire.next_buffered()? {
            if let Message::ErrorResponse(body) = message {
                self.done = true;
                return Err(self.connection.fail(&body).await);
            }
        }
        sent?;
        self.torn = false;
        Ok(())
    }
}

impl Drop for CopyIn<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.connection.wire.close();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(data: &[u8]) -> Vec<u8> {
        let mut bytes = vec![COPY_DATA_TAG];
        bytes.extend((data.len() as u32 + 4).to_be_bytes());
        bytes.extend(data);
        bytes
    }

    proptest! {
        #[test]
        fn coalescing_loses_and_invents_nothing(
            sizes in proptest::collection::vec(prop_oneof![0usize..200, 30_000usize..40_000, 100_000usize..300_000], 0..20),
            reads in proptest::collection::vec(1usize..100_000, 1..20),
        ) {
            let mut stream = Vec::new();
            let mut expected = Vec::new();
            for (number, size) in sizes.iter().enumerate() {
                let data = vec![number as u8; *size];
                stream.extend(message(&data));
                expected.extend(data);
            }
            stream.push(b'c');
            let (mut inbox, mut remaining, mut piece, mut found) = (Vec::new(), 0, BytesMut::new(), Vec::new());
            let mut reads = reads.iter().cycle();
            let mut stream = stream.as_slice();
            while !stream.is_empty() {
                let count = (*reads.next().unwrap()).min(stream.len());
                inbox.extend_from_slice(&stream[..count]);
                stream = &stream[count..];
                loop {
                    let consumed = coalesce(&inbox, &mut remaining, &mut piece);
                    inbox.drain(..consumed);
                    prop_assert!(piece.len() <= PIECE_LIMIT);
                    found.extend_from_slice(&piece.split());
                    if consumed == 0 {
                        break;
                    }
                }
            }
            prop_assert_eq!(inbox, b"c");
            prop_assert!(found == expected);
        }
    }
}
