//! Leases by the library itself, because those of the program are five minutes long.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pgkeep_core::{Destination, Error, Identities, Keeper, Layout, Lock, LockOptions, SystemClock};
use pgkeep_storage::Storage;

use crate::found::report;
use crate::host::Shared;

const LEASE: Duration = Duration::from_secs(3);

pub(crate) fn keeper(storage: &Arc<dyn Storage>, host: &str) -> Keeper {
    Keeper {
        destinations: vec![Destination {
            name: "bucket".to_owned(),
            storage: Arc::clone(storage),
            layout: Layout::ByClass,
            required: true,
            storage_classes: BTreeMap::new(),
            rank: 1,
        }],
        clock: Arc::new(SystemClock),
        observer: Arc::new(pgkeep_metrics::Discard),
        cancel: tokio_util::sync::CancellationToken::new(),
        host: host.to_owned(),
        tool_version: "test".to_owned(),
        identities: Identities::default(),
    }
}

fn options(wait: Duration) -> LockOptions {
    LockOptions { wait, lease: LEASE, ..LockOptions::new("test") }
}

fn store(label: &str) -> Arc<dyn Storage> {
    crate::eyes::bucket(&Shared::new(label).bucket, "database-backups")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_holders_lock_is_taken_over_when_its_lease_is_over_and_not_before() {
    let store = tokio::task::block_in_place(|| store("dead_holder"));
    for _ in 0..2 {
        let dead = Lock::acquire(&keeper(&store, "alpha"), &options(Duration::ZERO)).await.unwrap();
        let begun = Instant::now();
        // As good as killed: it neither renews nor gives back.
        drop(dead);
        let refused = Lock::acquire(&keeper(&store, "beta"), &options(Duration::ZERO)).await.unwrap_err();
        assert!(matches!(&refused, Error::Locked { holder, .. } if holder.starts_with("alpha ")), "{refused}");
        let taken = Lock::acquire(&keeper(&store, "beta"), &options(Duration::from_secs(60))).await.unwrap();
        // By the store's clock; ours may be a little ahead of it.
        assert!(begun.elapsed() + Duration::from_millis(500) >= LEASE, "{:?}", begun.elapsed());
        taken.check().unwrap();
        taken.release().await.unwrap();
    }
    report(
        "a host that died holding the lock, and another one",
        ["twice, with a lease of 3 s", "refused until the lease is over, then the lock is taken over"],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_living_holders_lock_is_never_taken() {
    let store = tokio::task::block_in_place(|| store("living_holder"));
    let alive = Lock::acquire(&keeper(&store, "alpha"), &options(Duration::ZERO)).await.unwrap();
    let refused = Lock::acquire(&keeper(&store, "beta"), &options(3 * LEASE)).await.unwrap_err();
    assert!(matches!(&refused, Error::Locked { holder, .. } if holder.starts_with("alpha ")), "{refused}");
    alive.check().unwrap();
    alive.release().await.unwrap();
    Lock::acquire(&keeper(&store, "beta"), &options(Duration::ZERO)).await.unwrap().release().await.unwrap();
    report(
        "a host that holds the lock and lives, and another one",
        ["for three leases of 3 s", "refused for as long as the holder renews it; free as soon as it is given back"],
    );
}
