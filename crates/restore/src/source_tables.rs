//! The backup's tables in its source: which is which now, how to read it, and what came of that.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use pgkeep_archive::{PgText, Toc, TocEntry, copy_columns, copy_target};
use pgkeep_core::{EntryMeta, Meta, Tally};
use pgkeep_dump::{Connection, Row, quote_literal_bytes};

use crate::ages::{Age, Aged, Ages, UNKNOWN};
use crate::error::Doing;
use crate::load::table_name;
use crate::reread::{Reread, Unit, Unread, is_worth_ranges, tiling};
use crate::sessions::qualified;
use crate::source_report::{Known, SourceComparison, SourceState, TableComparison, judge_rows};
use crate::{Difference, Result};

/// A table of the backup, found in the source.
#[derive(Debug)]
pub(crate) struct SourceTable {
    /// As in the backup, for people.
    name: String,
    expected: Tally,
    known: Known,
    /// The root through which its rows are restored, if they are.
    root: Option<String>,
    pub(crate) unit: Unit,
    /// For SQL.
    pub(crate) qualified: Vec<u8>,
    /// Its columns can be asked for, should its definition decide.
    pub(crate) columns: String,
}

/// What the tables of a backup are now.
#[derive(Debug, Default)]
pub(crate) struct SourceTables {
    pub(crate) tables: Vec<SourceTable>,
    /// OIDs of tables that the backup holds, under whatever name.
    pub(crate) held: Vec<u32>,
}

/// One row of the catalog.
#[derive(Debug)]
struct Relation {
    oid: u32,
    schema: Bytes,
    name: Bytes,
    partitioned: bool,
    heap: bool,
    permanent: bool,
    created_by: u32,
    altered: bool,
    condition: Option<Bytes>,
    pages: Option<u64>,
}

impl Relation {
    fn of(row: &Row) -> pgkeep_dump::Result<Self> {
        Ok(Self {
            oid: row.get(0)?,
            schema: row.bytes(1).cloned().unwrap_or_default(),
            name: row.bytes(2).cloned().unwrap_or_default(),
            partitioned: row.is_true(3),
            heap: row.is_true(4),
            permanent: row.is_true(5),
            created_by: row.get(6)?,
            altered: row.is_true(7),
            condition: row.bytes(8).filter(|condition| !condition.is_empty()).cloned(),
            pages: row.get_optional(9)?,
        })
    }
}

/// Looks the backup's tables up in the snapshot of `leader`: by OID, for they may have other names now, else by name.
/// What is not there is told in `comparison`.
pub(crate) async fn find(
    leader: &mut Connection,
    toc: &Toc,
    meta: &Meta,
    ages: Option<&Ages>,
    comparison: &mut SourceComparison,
) -> Result<SourceTables> {
    let entries: Vec<(&EntryMeta, &TocEntry)> =
        meta.entries.iter().filter_map(|entry| Some((entry, toc.entry(entry.dump_id)?))).collect();
    let relations = relations(leader, &entries, ages).await.doing("looking up the backup's tables in the source")?;
    let by_oid: HashMap<u32, &Relation> = relations.iter().map(|relation| (relation.oid, relation)).collect();
    let by_name: HashMap<(&[u8], &[u8]), &Relation> =
        relations.iter().map(|relation| ((&relation.schema[..], &relation.name[..]), relation)).collect();
    let mut found = SourceTables::default();
    for (entry, in_archive) in entries {
        let name = table_name(in_archive);
        if entry.fingerprint.is_empty() {
            comparison.unprovable.push(format!("table {name}: the archive holds no rows that can be counted"));
            continue;
        }
        // An OID is only its own as long as who created it is older than the backup.
        let itself = by_oid
            .get(&in_archive.oid)
            .filter(|relation| ages.is_none_or(|ages| ages.of(relation.created_by) != Age::New));
        let schema = in_archive.namespace.as_ref().map(AsRef::as_ref).unwrap_or_default();
        let namesake = by_name.get(&(schema, in_archive.tag.as_ref()));
        let Some(relation) = itself.or(namesake) else {
            let problem = format!("{} rows are in the backup, the table is gone since", entry.rows);
            comparison.changes.push(Difference { subject: format!("table {name}"), problem });
            continue;
        };
        found.held.push(relation.oid);
        let now = format!("{}.{}", String::from_utf8_lossy(&relation.schema), String::from_utf8_lossy(&relation.name));
        if itself.is_none() {
            let problem = "another table has its name now, or it was restored since".to_owned();
            comparison.changes.push(Difference { subject: format!("table {name}"), problem });
        } else if now != name {
            let problem = format!("it is {now} now");
            comparison.changes.push(Difference { subject: format!("table {name}"), problem });
        }
        found.tables.push(table(leader.server_version(), entry, in_archive, relation, itself.is_some(), ages));
    }
    // The big ones first, so that none is left over for one session in the end.
    found.tables.sort_by_key(|table| std::cmp::Reverse(table.unit.expected.bytes));
    Ok(found)
}

