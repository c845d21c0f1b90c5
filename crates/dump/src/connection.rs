//! A thin client of the wire protocol.

use bytes::Bytes;

use crate::{ConnectSettings, Result, SessionSettings};

/// One row of a simple query: text values as the server sent them.
#[derive(Debug, Clone)]
pub struct Row(Vec<Option<Bytes>>);

impl Row {
    /// A column as text (lossy where it is not UTF-8); `None` is NULL or no such column.
    pub fn text(&self, _column: usize) -> Option<String> {
        unimplemented!()
    }
    /// A column's bytes.
    pub fn bytes(&self, _column: usize) -> Option<&Bytes> {
        unimplemented!()
    }
    /// A column parsed; an error names the column and the text.
    pub fn get<T: std::str::FromStr>(&self, _column: usize) -> Result<T> {
        unimplemented!()
    }
}

/// A session on a server. Simple query protocol; text results; no assumption about encodings.
#[derive(Debug)]
pub struct Connection {}

impl Connection {
    /// Connects (first host that answers, as libpq does), authenticates, applies `session` by startup options and SETs.
    pub async fn connect(_settings: &ConnectSettings, _session: SessionSettings) -> Result<Self> {
        unimplemented!()
    }
    /// Settings pinned to the very host and port this session reached.
    pub fn resolved(&self) -> &ConnectSettings {
        unimplemented!()
    }
    /// The server's version number, `server_version_num` (e.g. 170011).
    pub fn server_version(&self) -> u32 {
        unimplemented!()
    }
    /// Runs SQL (one or several statements, bytes in the session's client encoding) and returns the last statement's rows.
    pub async fn query(&mut self, _sql: impl AsRef<[u8]> + Send) -> Result<Vec<Row>> {
        unimplemented!()
    }
    /// Runs SQL for its effect; returns the last command tag (`COPY 42`).
    pub async fn execute(&mut self, _sql: impl AsRef<[u8]> + Send) -> Result<String> {
        unimplemented!()
    }
    /// Starts a `COPY … TO STDOUT`.
    pub async fn copy_out(&mut self, _sql: impl AsRef<[u8]> + Send) -> Result<CopyOut<'_>> {
        unimplemented!()
    }
    /// Starts a `COPY … FROM STDIN`.
    pub async fn copy_in(&mut self, _sql: impl AsRef<[u8]> + Send) -> Result<CopyIn<'_>> {
        unimplemented!()
    }
    /// The server process's id.
    pub fn backend_pid(&self) -> i32 {
        unimplemented!()
    }
    /// Refuses a transaction pooler in the server's place.
    pub async fn refuse_pooler(&mut self) -> Result<()> {
        unimplemented!()
    }
    /// `SET client_encoding`; texts of queries and rows are in it from now on.
    pub async fn set_client_encoding(&mut self, _encoding: &str) -> Result<()> {
        unimplemented!()
    }
    /// What the server reported of itself (`server_encoding`, `server_version`…).
    pub fn parameter(&self, _name: &str) -> Option<&str> {
        unimplemented!()
    }
    /// Notices and warnings since the last call.
    pub fn take_notices(&mut self) -> Vec<crate::ServerError> {
        unimplemented!()
    }
    /// Ends the session politely.
    pub async fn close(self) -> Result<()> {
        unimplemented!()
    }
}

/// Data coming out of a COPY, in pieces that need not be rows: a huge value arrives in several.
#[derive(Debug)]
pub struct CopyOut<'c>(std::marker::PhantomData<&'c mut Connection>);

impl CopyOut<'_> {
    /// The next piece; `None` once the server has said `CommandComplete`.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        unimplemented!()
    }
    /// Rows by the command tag; only after `next` gave `None`.
    pub fn rows(&self) -> u64 {
        unimplemented!()
    }
}

/// Data going into a COPY.
#[derive(Debug)]
pub struct CopyIn<'c>(std::marker::PhantomData<&'c mut Connection>);

impl CopyIn<'_> {
    /// Sends bytes of COPY text; waits while the server is slower.
    pub async fn send(&mut self, _bytes: Bytes) -> Result<()> {
        unimplemented!()
    }
    /// Ends the COPY and returns the rows by the command tag.
    pub async fn finish(self) -> Result<u64> {
        unimplemented!()
    }
    /// Gives it up (`CopyFail`) and waits until the server is ready again.
    pub async fn abort(self, _reason: &str) -> Result<()> {
        unimplemented!()
    }
}

/// An identifier, always in double quotes.
pub fn quote_identifier(_name: &str) -> String {
    unimplemented!()
}

/// A literal, `E''` where it holds a backslash.
pub fn quote_literal(_text: &str) -> String {
    unimplemented!()
}
