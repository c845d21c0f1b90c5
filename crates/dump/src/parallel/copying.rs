//! One task on one session: its statements, and what they yield as blocks of the archive.

use pgkeep_archive::{Block, BlockWriter, TocEntry};
use tokio::sync::mpsc;

use super::large_objects::PageReader;
use super::schedule::Task;
use super::statements::{Locking, RELEASE, of};
use super::survey::Table;
use super::turns::Turn;
use crate::connection::Step;
use crate::{Connection, Error, Result};

/// A quarter of a page, PostgreSQL's LOBLKSIZE, for pages of 8 KiB.
const LARGE_OBJECT_PAGE: u64 = 2048;

/// A task, and where its blocks go.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) task: Task,
    pub(super) blocks: mpsc::Sender<Result<Block>>,
    pub(super) turn: Turn,
}

/// How a task went.
#[derive(Debug)]
pub(super) enum Ran {
    /// Every block of it is on its way.
    Done,
    /// Its tables could not be locked, so nothing was read.
    Locked(Error),
}

/// Does the task. An error leaves the session in a failed transaction at best; the whole dump has failed.
pub(super) async fn copy(
    connection: &mut Connection,
    work: &Work,
    locking: Locking,
    block_bytes: usize,
) -> Result<Ran> {
    let mut output = Output::new(&work.task, block_bytes);
    if let Task::Head(toc) = &work.task {
        output.writer.toc(toc)?;
    } else {
        let mut batch = connection.batch(&of(&work.task, locking)).await?;
        let mut begun = false;
        loop {
            match batch.step(&mut |bytes, ends| output.data(bytes, ends)).await {
                Ok(Step::CopyBegan) => {
                    begun = true;
                    output.begin()?;
                }
                Ok(Step::Data) => {}
                Ok(Step::CopyEnded { rows }) => output.end(rows)?,
                Ok(Step::Done) => break,
                Err(error) if !begun && is_about_locks(&error) => {
                    drop(batch);
                    connection.execute(RELEASE).await?;
                    return Ok(Ran::Locked(error));
                }
                Err(error) => return Err(output.explain(error)),
            }
            output.send(work).await?;
            while output.goes_on()? {
                output.send(work).await?;
            }
            output.send(work).await?;
        }
    }
    output.finish()?;
    output.send(work).await?;
    Ok(Ran::Done)
}

/// Whether the server refused a lock, for somebody waits for the table or there is no room for more locks.
fn is_about_locks(error: &Error) -> bool {
    matches!(error.sqlstate(), Some("55P03" | "53200"))
}

/// What a task yields.
struct Output<'t> {
    task: &'t Task,
    writer: BlockWriter,
    pages: Option<PageReader<'t>>,
    /// COPYs that have begun.
    copies: usize,
    /// Of the current one: rows that came, and their bytes.
    rows: u64,
    bytes: u64,
}

impl<'t> Output<'t> {
    fn new(task: &'t Task, block_bytes: usize) -> Self {
        let (entries, begun): (Vec<&TocEntry>, bool) = match task {
            Task::Head(_) => (Vec::new(), false),
            Task::Tables(tables) => (tables.iter().map(|table| &table.entry).collect(), false),
            Task::Range(range) => (vec![&range.table.entry], !range.is_first()),
            Task::LargeObjects { entry, first, .. } => (vec![entry], !first),
        };
        let writer = match task {
            Task::Head(_) => BlockWriter::new(block_bytes),
            _ => BlockWriter::stretch(block_bytes, entries, begun),
        };
        let pages = match task {
            Task::LargeObjects { oids, .. } => Some(PageReader::new(oids, LARGE_OBJECT_PAGE)),
            _ => None,
        };
        Self { task, writer, pages, copies: 0, rows: 0, bytes: 0 }
    }

    fn begin(&mut self) -> Result<()> {
        (self.rows, self.bytes) = (0, 0);
        let dump_id = match self.task {
            Task::Tables(tables) => tables.get(self.copies).map(|table| table.entry.dump_id),
            Task::Range(range) => range.is_first().then_some(range.table.entry.dump_id),
            Task::LargeObjects { entry, first, .. } => first.then_some(entry.dump_id),
            Task::Head(_) => None,
        };
        self.copies += 1;
        if let Some(dump_id) = dump_id {
            self.writer.start(dump_id)?;
        }
        Ok(())
    }

    fn data(&mut self, bytes: &[u8], ends: bool) -> Result<()> {
        if let Some(pages) = &mut self.pages {
            pages.push(bytes);
            return Ok(());
        }
        self.rows += u64::from(ends);
        self.bytes += bytes.len() as u64;
        Ok(self.writer.data_slice(bytes)?)
    }

    /// Writes on of what has come; whether there is more to write before more is read.
    fn goes_on(&mut self) -> Result<bool> {
        self.pages.as_mut().map_or(Ok(false), |pages| pages.advance(&mut self.writer))
    }

    /// A COPY has ended: it must have said so itself, with as many rows as came (law 2).
    fn end(&mut self, told: u64) -> Result<()> {
        if let Some(pages) = self.pages.take() {
            self.rows = pages.finish(&mut self.writer)?;
        }
        if told != self.rows {
            return Err(Error::RowCount { table: self.name(), told, found: self.rows });
        }
        let ends_entry = match self.task {
            Task::Tables(_) => true,
            Task::Range(range) => {
                range.density.learn(range.pages, self.bytes);
                range.is_last()
            }
            Task::LargeObjects { last, .. } => *last,
            Task::Head(_) => false,
        };
        if ends_entry {
            self.writer.finish_entry()?;
        }
        Ok(())
    }

    /// All statements have ended.
    fn finish(&mut self) -> Result<()> {
        let wanted = match self.task {
            Task::Head(_) => 0,
            Task::Tables(tables) => tables.len(),
            Task::Range(_) | Task::LargeObjects { .. } => 1,
        };
        if self.copies != wanted {
            return Err(Error::Statement { problem: "not every COPY of a task was run" });
        }
        Ok(self.writer.finish_stretch()?)
    }

    /// Hands over the blocks that are full; waits while too many are under way.
    async fn send(&mut self, work: &Work) -> Result<()> {
        while let Some(block) = self.writer.take() {
            work.blocks.send(Ok(block)).await.map_err(|_| Error::Interrupted)?;
        }
        Ok(())
    }

    /// The table that is being copied, for people.
    fn name(&self) -> String {
        match self.task {
            Task::Head(_) => "the table of contents".to_owned(),
            Task::Tables(tables) => {
                tables.get(self.copies.saturating_sub(1)).map(|table| Table::name(table)).unwrap_or_default()
            }
            Task::Range(range) => range.table.name(),
            Task::LargeObjects { .. } => "pg_catalog.pg_largeobject".to_owned(),
        }
    }

    fn explain(&self, error: Error) -> Error {
        match error.sqlstate() {
            // The leader's lock keeps the table, but not its schema's name.
            Some("22012" | "3F000" | "42P01") => {
                Error::Changed { what: format!("{} is not the table it was: its schema was renamed", self.name()) }
            }
            Some(_) => Error::Copy { table: self.name(), source: Box::new(error) },
            None => error,
        }
    }
}
