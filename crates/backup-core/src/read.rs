//! Reading a backup back: stored bytes → frames → plain archive, every byte checked on the way.

use std::sync::Arc;

use bytes::Bytes;
use pgkeep_dump::PrivateFacts;
use pgkeep_storage::{Key, Storage};

use crate::{CatalogEntry, Keeper, Meta, Result};

/// Something restorable: one copy of a catalogued backup, or a foreign archive (pg_dump -Fc, plain or compressed outside).
#[derive(Debug, Clone)]
pub struct BackupSource {
    /// Its meta; `None` for a foreign archive.
    pub meta: Option<Arc<Meta>>,
    /// The store.
    pub storage: Arc<dyn Storage>,
    /// The archive's key.
    pub key: Key,
    /// For people: `bucket`, or the URL.
    pub place: String,
}

/// The plain archive of a backup as a stream of pieces. After the last piece, `next` gives `None` only if every size and digest matched.
#[derive(Debug)]
pub struct PlainArchive {}

impl BackupSource {
    /// The copy of `entry` that is nearest and readable now.
    pub fn nearest(_keeper: &Keeper, _entry: &CatalogEntry) -> Result<Self> {
        unimplemented!()
    }
    /// A foreign archive.
    pub fn foreign(storage: Arc<dyn Storage>, key: Key) -> Self {
        let place = format!("{}/{key}", storage.location());
        Self { meta: None, storage, key, place }
    }
    /// Opens the whole plain archive; frames are decompressed side by side by up to `jobs` threads, order kept.
    pub async fn open(&self, _jobs: usize) -> Result<PlainArchive> {
        unimplemented!()
    }
    /// Header and TOC only, with as few bytes fetched as can be.
    pub async fn toc(&self) -> Result<Arc<pgkeep_archive::Toc>> {
        unimplemented!()
    }
    /// The globals as SQL, digests checked; `None` if the backup has none.
    pub async fn globals(&self) -> Result<Option<Bytes>> {
        unimplemented!()
    }
    /// The structured facts inside the globals.
    pub async fn private_facts(&self) -> Result<Option<PrivateFacts>> {
        unimplemented!()
    }
}

impl PlainArchive {
    /// The next plain bytes.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        unimplemented!()
    }
}
