//! What can be wrong with an archive, or with the use of this crate.

use std::io;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The bytes are not what the format promises.
    #[error("archive is damaged at byte {offset}: expected {expected}")]
    Damaged {
        /// Bytes from the beginning of the plain archive.
        offset: u64,
        /// What should have stood there.
        expected: String,
    },
    /// A legal archive of a kind that is not read here.
    #[error("{what} is not supported")]
    Unsupported {
        /// The format version or header field, with its value.
        what: String,
    },
    /// The source of the bytes failed.
    #[error("archive could not be read at byte {offset}")]
    Read {
        /// Bytes read before.
        offset: u64,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// A [`crate::BlockWriter`] was called in an order that no archive has.
    #[error("archive cannot be written: {what}")]
    OutOfOrder {
        /// What was asked for, and what was due.
        what: String,
    },
}

/// What the caller can do about an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Nothing with these bytes: take another copy.
    Damaged,
    /// Use PostgreSQL's own tools for this archive, or a newer version of this crate.
    Unsupported,
    /// Read again; the bytes themselves may be good.
    Read,
    /// Correct the calling code.
    Misuse,
}

impl Error {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Damaged { .. } => ErrorKind::Damaged,
            Self::Unsupported { .. } => ErrorKind::Unsupported,
            Self::Read { .. } => ErrorKind::Read,
            Self::OutOfOrder { .. } => ErrorKind::Misuse,
        }
    }

    pub(crate) fn damaged(offset: u64, expected: impl Into<String>) -> Self {
        Self::Damaged { offset, expected: expected.into() }
    }

    /// The same facts once more, for a decoder that is asked again after it failed. Never called on `Read`.
    pub(crate) fn repeat(&self) -> Self {
        match self {
            Self::Damaged { offset, expected } => Self::Damaged { offset: *offset, expected: expected.clone() },
            Self::Unsupported { what } => Self::Unsupported { what: what.clone() },
            Self::OutOfOrder { what } => Self::OutOfOrder { what: what.clone() },
            Self::Read { offset, source } => {
                Self::Read { offset: *offset, source: io::Error::new(source.kind(), source.to_string()) }
            }
        }
    }
}

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;
