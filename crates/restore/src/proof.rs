//! The proof: what came back is what was there (law 4).
//!
//! Rows and fingerprints are read again from the new database, under the dump's own session settings; trees whose rows
//! are routed are compared at their root, for their leaves may hold others than before (POSTGRES A7). Large objects,
//! sequences, invalid indexes, extensions and the schema follow.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use pgkeep_archive::{Decoder, Event, PgText, Toc, TocEntry, copy_columns, copy_target};
use pgkeep_core::{BackupSource, RowHasher, Tally};
use pgkeep_dump::{ClientTools, Connection, Row, quote_literal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::columns::{ColumnHasher, canonical, column_names, differing};
use crate::error::Doing;
use crate::lists::Lists;
use crate::load::{Loaded, table_name};
use crate::sessions::{DataSettings, qualified};
use crate::{Difference, Error, ProofReport, Result};

/// What is proven.
#[derive(Debug)]
pub(crate) struct Prover<'a> {
    pub(crate) source: &'a BackupSource,
    pub(crate) toc: &'a Toc,
    pub(crate) lists: &'a Lists,
    pub(crate) loaded: &'a Loaded,
    pub(crate) settings: DataSettings,
    pub(crate) jobs: usize,
    pub(crate) tools: &'a [ClientTools],
    pub(crate) server_major: u32,
    /// Everything was restored, so the whole schema can be compared.
    pub(crate) whole: bool,
    pub(crate) owners: bool,
    pub(crate) grants: bool,
    pub(crate) cancel: CancellationToken,
}

/// A table, or the root of a tree, with what it must hold.
#[derive(Debug, Clone)]
struct Unit {
    name: String,
    sql: Vec<u8>,
    expected: Tally,
    /// The columns' lists differ in the tree: only rows can be compared.
    rows_only: bool,
    /// The entry, if it is a table of its own.
    entry: Option<i32>,
}

/// A unit with what is in the database now, or why it cannot be read.
type Reread = (Unit, std::result::Result<Tally, String>);

