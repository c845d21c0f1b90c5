//! The publish stage of a backup: objects completed and checked, and the meta last (law 1).

use std::time::Instant;

use bytes::Bytes;
use futures::future::join_all;
use pgkeep_metrics::Stage;
use pgkeep_storage::{Created, Error as StorageError, Key, ObjectInfo, ObjectWriter, Storage, StorageExt};

use crate::inventory::human_bytes;
use crate::lanes::{Target, give_up};
use crate::make::{Globals, Made};
use crate::mark::Mark;
use crate::pipeline::joined;
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
            let (globals, meta, host) = (globals.as_ref(), &meta, self.keeper.host.as_str());
            async move {
                let outcome = complete(&target, writer, globals, meta, host).await;
                (target, outcome)
            }
        });
        let completed = match self.stop.until(async { Ok(join_all(completing).await) }).await {
            Ok(completed) => completed,
            Err(reason) => {
                // How far each came is not known; what no mark of this backup names may be somebody else's.
                for target in &targets {
                    let storage = target.destination.storage.as_ref();
                    let ours = Mark::covers(storage, &meta.id, &target.key, meta.stored.bytes).await;
                    if ours.unwrap_or(false) {
                        withdraw(target, globals.as_ref()).await;
                    }
                }
                return Err(reason);
            }
        };
        let mut complete = Vec::new();
        for (target, outcome) in completed {
            match outcome {
                Ok(mark) => complete.push((target, mark)),
                Err(error) => self.fail(target.destination, error),
            }
        }
        // A lock that went with its store tells us nothing new; any other loss means that somebody else is at work.
        if let Err(error) = lock.check()
            && !self.failed_at(&error)
        {
            withdraw_all(complete.iter().map(|(target, _)| target), globals.as_ref()).await;
            return Err(error);
        }

        meta.duration_seconds = begun.elapsed().as_secs();
        meta.warnings.clone_from(&self.warnings);
        let json = self.meta_json(&meta).await?;
        // From here on nothing is taken back because of an interruption: what has a meta is a backup.
        let publishing = complete.into_iter().map(|(target, mark)| {
            let (meta, json, globals) = (&meta, json.clone(), globals.as_ref());
            async move {
                let outcome = publish_meta(&target, meta, json, globals).await;
                if outcome.is_ok() {
                    Mark::take_away(target.destination.storage.as_ref(), &mark).await;
                }
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

    /// The meta as it is stored: encrypted, it keeps what names tables and roles to itself.
    async fn meta_json(&self, meta: &Meta) -> Result<Bytes> {
        let Some(recipients) = self.options.encryption.clone() else { return Ok(Bytes::from(meta.to_json()?)) };
        let meta = meta.clone();
        let sealed = joined(tokio::task::spawn_blocking(move || meta.seal(&recipients)).await)??;
        Ok(Bytes::from(sealed.to_json()?))
    }

    fn failed_at(&self, error: &Error) -> bool {
        let Error::LockLost { location } = error else { return false };
        self.failed.iter().any(|(destination, _)| destination.storage.location().as_str() == location)
    }
}

/// Makes archive and globals visible at one destination, and asks the store what it has. Gives the mark that says whose
/// they are until they have a meta; if it comes to none, the mark stays for what may still appear.
async fn complete(
    target: &Target,
    writer: Box<dyn ObjectWriter>,
    globals: Option<&Globals>,
    meta: &Meta,
    host: &str,
) -> Result<Key> {
    let storage = target.destination.storage.as_ref();
    let mark = match prepare(storage, target, globals, meta, host).await {
        Ok(mark) => mark,
        Err(error) => {
            give_up(writer).await;
            return Err(error);
        }
    };
    let checked = match writer.finish().await {
        Ok(written) => check(storage, &target.key, &written, meta.stored.bytes).await,
        Err(error) => Err(objects::at(storage)(error)),
    };
    if checked.is_err() {
        withdraw(target, globals).await;
    }
    checked.map(|()| mark)
}

/// A last look that the name is still free, the mark that from here on makes its objects ours, and the globals.
async fn prepare(
    storage: &dyn Storage,
    target: &Target,
    globals: Option<&Globals>,
    made: &Meta,
    host: &str,
) -> Result<Key> {
    let meta = meta_key(target)?;
    let globals = globals.map(|globals| Ok::<_, Error>((beside(&target.key, &globals.meta.file)?, globals)));
    let globals = globals.transpose()?;
    for key in [&meta, &target.key].into_iter().chain(globals.as_ref().map(|(key, _)| key)) {
        if storage.exists(key).await.map_err(objects::at(storage))? {
            return Err(Error::NameTaken { object: format!("{}/{key}", storage.location()) });
        }
    }
    let mut marked = vec![(&target.key, made.stored.bytes)];
    marked.extend(globals.as_ref().map(|(key, globals)| (key, globals.meta.stored.bytes)));
    let mark = Mark::new(&made.id, host, &target.key, &marked).put(storage).await?;
    if let Some((key, globals)) = &globals {
        objects::put(storage, key, globals.stored.clone()).await?;
    }
    Ok(mark)
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

async fn withdraw_all<'t>(targets: impl IntoIterator<Item = &'t Target>, globals: Option<&Globals>) {
    join_all(targets.into_iter().map(|target| withdraw(target, globals))).await;
}

/// Takes back an archive that never got a meta, best effort: what stays is swept by its mark later.
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
