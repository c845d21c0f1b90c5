//! One run of a source at a time, across hosts.
//!
//! A lock is a row of numbered epochs, `.pgkeep/lock-00000042`, each made by create-if-absent: to take, to renew and
//! to give back the lock is to create the next epoch. The newest epoch rules. Its lease counts from the time at which
//! the store says it was written, so hosts' clocks don't matter. Whoever creates an epoch lists once more and withdraws
//! it unless it is the newest, which keeps a sleeper from reviving an epoch that was cleared away. On a store without
//! conditional writes two may win at once; that costs the lock, never data: ids are unique and metas immutable (law 5).
//!
//! A holder counts its lease from before it asked for the epoch, so it always knows first that the lease is over.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use futures::TryStreamExt;
use pgkeep_storage::{Cause, Error as StorageError, Key, Storage};
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{Destination, Error, Keeper, Result, objects, self_digest};

/// The lease that [`LockOptions::new`] sets.
const LEASE: Duration = Duration::from_mins(5);
/// Epochs that are left for people to look at.
const EPOCHS_KEPT: usize = 3;
/// How long a store may take to hear that the lock is given back, before that is left to the lease.
const GIVE_BACK_LIMIT: Duration = Duration::from_secs(30);
/// How often a lock is taken anew because the store took most of the lease to say that it is ours.
const SLOW_ATTEMPTS: usize = 3;
/// Objects that were only made to learn the store's time; one this old was left by a run that died.
const CLOCK: &str = ".pgkeep/clock-";
const CLOCK_AGE: TimeDelta = TimeDelta::hours(1);
/// No epoch comes to this number, and no lease to this length: what says so is not ours.
const EPOCH_LIMIT: u64 = 1 << 50;
const LEASE_LIMIT: u64 = 7 * 24 * 3600;

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

/// What lies in the lock's folder.
#[derive(Debug, Default)]
struct Folder {
    /// Every epoch's number and the store's time of it, newest last.
    epochs: Vec<(u64, DateTime<Utc>)>,
    /// What was made to learn the store's time, and when.
    clocks: Vec<(Key, DateTime<Utc>)>,
}

impl Epochs {
    fn key(epoch: u64) -> Result<Key> {
        Ok(Key::new(format!(".pgkeep/lock-{epoch:08}"))?)
    }

    async fn folder(&self) -> Result<Folder> {
        let folder = Key::new(".pgkeep")?;
        let objects: Vec<_> =
            self.storage.list(&folder).try_collect().await.map_err(objects::at(self.storage.as_ref()))?;
        let mut folder = Folder::default();
        for object in objects {
            let Some(written) = DateTime::from_timestamp_millis(object.modified_ms) else { continue };
            if object.key.as_str().starts_with(CLOCK) {
                folder.clocks.push((object.key, written));
                continue;
            }
            let number = object.key.name().strip_prefix("lock-").and_then(|number| number.parse().ok());
            // Anything else of a like name is somebody else's.
            let ours = |number: &u64| *number < EPOCH_LIMIT && Self::key(*number).is_ok_and(|key| key == object.key);
            folder.epochs.extend(number.filter(ours).map(|number| (number, written)));
        }
        folder.epochs.sort_unstable();
        Ok(folder)
    }

