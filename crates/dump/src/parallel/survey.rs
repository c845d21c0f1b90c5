//! What the data entries of an archive are in the database: kind, place, size.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use pgkeep_archive::{Toc, TocEntry, copy_columns, large_object_oids};

use super::Setback;
use crate::facts::truth;
use crate::{Connection, Row, quote_identifier_bytes};

/// Ranges of row positions can be scanned from this version on.
const TID_RANGE_SCANS: u32 = 140_000;
/// Bytes of text that a byte of a table's own pages makes, about.
const TEXT_FACTOR: f64 = 1.2;
/// The same for values that lie outside: compressed or binary, and bytea doubles as text.
const TOAST_FACTOR: f64 = 2.0;

/// One table whose rows are dumped.
#[derive(Debug)]
pub(super) struct Table {
    /// Its entry.
    pub(super) entry: TocEntry,
    /// `"schema"."name"`, in the archive's encoding.
    pub(super) qualified: Vec<u8>,
    /// The columns as the archive's COPY statement lists them; `None` where it lists none.
    pub(super) columns: Option<Vec<u8>>,
    /// The condition on the rows of an extension's configuration table.
    condition: Option<Vec<u8>>,
    /// The file its rows lay in when the snapshot was taken.
    filenode: u32,
    /// What is known of its size once it is locked.
    pub(super) size: Size,
    heap: bool,
}

/// How big a table is.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Size {
    /// Pages of its own.
    pub(super) pages: u32,
    /// Rows on a page, about, if somebody has counted them.
    pub(super) rows_per_page: Option<f64>,
    /// Bytes of text, about.
    pub(super) text_bytes: u64,
    /// Bytes of a page.
    pub(super) block_bytes: u32,
}

/// Data of one entry.
#[derive(Debug, Clone)]
pub(super) enum Source {
    /// Rows of a table.
    Table(Arc<Table>),
    /// Large objects, in order.
    LargeObjects { entry: Arc<TocEntry>, oids: Arc<Vec<u32>> },
}

/// The data entries in archive order.
#[derive(Debug)]
pub(super) struct Survey {
    pub(super) tables: Vec<Table>,
    /// Where each entry's source is: a table by its index, or large objects.
    order: Vec<Place>,
    /// Bytes of all large objects, about.
    pub(super) large_object_bytes: u64,
}

#[derive(Debug)]
enum Place {
    Table(usize),
    LargeObjects { entry: Arc<TocEntry>, oids: Arc<Vec<u32>> },
}

impl Table {
    /// `schema.name`, for people.
    pub(super) fn name(&self) -> String {
        name_of(&self.entry)
    }

    /// Whether its rows can be read in ranges of their positions.
    pub(super) fn is_divisible(&self) -> bool {
        self.heap && self.columns.is_some() && self.condition.is_none()
    }

    /// The COPY statement that pg_dump would use for all of it.
    pub(super) fn copy_all(&self) -> Vec<u8> {
        let columns = self.columns.as_deref();
        match &self.condition {
            Some(condition) => {
                [b"COPY (SELECT ", columns.unwrap_or(b"*"), b" FROM ", &self.qualified, b" ", condition, b") TO STDOUT"]
                    .concat()
            }
            None => match columns {
                Some(columns) => [b"COPY ", &self.qualified[..], b" (", columns, b") TO STDOUT"].concat(),
                None => [b"COPY ", &self.qualified[..], b" TO STDOUT"].concat(),
            },
        }
    }

    fn new(entry: &TocEntry, row: &Row, tid_ranges: bool) -> Result<Self, Setback> {
        let namespace = entry.namespace.as_ref().map(|namespace| &namespace.0[..]).unwrap_or_default();
        let qualified = [&quote_identifier_bytes(namespace)[..], b".", &quote_identifier_bytes(&entry.tag.0)].concat();
        Ok(Self {
            entry: entry.clone(),
            qualified,
            columns: copy_columns(entry).map(<[u8]>::to_vec),
            condition: row.bytes(4).filter(|condition| !condition.is_empty()).map(|condition| condition.to_vec()),
            filenode: row.get(2)?,
            size: Size::default(),
            heap: tid_ranges && row.text(3).as_deref() == Some("heap"),
        })
    }
}

