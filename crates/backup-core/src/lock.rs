//! One run of a source at a time, across hosts.
//!
//! A lock is a row of numbered epochs, `.pgkeep/lock-00000042`, each made by create-if-absent: to take, to renew and
//! to give back the lock is to create the next epoch. The newest epoch rules. Its lease counts from the time at which
//! the store says it was written, so hosts' clocks don't matter. Whoever creates an epoch lists once more and withdraws
//! it unless it is the newest, which keeps a sleeper from reviving an epoch that was cleared away. On a store without
//! conditional writes two may win at once; that costs the lock, never data: ids are unique and metas immutable (law 5).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use futures::TryStreamExt;
use pgkeep_storage::{Created, Key, Storage};
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{Destination, Error, Keeper, Result, objects};

/// The lease that [`LockOptions::new`] sets.
const LEASE: Duration = Duration::from_mins(5);
/// Epochs that are left for people to look at.
const EPOCHS_KEPT: usize = 3;

/// How a lock is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockOptions {
    /// What the holder is doing: `backup`, `restore`, `prune`.
    pub purpose: String,
    /// Longest wait for another holder.
    pub wait: Duration,
    /// The lease; renewed at a third of it. Five minutes by default.
    pub lease: Duration,
}

impl LockOptions {
    /// No wait, the usual lease.
    pub fn new(purpose: impl Into<String>) -> Self {
        Self { purpose: purpose.into(), wait: Duration::ZERO, lease: LEASE }
    }
}

/// What a lock's newest epoch says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockInfo {
    /// The epoch's number, from 1.
    pub epoch: u64,
    /// Host and process.
    pub holder: String,
    /// What for.
    pub purpose: String,
    /// When the lease ends by the store's clock; in the past if abandoned.
    pub expires: DateTime<Utc>,
    /// Whether the holder gave it back.
    pub released: bool,
}

/// An epoch as stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Epoch {
    holder: String,
    purpose: String,
    lease_seconds: u64,
    released: bool,
    /// Tells our own epochs from others'.
    token: String,
}

/// The epochs at one store.
#[derive(Debug, Clone)]
struct Epochs {
    storage: Arc<dyn Storage>,
}

impl Epochs {
    fn key(epoch: u64) -> Result<Key> {
        Ok(Key::new(format!(".pgkeep/lock-{epoch:08}"))?)
    }

    /// Every epoch's number and the store's time of it, newest last.
    async fn list(&self) -> Result<Vec<(u64, DateTime<Utc>)>> {
        let folder = Key::new(".pgkeep")?;
        let objects: Vec<_> =
            self.storage.list(&folder).try_collect().await.map_err(objects::at(self.storage.as_ref()))?;
        let mut epochs: Vec<_> = objects
            .into_iter()
            .filter_map(|object| {
                let number = object.key.name().strip_prefix("lock-")?.parse().ok()?;
                Some((number, DateTime::from_timestamp_millis(object.modified_ms)?))
            })
            .collect();
        epochs.sort_unstable();
        Ok(epochs)
    }

    /// The newest epoch, its number and the store's time of it.
    async fn newest(&self) -> Result<Option<(u64, DateTime<Utc>, Epoch)>> {
        loop {
            let Some((number, written)) = self.list().await?.pop() else { return Ok(None) };
            // Cleared away between listing and reading: there is a newer one.
            let Some(json) = objects::get(self.storage.as_ref(), &Self::key(number)?).await? else { continue };
            let epoch = serde_json::from_slice(&json).unwrap_or_else(|_| Epoch {
                holder: "an unreadable lock".to_owned(),
                purpose: "unknown".to_owned(),
                lease_seconds: LEASE.as_secs(),
                released: false,
                token: String::new(),
            });
            return Ok(Some((number, written, epoch)));
        }
    }

    /// The time by the store's clock.
    async fn now(&self) -> Result<DateTime<Utc>> {
        let at = objects::at(self.storage.as_ref());
        let key = Key::new(format!(".pgkeep/clock-{:016x}", rand::random::<u64>()))?;
        objects::put(self.storage.as_ref(), &key, Bytes::from_static(b"{}")).await?;
        let info = self.storage.head(&key).await.map_err(at);
        self.storage.delete(&key).await.map_err(at)?;
        Ok(DateTime::from_timestamp_millis(info?.modified_ms).unwrap_or_default())
    }

