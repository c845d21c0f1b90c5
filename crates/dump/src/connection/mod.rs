//! A thin client of the wire protocol (PostgreSQL's documentation, "Frontend/Backend Protocol", version 3.0).
//!
//! Ours, because drivers follow only some of libpq's rules, send session settings that pg_dump does not, assume UTF-8, and hold a
//! whole value in memory. Messages are those of `postgres-protocol`.

mod auth;
mod batch;
mod cancel;
mod certificate;
mod copy;
mod pooler;
mod quote;
mod startup;
mod tls;
mod wire;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bytes::{BufMut, Bytes};
use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::{DataRowBody, ErrorResponseBody, Message, ReadyForQueryBody};
use postgres_protocol::message::frontend;

pub(crate) use self::batch::Step;
pub use self::cancel::CancelToken;
pub use self::copy::{CopyIn, CopyOut};
pub use self::quote::{quote_identifier, quote_identifier_bytes, quote_literal, quote_literal_bytes};
use self::wire::{Wire, decode_error};
use crate::{ConnectSettings, Error, Result, ServerError};

/// How long a server may take to end a session that was ended by us.
const LEAVING: Duration = Duration::from_secs(5);

/// One row of a simple query: text values as the server sent them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row(Vec<Option<Bytes>>);

impl Row {
    /// A column as text (lossy where it is not UTF-8); `None` is NULL or no such column.
    pub fn text(&self, column: usize) -> Option<String> {
        self.bytes(column).map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    }

    /// A column's bytes.
    pub fn bytes(&self, column: usize) -> Option<&Bytes> {
        self.0.get(column).and_then(Option::as_ref)
    }

    /// A column parsed; an error names the column and the text.
    pub fn get<T: FromStr>(&self, column: usize) -> Result<T> {
        let text = self.text(column);
        text.as_deref().and_then(|text| text.parse().ok()).ok_or_else(|| Error::Value {
            column,
            wanted: std::any::type_name::<T>(),
            found: text
                .map_or_else(|| "NULL".to_owned(), |text| format!("{:?}", text.chars().take(80).collect::<String>())),
        })
    }

    /// A column parsed, or `None` if it is NULL.
    pub fn get_optional<T: FromStr>(&self, column: usize) -> Result<Option<T>> {
        self.bytes(column).map(|_| self.get(column)).transpose()
    }

    /// A boolean column (`t`, `f`).
    pub fn is_true(&self, column: usize) -> bool {
        self.bytes(column).is_some_and(|bytes| bytes.as_ref() == b"t")
    }

    /// How many columns there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no column.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Where a session stands in a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionStatus {
    /// In none.
    Idle,
    /// In one.
    Active,
    /// In one that failed and only awaits its ROLLBACK.
    Failed,
}

/// A session on a server. Simple query protocol; text results; no assumption about encodings.
///
/// A future of it that is dropped midway leaves the session where nobody knows; the next call then fails with
/// [`Error::Abandoned`] and the connection is closed. A connection that is dropped is closed; nothing goes on in the background.
pub struct Connection {
    wire: Wire,
    settings: ConnectSettings,
    encrypted: bool,
    /// Process id and secret, for cancelling.
    key: (i32, i32),
    version: u32,
    transaction: TransactionStatus,
    /// An operation has begun and not come to its end.
    busy: bool,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("server", &self.wire.server)
            .field("database", &self.settings.database())
            .field("backend_pid", &self.key.0)
            .field("transaction", &self.transaction)
            .finish_non_exhaustive()
    }
}

/// What a simple query brought.
#[derive(Default)]
struct Outcome {
    rows: Vec<Row>,
    tag: String,
}

impl Connection {
    /// Settings pinned to the very host, address and port this session reached.
    pub fn resolved(&self) -> &ConnectSettings {
        &self.settings
    }

    /// The server's version number, as `server_version_num` has it (170011); of one still in development 190000.
    pub fn server_version(&self) -> u32 {
        self.version
    }

