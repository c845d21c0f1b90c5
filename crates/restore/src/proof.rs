//! The proof: what came back is what was there (law 4).
//!
//! Rows and fingerprints are read again from the new database, under the dump's own session settings; trees whose rows
//! are routed are compared at their root, for their leaves may hold others than before (POSTGRES A7). Large objects,
//! sequences, invalid indexes, extensions and the schema follow.

use std::collections::{BTreeSet, HashMap, HashSet};

use bytes::Bytes;
use pgkeep_archive::{Decoder, Event, PgText, Toc, TocEntry, copy_columns};
use pgkeep_core::{BackupSource, Tally};
use pgkeep_dump::{ClientTools, Connection, Row, quote_literal_bytes};
use tokio_util::sync::CancellationToken;

use crate::columns::{ColumnHasher, canonical, column_names, differing};
use crate::error::Doing;
use crate::lists::{Lists, Named, Routes};
use crate::load::{Loaded, table_name};
use crate::reread::{self, Unit, Unread, read, reread};
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
    /// Nobody writes to the tables, so that each may be read by several statements.
    pub(crate) standstill: bool,
    pub(crate) cancel: CancellationToken,
}

impl Prover<'_> {
    /// Everything; what does not wait for the tables is looked at beside them.
    pub(crate) async fn run(&self) -> Result<ProofReport> {
        let rows = async {
            let mut report = ProofReport::default();
            self.rows(&mut report).await?;
            Ok(report)
        };
        let rest = async {
            let mut report = ProofReport::default();
            let mut connection = self.settings.proof().await?;
            self.sequences(&mut connection, &mut report).await?;
            if self.whole {
                self.indexes(&mut connection, &mut report).await?;
                self.extensions(&mut connection, &mut report).await?;
                self.schema(&mut report).await?;
            }
            let _ = connection.close().await;
            self.large_objects(&mut report).await?;
            Ok::<_, Error>(report)
        };
        let (mut report, rest) = tokio::try_join!(rows, rest)?;
        report.absorb(rest);
        report.differences.sort_by(|a, b| a.subject.cmp(&b.subject));
        Ok(report)
    }

    /// Rows and fingerprints of tables only.
    pub(crate) async fn rows(&self, report: &mut ProofReport) -> Result<()> {
        let mut connection = self.settings.proof().await?;
        let units = self.units(&mut connection).await?;
        let _ = connection.close().await;
        self.tables(&units, report).await
    }

    /// Tables by themselves, and roots of trees for rows that went through them.
    async fn units(&self, connection: &mut Connection) -> Result<Vec<Unit>> {
        let mut units = Vec::new();
        let mut roots: BTreeSet<Named> = BTreeSet::new();
        let mut by_name: HashMap<Named, (&TocEntry, Tally)> = HashMap::new();
        let routes = self.routes();
        let conditions = conditions(connection).await.doing("reading the extensions' tables")?;
        for (dump_id, tally) in &self.loaded.tables {
            let Some(entry) = self.toc.entry(*dump_id) else { continue };
            let schema = entry.namespace.clone().unwrap_or_default();
            let own = (schema, entry.tag.clone());
            match routes.target(entry) {
                Some(target) if target != own => {
                    roots.insert(target);
                }
                _ => {
                    let condition = conditions.get(&own).map(|condition| &condition[..]);
                    units.push(self.unit(connection, entry, condition, *tally).await?);
                }
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

    fn routes(&self) -> Routes<'_> {
        let wanted: HashSet<i32> = self.lists.data.iter().copied().collect();
        Routes::new(&self.toc.entries, move |id| wanted.contains(&id))
    }

    async fn unit(
        &self,
        connection: &mut Connection,
        entry: &TocEntry,
        condition: Option<&[u8]>,
        expected: Tally,
    ) -> Result<Unit> {
        let name = table_name(entry);
        let ranges = match copy_columns(entry) {
            Some(columns) if condition.is_none() && self.standstill => {
                let table = qualified(entry.namespace.as_ref(), &entry.tag);
                reread::ranges(connection, &table, columns, expected.bytes)
                    .await
                    .doing(format!("reading the size of table {name}"))?
            }
            _ => Vec::new(),
        };
        let sql = copy_out(entry, condition);
        Ok(Unit { name, sql, ranges, expected, rows_only: false, entries: vec![entry.dump_id] })
    }

    async fn root(
        &self,
        connection: &mut Connection,
        schema: &PgText,
        name: &PgText,
        by_name: &HashMap<Named, (&TocEntry, Tally)>,
    ) -> Result<Unit> {
        let root = qualified(Some(schema), name);
        let mut sql = b"SELECT n.nspname, c.relname FROM pg_catalog.pg_partition_tree('".to_vec();
        sql.extend(root.iter().flat_map(|&byte| if byte == b'\'' { vec![b'\'', b'\''] } else { vec![byte] }));
        sql.extend(b"'::pg_catalog.regclass) t JOIN pg_catalog.pg_class c ON c.oid = t.relid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace");
        let members = connection.query(&sql).await.doing("reading a partition tree")?;
        let mut expected = Tally::default();
        let mut columns: Option<Option<&[u8]>> = None;
        let mut entries = Vec::new();
        let mut rows_only = false;
        for row in &members {
            let text = |column: usize| PgText(row.bytes(column).cloned().unwrap_or_default());
            let Some((entry, tally)) = by_name.get(&(text(0), text(1))) else { continue };
            expected += *tally;
            let list = copy_columns(entry);
            rows_only |= columns.is_some_and(|first| first != list);
            columns.get_or_insert(list);
            entries.push(entry.dump_id);
        }
        let mut sql = b"COPY (SELECT ".to_vec();
        sql.extend(columns.flatten().unwrap_or(b"*"));
        sql.extend(b" FROM ");
        sql.extend(&root);
        sql.extend(b") TO STDOUT");
        let name = format!("{}.{}", schema.lossy(), name.lossy());
        Ok(Unit { name, sql, ranges: Vec::new(), expected, rows_only, entries })
    }

    async fn tables(&self, units: &[Unit], report: &mut ProofReport) -> Result<()> {
        let found = reread(&self.settings, self.jobs, self.loaded.key, units).await?;
        for (unit, found) in units.iter().zip(found) {
            match found {
                Ok(tally) => self.weigh(unit, tally, report).await?,
                Err(Unread { why, forbidden: true }) => {
                    report.unprovable.push(format!("table {} may not be read: {why}", unit.name));
                }
                // What the server cannot give back is not there.
                Err(Unread { why, .. }) => report.differences.push(Difference {
                    subject: format!("table {}", unit.name),
                    problem: format!("cannot be read: {why}"),
                }),
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
        let Some(entry) = unit.entries.first().and_then(|&id| self.toc.entry(id)) else {
            return Ok(Default::default());
        };
        let was = self.columns_in_archive(&unit.entries).await?;
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

    /// A tally per column of these entries together.
    async fn columns_in_archive(&self, ids: &[i32]) -> Result<Vec<Tally>> {
        let mut archive = self.source.open_entries(ids, 1).await?;
        let mut decoder = Decoder::new();
        let mut hasher = ColumnHasher::new(self.loaded.key);
        while let Some(bytes) = archive.next().await? {
            decoder.push(&bytes);
            while let Some(event) = decoder.next_event()? {
                if let Event::Data { dump_id, bytes } = event
                    && ids.contains(&dump_id)
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

/// Type and whether it is an enum, by column.
async fn types(
    connection: &mut Connection,
    table: &[u8],
) -> std::result::Result<HashMap<String, (String, bool)>, pgkeep_dump::Error> {
    let sql = [
        b"SELECT a.attname, t.typname, t.typtype FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid \
          WHERE a.attnum > 0 AND NOT a.attisdropped AND a.attrelid = ",
        &quote_literal_bytes(table)[..],
        b"::pg_catalog.regclass",
    ];
    let rows = connection.query(sql.concat()).await?;
    Ok(rows
        .iter()
        .map(|row| {
            let text = |column: usize| row.text(column).unwrap_or_default();
            (text(0), (text(1), text(2) == "e"))
        })
        .collect())
}
