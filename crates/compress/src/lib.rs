//! Compression of blocks into self-contained frames: gzip, zstd, lz4, or none.
//!
//! A [`Codec`] turns one plain block into one frame that stands for itself; the concatenation of frames is a
//! legal file for the format's stock tool. [`Codec::reader`] reads anybody's stream of the format.

use std::fmt::Debug;
use std::io::Read;

/// One compression format at one level. No runtime, no I/O; safe to use from many threads at once.
pub trait Codec: Debug + Send + Sync {
    /// Name and level as in backup metadata: `gzip-9`, `zstd-3`, `lz4`, `none`.
    fn label(&self) -> String;
    /// The file name extension with its dot (`.gz`, `.zst`, `.lz4`), or an empty string.
    fn extension(&self) -> &'static str;
    /// Appends to `frame` one self-contained frame that holds `block`.
    fn encode(&self, block: &[u8], frame: &mut Vec<u8>) -> Result<()>;
    /// Appends to `block` what `frame` holds; refuses damage, trailing bytes, and more than `limit` plain bytes.
    fn decode(&self, frame: &[u8], block: &mut Vec<u8>, limit: usize) -> Result<()>;
    /// A reader of the plain bytes of a whole stream, of one frame or many, from anyone's tool.
    fn reader<'r>(&self, stored: Box<dyn Read + Send + 'r>) -> Result<Box<dyn Read + Send + 'r>>;
}

/// What can go wrong in a codec.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The bytes are not what the format promises.
    #[error("{codec} data is damaged: {reason}")]
    Damaged {
        /// Name of the format.
        codec: &'static str,
        /// What was wrong.
        reason: String,
    },
}

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;
