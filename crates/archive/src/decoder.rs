//! The streaming reader.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::inner::Inner;
use crate::input::{INT_BYTES, Input, int_of};
use crate::parse::TocParser;
use crate::{Error, Result, Toc};

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

/// What pg_dump writes after the rows of every TABLE DATA block.
pub(crate) const TRAILER: &[u8; 5] = b"\\.\n\n\n";

/// Block types of the format.
pub(crate) const TABLE_DATA_BLOCK: u8 = 1;
pub(crate) const LARGE_OBJECTS_BLOCK: u8 = 3;

/// Payload is gathered from small chunks into events of this size.
const EVENT_BYTES: usize = 256 << 10;

/// Payload that lies together in at least this many bytes is handed on without a copy.
const SLICE_BYTES: usize = 32 << 10;

/// Reads an archive from pushed bytes with bounded memory: the TOC, what was pushed and not yet read, and 256 KiB.
///
/// Push bytes, take events until there is none, and so on; then [`Decoder::finish`]. It accepts exactly what pg_restore
/// can read from a pipe: one block of the right kind for every entry with data, in the order of the TOC, and nothing else.
/// After an error every further call gives that error.
#[derive(Debug, Default)]
pub struct Decoder {
    input: Input,
    phase: Phase,
    ready: VecDeque<Event>,
    toc: Option<Arc<Toc>>,
    /// Position of the next entry whose block may follow.
    next_entry: usize,
    /// Payload that is waiting to become an event.
    payload: Vec<u8>,
    failure: Option<Error>,
}

#[derive(Debug)]
enum Phase {
    Toc { raw: BytesMut, parser: Box<TocParser> },
    BlockType,
    BlockId { entry: Entry },
    LargeObject { entry: Entry },
    Chunks { entry: Entry, stream: Stream },
    End,
}

/// The entry whose block is being read.
#[derive(Debug, Clone, Copy)]
struct Entry {
    dump_id: i32,
    large_objects: bool,
    copy_text: bool,
}

/// Chunks of one entry or one large object.
#[derive(Debug)]
struct Stream {
    /// The large object, if it is one.
    oid: Option<u32>,
    /// Bytes of the current chunk that were not read yet.
    chunk: usize,
    inner: Option<Inner>,
    /// The last chunk was read; what the decompressor still holds is being taken out.
    ended: bool,
    /// Payload given away.
    bytes: u64,
    /// Its last byte.
    last: u8,
}

impl Default for Phase {
    fn default() -> Self {
        Self::Toc { raw: BytesMut::new(), parser: Box::default() }
    }
}

impl Decoder {
    /// A decoder at the beginning of an archive.
    pub fn new() -> Self {
        Self::default()
    }