    /// Creates an epoch; `false` if somebody else has it, or a newer one.
    async fn create(&self, number: u64, epoch: &Epoch) -> Result<bool> {
        let json = Bytes::from(serde_json::to_vec(epoch).map_err(|error| Error::Task(error.to_string()))?);
        let (storage, key) = (self.storage.as_ref(), Self::key(number)?);
        if storage.create(&key, json.clone()).await.map_err(objects::at(storage))? == Created::Exists {
            // A create whose answer was lost and that was sent again finds its own epoch.
            return Ok(objects::get(storage, &key).await?.is_some_and(|stored| stored == json));
        }
        let epochs = self.list().await?;
        if epochs.last().is_some_and(|&(newest, _)| newest > number) {
            storage.delete(&key).await.map_err(objects::at(storage))?;
            return Ok(false);
        }
        if objects::get(storage, &key).await?.is_none_or(|stored| stored != json) {
            return Ok(false);
        }
        for (old, _) in epochs.iter().rev().skip(EPOCHS_KEPT) {
            // Litter only: whoever comes next clears it too.
            let _ = storage.delete(&Self::key(*old)?).await;
        }
        Ok(true)
    }

    async fn inspect(&self) -> Result<Option<LockInfo>> {
        Ok(self.newest().await?.map(|(number, written, epoch)| LockInfo {
            epoch: number,
            expires: written + TimeDelta::seconds(epoch.lease_seconds as i64),
            holder: epoch.holder,
            purpose: epoch.purpose,
            released: epoch.released,
        }))
    }
}

/// One store's lock while it is held.
#[derive(Debug)]
struct Held {
    epochs: Epochs,
    location: String,
    number: Arc<AtomicU64>,
    renewal: JoinHandle<()>,
}

/// A held lock. Renewed in the background; dropping it stops renewing, [`release`](Self::release) gives it back.
#[derive(Debug)]
pub struct Lock {
    held: Vec<Held>,
    epoch: Epoch,
    lost: CancellationToken,
}

impl Lock {
    /// Takes the lock of the keeper's source at every required destination, waiting as told.
    ///
    /// Fails with [`Error::Locked`] when the wait is over, naming the holder.
    pub async fn acquire(keeper: &Keeper, options: &LockOptions) -> Result<Self> {
        let epoch = Epoch {
            holder: format!("{} (process {})", keeper.host, std::process::id()),
            purpose: options.purpose.clone(),
            lease_seconds: options.lease.as_secs(),
            released: false,
            token: format!("{:032x}", rand::random::<u128>()),
        };
        let until = tokio::time::Instant::now() + options.wait;
        let mut lock = Self { held: Vec::new(), epoch, lost: CancellationToken::new() };
        for destination in lockable(keeper) {
            let epochs = Epochs { storage: Arc::clone(&destination.storage) };
            match take(keeper, &epochs, &lock.epoch, until).await {
                Ok(number) => lock.hold(epochs, number, options.lease),
                Err(error) => {
                    let _ = lock.release().await;
                    return Err(error);
                }
            }
        }
        Ok(lock)
    }

    fn hold(&mut self, epochs: Epochs, number: u64, lease: Duration) {
        let number = Arc::new(AtomicU64::new(number));
        let renewal =
            tokio::spawn(renew(epochs.clone(), self.epoch.clone(), Arc::clone(&number), lease, self.lost.clone()));
        let location = epochs.storage.location().to_string();
        self.held.push(Held { epochs, location, number, renewal });
    }

    /// An error if the lock was lost to another.
    pub fn check(&self) -> Result<()> {
        if self.lost.is_cancelled() {
            let location = self.held.first().map(|held| held.location.clone()).unwrap_or_default();
            return Err(Error::LockLost { location });
        }
        Ok(())
    }

    /// Resolves when the lock is lost.
    pub fn lost(&self) -> CancellationToken {
        self.lost.clone()
    }

    /// Gives it back.
    pub async fn release(mut self) -> Result<()> {
        let mut outcome = Ok(());
        for held in std::mem::take(&mut self.held) {
            held.renewal.abort();
            // An abandoned renewal may still have made an epoch: go past it.
            let next = held.number.load(Ordering::SeqCst) + 1;
            let released = Epoch { released: true, ..self.epoch.clone() };
            for number in [next, next + 1] {
                match held.epochs.create(number, &released).await {
                    Ok(true) => break,
                    Ok(false) => {
                        let ours = matches!(held.epochs.newest().await, Ok(Some((_, _, epoch))) if epoch.token == self.epoch.token);
                        if !ours {
                            break;
                        }
                    }
                    Err(error) => {
                        outcome = Err(error);
                        break;
                    }
                }
            }
        }
        outcome
    }

