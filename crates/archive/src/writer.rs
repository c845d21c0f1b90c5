//! The writer of plain blocks.

use bytes::Bytes;

use crate::{Block, Result, Toc};

/// Builds the blocks of a re-chunked, uncompressed archive: chunks of at most 256 KiB that end at rows, blocks of about
/// `target` bytes; several small entries share a block; the payload of a big entry begins a block of its own at a row.
#[derive(Debug)]
pub struct BlockWriter {
    target: usize,
    ready: std::collections::VecDeque<Block>,
}

impl BlockWriter {
    /// A writer of blocks of about `target` plain bytes.
    pub fn new(target: usize) -> Self {
        Self { target, ready: std::collections::VecDeque::new() }
    }
    /// Writes header and TOC, with inner compression set to none and offsets to "not set".
    pub fn toc(&mut self, _toc: &Toc) -> Result<()> {
        let _ = self.target;
        unimplemented!()
    }
    /// Begins the data block of an entry.
    pub fn start(&mut self, _dump_id: i32) -> Result<()> {
        unimplemented!()
    }
    /// COPY text of the current entry, without the final `\.` line.
    pub fn data(&mut self, _bytes: Bytes) -> Result<()> {
        unimplemented!()
    }
    /// Begins a large object in the current BLOBS entry.
    pub fn start_large_object(&mut self, _oid: u32) -> Result<()> {
        unimplemented!()
    }
    /// Content of the current large object.
    pub fn large_object_data(&mut self, _bytes: Bytes) -> Result<()> {
        unimplemented!()
    }
    /// Ends the current large object.
    pub fn finish_large_object(&mut self) -> Result<()> {
        unimplemented!()
    }
    /// Ends the current entry.
    pub fn finish_entry(&mut self) -> Result<()> {
        unimplemented!()
    }
    /// Takes a block that is full; call until `None` after every other call.
    pub fn take(&mut self) -> Option<Block> {
        self.ready.pop_front()
    }
    /// Ends the archive; the rest is then in [`Self::take`].
    pub fn finish(&mut self) -> Result<()> {
        unimplemented!()
    }
}
