//! Frames, read block by block.

use std::hash::Hasher as _;
use std::io::{self, BufRead, Read};

use lz4_flex::block::{DecompressError, decompress_into_with_dict};
use twox_hash::XxHash32;

pub(super) const MAGIC: [u8; 4] = 0x184D_2204_u32.to_le_bytes();
/// The bit of a block's size that says that it is not compressed.
pub(super) const STORED: u32 = 1 << 31;
/// How far back a block may refer.
const HISTORY_BYTES: usize = 64 << 10;
/// A compressed byte makes at most this many plain ones.
const LARGEST_RATIO: usize = 255;

/// Where the bytes of frames come from.
pub(super) trait Source {
    /// The next bytes, or an error if there are not so many.
    fn take(&mut self, count: usize) -> io::Result<&[u8]>;
}

impl Source for &[u8] {
    fn take(&mut self, count: usize) -> io::Result<&[u8]> {
        let (taken, rest) = self.split_at_checked(count).ok_or_else(cut_short)?;
        *self = rest;
        Ok(taken)
    }
}

/// A stream, and what was taken from it last.
struct Buffered<R> {
    stream: R,
    taken: Vec<u8>,
}

impl<R: Read> Source for Buffered<R> {
    fn take(&mut self, count: usize) -> io::Result<&[u8]> {
        self.taken.resize(count, 0);
        self.stream.read_exact(&mut self.taken).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => cut_short(),
            _ => error,
        })?;
        Ok(&self.taken)
    }
}

fn cut_short() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the lz4 frame is cut short")
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the lz4 frame is damaged: {what}"))
}

fn number(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

/// A frame that is being read.
#[derive(Debug)]
pub(super) struct FrameDecoding {
    linked: bool,
    block_sums: bool,
    content_size: Option<u64>,
    content_sum: Option<XxHash32>,
    largest_block: usize,
    bytes: u64,
}

/// What [`FrameDecoding::next_block`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Appended a block.
    Block,
    /// Met the frame's good end.
    End,
    /// Found more content than it had room for.
    NoRoom,
}

impl FrameDecoding {
    /// Reads a frame's descriptor.
    pub(super) fn begin(source: &mut impl Source) -> io::Result<Self> {
        if source.take(4)? != MAGIC {
            return Err(damaged("no magic number"));
        }
        let mut descriptor = source.take(2)?.to_vec();
        let [flags, sizes] = descriptor[..] else { return Err(cut_short()) };
        // Version 01; no reserved bit and no dictionary id.
        if flags & 0b1100_0011 != 0b0100_0000 {
            return Err(damaged("flags"));
        }
        let largest_block = match sizes {
            0x40 => 64 << 10,
            0x50 => 256 << 10,
            0x60 => 1 << 20,
            0x70 => 4 << 20,
            _ => return Err(damaged("block size")),
        };
        if flags & 8 != 0 {
            descriptor.extend_from_slice(source.take(8)?);
        }
        if *source.take(1)? != [(XxHash32::oneshot(0, &descriptor) >> 8) as u8] {
            return Err(damaged("checksum of the descriptor"));
        }
        Ok(Self {
            linked: flags & 0x20 == 0,
            block_sums: flags & 0x10 != 0,
            content_size: descriptor[2..].first_chunk().map(|bytes| u64::from_le_bytes(*bytes)),
            content_sum: (flags & 4 != 0).then(|| XxHash32::with_seed(0)),
            largest_block,
            bytes: 0,
        })
    }

    /// Size of the content, where the frame tells.
    pub(super) fn content_size(&self) -> Option<u64> {
        self.content_size
    }