async fn relations(
    leader: &mut Connection,
    entries: &[(&EntryMeta, &TocEntry)],
    ages: Option<&Ages>,
) -> pgkeep_dump::Result<Vec<Relation>> {
    let oids: Vec<String> = entries.iter().map(|(_, entry)| entry.oid.to_string()).collect();
    let names = entries.iter().map(|(_, entry)| {
        let schema = entry.namespace.as_ref().map(AsRef::as_ref).unwrap_or_default();
        [b"(", &quote_literal_bytes(schema)[..], b",", &quote_literal_bytes(entry.tag.as_ref()), b")"].concat()
    });
    let names: Vec<Vec<u8>> = names.collect();
    let newer = |column: &str| ages.map_or_else(|| "true".to_owned(), |ages| format!("{} <> 0", ages.sql(column)));
    let sql = format!(
        "SELECT c.oid, n.nspname, c.relname, c.relkind = 'p', c.relkind = 'r' AND coalesce(m.amname = 'heap', false), c.relpersistence = 'p', \
         (SELECT a.xmin FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum = -1), \
         EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND {}) \
         OR EXISTS (SELECT FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid \
         JOIN pg_catalog.pg_enum e ON e.enumtypid IN (t.oid, t.typelem) WHERE a.attrelid = c.oid AND a.attnum > 0 AND {}), \
         (SELECT x.extcondition[pg_catalog.array_position(x.extconfig, c.oid)] FROM pg_catalog.pg_extension x WHERE c.oid = ANY (x.extconfig) LIMIT 1), \
         CASE WHEN c.relkind = 'r' THEN pg_catalog.pg_relation_size(c.oid) / pg_catalog.current_setting('block_size')::pg_catalog.int4 END \
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_catalog.pg_am m ON m.oid = c.relam \
         WHERE c.relkind IN ('r', 'p', 'f') AND ",
        newer("a.xmin"),
        newer("e.xmin"),
    );
    let by_oid = format!("c.oid = ANY ('{{{}}}'::pg_catalog.oid[])", oids.join(","));
    let rows = leader.query([sql.as_bytes(), by_oid.as_bytes()].concat()).await?;
    let mut found = rows.iter().map(Relation::of).collect::<pgkeep_dump::Result<Vec<_>>>()?;
    if !names.is_empty() {
        let by_name = [b"(n.nspname, c.relname) IN (".as_slice(), &names.join(&b","[..]), b")"].concat();
        let rows = leader.query([sql.as_bytes(), &by_name].concat()).await?;
        for row in &rows {
            let relation = Relation::of(row)?;
            if found.iter().all(|other| other.oid != relation.oid) {
                found.push(relation);
            }
        }
    }
    Ok(found)
}

