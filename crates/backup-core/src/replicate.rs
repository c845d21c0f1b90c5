//! Missing copies made good.

use serde::Serialize;

use crate::{Catalog, CatalogEntry, Keeper, Result};

/// What was copied.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ReplicateReport {
    /// Backup name and destination name of every copy made.
    pub copied: Vec<(String, String)>,
    /// What could not be done.
    pub warnings: Vec<String>,
}

impl Keeper {
    /// Copies to every required destination the good backups it misses and policy would keep there, digest checked on the way.
    pub async fn replicate_missing(&self, _catalog: &Catalog) -> Result<ReplicateReport> {
        unimplemented!()
    }
    /// Copies one backup (archive, globals, meta last) from one destination to another.
    pub async fn copy_backup(&self, _entry: &CatalogEntry, _to: usize) -> Result<()> {
        unimplemented!()
    }
}