    /// The newest epoch of every destination's lock, released or not.
    pub async fn inspect(keeper: &Keeper) -> Result<Vec<LockInfo>> {
        let mut infos = Vec::new();
        for destination in lockable(keeper) {
            infos.extend(Epochs { storage: Arc::clone(&destination.storage) }.inspect().await?);
        }
        Ok(infos)
    }

    /// Breaks it (`pgkeep unlock`): the holder finds out at its next renewal, and publishes nothing after that.
    pub async fn break_it(keeper: &Keeper) -> Result<Vec<LockInfo>> {
        let mut broken = Vec::new();
        for destination in lockable(keeper) {
            let epochs = Epochs { storage: Arc::clone(&destination.storage) };
            while let Some(info) = epochs.inspect().await? {
                if info.released {
                    break;
                }
                let epoch = Epoch {
                    holder: format!("{} (unlocked by hand)", keeper.host),
                    purpose: "unlock".to_owned(),
                    lease_seconds: 0,
                    released: true,
                    token: format!("{:032x}", rand::random::<u128>()),
                };
                // Lost to a renewal: once more.
                if epochs.create(info.epoch + 1, &epoch).await? {
                    broken.push(info);
                    break;
                }
            }
        }
        Ok(broken)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        for held in &self.held {
            held.renewal.abort();
        }
    }
}

/// Where the lock is: at every required destination, or at all if none is. Always in the same order.
fn lockable(keeper: &Keeper) -> impl Iterator<Item = &Destination> {
    let any = keeper.destinations.iter().any(|destination| destination.required);
    keeper.destinations.iter().filter(move |destination| destination.required || !any)
}

async fn take(keeper: &Keeper, epochs: &Epochs, epoch: &Epoch, until: tokio::time::Instant) -> Result<u64> {
    let mut told = false;
    loop {
        let newest = epochs.inspect().await?;
        let next = newest.as_ref().map_or(1, |info| info.epoch + 1);
        let holder = match newest {
            Some(info) if !info.released && info.expires > epochs.now().await? => Some(info),
            Some(info) if !info.released => {
                keeper.warn(&format!("taking over the lock that {} left behind ({})", info.holder, info.purpose));
                None
            }
            _ => None,
        };
        match holder {
            None if epochs.create(next, epoch).await? => return Ok(next),
            None => {}
            Some(info) if tokio::time::Instant::now() >= until => {
                let location = epochs.storage.location().to_string();
                return Err(Error::Locked { location, holder: info.holder, expires: info.expires.to_rfc3339() });
            }
            Some(info) => {
                if !std::mem::replace(&mut told, true) {
                    keeper.warn(&format!("waiting for {}, which holds the lock ({})", info.holder, info.purpose));
                }
                let pause = Duration::from_millis(rand::random_range(1000..3000));
                let pause = pause.min(until.saturating_duration_since(tokio::time::Instant::now()));
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = keeper.cancel.cancelled() => return Err(Error::Interrupted),
                }
            }
        }
    }
}

