//! LZ4 frames, as bytes arrive.
//!
//! lz4_flex reads frames from a `Read` only, and loses its place when bytes are late; so the frame's few fields
//! are read here and its blocks handed to lz4_flex. Layout: lz4_Frame_format.md of LZ4.

use std::hash::Hasher as _;

use lz4_flex::block::decompress_into_with_dict;
use twox_hash::XxHash32;

const MAGIC: [u8; 4] = 0x184D_2204_u32.to_le_bytes();
/// How far back a block may refer.
const HISTORY_BYTES: usize = 64 << 10;
/// The bit of a block's size that says that it is not compressed.
const STORED: u32 = 1 << 31;

/// One frame.
#[derive(Debug, Default)]
pub(super) struct Lz4Frame {
    state: State,
    /// Bytes of the field that is being read.
    field: Vec<u8>,
    linked: bool,
    block_checksums: bool,
    content_checksum: Option<XxHash32>,
    content_size: Option<u64>,
    largest_block: usize,
    /// The last block's plain bytes, and how many of them were given away.
    block: Vec<u8>,
    given: usize,
    history: Vec<u8>,
    total: u64,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Descriptor,
    BlockSize,
    Block {
        size: usize,
        stored: bool,
    },
    Checksum,
    Ended,
}

impl Lz4Frame {
    pub(super) fn ended(&self) -> bool {
        self.state == State::Ended && self.given == self.block.len()
    }

    /// As [`super::Inner::feed`].
    pub(super) fn feed(&mut self, input: &[u8], out: &mut Vec<u8>, limit: usize) -> Result<usize, String> {
        let mut used = 0;
        loop {
            let waiting = &self.block[self.given..];
            let count = waiting.len().min(limit.saturating_sub(out.len()));
            out.extend_from_slice(&waiting[..count]);
            self.given += count;
            if self.given < self.block.len() || self.state == State::Ended {
                return Ok(used);
            }
            let wanted = self.field_bytes()? - self.field.len();
            let rest = &input[used..];
            let count = wanted.min(rest.len());
            self.field.extend_from_slice(&rest[..count]);
            used += count;
            if count < wanted {
                return Ok(used);
            }
            // The descriptor's length is known only after its first bytes.
            if self.field.len() == self.field_bytes()? {
                self.read_field()?;
                self.field.clear();
            }
        }
    }

    fn field_bytes(&self) -> Result<usize, String> {
        match self.state {
            State::Descriptor => match self.field.get(4) {
                None => Ok(6),
                Some(flags) => Ok(7 + if flags & 8 != 0 { 8 } else { 0 }),
            },
            State::BlockSize | State::Checksum => Ok(4),
            State::Block { size, .. } => Ok(size + if self.block_checksums { 4 } else { 0 }),
            State::Ended => Err("no data after the end of the LZ4 frame".to_owned()),
        }
    }

    fn read_field(&mut self) -> Result<(), String> {
        match self.state {
            State::Descriptor => self.read_descriptor()?,
            State::BlockSize => {
                let size = self.field_number();
                let stored = size & STORED != 0;
                let size = (size & !STORED) as usize;
                self.state = match size {
                    0 if !stored => self.end_of_blocks()?,
                    1.. if size <= self.largest_block => State::Block { size, stored },
                    _ => return Err(format!("an LZ4 block of 1 to {} bytes", self.largest_block)),
                };
            }
            State::Block { size, stored } => {
                self.read_block(size, stored)?;
                self.state = State::BlockSize;
            }
            State::Checksum => {
                let checksum = self.content_checksum.as_ref().map(XxHash32::finish_32);
                if checksum != Some(self.field_number()) {
                    return Err("the LZ4 frame's content checksum".to_owned());
                }
                self.state = State::Ended;
            }
            State::Ended => {}
        }
        Ok(())
    }

    fn read_descriptor(&mut self) -> Result<(), String> {
        let [a, b, c, d, flags, sizes, ..] = self.field[..] else {
            return Err("an LZ4 frame".to_owned());
        };
        if [a, b, c, d] != MAGIC {
            return Err("an LZ4 frame's magic number".to_owned());
        }
        // Version 01; no reserved bit and no dictionary id.
        if flags & 0b1100_0011 != 0b0100_0000 {
            return Err("an LZ4 frame's flags".to_owned());
        }
        self.largest_block = match sizes {
            0x40 => 64 << 10,
            0x50 => 256 << 10,
            0x60 => 1 << 20,
            0x70 => 4 << 20,
            _ => return Err("an LZ4 frame's block size".to_owned()),
        };
        let (descriptor, checksum) = self.field[4..].split_at(self.field.len() - 5);
        if checksum != [(XxHash32::oneshot(0, descriptor) >> 8) as u8] {
            return Err("the LZ4 frame descriptor's checksum".to_owned());
        }
        self.linked = flags & 0x20 == 0;
        self.block_checksums = flags & 0x10 != 0;
        self.content_size = descriptor[2..].first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
        self.content_checksum = (flags & 4 != 0).then(|| XxHash32::with_seed(0));
        self.state = State::BlockSize;
        Ok(())
    }