fn table(
    server_version: u32,
    entry: &EntryMeta,
    in_archive: &TocEntry,
    relation: &Relation,
    itself: bool,
    ages: Option<&Ages>,
) -> SourceTable {
    let expected = Tally {
        rows: entry.rows,
        bytes: entry.bytes,
        sum: u128::from_str_radix(&entry.fingerprint, 16).unwrap_or_default(),
    };
    let old = ages.is_some_and(|ages| ages.of(relation.created_by) == Age::Old);
    // Other access methods give no meaning to xmin; which rows an extension's condition selects may change by itself.
    let ages = ages.filter(|_| itself && old && relation.heap && relation.condition.is_none());
    let age = ages.map_or_else(|| UNKNOWN.to_owned(), |ages| ages.sql("xmin"));
    let list = copy_columns(in_archive);
    let columns = list.map_or_else(|| age.clone().into_bytes(), |list| [age.as_bytes(), b", ", list].concat());
    let qualified = qualified(Some(&PgText(relation.schema.clone())), &PgText(relation.name.clone()));
    let sql = match &relation.condition {
        Some(condition) => {
            [b"COPY (SELECT ", &columns[..], b" FROM ", &qualified, b" ", condition, b") TO STDOUT"].concat()
        }
        // A table that has become a partitioned one has its rows in its partitions.
        None if relation.partitioned => {
            [b"COPY (SELECT ", &columns[..], b" FROM ", &qualified, b") TO STDOUT"].concat()
        }
        None => [b"COPY (SELECT ", &columns[..], b" FROM ONLY ", &qualified, b") TO STDOUT"].concat(),
    };
    let bytes = relation.pages.map_or(0, |pages| expected.bytes.max(pages * 8192 / 2));
    let ranges = match relation.pages {
        Some(pages) if relation.heap && relation.condition.is_none() && is_worth_ranges(bytes, server_version) => {
            tiling(&qualified, &columns, pages, bytes)
        }
        _ => Vec::new(),
    };
    let name = table_name(in_archive);
    let root = copy_target(in_archive)
        .filter(|(schema, table)| in_archive.namespace.as_ref() != Some(schema) || in_archive.tag != *table)
        .map(|(schema, table)| format!("{}.{}", schema.lossy(), table.lossy()));
    SourceTable {
        unit: Unit { name: name.clone(), sql, ranges, expected, rows_only: false, entries: vec![in_archive.dump_id] },
        known: Known { ages: ages.is_some(), definition: !relation.altered, still: relation.permanent },
        name,
        expected,
        root,
        qualified,
        columns: list.map(String::from_utf8_lossy).unwrap_or_default().into_owned(),
    }
}

impl SourceTable {
    /// What came of it; `canonical`: the text of its columns says all there is.
    pub(crate) fn judge(&self, found: &Aged, still: bool, canonical: bool) -> (TableComparison, Option<Difference>) {
        let known =
            Known { still: still && self.known.still, definition: self.known.definition && canonical, ..self.known };
        let (state, problem) = judge_rows(self.expected, found, known);
        let told = known.ages && state != SourceState::Same;
        let all = found.all();
        let comparison = TableComparison {
            table: self.name.clone(),
            state,
            backup_rows: self.expected.rows,
            source_rows: all.rows,
            newer_rows: told.then(|| match state {
                SourceState::Grown => all.rows - self.expected.rows,
                _ => all.rows - found.old.rows,
            }),
            gone_rows: told.then(|| match state {
                SourceState::Grown => 0,
                _ => self.expected.rows.saturating_sub(found.old.rows),
            }),
        };
        let subject = format!("table {}", self.name);
        (comparison, problem.map(|problem| Difference { subject, problem }))
    }

    /// Whether rows that nobody changed may only be written differently now.
    pub(crate) fn may_hang_on_types(&self, found: &Aged) -> bool {
        self.known.ages && self.known.definition && found.old.rows == self.expected.rows && found.old != self.expected
    }
}

/// Leaves of a tree whose rows are routed hold others once it was restored; together they are the same (P-A7).
pub(crate) fn routed_trees(tables: &[SourceTable], found: &[Reread<Aged>]) -> BTreeMap<String, bool> {
    let mut trees: BTreeMap<String, Option<(Tally, Tally)>> = BTreeMap::new();
    for (table, found) in tables.iter().zip(found) {
        let Some(root) = &table.root else { continue };
        let sums = trees.entry(root.clone()).or_insert(Some(Default::default()));
        match (sums, found) {
            (Some((expected, there)), Ok(aged)) => {
                *expected += table.expected;
                *there += aged.all();
            }
            (sums, _) => *sums = None,
        }
    }
    trees.into_iter().map(|(root, sums)| (root, sums.is_some_and(|(expected, there)| expected == there))).collect()
}

impl SourceTable {
    /// Whether its tree was found to be the same as a whole.
    pub(crate) fn is_in(&self, trees: &BTreeMap<String, bool>) -> bool {
        self.root.as_ref().and_then(|root| trees.get(root)).copied().unwrap_or(false)
    }

    /// A table that could not be read.
    pub(crate) fn unread(&self, unread: &Unread) -> String {
        format!("table {} cannot be read as it was dumped: {}", self.name, unread.why)
    }
}
