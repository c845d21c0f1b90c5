//! Getting an archive out of a PostgreSQL server.
//!
//! [`ConnectSettings`] follow libpq's rules and are resolved once; [`Connection`] is a thin client over the wire
//! protocol that streams COPY data in pieces; [`ClientTools`] are the installed `pg_dump`, `pg_restore` and
//! `pg_dumpall`; a [`Dump`] is an engine that yields the archive as a [`DumpStream`].

mod connection;
mod engine;
mod error;
mod facts;
mod settings;
mod tools;

pub use connection::{Connection, CopyIn, CopyOut, Row, quote_identifier, quote_literal};
pub use engine::{Dump, DumpOptions, DumpOutcome, DumpStream, Selection, StreamSegment};
pub use error::{Error, ErrorKind, Result, ServerError};
pub use facts::{PrivateFacts, ServerFacts, SourceIdentity};
pub use settings::{ConnectSettings, SessionSettings};
pub use tools::{ClientTools, Tool};