    /// What the server reported of itself and the session (`server_encoding`, `server_version`, `client_encoding`, `in_hot_standby`…).
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.wire.parameters.get(name).map(String::as_str)
    }

    /// The server process's id, as told at startup.
    pub fn backend_pid(&self) -> i32 {
        self.key.0
    }

    /// Whether the session is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.encrypted
    }

    /// Where the session stands in a transaction, by the server's last word.
    pub fn transaction(&self) -> TransactionStatus {
        self.transaction
    }

    /// Whether the session is known to be over.
    pub fn is_closed(&self) -> bool {
        self.wire.is_closed()
    }

    /// Notices and warnings since the last call, the first 1,000 of them.
    pub fn take_notices(&mut self) -> Vec<ServerError> {
        std::mem::take(&mut self.wire.notices)
    }

    /// `SET client_encoding`; texts of statements, rows and errors are in it from now on.
    pub async fn set_client_encoding(&mut self, encoding: &str) -> Result<()> {
        self.execute(format!("SET client_encoding TO {}", quote_literal(encoding))).await.map(drop)
    }

    /// Runs SQL (one or several statements, bytes in the session's client encoding) and returns the last statement's rows.
    /// Holds all of them in memory.
    pub async fn query(&mut self, sql: impl AsRef<[u8]> + Send) -> Result<Vec<Row>> {
        self.run(sql.as_ref()).await.map(|outcome| outcome.rows)
    }

    /// Runs SQL and returns its only row; an error if there are none or several.
    pub async fn query_one(&mut self, sql: impl AsRef<[u8]> + Send) -> Result<Row> {
        let mut rows = self.query(sql).await?;
        match (rows.pop(), rows.is_empty()) {
            (Some(row), true) => Ok(row),
            _ => Err(Error::Statement { problem: "it does not give exactly one row" }),
        }
    }

    /// Runs SQL for its effect; returns the last command tag (`INSERT 0 42`).
    pub async fn execute(&mut self, sql: impl AsRef<[u8]> + Send) -> Result<String> {
        self.run(sql.as_ref()).await.map(|outcome| outcome.tag)
    }

    /// Starts a `COPY … TO STDOUT`.
    pub async fn copy_out(&mut self, sql: impl AsRef<[u8]> + Send) -> Result<CopyOut<'_>> {
        self.start(sql.as_ref()).await?;
        match self.wire.next().await? {
            Message::CopyOutResponse(_) => Ok(CopyOut::new(self)),
            other => Err(self.no_copy(other, "it is no COPY … TO STDOUT").await),
        }
    }

    /// Starts a `COPY … FROM STDIN`.
    pub async fn copy_in(&mut self, sql: impl AsRef<[u8]> + Send) -> Result<CopyIn<'_>> {
        self.start(sql.as_ref()).await?;
        match self.wire.next().await? {
            Message::CopyInResponse(_) => Ok(CopyIn::new(self)),
            other => Err(self.no_copy(other, "it is no COPY … FROM STDIN").await),
        }
    }

    /// Ends the session politely.
    pub async fn close(mut self) -> Result<()> {
        if !self.busy && !self.wire.is_closed() {
            frontend::terminate(&mut self.wire.outbox);
            self.wire.flush().await?;
            self.wire.shut_down().await;
        }
        Ok(())
    }

    /// Ends the session, and waits until the server has ended it too, so that its place is free for another; not for long.
    pub(crate) async fn leave(mut self) -> Result<()> {
        if self.busy || self.wire.is_closed() {
            return Ok(());
        }
        frontend::terminate(&mut self.wire.outbox);
        self.wire.flush().await?;
        // A server process leaves the list of sessions first and hangs up then.
        let _ = tokio::time::timeout(LEAVING, async { while self.wire.fill().await.is_ok() {} }).await;
        self.wire.shut_down().await;
        Ok(())
    }

    /// Sends a simple query.
    async fn start(&mut self, sql: &[u8]) -> Result<()> {
        if self.busy {
            self.wire.close();
            return Err(Error::Abandoned { server: self.wire.server.clone() });
        }
        if sql.contains(&0) {
            return Err(Error::Statement { problem: "it holds a NUL byte" });
        }
        let Some(length) = i32::try_from(sql.len()).ok().and_then(|length| length.checked_add(5)) else {
            return Err(Error::Statement { problem: "it is longer than the protocol allows" });
        };
        self.busy = true;
        let outbox = &mut self.wire.outbox;
        outbox.put_u8(b'Q');
        outbox.put_i32(length);
        outbox.put_slice(sql);
        outbox.put_u8(0);
        let sent = self.wire.flush().await;
        sent.map_err(|lost| self.last_words(lost))
    }

    /// A server that ended the session said why before.
    fn last_words(&mut self, lost: Error) -> Error {
        match self.wire.next_buffered() {
            Ok(Some(Message::ErrorResponse(body))) => Error::Server(Box::new(decode_error(body.fields()))),
            _ => lost,
        }
    }

    async fn run(&mut self, sql: &[u8]) -> Result<Outcome> {
        self.start(sql).await?;
        self.drain(None, None).await
    }

    /// The server refused, or did something else than copying.
    async fn no_copy(&mut self, first: Message, problem: &'static str) -> Error {
        match self.drain(Some(first), None).await {
            Ok(_) => Error::Statement { problem },
            Err(error) => error,
        }
    }

    /// A statement failed: waits until the server is ready again, and gives its error.
    async fn fail(&mut self, body: &ErrorResponseBody) -> Error {
        let error = Error::Server(Box::new(decode_error(body.fields())));
        match self.drain(None, Some(error)).await {
            Err(error) => error,
            Ok(_) => Error::Protocol { server: self.wire.server.clone(), problem: "it took an error back".to_owned() },
        }
    }

    /// Reads to the end of a simple query. The first error is the one that is told; what is told to be one, but came before, likewise.
    async fn drain(&mut self, mut first: Option<Message>, mut failure: Option<Error>) -> Result<Outcome> {
        let mut outcome = Outcome::default();
        let mut rows = Vec::new();
        loop {
            let message = match first.take() {
                Some(message) => message,
                None => match self.wire.next().await {
                    Ok(message) => message,
                    // The last word of a session that was ended.
                    Err(lost) => return Err(failure.unwrap_or(lost)),
                },
            };
            match message {
                Message::RowDescription(_) => rows.clear(),
                Message::DataRow(body) => match row(&body) {
                    Some(row) => rows.push(row),
                    None => return Err(self.wire.broken("a row is not whole")),
                },
                Message::CommandComplete(body) => {
                    outcome.rows = std::mem::take(&mut rows);
                    body.tag().unwrap_or_default().clone_into(&mut outcome.tag);
                }
                Message::EmptyQueryResponse => outcome = Outcome::default(),
                Message::ErrorResponse(body) => {
                    failure.get_or_insert_with(|| Error::Server(Box::new(decode_error(body.fields()))));
                }
                Message::CopyInResponse(_) => {
                    failure.get_or_insert(Error::Statement { problem: "it is a COPY … FROM STDIN" });
                    if let Err(error) = frontend::copy_fail("not expected here", &mut self.wire.outbox) {
                        return Err(self.wire.broken(error.to_string()));
                    }
                    self.wire.flush().await?;
                }
                Message::CopyOutResponse(_) => {
                    failure.get_or_insert(Error::Statement { problem: "it is a COPY … TO STDOUT" });
                }
                Message::CopyData(_) | Message::CopyDone => {}
                Message::ReadyForQuery(body) => {
                    self.ready(&body);
                    return failure.map_or(Ok(outcome), Err);
                }
                _ => return Err(self.wire.broken("an answer does not belong to a simple query")),
            }
        }
    }

    fn ready(&mut self, body: &ReadyForQueryBody) {
        self.busy = false;
        self.transaction = match body.status() {
            b'T' => TransactionStatus::Active,
            b'E' => TransactionStatus::Failed,
            _ => TransactionStatus::Idle,
        };
    }
}

fn row(body: &DataRowBody) -> Option<Row> {
    let values = body.ranges().map(|range| Ok(range.map(|range| body.buffer_bytes().slice(range)))).collect().ok()?;
    Some(Row(values))
}

/// The rows of a command tag: `COPY 42`, `INSERT 0 42`.
fn rows_of_tag(tag: &str) -> u64 {
    tag.rsplit(' ').next().and_then(|rows| rows.parse().ok()).unwrap_or(0)
}