    /// Hands over the next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.push_bytes(Bytes::copy_from_slice(bytes));
    }

    /// Hands over the next bytes without a copy; best in pieces of 64 KiB and more.
    pub fn push_bytes(&mut self, bytes: Bytes) {
        self.input.push(bytes);
    }

    /// The next event, or `None` when more bytes are needed.
    pub fn next_event(&mut self) -> Result<Option<Event>> {
        if let Some(failure) = &self.failure {
            return Err(failure.repeat());
        }
        let event = self.advance();
        if let Err(failure) = &event {
            self.failure = Some(failure.repeat());
        }
        event
    }

    /// Ends the input: an error with the offset if it ends early or an entry with data had no block.
    ///
    /// Take all events before: unread ones count as an early end.
    pub fn finish(&mut self) -> Result<()> {
        if let Some(event) = self.next_event()? {
            self.ready.push_front(event);
            return Err(Error::OutOfOrder { what: "finish before all events were taken".to_owned() });
        }
        match &self.phase {
            Phase::End => Ok(()),
            _ => Err(Error::damaged(self.received(), self.expected())),
        }
    }

    /// Bytes consumed so far.
    pub fn offset(&self) -> u64 {
        self.input.offset()
    }

    /// Bytes pushed so far.
    pub fn received(&self) -> u64 {
        self.input.received()
    }

    /// The table of contents, once it is complete.
    pub fn toc(&self) -> Option<&Arc<Toc>> {
        self.toc.as_ref()
    }

    fn advance(&mut self) -> Result<Option<Event>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(Some(event));
            }
            let advanced = match &mut self.phase {
                Phase::Toc { .. } => self.read_toc()?,
                Phase::BlockType => self.read_block_type()?,
                &mut Phase::BlockId { entry } => self.read_block_id(entry)?,
                &mut Phase::LargeObject { entry } => self.read_large_object(entry)?,
                Phase::Chunks { entry, stream } => {
                    let ended = stream.read(*entry, &mut self.input, &mut self.payload, &mut self.ready)?;
                    if let Some(End::OfStream) = ended {
                        let entry = *entry;
                        self.phase = if entry.large_objects { Phase::LargeObject { entry } } else { self.next_block() };
                    }
                    ended.is_some()
                }
                Phase::End if self.input.is_empty() => false,
                Phase::End => return Err(Error::damaged(self.offset(), "the end of the archive")),
            };
            if !advanced {
                return Ok(None);
            }
        }
    }

    fn read_toc(&mut self) -> Result<bool> {
        let Phase::Toc { raw, parser } = &mut self.phase else {
            return Ok(true);
        };
        if self.input.is_empty() {
            return Ok(false);
        }
        raw.extend_from_slice(&self.input.take_piece());
        let Some(end) = parser.advance(raw)? else {
            return Ok(true);
        };
        self.input.unread(raw.split_off(end).freeze());
        let toc = Arc::new(std::mem::take(parser).finish(std::mem::take(raw).freeze())?);
        self.toc = Some(Arc::clone(&toc));
        self.ready.push_back(Event::Toc(toc));
        self.phase = self.next_block();
        Ok(true)
    }

    /// What must follow a block: the next entry's, or the end.
    fn next_block(&self) -> Phase {
        if self.due().is_some() { Phase::BlockType } else { Phase::End }
    }

    /// The next entry that has a data block, and its position.
    fn due(&self) -> Option<(usize, &crate::TocEntry)> {
        let toc = self.toc.as_ref()?;
        toc.entries.iter().enumerate().skip(self.next_entry).find(|(_, entry)| entry.has_data)
    }

    fn read_block_type(&mut self) -> Result<bool> {
        let Some((position, due)) = self.due() else {
            return Ok(true);
        };
        let entry =
            Entry { dump_id: due.dump_id, large_objects: due.holds_large_objects(), copy_text: due.holds_copy_text() };
        let offset = self.offset();
        let wanted = if entry.large_objects { LARGE_OBJECTS_BLOCK } else { TABLE_DATA_BLOCK };
        match self.input.byte() {
            None => Ok(false),
            Some(kind) if kind == wanted => {
                self.next_entry = position + 1;
                self.phase = Phase::BlockId { entry };
                Ok(true)
            }
            Some(_) => Err(Error::damaged(offset, self.expected())),
        }
    }

    fn read_block_id(&mut self, entry: Entry) -> Result<bool> {
        let offset = self.offset();
        let Some(dump_id) = self.input.int()? else {
            return Ok(false);
        };
        if dump_id != entry.dump_id {
            return Err(Error::damaged(offset, self.expected()));
        }
        self.ready.push_back(Event::DataStarted { dump_id });
        self.phase = if entry.large_objects {
            Phase::LargeObject { entry }
        } else {
            Phase::Chunks { entry, stream: self.stream(None) }
        };
        Ok(true)
    }

    fn read_large_object(&mut self, entry: Entry) -> Result<bool> {
        let Some(oid) = self.input.int()? else {
            return Ok(false);
        };
        if oid == 0 {
            self.ready.push_back(Event::DataFinished { dump_id: entry.dump_id });
            self.phase = self.next_block();
        } else {
            let oid = oid as u32;
            self.ready.push_back(Event::LargeObjectStarted { dump_id: entry.dump_id, oid });
            self.phase = Phase::Chunks { entry, stream: self.stream(Some(oid)) };
        }
        Ok(true)
    }

    fn stream(&self, oid: Option<u32>) -> Stream {
        let inner = self.toc.as_ref().and_then(|toc| Inner::new(toc.compression));
        Stream { oid, chunk: 0, inner, ended: false, bytes: 0, last: b'\n' }
    }

    /// What should come next, in words.
    fn expected(&self) -> String {
        let title = |dump_id: i32| {
            let title = self.toc.as_ref().and_then(|toc| toc.entry(dump_id)).map(crate::TocEntry::title);
            format!("entry {dump_id} ({})", title.unwrap_or_default())
        };
        match &self.phase {
            Phase::Toc { parser, .. } => parser.expected(),
            Phase::BlockType => match self.due() {
                Some((_, entry)) => format!("the data block of {}", title(entry.dump_id)),
                None => "the end of the archive".to_owned(),
            },
            Phase::BlockId { entry } => format!("the dump id of {}", title(entry.dump_id)),
            Phase::LargeObject { entry } => {
                format!("a large object's OID, or 0 at the end of {}", title(entry.dump_id))
            }
            Phase::Chunks { entry, stream } => {
                let what = if stream.chunk > 0 { "bytes of a chunk" } else { "the length of a chunk" };
                match stream.oid {
                    Some(oid) => format!("{what} of large object {oid}"),
                    None => format!("{what} of {}", title(entry.dump_id)),
                }
            }
            Phase::End => "the end of the archive".to_owned(),
        }
    }
}

/// How a call of [`Stream::read`] ended, other than by want of input.
enum End {
    /// With an event.
    OfPiece,
    /// With the last events of the stream.
    OfStream,
}

