//! Old databases that are kept, and what interrupted runs left behind.

use chrono::{DateTime, Utc};
use serde::Serialize;

/// A database that was replaced and is kept under another name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeptDatabase {
    /// Its name: `<live>_before_<stamp>`.
    pub name: String,
    /// When it was replaced.
    pub replaced_at: DateTime<Utc>,
    /// Its size in bytes, where this role may know it.
    pub bytes: Option<u64>,
    /// Its OID.
    pub oid: u32,
}

/// What a rollback will do: the live and a kept database exchange their names again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RollbackPlan {
    /// The live database.
    pub database: String,
    /// The kept one that becomes live.
    pub kept: KeptDatabase,
    /// The name the present live database gets; it is kept too.
    pub kept_as: String,
    /// Open sessions on the live database; they are ended.
    pub sessions: u64,
    /// Reasons why it cannot be carried out.
    pub blockers: Vec<String>,
    /// What should be known before.
    pub warnings: Vec<String>,
    pub(crate) live_oid: Option<u32>,
}

/// What a rollback did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RollbackReport {
    /// The live database.
    pub database: String,
    /// The kept database that is live now.
    pub restored: String,
    /// The name of the one that was live; `None` if there was none.
    pub kept_as: Option<String>,
}

/// Something an interrupted run left behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Leftover {
    /// The live database it belongs to.
    pub database: String,
    /// The half-made or complete new database, where there is one.
    pub name: Option<String>,
    /// When that run began.
    pub begun: Option<DateTime<Utc>>,
    /// The backup that was being restored, where known.
    pub backup: Option<String>,
    /// What is to be done about it.
    pub action: RecoveryAction,
    /// What happened, in one line.
    pub story: String,
}

/// What recovery does about a leftover.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RecoveryAction {
    /// The swap had not happened: the half-made database is dropped.
    Drop,
    /// The swap had happened: nothing is left to do but to say so.
    Note,
    /// A restore in place was cut off: the database is incomplete, and somebody must decide.
    Warn,
}

/// What recovery found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Recovery {
    /// Everything found, in the order of time.
    pub leftovers: Vec<Leftover>,
    /// What could not be done.
    pub warnings: Vec<String>,
}
