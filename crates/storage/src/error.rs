//! What can go wrong in a store.

use std::fmt;

use crate::Location;

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong in a store. Each says the object and the place; none ever holds a secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no such object.
    #[error("{key} is not in {location}")]
    NotFound {
        /// The object's key.
        key: String,
        /// Where it was looked for.
        location: Location,
    },
    /// The bucket or container itself is missing.
    #[error("{location} does not exist")]
    NoStore {
        /// Where.
        location: Location,
        /// What the store said.
        source: Box<Cause>,
    },
    /// The store refused: wrong credentials, or not enough permission.
    #[error("{location} refused to {doing}")]
    Denied {
        /// What was tried, on which object: `write daily/x`.
        doing: String,
        /// Where.
        location: Location,
        /// What the store said.
        source: Box<Cause>,
    },
    /// The store could not be reached, or broke the connection, again and again.
    #[error("{location} could not be reached to {doing}")]
    Unreachable {
        /// What was tried, on which object.
        doing: String,
        /// Where.
        location: Location,
        /// What the network said.
        source: Box<Cause>,
    },
    /// The store stopped answering in the middle.
    #[error("{location} stopped answering when asked to {doing}")]
    Timeout {
        /// What was tried, on which object.
        doing: String,
        /// Where.
        location: Location,
        /// How long was waited, and for what.
        source: Box<Cause>,
    },
    /// The disk is full, or a quota is.
    #[error("no space is left in {location} to {doing}")]
    Full {
        /// What was tried, on which object.
        doing: String,
        /// Where.
        location: Location,
        /// What the file system says is free for us now.
        free_bytes: Option<u64>,
        /// What the store said.
        source: Box<Cause>,
    },
    /// The object is larger than what the store, or the caller, takes.
    #[error("{key} in {location} is larger than {limit_bytes} bytes, the most that {reason}")]
    TooLarge {
        /// The object's key.
        key: String,
        /// Where.
        location: Location,
        /// The most that fits.
        limit_bytes: u64,
        /// Whose limit it is.
        reason: String,
    },
    /// The object lies in an archive tier and has to be thawed before it can be read.
    #[error("{key} in {location} lies in an archive tier and has to be restored from there first")]
    Archived {
        /// The object's key.
        key: String,
        /// Where.
        location: Location,
        /// What the store said.
        source: Box<Cause>,
    },
    /// The bytes asked for are not all in the object.
    #[error("bytes {start} to {end} were asked of {key} in {location}, which has {bytes}")]
    OutOfRange {
        /// The object's key.
        key: String,
        /// Where.
        location: Location,
        /// First byte asked for.
        start: u64,
        /// One past the last byte asked for.
        end: u64,
        /// The object's size.
        bytes: u64,
    },
    /// Somebody replaced the object while it was being read.
    #[error("{key} in {location} was replaced while it was being read")]
    Changed {
        /// The object's key.
        key: String,
        /// Where.
        location: Location,
    },
    /// The store holds another number of bytes than were written.
    #[error("{location} holds {stored_bytes} bytes of {key}, of which {written_bytes} were written")]
    Mismatch {
        /// The object's key.
        key: String,
        /// Where.
        location: Location,
        /// Bytes handed to the store.
        written_bytes: u64,
        /// Bytes it says it has.
        stored_bytes: u64,
    },
    /// A text is no key.
    #[error("{text:?} cannot name an object: {reason}")]
    InvalidKey {
        /// The text.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// What was asked is not possible there: settings that don't go together, a name that is taken by a directory.
    #[error("{location}: {reason}")]
    Invalid {
        /// Where.
        location: Location,
        /// What is wrong.
        reason: String,
    },
    /// The store can't do that.
    #[error("{location} cannot {doing}")]
    Unsupported {
        /// What was tried, on which object.
        doing: String,
        /// Where.
        location: Location,
        /// What the store said.
        source: Box<Cause>,
    },
    /// Anything else the store answered.
    #[error("{location} failed to {doing}")]
    Failed {
        /// What was tried, on which object.
        doing: String,
        /// Where.
        location: Location,
        /// What the store said.
        source: Box<Cause>,
    },
}

/// Classes of errors, by what the caller can do about them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The object is not there.
    NotFound,
    /// The bucket is not there.
    NoStore,
    /// Credentials or permissions are wrong.
    Denied,
    /// Network trouble, or the store is down.
    Unreachable,
    /// The store stopped answering.
    Timeout,
    /// No space left.
    Full,
    /// Larger than the limit.
    TooLarge,
    /// In an archive tier.
    Archived,
    /// The object is shorter than expected, or changed under us.
    Damaged,
    /// A key or a setting is wrong.
    Invalid,
    /// The store can't do that.
    Unsupported,
    /// Anything else.
    Other,
}

/// What a store or the network said, stripped of everything that could be secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// For people.
    pub text: String,
    /// The store's error code (`SignatureDoesNotMatch`), or the system's error name.
    pub code: Option<String>,
    /// The HTTP status, where there is one.
    pub status: Option<u16>,
}

impl Error {
    /// What class of error this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::NoStore { .. } => ErrorKind::NoStore,
            Self::Denied { .. } => ErrorKind::Denied,
            Self::Unreachable { .. } => ErrorKind::Unreachable,
            Self::Timeout { .. } => ErrorKind::Timeout,
            Self::Full { .. } => ErrorKind::Full,
            Self::TooLarge { .. } => ErrorKind::TooLarge,
            Self::Archived { .. } => ErrorKind::Archived,
            Self::OutOfRange { .. } | Self::Changed { .. } | Self::Mismatch { .. } => ErrorKind::Damaged,
            Self::InvalidKey { .. } | Self::Invalid { .. } => ErrorKind::Invalid,
            Self::Unsupported { .. } => ErrorKind::Unsupported,
            Self::Failed { .. } => ErrorKind::Other,
        }
    }

    /// Whether the same call may succeed a little later. Calls are retried inside already: this is for the caller's next run.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Timeout { .. } => true,
            Self::Failed { source, .. } => source.is_passing(),
            _ => false,
        }
    }

    /// The store's own code for it (`AccessDenied`, `RequestTimeTooSkewed`, `ENOSPC`), where it gave one.
    pub fn code(&self) -> Option<&str> {
        self.cause()?.code.as_deref()
    }

    /// What the store said, where it said something.
    pub fn cause(&self) -> Option<&Cause> {
        match self {
            Self::NoStore { source, .. }
            | Self::Denied { source, .. }
            | Self::Unreachable { source, .. }
            | Self::Timeout { source, .. }
            | Self::Full { source, .. }
            | Self::Archived { source, .. }
            | Self::Unsupported { source, .. }
            | Self::Failed { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl Cause {
    /// A cause that is only text.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), code: None, status: None }
    }

    /// Whether the store asks for patience: overload and server errors.
    pub(crate) fn is_passing(&self) -> bool {
        matches!(self.status, Some(408 | 429 | 500 | 502..=599))
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Cause {}