    fn read_block(&mut self, size: usize, stored: bool) -> Result<(), String> {
        let (data, checksum) = self.field.split_at(size);
        if self.block_checksums && checksum != XxHash32::oneshot(0, data).to_le_bytes() {
            return Err("the LZ4 block's checksum".to_owned());
        }
        self.block.clear();
        self.given = 0;
        if stored {
            self.block.extend_from_slice(data);
        } else {
            self.block.resize(self.largest_block, 0);
            let count = decompress_into_with_dict(data, &mut self.block, &self.history);
            self.block.truncate(count.map_err(|error| format!("an LZ4 block ({error})"))?);
        }
        self.total += self.block.len() as u64;
        if let Some(checksum) = &mut self.content_checksum {
            checksum.write(&self.block);
        }
        if self.linked {
            let fresh = self.block.len().min(HISTORY_BYTES);
            let stale = (self.history.len() + fresh).saturating_sub(HISTORY_BYTES);
            self.history.drain(..stale);
            self.history.extend_from_slice(&self.block[self.block.len() - fresh..]);
        }
        Ok(())
    }

    fn end_of_blocks(&self) -> Result<State, String> {
        match self.content_size {
            Some(size) if size != self.total => Err(format!("{size} bytes in the LZ4 frame, not {}", self.total)),
            _ if self.content_checksum.is_some() => Ok(State::Checksum),
            _ => Ok(State::Ended),
        }
    }

    fn field_number(&self) -> u32 {
        self.field.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
    use proptest::prelude::*;

    use super::*;

    fn encode(info: FrameInfo, plain: &[u8]) -> Vec<u8> {
        let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    fn decode(stored: &[u8], piece: usize, limit: usize) -> Result<Vec<u8>, String> {
        let mut frame = Lz4Frame::default();
        let mut plain = Vec::new();
        for piece in stored.chunks(piece) {
            let mut rest = piece;
            loop {
                let mut out = Vec::new();
                let used = frame.feed(rest, &mut out, limit)?;
                assert!(out.len() <= limit);
                rest = &rest[used..];
                if used == 0 && out.is_empty() {
                    assert!(rest.is_empty() || frame.ended());
                    break;
                }
                plain.extend_from_slice(&out);
            }
        }
        if frame.ended() { Ok(plain) } else { Err("more".to_owned()) }
    }

    proptest! {
        #[test]
        fn every_kind_of_frame_is_read_in_any_pieces(
            seed in proptest::collection::vec(any::<u8>(), 0..300),
            times in 1..2000_usize,
            linked: bool,
            sums: [bool; 3],
            piece in 1..70_000_usize,
            limit in 1..100_000_usize,
        ) {
            let plain = seed.repeat(times);
            let info = FrameInfo::new()
                .block_mode(if linked { BlockMode::Linked } else { BlockMode::Independent })
                .block_size(BlockSize::Max64KB)
                .block_checksums(sums[0])
                .content_checksum(sums[1])
                .content_size(sums[2].then_some(plain.len() as u64));
            let stored = encode(info, &plain);
            prop_assert!(decode(&stored, piece, limit.max(plain.len() / 500)).unwrap() == plain);
        }
    }

    #[test]
    fn truncation_and_flipped_bits_in_checked_frames_are_refused() {
        let plain = b"a row of text\n".repeat(500);
        let stored = encode(FrameInfo::new().block_mode(BlockMode::Linked).content_checksum(true), &plain);
        for end in 0..stored.len() {
            assert!(decode(&stored[..end], 7, 100).is_err(), "cut at {end}");
        }
        for bit in 0..stored.len() * 8 {
            let mut damaged = stored.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            // A match may be found at another distance too: the bytes differ then, their meaning doesn't.
            assert!(decode(&damaged, 1000, 10_000).map_or(true, |read| read == plain), "bit {bit}");
        }
    }
}
