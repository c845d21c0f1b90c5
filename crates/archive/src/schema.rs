//! Schemas item by item, to compare those of two databases.

use crate::deparse::canonical;
use crate::{PgText, Toc, TocEntry, large_object_oids};

/// One thing that a dump would create, free of what differs between two databases that are alike: dump ids, OIDs, order,
/// grouping, data.
///
/// Items have an order so that two sorted lists can be walked side by side.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SchemaItem {
    /// Its type, as in [`TocEntry::desc`].
    pub desc: String,
    /// Its schema.
    pub namespace: Option<PgText>,
    /// Its name; of a large object, its OID in digits.
    pub tag: PgText,
    /// Its owner.
    pub owner: Option<PgText>,
    /// What is to be compared or digested: definition (brought to one form where PostgreSQL prints an expression in one way
    /// before and in another after a restore), COPY statement, tablespace and access method, each with its length
    /// before it. It may hold secrets (see [`TocEntry::definition`]): keep a digest, not the text.
    pub text: Vec<u8>,
}

/// The schema in a table of contents as a sorted list of items, the same for a database and for its faithful restore as
/// dumped by the same pg_dump with the same options.
///
/// Left out: the database itself and its settings, comments and grants (restored apart, and named after the database);
/// the dump's own settings; where sequences stand; planner statistics; contents of large objects.
/// Large objects are listed one by one, whatever groups the dump made of them. The statements of grants are sorted, for
/// their order says when they were made.
pub fn schema_lines(toc: &Toc) -> Vec<SchemaItem> {
    let mut items: Vec<_> =
        toc.entries.iter().filter(|entry| is_schema(entry)).flat_map(|entry| items(toc, entry)).collect();
    items.sort();
    items
}

fn is_schema(entry: &TocEntry) -> bool {
    let left_out = [
        "DATABASE",
        "DATABASE PROPERTIES",
        "ENCODING",
        "STDSTRINGS",
        "SEARCHPATH",
        "SEQUENCE SET",
        "STATISTICS DATA",
        "BLOBS",
    ];
    let about_database =
        ["ACL", "COMMENT", "SECURITY LABEL"].contains(&entry.desc.as_str()) && entry.tag.0.starts_with(b"DATABASE ");
    !about_database && !left_out.contains(&entry.desc.as_str())
}

fn items(toc: &Toc, entry: &TocEntry) -> Vec<SchemaItem> {
    if let Some(oids) = large_object_oids(entry) {
        return oids.into_iter().map(|oid| item(entry, "BLOB", oid.to_string().as_str().into(), &[])).collect();
    }
    let mut definition = canonical(&entry.definition.0);
    if entry.desc == "ACL" {
        definition = sorted_statements(&definition);
        if let Some((first, oids)) = grouped_large_objects(toc, entry) {
            let each = |oid: u32| {
                let tag = format!("LARGE OBJECT {oid}");
                let definition =
                    replace(&definition, format!("LARGE OBJECT {first} ").as_bytes(), format!("{tag} ").as_bytes());
                item(entry, "ACL", tag.as_str().into(), &definition)
            };
            return oids.into_iter().map(each).collect();
        }
    }
    vec![item(entry, &entry.desc, entry.tag.clone(), &definition)]
}

fn item(entry: &TocEntry, desc: &str, tag: PgText, definition: &[u8]) -> SchemaItem {
    let empty = PgText::default();
    let or_empty = |text: &'_ Option<PgText>| text.clone().unwrap_or_else(|| empty.clone());
    let mut text = Vec::new();
    for part in [definition, &entry.copy.0, &or_empty(&entry.tablespace).0, &or_empty(&entry.access_method).0] {
        text.extend((part.len() as u64).to_le_bytes());
        text.extend_from_slice(part);
    }
    // These have no owner of their own: pg_dump names that of their object, which has an item itself unless an extension
    // brings it, and then its owner is whoever created the extension.
    let derived = ["ACL", "COMMENT", "SECURITY LABEL", "TABLE DATA"].contains(&desc);
    let owner = if derived { None } else { entry.owner.clone() };
    SchemaItem { desc: desc.to_owned(), namespace: entry.namespace.clone(), tag, owner, text }
}

/// The first OID and all OIDs of the group that a grant speaks of (`LARGE OBJECTS 1..3`, PostgreSQL 17): its statements
/// name the first object only, and pg_restore repeats them for each.
fn grouped_large_objects(toc: &Toc, entry: &TocEntry) -> Option<(u32, Vec<u32>)> {
    let range = entry.tag.0.strip_prefix(b"LARGE OBJECTS ")?;
    let first = std::str::from_utf8(range).ok()?.split("..").next()?.parse().ok()?;
    let group = entry.dependencies.iter().filter_map(|&id| toc.entry(id)).find_map(large_object_oids)?;
    Some((first, group))
}

fn sorted_statements(definition: &[u8]) -> Vec<u8> {
    let mut lines: Vec<_> = definition.split_inclusive(|&byte| byte == b'\n').collect();
    lines.sort_unstable();
    lines.concat()
}

fn replace(text: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut replaced = Vec::with_capacity(text.len());
    let mut at = 0;
    for found in memchr::memmem::find_iter(text, from) {
        replaced.extend_from_slice(&text[at..found]);
        replaced.extend_from_slice(to);
        at = found + from.len();
    }
    replaced.extend_from_slice(&text[at..]);
    replaced
}
