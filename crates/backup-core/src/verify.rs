//! Verifying a stored backup.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures::TryStreamExt;
use pgkeep_metrics::{Event, Stage};
use pgkeep_storage::{Error as StorageError, ErrorKind as StorageErrorKind, Key, Storage};
use serde::Serialize;
use tokio::sync::mpsc;

use crate::pipeline::joined;
use crate::plain::Digested;
use crate::progress::Progress;
use crate::prune::beside;
use crate::recount::{Recount, Recounted};
use crate::run::chain;
use crate::stop::Stop;
use crate::unframed::PlainSink;
use crate::{
    BackupSource, CatalogEntry, Copy, EntryMeta, Error, Keeper, Meta, Proof, ProofKind, ProofOutcome, Result,
    StoredDigest, inventory, objects,
};

/// Stored or plain pieces that wait to be looked at.
const WAITING: usize = 2;

/// How deep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum VerifyDepth {
    /// Present, size and the store's own checksum; nothing is downloaded.
    Quick,
    /// Every stored byte read, digests compared.
    Stored,
    /// Decompressed, parsed to the end, rows and fingerprints recounted.
    Deep,
}

impl VerifyDepth {
    fn proof(self) -> ProofKind {
        match self {
            Self::Quick => ProofKind::Quick,
            Self::Stored => ProofKind::Stored,
            Self::Deep => ProofKind::Deep,
        }
    }
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VerifyFinding {
    /// The object or table.
    pub subject: String,
    /// What was expected and what was found.
    pub problem: String,
}

/// What a verification found.
#[derive(Debug, Clone, Serialize)]
pub struct VerifyReport {
    /// The backup.
    pub id: String,
    /// The copy: a destination's name.
    pub destination: String,
    /// How deep.
    pub depth: VerifyDepth,
    /// It lies in an archive tier and can't be read now: only presence and size were looked at, and `depth` says so.
    pub archived: bool,
    /// Nothing here means that all is well.
    pub findings: Vec<VerifyFinding>,
    /// Stored bytes read.
    pub stored_bytes: u64,
    /// Rows recounted.
    pub rows: u64,
    /// Tables recounted.
    pub tables: u64,
    /// The proof that was written.
    pub proof: Proof,
}

/// What came of verifying every copy of a backup.
#[derive(Debug, Default)]
pub struct Verified {
    /// The copies that were looked at.
    pub reports: Vec<VerifyReport>,
    /// The copies that could not be: the destination's name, and why.
    pub unknown: Vec<(String, Error)>,
}

impl Keeper {
    /// Verifies every copy of a backup like [`Self::verify_copies`], for those who want to know whether all is well.
    ///
    /// Damage is a finding in a report. An error means that a copy could not be looked at (an unreachable store) and
    /// that the other copies are well; if one of them is damaged, the reports are given and what could not be looked
    /// at is told as a warning.
    pub async fn verify(&self, entry: &CatalogEntry, depth: VerifyDepth) -> Result<Vec<VerifyReport>> {
        let Verified { reports, unknown } = self.verify_copies(entry, depth).await?;
        match unknown.into_iter().next() {
            Some((_, error)) if reports.iter().all(|report| report.findings.is_empty()) => Err(error),
            _ => Ok(reports),
        }
    }

    /// Verifies every copy of a backup, writes a proof for each, and reports per copy.
    ///
    /// Damage is a finding in a report. A copy in an archive tier is looked at from outside, and its report says so. What
    /// could not be looked at at all is told as a warning, and of the others nothing is lost by it. An error only if
    /// interrupted.
    pub async fn verify_copies(&self, entry: &CatalogEntry, depth: VerifyDepth) -> Result<Verified> {
        let stop = Stop::new(&self.cancel, None);
        let mut verified = Verified::default();
        for copy in &entry.copies {
            let began = Instant::now();
            let subject = format!("{} at {}", entry.meta.id, copy.name);
            self.observer.notice(&Event::StageStarted { stage: Stage::Verify, subject });
            match stop.until(self.verify_copy(entry, copy, depth)).await {
                Ok(report) => {
                    if let Err(error) = stop.until(self.store_proof(entry, &report.proof)).await {
                        self.warn(&format!("the proof of {} could not be stored: {}", entry.meta.id, chain(&error)));
                    }
                    self.observer.notice(&Event::StageFinished { stage: Stage::Verify, elapsed: began.elapsed() });
                    verified.reports.push(report);
                }
                Err(Error::Interrupted) => return Err(Error::Interrupted),
                Err(error) => {
                    self.warn(&format!("{} at {} could not be verified: {}", entry.meta.id, copy.name, chain(&error)));
                    verified.unknown.push((copy.name.clone(), error));
                }
            }
        }
        Ok(verified)
    }

