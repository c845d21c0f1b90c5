//! What can go wrong, by what the caller can do about it.

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Classes of errors; the command line maps each to one exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Settings or arguments are wrong.
    Usage,
    /// Nothing matched what was asked for.
    NotFound,
    /// A stored backup is damaged.
    Damaged,
    /// The database is unreachable or refused.
    Database,
    /// A store is unreachable or refused.
    Store,
    /// Another run holds the lock.
    Locked,
    /// The run was cancelled.
    Interrupted,
    /// The run took longer than allowed.
    Timeout,
    /// Anything else.
    Other,
}

/// An error of the core.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A store failed.
    #[error("storage failed at {location}")]
    Storage {
        /// Where.
        location: String,
        /// Why.
        #[source]
        source: pgkeep_storage::Error,
    },
    /// A key was not valid.
    #[error("a name in the repository is not valid")]
    Key(#[from] pgkeep_storage::Error),
    /// The dump failed.
    #[error("the dump failed")]
    Dump(#[from] pgkeep_dump::Error),
    /// An archive is damaged.
    #[error("the archive of {backup} is damaged")]
    Archive {
        /// Which backup.
        backup: String,
        /// How.
        #[source]
        source: pgkeep_archive::Error,
    },
    /// A frame could not be decompressed.
    #[error("frame {frame} of {backup} is damaged")]
    Frame {
        /// Which backup.
        backup: String,
        /// Which frame, from 0.
        frame: u64,
        /// How.
        #[source]
        source: pgkeep_compress::Error,
    },
    /// A stored object is not what its meta says.
    #[error("{object} is damaged: {reason}")]
    Damaged {
        /// Which object.
        object: String,
        /// What does not match.
        reason: String,
    },
    /// A meta can't be read.
    #[error("{object} is not a readable meta: {reason}")]
    Meta {
        /// Which object.
        object: String,
        /// Why.
        reason: String,
    },
    /// A meta was written by a newer version.
    #[error("{object} has format version {found}; this version reads up to {supported}")]
    NewerFormat {
        /// Which object.
        object: String,
        /// Its version.
        found: u32,
        /// Ours.
        supported: u32,
    },
    /// A backup is encrypted, and no key was given.
    #[error("{object} is encrypted, and no key was given")]
    KeyMissing {
        /// What is encrypted.
        object: String,
        /// Whom it is encrypted to, as far as is known.
        recipients: Vec<String>,
    },
    /// A backup is encrypted, and none of the keys given opens it.
    #[error("{object} is encrypted, and no key that was given opens it")]
    KeyWrong {
        /// What is encrypted.
        object: String,
        /// Whom it is encrypted to, as far as is known.
        recipients: Vec<String>,
    },
    /// Something that was to be encrypted to is no public key. It is not quoted: it may be a secret.
    #[error("recipient {number} can't be used: {reason}")]
    Recipient {
        /// Which, counted from 1.
        number: usize,
        /// Why.
        reason: String,
    },
    /// Nothing matched.
    #[error("no backup matches {wanted}")]
    NotFound {
        /// What was asked for.
        wanted: String,
        /// What there is that is close to it.
        candidates: Vec<String>,
    },
    /// Several match.
    #[error("{wanted} can be more than one backup")]
    Ambiguous {
        /// What was asked for.
        wanted: String,
        /// What it can be.
        candidates: Vec<String>,
    },
    /// Another source's backups lie under this prefix.
    #[error("{location} holds backups of another source ({recorded}); this is {found}")]
    ForeignSource {
        /// Where.
        location: String,
        /// Whose they are.
        recorded: String,
        /// What is connected now.
        found: String,
    },
    /// Another run holds the lock.
    #[error("{location} is locked by {holder} until {expires}")]
    Locked {
        /// Where.
        location: String,
        /// Who.
        holder: String,
        /// When its lease ends, RFC 3339.
        expires: String,
    },
    /// The lock was lost while working.
    #[error("the lock at {location} was lost to another run")]
    LockLost {
        /// Where.
        location: String,
    },
    /// The name of a backup was taken by another run while this one was at work.
    #[error("{object} is there already: another run took the same name")]
    NameTaken {
        /// What is there.
        object: String,
    },
    /// Every required destination must hold the backup; one does not.
    #[error("the backup is not at {destination}")]
    Destination {
        /// Its name.
        destination: String,
        /// Where a copy does exist.
        copies: Vec<String>,
        /// Why.
        #[source]
        source: Box<Error>,
    },
    /// The run was cancelled.
    #[error("interrupted")]
    Interrupted,
    /// The run took longer than allowed.
    #[error("not done within {seconds} s")]
    Timeout {
        /// The limit.
        seconds: u64,
    },
    /// Options that don't go together, or are out of range.
    #[error("{0}")]
    Usage(String),
    /// Where an export was written to failed.
    #[error("what is exported could not be written")]
    Sink(#[source] std::io::Error),
    /// A task of ours ended without an answer.
    #[error("an internal task failed: {0}")]
    Task(String),
}

impl Error {
    /// What class of error this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Storage { .. } | Self::Destination { .. } => ErrorKind::Store,
            Self::Dump(_) => ErrorKind::Database,
            Self::Archive { .. } | Self::Frame { .. } | Self::Damaged { .. } | Self::Meta { .. } => ErrorKind::Damaged,
            Self::NewerFormat { .. }
            | Self::KeyMissing { .. }
            | Self::KeyWrong { .. }
            | Self::Recipient { .. }
            | Self::Usage(_)
            | Self::Key(_)
            | Self::ForeignSource { .. } => ErrorKind::Usage,
            Self::NotFound { .. } | Self::Ambiguous { .. } => ErrorKind::NotFound,
            Self::Locked { .. } | Self::LockLost { .. } | Self::NameTaken { .. } => ErrorKind::Locked,
            Self::Interrupted => ErrorKind::Interrupted,
            Self::Timeout { .. } => ErrorKind::Timeout,
            Self::Sink(_) | Self::Task(_) => ErrorKind::Other,
        }
    }
}
