//! Removing what retention no longer keeps, and what interrupted runs left.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use futures::TryStreamExt;
use pgkeep_storage::{Key, ObjectInfo, Storage, StorageExt};
use serde::Serialize;

use crate::{
    BackupId, Catalog, CatalogEntry, Copy, Destination, Error, Keep, Keeper, Lock, LockOptions, Policy, Result,
    RetentionPlan, Unreadable, objects,
};

/// Objects without a meta are left alone for this long: a backup that is being published has some.
const SAFETY_AGE: TimeDelta = TimeDelta::hours(24);

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
    /// Orphan objects and unfinished uploads swept.
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

    /// Removes what the policy does not keep: meta first, so that no reader sees half a backup. Sweeps orphans past
    /// the safety age. What can't be removed is a warning; the rest goes on.
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
        for destination in &self.destinations {
            if is_complete(&catalog, destination)
                && let Err(error) = self.sweep(destination, &mut report).await
            {
                report.warnings.push(format!("orphans at {} could not be swept: {error}", destination.name));
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
        match withdraw(self.destinations[index].storage.as_ref(), entry, copy).await {
            Ok(()) => {
                report.removed += 1;
                report.freed_bytes += copy.stored_bytes.unwrap_or_default();
                self.detail(&format!("removed {id} from {}", copy.name));
            }
            Err(error) => report.warnings.push(format!("{id} could not be removed from {}: {error}", copy.name)),
        }
    }

    /// Removes objects that belong to no backup and that no run can still be working on.
    async fn sweep(&self, destination: &Destination, report: &mut PruneReport) -> Result<()> {
        let storage = destination.storage.as_ref();
        let objects: Vec<ObjectInfo> = storage.list(&Key::root()).try_collect().await.map_err(objects::at(storage))?;
        // The store's newest time stands for its clock: never later than now, so never too eager.
        let newest = objects.iter().map(|object| object.modified_ms).max().unwrap_or_default();
        let limit = DateTime::<Utc>::from_timestamp_millis(newest).unwrap_or_default() - SAFETY_AGE;
        let archives: BTreeSet<&str> =
            objects.iter().filter_map(|object| object.key.as_str().strip_suffix(".meta")).collect();
        let stems: BTreeSet<&str> = archives.iter().map(|archive| stem(archive)).collect();
        for object in &objects {
            let text = object.key.as_str();
            let orphan = !is_meta(text) && is_ours(text) && !stems.contains(stem(text));
            let old = DateTime::<Utc>::from_timestamp_millis(object.modified_ms).is_some_and(|written| written < limit);
            if orphan && old {
                storage.delete(&object.key).await.map_err(objects::at(storage))?;
                report.swept += 1;
                self.detail(&format!("swept {text} from {}: it belongs to no backup", destination.name));
            }
        }
        report.swept += storage.sweep_unfinished(limit.timestamp_millis()).await.map_err(objects::at(storage))?;
        Ok(())
    }
}

/// Whether an object that can't be read makes it unknown what there is: an unreadable proof can only make us keep more.
fn blocks(unreadable: &Unreadable) -> bool {
    is_meta(&unreadable.key) || unreadable.key == "source.json"
}

fn is_complete(catalog: &Catalog, destination: &Destination) -> bool {
    let listed = !catalog.incomplete.iter().any(|(name, _)| *name == destination.name);
    listed
        && !catalog.unreadable.iter().any(|unreadable| unreadable.destination == destination.name && blocks(unreadable))
}

fn is_meta(key: &str) -> bool {
    key.strip_suffix(".meta").is_some()
}

/// Removes one copy of a backup: its meta first.
pub(crate) async fn withdraw(storage: &dyn Storage, entry: &CatalogEntry, copy: &Copy) -> Result<()> {
    let at = objects::at(storage);
    let meta = Key::new(format!("{}.meta", copy.key))?;
    storage.delete(&meta).await.map_err(at)?;
    storage.delete(&copy.key).await.map_err(at)?;
    if let Some(globals) = &entry.meta.globals {
        storage.delete(&beside(&copy.key, &globals.file)?).await.map_err(at)?;
    }
    let proofs = Key::new(format!("{}.proofs", copy.key))?;
    let proofs: Vec<ObjectInfo> = storage.list(&proofs).try_collect().await.map_err(at)?;
    for proof in proofs {
        storage.delete(&proof.key).await.map_err(at)?;
    }
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

/// Folder and backup name of an object: `daily/daily_20251017_030001` of `daily/daily_20251017_030001.dump.zst`.
fn stem(key: &str) -> &str {
    let file = key.find('/').map_or(0, |slash| {
        // Proofs lie one folder deeper than their archive.
        key.split_once(".proofs/").map_or(key, |(archive, _)| archive).rfind('/').unwrap_or(slash) + 1
    });
    let file = if key[..file].contains(".dump") { 0 } else { file };
    key[file..].find('.').map_or(key, |dot| &key[..file + dot])
}

/// Whether an object's name is one that only we give.
fn is_ours(key: &str) -> bool {
    let stem = stem(key);
    let rest = &key[stem.len()..];
    let name = stem.rsplit('/').next().unwrap_or(stem);
    let dated = name.split('_').nth(1).is_some_and(|stamp| stamp.starts_with(|first: char| first.is_ascii_digit()));
    dated && BackupId::parse(name).is_some() && (rest.starts_with(".dump") || rest.starts_with(".globals.sql"))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::BackupClass;
    use crate::fixture::{at, keeper, keys, memory, meta, policy, store};

    #[test]
    fn stems_tell_what_belongs_together() {
        let archive = "daily/daily_20251017_030001.dump.zst";
        assert_eq!(stem(archive), "daily/daily_20251017_030001");
        assert_eq!(stem("daily/daily_20251017_030001.globals.sql.zst"), stem(archive));
        assert_eq!(stem("daily/daily_20251017_030001.dump.zst.proofs/20251018_040000_deep.json"), stem(archive));
        assert_eq!(stem("daily_20251017_030001.dump.zst.proofs/20251018_040000_deep.json"), "daily_20251017_030001");
        assert_eq!(stem("daily_20251017_030001.dump"), "daily_20251017_030001");
    }

    #[test]
    fn only_names_that_we_give_are_ours() {
        assert!(is_ours("daily/daily_20251017_030001.dump.zst"));
        assert!(is_ours("weekly_2025_W42_020001.globals.sql"));
        assert!(is_ours("pre-restore_20251017_030001.dump.gz.proofs/x.json"));
        for foreign in [
            "daily/notes.txt",
            "daily_report.dump",
            "source.json",
            ".pgkeep/lock-00000001",
            "yearly_2025.dump.gz",
            "daily_20251017_030001.sql",
        ] {
            assert!(!is_ours(foreign), "{foreign}");
        }
    }

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
