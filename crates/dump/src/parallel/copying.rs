//! One task on one session: its statements, and what they yield as blocks of the archive.

use pgkeep_archive::{Block, BlockWriter, TocEntry};
use tokio::sync::mpsc;

use super::large_objects::{PAGE_BYTES, PageReader, Reading, readings};
use super::schedule::{ObjectsTask, Task};
use super::statements::{self, Locking, RELEASE, copy_stretch, last_pages, of};
use super::survey::Table;
use super::turns::Turn;
use crate::connection::Step;
use crate::{Connection, Error, Result, quote_identifier};

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
    match &work.task {
        Task::Head(toc) => output.writer.toc(toc)?,
        Task::Tables(_) | Task::Range(_) => {
            let ran = copy_rows(connection, work, locking, &mut output).await?;
            if matches!(ran, Ran::Locked(_)) {
                return Ok(ran);
            }
        }
        Task::LargeObjects(objects) => copy_objects(connection, work, objects, &mut output).await?,
    }
    output.finish()?;
    output.send(work).await?;
    Ok(Ran::Done)
}

/// Rows of tables: they are written on while they come.
async fn copy_rows(connection: &mut Connection, work: &Work, locking: Locking, output: &mut Output<'_>) -> Result<Ran> {
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
            Ok(Step::Done) => return Ok(Ran::Done),
            Err(error) if !begun && is_about_locks(&error) => {
                drop(batch);
                connection.execute(RELEASE).await?;
                return Ok(Ran::Locked(error));
            }
            Err(error) => {
                drop(batch);
                let find = match output.table() {
                    Some(table) if error.is_of_a_row_too_long() => find_longest(connection, table).await.ok().flatten(),
                    _ => None,
                };
                return Err(output.explain(error, find));
            }
        }
        output.send(work).await?;
    }
}

/// The query that finds the longest rows of a table. It asks for lengths only, which are known without the values: these
/// may be longer than a query can hold.
async fn find_longest(connection: &mut Connection, table: &Table) -> Result<Option<String>> {
    connection.execute(RELEASE).await?;
    // The types of which octet_length does not make another value first; a virtual column has no value that is stored.
    let sql = format!(
        "SELECT a.attname, coalesce(nullif(t.typbasetype, 0), t.oid) = ANY ('{{bytea,text,varchar,bpchar}}'::pg_catalog.regtype[]) \
         FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid WHERE a.attrelid = {} AND a.attnum > 0 \
         AND NOT a.attisdropped AND a.attlen = -1 AND coalesce(pg_catalog.to_jsonb(a) ->> 'attgenerated', '') <> 'v' ORDER BY a.attnum",
        table.entry.oid
    );
    let (mut lengths, mut names) = (Vec::new(), Vec::new());
    for row in connection.query(sql).await? {
        let name = quote_identifier(&row.text(0).unwrap_or_default());
        let function = if row.is_true(1) { "octet_length" } else { "pg_column_size" };
        lengths.push(format!("{function}({name})"));
        names.push(name);
    }
    if lengths.is_empty() {
        return Ok(None);
    }
    let columns: Vec<String> = lengths.iter().zip(names).map(|(length, name)| format!("{length} AS {name}")).collect();
    let sum: Vec<String> = lengths.iter().map(|length| format!("coalesce({length}, 0)::bigint")).collect();
    let qualified = String::from_utf8_lossy(&table.qualified);
    let (columns, sum) = (columns.join(", "), sum.join(" + "));
    Ok(Some(format!("SELECT ctid, {columns} FROM ONLY {qualified} ORDER BY {sum} DESC LIMIT 10")))
}

/// Large objects: no statement brings more than is held here before it is written, so that none waits for a store.
async fn copy_objects(
    connection: &mut Connection,
    work: &Work,
    objects: &ObjectsTask,
    output: &mut Output<'_>,
) -> Result<()> {
    output.begin()?;
    let rows = connection.query(last_pages(&objects.oids)).await.map_err(|error| output.explain(error, None))?;
    let last_pages = rows.iter().map(|row| row.get_optional(0)).collect::<Result<Vec<Option<u32>>>>()?;
    let mut reader = PageReader::new(&objects.oids, PAGE_BYTES);
    for reading in readings(&objects.oids, &last_pages, objects.most_pages) {
        match reading {
            Reading::Together(oids) => {
                copy_pages(connection, &statements::copy_objects(&oids), work, output, &mut reader).await?;
            }
            Reading::InStretches { oid, last_page } => {
                let mut after = None;
                while after != Some(last_page) {
                    let stretch = copy_stretch(oid, after, objects.most_pages);
                    let pages = copy_pages(connection, &stretch, work, output, &mut reader).await?;
                    if pages == 0 {
                        return Err(Error::Statement { problem: "a large object ends before its last page" });
                    }
                    after = reader.last_page();
                }
            }
        }
    }
    reader.finish(&mut output.writer)?;
    if objects.last {
        output.writer.finish_entry()?;
    }
    Ok(())
}

