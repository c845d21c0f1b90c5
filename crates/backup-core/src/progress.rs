//! How far a stage is, told to the observer a few times a second.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pgkeep_archive::{Block, Toc};
use pgkeep_metrics::{Event, Observer, Stage};

/// How often it is told.
const EVERY: Duration = Duration::from_millis(200);

/// Counts bytes and tables.
#[derive(Debug)]
pub(crate) struct Progress {
    observer: Arc<dyn Observer>,
    stage: Stage,
    plain_bytes: u64,
    total_bytes: Option<u64>,
    tables: HashSet<i32>,
    items: u64,
    total_items: Option<u64>,
    told: Option<Instant>,
}

impl Progress {
    pub(crate) fn new(observer: &Arc<dyn Observer>, stage: Stage, total_bytes: Option<u64>) -> Self {
        Self {
            observer: Arc::clone(observer),
            stage,
            plain_bytes: 0,
            total_bytes,
            tables: HashSet::new(),
            items: 0,
            total_items: None,
            told: None,
        }
    }

    /// The tables there are to count.
    pub(crate) fn expect(&mut self, toc: &Toc) {
        self.tables =
            toc.data_entries().filter(|entry| !entry.holds_large_objects()).map(|entry| entry.dump_id).collect();
        self.total_items = Some(self.tables.len() as u64);
    }

    /// A block has gone through.
    pub(crate) fn block(&mut self, block: &Block) {
        for &(dump_id, _) in &block.ends {
            self.ended(dump_id);
        }
        self.bytes(block.bytes.len());
    }

    /// An entry has ended.
    pub(crate) fn ended(&mut self, dump_id: i32) {
        self.items += u64::from(self.tables.contains(&dump_id));
    }

    /// Plain bytes have gone through.
    pub(crate) fn bytes(&mut self, bytes: usize) {
        self.plain_bytes += bytes as u64;
        if self.told.is_none_or(|told| told.elapsed() >= EVERY) {
            self.tell();
        }
    }

    /// The last word: all there is, is done.
    pub(crate) fn finish(&mut self) {
        self.total_bytes = Some(self.plain_bytes);
        self.tell();
    }

    fn tell(&mut self) {
        self.told = Some(Instant::now());
        self.observer.notice(&Event::Progress {
            stage: self.stage,
            plain_bytes: self.plain_bytes,
            total_bytes: self.total_bytes.map(|total| total.max(self.plain_bytes)),
            items: self.items,
            total_items: self.total_items,
        });
    }
}
