//! Retention: a pure function from backups, policy and time to keep or remove, with reasons (law 6).

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{BackupClass, BackupId};

/// What is kept of one class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassPolicy {
    /// Days a backup is kept; `None` is forever.
    pub days: Option<u32>,
    /// Never fewer than this many good ones, however old.
    pub at_least: u32,
    /// Never more than this many; `None` is no limit. Never below `at_least`.
    pub at_most: Option<u32>,
}

/// What is kept, per destination name and class.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// By destination name; `*` is any other.
    pub destinations: BTreeMap<String, BTreeMap<BackupClass, ClassPolicy>>,
}

/// What retention needs to know of one backup at one destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keep {
    /// Its name.
    pub id: BackupId,
    /// Its class.
    pub class: BackupClass,
    /// When it was begun.
    pub begun: DateTime<Utc>,
    /// Not known to be damaged.
    pub good: bool,
    /// Verified deep or by restore, well, and not found bad since.
    pub proven: bool,
}

/// Why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Younger than its class's days.
    Young,
    /// Among the class's last `at_least` good ones.
    Among(u32),
    /// The newest good backup of all.
    NewestGood,
    /// The newest proven backup of all.
    NewestProven,
    /// Its time is in the future: a clock is wrong, so nothing is decided on it.
    Future,
    /// No rule for its class.
    NoRule,
    /// Older than its class's days.
    Expired,
    /// More than the class's `at_most`.
    Excess,
}

/// Keep or remove.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Decision {
    /// The backup.
    pub id: BackupId,
    /// Whether it stays.
    pub keep: bool,
    /// Why.
    pub reasons: Vec<Reason>,
}

/// Every decision, in the order of the backups given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RetentionPlan {
    /// The decisions.
    pub decisions: Vec<Decision>,
}

impl RetentionPlan {
    /// Decides.
    pub fn new(_backups: &[Keep], _rules: &BTreeMap<BackupClass, ClassPolicy>, _now: DateTime<Utc>) -> Self {
        unimplemented!()
    }
    /// The backups to remove.
    pub fn removals(&self) -> impl Iterator<Item = &Decision> {
        self.decisions.iter().filter(|decision| !decision.keep)
    }
}
