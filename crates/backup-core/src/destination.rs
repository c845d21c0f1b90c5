//! Where backups go.

use std::collections::BTreeMap;
use std::sync::Arc;

use pgkeep_storage::{Key, Storage};

use crate::{BackupClass, BackupId, Error, Result};

/// How keys are laid out below a destination's root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// `daily/daily_20251017_030001.dump.zst`: buckets.
    ByClass,
    /// `daily_20251017_030001.dump.zst`: a local directory.
    Flat,
}

/// One place where backups are kept.
#[derive(Debug, Clone)]
pub struct Destination {
    /// Its name in logs and reports: `local`, `bucket`.
    pub name: String,
    /// The store, rooted at the source's prefix.
    pub storage: Arc<dyn Storage>,
    /// The layout of keys.
    pub layout: Layout,
    /// Whether a run fails when this destination does.
    pub required: bool,
    /// Storage class of archives per class; metas, globals, proofs and locks always get the store's default.
    pub storage_classes: BTreeMap<BackupClass, String>,
    /// Reading is nearer (and cheaper) for lower ranks: local 0, bucket 1.
    pub rank: u8,
}

impl Destination {
    /// The key of the archive of `id`, whose file name is `file` (`daily_….dump.zst`).
    pub fn key(&self, id: &BackupId, file: &str) -> Result<Key> {
        let text = match (self.layout, id.class()) {
            (Layout::ByClass, Some(class)) => format!("{class}/{file}"),
            _ => file.to_owned(),
        };
        Key::new(text).map_err(Error::from)
    }
}
