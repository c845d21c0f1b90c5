//! PostgreSQL's custom archive format (`pg_dump --format=custom`): a streaming reader, and a writer of plain blocks.
//!
//! No I/O of its own and no async. Bytes are pushed into a [`Decoder`], which yields [`Event`]s in archive
//! order with bounded memory; a [`BlockWriter`] turns events into plain [`Block`]s of a re-chunked archive.

mod block;

pub use block::{Block, Content, Segment};
mod decoder;
mod toc;
mod writer;

pub use decoder::{Decoder, Event};
pub use toc::{DataOffset, InnerCompression, PgText, Section, Toc, TocEntry};
pub use writer::BlockWriter;

/// What is wrong with an archive.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The bytes are not what the format promises.
    #[error("archive is damaged at byte {offset}: expected {expected}")]
    Damaged {
        /// Bytes from the beginning of the plain archive.
        offset: u64,
        /// What should have stood there.
        expected: String,
    },
}

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;
