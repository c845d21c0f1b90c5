//! LZ4 frames (lz4_Frame_format.md of LZ4).
//!
//! They are written here, straight from the block and into the frame, which lz4_flex's encoder cannot do; and read by
//! lz4_flex, but for the ends of frames, where it takes a stream that was cut short for a complete one.

use std::io::{self, BufRead, BufReader, Read};

use lz4_flex::block::{compress_into, get_maximum_output_size};
use lz4_flex::frame::FrameDecoder;
use twox_hash::XxHash32;

use crate::{Codec, Error, Result};

const NAME: &str = "lz4";
const MAGIC: [u8; 4] = 0x184D_2204_u32.to_le_bytes();
/// Version 1; blocks independent; content size and content checksum are there.
const FLAGS: u8 = 0b0110_1100;
/// Blocks of at most 4 MiB.
const SIZES: u8 = 0x70;
const BLOCK_BYTES: usize = 4 << 20;
/// The bit of a block's size that says that it is not compressed.
const STORED: u32 = 1 << 31;

/// LZ4 at its one level.
#[derive(Debug)]
pub(crate) struct Lz4;

impl Codec for Lz4 {
    fn label(&self) -> String {
        NAME.to_owned()
    }

    fn extension(&self) -> &'static str {
        ".lz4"
    }

    fn encode(&self, block: &[u8], frame: &mut Vec<u8>) -> Result<()> {
        let mut descriptor = vec![FLAGS, SIZES];
        descriptor.extend_from_slice(&(block.len() as u64).to_le_bytes());
        frame.extend_from_slice(&MAGIC);
        frame.extend_from_slice(&descriptor);
        frame.push((XxHash32::oneshot(0, &descriptor) >> 8) as u8);
        for piece in block.chunks(BLOCK_BYTES) {
            encode_block(piece, frame);
        }
        frame.extend_from_slice(&[0; 4]);
        frame.extend_from_slice(&XxHash32::oneshot(0, block).to_le_bytes());
        Ok(())
    }

    fn decode(&self, frame: &[u8], block: &mut Vec<u8>, limit: usize) -> Result<()> {
        let begin = block.len();
        let outcome = decode_frame(frame, block, limit);
        if outcome.is_err() {
            block.truncate(begin);
        }
        outcome
    }

    fn reader<'r>(&self, stored: Box<dyn Read + Send + 'r>) -> Result<Box<dyn Read + Send + 'r>> {
        Ok(Box::new(Frames::new(BufReader::with_capacity(128 << 10, stored))))
    }
}

fn encode_block(piece: &[u8], frame: &mut Vec<u8>) {
    let size_at = frame.len();
    let data_at = size_at + 4;
    frame.resize(data_at + get_maximum_output_size(piece.len()), 0);
    let size = match compress_into(piece, &mut frame[data_at..]) {
        Ok(size) if size < piece.len() => {
            frame.truncate(data_at + size);
            size as u32
        }
        _ => {
            frame.truncate(data_at);
            frame.extend_from_slice(piece);
            piece.len() as u32 | STORED
        }
    };
    frame[size_at..data_at].copy_from_slice(&size.to_le_bytes());
}

fn decode_frame(frame: &[u8], block: &mut Vec<u8>, limit: usize) -> Result<()> {
    let damaged = |reason: &str| Error::Damaged { codec: NAME, reason: reason.to_owned() };
    if !frame.starts_with(&MAGIC) {
        return Err(damaged("no magic number"));
    }
    // The content's size, where it is told, decides how much memory is asked for; otherwise it grows with the content.
    let told = frame.get(4).is_some_and(|flags| flags & 8 != 0);
    let told = frame.get(6..).filter(|_| told).and_then(|rest| rest.first_chunk());
    let told = told.map(|bytes| u64::from_le_bytes(*bytes));
    if told.is_some_and(|bytes| bytes > limit as u64) {
        return Err(Error::TooLarge { codec: NAME, limit });
    }
    let mut frames = Frames::new(frame);
    let begin = block.len();
    // An LZ4 byte makes at most 255 of content.
    block.reserve_exact(told.map_or(0, |bytes| (bytes as usize).min(frame.len().saturating_mul(255))));
    loop {
        let filled = block.len();
        let room = limit - (filled - begin);
        if block.capacity() == filled {
            block.reserve_exact((filled - begin).clamp(16 << 10, 1 << 20).min(room.max(1)));
        }
        let step = (block.capacity() - filled).clamp(1, 256 << 10);
        block.resize(filled + step, 0);
        let count = frames.read_frame(&mut block[filled..]).map_err(|error| damaged(&error.to_string()))?;
        block.truncate(filled + count);
        if count > room {
            return Err(Error::TooLarge { codec: NAME, limit });
        }
        if count == 0 {
            break;
        }
    }
    match frames.place {
        Place::BetweenFrames([]) => Ok(()),
        _ => Err(damaged("bytes after its end")),
    }
}

/// The plain bytes of frames, one after the other.
struct Frames<R: BufRead> {
    place: Place<R>,
    /// The first frame was begun: only then may the stream end.
    begun: bool,
}

enum Place<R: Read> {
    /// Each frame gets a decoder of its own: lz4_flex's does not expect the next frame to differ in kind.
    InFrame(Box<FrameDecoder<Watched<R>>>),
    BetweenFrames(R),
    Failed,
}

/// A source that remembers whether its end was met.
struct Watched<R> {
    source: R,
    ended: bool,
}

impl<R: BufRead> Frames<R> {
    fn new(source: R) -> Self {
        Self { place: Place::BetweenFrames(source), begun: false }
    }

    /// Plain bytes of the current frame, begun if need be; 0 at its end. `buffer` has room.
    fn read_frame(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let failed = || io::Error::new(io::ErrorKind::InvalidData, "lz4 frame is damaged");
        let mut decoder = match std::mem::replace(&mut self.place, Place::Failed) {
            Place::InFrame(decoder) => decoder,
            Place::BetweenFrames(source) => Box::new(FrameDecoder::new(Watched { source, ended: false })),
            Place::Failed => return Err(failed()),
        };
        self.begun = true;
        let count = decoder.read(buffer)?;
        self.place = match count {
            0 if decoder.get_ref().ended => {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "lz4 frame is cut short"));
            }
            0 => Place::BetweenFrames(decoder.into_inner().source),
            _ => Place::InFrame(decoder),
        };
        Ok(count)
    }
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if buffer.is_empty() {
                return Ok(0);
            }
            if let Place::BetweenFrames(source) = &mut self.place
                && self.begun
                && source.fill_buf()?.is_empty()
            {
                return Ok(0);
            }
            let count = self.read_frame(buffer)?;
            if count > 0 {
                return Ok(count);
            }
        }
    }
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = loop {
            match self.source.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                outcome => break outcome?,
            }
        };
        self.ended |= count == 0 && !buffer.is_empty();
        Ok(count)
    }
}
