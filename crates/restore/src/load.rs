//! Loading: one sequential pass over the archive, rows and large objects to the lanes.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use pgkeep_archive::{PgText, Toc};
use pgkeep_core::{BackupSource, EntryMeta, FingerprintKey, Meta, PlainArchive, Tally};
use pgkeep_metrics::{Event as Happening, Observer};
use tokio_util::sync::CancellationToken;

use crate::lanes::{Lanes, Table};
use crate::reader::Reader;
use crate::sessions::DataSettings;
use crate::table_load::Outcome;
use crate::{Error, Result};

/// What the load needs to know.
#[derive(Debug)]
pub(crate) struct Loader<'a> {
    /// The backup.
    pub(crate) source: &'a BackupSource,
    /// Its table of contents.
    pub(crate) toc: &'a Toc,
    /// The entries whose data is loaded; all of the archive's if `everything`.
    pub(crate) wanted: &'a [i32],
    /// All of the archive's data is wanted.
    pub(crate) everything: bool,
    /// Sessions.
    pub(crate) settings: DataSettings,
    /// How many lanes.
    pub(crate) jobs: usize,
    /// Who hears of progress.
    pub(crate) observer: Arc<dyn Observer>,
    /// Ends it.
    pub(crate) cancel: CancellationToken,
}

/// What was loaded, as counted on the way.
#[derive(Debug, Clone)]
pub(crate) struct Loaded {
    /// The key of the fingerprints.
    pub(crate) key: FingerprintKey,
    /// Per data entry of tables, in archive order.
    pub(crate) tables: Vec<(i32, Tally)>,
    /// All large objects together; `None` if the archive (or the selection) has none.
    pub(crate) large_objects: Option<Tally>,
}

impl Loaded {
    /// Rows of all tables.
    pub(crate) fn rows(&self) -> u64 {
        self.tables.iter().map(|(_, tally)| tally.rows).sum()
    }

    /// Bytes of COPY text and large objects.
    pub(crate) fn bytes(&self) -> u64 {
        let large = self.large_objects.map_or(0, |tally| tally.bytes);
        self.tables.iter().map(|(_, tally)| tally.bytes).sum::<u64>() + large
    }
}

impl Loader<'_> {
    /// Loads everything that is wanted, compares what was read with the backup's meta, and what the server took with
    /// what was read. A table that the server refused is tried once more when all others are there, because a CHECK
    /// constraint's function may look at other tables.
    pub(crate) async fn run(&self) -> Result<Loaded> {
        let meta = self.source.meta.as_deref();
        let key = meta.map_or_else(FingerprintKey::random, |meta| meta.fingerprint_key);
        if self.wanted.is_empty() && !self.everything {
            return Ok(Loaded { key, tables: Vec::new(), large_objects: None });
        }
        let archive = if self.everything {
            self.source.open(self.jobs).await?
        } else {
            self.source.open_entries(self.wanted, self.jobs).await?
        };
        let (outcomes, large_objects) = self.pass(archive, self.wanted, key).await?;
        let mut loaded = Loaded { key, tables: Vec::with_capacity(outcomes.len()), large_objects };
        let mut refused = Vec::new();
        let stored: HashMap<i32, &EntryMeta> =
            meta.into_iter().flat_map(|meta| &meta.entries).map(|entry| (entry.dump_id, entry)).collect();
        for outcome in outcomes {
            if let Some(entry) = stored.get(&outcome.dump_id) {
                compare_with_meta(&outcome, entry, &self.source.place)?;
            }
            loaded.tables.push((outcome.dump_id, outcome.tally));
            if outcome.failure.is_some() {
                refused.push(outcome);
            } else {
                Self::compare_with_tag(&outcome)?;
            }
        }
        self.again(refused, key).await?;
        Ok(loaded)
    }

    /// Loads refused tables once more, one lane, after everything else. What lanes that were not refused have loaded of them
    /// goes first.
    async fn again(&self, refused: Vec<Outcome>, key: FingerprintKey) -> Result<()> {
        if refused.is_empty() {
            return Ok(());
        }
        let mut connection = self.settings.load().await?;
        let made: HashSet<_> = made_here(self.toc).collect();
        let wanted: HashSet<i32> = self.wanted.iter().copied().collect();
        let routes = crate::lists::Routes::new(&self.toc.entries, |id| wanted.contains(&id));
        for outcome in &refused {
            let Some(entry) = self.toc.entry(outcome.dump_id) else { continue };
            let target = routes.target(entry);
            let shared = target.as_ref().is_none_or(|(schema, name)| {
                // Rows of several partitions went through one root: what it holds now cannot be told apart.
                entry.namespace.as_ref() != Some(schema) || entry.tag != *name
            });
            if shared {
                return Err(refusal(refused.into_iter().next()));
            }
            if !made.contains(&(entry.namespace.as_ref(), &entry.tag)) {
                // Not ours to empty, and nothing of ours is in it: one lane was refused, and no other had it.
                continue;
            }
            let mut truncate = b"TRUNCATE ONLY ".to_vec();
            truncate.extend(crate::sessions::qualified(entry.namespace.as_ref(), &entry.tag));
            if connection.execute(&truncate).await.is_err() {
                return Err(refusal(refused.into_iter().next()));
            }
        }
        let _ = connection.close().await;
        self.observer.notice(&Happening::Info {
            message: format!(
                "loading again, now that all others are there: {}",
                refused.iter().map(|outcome| outcome.name.as_str()).collect::<Vec<_>>().join(", ")
            ),
        });
        let ids: Vec<i32> = refused.iter().map(|outcome| outcome.dump_id).collect();
        let archive = self.source.open_entries(&ids, 1).await?;
        let one = Self {
            jobs: 1,
            settings: self.settings.clone(),
            observer: Arc::clone(&self.observer),
            cancel: self.cancel.clone(),
            ..*self
        };
        let (outcomes, _) = one.pass(archive, &ids, key).await?;
        for outcome in outcomes {
            if outcome.failure.is_some() {
                return Err(refusal(Some(outcome)));
            }
            Self::compare_with_tag(&outcome)?;
        }
        Ok(())
    }

    fn compare_with_tag(outcome: &Outcome) -> Result<()> {
        if outcome.rows == outcome.tally.rows {
            return Ok(());
        }
        Err(Error::Unproven {
            differences: vec![format!(
                "table {}: {} rows were sent, and the server says that it took {}",
                outcome.name, outcome.tally.rows, outcome.rows
            )],
        })
    }

    /// One pass over an archive.
    async fn pass(
        &self,
        mut archive: PlainArchive,
        wanted: &[i32],
        key: FingerprintKey,
    ) -> Result<(Vec<Outcome>, Option<Tally>)> {
        let lanes = Lanes::open(&self.settings, self.jobs, key, &self.cancel).await?;
        let mut reader = Reader::new(self, wanted, lanes, key);
        let outcome = reader.read(&mut archive).await;
        let Reader { lanes, tally, .. } = reader;
        if let Err(error) = outcome {
            // Whatever a lane says is the cause where the reader was only stopped.
            let cause = lanes.abandon().await;
            return Err(match (error, cause) {
                (Error::Interrupted, Some(cause)) => cause,
                (error, _) => error,
            });
        }
        if let (Some(meta), Some(tally)) = (self.source.meta.as_deref(), tally)
            && self.everything
        {
            compare_large_objects(meta, tally, &self.source.place)?;
        }
        Ok((lanes.finish().await?, tally))
    }

    /// The tables by dump id.
    pub(crate) fn tables(&self) -> HashMap<i32, Table> {
        let meta = self.source.meta.as_deref();
        let sizes: HashMap<i32, u64> =
            meta.into_iter().flat_map(|meta| &meta.entries).map(|entry| (entry.dump_id, entry.bytes)).collect();
        let made: HashSet<_> = made_here(self.toc).collect();
        let wanted: HashSet<i32> = self.wanted.iter().copied().collect();
        let routes = crate::lists::Routes::new(&self.toc.entries, |id| wanted.contains(&id));
        let entries = self.toc.entries.iter().filter(|entry| entry.holds_copy_text());
        entries
            .map(|entry| {
                let table = Table {
                    dump_id: entry.dump_id,
                    name: table_name(entry),
                    statement: routes.statement(entry),
                    bytes: sizes.get(&entry.dump_id).copied(),
                    divisible: made.contains(&(entry.namespace.as_ref(), &entry.tag)),
                };
                (entry.dump_id, table)
            })
            .collect()
    }
}

