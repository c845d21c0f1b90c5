//! Events of a run and who hears them.

use std::fmt::Debug;
use std::time::Duration;

/// Hears what happens. Called from any thread; must return at once and cannot fail the run.
pub trait Observer: Debug + Send + Sync {
    /// Takes note of one event.
    fn notice(&self, event: &Event);
}

/// An observer that hears nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Discard;

impl Observer for Discard {
    fn notice(&self, _event: &Event) {}
}

/// The stages of a run, in the order in which they come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Stage {
    /// Connecting to the server and reading its facts.
    Connect,
    /// Waiting for the lock of the source.
    Lock,
    /// Copying to a destination what an earlier run could not.
    Replicate,
    /// Dumping, compressing and storing.
    Dump,
    /// Completing and checking the stored objects.
    Publish,
    /// Removing old backups.
    Prune,
    /// Reading and checking a stored backup.
    Verify,
    /// Creating schema, before the data.
    PreData,
    /// Loading rows and large objects.
    Data,
    /// Indexes, constraints and the rest, after the data.
    PostData,
    /// Collecting planner statistics.
    Analyze,
    /// Comparing what came back with what was there.
    Proof,
    /// Exchanging the databases' names.
    Swap,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// A stage begins.
    StageStarted {
        /// Which one.
        stage: Stage,
        /// What it works on, for people: a database, a backup's name.
        subject: String,
    },
    /// A stage has ended well.
    StageFinished {
        /// Which one.
        stage: Stage,
        /// How long it took.
        elapsed: Duration,
    },
    /// How far the current stage is. Sent often; totals are estimates.
    Progress {
        /// Which stage.
        stage: Stage,
        /// Plain bytes so far.
        plain_bytes: u64,
        /// Plain bytes expected in the end, where known.
        total_bytes: Option<u64>,
        /// Tables (or other items) done.
        items: u64,
        /// Tables (or other items) in all, where known.
        total_items: Option<u64>,
    },
    /// Something people should read in the log: a fact, in one line.
    Info {
        /// The line.
        message: String,
    },
    /// Something is not as it should be, and the run goes on.
    Warning {
        /// The line.
        message: String,
    },
    /// A detail for `--verbose`.
    Detail {
        /// The line.
        message: String,
    },
}
