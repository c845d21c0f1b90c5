//! The extended query protocol, for values that would be twice as long, and slow to read, as text.

use bytes::{BufMut, Bytes, BytesMut};
use postgres_protocol::IsNull;
use postgres_protocol::message::frontend::{self, BindError};

use super::{Connection, Row};
use crate::{Error, Result};

/// How a value travels (the protocol's format codes).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// As its type's output function writes it.
    Text,
    /// As its type's send function writes it: a bytea is its bytes.
    Binary,
}

impl Format {
    fn code(self) -> i16 {
        match self {
            Self::Text => 0,
            Self::Binary => 1,
        }
    }
}

/// A value in its type's binary form (`typreceive`), in as many pieces as its caller has it.
pub type BinaryValue = Vec<Bytes>;

impl Connection {
    /// Runs one statement once for each of `runs`, which hold the values of `$1`, `$2`… in binary form; all in one transaction, the
    /// session's own if it is in one. Rows are passed over.
    ///
    /// Everything is sent before an answer is awaited, so `runs` should have a megabyte or so together.
    pub async fn execute_each<'v>(
        &mut self,
        sql: &str,
        runs: impl IntoIterator<Item = &'v [BinaryValue]> + Send,
    ) -> Result<()> {
        self.begin()?;
        let outbox = &mut self.wire.outbox;
        let mut written = frontend::parse("", sql, [], outbox).map_err(BindError::Serialization);
        for run in runs {
            written = written.and_then(|()| run_once(run, &[], outbox));
        }
        self.sync(written).await?;
        self.drain(None, None).await.map(drop)
    }

    /// Runs a query without parameters whose columns come in these forms; see [`Self::query`] otherwise.
    pub async fn query_formatted(&mut self, sql: &str, columns: &[Format]) -> Result<Vec<Row>> {
        self.begin()?;
        let outbox = &mut self.wire.outbox;
        let parsed = frontend::parse("", sql, [], outbox).map_err(BindError::Serialization);
        let written = parsed.and_then(|()| run_once(&[], columns, outbox));
        self.sync(written).await?;
        self.drain(None, None).await.map(|outcome| outcome.rows)
    }

    /// Sends what was written, if it could be, and asks for an answer to all of it.
    async fn sync(&mut self, written: Result<(), BindError>) -> Result<()> {
        if written.is_err() {
            // Nothing was sent yet: the session stands where it stood.
            self.wire.outbox.clear();
            self.busy = false;
            return Err(Error::Statement { problem: "it, or one of its values, is longer than the protocol allows" });
        }
        frontend::sync(&mut self.wire.outbox);
        let sent = self.wire.flush().await;
        sent.map_err(|lost| self.last_words(lost))
    }
}

fn run_once(values: &[BinaryValue], columns: &[Format], outbox: &mut BytesMut) -> Result<(), BindError> {
    let serializer = |value: &BinaryValue, buffer: &mut BytesMut| {
        value.iter().for_each(|piece| buffer.put_slice(piece));
        Ok(IsNull::No)
    };
    let formats = columns.iter().map(|format| format.code());
    frontend::bind("", "", [Format::Binary.code()], values, serializer, formats, outbox)?;
    frontend::execute("", 0, outbox).map_err(BindError::Serialization)
}
