//! Compression inside archives, undone as bytes arrive.

mod lz4;

use std::fmt;

use flate2::{Decompress, FlushDecompress, Status};
use zstd::stream::raw::{self, InBuffer, Operation, OutBuffer};

use crate::InnerCompression;
use lz4::Lz4Frame;

/// Room made at first for what is decompressed.
const FIRST_BYTES: usize = 16 << 10;

/// The compressed stream of one entry or one large object.
pub(crate) struct Inner {
    format: Format,
    begun: bool,
    ended: bool,
}

enum Format {
    Gzip(Box<Decompress>),
    Lz4(Box<Lz4Frame>),
    Zstd(Box<raw::Decoder<'static>>),
}

impl Inner {
    /// A stream at its beginning; `None` where nothing is compressed.
    pub(crate) fn new(compression: InnerCompression) -> Option<Self> {
        let format = match compression {
            InnerCompression::None => return None,
            InnerCompression::Gzip => Format::Gzip(Box::new(Decompress::new(true))),
            InnerCompression::Lz4 => Format::Lz4(Box::default()),
            InnerCompression::Zstd => Format::Zstd(Box::new(raw::Decoder::new().expect("memory for a zstd context"))),
        };
        Some(Self { format, begun: false, ended: false })
    }

    /// Whether a stream may end here: at its end, or without any byte.
    pub(crate) fn may_end(&self) -> bool {
        self.ended || !self.begun
    }

    /// Reads some of `input` and appends what it holds to `out`, until `out` has a length of `limit` or somewhat more. Gives
    /// the bytes read; fewer than offered only if `out` is full. The error says what was expected.
    pub(crate) fn feed(&mut self, input: &[u8], out: &mut Vec<u8>, limit: usize) -> Result<usize, String> {
        let mut used = 0;
        while out.len() < limit {
            if self.ended {
                let rest = input.len() - used;
                return if rest == 0 { Ok(used) } else { Err("no data after the end of the compressed data".into()) };
            }
            if out.spare_capacity_mut().is_empty() {
                out.reserve((limit - out.len()).min(out.len().max(FIRST_BYTES)));
            }
            let before = out.len();
            let read = self.step(&input[used..], out, limit)?;
            used += read;
            if read == 0 && out.len() == before && !self.ended {
                return if used == input.len() { Ok(used) } else { Err("compressed data that can be read on".into()) };
            }
        }
        Ok(used)
    }

    fn step(&mut self, input: &[u8], out: &mut Vec<u8>, limit: usize) -> Result<usize, String> {
        self.begun |= !input.is_empty();
        match &mut self.format {
            Format::Gzip(stream) => {
                let before = stream.total_in();
                let status = stream.decompress_vec(input, out, FlushDecompress::None);
                let status = status.map_err(|error| format!("a zlib stream ({error})"))?;
                self.ended = status == Status::StreamEnd;
                Ok((stream.total_in() - before) as usize)
            }
            Format::Lz4(frame) => {
                let used = frame.feed(input, out, limit)?;
                self.ended = frame.ended();
                Ok(used)
            }
            Format::Zstd(stream) => {
                let mut source = InBuffer::around(input);
                let filled = out.len();
                let mut target = OutBuffer::around_pos(out, filled);
                let hint = stream.run(&mut source, &mut target);
                let hint = hint.map_err(|error| format!("a zstd frame ({error})"))?;
                self.ended = hint == 0 && self.begun;
                Ok(source.pos())
            }
        }
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let format = match self.format {
            Format::Gzip(_) => "gzip",
            Format::Lz4(_) => "lz4",
            Format::Zstd(_) => "zstd",
        };
        formatter.debug_struct("Inner").field("format", &format).field("ended", &self.ended).finish_non_exhaustive()
    }
}
