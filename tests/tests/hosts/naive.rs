//! A store that does not look at conditions: whoever creates last has created (law 5). And as if that were not enough, the
//! hosts do not see each other's locks, so that both always have it.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use pgkeep_compress::Compression;
use pgkeep_core::{BackupClass, BackupOptions, Keeper, LockOptions, PruneOptions};
use pgkeep_dump::{ClientTools, ConnectSettings, DumpOptions, ParallelEngine, Selection};
use pgkeep_storage::{
    ByteStream, Created, Key, Location, ObjectInfo, ObjectStorage, ObjectWriter, Result, Storage, StorageExt as _,
    Support, WriteOptions,
};
use pgkeep_testkit::{MAJORS, client_tools};

use crate::eyes::whole_backups;
use crate::found::report;
use crate::host::Shared;
use crate::lease::keeper;

const ROUNDS: usize = 100;

/// A store on a network with a life of its own, where a creation is a look and then a write.
#[derive(Debug)]
struct Naive {
    inner: Arc<ObjectStorage>,
    host: &'static str,
    dice: AtomicU64,
}

impl Naive {
    /// Up to so many milliseconds.
    async fn dawdle(&self, most: u64) {
        let old = self.dice.fetch_add(6_364_136_223_846_793_005, Ordering::Relaxed);
        let mixed = (old ^ (old >> 31)).wrapping_mul(1_442_695_040_888_963_407);
        tokio::time::sleep(Duration::from_millis((mixed >> 33) % most)).await;
    }

    /// Where a host's own locks are.
    fn seen(&self, key: &Key) -> Result<Key> {
        match key.as_str().strip_prefix(".pgkeep/lock-") {
            Some(epoch) => Key::new(format!(".pgkeep/{}-lock-{epoch}", self.host)),
            None => Ok(key.clone()),
        }
    }
}

#[async_trait]
impl Storage for Naive {
    fn location(&self) -> &Location {
        self.inner.location()
    }

    async fn write(&self, key: &Key, options: &WriteOptions) -> Result<Box<dyn ObjectWriter>> {
        self.dawdle(10).await;
        self.inner.write(&self.seen(key)?, options).await
    }

    async fn create(&self, key: &Key, bytes: Bytes) -> Result<Created> {
        let key = self.seen(key)?;
        if self.inner.exists(&key).await? {
            return Ok(Created::Exists);
        }
        self.dawdle(40).await;
        self.inner.put(&key, bytes).await?;
        Ok(Created::Created)
    }

    async fn read(&self, key: &Key, range: Option<Range<u64>>) -> Result<ByteStream> {
        self.dawdle(10).await;
        self.inner.read(&self.seen(key)?, range).await
    }

    async fn head(&self, key: &Key) -> Result<ObjectInfo> {
        self.dawdle(10).await;
        self.inner.head(&self.seen(key)?).await
    }

    fn list(&self, prefix: &Key) -> BoxStream<'static, Result<ObjectInfo>> {
        let host = self.host;
        let seen = move |info: ObjectInfo| {
            let Some((of, epoch)) = info.key.name().split_once("-lock-") else { return Some(Ok(info)) };
            let key = (of == host).then(|| Key::new(format!(".pgkeep/lock-{epoch}")))?;
            Some(key.map(|key| ObjectInfo { key, ..info }))
        };
        let objects = self.inner.list(prefix);
        objects.filter_map(move |info| std::future::ready(info.map_or_else(|error| Some(Err(error)), seen))).boxed()
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.dawdle(10).await;
        self.inner.delete(&self.seen(key)?).await
    }

    fn conditional_writes(&self) -> Support {
        Support::No
    }
}

async fn backup(keeper: &Keeper, engine: &ParallelEngine) -> Option<String> {
    let codec = "zstd:1".parse::<Compression>().unwrap().codec();
    let lock = LockOptions { wait: Duration::from_secs(60), ..LockOptions::new("backup") };
    let options = BackupOptions { lock, ..BackupOptions::new(BackupClass::Daily, codec) };
    match keeper.backup(engine, &options).await {
        Ok(report) => Some(report.meta.id.to_string()),
        Err(error) => {
            eprintln!("{}: {error}: {:?}", keeper.host, std::error::Error::source(&error).map(ToString::to_string));
            None
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn without_conditional_writes_the_lock_may_be_lost_but_no_backup() {
    let shared = tokio::task::block_in_place(|| Shared::new("naive"));
    let store = Arc::new(ObjectStorage::memory());
    let settings = ConnectSettings::parse(&shared.url(), &std::collections::BTreeMap::new(), None).unwrap();
    let tools = ClientTools::in_folders(&MAJORS.map(client_tools)).await;
    let options = || DumpOptions { selection: Selection::default(), ..DumpOptions::default() };
    let engines = [(); 2].map(|()| ParallelEngine::new(settings.clone(), tools.clone(), options(), 2));
    let keepers = ["alpha", "beta"].map(|host| {
        let dice = AtomicU64::new(host.len() as u64);
        let storage: Arc<dyn Storage> = Arc::new(Naive { inner: Arc::clone(&store), host, dice });
        keeper(&storage, host)
    });
    let mut made: Vec<String> = backup(&keepers[0], &engines[0]).await.into_iter().collect();
    let mut at_once = 0;
    for _ in 0..ROUNDS {
        let (one, other) = tokio::join!(backup(&keepers[0], &engines[0]), backup(&keepers[1], &engines[1]));
        at_once += usize::from(one.is_some() && other.is_some());
        made.extend(one.into_iter().chain(other));
        let looked: Arc<dyn Storage> = Arc::clone(&store) as _;
        let whole = tokio::task::spawn_blocking(move || whole_backups(looked)).await.unwrap();
        let lost: Vec<_> = made.iter().filter(|name| !whole.contains(name)).collect();
        assert!(lost.is_empty(), "{lost:?} of {made:?}");
    }
    assert_eq!(made.iter().collect::<BTreeSet<_>>().len(), made.len(), "each has a name of its own: {made:?}");
    assert!(made.len() > ROUNDS, "{made:?}, {at_once} twice");
    // Retention does not need the lock either.
    let prune = PruneOptions { policy: pgkeep_core::Policy::default(), lock: None };
    let (one, other) = tokio::join!(keepers[0].prune(&prune), keepers[1].prune(&prune));
    assert_eq!((one.unwrap().removed, other.unwrap().removed), (0, 0));
    report(
        "two hosts on a store that does not look at conditions",
        [
            "12 times, both at once, with delays between the store's look and its write",
            "the lock may be held twice; every backup that was made is whole and has a name of its own",
        ],
    );
}
