//! What can go wrong in a codec.

/// What went wrong.
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
    /// A frame holds more plain bytes than its reader wanted.
    #[error("{codec} frame holds more than {limit} bytes")]
    TooLarge {
        /// Name of the format.
        codec: &'static str,
        /// How many bytes were wanted at most.
        limit: usize,
    },
    /// The compressing library failed; memory is the only reason it has.
    #[error("{codec} compression failed: {reason}")]
    Failed {
        /// Name of the format.
        codec: &'static str,
        /// What the library said.
        reason: String,
    },
    /// A compression setting that means nothing.
    #[error("no compression is called {setting:?}; it may be zstd:1 to zstd:19, gzip:1 to gzip:9, lz4 or none")]
    Setting {
        /// What was set.
        setting: String,
    },
}

impl Error {
    /// Whether a stored frame is to blame: another copy of it may be good.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::TooLarge { .. })
    }
}

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;
