//! The writer of plain blocks.

use std::collections::VecDeque;

use bytes::Bytes;
use memchr::{memchr, memrchr};

use crate::decoder::{LARGE_OBJECTS_BLOCK, TABLE_DATA_BLOCK, TRAILER};
use crate::input::{INT_BYTES, int_bytes};
use crate::{Block, Content, Error, Event, Result, Segment, Toc, TocEntry};

/// Largest chunk that is written. pg_restore holds one chunk in memory.
const CHUNK_BYTES: usize = 256 << 10;

/// Builds the blocks of a re-chunked, uncompressed archive.
///
/// - Chunks are at most 256 KiB and end at rows. A longer row gets chunks of its own, which are [`Content::RowPart`]s.
/// - A block has about `target` bytes, and at most one chunk more. It holds either whole small entries, or a piece of one
///   entry that is too big for a block; the piece begins at a chunk and at a row, unless the row itself is too big for a
///   block.
/// - Blocks are ready only once it is certain what they end with, so that [`Segment`]s are exact.
///
/// The payload is copied once; beyond that, the cost is a search for the last line feed of each piece. Entries must come
/// in the order of the TOC, each with its data; anything else is refused.
#[derive(Debug)]
pub struct BlockWriter {
    target: usize,
    chunk_bytes: usize,
    ready: VecDeque<Block>,
    /// The block that is being filled.
    bytes: Vec<u8>,
    segments: Vec<Segment>,
    begins: Vec<(i32, u32)>,
    ends: Vec<(i32, u32)>,
    /// The entries whose data must still come, in order.
    due: Option<VecDeque<Due>>,
    place: Place,
    /// The entry that is open, and where in this block it begins; `None` if it began in an earlier one.
    entry: Due,
    entry_at: Option<usize>,
    chunk: Option<Chunk>,
}

/// An entry that has data.
#[derive(Debug, Clone, Copy, Default)]
struct Due {
    dump_id: i32,
    large_objects: bool,
    copy_text: bool,
}

impl Due {
    fn of(entry: &TocEntry) -> Self {
        Self { dump_id: entry.dump_id, large_objects: entry.holds_large_objects(), copy_text: entry.holds_copy_text() }
    }

    /// Where the writer stands when the entry is open and nothing of it is being written.
    fn beginning(self) -> Place {
        if self.large_objects { Place::LargeObjects } else { Place::Table { row_open: false } }
    }
}

/// Where in an archive the writer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Beginning,
    BetweenEntries,
    /// In table data; `row_open` if the last chunk ended inside a row.
    Table {
        row_open: bool,
    },
    LargeObjects,
    /// In a large object of which `bytes` were written in closed chunks.
    LargeObject {
        oid: u32,
        bytes: u64,
    },
    End,
}

/// The chunk that is being filled; its length field is written when it is closed.
#[derive(Debug, Clone, Copy)]
struct Chunk {
    /// Where its length field stands in the block.
    at: usize,
    /// One past the last line feed of its payload; the beginning of the payload if there is none.
    rows_end: usize,
}

impl Chunk {
    fn payload_at(self) -> usize {
        self.at + INT_BYTES
    }
}

impl BlockWriter {
    /// A writer of blocks of about `target` plain bytes (64 bytes to 1 GiB).
    pub fn new(target: usize) -> Self {
        let target = target.clamp(64, 1 << 30);
        Self {
            target,
            chunk_bytes: CHUNK_BYTES.min(target),
            ready: VecDeque::new(),
            bytes: Vec::new(),
            segments: Vec::new(),
            begins: Vec::new(),
            ends: Vec::new(),
            due: None,
            place: Place::Beginning,
            entry: Due::default(),
            entry_at: None,
            chunk: None,
        }
    }

