//! What a dump must hold: the relations with data that pg_dump takes, asked of the catalogs and not of an archive.

use bytes::Bytes;

use crate::patterns::{dumped, union};
use crate::preflight::{with_original_search_path, with_rows};
use crate::{Connection, Result, Selection};

/// A table or sequence whose content a dump holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DumpableRelation {
    /// Its OID.
    pub oid: u32,
    /// Its schema, in the session's encoding.
    pub schema: Bytes,
    /// Its name, likewise.
    pub name: Bytes,
    /// It is a sequence and no table.
    pub is_sequence: bool,
    /// It is neither unlogged nor an extension's own, which are in a dump under further conditions only.
    pub is_plain: bool,
    /// The transaction that created it, as rows have it in `xmin`.
    pub created_by: u32,
}

impl Selection {
    /// Whether large objects are dumped: by default with everything, with parts of the database only when asked for.
    pub fn takes_large_objects(&self) -> bool {
        crate::preflight::with_large_objects(self)
    }
}

/// The tables and sequences whose content is in a dump of `selection`, in the session's snapshot if it is in a transaction.
/// `None` where options leave that to pg_dump alone (`--filter`, `--section`).
pub async fn dumpable_relations(
    connection: &mut Connection,
    selection: &Selection,
) -> Result<Option<Vec<DumpableRelation>>> {
    if selection.has("filter") || selection.has("section") {
        return Ok(None);
    }
    if !with_rows(selection) {
        return Ok(Some(Vec::new()));
    }
    let excluded = union(selection, &["exclude-table-data"], &["exclude-table-data-and-children"]);
    let excluded = excluded.map_or_else(String::new, |relations| format!(" AND c.oid NOT IN ({relations})"));
    // The row of a system column is never changed, so who wrote it made the table.
    let sql = format!(
        "SELECT c.oid, n.nspname, c.relname, c.relkind = 'S', c.relpersistence = 'p' AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d \
         WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid AND d.deptype = 'e'), \
         (SELECT a.xmin FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum = -1) \
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relkind IN ('r', 'S') AND {}{excluded} ORDER BY 2, 3",
        dumped(selection)
    );
    let rows = with_original_search_path(connection, selection, sql).await?;
    let relations = rows.iter().map(|row| {
        Ok(DumpableRelation {
            oid: row.get(0)?,
            schema: row.bytes(1).cloned().unwrap_or_default(),
            name: row.bytes(2).cloned().unwrap_or_default(),
            is_sequence: row.is_true(3),
            is_plain: row.is_true(4),
            created_by: row.get(5)?,
        })
    });
    relations.collect::<Result<_>>().map(Some)
}