    /// Appends the next block's content to `plain`, at most `room` bytes of it. What lies there from `begin` on is
    /// content of this frame.
    pub(super) fn next_block(
        &mut self,
        source: &mut impl Source,
        plain: &mut Vec<u8>,
        begin: usize,
        room: usize,
    ) -> io::Result<Step> {
        let size = number(source.take(4)?);
        if size == 0 {
            return self.end(source);
        }
        let (stored, size) = (size & STORED != 0, (size & !STORED) as usize);
        if size == 0 || size > self.largest_block {
            return Err(damaged("size of a block"));
        }
        let field = source.take(size + if self.block_sums { 4 } else { 0 })?;
        let (data, sum) = field.split_at(size);
        if self.block_sums && number(sum) != XxHash32::oneshot(0, data) {
            return Err(damaged("checksum of a block"));
        }
        let filled = plain.len();
        if stored {
            if size > room {
                return Ok(Step::NoRoom);
            }
            plain.extend_from_slice(data);
        } else {
            let most = self.largest_block.min(size.saturating_mul(LARGEST_RATIO));
            let left = self.content_size.map_or(most, |bytes| bytes.saturating_sub(self.bytes) as usize);
            plain.resize(filled + most.min(left).min(room), 0);
            let (before, target) = plain.split_at_mut(filled);
            let history = if self.linked { &before[begin.max(filled.saturating_sub(HISTORY_BYTES))..] } else { &[] };
            match decompress_into_with_dict(data, target, history) {
                Ok(count) => plain.truncate(filled + count),
                Err(DecompressError::OutputTooSmall { .. }) if target.len() == room => return Ok(Step::NoRoom),
                Err(error) => return Err(damaged(&error.to_string())),
            }
        }
        let content = &plain[filled..];
        self.bytes += content.len() as u64;
        if let Some(sum) = &mut self.content_sum {
            sum.write(content);
        }
        Ok(Step::Block)
    }

    fn end(&self, source: &mut impl Source) -> io::Result<Step> {
        if self.content_size.is_some_and(|bytes| bytes != self.bytes) {
            return Err(damaged("size of the content"));
        }
        match &self.content_sum {
            Some(sum) if sum.finish_32() != number(source.take(4)?) => Err(damaged("checksum of the content")),
            _ => Ok(Step::End),
        }
    }
}

/// The plain bytes of a stream of frames.
pub(super) struct Frames<R> {
    source: Buffered<R>,
    place: Place,
    /// Content of the current frame: what later blocks may refer to, and what was not read yet.
    plain: Vec<u8>,
    given: usize,
}

enum Place {
    Beginning,
    InFrame(FrameDecoding),
    BetweenFrames,
    Failed,
}

impl<R: BufRead> Frames<R> {
    pub(super) fn new(stream: R) -> Self {
        let source = Buffered { stream, taken: Vec::new() };
        Self { source, place: Place::Beginning, plain: Vec::new(), given: 0 }
    }

    /// Goes on by one block or one end or beginning of a frame.
    fn step(&mut self) -> io::Result<()> {
        self.place = match std::mem::replace(&mut self.place, Place::Failed) {
            Place::InFrame(mut frame) => {
                let kept = if frame.linked { HISTORY_BYTES } else { 0 };
                self.plain.drain(..self.plain.len().saturating_sub(kept));
                self.given = self.plain.len();
                match frame.next_block(&mut self.source, &mut self.plain, 0, usize::MAX)? {
                    Step::Block => Place::InFrame(frame),
                    Step::End | Step::NoRoom => Place::BetweenFrames,
                }
            }
            Place::Beginning | Place::BetweenFrames => {
                self.plain.clear();
                self.given = 0;
                Place::InFrame(FrameDecoding::begin(&mut self.source)?)
            }
            Place::Failed => return Err(damaged("it was found so before")),
        };
        Ok(())
    }
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let waiting = &self.plain[self.given..];
            if buffer.is_empty() || !waiting.is_empty() {
                let count = waiting.len().min(buffer.len());
                buffer[..count].copy_from_slice(&waiting[..count]);
                self.given += count;
                return Ok(count);
            }
            if matches!(self.place, Place::BetweenFrames) && self.source.stream.fill_buf()?.is_empty() {
                return Ok(0);
            }
            self.step()?;
        }
    }
}
