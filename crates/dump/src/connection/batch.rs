//! Several statements sent at once, COPYs to us among them, read without a copy in between.

use std::time::Duration;

use bytes::Buf;
use postgres_protocol::message::backend::{COPY_DATA_TAG, Message};

use super::copy::{DIRECT_BYTES, data_length};
use super::{Connection, rows_of_tag};
use crate::Result;

/// A COPY that has brought so many bytes will bring more.
const LONG_COPY_BYTES: u64 = 512 * 1024;
/// How much is enough to go on with.
const GATHER_BYTES: usize = 128 * 1024;
/// How long it is left to gather. What the fastest server sends meanwhile fits its socket's buffer.
const GATHER: Duration = Duration::from_millis(1);

/// A simple query of several statements on its way. Rows of those that are no COPY are passed over.
///
/// Dropped before its end, it closes the connection.
pub(crate) struct Batch<'c> {
    connection: &'c mut Connection,
    /// Bytes of the current CopyData that did not come yet.
    remaining: usize,
    /// Bytes of the current COPY so far.
    copied: u64,
    done: bool,
}

/// How far a [`Batch`] has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// A COPY has begun.
    CopyBegan,
    /// Data was handed out, and more is to come.
    Data,
    /// A COPY ended; rows by its command tag.
    CopyEnded {
        /// How many.
        rows: u64,
    },
    /// All statements have ended, and the session is ready.
    Done,
}

impl Connection {
    /// Sends statements, COPYs to us among them.
    pub(crate) async fn batch(&mut self, sql: &[u8]) -> Result<Batch<'_>> {
        self.start(sql).await?;
        Ok(Batch { connection: self, remaining: 0, copied: 0, done: false })
    }
}

impl Batch<'_> {
    /// Goes on to the next step. Data goes to `sink`, with whether a CopyData message ends there: the server makes one of
    /// each row of text. Long messages come in pieces.
    ///
    /// A statement that fails is the error; those behind it were not run, and the connection is usable again.
    pub(crate) async fn step(&mut self, sink: &mut (dyn FnMut(&[u8], bool) -> Result<()> + Send)) -> Result<Step> {
        loop {
            if self.data(sink)? {
                return Ok(Step::Data);
            }
            let is_data = self.connection.wire.inbox.first().is_none_or(|tag| *tag == COPY_DATA_TAG);
            if self.remaining > 0 || is_data {
                self.fill().await?;
                continue;
            }
            // A notice was passed over, and data follow it.
            let Some(message) = self.connection.wire.next_unless_data().await? else { continue };
            match message {
                Message::CopyOutResponse(_) => {
                    self.copied = 0;
                    return Ok(Step::CopyBegan);
                }
                Message::CommandComplete(body) => {
                    let tag = body.tag().unwrap_or_default();
                    if tag.starts_with("COPY ") {
                        return Ok(Step::CopyEnded { rows: rows_of_tag(tag) });
                    }
                }
                // A notice came before it.
                Message::CopyData(body) => {
                    sink(body.data(), true)?;
                    self.copied += body.data().len() as u64;
                    return Ok(Step::Data);
                }
                Message::CopyDone | Message::RowDescription(_) | Message::DataRow(_) | Message::EmptyQueryResponse => {}
                Message::ReadyForQuery(body) => {
                    self.connection.ready(&body);
                    self.done = true;
                    return Ok(Step::Done);
                }
                Message::ErrorResponse(body) => {
                    self.done = true;
                    return Err(self.connection.fail(&body).await);
                }
                _ => return Err(self.connection.wire.broken("an answer does not belong to these statements")),
            }
        }
    }

    /// Waits for more bytes. The server sends 8 KiB at a time: waking up for each of them costs as much as reading them, so
    /// what a long COPY brings is left to gather for a moment.
    async fn fill(&mut self) -> Result<()> {
        let wire = &mut self.connection.wire;
        wire.fill().await?;
        if wire.gather(GATHER_BYTES).await < GATHER_BYTES && self.copied > LONG_COPY_BYTES {
            tokio::time::sleep(GATHER).await;
            wire.gather(GATHER_BYTES).await;
        }
        Ok(())
    }

    /// Hands out what is in the inbox. Whether there was anything.
    fn data(&mut self, sink: &mut (dyn FnMut(&[u8], bool) -> Result<()> + Send)) -> Result<bool> {
        let inbox = &mut self.connection.wire.inbox;
        let mut at = 0;
        loop {
            if self.remaining > 0 {
                let count = self.remaining.min(inbox.len() - at);
                if count == 0 {
                    break;
                }
                self.remaining -= count;
                sink(&inbox[at..at + count], self.remaining == 0)?;
                at += count;
                continue;
            }
            let rest = &inbox[at..];
            if rest.len() < 5 || rest[0] != COPY_DATA_TAG {
                break;
            }
            let length = data_length(rest);
            if let Some(data) = rest.get(5..5 + length) {
                sink(data, true)?;
                at += 5 + length;
            } else if length >= DIRECT_BYTES {
                at += 5;
                self.remaining = length;
            } else {
                break;
            }
        }
        inbox.advance(at);
        self.copied += at as u64;
        Ok(at > 0)
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.connection.wire.close();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;

    use super::super::wire::{Transport, Wire};
    use super::*;
    use crate::{ConnectSettings, TransactionStatus};

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap();
        [&[tag][..], &length.to_be_bytes(), body].concat()
    }

    #[tokio::test]
    async fn a_long_row_comes_in_pieces_also_behind_a_notice() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let settings =
            ConnectSettings::parse("host=/tmp dbname=d user=u", &std::collections::BTreeMap::new(), None).unwrap();
        let mut wire = Wire::new(Transport::Unix(ours), "test".to_owned());
        wire.trust();
        let mut connection = Connection {
            wire,
            settings,
            encrypted: false,
            key: (0, 0),
            version: 170_000,
            transaction: TransactionStatus::Idle,
            busy: false,
        };
        let mut batch = connection.batch(b"COPY t TO STDOUT").await.unwrap();
        let mut question = [0; 22];
        theirs.read_exact(&mut question).await.unwrap();
        theirs.write_all(&message(b'H', &[0, 0, 0])).await.unwrap();
        theirs.write_all(&message(b'N', b"SNOTICE\0VNOTICE\0C00000\0Mbeware\0\0")).await.unwrap();
        // Only the beginning of a row of a gigabyte comes.
        theirs.write_all(&[b'd', 0x3f, 0xff, 0xff, 0xff]).await.unwrap();
        theirs.write_all(&vec![b'x'; 50_000]).await.unwrap();
        let mut came = 0;
        let mut sink = |bytes: &[u8], ends: bool| {
            assert!(!ends);
            came += bytes.len();
            Ok(())
        };
        assert_eq!(batch.step(&mut sink).await.unwrap(), Step::CopyBegan);
        let step = tokio::time::timeout(Duration::from_mins(1), batch.step(&mut sink)).await;
        assert_eq!(step.expect("the rest is not waited for").unwrap(), Step::Data);
        drop(batch);
        assert!(came > 0);
        assert_eq!(connection.take_notices()[0].message, "beware");
    }
}
