//! The library's own look at a store, which changes nothing there; today, or in two days.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use pgkeep_core::{Catalog, Destination, Identities, Keeper, Layout, Policy, PruneOptions, SystemClock, VerifyDepth};
use pgkeep_storage::{
    ByteStream, Created, DiskStorage, Key, Location, ObjectInfo, ObjectStorage, ObjectWriter, Result, S3Settings,
    Storage, Unfinished, WriteOptions, fixed_credentials,
};
use pgkeep_testkit::Ceph;
use tokio::runtime::Runtime;

const TWO_DAYS_MS: i64 = 48 * 3600 * 1000;

/// A store that can be read, and where only removals come to anything: proofs go nowhere.
#[derive(Debug)]
struct Eyes {
    store: Arc<dyn Storage>,
    nowhere: ObjectStorage,
    /// What was written before this moment is two days older than it is.
    aged_before_ms: i64,
}

fn older(ms: i64, aged_before_ms: i64) -> i64 {
    if ms < aged_before_ms { ms - TWO_DAYS_MS } else { ms }
}

#[async_trait]
impl Storage for Eyes {
    fn location(&self) -> &Location {
        self.store.location()
    }

    async fn write(&self, key: &Key, options: &WriteOptions) -> Result<Box<dyn ObjectWriter>> {
        self.nowhere.write(key, options).await
    }

    async fn create(&self, key: &Key, bytes: Bytes) -> Result<Created> {
        self.nowhere.create(key, bytes).await
    }

    async fn read(&self, key: &Key, range: Option<Range<u64>>) -> Result<ByteStream> {
        self.store.read(key, range).await
    }

    async fn head(&self, key: &Key) -> Result<ObjectInfo> {
        let info = self.store.head(key).await?;
        Ok(ObjectInfo { modified_ms: older(info.modified_ms, self.aged_before_ms), ..info })
    }

    fn list(&self, prefix: &Key) -> BoxStream<'static, Result<ObjectInfo>> {
        let aged_before_ms = self.aged_before_ms;
        let seen = move |info: ObjectInfo| ObjectInfo { modified_ms: older(info.modified_ms, aged_before_ms), ..info };
        self.store.list(prefix).map(move |info| info.map(seen)).boxed()
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.store.delete(key).await
    }

    async fn unfinished(&self, begun_before_ms: i64) -> Result<Option<Vec<Unfinished>>> {
        let all = self.store.unfinished(i64::MAX).await?;
        let is_old = |upload: &Unfinished| older(upload.begun_ms, self.aged_before_ms) < begun_before_ms;
        Ok(all.map(|all| all.into_iter().filter(is_old).collect()))
    }

    async fn discard(&self, unfinished: &Unfinished) -> Result<()> {
        self.store.discard(unfinished).await
    }
}

/// The part of a bucket that is one database's.
pub(crate) fn bucket(name: &str, prefix: &str) -> Arc<dyn Storage> {
    let ceph = Ceph::shared();
    let settings = S3Settings {
        endpoint: Some(ceph.endpoint()),
        region: ceph.region().to_owned(),
        credentials: Some(fixed_credentials(ceph.access_key().to_owned(), ceph.secret_key().to_owned(), None)),
        prefix: Key::new(prefix).unwrap(),
        ..S3Settings::new(name)
    };
    Arc::new(settings.connect().unwrap())
}

pub(crate) fn folder(path: &Path) -> Arc<dyn Storage> {
    Arc::new(DiskStorage::open(path).unwrap())
}

fn keeper(store: Arc<dyn Storage>, aged_before_ms: i64) -> Keeper {
    Keeper {
        destinations: vec![Destination {
            name: "store".to_owned(),
            storage: Arc::new(Eyes { store, nowhere: ObjectStorage::memory(), aged_before_ms }),
            layout: Layout::ByClass,
            required: true,
            storage_classes: BTreeMap::new(),
            rank: 0,
        }],
        clock: Arc::new(SystemClock),
        observer: Arc::new(pgkeep_metrics::Discard),
        cancel: tokio_util::sync::CancellationToken::new(),
        host: "test".to_owned(),
        tool_version: "test".to_owned(),
        identities: Identities::default(),
    }
}

fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| Runtime::new().unwrap())
}

/// Every backup there is, oldest first: each is read to its end and recounted, and nothing is amiss with any.
#[track_caller]
pub(crate) fn whole_backups(store: Arc<dyn Storage>) -> Vec<String> {
    let looked = runtime().block_on(async {
        let keeper = keeper(store, i64::MIN);
        let catalog = Catalog::load(&keeper).await.unwrap();
        let mut names = Vec::new();
        let mut amiss: Vec<String> = catalog.unreadable.iter().map(|one| format!("{one:?}")).collect();
        amiss.extend(catalog.incomplete.iter().map(|one| format!("{one:?}")));
        for entry in &catalog.entries {
            let reports = keeper.verify(entry, VerifyDepth::Deep).await.unwrap();
            let findings = reports.iter().flat_map(|report| &report.findings);
            amiss.extend(findings.map(|finding| format!("{}: {finding:?}", entry.meta.id)));
            // It has no report if somebody has removed it meanwhile.
            names.extend((!reports.is_empty()).then(|| entry.meta.id.to_string()));
        }
        (names, amiss)
    });
    let (mut names, amiss) = looked;
    assert!(amiss.is_empty(), "{amiss:#?}");
    names.sort();
    names
}

/// Prunes when all that was written before that moment is two days older than it is; how much was swept.
pub(crate) fn swept_after_two_days(store: Arc<dyn Storage>, before: DateTime<Utc>) -> u64 {
    let keeper = keeper(store, before.timestamp_millis());
    // Nothing is too old to be kept: this is about what belongs to no backup.
    let options = PruneOptions { policy: Policy::default(), lock: None };
    runtime().block_on(keeper.prune(&options)).unwrap().swept
}

/// The keys that belong to no backup.
pub(crate) fn litter(keys: &[String]) -> Vec<String> {
    let archives: Vec<&str> = keys.iter().filter_map(|key| key.strip_suffix(".meta")).collect();
    let belongs = |key: &str| {
        let of = |archive: &str| {
            let stem = archive.split_once(".dump").map_or(archive, |(stem, _)| stem);
            key == archive
                || key.strip_prefix(archive).is_some_and(|rest| rest == ".meta" || rest.starts_with(".proofs/"))
                || key.strip_prefix(stem).is_some_and(|rest| rest.starts_with(".globals.sql"))
        };
        archives.iter().any(|archive| of(archive))
    };
    let ours = |key: &str| key.ends_with("source.json") || key.contains(".pgkeep/lock-");
    keys.iter().filter(|key| !belongs(key) && !ours(key)).cloned().collect()
}
