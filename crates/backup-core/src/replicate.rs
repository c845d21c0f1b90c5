//! Missing copies made good.

use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use pgkeep_metrics::Stage;
use pgkeep_storage::{Created, Key, Storage, WriteOptions};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::{
    Catalog, CatalogEntry, Copy, Destination, Error, Keeper, Policy, Result, RetentionPlan, StoredDigest, objects,
    prune::beside,
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
    /// first, digests checked on the way. Without a policy, every one it misses.
    pub async fn replicate_missing(&self, catalog: &Catalog, policy: Option<&Policy>) -> Result<ReplicateReport> {
        let mut report = ReplicateReport::default();
        for (index, destination) in self.destinations.iter().enumerate() {
            let listed = !catalog.incomplete.iter().any(|(name, _)| *name == destination.name);
            if !destination.required || !listed {
                continue;
            }
            for entry in self.missing(catalog, index, policy) {
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
    fn missing<'c>(&self, catalog: &'c Catalog, destination: usize, policy: Option<&Policy>) -> Vec<&'c CatalogEntry> {
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

    /// Copies one backup (archive, globals, meta last) from its nearest good copy to another destination.
    pub async fn copy_backup(&self, entry: &CatalogEntry, to: usize) -> Result<()> {
        let meta = &entry.meta;
        let from = entry.copies.iter().find(|copy| copy.destination != to && entry.good_at(copy.destination));
        let from = from
            .ok_or_else(|| Error::NotFound { wanted: format!("a good copy of {}", meta.id), candidates: Vec::new() })?;
        let target = &self.destinations[to];
        let source = self.destinations[from.destination].storage.as_ref();
        let key = target.key(&meta.id, &meta.backup_file)?;
        self.observer.notice(&pgkeep_metrics::Event::StageStarted {
            stage: Stage::Replicate,
            subject: format!("{} from {} to {}", meta.id, from.name, target.name),
        });
        let began = std::time::Instant::now();
        self.copy_object(source, &from.key, target, &key, &meta.stored, true).await?;
        if let Some(globals) = &meta.globals {
            self.copy_object(
                source,
                &beside(&from.key, &globals.file)?,
                target,
                &beside(&key, &globals.file)?,
                &globals.stored,
                false,
            )
            .await?;
        }
        let json = self.meta_json(source, from).await?;
        let meta_key = Key::new(format!("{key}.meta"))?;
        let storage = target.storage.as_ref();
        if storage.create(&meta_key, json.clone()).await.map_err(objects::at(storage))? == Created::Exists
            && objects::get(storage, &meta_key).await?.is_none_or(|stored| stored != json)
        {
            return Err(Error::Damaged {
                object: meta_key.to_string(),
                reason: "another backup has this name".to_owned(),
            });
        }
        self.observer
            .notice(&pgkeep_metrics::Event::StageFinished { stage: Stage::Replicate, elapsed: began.elapsed() });
        Ok(())
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
