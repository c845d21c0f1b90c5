//! gzip members (RFC 1952).
//!
//! libdeflate makes them: a block is there as a whole, which is what it is for, and it stores less than zlib at the same level. What comes from a store may be anybody's, and is read by a decoder in Rust.

use std::io::{BufReader, Read};

use flate2::bufread::MultiGzDecoder;
use flate2::{Crc, Decompress, FlushDecompress, Status};
use libdeflater::{CompressionLvl, Compressor};

use crate::pool::Pool;
use crate::{Codec, Error, Result};

const NAME: &str = "gzip";
const MAGIC: [u8; 3] = [0x1f, 0x8b, 8];
/// Deflate cannot make more than this out of one byte.
const LARGEST_RATIO: usize = 1032;

/// libdeflate's level that stores less than zlib's highest, in less time; its own higher ones take several times as long for
/// a hundredth.
const HIGHEST: u8 = 7;

/// gzip at one level.
#[derive(Debug)]
pub(crate) struct Gzip {
    level: u8,
    deflate: Pool<Compressor>,
    inflate: Pool<Decompress>,
}

impl Gzip {
    pub(crate) fn new(level: u8) -> Self {
        Self { level: level.clamp(1, 9), deflate: Pool::new(), inflate: Pool::new() }
    }
}

impl Codec for Gzip {
    fn label(&self) -> String {
        format!("gzip-{}", self.level)
    }

    fn extension(&self) -> &'static str {
        ".gz"
    }

    fn encode(&self, block: &[u8], frame: &mut Vec<u8>) -> Result<()> {
        let begin = frame.len();
        let encoded = self.deflate.lend(
            || Ok(Compressor::new(CompressionLvl::new(self.level.min(HIGHEST).into()).unwrap_or_default())),
            |deflate| {
                frame.resize(begin + deflate.gzip_compress_bound(block.len()), 0);
                deflate.gzip_compress(block, &mut frame[begin..]).map_err(|error| error.to_string())
            },
        );
        match encoded {
            Ok(bytes) => frame.truncate(begin + bytes),
            Err(reason) => {
                frame.truncate(begin);
                return Err(Error::Failed { codec: NAME, reason });
            }
        }
        Ok(())
    }

    fn decode(&self, frame: &[u8], block: &mut Vec<u8>, limit: usize) -> Result<()> {
        let damaged = |reason: &str| Error::Damaged { codec: NAME, reason: reason.to_owned() };
        let body = header_length(frame).ok_or_else(|| damaged("no header of a member"))?;
        let Some((deflated, length)) = frame[body..].split_last_chunk::<4>() else {
            return Err(damaged("no end of a member"));
        };
        let Some((deflated, sum)) = deflated.split_last_chunk::<4>() else {
            return Err(damaged("no end of a member"));
        };
        let (sum, length) = (u32::from_le_bytes(*sum), u32::from_le_bytes(*length) as usize);
        if length > deflated.len().saturating_mul(LARGEST_RATIO) {
            return Err(damaged("its length cannot be"));
        }
        if length > limit {
            return Err(Error::TooLarge { codec: NAME, limit });
        }
        let begin = block.len();
        block.reserve_exact(length + 1);
        let inflated = self.inflate.lend(
            || Ok(Decompress::new(false)),
            |inflate| {
                inflate.reset(false);
                let status = inflate.decompress_vec(deflated, block, FlushDecompress::Finish);
                match status.map_err(|error| damaged(&error.to_string()))? {
                    Status::StreamEnd if inflate.total_in() == deflated.len() as u64 => Ok(()),
                    Status::StreamEnd => Err(damaged("bytes after its end")),
                    _ => Err(damaged("no end of the deflated data")),
                }
            },
        );
        let outcome = inflated.and_then(|()| match &block[begin..] {
            plain if plain.len() != length => Err(damaged("its length differs")),
            plain if checksum(plain) != sum => Err(damaged("its checksum differs")),
            _ => Ok(()),
        });
        if outcome.is_err() {
            block.truncate(begin);
        }
        outcome
    }

    fn reader<'r>(&self, stored: Box<dyn Read + Send + 'r>) -> Result<Box<dyn Read + Send + 'r>> {
        Ok(Box::new(MultiGzDecoder::new(BufReader::with_capacity(128 << 10, stored))))
    }
}

fn checksum(plain: &[u8]) -> u32 {
    let mut checksum = Crc::new();
    checksum.update(plain);
    checksum.sum()
}

/// Length of a member's header, whatever optional fields it has.
fn header_length(member: &[u8]) -> Option<usize> {
    let flags = *member.strip_prefix(&MAGIC)?.first()?;
    let mut at = 10;
    if flags & 0b1110_0000 != 0 {
        return None;
    }
    if flags & 4 != 0 {
        at += 2 + usize::from(u16::from_le_bytes(*member.get(at..)?.first_chunk()?));
    }
    for text in [8, 16] {
        if flags & text != 0 {
            at += member.get(at..)?.iter().position(|&byte| byte == 0)? + 1;
        }
    }
    if flags & 2 != 0 {
        at += 2;
    }
    (at <= member.len()).then_some(at)
}
