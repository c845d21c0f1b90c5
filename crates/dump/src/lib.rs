//! Getting an archive out of a PostgreSQL server.
//!
//! [`ConnectSettings`] follow libpq's rules and are resolved once; [`Connection`] is a thin client over the wire
//! protocol that streams COPY data in pieces; [`ClientTools`] are the installed `pg_dump`, `pg_restore` and
//! `pg_dumpall`; a [`Dump`] is an engine that yields the archive as a [`DumpStream`].
//!
//! - Before a dump: [`Selection::parse`] weighs pg_dump's options, [`ServerFacts`] say what the server and the database
//!   are, [`preflight()`] what the role cannot read or would lose silently.
//! - The dump: [`ParallelEngine`], or [`PgDumpEngine`]; [`Globals`] with the [`PrivateFacts`] that can hold secrets.
//! - For a restore: [`run_pg_restore`] and its siblings, [`judge`] for the errors, [`schema_toc`] for the proof.
//! - A client tool that fails is a [`ChildError`]: why, what it said without what could quote a row, what to do.

mod child;
mod connection;
mod dumps;
mod engine;
mod error;
mod facts;
mod failure;
mod globals;
mod messages;
mod options;
mod parallel;
mod patterns;
mod pg_dump;
mod pg_restore;
mod preflight;
mod private;
mod selection;
mod session;
mod settings;
mod tools;
#[cfg(test)]
mod toys;

pub use connection::{
    CancelToken, Connection, CopyIn, CopyOut, Row, TransactionStatus, quote_identifier, quote_identifier_bytes,
    quote_literal, quote_literal_bytes,
};
pub use engine::{Dump, DumpOptions, DumpOutcome, DumpStream, StreamSegment};
pub use error::{Error, ErrorKind, Result, ServerError};
pub use facts::{PrivateFacts, ServerFacts, SourceIdentity};
pub use failure::{ChildError, ChildFailure};
pub use globals::{Globals, GlobalsPasswords, globals_warnings};
pub use parallel::{OnBlockedDdl, ParallelEngine};
pub use pg_dump::{PgDumpEngine, schema_toc};
pub use pg_restore::{
    Judgement, RestoreError, RestoreOutcome, feed_pg_restore, judge, pg_restore_text, run_pg_restore,
};
pub use preflight::{Finding, LargeObjectReading, Preflight, preflight};
pub use private::PrivateFolder;
pub use selection::{Notice, Selection};
pub use session::SessionSettings;
pub use settings::ConnectSettings;
pub use tools::{ClientTools, Tool};