impl Prover<'_> {
    /// Everything.
    pub(crate) async fn run(&self) -> Result<ProofReport> {
        let mut report = ProofReport::default();
        let mut connection = self.settings.proof().await?;
        let units = self.units(&mut connection).await?;
        self.tables(units, &mut report).await?;
        self.large_objects(&mut connection, &mut report).await?;
        self.sequences(&mut connection, &mut report).await?;
        if self.whole {
            self.indexes(&mut connection, &mut report).await?;
            self.extensions(&mut connection, &mut report).await?;
            self.schema(&mut report).await?;
        }
        let _ = connection.close().await;
        report.differences.sort_by(|a, b| a.subject.cmp(&b.subject));
        Ok(report)
    }

    /// Rows and fingerprints of tables only.
    pub(crate) async fn rows(&self, report: &mut ProofReport) -> Result<()> {
        let mut connection = self.settings.proof().await?;
        let units = self.units(&mut connection).await?;
        let _ = connection.close().await;
        self.tables(units, report).await
    }

    /// Tables by themselves, and roots of trees for rows that went through them.
    async fn units(&self, connection: &mut Connection) -> Result<Vec<Unit>> {
        let mut units = Vec::new();
        let mut roots: BTreeSet<(PgText, PgText)> = BTreeSet::new();
        let mut by_name: HashMap<(PgText, PgText), (&TocEntry, Tally)> = HashMap::new();
        let conditions = conditions(connection).await.doing("reading the extensions' tables")?;
        for (dump_id, tally) in &self.loaded.tables {
            let Some(entry) = self.toc.entry(*dump_id) else { continue };
            let schema = entry.namespace.clone().unwrap_or_default();
            let own = (schema, entry.tag.clone());
            match copy_target(entry) {
                Some(target) if target != own => {
                    roots.insert(target);
                }
                _ => units.push(Unit {
                    name: table_name(entry),
                    sql: copy_out(entry, conditions.get(&own).map(|condition| &condition[..])),
                    expected: *tally,
                    rows_only: false,
                    entry: Some(entry.dump_id),
                }),
            }
            by_name.insert(own, (entry, *tally));
        }
        for (schema, name) in roots {
            units.push(self.root(connection, &schema, &name, &by_name).await?);
        }
        // The big ones first, so that none is left over for one session in the end.
        units.sort_by_key(|unit| std::cmp::Reverse(unit.expected.bytes));
        Ok(units)
    }

    async fn root(
        &self,
        connection: &mut Connection,
        schema: &PgText,
        name: &PgText,
        by_name: &HashMap<(PgText, PgText), (&TocEntry, Tally)>,
    ) -> Result<Unit> {
        let root = qualified(Some(schema), name);
        let mut sql = b"SELECT n.nspname, c.relname FROM pg_catalog.pg_partition_tree('".to_vec();
        sql.extend(root.iter().flat_map(|&byte| if byte == b'\'' { vec![b'\'', b'\''] } else { vec![byte] }));
        sql.extend(b"'::pg_catalog.regclass) t JOIN pg_catalog.pg_class c ON c.oid = t.relid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace");
        let members = connection.query(&sql).await.doing("reading a partition tree")?;
        let mut expected = Tally::default();
        let mut columns: Option<Option<&[u8]>> = None;
        let mut rows_only = false;
        for row in &members {
            let text = |column: usize| PgText(row.bytes(column).cloned().unwrap_or_default());
            let Some((entry, tally)) = by_name.get(&(text(0), text(1))) else { continue };
            expected += *tally;
            let list = copy_columns(entry);
            rows_only |= columns.is_some_and(|first| first != list);
            columns.get_or_insert(list);
        }
        let mut sql = b"COPY (SELECT ".to_vec();
        sql.extend(columns.flatten().unwrap_or(b"*"));
        sql.extend(b" FROM ");
        sql.extend(&root);
        sql.extend(b") TO STDOUT");
        Ok(Unit { name: format!("{}.{}", schema.lossy(), name.lossy()), sql, expected, rows_only, entry: None })
    }

    async fn tables(&self, units: Vec<Unit>, report: &mut ProofReport) -> Result<()> {
        let count = self.jobs.min(units.len()).max(1);
        let queue = Arc::new(Mutex::new(VecDeque::from(units)));
        let mut tasks: JoinSet<Result<Vec<Reread>>> = JoinSet::new();
        for _ in 0..count {
            let (queue, settings, key) = (Arc::clone(&queue), self.settings.clone(), self.loaded.key);
            tasks.spawn(async move {
                let mut connection = settings.proof().await?;
                let mut done = Vec::new();
                loop {
                    let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                    let Some(unit) = next else { break };
                    let found = match read(&mut connection, &unit.sql, RowHasher::new(key), RowHasher::update).await {
                        Ok(hasher) => hasher.finish().map_err(|_| "the last row does not end".to_owned()),
                        Err(pgkeep_dump::Error::Server(error)) if !error.is_fatal() => {
                            // Nobody needs to know where a refused COPY leaves its session.
                            connection = settings.proof().await?;
                            Err(error.message)
                        }
                        Err(error) => return Err(error).doing(format!("reading table {} for the proof", unit.name)),
                    };
                    done.push((unit, found));
                }
                let _ = connection.close().await;
                Ok(done)
            });
        }
        while let Some(ended) = tasks.join_next().await {
            for (unit, found) in ended.map_err(|error| Error::Task(error.to_string()))?? {
                match found {
                    Ok(tally) => self.weigh(&unit, tally, report).await?,
                    Err(why) => report.unprovable.push(format!("table {} cannot be read: {why}", unit.name)),
                }
            }
        }
        Ok(())
    }

    async fn weigh(&self, unit: &Unit, found: Tally, report: &mut ProofReport) -> Result<()> {
        report.tables += 1;
        report.rows += found.rows;
        if found == unit.expected {
            return Ok(());
        }
        if found.rows != unit.expected.rows {
            report.differences.push(Difference {
                subject: format!("table {}", unit.name),
                problem: format!("{} rows were there, {} came back", unit.expected.rows, found.rows),
            });
            return Ok(());
        }
        if unit.rows_only {
            report.unprovable.push(format!(
                "the partitions of {} list their columns in different orders: only its rows were counted",
                unit.name
            ));
            return Ok(());
        }
        let (damaged, rendered) = self.columns(unit).await?;
        let subject = format!("table {}", unit.name);
        if damaged.is_empty() && !rendered.is_empty() {
            let problem = format!("rendering differs: columns {}", rendered.join(", "));
            report.renderings.push(Difference { subject, problem });
        } else {
            let columns = if damaged.is_empty() { String::new() } else { format!(" (columns {})", damaged.join(", ")) };
            report.differences.push(Difference {
                subject,
                problem: format!("as many rows as there were, but not the same values{columns}"),
            });
        }
        Ok(())
    }

    /// Columns that differ: those whose text says all there is, and those that may only be written differently here.
    async fn columns(&self, unit: &Unit) -> Result<(Vec<String>, Vec<String>)> {
        let Some(entry) = unit.entry.and_then(|id| self.toc.entry(id)) else { return Ok(Default::default()) };
        let was = self.columns_in_archive(entry.dump_id).await?;
        let mut connection = self.settings.proof().await?;
        let hasher = ColumnHasher::new(self.loaded.key);
        let is = read(&mut connection, &unit.sql, hasher, ColumnHasher::update)
            .await
            .doing(format!("reading table {} for the proof", unit.name))?
            .finish();
        let names = column_names(&copy_columns(entry).map(String::from_utf8_lossy).unwrap_or_default());
        let types = types(&mut connection, &qualified(entry.namespace.as_ref(), &entry.tag))
            .await
            .doing("reading the types of columns")?;
        let _ = connection.close().await;
        let (mut damaged, mut rendered) = (Vec::new(), Vec::new());
        for at in differing(&was, &is) {
            let name = names.get(at).cloned().unwrap_or_else(|| format!("number {}", at + 1));
            match types.get(&name) {
                Some((type_name, is_enum)) if !canonical(type_name, *is_enum, self.source.meta.is_none()) => {
                    rendered.push(format!("{name} ({type_name})"));
                }
                _ => damaged.push(name),
            }
        }
        Ok((damaged, rendered))
    }

    async fn columns_in_archive(&self, dump_id: i32) -> Result<Vec<Tally>> {
        let mut archive = self.source.open_entries(&[dump_id], 1).await?;
        let mut decoder = Decoder::new();
        let mut hasher = ColumnHasher::new(self.loaded.key);
        while let Some(bytes) = archive.next().await? {
            decoder.push(&bytes);
            while let Some(event) = decoder.next_event()? {
                if let Event::Data { dump_id: of, bytes } = event
                    && of == dump_id
                {
                    hasher.update(&bytes);
                }
            }
        }
        decoder.finish()?;
        Ok(hasher.finish())
    }
}

