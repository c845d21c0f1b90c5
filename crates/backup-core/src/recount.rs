//! Counting again what is in an archive, from its plain bytes alone.

use std::sync::Arc;

use bytes::Bytes;
use pgkeep_archive::{Decoder, Error as ArchiveError, Event, Toc, TocEntry};
use pgkeep_metrics::Stage;

use crate::progress::Progress;
use crate::sequencer::Placed;
use crate::unframed::PlainSink;
use crate::{Error, FingerprintKey, Keeper, LargeObjectHasher, Result, RowHasher, Tally};

/// Parses an archive as it comes and tallies every table and large object.
#[derive(Debug)]
pub(crate) struct Recount {
    key: FingerprintKey,
    decoder: Decoder,
    /// The archive's data entries so far; places are counted from the archive's beginning, as without frames.
    placed: Vec<Placed>,
    /// Where the current entry begins.
    begun: u64,
    rows: Option<RowHasher>,
    large_object: Option<LargeObjectHasher>,
    large_objects: Tally,
    progress: Progress,
    /// The archive's name, for errors.
    backup: String,
}

/// What an archive holds.
#[derive(Debug, Clone)]
pub(crate) struct Recounted {
    pub(crate) toc: Arc<Toc>,
    pub(crate) placed: Vec<Placed>,
    pub(crate) large_objects: Tally,
}

impl Recount {
    pub(crate) fn new(keeper: &Keeper, key: FingerprintKey, backup: String, plain_bytes: Option<u64>) -> Self {
        Self {
            key,
            decoder: Decoder::new(),
            placed: Vec::new(),
            begun: 0,
            rows: None,
            large_object: None,
            large_objects: Tally::default(),
            progress: Progress::new(&keeper.observer, Stage::Verify, plain_bytes),
            backup,
        }
    }

    /// Ends the archive.
    pub(crate) fn finish(mut self) -> Result<Recounted> {
        self.decoder.finish().map_err(|source| self.damaged(source))?;
        self.progress.finish();
        let toc = self.decoder.toc().cloned();
        let toc = toc.ok_or_else(|| Error::Task("an archive ended well without a table of contents".to_owned()))?;
        Ok(Recounted { toc, placed: self.placed, large_objects: self.large_objects })
    }

    fn event(&mut self, event: Event) -> Result<(), ArchiveError> {
        match event {
            Event::Toc(toc) => {
                self.progress.expect(&toc);
                self.begun = toc.raw.len() as u64;
            }
            Event::DataStarted { dump_id } => {
                let counted =
                    self.decoder.toc().and_then(|toc| toc.entry(dump_id)).is_some_and(TocEntry::holds_copy_text);
                self.rows = counted.then(|| RowHasher::new(self.key));
            }
            Event::Data { bytes, .. } => {
                if let Some(rows) = &mut self.rows {
                    rows.update(&bytes);
                }
            }
            Event::LargeObjectStarted { oid, .. } => self.large_object = Some(LargeObjectHasher::new(&self.key, oid)),
            Event::LargeObjectData { bytes, .. } => {
                if let Some(hasher) = &mut self.large_object {
                    hasher.update(&bytes);
                }
            }
            Event::LargeObjectFinished { .. } => {
                if let Some(hasher) = self.large_object.take() {
                    self.large_objects += hasher.finish();
                }
            }
            Event::DataFinished { dump_id } => {
                let end = self.decoder.offset();
                let inside_row = |_| ArchiveError::Damaged {
                    offset: end,
                    expected: format!("a line feed at the end of entry {dump_id}"),
                };
                let tally = self.rows.take().map(RowHasher::finish).transpose().map_err(inside_row)?;
                self.placed.push(Placed {
                    dump_id,
                    frame: 0,
                    offset: self.begun,
                    plain_bytes: end - self.begun,
                    tally: tally.unwrap_or_default(),
                });
                self.begun = end;
                self.progress.ended(dump_id);
            }
        }
        Ok(())
    }

    fn damaged(&self, source: ArchiveError) -> Error {
        Error::Archive { backup: self.backup.clone(), source }
    }
}

impl PlainSink for Recount {
    fn take(&mut self, plain: Bytes) -> Result<bool> {
        self.progress.bytes(plain.len());
        self.decoder.push_bytes(plain);
        while let Some(event) = self.decoder.next_event().map_err(|source| self.damaged(source))? {
            self.event(event).map_err(|source| self.damaged(source))?;
        }
        Ok(true)
    }
}
