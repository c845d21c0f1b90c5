//! The ground that a fault is tried on: a bucket and a local directory with a history, a keeper that works through stores
//! that can fail, and a look at what is really there.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use pgkeep_core::{
    BackupClass, BackupOptions, Catalog, CatalogEntry, ClassPolicy, Destination, Keeper, Layout, Policy, VerifyDepth,
};
use pgkeep_storage::{DiskStorage, Key, Location, ObjectStorage, Storage, StorageExt};
use pgkeep_testkit::{FaultyStorage, TimedStorage};

use crate::fake::{FakeDump, small, time};
use crate::hours::{SkewedClock, Time};
use crate::world::{Heard, options};

/// What the stores are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Memory,
    Disk,
}

/// Names of the places, in the keeper's order.
pub(crate) const PLACES: [&str; 2] = ["local", "bucket"];
pub(crate) const LOCAL: usize = 0;
pub(crate) const BUCKET: usize = 1;

/// Archives that somebody else left, with and without metadata; and a file that is none.
pub(crate) const FOREIGN: &str = "daily_20250901_030001.dump.gz";
pub(crate) const FOREIGN_BARE: &str = "daily_20250902_030001.dump.gz";
const NOTES: &str = "notes.txt";
const FOREIGN_META: &str = r#"{"backup_file": "daily_20250901_030001.dump.gz", "backup_type": "daily",
 "date": "2025-09-01T03:00:01+00:00", "hostname": "old", "database_url": "***REDACTED***", "compression": "gzip-9"}"#;

/// The backup that an interrupted run left without a meta.
const ORPHAN: &str = "daily_20251001_030001.dump.zst";

/// One object as it lies in a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Object {
    pub(crate) bytes: Bytes,
    pub(crate) written_ms: i64,
}

/// All objects of a store.
pub(crate) type Contents = BTreeMap<String, Object>;

/// A history that was made once, for many grounds.
#[derive(Debug, Clone)]
pub(crate) struct History {
    places: [Contents; 2],
    now: DateTime<Utc>,
}

/// A place: the store, and the way to it that can fail.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) store: TimedStorage,
    pub(crate) faulty: FaultyStorage,
    folder: Option<tempfile::TempDir>,
}

pub(crate) struct Ground {
    pub(crate) time: Time,
    pub(crate) places: [Place; 2],
    pub(crate) keeper: Keeper,
    engine: FakeDump,
    pub(crate) heard: Arc<Heard>,
}

/// Fifteen days, and never fewer than one daily.
pub(crate) fn policy() -> Policy {
    let rule = |class| ClassPolicy { days: Some(15), at_least: u32::from(class == BackupClass::Daily), at_most: None };
    let rules = BackupClass::ALL.map(|class| (class, rule(class)));
    Policy { destinations: BTreeMap::from([("*".to_owned(), rules.into())]) }
}

/// A daily backup that makes missing copies good, removes what expired and sweeps what was left.
pub(crate) fn full_options() -> BackupOptions {
    BackupOptions { policy: Some(policy()), jobs: 2, ..options("zstd:1") }
}

impl Place {
    fn new(name: &str, kind: Kind, time: &Time) -> Self {
        let clock = time.clone();
        let (inner, folder): (Arc<dyn Storage>, _) = match kind {
            Kind::Memory => (Arc::new(ObjectStorage::memory()), None),
            Kind::Disk => {
                let folder = tempfile::tempdir().unwrap();
                let root = folder.path().canonicalize().unwrap();
                (Arc::new(DiskStorage::open(root).unwrap()), Some(folder))
            }
        };
        let location = Location::new(if name == "local" { "file:///local" } else { "memory://bucket" });
        let store = TimedStorage::new(inner, location, move || clock.now().timestamp_millis());
        Self { faulty: FaultyStorage::new(Arc::new(store.clone())), store, folder }
    }

    /// What is really there.
    pub(crate) async fn contents(&self) -> Contents {
        let mut contents = Contents::new();
        for info in self.store.list_all(&Key::root()).await.unwrap() {
            let bytes = self.store.read_all(&info.key, 1 << 30).await.unwrap();
            contents.insert(info.key.to_string(), Object { bytes, written_ms: info.modified_ms });
        }
        contents
    }

    async fn put(&self, key: &str, object: &Object) {
        let key = Key::new(key).unwrap();
        self.store.put(&key, object.bytes.clone()).await.unwrap();
        self.store.set_written(&key, object.written_ms);
    }

    /// Files that were begun under temporary names, made old.
    pub(crate) fn age_partial_files(&self, then: DateTime<Utc>) -> usize {
        let Some(folder) = &self.folder else { return 0 };
        let partial = partial_files(folder.path());
        for path in &partial {
            std::fs::File::options().write(true).open(path).unwrap().set_modified(then.into()).unwrap();
        }
        partial.len()
    }
}

fn partial_files(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| if path.is_dir() { partial_files(&path) } else { vec![path] })
        .filter(|path| path.to_string_lossy().contains(".partial-"))
        .collect()
}