/// Of extensions' own tables that pg_dump dumps in part (`pg_extension_config_dump`), the conditions.
async fn conditions(
    connection: &mut Connection,
) -> std::result::Result<HashMap<(PgText, PgText), Bytes>, pgkeep_dump::Error> {
    let rows = connection
        .query(
            "SELECT n.nspname, c.relname, x.condition FROM pg_catalog.pg_extension e, \
             ROWS FROM (pg_catalog.unnest(e.extconfig), pg_catalog.unnest(e.extcondition)) AS x (oid, condition) \
             JOIN pg_catalog.pg_class c ON c.oid = x.oid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             WHERE x.condition <> ''",
        )
        .await?;
    let text = |row: &Row, column: usize| row.bytes(column).cloned().unwrap_or_default();
    Ok(rows.iter().map(|row| ((PgText(text(row, 0)), PgText(text(row, 1))), text(row, 2))).collect())
}

/// pg_dump's own statement: the same rows in the same text.
fn copy_out(entry: &TocEntry, condition: Option<&[u8]>) -> Vec<u8> {
    let table = qualified(entry.namespace.as_ref(), &entry.tag);
    let columns = copy_columns(entry);
    match condition {
        Some(condition) => {
            [b"COPY (SELECT ", columns.unwrap_or(b"*"), b" FROM ", &table, b" ", condition, b") TO STDOUT"].concat()
        }
        None => match columns {
            Some(columns) => [b"COPY ", &table[..], b" (", columns, b") TO STDOUT"].concat(),
            None => [b"COPY ", &table[..], b" TO STDOUT"].concat(),
        },
    }
}

async fn read<H>(
    connection: &mut Connection,
    sql: &[u8],
    mut hasher: H,
    update: impl Fn(&mut H, &[u8]),
) -> std::result::Result<H, pgkeep_dump::Error> {
    let mut copy = connection.copy_out(sql).await?;
    while let Some(bytes) = copy.next().await? {
        update(&mut hasher, &bytes);
    }
    Ok(hasher)
}

/// Type and whether it is an enum, by column.
async fn types(
    connection: &mut Connection,
    table: &[u8],
) -> std::result::Result<HashMap<String, (String, bool)>, pgkeep_dump::Error> {
    let name = quote_literal(&String::from_utf8_lossy(table));
    let rows = connection
        .query(format!(
            "SELECT a.attname, t.typname, t.typtype FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid \
             WHERE a.attrelid = {name}::pg_catalog.regclass AND a.attnum > 0 AND NOT a.attisdropped"
        ))
        .await?;
    Ok(rows
        .iter()
        .map(|row| {
            let text = |column: usize| row.text(column).unwrap_or_default();
            (text(0), (text(1), text(2) == "e"))
        })
        .collect())
}
