//! Removing what retention no longer keeps, and what interrupted runs left.

use std::collections::BTreeSet;

use futures::TryStreamExt;
use pgkeep_storage::{Key, ObjectInfo, Storage};
use serde::Serialize;

use crate::mark::Mark;
use crate::run::chain;
use crate::stop::Stop;
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
    /// What [`Self::prune`] would do, per destination. A destination that has an unreadable meta gets no plan. None does if one
    /// could not be listed in full, where proofs of any backup may lie, or if it is not known whose backups they are; backups of
    /// another source are kept. One with an unreadable proof is kept as well, and takes no other's place: the proof may have said that it is damaged.
    pub fn plan_prune(&self, catalog: &Catalog, policy: &Policy) -> Vec<(String, RetentionPlan)> {
        let now = self.clock.now();
        let complete =
            self.destinations.iter().enumerate().filter(|(_, destination)| is_complete(catalog, destination));
        complete
            .map(|(index, destination)| {
                let here = |entry: &&CatalogEntry| entry.copies.iter().any(|copy| copy.destination == index);
                let doubtful: BTreeSet<&BackupId> =
                    catalog.own().filter(|entry| is_doubtful(catalog, entry)).map(|entry| &entry.meta.id).collect();
                let keep = |entry: &CatalogEntry| {
                    let keep = entry.keep(index);
                    let sure = !doubtful.contains(&keep.id);
                    Keep { good: keep.good && sure, proven: keep.proven && sure, ..keep }
                };
                let backups: Vec<Keep> = catalog.own().filter(here).map(keep).collect();
                let mut plan = RetentionPlan::new(&backups, &policy.rules(&destination.name), now);
                plan.keep_doubtful(|id| doubtful.contains(id));
                (destination.name.clone(), plan)
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
        let stop = Stop::new(&self.cancel, None);
        let mut outcome = stop.until(self.prune_locked(&options.policy, lock.as_ref())).await;
        if let Some(lock) = lock
            && let Err(error) = lock.release().await
            && let Ok(report) = &mut outcome
        {
            let why = chain(&error);
            report.warnings.push(format!("the lock could not be given back, it ends by itself: {why}"));
        }
        outcome
    }

    /// The same under a lock that is there already, if there is one. May be dropped at any point.
    pub(crate) async fn prune_locked(&self, policy: &Policy, lock: Option<&Lock>) -> Result<PruneReport> {
        let catalog = Catalog::load(self).await?;
        let mut report = PruneReport::default();
        for (name, reason) in &catalog.incomplete {
            report.warnings.push(format!("{name} could not be listed, so nothing is removed: {reason}"));
        }
        for unreadable in &catalog.unreadable {
            let Unreadable { destination, key, reason, .. } = unreadable;
            let consequence = if blocks(unreadable) {
                ", so nothing is removed there"
            } else if key.contains(".proofs/") {
                ", so its backup is kept"
            } else {
                ""
            };
            report.warnings.push(format!("{key} at {destination} can't be read{consequence}: {reason}"));
        }
        if !knows_whose(&catalog) {
            let lost =
                "there are backups of more than one source and no source.json that says which is the present one";
            report.warnings.push(format!("{lost}, so nothing is removed"));
        }
        report.plans = self.plan_prune(&catalog, policy);
        let plans = report.plans.clone();
        for (name, plan) in &plans {
            let Some(index) = self.destinations.iter().position(|destination| destination.name == *name) else {
                continue;
            };
            for decision in plan.removals() {
                if let Some(lock) = lock {
                    lock.check()?;
                }
                self.remove(&catalog, index, &decision.id, &mut report).await;
            }
        }
        for plan in self.plan_sweep(&catalog).await {
            if let Some(lock) = lock {
                lock.check()?;
            }
            match self.sweep(&plan).await {
                Ok(swept) => report.swept += swept,
                Err(error) => {
                    let name = &plan.destination;
                    report.warnings.push(format!("what was left at {name} could not be swept: {}", chain(&error)));
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
            Err(error) => {
                report.warnings.push(format!("{id} could not be removed from {}: {}", copy.name, chain(&error)))
            }
        }
    }
}

/// Whether an object that can't be read makes it unknown what there is.
fn blocks(unreadable: &Unreadable) -> bool {
    unreadable.is_meta() || unreadable.key == "source.json"
}

/// Whether all is known of what lies at a destination. Some of it may be told elsewhere: what was verified of it, and when it was
/// made.
pub(crate) fn is_complete(catalog: &Catalog, destination: &Destination) -> bool {
    catalog.incomplete.is_empty()
        && knows_whose(catalog)
        && !catalog.unreadable.iter().any(|unreadable| unreadable.destination == destination.name && blocks(unreadable))
}

/// Whether it is known which backups are of the present source: without a record, only if all are of one.
fn knows_whose(catalog: &Catalog) -> bool {
    let mut sources = catalog.entries.iter().map(|entry| (&entry.meta.source, &entry.meta.database.system_identifier));
    let Some((name, cluster)) = sources.next() else { return true };
    // One that is not known is of any.
    let same = |other: &Option<String>| other.is_none() || cluster.is_none() || other == cluster;
    catalog.source.is_some() || sources.all(|(other, of)| other == name && same(of))
}

/// Whether something that can't be read was verified of a backup.
fn is_doubtful(catalog: &Catalog, entry: &CatalogEntry) -> bool {
    let beside = |copy: &Copy, unreadable: &Unreadable| {
        let rest = unreadable.key.strip_prefix(copy.key.as_str());
        copy.name == unreadable.destination && rest.is_some_and(|rest| rest.starts_with(".proofs/"))
    };
    entry.copies.iter().any(|copy| catalog.unreadable.iter().any(|unreadable| beside(copy, unreadable)))
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
        let good =
            br#"{"kind": "quick", "outcome": "good", "at": "2025-10-18T04:00:00Z", "seconds": 1.0, "hostname": "test",
            "destination": "bucket", "findings": [], "tool_version": "test"}"#;
        bucket.storage.put(&proof, Bytes::from_static(good)).await.expect("stored");
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
    async fn a_backup_whose_proof_is_unreadable_is_kept_and_pushes_no_other_out() {
        let keeper = keeper(vec![memory("bucket", true, 1)], at(9 * 24));
        let bucket = &keeper.destinations[0];
        let mut stored = Vec::new();
        for day in 0..3 {
            stored.push(store(bucket, &meta(BackupClass::Daily, at(day * 24), b"archive"), b"archive").await);
        }
        let prune =
            async || keeper.plan_prune(&Catalog::load(&keeper).await.expect("loaded"), &policy(0, 1)).remove(0).1;
        let removed = |plan: &RetentionPlan| plan.removals().count();
        assert_eq!(removed(&prune().await), 2, "all but the newest");
        // What it said is lost: that the newest is damaged, perhaps.
        let proof = Key::new(format!("{}.proofs/20251018_040000_deep.json", stored[2])).expect("valid");
        bucket.storage.put(&proof, Bytes::from_static(b"{\"kind\": \"de")).await.expect("stored");
        let plan = prune().await;
        assert_eq!(removed(&plan), 1, "{plan:?}");
        let reasons: Vec<_> = plan.decisions.iter().map(|decision| decision.reasons.clone()).collect();
        assert_eq!(reasons[0], [crate::Reason::Young, crate::Reason::Doubtful]);
        assert_eq!(reasons[1], [crate::Reason::NewestGood, crate::Reason::Among(1)]);
    }

    #[tokio::test]
    async fn without_a_record_nothing_is_removed_where_backups_of_two_sources_lie() {
        let keeper = keeper(vec![memory("bucket", true, 1)], at(9 * 24));
        let bucket = &keeper.destinations[0];
        for day in 0..4 {
            let source = if day < 2 { "before" } else { "app" }.to_owned();
            let meta = crate::Meta { source, ..meta(BackupClass::Daily, at(day * 24), b"archive") };
            store(bucket, &meta, b"archive").await;
        }
        let report = keeper.prune(&PruneOptions { policy: policy(0, 1), lock: None }).await.expect("pruned");
        assert_eq!((report.removed, report.plans.len(), report.warnings.len()), (0, 0, 1), "{report:?}");
        let identity = pgkeep_dump::SourceIdentity {
            system_identifier: Some("1".to_owned()),
            database: "app".to_owned(),
            server: "db:5432".to_owned(),
        };
        // The record is made again from the newest backup.
        keeper.claim_source(&identity, None, false).await.expect("claimed");
        let report = keeper.prune(&PruneOptions { policy: policy(0, 1), lock: None }).await.expect("pruned");
        assert_eq!((report.removed, report.warnings.len()), (1, 0), "{report:?}");
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
