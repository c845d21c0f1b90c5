//! Blocks: what travels from a dump to compression.

use std::ops::Range;

use bytes::Bytes;

/// A piece of a plain archive, of bounded size, in archive order.
///
/// The concatenation of all blocks is a legal uncompressed custom archive.
#[derive(Debug, Clone, Default)]
pub struct Block {
    /// The archive's bytes, framing included.
    pub bytes: Bytes,
    /// Which ranges of `bytes` are payload, in order. Bytes in no segment are framing (header, TOC, chunk lengths, `\.`).
    pub segments: Vec<Segment>,
    /// Data entries that begin in this block: dump id and offset of their first byte (the block type byte).
    pub begins: Vec<(i32, u32)>,
    /// Data entries that end in this block: dump id and the offset one past their last byte.
    pub ends: Vec<(i32, u32)>,
}

impl Block {
    /// The entry whose data this block begins with in the middle of, or which begins first in it.
    pub fn entry(&self) -> Option<i32> {
        self.segments.first().map(|segment| segment.dump_id).or_else(|| self.begins.first().map(|&(id, _)| id))
    }
    /// Whether the first payload of the block begins at a row (or is not table data).
    pub fn row_aligned(&self) -> bool {
        !matches!(self.segments.first(), Some(Segment { content: Content::RowPart { first: false, .. }, .. }))
    }
}

/// One run of payload bytes inside a [`Block`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// The TOC entry it belongs to.
    pub dump_id: i32,
    /// Where in the block's bytes, in bytes.
    pub range: Range<u32>,
    /// What it holds.
    pub content: Content,
}

/// What a [`Segment`] holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Whole rows of COPY text, each ending in LF.
    Rows,
    /// A part of one row that is too long for one chunk; the last part ends in LF. The parts of a row lie in one block
    /// unless the row is too long for that as well.
    RowPart {
        /// It begins the row.
        first: bool,
        /// It ends the row (LF included).
        last: bool,
    },
    /// Bytes of one large object, at `offset` of it. An empty one has one empty segment.
    LargeObject {
        /// The large object's OID.
        oid: u32,
        /// Where in the object these bytes lie, in bytes.
        offset: u64,
        /// No more bytes of this object follow.
        last: bool,
    },
}