impl Stream {
    /// Reads on until there is an event, the stream ends, or input is wanting.
    fn read(
        &mut self,
        entry: Entry,
        input: &mut Input,
        payload: &mut Vec<u8>,
        ready: &mut VecDeque<Event>,
    ) -> Result<Option<End>> {
        // The trailer is not payload, so its length is kept back until more is known to follow.
        let kept = if entry.copy_text { TRAILER.len() } else { 0 };
        while !self.ended {
            if self.chunk == 0 {
                let offset = input.offset();
                match input.int()? {
                    None => return Ok(None),
                    Some(0) => {
                        self.ended = true;
                        break;
                    }
                    Some(length) => {
                        let length = usize::try_from(length);
                        self.chunk = length.map_err(|_| Error::damaged(offset, "a chunk's length, 0 or greater"))?;
                    }
                }
            }
            let count = self.chunk.min(input.piece().len());
            if count == 0 {
                return Ok(None);
            }
            if self.inner.is_some() {
                let offset = input.offset();
                let used = self.inflate(&input.piece()[..count], payload, offset)?;
                input.advance(used);
                self.chunk -= used;
            } else if count >= SLICE_BYTES && self.follow(count, input.piece()) >= kept {
                self.give(entry, std::mem::take(payload).into(), ready);
                let bytes = input.split(count);
                self.chunk -= count;
                self.give(entry, bytes, ready);
                return Ok(Some(End::OfPiece));
            } else {
                let count = count.min(EVENT_BYTES - payload.len());
                payload.extend_from_slice(&input.piece()[..count]);
                input.advance(count);
                self.chunk -= count;
            }
            if payload.len() >= EVENT_BYTES {
                self.flush(entry, payload, kept, ready);
                return Ok(Some(End::OfPiece));
            }
        }
        let offset = input.offset();
        if self.inner.is_some() {
            self.inflate(&[], payload, offset)?;
            if payload.len() >= EVENT_BYTES {
                self.flush(entry, payload, kept, ready);
                return Ok(Some(End::OfPiece));
            }
        }
        self.finish(entry, payload, offset, ready)?;
        Ok(Some(End::OfStream))
    }

    /// Bytes of payload that are certain to come after the next `count`.
    fn follow(&self, count: usize, piece: &[u8]) -> usize {
        if self.chunk > count {
            return self.chunk - count;
        }
        let next = piece[count..].first_chunk::<INT_BYTES>().and_then(|bytes| int_of(*bytes));
        next.and_then(|length| usize::try_from(length).ok()).unwrap_or(0)
    }

    fn inflate(&mut self, piece: &[u8], payload: &mut Vec<u8>, offset: u64) -> Result<usize> {
        let Some(inner) = &mut self.inner else {
            return Ok(0);
        };
        inner.feed(piece, payload, EVENT_BYTES).map_err(|expected| Error::damaged(offset, expected))
    }

    /// Makes an event of the gathered payload but for the `kept` last bytes.
    fn flush(&mut self, entry: Entry, payload: &mut Vec<u8>, kept: usize, ready: &mut VecDeque<Event>) {
        let mut rest = Vec::with_capacity(EVENT_BYTES + kept);
        let end = payload.len() - kept;
        rest.extend_from_slice(&payload[end..]);
        payload.truncate(end);
        self.give(entry, std::mem::replace(payload, rest).into(), ready);
    }

    fn give(&mut self, entry: Entry, bytes: Bytes, ready: &mut VecDeque<Event>) {
        let Some(&last) = bytes.last() else { return };
        self.last = last;
        self.bytes += bytes.len() as u64;
        ready.push_back(match self.oid {
            Some(oid) => Event::LargeObjectData { oid, bytes },
            None => Event::Data { dump_id: entry.dump_id, bytes },
        });
    }

    fn finish(&mut self, entry: Entry, payload: &mut Vec<u8>, offset: u64, ready: &mut VecDeque<Event>) -> Result<()> {
        if self.inner.as_ref().is_some_and(|inner| !inner.may_end()) {
            return Err(Error::damaged(offset, "more compressed data before the end of the last chunk"));
        }
        if entry.copy_text {
            if !payload.ends_with(TRAILER) {
                return Err(Error::damaged(offset, r"\. and three line feeds before the end of table data"));
            }
            payload.truncate(payload.len() - TRAILER.len());
        }
        self.give(entry, std::mem::take(payload).into(), ready);
        if entry.copy_text && self.last != b'\n' {
            return Err(Error::damaged(offset, r"a line feed before the final \. of table data"));
        }
        ready.push_back(match self.oid {
            Some(oid) => Event::LargeObjectFinished { oid, bytes: self.bytes },
            None => Event::DataFinished { dump_id: entry.dump_id },
        });
        Ok(())
    }
}