    async fn verify_copy(&self, entry: &CatalogEntry, copy: &Copy, depth: VerifyDepth) -> Result<VerifyReport> {
        let (at, began) = (self.clock.now(), Instant::now());
        let source = BackupSource::copy(self, entry, copy);
        let source = if depth == VerifyDepth::Deep { source.opened()? } else { source };
        let mut look = Look {
            keeper: self,
            meta: source.meta.clone().unwrap_or_else(|| Arc::clone(&entry.meta)),
            source,
            stored_meta: &entry.meta,
            findings: Vec::new(),
            stored_bytes: 0,
            rows: 0,
            tables: 0,
        };
        let outcome = async {
            // What is not there, or too short, needs no closer look.
            match (look.quick().await?, depth) {
                (true, VerifyDepth::Stored) => look.stored().await,
                (true, VerifyDepth::Deep) => look.deep().await,
                _ => Ok(()),
            }
        };
        let archived = match outcome.await {
            Ok(()) => false,
            Err(error) if is_archived(&error) => true,
            Err(error) if look.findings.is_empty() => return Err(error),
            // Damage that was found is not undone by what could not be looked at.
            Err(error) => {
                self.warn(&format!("{} at {}: not all was verified: {}", entry.meta.id, copy.name, chain(&error)));
                false
            }
        };
        let depth = if archived { VerifyDepth::Quick } else { depth };
        let Look { findings, stored_bytes, rows, tables, .. } = look;
        let proof = Proof {
            kind: depth.proof(),
            outcome: if findings.is_empty() { ProofOutcome::Good } else { ProofOutcome::Bad },
            at,
            seconds: began.elapsed().as_secs_f64(),
            hostname: self.host.clone(),
            destination: copy.name.clone(),
            findings: findings.iter().map(|finding| format!("{}: {}", finding.subject, finding.problem)).collect(),
            tool_version: self.tool_version.clone(),
        };
        let (id, destination) = (entry.meta.id.to_string(), copy.name.clone());
        Ok(VerifyReport { id, destination, depth, archived, findings, stored_bytes, rows, tables, proof })
    }
}

/// Whether a store says that an object can't be read for lying in an archive tier.
fn is_archived(error: &Error) -> bool {
    matches!(error, Error::Storage { source, .. } if source.kind() == StorageErrorKind::Archived)
}

/// A look at one copy.
struct Look<'l> {
    keeper: &'l Keeper,
    source: BackupSource,
    /// The whole meta.
    meta: Arc<Meta>,
    /// What is stored of it, if that is less.
    stored_meta: &'l Arc<Meta>,
    findings: Vec<VerifyFinding>,
    stored_bytes: u64,
    rows: u64,
    tables: u64,
}