    /// A writer of one stretch of an archive that others write the rest of: the data blocks of `entries`, in this order.
    /// With `begun`, an earlier stretch holds the beginning of the first one, up to a row or a large object.
    ///
    /// It is ended by [`Self::finish_stretch`]. All stretches one after another, the first of them header and TOC, are an
    /// archive.
    pub fn stretch<'t>(target: usize, entries: impl IntoIterator<Item = &'t TocEntry>, begun: bool) -> Self {
        let mut writer = Self { place: Place::BetweenEntries, ..Self::new(target) };
        let mut due: VecDeque<Due> = entries.into_iter().map(Due::of).collect();
        if begun && let Some(entry) = due.pop_front() {
            writer.entry = entry;
            writer.place = entry.beginning();
        }
        writer.due = Some(due);
        writer
    }

    /// Writes header and TOC, with inner compression set to none and offsets to "not set".
    pub fn toc(&mut self, toc: &Toc) -> Result<()> {
        if self.place != Place::Beginning {
            return Err(self.refusal("a second table of contents"));
        }
        self.due = Some(toc.data_entries().map(Due::of).collect());
        let plain = toc.plain();
        for piece in plain.chunks(self.target) {
            if self.bytes.len() + piece.len() > self.target {
                self.cut();
            }
            self.reserve();
            self.bytes.extend_from_slice(piece);
        }
        self.place = Place::BetweenEntries;
        Ok(())
    }

    /// Begins the data block of an entry.
    pub fn start(&mut self, dump_id: i32) -> Result<()> {
        let due = self.due.as_ref().and_then(VecDeque::front).copied();
        match (self.place, due) {
            (Place::BetweenEntries, Some(due)) if due.dump_id == dump_id => self.entry = due,
            _ => return Err(self.refusal(&format!("the beginning of entry {dump_id}"))),
        }
        self.due.as_mut().and_then(VecDeque::pop_front);
        if self.bytes.len() >= self.target {
            self.cut();
        }
        self.reserve();
        self.entry_at = Some(self.bytes.len());
        self.begins.push((dump_id, self.bytes.len() as u32));
        self.bytes.push(if self.entry.large_objects { LARGE_OBJECTS_BLOCK } else { TABLE_DATA_BLOCK });
        self.bytes.extend_from_slice(&int_bytes(dump_id));
        self.place = self.entry.beginning();
        Ok(())
    }

    /// COPY text of the current entry, without the final `\.` line. Pieces need not end at rows.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "what comes in pieces comes as `Bytes`, which is cheap to hand over"
    )]
    pub fn data(&mut self, bytes: Bytes) -> Result<()> {
        self.data_slice(&bytes)
    }

    /// As [`Self::data`], from bytes that the caller keeps.
    pub fn data_slice(&mut self, mut bytes: &[u8]) -> Result<()> {
        let Place::Table { mut row_open } = self.place else {
            return Err(self.refusal("table data"));
        };
        while !bytes.is_empty() {
            if self.chunk.is_none() {
                self.open_chunk(!row_open);
            }
            let Some(chunk) = &mut self.chunk else { break };
            let room = self.chunk_bytes - (self.bytes.len() - chunk.payload_at());
            let piece = &bytes[..bytes.len().min(room)];
            // A chunk that goes on with a row ends with it.
            let line_feed = if row_open { memchr(b'\n', piece) } else { memrchr(b'\n', piece) };
            let whole = line_feed.map(|at| at + 1);
            if let Some(whole) = whole {
                chunk.rows_end = self.bytes.len() + whole;
            }
            let fits = bytes.len() <= room;
            let count = match whole {
                Some(whole) if row_open || !fits => whole,
                _ => piece.len(),
            };
            self.bytes.extend_from_slice(&piece[..count]);
            bytes = &bytes[count..];
            if row_open {
                if whole.is_some() || count == room {
                    let last = whole.is_some();
                    self.close_chunk(Content::RowPart { first: false, last });
                    row_open = !last;
                }
            } else if whole.is_some() && !fits {
                self.close_chunk(Content::Rows);
            } else if count == room && whole.is_none() {
                row_open = self.full_without_line_feed();
            }
            self.place = Place::Table { row_open };
        }
        Ok(())
    }

    /// Begins a large object in the current BLOBS entry.
    pub fn start_large_object(&mut self, oid: u32) -> Result<()> {
        if self.place != Place::LargeObjects || oid == 0 {
            return Err(self.refusal(&format!("the beginning of large object {oid}")));
        }
        // The OID stays with the first chunk.
        self.make_room(INT_BYTES);
        self.bytes.extend_from_slice(&int_bytes(oid as i32));
        self.place = Place::LargeObject { oid, bytes: 0 };
        Ok(())
    }

    /// Content of the current large object.
    #[expect(clippy::needless_pass_by_value, reason = "as for `data`")]
    pub fn large_object_data(&mut self, bytes: Bytes) -> Result<()> {
        self.large_object_slice(&bytes)
    }

    /// As [`Self::large_object_data`], from bytes that the caller keeps.
    pub fn large_object_slice(&mut self, mut bytes: &[u8]) -> Result<()> {
        let Place::LargeObject { .. } = self.place else {
            return Err(self.refusal("content of a large object"));
        };
        while !bytes.is_empty() {
            let full = |writer: &Self, chunk: Chunk| writer.bytes.len() - chunk.payload_at() == writer.chunk_bytes;
            if self.chunk.is_some_and(|chunk| full(self, chunk)) {
                self.close_large_object_chunk(false);
            }
            if self.chunk.is_none() {
                self.open_chunk(true);
            }
            let Some(chunk) = self.chunk else { break };
            let room = self.chunk_bytes - (self.bytes.len() - chunk.payload_at());
            let (piece, rest) = bytes.split_at(bytes.len().min(room));
            self.bytes.extend_from_slice(piece);
            bytes = rest;
        }
        Ok(())
    }

    /// Ends the current large object.
    pub fn finish_large_object(&mut self) -> Result<()> {
        let Place::LargeObject { oid, .. } = self.place else {
            return Err(self.refusal("the end of a large object"));
        };
        if self.chunk.is_some() {
            self.close_large_object_chunk(true);
        } else {
            let at = self.bytes.len() as u32;
            let content = Content::LargeObject { oid, offset: 0, last: true };
            self.segments.push(Segment { dump_id: self.entry.dump_id, range: at..at, content });
        }
        self.bytes.extend_from_slice(&int_bytes(0));
        self.place = Place::LargeObjects;
        Ok(())
    }

    /// Ends the current entry.
    pub fn finish_entry(&mut self) -> Result<()> {
        match self.place {
            Place::Table { row_open } => {
                if row_open || self.chunk.is_some_and(|chunk| chunk.rows_end != self.bytes.len()) {
                    return Err(self.refusal("the end of an entry inside a row"));
                }
                if self.chunk.is_some() {
                    self.close_chunk(Content::Rows);
                }
                if self.entry.copy_text {
                    self.bytes.extend_from_slice(&int_bytes(TRAILER.len() as i32));
                    self.bytes.extend_from_slice(TRAILER);
                }
            }
            Place::LargeObjects => {}
            _ => return Err(self.refusal("the end of an entry")),
        }
        self.bytes.extend_from_slice(&int_bytes(0));
        self.ends.push((self.entry.dump_id, self.bytes.len() as u32));
        if self.entry_at.take().is_none() {
            self.cut();
        }
        self.place = Place::BetweenEntries;
        Ok(())
    }

    /// Writes what a [`crate::Decoder`] found; the whole of re-chunking is to pass it every event.
    pub fn event(&mut self, event: &Event) -> Result<()> {
        match event {
            Event::Toc(toc) => self.toc(toc),
            Event::DataStarted { dump_id } => self.start(*dump_id),
            Event::Data { bytes, .. } => self.data_slice(bytes),
            Event::LargeObjectStarted { oid, .. } => self.start_large_object(*oid),
            Event::LargeObjectData { bytes, .. } => self.large_object_slice(bytes),
            Event::LargeObjectFinished { .. } => self.finish_large_object(),
            Event::DataFinished { .. } => self.finish_entry(),
        }
    }

    /// Takes a block that is full; call until `None` after every other call.
    pub fn take(&mut self) -> Option<Block> {
        self.ready.pop_front()
    }

    /// Ends the archive; the rest is then in [`Self::take`].
    pub fn finish(&mut self) -> Result<()> {
        if self.place != Place::BetweenEntries || self.due.as_ref().is_none_or(|due| !due.is_empty()) {
            return Err(self.refusal("the end of the archive"));
        }
        self.cut();
        self.place = Place::End;
        Ok(())
    }

    /// Ends a stretch, between entries, between rows or between large objects; the rest is then in [`Self::take`].
    pub fn finish_stretch(&mut self) -> Result<()> {
        match self.place {
            Place::BetweenEntries | Place::LargeObjects => {}
            Place::Table { row_open: false } if self.chunk.is_none_or(|chunk| chunk.rows_end == self.bytes.len()) => {
                if self.chunk.is_some() {
                    self.close_chunk(Content::Rows);
                }
            }
            _ => return Err(self.refusal("the end of a stretch")),
        }
        self.cut();
        self.place = Place::End;
        Ok(())
    }

    fn refusal(&self, what: &str) -> Error {
        let due = self.due.as_ref().and_then(VecDeque::front);
        let stands = match self.place {
            Place::Beginning => "before the table of contents".to_owned(),
            Place::BetweenEntries => match due {
                Some(due) => format!("where entry {} is due", due.dump_id),
                None => "where the archive is due to end".to_owned(),
            },
            Place::Table { .. } | Place::LargeObjects => format!("in entry {}", self.entry.dump_id),
            Place::LargeObject { oid, .. } => format!("in large object {oid}"),
            Place::End => "after the end of the archive".to_owned(),
        };
        Error::OutOfOrder { what: format!("{what} came {stands}") }
    }

    /// Room for a whole block at once, so that filling it moves nothing.
    fn reserve(&mut self) {
        if self.bytes.capacity() == 0 {
            self.bytes.reserve(self.target + self.chunk_bytes + 16 * INT_BYTES);
        }
    }

    /// Begins a chunk, in a new block if this one is full. `at_row`: its payload begins a row, or is no table data.
    fn open_chunk(&mut self, at_row: bool) {
        if at_row {
            self.make_room(0);
        } else {
            self.make_room_inside_row();
        }
        let at = self.bytes.len();
        self.bytes.extend_from_slice(&[0; INT_BYTES]);
        self.chunk = Some(Chunk { at, rows_end: at + INT_BYTES });
    }

    /// If the block is full, or will be with the next `more` bytes, cuts it before the entry, or here if the entry fills it
    /// alone.
    fn make_room(&mut self, more: usize) {
        if self.bytes.len() + more >= self.target {
            self.cut_before_entry();
        }
        if self.bytes.len() + more >= self.target {
            self.entry_at = None;
            self.cut();
        }
        self.reserve();
    }

    /// The same inside a row whose parts so far are the last segments: cuts before the row, so that it lies in one block; or
    /// here if it is too long for one.
    fn make_room_inside_row(&mut self) {
        if self.bytes.len() >= self.target {
            self.cut_before_entry();
        }
        if self.bytes.len() >= self.target {
            let first = |segment: &Segment| matches!(segment.content, Content::RowPart { first: true, .. });
            let row = self.segments.iter().rposition(first);
            if let Some(row) = row.filter(|&row| row > 0) {
                let at = self.segments[row].range.start as usize - INT_BYTES;
                self.entry_at = None;
                self.cut_at(at);
            }
        }
        if self.bytes.len() >= self.target {
            self.entry_at = None;
            self.cut();
        }
        self.reserve();
    }

    /// An entry that turns out to be big begins a block of its own.
    fn cut_before_entry(&mut self) {
        if let Some(at) = self.entry_at.filter(|&at| at > 0) {
            self.cut_at(at);
            self.entry_at = Some(0);
        }
    }

    /// A chunk is full and the last piece brought no line feed. Gives whether a row goes on in the next chunk.
    fn full_without_line_feed(&mut self) -> bool {
        let Some(chunk) = self.chunk else {
            return false;
        };
        if chunk.rows_end == chunk.payload_at() {
            self.close_chunk(Content::RowPart { first: true, last: false });
            return true;
        }
        let begun = self.bytes.split_off(chunk.rows_end);
        self.close_chunk(Content::Rows);
        self.open_chunk(true);
        self.bytes.extend_from_slice(&begun);
        false
    }

    fn close_large_object_chunk(&mut self, last: bool) {
        let (Place::LargeObject { oid, bytes: offset }, Some(chunk)) = (self.place, self.chunk) else {
            return;
        };
        let bytes = offset + (self.bytes.len() - chunk.payload_at()) as u64;
        self.close_chunk(Content::LargeObject { oid, offset, last });
        self.place = Place::LargeObject { oid, bytes };
    }

    fn close_chunk(&mut self, content: Content) {
        let Some(chunk) = self.chunk.take() else {
            return;
        };
        let payload = chunk.payload_at()..self.bytes.len();
        debug_assert!(!payload.is_empty(), "an empty chunk would end the entry");
        self.bytes[chunk.at..payload.start].copy_from_slice(&int_bytes(payload.len() as i32));
        let range = payload.start as u32..payload.end as u32;
        self.segments.push(Segment { dump_id: self.entry.dump_id, range, content });
    }

    /// Makes a block of all that is written.
    fn cut(&mut self) {
        if self.bytes.is_empty() {
            return;
        }
        let mut bytes = std::mem::take(&mut self.bytes);
        if bytes.len() < bytes.capacity() / 2 {
            bytes.shrink_to_fit();
        }
        self.ready.push_back(Block {
            bytes: bytes.into(),
            segments: std::mem::take(&mut self.segments),
            begins: std::mem::take(&mut self.begins),
            ends: std::mem::take(&mut self.ends),
        });
    }

    /// Makes a block of the first `at` bytes, where no chunk is open.
    fn cut_at(&mut self, at: usize) {
        let after = at as u32;
        let rest = self.bytes.split_off(at);
        let segments = split(&mut self.segments, |segment| segment.range.start >= after);
        let begins = split(&mut self.begins, |&(_, begin)| begin >= after);
        let ends = split(&mut self.ends, |&(_, end)| end > after);
        self.cut();
        self.reserve();
        self.bytes.extend_from_slice(&rest);
        let moved =
            |segment: Segment| Segment { range: segment.range.start - after..segment.range.end - after, ..segment };
        self.segments.extend(segments.into_iter().map(moved));
        self.begins.extend(begins.into_iter().map(|(id, begin)| (id, begin - after)));
        self.ends.extend(ends.into_iter().map(|(id, end)| (id, end - after)));
    }
}

/// Takes away the items from the first on that comes after the cut.
fn split<T>(items: &mut Vec<T>, comes_after: impl Fn(&T) -> bool) -> Vec<T> {
    let at = items.partition_point(|item| !comes_after(item));
    items.split_off(at)
}
