//! A keeper over stores that can fail, and what its observer heard.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use chrono::{DateTime, Utc};
use pgkeep_compress::Compression;
use pgkeep_core::{
    BackupClass, BackupOptions, BackupReport, Catalog, CatalogEntry, Clock, Destination, Keeper, Layout, LockOptions,
    Meta, Result,
};
use pgkeep_metrics::{Event, Observer};
use pgkeep_storage::{Key, StorageExt};
use tokio_util::sync::CancellationToken;

use crate::fake::{FakeDump, FlakyStorage, time};

#[derive(Debug)]
struct Stopped;

impl Clock for Stopped {
    fn now(&self) -> DateTime<Utc> {
        time()
    }
}

#[derive(Debug, Default)]
pub(crate) struct Heard(pub(crate) Mutex<Vec<Event>>);

impl Observer for Heard {
    fn notice(&self, event: &Event) {
        self.0.lock().unwrap().push(event.clone());
    }
}

/// A bucket that is required, and a local directory that is not.
pub(crate) struct World {
    pub(crate) bucket: Arc<FlakyStorage>,
    pub(crate) local: Arc<FlakyStorage>,
    pub(crate) keeper: Keeper,
    pub(crate) heard: Arc<Heard>,
}

impl World {
    pub(crate) fn new() -> Self {
        let (bucket, local) = (FlakyStorage::new("bucket"), FlakyStorage::new("local"));
        let heard = Arc::new(Heard::default());
        let destination = |name: &str, storage: &Arc<FlakyStorage>, layout, required, rank| Destination {
            name: name.to_owned(),
            storage: Arc::clone(storage) as _,
            layout,
            required,
            storage_classes: BTreeMap::new(),
            rank,
        };
        let keeper = Keeper {
            destinations: vec![
                destination("local", &local, Layout::Flat, false, 0),
                destination("bucket", &bucket, Layout::ByClass, true, 1),
            ],
            clock: Arc::new(Stopped),
            observer: Arc::clone(&heard) as _,
            cancel: CancellationToken::new(),
            host: "test".to_owned(),
            tool_version: "pgkeep test".to_owned(),
            identities: pgkeep_core::Identities::default(),
        };
        Self { bucket, local, keeper, heard }
    }

    pub(crate) async fn backup(&self, engine: &FakeDump) -> Result<BackupReport> {
        self.keeper.backup(engine, &options("zstd:1")).await
    }

    /// The only backup.
    pub(crate) async fn only(&self) -> CatalogEntry {
        let catalog = Catalog::load(&self.keeper).await.unwrap();
        assert_eq!(catalog.entries.len(), 1);
        assert!(catalog.unreadable.is_empty(), "{:?}", catalog.unreadable);
        catalog.entries.into_iter().next().unwrap()
    }
}

pub(crate) fn options(compression: &str) -> BackupOptions {
    let codec = compression.parse::<Compression>().unwrap().codec();
    BackupOptions { jobs: 3, lock: LockOptions::new("backup"), ..BackupOptions::new(BackupClass::Daily, codec) }
}

/// What a store holds, without locks and the source's record.
pub(crate) async fn keys(storage: &FlakyStorage) -> Vec<String> {
    let all = storage.list_all(&Key::root()).await.unwrap();
    let keys = all.into_iter().map(|object| object.key.to_string());
    keys.filter(|key| !key.starts_with(".pgkeep/") && key != "source.json").collect()
}

pub(crate) async fn bytes(storage: &FlakyStorage, key: &str) -> Vec<u8> {
    storage.read_all(&Key::new(key).unwrap(), 1 << 30).await.unwrap().to_vec()
}

/// The plain archive that `meta`'s backup of `engine` must be.
pub(crate) fn plain(engine: &FakeDump) -> Vec<u8> {
    engine.blocks().1.iter().flat_map(|block| block.bytes.to_vec()).collect()
}

pub(crate) fn table<'m>(meta: &'m Meta, name: &str) -> &'m pgkeep_core::EntryMeta {
    meta.entries.iter().find(|entry| entry.name == name).unwrap()
}
