//! What the SQL of single entries says.

use std::borrow::Cow;

use bytes::Bytes;

use crate::literal::{QualifiedName, parenthesised, qualified_name};
use crate::{PgText, TocEntry};

/// The columns of an entry's COPY statement, verbatim: what stands between its parentheses, `id, "odd (name)"`.
///
/// `None` if the statement has no list (a table without columns, or with generated ones only), or there is no statement.
pub fn copy_columns(entry: &TocEntry) -> Option<&[u8]> {
    let (_, _, rest) = copy_parts(entry)?;
    parenthesised(rest.strip_prefix(b" ")?)
}

/// Schema and name of the table that an entry's COPY statement loads into.
///
/// It is not always the entry's own table: rows of a partition may be loaded through its root. The table that the
/// rows come from is the entry's namespace and tag, always.
pub fn copy_target(entry: &TocEntry) -> Option<(PgText, PgText)> {
    let (schema, table, _) = copy_parts(entry)?;
    let text = |name: Cow<'_, [u8]>| PgText(Bytes::copy_from_slice(&name));
    Some((text(schema), text(table)))
}

fn copy_parts(entry: &TocEntry) -> Option<QualifiedName<'_>> {
    qualified_name(entry.copy.0.strip_prefix(b"COPY ")?)
}

/// Where a sequence stands, from a SEQUENCE SET entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SequenceSet {
    /// Its schema.
    pub schema: PgText,
    /// Its name.
    pub name: PgText,
    /// Its last value.
    pub last_value: i64,
    /// Whether that value was handed out already.
    pub is_called: bool,
}

/// Where a sequence stands, from an entry such as `SELECT pg_catalog.setval('public.s', 42, true);`.
///
/// `None` if the entry is of another type, or says something else.
pub fn sequence_set(entry: &TocEntry) -> Option<SequenceSet> {
    if entry.desc != "SEQUENCE SET" {
        return None;
    }
    // The name is literal text with quoted names inside; the entry itself says it without quotes.
    let definition = entry.definition.0.trim_ascii_end();
    let arguments = definition.strip_prefix(b"SELECT pg_catalog.setval(")?.strip_suffix(b");")?;
    let arguments = &arguments[memchr::memrchr(b'\'', arguments)? + 1..];
    let (last_value, is_called) = std::str::from_utf8(arguments).ok()?.strip_prefix(", ")?.split_once(", ")?;
    Some(SequenceSet {
        schema: entry.namespace.clone()?,
        name: entry.tag.clone(),
        last_value: last_value.parse().ok()?,
        is_called: is_called.parse().ok()?,
    })
}

/// The large objects that an entry creates: one for `BLOB` (before PostgreSQL 17), up to a thousand for `BLOB METADATA`.
///
/// `None` for other entries, and where the list is not one of numbers.
pub fn large_object_oids(entry: &TocEntry) -> Option<Vec<u32>> {
    let number = |text: &[u8]| std::str::from_utf8(text).ok()?.parse().ok();
    match entry.desc.as_str() {
        "BLOB" => Some(vec![number(&entry.tag.0)?]),
        "BLOB METADATA" => {
            let lines = entry.definition.0.split(|&byte| byte == b'\n');
            lines.filter(|line| !line.is_empty()).map(number).collect()
        }
        _ => None,
    }
}

/// The entry's line in a list for `pg_restore --use-list`, without a line feed, as `pg_restore --list` prints it.
///
/// pg_restore reads the leading dump id only. Line breaks in names become spaces; what is not UTF-8 is replaced.
pub fn list_line(entry: &TocEntry) -> String {
    let words = |text: &PgText| text.lossy().replace(['\n', '\r'], " ");
    let or_hyphen = |text: &Option<PgText>| match text {
        Some(text) if !text.is_empty() => words(text),
        _ => "-".to_owned(),
    };
    format!(
        "{}; {} {} {} {} {} {}",
        entry.dump_id,
        entry.catalog_oid,
        entry.oid,
        entry.desc,
        or_hyphen(&entry.namespace),
        words(&entry.tag),
        entry.owner.as_ref().map(words).unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synthetic::entry;

    #[test]
    fn columns_and_target_come_from_the_copy_statement() {
        let mut table = entry(1, "TABLE DATA", "t");
        for (copy, columns, target) in [
            ("COPY public.t (id, name) FROM stdin;\n", Some("id, name"), Some(("public", "t"))),
            ("COPY \"S.x\".\"t (y)\" (\"a)\", b) FROM stdin;\n", Some("\"a)\", b"), Some(("S.x", "t (y)"))),
            ("COPY public.t  FROM stdin;\n", None, Some(("public", "t"))),
            ("", None, None),
        ] {
            table.copy = copy.into();
            assert_eq!(copy_columns(&table), columns.map(str::as_bytes), "{copy}");
            assert_eq!(copy_target(&table), target.map(|(schema, name)| (schema.into(), name.into())), "{copy}");
        }
    }

    #[test]
    fn sequences_stand_where_setval_says() {
        let mut sequence = entry(1, "SEQUENCE SET", "it's \"s\"");
        let set = |last_value, is_called| {
            Some(SequenceSet { schema: "public".into(), name: "it's \"s\"".into(), last_value, is_called })
        };
        for (definition, expected) in [
            ("SELECT pg_catalog.setval('public.\"it''s \"\"s\"\"\"', 42, true);\n", set(42, true)),
            ("SELECT pg_catalog.setval('public.s', -9223372036854775808, false);\n", set(i64::MIN, false)),
            ("SELECT pg_catalog.setval('public.s', 9223372036854775808, false);\n", None),
            ("SELECT 1;\n", None),
        ] {
            sequence.definition = definition.into();
            assert_eq!(sequence_set(&sequence), expected, "{definition}");
        }
        sequence.desc = "SEQUENCE".to_owned();
        assert_eq!(sequence_set(&sequence), None);
    }

    #[test]
    fn large_objects_are_listed_singly_or_in_groups() {
        assert_eq!(large_object_oids(&entry(1, "BLOB", "3000000001")), Some(vec![3_000_000_001]));
        let mut group = entry(1, "BLOB METADATA", "1..3000000001");
        group.definition = "1\n16405\n3000000001\n".into();
        assert_eq!(large_object_oids(&group), Some(vec![1, 16405, 3_000_000_001]));
        group.definition = "1\nx\n".into();
        assert_eq!(large_object_oids(&group), None);
        assert_eq!(large_object_oids(&entry(1, "BLOBS", "BLOBS")), None);
    }

    #[test]
    fn list_lines_stay_on_one_line() {
        let mut table = entry(12, "TABLE", "two\r\nlines");
        table.catalog_oid = 1259;
        table.oid = 3_000_000_001;
        table.owner = Some("me".into());
        assert_eq!(list_line(&table), "12; 1259 3000000001 TABLE public two  lines me");
        table.namespace = None;
        assert_eq!(list_line(&table), "12; 1259 3000000001 TABLE - two  lines me");
    }
}