impl Survey {
    /// Looks up every data entry, by OID, in the snapshot of `leader`.
    pub(super) async fn read(leader: &mut Connection, toc: &Toc) -> Result<Self, Setback> {
        let wanted: Vec<&TocEntry> = toc.data_entries().filter(|entry| !entry.holds_large_objects()).collect();
        let sql = format!(
            "SELECT c.oid, c.relkind, c.relfilenode, a.amname, (SELECT e.extcondition[pg_catalog.array_position(e.extconfig, c.oid)] \
             FROM pg_catalog.pg_extension e WHERE c.oid = ANY (e.extconfig) LIMIT 1) \
             FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_am a ON a.oid = c.relam WHERE c.oid = ANY ({})",
            oid_array(wanted.iter().map(|entry| entry.oid))
        );
        let rows = leader.query(sql).await?;
        let mut found: HashMap<u32, &Row> = HashMap::with_capacity(rows.len());
        for row in &rows {
            found.insert(row.get(0)?, row);
        }
        let tid_ranges = leader.server_version() >= TID_RANGE_SCANS;
        let mut survey = Self { tables: Vec::new(), order: Vec::new(), large_object_bytes: 0 };
        for entry in toc.data_entries() {
            if entry.holds_large_objects() {
                let oids = large_objects_of(toc, entry)
                    .ok_or_else(|| Setback::unsuited("the archive does not say which large objects it holds"))?;
                survey.order.push(Place::LargeObjects { entry: Arc::new(entry.clone()), oids: Arc::new(oids) });
                continue;
            }
            let row = found.get(&entry.oid).filter(|_| entry.holds_copy_text());
            let row = row.ok_or_else(|| Setback::unsuited(format!("{} is not a table's rows", entry.title())))?;
            if row.text(1).as_deref() != Some("r") {
                return Err(Setback::unsuited(format!("{} is not a plain table", entry.title())));
            }
            survey.order.push(Place::Table(survey.tables.len()));
            survey.tables.push(Table::new(entry, row, tid_ranges)?);
        }
        if survey.order.iter().any(|place| matches!(place, Place::LargeObjects { .. })) {
            survey.measure_large_objects(leader).await?;
        }
        Ok(survey)
    }

    async fn measure_large_objects(&mut self, leader: &mut Connection) -> Result<(), Setback> {
        let sql = "SELECT pg_catalog.has_table_privilege('pg_catalog.pg_largeobject', 'SELECT'), \
                   pg_catalog.pg_relation_size('pg_catalog.pg_largeobject'), pg_catalog.current_setting('block_size')";
        let row = leader.query_one(sql).await?;
        if !truth(&row, 0) {
            return Err(Setback::unsuited("this role may read large objects one by one only"));
        }
        if row.text(2).as_deref() != Some("8192") {
            return Err(Setback::unsuited("the server's pages are not of 8 KiB"));
        }
        self.large_object_bytes = row.get(1)?;
        Ok(())
    }

    /// Once every table is locked: whether each is still what it was in the snapshot, and how big it is.
    pub(super) async fn weigh(&mut self, leader: &mut Connection) -> Result<(), Setback> {
        if self.tables.is_empty() {
            return Ok(());
        }
        // The catalog's row is the snapshot's; the functions look at what is there now.
        let sql = format!(
            "SELECT c.oid, pg_catalog.pg_relation_filenode(c.oid), pg_catalog.pg_relation_size(c.oid), \
             CASE WHEN c.reltoastrelid = 0 THEN 0 ELSE pg_catalog.pg_relation_size(c.reltoastrelid) END, \
             CASE WHEN c.reltuples > 0 THEN c.reltuples::pg_catalog.float8 / greatest(c.relpages, 1) END, pg_catalog.current_setting('block_size')::pg_catalog.int4 \
             FROM pg_catalog.pg_class c WHERE c.oid = ANY ({})",
            oid_array(self.tables.iter().map(|table| table.entry.oid))
        );
        let rows = leader.query(sql).await?;
        let locked = leader
            .query(
                "SELECT relation FROM pg_catalog.pg_locks WHERE pid = pg_catalog.pg_backend_pid() AND locktype = 'relation' \
                 AND mode = 'AccessShareLock' AND granted",
            )
            .await?;
        let locked: HashSet<u32> = locked.iter().map(|row| row.get(0)).collect::<crate::Result<_>>()?;
        let mut found: HashMap<u32, &Row> = HashMap::with_capacity(rows.len());
        for row in &rows {
            found.insert(row.get(0)?, row);
        }
        for table in &mut self.tables {
            let moved = || super::rewritten(table.name());
            let row = found.get(&table.entry.oid).ok_or_else(moved)?;
            if row.get_optional::<u32>(1)? != Some(table.filenode) || !locked.contains(&table.entry.oid) {
                return Err(moved());
            }
            let own: u64 = row.get_optional(2)?.unwrap_or(0);
            let toast: u64 = row.get_optional(3)?.unwrap_or(0);
            let block_bytes: u32 = row.get(5)?;
            table.size = Size {
                pages: u32::try_from(own / u64::from(block_bytes.max(1))).unwrap_or(u32::MAX),
                rows_per_page: row.get_optional(4)?,
                text_bytes: (own as f64 * TEXT_FACTOR + toast as f64 * TOAST_FACTOR) as u64,
                block_bytes,
            };
        }
        Ok(())
    }

