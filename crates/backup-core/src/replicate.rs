//! Missing copies made good.

use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use pgkeep_metrics::Stage;
use pgkeep_storage::{Created, Error as StorageError, Key, Storage, StorageExt, WriteOptions};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::mark::Mark;
use crate::{
    Catalog, CatalogEntry, Copy, Destination, Error, Keeper, Meta, Policy, Result, RetentionPlan, StoredDigest,
    objects, prune::beside,
};

/// What was copied.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ReplicateReport {
    /// Backup name and destination name of every copy made.
    pub copied: Vec<(String, String)>,
    /// What could not be done.
    pub warnings: Vec<String>,
}

impl Keeper {
    /// Copies to every required destination the good backups that it misses and that its policy would keep, oldest
    /// first, digests checked on the way. Without a policy, every one it misses. With `encrypted_only`, plain ones stay where
    /// they are, and a warning names them.
    pub async fn replicate_missing(
        &self,
        catalog: &Catalog,
        policy: Option<&Policy>,
        encrypted_only: bool,
    ) -> Result<ReplicateReport> {
        let mut report = ReplicateReport::default();
        for (index, destination) in self.destinations.iter().enumerate() {
            let listed = !catalog.incomplete.iter().any(|(name, _)| *name == destination.name);
            if !destination.required || !listed {
                continue;
            }
            let missing = self.missing(catalog, index, policy);
            let (plain, missing): (Vec<_>, Vec<_>) =
                missing.into_iter().partition(|entry| encrypted_only && entry.meta.encryption.is_none());
            if let Some(first) = plain.first() {
                let others = if plain.len() > 1 { format!(" and {} more", plain.len() - 1) } else { String::new() };
                report.warnings.push(format!(
                    "{}{others} from before encryption are not copied to {}, being plain",
                    first.meta.id, destination.name
                ));
            }
            for entry in missing {
                let (id, name) = (entry.meta.id.to_string(), destination.name.clone());
                if self.cancel.is_cancelled() {
                    return Err(Error::Interrupted);
                }
                match self.copy_backup(entry, index).await {
                    Ok(()) => report.copied.push((id, name)),
                    Err(error) => report.warnings.push(format!("{id} could not be copied to {name}: {error}")),
                }
            }
        }
        Ok(report)
    }

