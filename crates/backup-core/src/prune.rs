//! Removing what retention no longer keeps, and what interrupted runs left.

use futures::TryStreamExt;
use pgkeep_storage::{Key, ObjectInfo, Storage};
use serde::Serialize;

use crate::mark::Mark;
use crate::{
    BackupId, Catalog, CatalogEntry, Copy, Destination, Error, Keep, Keeper, Lock, LockOptions, Policy, Result,
    RetentionPlan, Unreadable, objects,
};

/// Options of a prune.
#[derive(Debug, Clone)]
pub struct PruneOptions {
    /// The policy.
    pub policy: Policy,
    /// The lock (not taken again when a backup prunes under its own).
    pub lock: Option<LockOptions>,
}

/// What a prune removed.
#[derive(Debug, Clone, Default, Serialize)]
pub struct PruneReport {
    /// Per destination: name and the executed plan.
    pub plans: Vec<(String, RetentionPlan)>,
    /// Backups removed, copies counted one by one.
    pub removed: u64,
    /// Stored bytes freed.
    pub freed_bytes: u64,
    /// Objects and unfinished uploads of interrupted runs swept.
    pub swept: u64,
    /// What could not be done, one line each.
    pub warnings: Vec<String>,
}

impl Keeper {
    /// What [`Self::prune`] would do, per destination. A destination that could not be listed in full, or has an
    /// unreadable meta, gets no plan; backups of another source are kept.
    pub fn plan_prune(&self, catalog: &Catalog, policy: &Policy) -> Vec<(String, RetentionPlan)> {
        let now = self.clock.now();
        let complete =
            self.destinations.iter().enumerate().filter(|(_, destination)| is_complete(catalog, destination));
        complete
            .map(|(index, destination)| {
                let backups: Vec<Keep> = catalog
                    .own()
                    .filter(|entry| entry.copies.iter().any(|copy| copy.destination == index))
                    .map(|entry| entry.keep(index))
                    .collect();
                (destination.name.clone(), RetentionPlan::new(&backups, &policy.rules(&destination.name), now))
            })
            .collect()
    }

    /// Removes what the policy does not keep: meta first, so that no reader sees half a backup. Then sweeps what
    /// interrupted runs left ([`Self::plan_sweep`]). What can't be removed is a warning; the rest goes on.
    pub async fn prune(&self, options: &PruneOptions) -> Result<PruneReport> {
        let lock = match &options.lock {
            Some(lock) => Some(Lock::acquire(self, lock).await?),
            None => None,
        };
        let outcome = self.prune_locked(&options.policy, lock.as_ref()).await;
        if let Some(lock) = lock {
            lock.release().await?;
        }
        outcome
    }

    async fn prune_locked(&self, policy: &Policy, lock: Option<&Lock>) -> Result<PruneReport> {
        let catalog = Catalog::load(self).await?;
        let mut report = PruneReport::default();
        for (name, reason) in &catalog.incomplete {
            report.warnings.push(format!("{name} could not be listed, so nothing is removed there: {reason}"));
        }
        for unreadable in &catalog.unreadable {
            let Unreadable { destination, key, reason } = unreadable;
            let consequence = if blocks(unreadable) { ", so nothing is removed there" } else { "" };
            report.warnings.push(format!("{key} at {destination} can't be read{consequence}: {reason}"));
        }
        report.plans = self.plan_prune(&catalog, policy);
        let plans = report.plans.clone();
        for (name, plan) in &plans {
            let Some(index) = self.destinations.iter().position(|destination| destination.name == *name) else {
                continue;
            };
            for decision in plan.removals() {
                if self.cancel.is_cancelled() {
                    return Err(Error::Interrupted);
                }
                if let Some(lock) = lock {
                    lock.check()?;
                }
                self.remove(&catalog, index, &decision.id, &mut report).await;
            }
        }
        for plan in self.plan_sweep(&catalog).await {
            match self.sweep(&plan).await {
                Ok(swept) => report.swept += swept,
                Err(error) => {
                    let name = &plan.destination;
                    report.warnings.push(format!("what was left at {name} could not be swept: {error}"));
                }
            }
        }
        Ok(report)
    }

    async fn remove(&self, catalog: &Catalog, index: usize, id: &BackupId, report: &mut PruneReport) {
        let entry = catalog.entries.iter().find(|entry| entry.meta.id == *id);
        let Some((entry, copy)) =
            entry.and_then(|entry| Some((entry, entry.copies.iter().find(|copy| copy.destination == index)?)))
        else {
            return;
        };
        match withdraw(self.destinations[index].storage.as_ref(), entry, copy, &self.host).await {
            Ok(()) => {
                report.removed += 1;
                report.freed_bytes += copy.stored_bytes.unwrap_or_default();
                self.detail(&format!("removed {id} from {}", copy.name));
            }
            Err(error) => report.warnings.push(format!("{id} could not be removed from {}: {error}", copy.name)),
        }
    }
}

/// Whether an object that can't be read makes it unknown what there is: an unreadable proof can only make us keep more.
fn blocks(unreadable: &Unreadable) -> bool {
    is_meta(&unreadable.key) || unreadable.key == "source.json"
}

/// Whether all that lies at a destination is known.
pub(crate) fn is_complete(catalog: &Catalog, destination: &Destination) -> bool {
    let listed = !catalog.incomplete.iter().any(|(name, _)| *name == destination.name);
    listed
        && !catalog.unreadable.iter().any(|unreadable| unreadable.destination == destination.name && blocks(unreadable))
}

