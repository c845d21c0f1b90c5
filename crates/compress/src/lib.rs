//! Compression of blocks into self-contained frames: gzip, zstd, lz4, or none.
//!
//! A [`Codec`] turns one plain block into one frame that stands for itself; the concatenation of frames is a
//! legal file for the format's stock tool. [`Codec::reader`] reads anybody's stream of the format.
//!
//! A codec comes from what was set ([`Compression`], `zstd:3`), from a file's name ([`codec_for_extension`]) or from its
//! first bytes ([`detect`]):
//!
//! ```
//! use pgkeep_compress::{Compression, detect};
//!
//! let codec = "zstd:3".parse::<Compression>()?.codec();
//! let mut frame = Vec::new();
//! codec.encode(b"1\tone\n", &mut frame)?;
//!
//! let mut block = Vec::new();
//! detect(&frame).ok_or("no magic number")?.decode(&frame, &mut block, 1000)?;
//! assert_eq!(block, b"1\tone\n");
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```

mod compression;
mod error;
mod gzip;
mod lz4;
mod plain;
mod pool;
mod zstandard;

use std::fmt::Debug;
use std::io::Read;

pub use compression::{Compression, codec_for_extension, detect};
pub use error::{Error, Result};

/// One compression format at one level. No runtime, no I/O; safe to use from many threads at once.
///
/// Contexts are kept and used again, so clone the [`std::sync::Arc`] rather than making codecs anew.
pub trait Codec: Debug + Send + Sync {
    /// Name and level as in backup metadata: `gzip-9`, `zstd-3`, `lz4`, `none`.
    fn label(&self) -> String;
    /// The file name extension with its dot (`.gz`, `.zst`, `.lz4`), or an empty string.
    fn extension(&self) -> &'static str;
    /// Appends to `frame` one self-contained frame that holds `block`.
    ///
    /// `frame` may be left with room for incompressible data; shrink it before keeping it.
    fn encode(&self, block: &[u8], frame: &mut Vec<u8>) -> Result<()>;
    /// Appends to `block` what `frame` holds; refuses damage, trailing bytes, and more than `limit` plain bytes, without
    /// asking for more memory than that. After an error `block` is as it was.
    fn decode(&self, frame: &[u8], block: &mut Vec<u8>, limit: usize) -> Result<()>;
    /// A reader of the plain bytes of a whole stream, of one frame or many, from anyone's tool.
    ///
    /// A stream that is damaged, ends inside a frame or holds none makes the reader fail, never end early.
    fn reader<'r>(&self, stored: Box<dyn Read + Send + 'r>) -> Result<Box<dyn Read + Send + 'r>>;
}
