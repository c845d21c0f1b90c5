//! The dump stage of a backup: an archive on its way to every store, proven whole, not yet visible.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pgkeep_archive::Toc;
use pgkeep_dump::{DumpOutcome, DumpStream, ServerFacts, globals_warnings};
use pgkeep_metrics::{Event, Observer, Stage};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::draft::Name;
use crate::lanes::{Lanes, Target, Written};
use crate::pipeline::{AbortOnDrop, Pipeline, joined};
use crate::progress::Progress;
use crate::run::{Run, chain};
use crate::sequencer::{Sequenced, Sequencer};
use crate::{Catalog, Error, FingerprintKey, GlobalsMeta, PlainDigest, Result, StoredDigest};

/// How long an engine may take to end its children and sessions.
const ENGINE_END_LIMIT: Duration = Duration::from_secs(20);

/// All that is known of an archive when it is whole.
#[derive(Debug)]
pub(crate) struct Archive {
    pub(crate) toc: Arc<Toc>,
    /// The engine that made it.
    pub(crate) engine: &'static str,
    pub(crate) sequenced: Sequenced,
    pub(crate) key: FingerprintKey,
    pub(crate) outcome: DumpOutcome,
    pub(crate) globals: Option<Globals>,
}

/// The globals object.
#[derive(Debug, Clone)]
pub(crate) struct Globals {
    pub(crate) meta: GlobalsMeta,
    pub(crate) stored: Bytes,
}

/// An archive, and the writers that hold all of it.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) archive: Archive,
    pub(crate) written: Vec<Written>,
}

