//! Every backup of a source, wherever its copies are.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use pgkeep_storage::Key;
use serde::Serialize;

use crate::{BackupClass, Keeper, Meta, Proof, Result};

/// The backups of a source. Reading never depends on the layout: every `*.meta` below a destination's root counts.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    /// Newest snapshot first.
    pub entries: Vec<CatalogEntry>,
    /// Destinations that could not be listed in full, with the reason; nothing may be removed on their word.
    pub incomplete: Vec<(String, String)>,
    /// Metas that could not be read, with the reason.
    pub unreadable: Vec<(String, String)>,
}

/// One backup and its copies.
#[derive(Debug, Clone)]
pub struct CatalogEntry {
    /// Its meta.
    pub meta: Arc<Meta>,
    /// Its copies, nearest first.
    pub copies: Vec<Copy>,
    /// What was verified of it, newest first.
    pub proofs: Vec<Proof>,
}

/// One copy of a backup.
#[derive(Debug, Clone, Serialize)]
pub struct Copy {
    /// Index into the keeper's destinations.
    pub destination: usize,
    /// The destination's name.
    pub name: String,
    /// The archive's key.
    #[serde(serialize_with = "as_text")]
    pub key: Key,
    /// The archive's stored size, where it is there.
    pub stored_bytes: Option<u64>,
    /// Its storage class, where the store tells.
    pub storage_class: Option<String>,
}

fn as_text<S: serde::Serializer>(key: &Key, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(key)
}

/// How a backup is chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pick {
    /// The newest; never a pre-restore snapshot unless that class is asked for.
    Latest {
        /// Only of this class.
        class: Option<BackupClass>,
    },
    /// The newest whose snapshot is not after a time.
    Before(DateTime<Utc>),
    /// A name, with or without extension, a unique prefix, or `…/latest.dump.gz`.
    Name(String),
}

impl Catalog {
    /// Lists every destination and reads metas and proofs, many at once.
    pub async fn load(_keeper: &Keeper) -> Result<Self> {
        unimplemented!()
    }

    /// The chosen backup; the error lists what is close.
    pub fn pick(&self, _pick: &Pick) -> Result<&CatalogEntry> {
        unimplemented!()
    }
}