/// Renews until aborted; cancels `lost` when another has the lock or the lease ran out unrenewed.
async fn renew(epochs: Epochs, epoch: Epoch, number: Arc<AtomicU64>, lease: Duration, lost: CancellationToken) {
    let mut renewed = tokio::time::Instant::now();
    loop {
        tokio::time::sleep(lease / 3).await;
        let next = number.load(Ordering::SeqCst) + 1;
        let began = tokio::time::Instant::now();
        match tokio::time::timeout(lease / 3, epochs.create(next, &epoch)).await {
            Ok(Ok(true)) => {
                number.store(next, Ordering::SeqCst);
                renewed = began;
            }
            Ok(Err(_)) | Err(_) if renewed.elapsed() < lease => {}
            Ok(Ok(false) | Err(_)) | Err(_) => return lost.cancel(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Layout, SystemClock};

    fn keeper(storage: &Arc<dyn Storage>, host: &str) -> Keeper {
        Keeper {
            destinations: vec![Destination {
                name: "bucket".to_owned(),
                storage: Arc::clone(storage),
                layout: Layout::ByClass,
                required: true,
                storage_classes: std::collections::BTreeMap::new(),
                rank: 1,
            }],
            clock: Arc::new(SystemClock),
            observer: Arc::new(pgkeep_metrics::Discard),
            cancel: CancellationToken::new(),
            host: host.to_owned(),
            tool_version: "test".to_owned(),
            identities: crate::Identities::default(),
        }
    }

    fn memory() -> Arc<dyn Storage> {
        Arc::new(pgkeep_storage::ObjectStorage::memory())
    }

    fn options(lease: Duration) -> LockOptions {
        LockOptions { lease, ..LockOptions::new("test") }
    }

    #[tokio::test]
    async fn a_held_lock_names_its_holder_and_a_released_one_is_free() {
        let storage = memory();
        let (one, two) = (keeper(&storage, "one"), keeper(&storage, "two"));
        let lock = Lock::acquire(&one, &options(LEASE)).await.expect("free");
        match Lock::acquire(&two, &options(LEASE)).await {
            Err(Error::Locked { holder, .. }) => assert!(holder.starts_with("one (process "), "{holder}"),
            other => panic!("{other:?}"),
        }
        lock.release().await.expect("released");
        Lock::acquire(&two, &options(LEASE)).await.expect("free again").release().await.expect("released");
    }

    #[tokio::test]
    async fn a_dead_holders_lock_is_taken_over_and_the_dead_one_finds_out() {
        let storage = memory();
        let (one, two) = (keeper(&storage, "one"), keeper(&storage, "two"));
        let lock = Lock::acquire(&one, &options(Duration::from_secs(1))).await.expect("free");
        lock.held[0].renewal.abort();
        tokio::time::sleep(Duration::from_millis(1200)).await;
        let taken = Lock::acquire(&two, &options(LEASE)).await.expect("expired");
        let epochs = &lock.held[0].epochs;
        assert!(!epochs.create(2, &lock.epoch).await.expect("store answers"));
        taken.release().await.expect("released");
    }

    #[tokio::test]
    async fn a_renewed_lock_outlives_its_lease() {
        let storage = memory();
        let (one, two) = (keeper(&storage, "one"), keeper(&storage, "two"));
        let lock = Lock::acquire(&one, &options(Duration::from_secs(1))).await.expect("free");
        tokio::time::sleep(Duration::from_millis(2500)).await;
        assert!(matches!(Lock::acquire(&two, &options(LEASE)).await, Err(Error::Locked { .. })));
        lock.check().expect("still ours");
        lock.release().await.expect("released");
    }

    #[tokio::test]
    async fn a_broken_lock_is_lost_to_its_holder() {
        let storage = memory();
        let one = keeper(&storage, "one");
        let lock = Lock::acquire(&one, &options(Duration::from_secs(1))).await.expect("free");
        assert_eq!(Lock::break_it(&one).await.expect("broken").len(), 1);
        tokio::time::timeout(Duration::from_secs(5), lock.lost().cancelled()).await.expect("noticed");
        assert!(matches!(lock.check(), Err(Error::LockLost { .. })));
    }

    #[tokio::test]
    async fn waiting_ends_when_the_holder_is_done() {
        let storage = memory();
        let (one, two) = (keeper(&storage, "one"), keeper(&storage, "two"));
        let lock = Lock::acquire(&one, &options(LEASE)).await.expect("free");
        let wait = LockOptions { wait: Duration::from_secs(30), ..options(LEASE) };
        let second = tokio::spawn(async move { Lock::acquire(&two, &wait).await });
        tokio::time::sleep(Duration::from_millis(100)).await;
        lock.release().await.expect("released");
        second.await.expect("no panic").expect("taken").release().await.expect("released");
    }

    #[tokio::test]
    async fn of_many_at_once_one_wins() {
        let storage = memory();
        let tries = (0..20).map(|n| {
            let keeper = keeper(&storage, &format!("host{n}"));
            tokio::spawn(async move { Lock::acquire(&keeper, &options(LEASE)).await })
        });
        let outcomes = futures::future::join_all(tries).await;
        let won = outcomes.iter().filter(|outcome| matches!(outcome, Ok(Ok(_)))).count();
        assert_eq!(won, 1);
    }
}
