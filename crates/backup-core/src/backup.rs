//! Making a backup.

use std::sync::Arc;
use std::time::Duration;

use pgkeep_compress::Codec;
use pgkeep_dump::{Dump, Selection};
use serde::Serialize;

use crate::run::Run;
use crate::{
    BackupClass, BackupId, Keeper, LockOptions, Meta, Policy, PruneReport, Recipients, ReplicateReport, Result,
    RetentionPlan, SweepPlan,
};

/// Options of a backup.
#[derive(Debug, Clone)]
pub struct BackupOptions {
    /// Class.
    pub class: BackupClass,
    /// Compression.
    pub codec: Arc<dyn Codec>,
    /// Blocks compressed at once.
    pub jobs: usize,
    /// What of the database is dumped (for the meta; the engine was built with it).
    pub selection: Selection,
    /// The source's name; `None` takes what `source.json` says, or the database's name.
    pub source_name: Option<String>,
    /// Goes on under a prefix that holds another source's backups.
    pub take_over: bool,
    /// How the lock is taken.
    pub lock: LockOptions,
    /// Retention applied after a success; `None` removes nothing.
    pub policy: Option<Policy>,
    /// Longest duration of the whole run.
    pub timeout: Option<Duration>,
    /// Role passwords in globals are in this backup.
    pub role_passwords: bool,
    /// Whom it is encrypted to; `None` leaves it readable.
    pub encryption: Option<Recipients>,
}

impl BackupOptions {
    /// A backup of the whole database with four jobs: no wait for the lock, no time limit, nothing removed.
    pub fn new(class: BackupClass, codec: Arc<dyn Codec>) -> Self {
        Self {
            class,
            codec,
            jobs: 4,
            selection: Selection::default(),
            source_name: None,
            take_over: false,
            lock: LockOptions::new("backup"),
            policy: None,
            timeout: None,
            role_passwords: false,
            encryption: None,
        }
    }
}

/// What a backup would do (`--dry-run`).
#[derive(Debug, Clone, Serialize)]
pub struct BackupPlan {
    /// The name it would get.
    pub id: BackupId,
    /// The archive's file name.
    pub file: String,
    /// The database's size in bytes.
    pub database_bytes: u64,
    /// Where it would go: destination name and location.
    pub destinations: Vec<(String, String)>,
    /// What retention would remove, per destination.
    pub retention: Vec<(String, RetentionPlan)>,
    /// What interrupted runs left and would be swept, per destination.
    pub sweep: Vec<SweepPlan>,
    /// Warnings of the preflight.
    pub warnings: Vec<String>,
}

/// What became of one destination.
#[derive(Debug, Clone, Serialize)]
pub struct DestinationReport {
    /// Its name.
    pub name: String,
    /// Its location.
    pub location: String,
    /// Whether it is required.
    pub required: bool,
    /// Whether it now holds the whole backup.
    pub stored: bool,
    /// Why not.
    pub error: Option<String>,
    /// The archive's key there.
    pub key: String,
}

/// What a backup did.
#[derive(Debug, Clone, Serialize)]
pub struct BackupReport {
    /// The backup.
    pub meta: Arc<Meta>,
    /// Per destination.
    pub destinations: Vec<DestinationReport>,
    /// Dump, compression and upload together.
    pub elapsed: Duration,
    /// Copies of earlier backups made good.
    pub replicated: ReplicateReport,
    /// What retention removed.
    pub pruned: Option<PruneReport>,
    /// Warnings, the meta's included.
    pub warnings: Vec<String>,
}

impl Keeper {
    /// What [`Self::backup`] would do; connects and lists, writes nothing.
    pub async fn plan_backup(&self, engine: &dyn Dump, options: &BackupOptions) -> Result<BackupPlan> {
        Run::new(self, engine, options)?.plan().await
    }

    /// Makes one backup: lock, source check, missing copies made good, dump → compress → store everywhere at once,
    /// globals, stored objects checked, meta last, retention.
    ///
    /// A destination that fails is set aside and the others go on. If it is a required one, the backup ends in
    /// [`Error::Destination`](crate::Error::Destination), which names the copies that do exist, and nothing old is removed. Nothing is visible as a
    /// backup before its meta is there, and the meta is written when everything else is proven to be (laws 1 and 2).
    /// Cancelled ([`Keeper::cancel`]) or out of time, it gives up what it was writing and ends what it started.
    /// The future may be dropped at any time; then that is done in the background.
    pub async fn backup(&self, engine: &dyn Dump, options: &BackupOptions) -> Result<BackupReport> {
        let mut run = Run::new(self, engine, options)?;
        let facts = run.connect().await?;
        let lock = run.lock().await?;
        let outcome = run.locked(facts, &lock).await;
        let released = lock.release().await;
        let mut report = outcome?;
        if let Err(error) = released {
            run.warn(&format!("the lock could not be given back, it ends by itself: {error}"));
        }
        report.warnings = run.warnings;
        Ok(report)
    }
}
