//! Messages to people.

use std::fmt::Debug;

use async_trait::async_trait;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// All is well (again).
    Info,
    /// It went on, but somebody should look.
    Warning,
    /// It failed.
    Failure,
}

/// A message to people about a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// How bad it is.
    pub severity: Severity,
    /// One line.
    pub subject: String,
    /// The message: cause, last log lines, next step. Holds no row data and no secret.
    pub body: String,
}

impl Notice {
    /// Says that it is only a test.
    pub fn test(database: &str) -> Self {
        Self {
            severity: Severity::Info,
            subject: format!("pgkeep: test message for {database}"),
            body: "This is what pgkeep monitor test sends. Nothing is wrong.".to_owned(),
        }
    }
}

/// Why a channel did not take what it was given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{channel}: {reason}")]
pub struct Error {
    /// The channel's name (`webhook`, `mail`).
    pub channel: String,
    /// What it said; no secret.
    pub reason: String,
    /// Whether trying again may help.
    pub retryable: bool,
    /// Whether credentials or permissions are what is missing.
    pub denied: bool,
}

impl Error {
    /// What trying again will not change.
    pub fn permanent(channel: &str, reason: impl Into<String>) -> Self {
        Self { channel: channel.to_owned(), reason: reason.into(), retryable: false, denied: false }
    }

    /// What may pass.
    pub fn passing(channel: &str, reason: impl Into<String>) -> Self {
        Self { retryable: true, ..Self::permanent(channel, reason) }
    }
}

/// Carries notices to people. A failure is a warning in the run's report, never the run's failure.
#[async_trait]
pub trait Notifier: Debug + Send + Sync {
    /// The channel's name in logs: `webhook`, `mail`, `SNS topic`.
    fn channel(&self) -> &str;

    /// Tries the channel without telling anybody anything; `None` where that can't be done.
    async fn reach(&self) -> Option<Result<(), Error>> {
        None
    }

    /// Delivers one notice, once; [`Patience::keep_trying`](crate::Patience::keep_trying) is for what fails.
    async fn notify(&self, notice: &Notice) -> Result<(), Error>;
}