    /// The newest epoch, its number and the store's time of it.
    async fn newest(&self) -> Result<Option<(u64, DateTime<Utc>, Epoch)>> {
        loop {
            let Some((number, written)) = self.folder().await?.epochs.pop() else { return Ok(None) };
            let json = match objects::get(self.storage.as_ref(), &Self::key(number)?).await {
                Ok(Some(json)) => json,
                // Cleared away between listing and reading: there is a newer one.
                Ok(None) => continue,
                Err(Error::Meta { .. }) => Bytes::new(),
                Err(error) => return Err(error),
            };
            let epoch = self_digest::read(&json).unwrap_or_else(|_| Epoch {
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
        let key = Key::new(format!("{CLOCK}{:016x}", rand::random::<u64>()))?;
        objects::put(self.storage.as_ref(), &key, Bytes::from_static(b"{}")).await?;
        let info = self.storage.head(&key).await.map_err(at);
        self.storage.delete(&key).await.map_err(at)?;
        Ok(DateTime::from_timestamp_millis(info?.modified_ms).unwrap_or_default())
    }

    /// Creates an epoch; `false` if somebody else has it, or a newer one. One that an earlier attempt made, whose answer was
    /// lost, is ours too.
    async fn create(&self, number: u64, epoch: &Epoch) -> Result<bool> {
        let json = self_digest::write(epoch)?;
        let (storage, key) = (self.storage.as_ref(), Self::key(number)?);
        if !objects::create(storage, &key, json.clone()).await? {
            return Ok(false);
        }
        let Folder { epochs, clocks } = self.folder().await?;
        if epochs.last().is_some_and(|&(newest, _)| newest > number) {
            storage.delete(&key).await.map_err(objects::at(storage))?;
            return Ok(false);
        }
        if objects::get(storage, &key).await?.is_none_or(|stored| stored != json) {
            return Ok(false);
        }
        // Litter only: whoever comes next clears it too.
        for (old, _) in epochs.iter().rev().skip(EPOCHS_KEPT) {
            let _ = storage.delete(&Self::key(*old)?).await;
        }
        let now = epochs.last().map(|&(_, written)| written);
        for (clock, written) in clocks {
            if now.is_some_and(|now| now - written > CLOCK_AGE) {
                let _ = storage.delete(&clock).await;
            }
        }
        Ok(true)
    }

    /// Releases what an attempt to take the lock may have left, as far as the store lets us.
    async fn give_back(&self, epoch: &Epoch) {
        let given_back = async {
            let newest = self.newest().await?;
            if let Some((number, ..)) = newest.filter(|(_, _, found)| found.token == epoch.token && !found.released) {
                self.create(number + 1, &Epoch { released: true, ..epoch.clone() }).await?;
            }
            Ok::<_, Error>(())
        };
        if !matches!(tokio::time::timeout(GIVE_BACK_LIMIT, given_back).await, Ok(Ok(()))) {
            tracing::debug!(location = %self.storage.location(), "what was begun of a lock ends with its lease");
        }
    }

    async fn inspect(&self) -> Result<Option<LockInfo>> {
        Ok(self.newest().await?.map(|(number, written, epoch)| epoch.info(number, written)))
    }
}

impl Epoch {
    fn info(self, number: u64, written: DateTime<Utc>) -> LockInfo {
        LockInfo {
            epoch: number,
            expires: written + TimeDelta::seconds(self.lease_seconds.min(LEASE_LIMIT) as i64),
            holder: self.holder,
            purpose: self.purpose,
            released: self.released,
        }
    }
}

/// Whether an epoch can be read; written again, it is the same.
#[cfg(feature = "fuzzing")]
pub(crate) fn can_be_read(json: &[u8]) -> bool {
    let Ok(epoch) = self_digest::read::<Epoch>(json) else { return false };
    let token = |json: &Bytes| self_digest::read::<Epoch>(json).ok().map(|again| (again.token, again.lease_seconds));
    let again = self_digest::write(&epoch).ok().and_then(|json| token(&json));
    assert_eq!(again, Some((epoch.token, epoch.lease_seconds)), "it is written as it was read");
    true
}

/// One store's lock while it is held.
#[derive(Debug)]
struct Held {
    epochs: Epochs,
    location: String,
    number: Arc<AtomicU64>,
    lease: Lease,
    renewal: JoinHandle<()>,
}

/// Until when one store's lock is ours for certain.
#[derive(Debug, Clone)]
struct Lease(Arc<Mutex<Instant>>);

impl Lease {
    /// From `began` on, for so long.
    fn new(began: Instant, length: Duration) -> Self {
        Self(Arc::new(Mutex::new(began + length)))
    }

    fn renew(&self, began: Instant, length: Duration) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = began + length;
    }

    fn ends(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
    /// Fails with [`Error::Locked`] when the wait is over, naming the holder. Cancelled, or failing, it gives back what it
    /// has; what can't be given back ends with its lease.
    pub async fn acquire(keeper: &Keeper, options: &LockOptions) -> Result<Self> {
        let epoch = Epoch {
            holder: format!("{} (process {})", keeper.host, std::process::id()),
            purpose: options.purpose.clone(),
            lease_seconds: options.lease.as_secs(),
            released: false,
            token: format!("{:032x}", rand::random::<u128>()),
        };
        let until = Instant::now() + options.wait;
        let mut lock = Self { held: Vec::new(), epoch, lost: CancellationToken::new() };
        for destination in lockable(keeper) {
            let epochs = Epochs { storage: Arc::clone(&destination.storage) };
            let taken = tokio::select! {
                biased;
                () = keeper.cancel.cancelled() => Err(Error::Interrupted),
                taken = take(keeper, &epochs, &lock.epoch, options.lease, until) => taken,
            };
            match taken {
                Ok((number, began)) => lock.hold(epochs, number, began, options.lease),
                Err(error) => {
                    if !matches!(error, Error::Locked { .. }) {
                        epochs.give_back(&lock.epoch).await;
                    }
                    let _ = lock.release().await;
                    return Err(error);
                }
            }
        }
        Ok(lock)
    }

    fn hold(&mut self, epochs: Epochs, number: u64, began: Instant, length: Duration) {
        let number = Arc::new(AtomicU64::new(number));
        let lease = Lease::new(began, length);
        let renewal = Renewal {
            epochs: epochs.clone(),
            epoch: self.epoch.clone(),
            number: Arc::clone(&number),
            lease: lease.clone(),
            length,
        };
        let renewal = tokio::spawn(renewal.run(self.lost.clone()));
        let location = epochs.storage.location().to_string();
        self.held.push(Held { epochs, location, number, lease, renewal });
    }

    /// An error if the lock was lost to another, or may have been.
    pub fn check(&self) -> Result<()> {
        let now = Instant::now();
        let lost = self.held.iter().find(|held| self.lost.is_cancelled() || held.lease.ends() <= now);
        lost.map_or(Ok(()), |held| Err(Error::LockLost { location: held.location.clone() }))
    }

    /// Resolves when the lock is lost.
    pub fn lost(&self) -> CancellationToken {
        self.lost.clone()
    }

    /// Gives it back. A store that does not answer is not waited for: the lock ends with its lease then.
    pub async fn release(mut self) -> Result<()> {
        let mut outcome = Ok(());
        for held in std::mem::take(&mut self.held) {
            held.renewal.abort();
            let released = match tokio::time::timeout(GIVE_BACK_LIMIT, held.release(&self.epoch)).await {
                Ok(released) => released,
                Err(_) => Err(silent(held.epochs.storage.as_ref())),
            };
            outcome = outcome.and(released);
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

/// Takes one store's lock; gives the epoch's number, and when it was asked for.
async fn take(
    keeper: &Keeper,
    epochs: &Epochs,
    epoch: &Epoch,
    lease: Duration,
    until: Instant,
) -> Result<(u64, Instant)> {
    let mut told = false;
    let mut slow = 0;
    loop {
        let newest = epochs.newest().await?;
        let next = newest.as_ref().map_or(1, |(number, ..)| number + 1);
        let others = newest.filter(|(_, _, found)| !found.released && found.token != epoch.token);
        let holder = match others.map(|(number, written, found)| found.info(number, written)) {
            Some(info) if info.expires > epochs.now().await? => Some(info),
            Some(info) => {
                keeper.warn(&format!("taking over the lock that {} left behind ({})", info.holder, info.purpose));
                None
            }
            None => None,
        };
        let began = Instant::now();
        match holder {
            None if !epochs.create(next, epoch).await? => {}
            None if began.elapsed() < lease / 2 => return Ok((next, began)),
            None => {
                slow += 1;
                if slow == SLOW_ATTEMPTS {
                    return Err(silent(epochs.storage.as_ref()));
                }
            }
            Some(info) if Instant::now() >= until => {
                let location = epochs.storage.location().to_string();
                return Err(Error::Locked { location, holder: info.holder, expires: info.expires.to_rfc3339() });
            }
            Some(info) => {
                if !std::mem::replace(&mut told, true) {
                    keeper.warn(&format!("waiting for {}, which holds the lock ({})", info.holder, info.purpose));
                }
                let pause = Duration::from_millis(rand::random_range(1000..3000));
                tokio::time::sleep(pause.min(until.saturating_duration_since(Instant::now()))).await;
            }
        }
    }
}

/// The error for a store that takes too long to be of use for a lock.
fn silent(storage: &dyn Storage) -> Error {
    let location = storage.location().clone();
    let source = Box::new(Cause::new("it did not answer in time"));
    objects::at(storage)(StorageError::Timeout { doing: "lock or unlock".to_owned(), location, source })
}

impl Held {
    async fn release(&self, epoch: &Epoch) -> Result<()> {
        // An abandoned renewal may still have made an epoch: go past it.
        let next = self.number.load(Ordering::SeqCst) + 1;
        let released = Epoch { released: true, ..epoch.clone() };
        for number in [next, next + 1] {
            if self.epochs.create(number, &released).await? {
                break;
            }
            let ours = matches!(self.epochs.newest().await, Ok(Some((_, _, found))) if found.token == epoch.token);
            if !ours {
                break;
            }
        }
        Ok(())
    }
}

/// What keeps one store's lock.
#[derive(Debug)]
struct Renewal {
    epochs: Epochs,
    epoch: Epoch,
    number: Arc<AtomicU64>,
    lease: Lease,
    length: Duration,
}

impl Renewal {
    /// Renews until aborted; cancels `lost` when another has the lock or the lease ran out unrenewed.
    async fn run(self, lost: CancellationToken) {
        let mut first_asked = (0, Instant::now());
        loop {
            let left = self.lease.ends().saturating_duration_since(Instant::now());
            let attempt = async {
                tokio::time::sleep((self.length / 3).min(left / 2)).await;
                let next = self.number.load(Ordering::SeqCst) + 1;
                // What an earlier attempt asked for may have been written then.
                if first_asked.0 != next {
                    first_asked = (next, Instant::now());
                }
                (next, tokio::time::timeout(self.length / 3, self.epochs.create(next, &self.epoch)).await)
            };
            match tokio::time::timeout_at(self.lease.ends(), attempt).await {
                Ok((next, Ok(Ok(true)))) => {
                    self.number.store(next, Ordering::SeqCst);
                    self.lease.renew(first_asked.1, self.length);
                }
                Ok((_, Ok(Err(_)) | Err(_))) => {}
                Ok((_, Ok(Ok(false)))) | Err(_) => return lost.cancel(),
            }
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
    async fn what_is_called_almost_like_an_epoch_is_none() {
        let storage = memory();
        let one = keeper(&storage, "one");
        for name in ["lock-7", "lock-+0000009", "lock-18446744073709551615", "lock-1125899906842624", "lock-x", "lock-"]
        {
            let key = Key::new(format!(".pgkeep/{name}")).expect("valid");
            objects::put(storage.as_ref(), &key, Bytes::from_static(b"{}")).await.expect("stored");
        }
        let lock = Lock::acquire(&one, &options(LEASE)).await.expect("free");
        assert_eq!(lock.held[0].number.load(Ordering::SeqCst), 1);
        lock.release().await.expect("released");
    }

    #[tokio::test]
    async fn a_damaged_epoch_is_respected_for_one_lease_and_an_absurd_one_for_no_longer_than_a_week() {
        let storage = memory();
        let one = keeper(&storage, "one");
        let put = async |number: u64, json: Bytes| {
            objects::put(storage.as_ref(), &Epochs::key(number).expect("valid"), json).await.expect("stored");
        };
        let info = async || Lock::inspect(&one).await.expect("listed").remove(0);
        let epoch = Epoch {
            holder: "two".to_owned(),
            purpose: "test".to_owned(),
            lease_seconds: u64::MAX,
            released: false,
            token: String::new(),
        };
        put(1, self_digest::write(&epoch).expect("serialises")).await;
        let absurd = info().await;
        assert!(absurd.expires < Utc::now() + TimeDelta::days(8), "{absurd:?}");
        let released = self_digest::write(&Epoch { released: true, ..epoch }).expect("serialises");
        let flipped = String::from_utf8(released.to_vec()).expect("UTF-8").replace("two", "tvo");
        put(2, Bytes::from(flipped)).await;
        let damaged = info().await;
        assert_eq!((damaged.holder.as_str(), damaged.released), ("an unreadable lock", false));
        assert!(matches!(Lock::acquire(&one, &options(LEASE)).await, Err(Error::Locked { .. })));
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
