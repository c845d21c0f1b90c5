//! The reader of one pass: from the archive's bytes to pieces of tables and batches of large objects.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pgkeep_archive::{Decoder, Event};
use pgkeep_core::{FingerprintKey, PlainArchive, Tally};
use pgkeep_metrics::{Event as Happening, Observer, Stage};

use crate::lanes::{Lanes, Table, TableFeed};
use crate::large_objects::LargeObjects;
use crate::load::Loader;
use crate::pieces::{Cut, Cutter, PIECE_BYTES};
use crate::{Error, Result};

/// How often progress is told.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

/// The reader of one pass.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    loader: &'a Loader<'a>,
    wanted: HashSet<i32>,
    /// Those that did not begin yet.
    tables: HashMap<i32, Table>,
    pub(crate) lanes: Lanes,
    large_objects: Option<LargeObjects>,
    /// Of all large objects.
    pub(crate) tally: Option<Tally>,
    key: FingerprintKey,
    table: Option<(TableFeed, Cutter)>,
    progress: Progress,
}

impl<'a> Reader<'a> {
    /// A reader that hands the data of the wanted entries to `lanes`.
    pub(crate) fn new(loader: &'a Loader<'a>, wanted: &[i32], lanes: Lanes, key: FingerprintKey) -> Self {
        Self {
            loader,
            wanted: wanted.iter().copied().collect(),
            tables: loader.tables(),
            lanes,
            large_objects: None,
            tally: None,
            key,
            table: None,
            progress: Progress::new(loader, wanted.len()),
        }
    }

    /// Reads to the end.
    pub(crate) async fn read(&mut self, archive: &mut PlainArchive) -> Result<()> {
        let mut decoder = Decoder::new();
        loop {
            let bytes = tokio::select! {
                biased;
                () = self.loader.cancel.cancelled() => return Err(Error::Interrupted),
                bytes = archive.next() => bytes?,
            };
            let Some(bytes) = bytes else { break };
            let count = bytes.len();
            decoder.push_bytes(bytes);
            while let Some(event) = decoder.next_event()? {
                self.take(event).await?;
            }
            self.progress.bytes(count);
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
            Event::DataStarted { dump_id } => self.start(dump_id),
            Event::Data { bytes, .. } => self.data(bytes).await?,
            Event::DataFinished { .. } => self.end().await?,
            Event::LargeObjectStarted { oid, .. } => {
                if let Some(objects) = &mut self.large_objects {
                    objects.start(oid);
                }
            }
            Event::LargeObjectData { mut bytes, .. } => {
                while let Some(objects) = self.large_objects.as_mut().filter(|_| !bytes.is_empty()) {
                    if let Some(batch) = objects.content(&mut bytes) {
                        self.lanes.large_objects(batch).await?;
                    }
                }
            }
            Event::LargeObjectFinished { .. } => {
                if let Some(batch) = self.large_objects.as_mut().and_then(LargeObjects::end) {
                    self.lanes.large_objects(batch).await?;
                }
            }
        }
        Ok(())
    }

    fn start(&mut self, dump_id: i32) {
        if !self.wanted.contains(&dump_id) {
            return;
        }
        match self.tables.remove(&dump_id) {
            Some(table) => self.table = Some((self.lanes.begin(table), Cutter::new(PIECE_BYTES))),
            None => self.large_objects = Some(LargeObjects::new(self.key)),
        }
    }

    async fn data(&mut self, bytes: Bytes) -> Result<()> {
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
        if let Some(objects) = self.large_objects.take() {
            let (batch, tally) = objects.finish();
            *self.tally.get_or_insert_default() += tally;
            if let Some(batch) = batch {
                self.lanes.large_objects(batch).await?;
            }
        }
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
