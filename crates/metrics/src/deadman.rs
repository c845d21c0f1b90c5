//! Services that miss the run that never came.

use std::fmt::{self, Debug};

use async_trait::async_trait;

use crate::Error;

/// What a dead-man service is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// The run begins.
    Start,
    /// It succeeded.
    Success,
    /// It failed.
    Fail,
}

/// One run, by a random UUID (version 4): ties its start to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RunId(u128);

impl RunId {
    /// A new one.
    pub fn random() -> Self {
        const VERSION: u128 = 0xf << 76;
        const VARIANT: u128 = 0b11 << 62;
        Self((rand::random::<u128>() & !VERSION & !VARIANT) | (4 << 76) | (0b10 << 62))
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = format!("{:032x}", self.0);
        write!(f, "{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
    }
}

/// Hears that a run began and how it ended. Its failures are warnings.
#[async_trait]
pub trait DeadMan: Debug + Send + Sync {
    /// The channel's name in logs.
    fn channel(&self) -> &str;

    /// Tells it, once. `message` is shown there: no row data, no secret.
    async fn signal(&self, signal: Signal, run: RunId, message: &str) -> Result<(), Error>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_id_is_a_uuid_of_version_4() {
        let (one, other) = (RunId::random(), RunId::random());
        assert_ne!(one, other);
        let text = one.to_string();
        assert_eq!(text.len(), 36);
        assert_eq!(text.as_bytes()[14], b'4', "{text}");
        assert!(b"89ab".contains(&text.as_bytes()[19]), "{text}");
    }
}