impl Ground {
    /// Two empty places.
    pub(crate) fn bare(kind: Kind, now: DateTime<Utc>) -> Self {
        let time = Time::new(now);
        let places = PLACES.map(|name| Place::new(name, kind, &time));
        let destination = |index: usize| Destination {
            name: PLACES[index].to_owned(),
            storage: Arc::new(places[index].faulty.clone()),
            layout: if index == LOCAL { Layout::Flat } else { Layout::ByClass },
            required: index == BUCKET,
            storage_classes: BTreeMap::new(),
            rank: index as u8,
        };
        let heard = Arc::new(Heard::default());
        let mut keeper = Keeper::new(vec![destination(LOCAL), destination(BUCKET)], "host");
        keeper.clock = Arc::new(SkewedClock::new(&time));
        keeper.observer = Arc::clone(&heard) as _;
        let engine = FakeDump { block_bytes: 1 << 10, ..FakeDump::new(&small()) };
        Self { time, places, keeper, engine, heard }
    }

    /// The places as they are after this history.
    pub(crate) async fn after(history: &History, kind: Kind) -> Self {
        let ground = Self::bare(kind, history.now);
        for (place, contents) in ground.places.iter().zip(&history.places) {
            for (key, object) in contents {
                place.put(key, object).await;
            }
        }
        ground
    }

    /// What is really at each place.
    pub(crate) async fn contents(&self) -> [Contents; 2] {
        [self.places[LOCAL].contents().await, self.places[BUCKET].contents().await]
    }

    /// The database, as it is now.
    pub(crate) fn engine(&self) -> FakeDump {
        FakeDump { at: self.time.now(), ..self.engine.another() }
    }

    pub(crate) async fn catalog(&self) -> Catalog {
        Catalog::load(&self.keeper).await.unwrap()
    }

    pub(crate) async fn newest(&self) -> CatalogEntry {
        self.catalog().await.entries.swap_remove(0)
    }

    pub(crate) fn heal(&self) {
        self.places.iter().for_each(|place| place.faulty.heal());
    }

    /// The same keeper without the local place.
    pub(crate) fn only(&self, index: usize) -> Keeper {
        Keeper { destinations: vec![self.keeper.destinations[index].clone()], ..self.keeper.clone() }
    }
}

impl History {
    /// Five weeks: an expired weekly backup, one that the bucket misses, a proven one; what an interrupted run left, and archives of
    /// somebody else.
    pub(crate) async fn make() -> Self {
        let ground = Ground::bare(Kind::Memory, time() - TimeDelta::days(40));
        let weekly = BackupOptions { class: BackupClass::Weekly, ..options("zstd:1") };
        ground.keeper.backup(&ground.engine(), &weekly).await.unwrap();
        ground.time.pass(TimeDelta::days(37));
        ground.foreign().await;
        ground.time.pass(TimeDelta::days(1));
        ground.only(LOCAL).backup(&ground.engine(), &options("zstd:1")).await.unwrap();
        ground.time.pass(TimeDelta::days(1));
        ground.keeper.backup(&ground.engine(), &options("zstd:1")).await.unwrap();
        ground.keeper.verify(&ground.newest().await, VerifyDepth::Deep).await.unwrap();
        ground.time.pass(TimeDelta::days(1));
        Self { places: ground.contents().await, now: ground.time.now() }
    }
}

impl Ground {
    /// What others left: in the bucket an interrupted run, in the local folder old scripts.
    async fn foreign(&self) {
        let object = |bytes: Vec<u8>| Object { bytes: bytes.into(), written_ms: self.time.now().timestamp_millis() };
        let mark = serde_json::json!({
            "id": ORPHAN.trim_end_matches(".dump.zst"),
            "hostname": "host",
            "archive": format!("daily/{ORPHAN}"),
            "objects": [{"key": format!("daily/{ORPHAN}"), "bytes": 6}],
        });
        let bucket = &self.places[BUCKET];
        bucket.put(&format!("daily/{ORPHAN}"), &object(b"orphan".to_vec())).await;
        let key = format!(".pgkeep/unpublished-{}-0123456789abcdef", ORPHAN.trim_end_matches(".dump.zst"));
        bucket.put(&key, &object(mark.to_string().into_bytes())).await;
        let mut archive = Vec::new();
        let codec = "gzip:1".parse::<pgkeep_compress::Compression>().unwrap().codec();
        codec.encode(&crate::world::plain(&self.engine), &mut archive).unwrap();
        let local = &self.places[LOCAL];
        for key in [FOREIGN, FOREIGN_BARE] {
            local.put(key, &object(archive.clone())).await;
        }
        local.put(&format!("{FOREIGN}.meta"), &object(FOREIGN_META.into())).await;
        self.note().await;
    }

    /// Somebody writes something down at each place: so stores know what time it is.
    pub(crate) async fn note(&self) {
        let written_ms = self.time.now().timestamp_millis();
        for place in &self.places {
            place.put(NOTES, &Object { bytes: Bytes::from_static(b"mine"), written_ms }).await;
        }
    }
}

/// Whether that belongs to somebody else: nothing may touch it.
pub(crate) fn is_foreign(key: &str) -> bool {
    [FOREIGN, FOREIGN_BARE, NOTES].iter().any(|foreign| key.starts_with(foreign))
}
