//! Loading: one sequential pass over the archive, rows to the lanes, large objects to theirs.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pgkeep_archive::{Decoder, Event, Toc};
use pgkeep_core::{BackupSource, EntryMeta, FingerprintKey, Meta, PlainArchive, Tally};
use pgkeep_metrics::{Event as Happening, Observer, Stage};
use tokio_util::sync::CancellationToken;

use crate::lanes::{Lanes, Outcome, TableFeed};
use crate::large_objects::LargeObjectLane;
use crate::pieces::{Cut, Cutter, PIECE_BYTES};
use crate::sessions::DataSettings;
use crate::{Error, Result};

/// How often progress is told.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

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

    /// Loads refused tables once more, one lane, after everything else.
    async fn again(&self, refused: Vec<Outcome>, key: FingerprintKey) -> Result<()> {
        if refused.is_empty() {
            return Ok(());
        }
        let mut connection = self.settings.load().await?;
        for outcome in &refused {
            let Some(entry) = self.toc.entry(outcome.dump_id) else { continue };
            let target = pgkeep_archive::copy_target(entry);
            let shared = target.as_ref().is_none_or(|(schema, name)| {
                // Rows of several partitions went through one root: what it holds now cannot be told apart.
                entry.namespace.as_ref() != Some(schema) || entry.tag != *name
            });
            if shared {
                return Err(refusal(refused.into_iter().next()));
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
        let mut reader = Reader {
            loader: self,
            wanted: wanted.iter().copied().collect(),
            statements: statements(self.toc),
            lanes: Lanes::open(&self.settings, self.jobs, key, &self.cancel).await?,
            large_objects: None,
            key,
            table: None,
            progress: Progress::new(self, wanted.len()),
        };
        let outcome = reader.read(&mut archive).await;
        let Reader { lanes, large_objects, .. } = reader;
        if let Err(error) = outcome {
            // Whatever a lane says is the cause where the reader was only stopped.
            let cause = lanes.abandon().await;
            return Err(match (error, cause) {
                (Error::Interrupted, Some(cause)) => cause,
                (error, _) => error,
            });
        }
        let tally = match large_objects {
            Some(lane) => Some(lane.finish().await?),
            None => None,
        };
        if let (Some(meta), Some(tally)) = (self.source.meta.as_deref(), tally)
            && self.everything
        {
            compare_large_objects(meta, tally, &self.source.place)?;
        }
        Ok((lanes.finish().await?, tally))
    }
}

/// COPY statements by dump id, without their end.
fn statements(toc: &Toc) -> HashMap<i32, (String, Vec<u8>)> {
    toc.entries
        .iter()
        .filter(|entry| entry.holds_copy_text())
        .map(|entry| {
            let statement = entry.copy.0.trim_ascii_end();
            let statement = statement.strip_suffix(b";").unwrap_or(statement).to_vec();
            (entry.dump_id, (table_name(entry), statement))
        })
        .collect()
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

/// The reader of one pass.
#[derive(Debug)]
struct Reader<'a> {
    loader: &'a Loader<'a>,
    wanted: HashSet<i32>,
    statements: HashMap<i32, (String, Vec<u8>)>,
    lanes: Lanes,
    large_objects: Option<LargeObjectLane>,
    key: FingerprintKey,
    table: Option<(TableFeed, Cutter)>,
    progress: Progress,
}

impl Reader<'_> {
    async fn read(&mut self, archive: &mut PlainArchive) -> Result<()> {
        let mut decoder = Decoder::new();
        loop {
            let bytes = tokio::select! {
                biased;
                () = self.loader.cancel.cancelled() => return Err(Error::Interrupted),
                bytes = archive.next() => bytes?,
            };
            let Some(bytes) = bytes else { break };
            decoder.push(&bytes);
            while let Some(event) = decoder.next_event()? {
                self.take(event).await?;
            }
            self.progress.bytes(bytes.len());
        }
        decoder.finish()?;
        self.progress.last();
        Ok(())
    }

    async fn take(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Toc(toc) => {
                // The bytes that are loaded must be described by what the schema was made from.
                if toc.entries.len() != self.loader.toc.entries.len() {
                    return Err(Error::Changed(
                        "the archive's table of contents is not the one that was planned with".to_owned(),
                    ));
                }
            }
            Event::DataStarted { dump_id } => self.start(dump_id).await?,
            Event::Data { bytes, .. } => self.data(&bytes).await?,
            Event::DataFinished { .. } => self.end().await?,
            Event::LargeObjectStarted { oid, .. } => {
                if let Some(lane) = &self.large_objects {
                    lane.start(oid).await;
                }
            }
            Event::LargeObjectData { bytes, .. } => {
                if let Some(lane) = &self.large_objects {
                    lane.content(bytes).await;
                }
            }
            Event::LargeObjectFinished { .. } => {
                if let Some(lane) = &self.large_objects {
                    lane.end().await;
                }
            }
        }
        Ok(())
    }

    async fn start(&mut self, dump_id: i32) -> Result<()> {
        if !self.wanted.contains(&dump_id) {
            return Ok(());
        }
        if let Some((name, statement)) = self.statements.remove(&dump_id) {
            self.table = Some((self.lanes.begin(dump_id, name, statement), Cutter::new(PIECE_BYTES)));
        } else if self.large_objects.is_none() {
            self.large_objects = Some(LargeObjectLane::open(&self.loader.settings, self.key).await?);
        }
        Ok(())
    }

    async fn data(&mut self, bytes: &Bytes) -> Result<()> {
        let Some((feed, cutter)) = &mut self.table else { return Ok(()) };
        cutter.push(bytes);
        while let Some(cut) = cutter.next() {
            match cut {
                Cut::Rows(rows) => self.lanes.rows(feed, rows).await?,
                Cut::Part { bytes, last } => self.lanes.row_part(feed, bytes, last).await?,
            }
        }
        Ok(())
    }

    async fn end(&mut self) -> Result<()> {
        self.progress.items += 1;
        let Some((feed, cutter)) = self.table.take() else { return Ok(()) };
        let rest = cutter.finish().map_err(|bytes| {
            Error::Backup(pgkeep_core::Error::Damaged {
                object: self.loader.source.place.clone(),
                reason: format!("a table's last row does not end ({bytes} bytes)"),
            })
        })?;
        self.lanes.end(feed, rest).await
    }
}

/// Tells how far it is, now and then.
#[derive(Debug)]
struct Progress {
    observer: Arc<dyn Observer>,
    told: Instant,
    plain_bytes: u64,
    total_bytes: Option<u64>,
    items: u64,
    total_items: u64,
}

impl Progress {
    fn new(loader: &Loader<'_>, items: usize) -> Self {
        let meta = loader.source.meta.as_deref();
        let total_bytes = meta.filter(|_| loader.everything).map(|meta| meta.plain.bytes);
        Self {
            observer: Arc::clone(&loader.observer),
            told: Instant::now(),
            plain_bytes: 0,
            total_bytes,
            items: 0,
            total_items: items as u64,
        }
    }

    fn bytes(&mut self, bytes: usize) {
        self.plain_bytes += bytes as u64;
        if self.told.elapsed() >= PROGRESS_EVERY {
            self.last();
        }
    }

    fn last(&mut self) {
        self.told = Instant::now();
        self.observer.notice(&Happening::Progress {
            stage: Stage::Data,
            plain_bytes: self.plain_bytes,
            total_bytes: self.total_bytes,
            items: self.items,
            total_items: Some(self.total_items),
        });
    }
}
