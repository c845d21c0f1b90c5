//! zstd frames (RFC 8878).

use std::fmt;
use std::io::{self, BufReader, Cursor, Read};

use zstd::bulk::{Compressor, Decompressor};
use zstd::stream::raw::CParameter;
use zstd::zstd_safe;

use crate::pool::Pool;
use crate::{Codec, Error, Result};

const NAME: &str = "zstd";
const MAGIC: [u8; 4] = 0xFD2F_B528_u32.to_le_bytes();

/// zstd at one level. Frames tell their content's size and carry a checksum.
pub(crate) struct Zstd {
    level: u8,
    compressors: Pool<Compressor<'static>>,
    decompressors: Pool<Decompressor<'static>>,
}

impl Zstd {
    pub(crate) fn new(level: u8) -> Self {
        Self { level: level.clamp(1, 19), compressors: Pool::new(), decompressors: Pool::new() }
    }

    fn compressor(&self) -> io::Result<Compressor<'static>> {
        let mut compressor = Compressor::new(self.level.into())?;
        compressor.set_parameter(CParameter::ContentSizeFlag(true))?;
        compressor.set_parameter(CParameter::ChecksumFlag(true))?;
        Ok(compressor)
    }
}

impl Codec for Zstd {
    fn label(&self) -> String {
        format!("zstd-{}", self.level)
    }

    fn extension(&self) -> &'static str {
        ".zst"
    }

    fn encode(&self, block: &[u8], frame: &mut Vec<u8>) -> Result<()> {
        frame.reserve(zstd_safe::compress_bound(block.len()));
        let begin = frame.len();
        let mut end = Cursor::new(&mut *frame);
        end.set_position(begin as u64);
        let encoded =
            self.compressors.lend(|| self.compressor(), |compressor| compressor.compress_to_buffer(block, &mut end));
        encoded.map(drop).map_err(|error| {
            frame.truncate(begin);
            Error::Failed { codec: NAME, reason: error.to_string() }
        })
    }

    fn decode(&self, frame: &[u8], block: &mut Vec<u8>, limit: usize) -> Result<()> {
        let damaged = |reason: String| Error::Damaged { codec: NAME, reason };
        if !frame.starts_with(&MAGIC) {
            return Err(damaged("no magic number".to_owned()));
        }
        let stored = zstd_safe::find_frame_compressed_size(frame);
        match stored.map_err(|code| damaged(zstd_safe::get_error_name(code).to_owned()))? {
            stored if stored < frame.len() => {
                return Err(damaged("bytes after its end".to_owned()));
            }
            _ => {}
        }
        // A frame that does not tell its size may have all that is allowed.
        let told = zstd_safe::get_frame_content_size(frame).map_err(|error| damaged(error.to_string()))?;
        let room = match told {
            Some(bytes) if bytes > limit as u64 => {
                return Err(Error::TooLarge { codec: NAME, limit });
            }
            Some(bytes) => bytes as usize,
            None => limit,
        };
        block.reserve_exact(room);
        let begin = block.len();
        let mut end = Cursor::new(&mut *block);
        end.set_position(begin as u64);
        let decoded = self
            .decompressors
            .lend(Decompressor::new, |decompressor| decompressor.decompress_to_buffer(frame, &mut end));
        let outcome = match decoded {
            Err(error) => Err(damaged(error.to_string())),
            Ok(bytes) if bytes > limit => Err(Error::TooLarge { codec: NAME, limit }),
            Ok(_) => Ok(()),
        };
        if outcome.is_err() {
            block.truncate(begin);
        }
        outcome
    }

    fn reader<'r>(&self, stored: Box<dyn Read + Send + 'r>) -> Result<Box<dyn Read + Send + 'r>> {
        let stored = BufReader::with_capacity(128 << 10, NotEmpty { stored, begun: false });
        let reader = zstd::stream::read::Decoder::with_buffer(stored);
        let reader = reader.map_err(|error| Error::Failed { codec: NAME, reason: error.to_string() })?;
        Ok(Box::new(reader))
    }
}

impl fmt::Debug for Zstd {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Zstd").field("level", &self.level).finish_non_exhaustive()
    }
}

/// The zstd library takes nothing at all for a stream of no frames.
struct NotEmpty<R> {
    stored: R,
    begun: bool,
}

impl<R: Read> Read for NotEmpty<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.stored.read(buffer)?;
        if count == 0 && !self.begun {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "no zstd frame"));
        }
        self.begun = true;
        Ok(count)
    }
}