/// Tables that the first pass makes: they hold nothing but what is loaded, and have no index or constraint yet over
/// which two lanes could wait for each other. An extension's own tables may.
fn made_here(toc: &Toc) -> impl Iterator<Item = (Option<&PgText>, &PgText)> {
    toc.entries.iter().filter(|entry| entry.desc == "TABLE").map(|entry| (entry.namespace.as_ref(), &entry.tag))
}

/// `schema.name` for people.
pub(crate) fn table_name(entry: &pgkeep_archive::TocEntry) -> String {
    match &entry.namespace {
        Some(schema) => format!("{}.{}", schema.lossy(), entry.tag.lossy()),
        None => entry.tag.lossy(),
    }
}

fn refusal(outcome: Option<Outcome>) -> Error {
    match outcome {
        Some(Outcome { name, failure: Some(failure), .. }) => Error::Table { table: name, source: Box::new(failure) },
        _ => Error::Task("a table was refused without a reason".to_owned()),
    }
}

fn compare_with_meta(outcome: &Outcome, entry: &EntryMeta, place: &str) -> Result<()> {
    let tally = &outcome.tally;
    if tally.rows == entry.rows && tally.bytes == entry.bytes && tally.fingerprint() == entry.fingerprint {
        return Ok(());
    }
    Err(Error::Backup(pgkeep_core::Error::Damaged {
        object: place.to_owned(),
        reason: format!(
            "table {}: the meta says {} rows ({} bytes, fingerprint {}), the archive has {} ({} bytes, {})",
            outcome.name,
            entry.rows,
            entry.bytes,
            entry.fingerprint,
            tally.rows,
            tally.bytes,
            tally.fingerprint()
        ),
    }))
}

fn compare_large_objects(meta: &Meta, tally: Tally, place: &str) -> Result<()> {
    let stored = &meta.large_objects;
    if tally.rows == stored.count && tally.bytes == stored.bytes && tally.fingerprint() == stored.fingerprint {
        return Ok(());
    }
    Err(Error::Backup(pgkeep_core::Error::Damaged {
        object: place.to_owned(),
        reason: format!(
            "large objects: the meta says {} ({} bytes), the archive has {} ({} bytes)",
            stored.count, stored.bytes, tally.rows, tally.bytes
        ),
    }))
}