/// Runs one statement to its end, and then writes what it brought; how many pages that were.
async fn copy_pages(
    connection: &mut Connection,
    statement: &[u8],
    work: &Work,
    output: &mut Output<'_>,
    reader: &mut PageReader<'_>,
) -> Result<u64> {
    let mut batch = connection.batch(statement).await?;
    let mut told = None;
    loop {
        let mut hold = |bytes: &[u8], _| {
            reader.push(bytes);
            Ok(())
        };
        match batch.step(&mut hold).await.map_err(|error| output.explain(error, None))? {
            Step::CopyBegan | Step::Data => {}
            Step::CopyEnded { rows } => told = Some(rows),
            Step::Done => break,
        }
    }
    drop(batch);
    while reader.advance(&mut output.writer)? {
        output.send(work).await?;
    }
    output.send(work).await?;
    let pages = reader.end_copy()?;
    match told {
        Some(told) if told == pages => Ok(pages),
        told => Err(Error::RowCount { table: output.name(), told: told.unwrap_or(0), found: pages }),
    }
}

/// Whether the server refused a lock, for somebody waits for the table or there is no room for more locks.
fn is_about_locks(error: &Error) -> bool {
    matches!(error.sqlstate(), Some("55P03" | "53200"))
}

/// What a task yields.
struct Output<'t> {
    task: &'t Task,
    writer: BlockWriter,
    /// COPYs of rows that have begun; large objects are one.
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
            Task::LargeObjects(objects) => (vec![&objects.entry], !objects.first),
        };
        let writer = match task {
            Task::Head(_) => BlockWriter::new(block_bytes),
            _ => BlockWriter::stretch(block_bytes, entries, begun),
        };
        Self { task, writer, copies: 0, rows: 0, bytes: 0 }
    }

    fn begin(&mut self) -> Result<()> {
        (self.rows, self.bytes) = (0, 0);
        let dump_id = match self.task {
            Task::Tables(tables) => tables.get(self.copies).map(|table| table.entry.dump_id),
            Task::Range(range) => range.is_first().then_some(range.table.entry.dump_id),
            Task::LargeObjects(objects) => objects.first.then_some(objects.entry.dump_id),
            Task::Head(_) => None,
        };
        self.copies += 1;
        if let Some(dump_id) = dump_id {
            self.writer.start(dump_id)?;
        }
        Ok(())
    }

    fn data(&mut self, bytes: &[u8], ends: bool) -> Result<()> {
        self.rows += u64::from(ends);
        self.bytes += bytes.len() as u64;
        Ok(self.writer.data_slice(bytes)?)
    }

    /// A COPY of rows has ended: it must have said so itself, with as many rows as came (law 2).
    fn end(&mut self, told: u64) -> Result<()> {
        if told != self.rows {
            return Err(Error::RowCount { table: self.name(), told, found: self.rows });
        }
        let ends_entry = match self.task {
            Task::Tables(_) => true,
            Task::Range(range) => {
                range.density.learn(range.pages, self.rows, self.bytes);
                range.is_last()
            }
            Task::Head(_) | Task::LargeObjects(_) => false,
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
            Task::Range(_) | Task::LargeObjects(_) => 1,
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

    /// The table that is being copied.
    fn table(&self) -> Option<&Table> {
        match self.task {
            Task::Tables(tables) => tables.get(self.copies.saturating_sub(1)).map(AsRef::as_ref),
            Task::Range(range) => Some(&range.table),
            Task::Head(_) | Task::LargeObjects(_) => None,
        }
    }

    /// The same, for people.
    fn name(&self) -> String {
        match self.task {
            Task::Head(_) => "the table of contents".to_owned(),
            Task::Tables(_) | Task::Range(_) => self.table().map(Table::name).unwrap_or_default(),
            Task::LargeObjects(_) => "pg_catalog.pg_largeobject".to_owned(),
        }
    }

    fn explain(&self, error: Error, find: Option<String>) -> Error {
        match error.sqlstate() {
            // The leader's lock keeps the table, but not its schema's name.
            Some("22012" | "3F000" | "42P01") => {
                Error::Changed { what: format!("{} is not the table it was: its schema was renamed", self.name()) }
            }
            Some(_) => Error::Copy { table: self.name(), source: Box::new(error), find },
            None => error,
        }
    }
}