impl Look<'_> {
    /// Present, and of the right size. Whether a closer look at the archive makes sense.
    async fn quick(&mut self) -> Result<bool> {
        let archive = self.source.key.clone();
        let meta = Arc::clone(&self.meta);
        let there = self.present(&archive, meta.stored.bytes).await?;
        if let Some(globals) = &meta.globals {
            self.present(&beside(&archive, &globals.file)?, globals.stored.bytes).await?;
        }
        Ok(there)
    }

    async fn present(&mut self, key: &Key, bytes: u64) -> Result<bool> {
        let problem = match self.storage().head(key).await {
            Ok(info) if info.bytes == bytes => return Ok(true),
            Ok(info) => format!("it has {} bytes instead of {bytes}", info.bytes),
            Err(StorageError::NotFound { .. }) => "it is missing".to_owned(),
            Err(error) => return Err(objects::at(self.storage())(error)),
        };
        self.find(self.source.object(key), problem);
        Ok(false)
    }

    /// Every stored byte.
    async fn stored(&mut self) -> Result<()> {
        self.meta_itself().await?;
        let meta = Arc::clone(&self.meta);
        let mut progress = Progress::new(&self.keeper.observer, Stage::Verify, Some(meta.stored.bytes));
        let key = self.source.key.clone();
        self.digest(&key, &meta.stored, &mut progress).await?;
        progress.finish();
        if let Some(globals) = &meta.globals {
            let mut progress = Progress::new(&self.keeper.observer, Stage::Verify, Some(globals.stored.bytes));
            self.digest(&beside(&key, &globals.file)?, &globals.stored, &mut progress).await?;
        }
        Ok(())
    }

    async fn digest(&mut self, key: &Key, expected: &StoredDigest, progress: &mut Progress) -> Result<()> {
        let (sender, mut pieces) = mpsc::channel::<Bytes>(WAITING);
        let digesting = tokio::task::spawn_blocking(move || {
            let mut digested = Digested::default();
            while let Some(piece) = pieces.blocking_recv() {
                digested.update(&piece);
            }
            digested
        });
        let reading = async {
            let at = objects::at(self.storage());
            let mut stored = self.storage().read(key, None).await.map_err(at)?;
            while let Some(piece) = stored.try_next().await.map_err(at)? {
                progress.bytes(piece.len());
                // Only a panic ends the thread early, and that is found when it is joined.
                let _ = sender.send(piece).await;
            }
            Ok(())
        };
        let read = reading.await;
        drop(sender);
        let digested = joined(digesting.await)?;
        self.stored_bytes += digested.bytes;
        let object = self.source.object(key);
        let outcome = read.and_then(|()| digested.check(&object, expected.bytes, &expected.sha256));
        self.damage(outcome).map(drop)
    }

    /// The copy's own meta says the same as the one the catalog took.
    async fn meta_itself(&mut self) -> Result<()> {
        let key = Key::new(format!("{}.meta", self.source.key))?;
        let object = self.source.object(&key);
        let outcome = match objects::get(self.storage(), &key).await? {
            None => Err(Error::Damaged { object, reason: "it is missing".to_owned() }),
            Some(json) => Meta::from_json(&object, &json).and_then(|meta| {
                let same = meta == **self.stored_meta;
                let differs =
                    || Error::Damaged { object, reason: "it differs from the meta of another copy".to_owned() };
                same.then_some(()).ok_or_else(differs)
            }),
        };
        self.damage(outcome).map(drop)
    }

    /// Every byte of the plain archive.
    async fn deep(&mut self) -> Result<()> {
        self.meta_itself().await?;
        let (recount, outcome) = self.recount().await?;
        let whole = self.damage(outcome)?.is_some();
        self.stored_bytes += self.meta.stored.bytes;
        match recount.map(Recount::finish) {
            Some(Ok(recounted)) => self.compare(&recounted),
            Some(Err(error)) if whole => drop(self.damage::<()>(Err(error))?),
            _ => self.find(
                self.source.object(&self.source.key),
                "what comes after the damage could not be recounted".to_owned(),
            ),
        }
        let globals = self.source.globals().await;
        if let Some(globals) = self.damage(globals)?.flatten() {
            self.stored_bytes += self.meta.globals.as_ref().map_or(0, |meta| meta.stored.bytes);
            if let Err(error) = pgkeep_dump::PrivateFacts::from_globals(&globals) {
                self.find("globals".to_owned(), chain(&error));
            }
        }
        Ok(())
    }

    /// Reads the plain archive through. The recount is lost where its own bytes could not be parsed.
    async fn recount(&mut self) -> Result<(Option<Recount>, Result<()>)> {
        let (sender, mut pieces) = mpsc::channel::<Bytes>(WAITING);
        let mut recount =
            Recount::new(self.keeper, self.meta.fingerprint_key, self.source.name(), Some(self.meta.plain.bytes));
        let counting = tokio::task::spawn_blocking(move || {
            while let Some(piece) = pieces.blocking_recv() {
                recount.take(piece)?;
            }
            Ok(recount)
        });
        let jobs = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let mut archive = self.source.open(jobs).await?;
        let read = loop {
            match archive.next().await {
                Ok(None) => break Ok(()),
                Ok(Some(piece)) => {
                    if sender.send(piece).await.is_err() {
                        break Ok(());
                    }
                }
                Err(error) => break Err(error),
            }
        };
        drop(sender);
        match joined(counting.await)? {
            Ok(recount) => Ok((Some(recount), read)),
            Err(error) => Ok((None, read.and(Err(error)))),
        }
    }

    /// Compares what was counted with what the meta says, table by table.
    fn compare(&mut self, recounted: &Recounted) {
        let meta = Arc::clone(&self.meta);
        let Recounted { toc, placed, large_objects } = recounted;
        let entries = inventory::entries(toc, placed);
        self.tables += entries.len() as u64;
        self.rows += entries.iter().map(|entry| entry.rows).sum::<u64>();
        let mut by_id: HashMap<i32, &EntryMeta> = entries.iter().map(|entry| (entry.dump_id, entry)).collect();
        for expected in &meta.entries {
            let table = format!("{}.{}", expected.schema, expected.name);
            let Some(found) = by_id.remove(&expected.dump_id) else {
                self.find(table, "it is not in the archive".to_owned());
                continue;
            };
            if found.rows != expected.rows {
                self.find(table.clone(), format!("{} rows instead of {}", found.rows, expected.rows));
            } else if (found.bytes, &found.fingerprint) != (expected.bytes, &expected.fingerprint) {
                self.find(table.clone(), "its rows are not those that were dumped".to_owned());
            }
            let names = |entry: &EntryMeta| (entry.schema.clone(), entry.name.clone(), entry.columns.clone());
            if names(found) != names(expected) {
                self.find(table, "its name or columns differ".to_owned());
            }
        }
        for found in by_id.into_values() {
            self.find(
                format!("{}.{}", found.schema, found.name),
                "it is in the archive but not in the meta".to_owned(),
            );
        }
        let objects = inventory::large_objects(toc, placed, *large_objects);
        let known = &meta.large_objects;
        if (objects.count, objects.bytes, &objects.fingerprint) != (known.count, known.bytes, &known.fingerprint) {
            self.find(
                "large objects".to_owned(),
                format!("{} instead of {}, or other content", objects.count, known.count),
            );
        }
        if inventory::sequences(toc) != meta.sequences {
            self.find("sequences".to_owned(), "they stand elsewhere than the meta says".to_owned());
        }
        if (toc.entries.len() as u64, toc.raw.len() as u64) != (meta.toc_entries, meta.toc_bytes) {
            self.find("table of contents".to_owned(), "it has another size than the meta says".to_owned());
        }
        let blocks: Vec<_> =
            placed.iter().map(|placed| (placed.dump_id, placed.offset..placed.offset + placed.plain_bytes)).collect();
        if blocks != meta.data_blocks() {
            self.find("index".to_owned(), "data blocks lie elsewhere than the meta says".to_owned());
        }
    }

    /// Damage becomes a finding; any other error stays one.
    fn damage<T>(&mut self, outcome: Result<T>) -> Result<Option<T>> {
        let error = match outcome {
            Ok(value) => return Ok(Some(value)),
            Err(error) => error,
        };
        let is_damage = match &error {
            Error::Damaged { .. } | Error::Archive { .. } | Error::Frame { .. } | Error::Meta { .. } => true,
            Error::Storage { source, .. } => {
                matches!(source.kind(), StorageErrorKind::NotFound | StorageErrorKind::Damaged)
            }
            _ => false,
        };
        if !is_damage {
            return Err(error);
        }
        let subject = match &error {
            Error::Frame { frame, .. } => self.in_frame(*frame),
            _ => self.source.object(&self.source.key),
        };
        self.find(subject, chain(&error));
        Ok(None)
    }

    /// What lies in a frame.
    fn in_frame(&self, frame: u64) -> String {
        let entry = self.meta.frames.entry.get(frame as usize).copied().unwrap_or_default();
        let table = self.meta.entries.iter().find(|table| table.dump_id == entry);
        table.map_or_else(|| "the archive".to_owned(), |table| format!("{}.{}", table.schema, table.name))
    }

    fn find(&mut self, subject: String, problem: String) {
        self.findings.push(VerifyFinding { subject, problem });
    }

    fn storage(&self) -> &dyn Storage {
        self.source.storage.as_ref()
    }
}
