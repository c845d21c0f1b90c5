//! The streaming reader.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::{Result, Toc};

/// What a [`Decoder`] finds, in archive order.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Header and table of contents are complete.
    Toc(Arc<Toc>),
    /// The data block of an entry begins.
    DataStarted {
        /// The entry.
        dump_id: i32,
    },
    /// Plain payload of a TABLE DATA block (decompressed; the final `\.` line and what follows it left out).
    Data {
        /// The entry.
        dump_id: i32,
        /// COPY text; pieces need not end at rows.
        bytes: Bytes,
    },
    /// A large object begins.
    LargeObjectStarted {
        /// The BLOBS entry.
        dump_id: i32,
        /// The large object.
        oid: u32,
    },
    /// Content of a large object.
    LargeObjectData {
        /// The large object.
        oid: u32,
        /// The next bytes of it.
        bytes: Bytes,
    },
    /// A large object is complete.
    LargeObjectFinished {
        /// The large object.
        oid: u32,
        /// Its length in bytes.
        bytes: u64,
    },
    /// The data block of an entry is complete.
    DataFinished {
        /// The entry.
        dump_id: i32,
    },
}

/// Reads an archive from pushed bytes with bounded memory (the TOC and one chunk piece).
#[derive(Debug, Default)]
pub struct Decoder {
    input: BytesMut,
}

impl Decoder {
    /// A decoder at the beginning of an archive.
    pub fn new() -> Self {
        Self::default()
    }
    /// Hands over the next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
    }
    /// The next event, or `None` when more bytes are needed.
    pub fn next_event(&mut self) -> Result<Option<Event>> {
        unimplemented!()
    }
    /// Ends the input: an error with the offset if it ends early or an entry with data had no block.
    pub fn finish(&mut self) -> Result<()> {
        unimplemented!()
    }
    /// Bytes consumed so far.
    pub fn offset(&self) -> u64 {
        unimplemented!()
    }
}
