//! The publish stage of a backup: objects completed and checked, and the meta last (law 1).

use std::time::Instant;

use bytes::Bytes;
use futures::future::join_all;
use pgkeep_metrics::Stage;
use pgkeep_storage::{Created, Error as StorageError, Key, ObjectInfo, ObjectWriter, Storage, StorageExt};

use crate::inventory::human_bytes;
use crate::lanes::{Target, give_up};
use crate::make::{Globals, Made};
use crate::prune::beside;
use crate::run::Run;
use crate::{Error, Lock, Meta, Result, objects};

impl Run<'_> {
    /// Completes the archive and the globals everywhere, checks that the stores have what was sent, and writes the meta.
    /// Gives the targets that now hold the backup. Interrupted before the first meta, it takes back what is visible.
    pub(crate) async fn publish(
        &mut self,
        mut meta: Meta,
        made: Made,
        lock: &Lock,
        begun: Instant,
    ) -> Result<(Meta, Vec<Target>)> {
        let clock = self.started(Stage::Publish, meta.id.as_str());
        let globals = made.archive.globals;
        let targets: Vec<Target> = made.written.iter().map(|(target, _)| target.clone()).collect();
        let completing = made.written.into_iter().map(|(target, writer)| {
            let (globals, bytes) = (globals.as_ref(), meta.stored.bytes);
            async move {
                let outcome = complete(&target, writer, globals, bytes).await;
                (target, outcome)
            }
        });
        let completed = match self.stop.until(async { Ok(join_all(completing).await) }).await {
            Ok(completed) => completed,
            Err(reason) => {
                withdraw_all(&targets, globals.as_ref()).await;
                return Err(reason);
            }
        };
        let mut complete = Vec::new();
        for (target, outcome) in completed {
            match outcome {
                Ok(()) => complete.push(target),
                Err(error) => self.fail(target.destination, error),
            }
        }
        // A lock that went with its store tells us nothing new; any other loss means that somebody else is at work.
        if let Err(error) = lock.check()
            && !self.failed_at(&error)
        {
            withdraw_all(&complete, globals.as_ref()).await;
            return Err(error);
        }

        meta.duration_seconds = begun.elapsed().as_secs();
        meta.warnings.clone_from(&self.warnings);
        let json = Bytes::from(meta.to_json()?);
        // From here on nothing is taken back because of an interruption: what has a meta is a backup.
        let publishing = complete.into_iter().map(|target| {
            let (meta, json, globals) = (&meta, json.clone(), globals.as_ref());
            async move {
                let outcome = publish_meta(&target, meta, json, globals).await;
                (target, outcome)
            }
        });
        let mut published = Vec::new();
        for (target, outcome) in join_all(publishing).await {
            match outcome {
                Ok(()) => {
                    let (name, place) = (&target.destination.name, target.destination.storage.location());
                    self.info(&format!(
                        "stored and checked at {name}: {place}/{}, {}",
                        target.key,
                        human_bytes(meta.stored.bytes)
                    ));
                    published.push(target);
                }
                Err(error) => self.fail(target.destination, error),
            }
        }
        self.finished(Stage::Publish, clock);
        Ok((meta, published))
    }

    fn failed_at(&self, error: &Error) -> bool {
        let Error::LockLost { location } = error else { return false };
        self.failed.iter().any(|(destination, _)| destination.storage.location().as_str() == location)
    }
}

/// Makes archive and globals visible at one destination, and asks the store what it has.
async fn complete(target: &Target, writer: Box<dyn ObjectWriter>, globals: Option<&Globals>, bytes: u64) -> Result<()> {
    let storage = target.destination.storage.as_ref();
    if let Err(error) = prepare(storage, target, globals).await {
        give_up(writer).await;
        return Err(error);
    }
    let checked = match writer.finish().await {
        Ok(written) => check(storage, &target.key, &written, bytes).await,
        Err(error) => Err(objects::at(storage)(error)),
    };
    if checked.is_err() {
        withdraw(target, globals).await;
    }
    checked
}

/// The globals, and a last look that the name is still free.
async fn prepare(storage: &dyn Storage, target: &Target, globals: Option<&Globals>) -> Result<()> {
    let meta = meta_key(target)?;
    for key in [&meta, &target.key] {
        if storage.exists(key).await.map_err(objects::at(storage))? {
            return Err(Error::NameTaken { object: format!("{}/{key}", storage.location()) });
        }
    }
    if let Some(globals) = globals {
        objects::put(storage, &beside(&target.key, &globals.meta.file)?, globals.stored.clone()).await?;
    }
    Ok(())
}

/// Compares what the store says it has with what was sent: size, and the checksum it gave when it took it.
async fn check(storage: &dyn Storage, key: &Key, written: &ObjectInfo, bytes: u64) -> Result<()> {
    let found = storage.head(key).await.map_err(objects::at(storage))?;
    let object = || format!("{}/{key}", storage.location());
    if found.bytes != bytes {
        return Err(Error::Damaged {
            object: object(),
            reason: format!("{bytes} bytes were sent, {} are there", found.bytes),
        });
    }
    match (&written.e_tag, &found.e_tag) {
        (Some(written), Some(found)) if written != found => {
            Err(Error::Damaged { object: object(), reason: "it was replaced after it was written".to_owned() })
        }
        _ => Ok(()),
    }
}

/// Creates the meta. When the store can't say whether it did, it is asked what is there.
async fn publish_meta(target: &Target, meta: &Meta, json: Bytes, globals: Option<&Globals>) -> Result<()> {
    let storage = target.destination.storage.as_ref();
    let key = meta_key(target)?;
    let created = storage.create(&key, json.clone()).await;
    if matches!(created, Ok(Created::Created)) {
        return Ok(());
    }
    let found = objects::get(storage, &key).await;
    if matches!(&found, Ok(Some(found)) if *found == json) {
        return Ok(());
    }
    match (created, found) {
        (Ok(_), _) => Err(Error::NameTaken { object: format!("{}/{}", storage.location(), meta.file()) }),
        (Err(error), found) => {
            // Without a meta the archive is litter; with one of whatever content it is not ours to remove.
            if matches!(found, Ok(None)) {
                withdraw(target, globals).await;
            }
            Err(objects::at(storage)(error))
        }
    }
}

async fn withdraw_all(targets: &[Target], globals: Option<&Globals>) {
    join_all(targets.iter().map(|target| withdraw(target, globals))).await;
}

/// Takes back an archive that never got a meta, best effort: what stays is swept as an orphan later.
async fn withdraw(target: &Target, globals: Option<&Globals>) {
    let storage = target.destination.storage.as_ref();
    let Ok(meta) = meta_key(target) else { return };
    if !matches!(storage.head(&meta).await, Err(StorageError::NotFound { .. })) {
        return;
    }
    let _ = storage.delete(&target.key).await;
    if let Some(globals) = globals
        && let Ok(key) = beside(&target.key, &globals.meta.file)
    {
        let _ = storage.delete(&key).await;
    }
}

fn meta_key(target: &Target) -> Result<Key> {
    Ok(Key::new(format!("{}.meta", target.key))?)
}
