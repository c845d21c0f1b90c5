//! LZ4 frames (lz4_Frame_format.md of LZ4).
//!
//! lz4_flex compresses and decompresses blocks. The frames around them are written and read here: straight from and into the
//! caller's memory, which lz4_flex's own frames can't do; and lz4_flex takes a frame that was cut short between two blocks
//! for a whole one.

mod frame;

use std::io::{BufReader, Read};

use lz4_flex::block::{compress_into, get_maximum_output_size};
use twox_hash::XxHash32;

use crate::{Codec, Error, Result};
use frame::{FrameDecoding, Frames, MAGIC, STORED, Step};

const NAME: &str = "lz4";
/// Version 1; blocks independent; content size and content checksum are there.
const FLAGS: u8 = 0b0110_1100;
/// Blocks of at most 4 MiB.
const SIZES: u8 = 0x70;
const BLOCK_BYTES: usize = 4 << 20;

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

fn decode_frame(mut frame: &[u8], block: &mut Vec<u8>, limit: usize) -> Result<()> {
    let damaged = |reason: &str| Error::Damaged { codec: NAME, reason: reason.to_owned() };
    let too_large = || Error::TooLarge { codec: NAME, limit };
    let begin = block.len();
    let mut decoding = FrameDecoding::begin(&mut frame).map_err(|error| damaged(&error.to_string()))?;
    if decoding.content_size().is_some_and(|bytes| bytes > limit as u64) {
        return Err(too_large());
    }
    loop {
        let room = limit - (block.len() - begin);
        match decoding.next_block(&mut frame, block, begin, room) {
            Ok(Step::Block) => {}
            Ok(Step::End) => break,
            Ok(Step::NoRoom) => return Err(too_large()),
            Err(error) => return Err(damaged(&error.to_string())),
        }
    }
    if frame.is_empty() { Ok(()) } else { Err(damaged("bytes after its end")) }
}