    /// What `destination` should have and has not, oldest first.
    pub(crate) fn missing<'c>(
        &self,
        catalog: &'c Catalog,
        destination: usize,
        policy: Option<&Policy>,
    ) -> Vec<&'c CatalogEntry> {
        let has = |entry: &CatalogEntry| entry.copies.iter().any(|copy| copy.destination == destination);
        let candidates: Vec<&CatalogEntry> = catalog.own().filter(|entry| has(entry) || entry.good()).collect();
        let keeps: Vec<_> =
            candidates.iter().map(|entry| crate::Keep { good: entry.good(), ..entry.keep(destination) }).collect();
        let plan = policy.map(|policy| {
            RetentionPlan::new(&keeps, &policy.rules(&self.destinations[destination].name), self.clock.now())
        });
        let kept = |entry: &CatalogEntry| {
            plan.as_ref()
                .is_none_or(|plan| plan.decisions.iter().any(|decision| decision.keep && decision.id == entry.meta.id))
        };
        candidates.into_iter().rev().filter(|entry| !has(entry) && kept(entry)).collect()
    }

    /// Copies one backup (archive, globals, meta last) from its nearest good copy to another destination. Another backup
    /// that has its name there is left alone: [`Error::NameTaken`].
    pub async fn copy_backup(&self, entry: &CatalogEntry, to: usize) -> Result<()> {
        let meta = &entry.meta;
        let from = entry.copies.iter().find(|copy| copy.destination != to && entry.good_at(copy.destination));
        let from = from
            .ok_or_else(|| Error::NotFound { wanted: format!("a good copy of {}", meta.id), candidates: Vec::new() })?;
        let target = &self.destinations[to];
        let source = self.destinations[from.destination].storage.as_ref();
        let key = target.key(&meta.id, &meta.backup_file)?;
        let globals = meta.globals.as_ref().map(|globals| {
            Ok::<_, Error>((beside(&from.key, &globals.file)?, beside(&key, &globals.file)?, &globals.stored))
        });
        let globals = globals.transpose()?;
        let mut written = vec![(&key, meta.stored.bytes)];
        written.extend(globals.as_ref().map(|(_, key, stored)| (key, stored.bytes)));
        for (key, bytes) in &written {
            self.free_for(meta, target, key, *bytes).await?;
        }
        let storage = target.storage.as_ref();
        let json = self.meta_json(source, from).await?;
        let meta_key = Key::new(format!("{key}.meta"))?;
        if storage.exists(&meta_key).await.map_err(objects::at(storage))? {
            return Err(Error::NameTaken { object: format!("{}/{meta_key}", storage.location()) });
        }
        let mark = Mark::new(&meta.id, &self.host, &key, &written).put(storage).await?;
        self.observer.notice(&pgkeep_metrics::Event::StageStarted {
            stage: Stage::Replicate,
            subject: format!("{} from {} to {}", meta.id, from.name, target.name),
        });
        let began = std::time::Instant::now();
        self.copy_object(source, &from.key, target, &key, &meta.stored, true).await?;
        if let Some((from, to, stored)) = &globals {
            self.copy_object(source, from, target, to, stored, false).await?;
        }
        if storage.create(&meta_key, json.clone()).await.map_err(objects::at(storage))? == Created::Exists
            && objects::get(storage, &meta_key).await?.is_none_or(|stored| stored != json)
        {
            return Err(Error::NameTaken { object: format!("{}/{meta_key}", storage.location()) });
        }
        Mark::take_away(storage, &mark).await;
        self.observer
            .notice(&pgkeep_metrics::Event::StageFinished { stage: Stage::Replicate, elapsed: began.elapsed() });
        Ok(())
    }

    /// Refuses to write over what another run, or somebody else, stored under the same name: two hosts may make the same
    /// one. What a copy of ours left that never got a meta is written again.
    async fn free_for(&self, meta: &Meta, target: &Destination, key: &Key, bytes: u64) -> Result<()> {
        let storage = target.storage.as_ref();
        let found = match storage.head(key).await {
            Ok(found) => found,
            Err(StorageError::NotFound { .. }) => return Ok(()),
            Err(error) => return Err(objects::at(storage)(error)),
        };
        if found.bytes == bytes && Mark::covers(storage, &meta.id, key, bytes).await? {
            return Ok(());
        }
        Err(Error::NameTaken { object: format!("{}/{key}", storage.location()) })
    }

    async fn meta_json(&self, source: &dyn Storage, from: &Copy) -> Result<Bytes> {
        let key = Key::new(format!("{}.meta", from.key))?;
        let missing = || Error::NotFound { wanted: key.to_string(), candidates: Vec::new() };
        objects::get(source, &key).await?.ok_or_else(missing)
    }

    async fn copy_object(
        &self,
        source: &dyn Storage,
        from: &Key,
        target: &Destination,
        to: &Key,
        expected: &StoredDigest,
        archive: bool,
    ) -> Result<()> {
        let class = archive.then(|| crate::BackupId::parse(to.name().split('.').next()?)?.class()).flatten();
        let options = WriteOptions {
            storage_class: class.and_then(|class| target.storage_classes.get(&class).cloned()),
            expected_bytes: expected.bytes,
        };
        let storage: &Arc<dyn Storage> = &target.storage;
        let at_target = objects::at(storage.as_ref());
        let mut pieces = source.read(from, None).await.map_err(objects::at(source))?;
        let mut writer = storage.write(to, &options).await.map_err(at_target)?;
        let mut digest = Sha256::new();
        let mut bytes = 0;
        let copied = async {
            while let Some(piece) = pieces.try_next().await.map_err(objects::at(source))? {
                if self.cancel.is_cancelled() {
                    return Err(Error::Interrupted);
                }
                digest.update(&piece);
                bytes += piece.len() as u64;
                writer.write(piece).await.map_err(at_target)?;
            }
            let found = hex::encode(digest.finalize());
            if bytes != expected.bytes || found != expected.sha256 {
                return Err(Error::Damaged {
                    object: from.to_string(),
                    reason: "its digest is not the one in its meta".to_owned(),
                });
            }
            Ok(())
        }
        .await;
        match copied {
            Ok(()) => writer.finish().await.map(drop).map_err(at_target),
            Err(error) => {
                // The first error is the one to tell.
                let _ = writer.abort().await;
                Err(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use pgkeep_storage::StorageExt;

    use super::*;
    use crate::fixture::{at, keeper, keys, memory, meta, store};
    use crate::{BackupClass, FingerprintKey};

    #[tokio::test]
    async fn another_backup_of_the_same_name_is_not_written_over() {
        for with_meta in [true, false] {
            let keeper = keeper(vec![memory("bucket", true, 1), memory("local", false, 0)], at(1));
            let (bucket, local) = (&keeper.destinations[0], &keeper.destinations[1]);
            let theirs =
                Meta { fingerprint_key: FingerprintKey([9; 32]), ..meta(BackupClass::Daily, at(0), b"theirs") };
            let key = store(bucket, &theirs, b"theirs").await;
            let meta_key = Key::new(format!("{key}.meta")).expect("valid");
            let ours = meta(BackupClass::Daily, at(0), b"from another host");
            store(local, &ours, b"from another host").await;
            // Listed before it was there, or never given a meta.
            let unaware = Keeper { destinations: vec![local.clone()], ..keeper.clone() };
            let entry = Catalog::load(&unaware).await.expect("loaded").entries.remove(0);
            let copies = vec![Copy { destination: 1, ..entry.copies[0].clone() }];
            let entry = CatalogEntry { copies, ..entry };
            if !with_meta {
                bucket.storage.delete(&meta_key).await.expect("deleted");
            }
            let refused = keeper.copy_backup(&entry, 0).await.expect_err("the name is taken");
            assert!(matches!(refused, Error::NameTaken { .. }), "{refused}");
            assert_eq!(bucket.storage.read_all(&key, 100).await.expect("there"), "theirs");
            assert_eq!(bucket.storage.exists(&meta_key).await.expect("asked"), with_meta);
        }
    }

    #[tokio::test]
    async fn what_a_copy_left_that_died_is_written_again() {
        let keeper = keeper(vec![memory("bucket", true, 1), memory("local", false, 0)], at(1));
        let (bucket, local) = (&keeper.destinations[0], &keeper.destinations[1]);
        let meta = meta(BackupClass::Daily, at(0), b"archive");
        store(local, &meta, b"archive").await;
        let key = bucket.key(&meta.id, &meta.backup_file).expect("valid");
        let mark = Mark::new(&meta.id, "test", &key, &[(&key, 7)]);
        mark.put(bucket.storage.as_ref()).await.expect("marked");
        bucket.storage.put(&key, Bytes::from_static(b"archive")).await.expect("stored");
        let catalog = Catalog::load(&keeper).await.expect("loaded");
        let report = keeper.replicate_missing(&catalog, None, false).await.expect("copied");
        assert_eq!((report.copied.len(), report.warnings.len()), (1, 0), "{report:?}");
        assert_eq!(keys(bucket).await.iter().filter(|key| key.contains("unpublished")).count(), 1, "its own is gone");
    }
}