fn is_meta(key: &str) -> bool {
    key.strip_suffix(".meta").is_some()
}

/// Removes one copy of a backup: its meta first. A mark names the rest, in case that this is the end of us.
async fn withdraw(storage: &dyn Storage, entry: &CatalogEntry, copy: &Copy, host: &str) -> Result<()> {
    let at = objects::at(storage);
    let globals = entry.meta.globals.as_ref();
    let globals = globals.map(|globals| Ok::<_, Error>((beside(&copy.key, &globals.file)?, globals.stored.bytes)));
    let globals = globals.transpose()?;
    let archive = copy.stored_bytes.map(|bytes| (&copy.key, bytes));
    let marked: Vec<_> = archive.into_iter().chain(globals.as_ref().map(|(key, bytes)| (key, *bytes))).collect();
    let mark = Mark::new(&entry.meta.id, host, &copy.key, &marked).put(storage).await?;
    let meta = Key::new(format!("{}.meta", copy.key))?;
    storage.delete(&meta).await.map_err(at)?;
    storage.delete(&copy.key).await.map_err(at)?;
    if let Some((globals, _)) = &globals {
        storage.delete(globals).await.map_err(at)?;
    }
    let proofs = Key::new(format!("{}.proofs", copy.key))?;
    let proofs: Vec<ObjectInfo> = storage.list(&proofs).try_collect().await.map_err(at)?;
    for proof in proofs {
        storage.delete(&proof.key).await.map_err(at)?;
    }
    Mark::take_away(storage, &mark).await;
    Ok(())
}

/// The key of `file` in the folder of `key`.
pub(crate) fn beside(key: &Key, file: &str) -> Result<Key> {
    let text = match key.as_str().rsplit_once('/') {
        Some((folder, _)) => format!("{folder}/{file}"),
        None => file.to_owned(),
    };
    Ok(Key::new(text)?)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use pgkeep_storage::StorageExt;

    use super::*;
    use crate::BackupClass;
    use crate::fixture::{at, keeper, keys, memory, meta, policy, store};

    #[tokio::test]
    async fn what_expired_goes_with_all_that_belongs_to_it_and_nothing_else() {
        let keeper = keeper(vec![memory("bucket", true, 1)], at(9 * 24));
        let bucket = &keeper.destinations[0];
        for day in 0..10 {
            store(bucket, &meta(BackupClass::Daily, at(day * 24), b"archive"), b"archive").await;
        }
        let proof = Key::new("daily/daily_20251017_030001.dump.proofs/20251018_040000_deep.json").expect("valid");
        bucket.storage.put(&proof, Bytes::from_static(b"{}")).await.expect("stored");
        bucket
            .storage
            .put(&Key::new("daily/notes.txt").expect("valid"), Bytes::from_static(b"mine"))
            .await
            .expect("stored");
        let report = keeper
            .prune(&PruneOptions { policy: policy(5, 2), lock: Some(LockOptions::new("prune")) })
            .await
            .expect("pruned");
        assert_eq!((report.removed, report.freed_bytes), (4, 28), "{report:?}");
        let left = keys(bucket).await;
        assert_eq!(left.iter().filter(|key| key.ends_with(".meta")).count(), 6);
        assert_eq!(left.iter().filter(|key| key.ends_with(".dump")).count(), 6);
        assert!(left.contains(&"daily/notes.txt".to_owned()));
        assert!(!left.iter().any(|key| key.contains("unpublished")), "no mark is left: {left:?}");
        let again = keeper.prune(&PruneOptions { policy: policy(5, 2), lock: None }).await.expect("pruned");
        assert_eq!(again.removed, 0);
    }

    #[tokio::test]
    async fn an_unreadable_meta_stops_removal_at_its_destination_only() {
        let keeper = keeper(vec![memory("bucket", true, 1), memory("local", false, 0)], at(9 * 24));
        for destination in &keeper.destinations {
            for day in 0..10 {
                store(destination, &meta(BackupClass::Daily, at(day * 24), b"archive"), b"archive").await;
            }
        }
        let broken = Key::new("daily/daily_20251101_030001.dump.meta").expect("valid");
        keeper.destinations[0].storage.put(&broken, Bytes::from_static(b"{")).await.expect("stored");
        let report = keeper.prune(&PruneOptions { policy: policy(5, 2), lock: None }).await.expect("pruned");
        assert_eq!(report.plans.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["local"]);
        assert_eq!(report.warnings.len(), 1);
        assert_eq!(keys(&keeper.destinations[0]).await.len(), 21);
        assert_eq!(keys(&keeper.destinations[1]).await.len(), 12);
    }

    #[tokio::test]
    async fn a_fresh_archive_without_meta_is_left_alone() {
        let keeper = keeper(vec![memory("bucket", true, 1)], at(1_000_000));
        let bucket = &keeper.destinations[0];
        bucket
            .storage
            .put(&Key::new("daily/daily_20251017_030001.dump").expect("valid"), Bytes::from_static(b"in progress"))
            .await
            .expect("stored");
        let report = keeper.prune(&PruneOptions { policy: policy(0, 0), lock: None }).await.expect("pruned");
        assert_eq!(report.swept, 0);
        assert_eq!(keys(bucket).await.len(), 1);
    }
}
