//! One run of a source at a time, across hosts.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{Keeper, Result};

/// How a lock is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockOptions {
    /// What the holder is doing: `backup`, `restore`, `prune`.
    pub purpose: String,
    /// Longest wait for another holder.
    pub wait: Duration,
    /// The lease; renewed at a third of it. Five minutes by default.
    pub lease: Duration,
}

/// What a lock's newest epoch says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockInfo {
    /// The epoch's number, from 1.
    pub epoch: u64,
    /// Host and process.
    pub holder: String,
    /// What for.
    pub purpose: String,
    /// When the lease ends by the store's clock; in the past if released or abandoned.
    pub expires: DateTime<Utc>,
    /// Whether the holder gave it back.
    pub released: bool,
}

/// A held lock. Renewed in the background; dropping it stops renewing, [`release`](Self::release) gives it back.
#[derive(Debug)]
pub struct Lock {}

impl Lock {
    /// Takes the lock of the keeper's source, waiting as told.
    pub async fn acquire(_keeper: &Keeper, _options: &LockOptions) -> Result<Self> {
        unimplemented!()
    }
    /// An error if the lock was lost to another.
    pub fn check(&self) -> Result<()> {
        unimplemented!()
    }
    /// Gives it back.
    pub async fn release(self) -> Result<()> {
        unimplemented!()
    }
    /// Who holds it, per destination that can lock; empty if nobody does.
    pub async fn inspect(_keeper: &Keeper) -> Result<Vec<LockInfo>> {
        unimplemented!()
    }
    /// Breaks it (`pgkeep unlock`): the holder finds out at its next renewal.
    pub async fn break_it(_keeper: &Keeper) -> Result<Vec<LockInfo>> {
        unimplemented!()
    }
}
