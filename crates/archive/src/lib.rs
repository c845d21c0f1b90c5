//! PostgreSQL's custom archive format (`pg_dump --format=custom`): a streaming reader, and a writer of plain blocks.
//!
//! No I/O of its own and no async. Bytes are pushed into a [`Decoder`], which yields [`Event`]s in archive
//! order with bounded memory; a [`BlockWriter`] turns events into plain [`Block`]s of a re-chunked archive.
//!
//! - Reading: [`Decoder`] for pushed bytes, [`ArchiveReader`] for anything that is [`std::io::Read`]. Formats 1.12 to
//!   1.16 (PostgreSQL 9.0 to 18), uncompressed or with gzip, LZ4 or zstd inside. What is not an archive from its first
//!   to its last byte is refused with the offset and what was expected there.
//! - The table of contents: [`Toc`] and its [`TocEntry`]s; what their SQL says: [`copy_columns`], [`copy_target`],
//!   [`sequence_set`], [`large_object_oids`]; [`list_line`] for `pg_restore --use-list`; [`patch_offsets`] for files in
//!   which pg_restore may seek; [`schema_lines`] to compare the schemas of two databases.
//! - Writing: [`BlockWriter`] cuts an archive into [`Block`]s of bounded size, which say where the [`rows`] lie.
//!
//! The layout follows src/bin/pg_dump/pg_backup_custom.c and pg_backup_archiver.c of PostgreSQL.

mod block;
mod decoder;
mod deparse;
mod error;
mod inner;
mod input;
mod literal;
mod parse;
mod reader;
mod render;
mod rows;
mod schema;
mod statement;
#[cfg(any(test, feature = "synthetic"))]
mod synthetic;
mod toc;
mod writer;

pub use block::{Block, Content, Segment};
pub use decoder::{Decoder, Event};
pub use error::{Error, ErrorKind, Result};
pub use reader::ArchiveReader;
pub use render::patch_offsets;
pub use rows::{Rows, rows};
pub use schema::{SchemaItem, schema_lines};
pub use statement::{SequenceSet, copy_columns, copy_target, large_object_oids, list_line, sequence_set};
#[cfg(any(test, feature = "synthetic"))]
pub use synthetic::{SyntheticArchive, entry as synthetic_entry};
pub use toc::{DataOffset, InnerCompression, PgText, Section, Toc, TocEntry};
pub use writer::BlockWriter;
