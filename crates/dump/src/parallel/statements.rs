//! The statements of one task.

use super::schedule::{RangeTask, Task};
use super::survey::{Table, oid_array};
use crate::quote_literal_bytes;

/// Forgets the savepoint that a task began with, and with it the locks it took.
pub(super) const RELEASE: &[u8] = b"ROLLBACK TO SAVEPOINT pgkeep; RELEASE SAVEPOINT pgkeep";

/// Settings of every session that copies, beside the canonical ones: nothing but the scans that we asked for.
pub(super) const COPYING: &str = "SET max_parallel_workers_per_gather = 0; SET jit = off; SET enable_tidscan = on";

/// Whether a session takes a table's lock itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Locking {
    /// For the task, and without waiting: whoever waits for a lock that queues behind the leader's waits for ever.
    Briefly,
    /// The session holds it already.
    Held,
}

/// All statements of a task on tables, as one simple query.
pub(super) fn of(task: &Task, locking: Locking) -> Vec<u8> {
    let tables: Vec<&Table> = match task {
        Task::Head(_) | Task::LargeObjects(_) => Vec::new(),
        Task::Tables(tables) => tables.iter().map(AsRef::as_ref).collect(),
        Task::Range(range) => vec![&range.table],
    };
    let mut statements = vec![b"SAVEPOINT pgkeep".to_vec()];
    if !tables.is_empty() {
        if locking == Locking::Briefly {
            statements.push(lock(&tables));
        }
        statements.push(same(&tables));
    }
    match task {
        // What is read of large objects is many queries.
        Task::Head(_) | Task::LargeObjects(_) => {}
        Task::Tables(tables) => statements.extend(tables.iter().map(|table| table.copy_all())),
        Task::Range(range) => {
            statements.push(b"SET LOCAL enable_seqscan = off".to_vec());
            statements.push(copy_range(range));
        }
    }
    if !tables.is_empty() {
        // Nor were they others meanwhile.
        statements.push(same(&tables));
    }
    statements.push(RELEASE.to_vec());
    statements.join(&b"; "[..])
}

/// The lock that pg_dump takes.
pub(super) fn lock(tables: &[&Table]) -> Vec<u8> {
    let names: Vec<Vec<u8>> = tables.iter().map(|table| [b"ONLY ", &table.qualified[..]].concat()).collect();
    [b"LOCK TABLE ", &names.join(&b", "[..])[..], b" IN ACCESS SHARE MODE NOWAIT"].concat()
}

/// Fails with `division_by_zero` unless every name still means the table it meant in the snapshot: a lock on a table keeps
/// it from being renamed, but not its schema.
fn same(tables: &[&Table]) -> Vec<u8> {
    let one = |table: &&Table| {
        let name = quote_literal_bytes(&table.qualified);
        [&name[..], b"::pg_catalog.regclass::pg_catalog.oid = ", table.entry.oid.to_string().as_bytes()].concat()
    };
    let all: Vec<Vec<u8>> = tables.iter().map(one).collect();
    [b"SELECT 1 / (", &all.join(&b" AND "[..])[..], b")::pg_catalog.int4"].concat()
}

fn copy_range(task: &RangeTask) -> Vec<u8> {
    let RangeTask { table, range, .. } = task;
    let columns = table.columns.as_deref().unwrap_or(b"*");
    let mut statement = [b"COPY (SELECT ", columns, b" FROM ONLY ", &table.qualified].concat();
    let mut bounds = vec![format!("ctid >= '{}'::pg_catalog.tid", range.from)];
    bounds.extend(range.to.map(|to| format!("ctid < '{to}'::pg_catalog.tid")));
    statement.extend_from_slice(format!(" WHERE {}) TO STDOUT", bounds.join(" AND ")).as_bytes());
    statement
}

/// The number of the last page of each of these large objects, in their order; null where there is no page.
pub(super) fn last_pages(oids: &[u32]) -> Vec<u8> {
    format!(
        "SELECT (SELECT pg_catalog.max(l.pageno) FROM pg_catalog.pg_largeobject l WHERE l.loid = o.oid) \
         FROM pg_catalog.unnest({}) WITH ORDINALITY AS o (oid, place) ORDER BY o.place",
        oid_array(oids.iter().copied())
    )
    .into_bytes()
}

/// All pages of some large objects, in order of the numbers given, and of the pages within each.
pub(super) fn copy_objects(oids: &[u32]) -> Vec<u8> {
    copy_pages(&format!(
        "SELECT o.oid, p.pageno, p.data FROM pg_catalog.unnest({}) WITH ORDINALITY AS o (oid, place), LATERAL (SELECT l.pageno, l.data \
         FROM pg_catalog.pg_largeobject l WHERE l.loid = o.oid ORDER BY l.pageno) p",
        oid_array(oids.iter().copied())
    ))
}

/// The pages of one large object behind `after`, no more than so many.
pub(super) fn copy_stretch(oid: u32, after: Option<u32>, most_pages: u32) -> Vec<u8> {
    let after = after.map_or(-1, i64::from);
    copy_pages(&format!(
        "SELECT l.loid, l.pageno, l.data FROM pg_catalog.pg_largeobject l WHERE l.loid = {oid} AND l.pageno > {after} \
         ORDER BY l.pageno LIMIT {most_pages}"
    ))
}

/// By the index, which is in order. Binary: as text the pages are twice as long.
fn copy_pages(query: &str) -> Vec<u8> {
    let by_index = b"SAVEPOINT pgkeep; SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off";
    let copy = format!("COPY ({query}) TO STDOUT (FORMAT binary)");
    [by_index, copy.as_bytes(), RELEASE].join(&b"; "[..])
}