    /// The sources in archive order.
    pub(super) fn into_sources(self) -> Vec<Source> {
        let tables: Vec<Arc<Table>> = self.tables.into_iter().map(Arc::new).collect();
        let source = |place| match place {
            Place::Table(index) => Source::Table(Arc::clone(&tables[index])),
            Place::LargeObjects { entry, oids } => Source::LargeObjects { entry, oids },
        };
        self.order.into_iter().map(source).collect()
    }
}

/// A table of which the rows that the snapshot of `leader` sees are no longer there, if there is one: its file was replaced since.
///
/// A file never comes back, so a table that has its old one now had it at every moment before. No lock is needed, and none
/// is taken.
pub(super) async fn rewritten(leader: &mut Connection, toc: &Toc) -> crate::Result<Option<String>> {
    // Only a session that takes some lock hears what others have changed.
    leader.execute("SELECT pg_catalog.pg_relation_size('pg_catalog.pg_language')").await?;
    // What is no file of its own (foreign tables, say) has none.
    let sql = format!(
        "SELECT c.oid FROM pg_catalog.pg_class c WHERE c.relfilenode <> 0 \
         AND pg_catalog.pg_relation_filenode(c.oid) IS DISTINCT FROM c.relfilenode AND c.oid = ANY ({})",
        oid_array(toc.data_entries().filter(|entry| !entry.holds_large_objects()).map(|entry| entry.oid))
    );
    let rows = leader.query(sql).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let oid: u32 = row.get(0)?;
    Ok(toc.data_entries().find(|entry| entry.oid == oid).map(name_of))
}

/// `schema.name`, for people.
fn name_of(entry: &TocEntry) -> String {
    match &entry.namespace {
        Some(namespace) => format!("{}.{}", namespace.lossy(), entry.tag.lossy()),
        None => entry.tag.lossy(),
    }
}

/// The large objects whose contents are in `entry`: those that the entries it depends on create (17 and later), or all.
fn large_objects_of(toc: &Toc, entry: &TocEntry) -> Option<Vec<u32>> {
    let groups = entry.dependencies.iter().filter_map(|&id| toc.entry(id));
    let groups: Vec<&TocEntry> = groups.filter(|group| group.desc == "BLOB METADATA").collect();
    let mut oids = Vec::new();
    if groups.is_empty() {
        if toc.data_entries().filter(|entry| entry.holds_large_objects()).count() != 1 {
            return None;
        }
        for created in toc.entries.iter().filter(|entry| entry.desc == "BLOB") {
            oids.extend(large_object_oids(created)?);
        }
    } else {
        for group in groups {
            oids.extend(large_object_oids(group)?);
        }
    }
    oids.sort_unstable();
    // A part of an archive may have contents without what creates their objects.
    (!oids.is_empty()).then_some(oids)
}

/// `'{1,2}'::oid[]`.
pub(super) fn oid_array(oids: impl Iterator<Item = u32>) -> String {
    let oids: Vec<String> = oids.map(|oid| oid.to_string()).collect();
    format!("'{{{}}}'::pg_catalog.oid[]", oids.join(","))
}