impl Run<'_> {
    /// Dumps, compresses and stores; ends well only if the engine has said that this was all (law 2). Ended otherwise,
    /// every writer was given up and every child is gone.
    pub(crate) async fn dump(
        &mut self,
        name: &Name,
        facts: &ServerFacts,
        targets: Vec<Target>,
        catalog: &Catalog,
    ) -> Result<Made> {
        let engine_ends = CancellationToken::new();
        let _with_us = engine_ends.clone().drop_guard();
        let clock = self.started(Stage::Dump, &format!("{} as {}", facts.identity.database, name.id));

        let start = async { Ok(self.engine.start(engine_ends.clone()).await?) };
        let mut stream = self.stop.until(start).await?;
        let (toc, engine) = (Arc::clone(&stream.toc), stream.engine);
        let (_, none) = mpsc::unbounded_channel();
        let notes = std::mem::replace(&mut stream.notes, none);
        let mut notes = AbortOnDrop(tokio::spawn(pass_on(notes, Arc::clone(&self.keeper.observer))));
        let key = FingerprintKey::random();
        let codec = Arc::clone(&self.options.codec);
        let recipients = self.options.encryption.clone();
        let pipeline = Pipeline { backup: name.id.to_string(), codec, jobs: self.options.jobs, key, recipients };
        let mut progress = Progress::new(&self.keeper.observer, Stage::Dump, self.expected_bytes(facts, catalog));
        let mut lanes = self.stop.until(async { Ok(Lanes::open(targets).await) }).await?;

        let work = async {
            let run = pipeline.run(&mut stream, &mut lanes, &mut progress);
            tokio::try_join!(run, self.globals(name, engine_ends.clone()))
        };
        let streamed = self.stop.until(work).await;
        // An archive that is not whole has its reason in the engine, which is asked first.
        let torn = matches!(streamed, Err(Error::Archive { .. }));
        if streamed.is_err() && !torn {
            engine_ends.cancel();
        }
        let (sequencer, globals) = match streamed {
            Ok(((sequencer, encrypted), globals)) => (self.verdict(name, stream, sequencer, encrypted).await, globals),
            Err(error) => {
                // This is for its children to be gone, too.
                let verdict = tokio::time::timeout(ENGINE_END_LIMIT, stream.finish()).await;
                engine_ends.cancel();
                let error = match verdict {
                    Ok(Err(cause)) if torn && !matches!(cause, pgkeep_dump::Error::Interrupted) => cause.into(),
                    _ => error,
                };
                (Err(error), Err(String::new()))
            }
        };
        let (outcome, sequenced) = match sequencer {
            Ok(whole) => whole,
            Err(error) => {
                lanes.abort().await;
                return Err(error);
            }
        };

        // The engine has ended, and so have its notes.
        let _ = (&mut notes.0).await;
        let (written, failed) = lanes.into_writers();
        for (target, error) in failed {
            self.fail(target.destination, error);
        }
        for warning in &outcome.warnings {
            self.warn(warning);
        }
        let globals = match globals {
            Ok((globals, warnings)) => {
                for warning in &warnings {
                    self.warn(warning);
                }
                Some(globals)
            }
            Err(reason) => {
                self.warn(&format!("the backup has no roles and tablespaces: {reason}"));
                None
            }
        };
        self.finished(Stage::Dump, clock);
        Ok(Made { archive: Archive { toc, engine, sequenced, key, outcome, globals }, written })
    }

    /// What the engine says of itself, and then what its archive says: the engine knows better why something is missing.
    async fn verdict(
        &self,
        name: &Name,
        stream: DumpStream,
        sequencer: Sequencer,
        encrypted: Option<StoredDigest>,
    ) -> Result<(DumpOutcome, Sequenced)> {
        let outcome = self.stop.until(async { Ok(stream.finish().await?) }).await?;
        let backup = || name.id.to_string();
        let sequenced = sequencer.finish().map_err(|source| Error::Archive { backup: backup(), source })?;
        let stored = encrypted.unwrap_or_else(|| sequenced.stored.clone());
        Ok((outcome, Sequenced { stored, ..sequenced }))
    }

    /// The globals object, and what it lacks; or why there is none, which is no reason to have no backup.
    async fn globals(&self, name: &Name, ends: CancellationToken) -> Result<Result<(Globals, Vec<String>), String>> {
        let plain = match self.engine.globals(ends).await {
            Ok(plain) => plain,
            Err(error) => return Ok(Err(chain(&error))),
        };
        let warnings = globals_warnings(&plain);
        let (codec, recipients) = (Arc::clone(&self.options.codec), self.options.encryption.clone());
        let (plain, stored) = joined(
            tokio::task::spawn_blocking(move || {
                let mut stored = Vec::new();
                codec.encode(&plain, &mut stored).map_err(|error| Error::Task(error.to_string()))?;
                if let Some(recipients) = recipients {
                    stored = recipients.seal(&stored)?;
                }
                Ok::<_, Error>((plain, Bytes::from(stored)))
            })
            .await,
        )??;
        let meta = GlobalsMeta {
            file: name.globals.clone(),
            stored: StoredDigest { bytes: stored.len() as u64, sha256: hex::encode(Sha256::digest(&stored)) },
            plain: PlainDigest::of(&plain),
            role_passwords: self.options.role_passwords,
        };
        Ok(Ok((Globals { meta, stored }, warnings)))
    }

    /// About how many plain bytes will come: as many as last time, grown as the database has.
    fn expected_bytes(&self, facts: &ServerFacts, catalog: &Catalog) -> Option<u64> {
        let alike =
            |meta: &crate::Meta| meta.selects(&self.options.selection.arguments) && meta.database.size_bytes > 0;
        let last = catalog.own().map(|entry| entry.meta.as_ref()).find(|meta| alike(meta));
        match last {
            Some(last) => {
                let grown =
                    u128::from(last.plain.bytes) * u128::from(facts.size_bytes) / u128::from(last.database.size_bytes);
                u64::try_from(grown).ok()
            }
            None => self.options.selection.arguments.is_empty().then_some(facts.size_bytes),
        }
    }
}

/// Tells what the engine has to say.
async fn pass_on(mut notes: mpsc::UnboundedReceiver<String>, observer: Arc<dyn Observer>) {
    while let Some(message) = notes.recv().await {
        observer.notice(&Event::Info { message });
    }
}
