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

/// Why a notice could not be delivered.
#[derive(Debug, thiserror::Error)]
#[error("{channel} did not take the notice: {reason}")]
pub struct Error {
    /// The channel's name (`webhook`, `smtp`).
    pub channel: String,
    /// What it said.
    pub reason: String,
}

/// Carries notices to people. A failure is a warning in the run's report, never the run's failure.
#[async_trait]
pub trait Notifier: Debug + Send + Sync {
    /// Delivers one notice.
    async fn notify(&self, notice: &Notice) -> Result<(), Error>;
}
