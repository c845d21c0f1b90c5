//! Removing what retention no longer keeps.

use serde::Serialize;

use crate::{Catalog, Keeper, LockOptions, Policy, Result, RetentionPlan};

/// Options of a prune.
#[derive(Debug, Clone)]
pub struct PruneOptions {
    /// The policy.
    pub policy: Policy,
    /// The lock (not taken again when a backup prunes under its own).
    pub lock: Option<LockOptions>,
}

/// What a prune removed.
#[derive(Debug, Clone, Default, Serialize)]
pub struct PruneReport {
    /// Per destination: name and the executed plan.
    pub plans: Vec<(String, RetentionPlan)>,
    /// Backups removed, copies counted one by one.
    pub removed: u64,
    /// Stored bytes freed.
    pub freed_bytes: u64,
    /// Orphan objects and unfinished uploads swept.
    pub swept: u64,
    /// What could not be done, one line each.
    pub warnings: Vec<String>,
}

impl Keeper {
    /// What [`Self::prune`] would do, per destination.
    pub fn plan_prune(&self, _catalog: &Catalog, _policy: &Policy) -> Vec<(String, RetentionPlan)> {
        unimplemented!()
    }
    /// Removes what the policy does not keep: meta first. Sweeps orphans past the safety age.
    pub async fn prune(&self, _options: &PruneOptions) -> Result<PruneReport> {
        unimplemented!()
    }
}
