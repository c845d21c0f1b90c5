//! What is done, in archive order: one list of tasks for all workers, made as they ask for the next.

use std::collections::VecDeque;
use std::sync::Arc;

use pgkeep_archive::{Toc, TocEntry};

use super::large_objects::PAGE_BYTES;
use super::ranges::{Cutter, Density, TidRange};
use super::survey::{Source, Table};

/// Small tables that are read one after another by one worker are at most so many.
const MOST_TABLES: usize = 100;
/// Large objects that are read one after another by one worker are at most so many.
const MOST_LARGE_OBJECTS: usize = 1000;

/// One stretch of the archive.
#[derive(Debug, Clone)]
pub(super) enum Task {
    /// Header and table of contents.
    Head(Arc<Toc>),
    /// All rows of some tables.
    Tables(Vec<Arc<Table>>),
    /// A range of the rows of one.
    Range(RangeTask),
    /// Some of the large objects of one entry.
    LargeObjects(ObjectsTask),
}

/// A range of a table's rows.
#[derive(Debug, Clone)]
pub(super) struct RangeTask {
    pub(super) table: Arc<Table>,
    pub(super) range: TidRange,
    /// So many pages, if it is of whole ones.
    pub(super) pages: Option<f64>,
    /// Learns what they gave.
    pub(super) density: Density,
}

impl RangeTask {
    /// Whether the table's data begin here.
    pub(super) fn is_first(&self) -> bool {
        (self.range.from.page, self.range.from.item) == (0, 0)
    }

    /// Whether they end here.
    pub(super) fn is_last(&self) -> bool {
        self.range.to.is_none()
    }
}

/// Some of the large objects of an entry, in order.
#[derive(Debug, Clone)]
pub(super) struct ObjectsTask {
    pub(super) entry: Arc<TocEntry>,
    pub(super) oids: Vec<u32>,
    /// Pages that one statement reads, at most.
    pub(super) most_pages: u32,
    /// Whether the entry's data begin here.
    pub(super) first: bool,
    /// Whether they end here.
    pub(super) last: bool,
}

/// The tasks to come.
#[derive(Debug)]
pub(super) struct Schedule {
    head: Option<Arc<Toc>>,
    sources: VecDeque<Source>,
    cutting: Option<(Arc<Table>, Cutter)>,
    /// The rest of an entry's large objects.
    objects: Option<(Arc<TocEntry>, VecDeque<u32>, bool)>,
    range_bytes: usize,
    objects_per_task: usize,
}

impl Schedule {
    /// The tasks that yield the archive of `toc`, each of about `range_bytes` of plain text.
    pub(super) fn new(toc: Arc<Toc>, sources: Vec<Source>, large_object_bytes: u64, range_bytes: usize) -> Self {
        let objects: usize = sources
            .iter()
            .map(|source| match source {
                Source::LargeObjects { oids, .. } => oids.len(),
                Source::Table(_) => 0,
            })
            .sum();
        let each = (large_object_bytes as usize / objects.max(1)).max(1);
        Self {
            head: Some(toc),
            sources: sources.into(),
            cutting: None,
            objects: None,
            range_bytes,
            objects_per_task: (range_bytes / each).clamp(1, MOST_LARGE_OBJECTS),
        }
    }

    fn next_range(&mut self) -> Option<Task> {
        let (table, cutter) = self.cutting.as_mut()?;
        let Some(range) = cutter.next() else {
            self.cutting = None;
            return None;
        };
        let (pages, density) = (cutter.pages_of(&range), cutter.density());
        Some(Task::Range(RangeTask { table: Arc::clone(table), range, pages, density }))
    }

    fn next_objects(&mut self) -> Option<Task> {
        let (entry, mut rest, first) = self.objects.take()?;
        let count = rest.len().min(self.objects_per_task);
        let oids: Vec<u32> = rest.drain(..count).collect();
        let (task_entry, last) = (Arc::clone(&entry), rest.is_empty());
        if !last {
            self.objects = Some((entry, rest, false));
        }
        let most_pages = u32::try_from(self.range_bytes as u64 / PAGE_BYTES).unwrap_or(u32::MAX).max(1);
        Some(Task::LargeObjects(ObjectsTask { entry: task_entry, oids, most_pages, first, last }))
    }

    /// As many small tables as make a task together.
    fn small_tables(&mut self, first: Arc<Table>) -> Task {
        let mut bytes = first.size.text_bytes;
        let mut tables = vec![first];
        while let Some(Source::Table(table)) = self.sources.front() {
            bytes += table.size.text_bytes;
            if bytes > self.range_bytes as u64 || tables.len() == MOST_TABLES {
                break;
            }
            tables.push(Arc::clone(table));
            self.sources.pop_front();
        }
        Task::Tables(tables)
    }
}

impl Iterator for Schedule {
    type Item = Task;

    fn next(&mut self) -> Option<Task> {
        if let Some(toc) = self.head.take() {
            return Some(Task::Head(toc));
        }
        if let Some(task) = self.next_range() {
            return Some(task);
        }
        if let Some(task) = self.next_objects() {
            return Some(task);
        }
        match self.sources.pop_front()? {
            Source::Table(table) if table.is_divisible() && table.size.text_bytes > self.range_bytes as u64 => {
                let cutter = Cutter::new(&table.size, self.range_bytes);
                self.cutting = Some((table, cutter));
                self.next_range()
            }
            Source::Table(table) => Some(self.small_tables(table)),
            Source::LargeObjects { entry, oids } => {
                self.objects = Some((entry, oids.iter().copied().collect(), true));
                self.next_objects()
            }
        }
    }
}
