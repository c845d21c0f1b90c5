//! A backup, or tables of it, as a plain archive for stock tools.

use std::sync::Arc;

use bytes::Bytes;
use pgkeep_archive::{PgText, Toc, patch_offsets};
use pgkeep_metrics::{Event, Stage};
use serde::Serialize;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::inventory::{self, only_data_of};
use crate::pipeline::joined;
use crate::progress::Progress;
use crate::recount::Recount;
use crate::stop::Stop;
use crate::unframed::PlainSink;
use crate::{BackupSource, EntryMeta, Error, Keeper, Meta, Result};

/// Pieces that wait to be counted.
const WAITING: usize = 2;

/// What is exported.
#[derive(Debug, Clone)]
pub struct ExportOptions {
    /// Only the data of these tables (`schema.name`, or `name` where it is clear); `None` is all of it. The table of
    /// contents stays whole either way.
    pub tables: Option<Vec<String>>,
    /// Frames decompressed at once.
    pub jobs: usize,
}

impl Default for ExportOptions {
    fn default() -> Self {
        Self { tables: None, jobs: 4 }
    }
}

/// What was exported.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ExportReport {
    /// Bytes written to the sink.
    pub plain_bytes: u64,
    /// Tables whose data is in it.
    pub tables: u64,
}

impl Keeper {
    /// Writes a backup as one uncompressed custom archive, with the positions of its data filled in wherever they are
    /// known, so that `pg_restore --jobs` can seek in the file. The sink is flushed, not closed.
    ///
    /// Fails if what was read is not what was stored; what the sink has by then is not to be used.
    pub async fn export(
        &self,
        source: &BackupSource,
        options: &ExportOptions,
        sink: &mut (dyn AsyncWrite + Send + Unpin),
    ) -> Result<ExportReport> {
        let stop = Stop::new(&self.cancel, None);
        stop.until(self.export_all(source, options, sink)).await
    }

    async fn export_all(
        &self,
        source: &BackupSource,
        options: &ExportOptions,
        sink: &mut (dyn AsyncWrite + Send + Unpin),
    ) -> Result<ExportReport> {
        let began = std::time::Instant::now();
        self.observer.notice(&Event::StageStarted { stage: Stage::Verify, subject: source.name() });
        let toc = source.toc().await?;
        let wanted = options.tables.as_ref().map(|tables| tables_of(&toc, tables)).transpose()?;
        let (toc, mut archive) = match &wanted {
            None => (toc, source.open(options.jobs).await?),
            Some(wanted) => {
                let reduced = only_data_of(&toc, wanted).map_err(|source_error| source.damaged(source_error))?;
                (reduced, source.open_entries(wanted, options.jobs).await?)
            }
        };
        let head = head(source, &toc)?;
        // The digest of a whole archive says nothing of a part, and frames have checksums only where they are compressed.
        let mut counting = wanted.as_ref().and_then(|_| Counting::begin(self, source));
        let plain_bytes = source.meta.as_ref().map(|meta| meta.plain.bytes);
        let mut progress = counting.is_none().then(|| Progress::new(&self.observer, Stage::Verify, plain_bytes));
        let tables = toc.data_entries().filter(|entry| !entry.holds_large_objects()).count() as u64;
        let mut report = ExportReport { plain_bytes: 0, tables };
        let mut instead = Instead { head, skip: toc.raw.len() };
        while let Some(piece) = archive.next().await? {
            if let Some(counting) = &mut counting {
                counting.take(piece.clone()).await;
            }
            for piece in instead.replace(piece) {
                sink.write_all(&piece).await.map_err(sink_failed)?;
                report.plain_bytes += piece.len() as u64;
                if let Some(progress) = &mut progress {
                    progress.bytes(piece.len());
                }
            }
        }
        sink.flush().await.map_err(sink_failed)?;
        if let Some(mut progress) = progress {
            progress.finish();
        }
        if let Some(counting) = counting {
            counting.finish(source).await?;
        }
        self.observer.notice(&Event::StageFinished { stage: Stage::Verify, elapsed: began.elapsed() });
        Ok(report)
    }
}

/// Counts the exported tables again, beside the writing, to compare them with the meta.
struct Counting {
    meta: Arc<Meta>,
    pieces: mpsc::Sender<Bytes>,
    task: JoinHandle<Result<Recount>>,
}

impl Counting {
    /// Nothing where there is no meta to compare with.
    fn begin(keeper: &Keeper, source: &BackupSource) -> Option<Self> {
        let meta = Arc::clone(source.meta.as_ref()?);
        let mut recount = Recount::new(keeper, meta.fingerprint_key, source.name(), None);
        let (pieces, mut waiting) = mpsc::channel::<Bytes>(WAITING);
        let task = tokio::task::spawn_blocking(move || {
            while let Some(piece) = waiting.blocking_recv() {
                recount.take(piece)?;
            }
            Ok(recount)
        });
        Some(Self { meta, pieces, task })
    }

    /// A task that has ended knows why; it is asked at the end.
    async fn take(&mut self, piece: Bytes) {
        let _ = self.pieces.send(piece).await;
    }

    async fn finish(self, source: &BackupSource) -> Result<()> {
        let Self { meta, pieces, task } = self;
        drop(pieces);
        let recounted = joined(task.await)??.finish()?;
        for found in inventory::entries(&recounted.toc, &recounted.placed) {
            let expected = meta.entries.iter().find(|expected| expected.dump_id == found.dump_id);
            let content = |entry: &EntryMeta| (entry.rows, entry.bytes, entry.fingerprint.clone());
            if expected.is_none_or(|expected| content(expected) != content(&found)) {
                return Err(Error::Damaged {
                    object: source.object(&source.key),
                    reason: format!("the rows of {}.{} are not those that were dumped", found.schema, found.name),
                });
            }
        }
        Ok(())
    }
}

fn sink_failed(error: std::io::Error) -> Error {
    Error::Sink(error)
}

/// Header and TOC with the positions of all data blocks, where they are known.
fn head(source: &BackupSource, toc: &Arc<Toc>) -> Result<Bytes> {
    let Some(meta) = &source.meta else { return Ok(toc.raw.clone()) };
    let mut at = toc.raw.len() as u64;
    let mut offsets = Vec::new();
    for (dump_id, range) in meta.data_blocks() {
        if toc.entry(dump_id).is_some_and(|entry| entry.has_data) {
            offsets.push((dump_id, at));
            at += range.end - range.start;
        }
    }
    patch_offsets(&toc.raw, &offsets).map(Bytes::from).map_err(|error| source.damaged(error))
}

/// Another beginning for a stream.
struct Instead {
    head: Bytes,
    /// Bytes of the old one that are still to come.
    skip: usize,
}

impl Instead {
    fn replace(&mut self, mut piece: Bytes) -> [Bytes; 2] {
        let old = piece.split_to(self.skip.min(piece.len()));
        self.skip -= old.len();
        [std::mem::take(&mut self.head), piece]
    }
}

/// The entries with data of these tables.
fn tables_of(toc: &Toc, tables: &[String]) -> Result<Vec<i32>> {
    let all: Vec<(String, String, i32)> = toc
        .data_entries()
        .filter(|entry| !entry.holds_large_objects())
        .map(|entry| {
            let schema = entry.namespace.as_ref().map(PgText::lossy).unwrap_or_default();
            (schema, entry.tag.lossy(), entry.dump_id)
        })
        .collect();
    let mut wanted = Vec::new();
    for table in tables {
        let full: Vec<_> = all.iter().filter(|(schema, name, _)| format!("{schema}.{name}") == *table).collect();
        let found = if full.is_empty() { all.iter().filter(|(_, name, _)| name == table).collect() } else { full };
        match found.as_slice() {
            [] => {
                let close =
                    all.iter().filter(|(_, name, _)| table.ends_with(name.as_str()) || name.contains(table.as_str()));
                let candidates = close.take(10).map(|(schema, name, _)| format!("{schema}.{name}")).collect();
                return Err(Error::NotFound { wanted: format!("table {table}"), candidates });
            }
            [(_, _, dump_id)] => wanted.push(*dump_id),
            several => {
                let candidates = several.iter().map(|(schema, name, _)| format!("{schema}.{name}")).collect();
                return Err(Error::Ambiguous { wanted: format!("table {table}"), candidates });
            }
        }
    }
    Ok(wanted)
}
