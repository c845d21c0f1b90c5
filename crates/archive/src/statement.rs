//! What the SQL of single entries says.

use std::borrow::Cow;

use bytes::Bytes;

use crate::literal::{name, parenthesised};
use crate::{PgText, TocEntry};

/// The columns of an entry's COPY statement, verbatim: what stands between its parentheses, `id, "odd (name)"`. Nothing but
/// names, so that it can stand in other SQL.
///
/// `None` if the statement has no list (a table without columns, or with generated ones only), or there is no statement.
pub fn copy_columns(entry: &TocEntry) -> Option<&[u8]> {
    CopyStatement::parse(&entry.copy.0)?.columns
}

/// Schema and name of the table that an entry's COPY statement loads into.
///
/// It is not always the entry's own table: rows of a partition may be loaded through its root. The table that the
/// rows come from is the entry's namespace and tag, always.
pub fn copy_target(entry: &TocEntry) -> Option<(PgText, PgText)> {
    let statement = CopyStatement::parse(&entry.copy.0)?;
    let text = |name: Cow<'_, [u8]>| PgText(Bytes::copy_from_slice(&name));
    Some((text(statement.schema?), text(statement.table)))
}

/// `COPY schema.table (columns) FROM stdin;` as pg_dump writes it, and nothing else: it comes from whoever made the archive, and is
/// executed.
pub(crate) struct CopyStatement<'s> {
    /// Missing before the minor releases of 2018.
    schema: Option<Cow<'s, [u8]>>,
    table: Cow<'s, [u8]>,
    columns: Option<&'s [u8]>,
}

impl<'s> CopyStatement<'s> {
    pub(crate) fn parse(statement: &'s [u8]) -> Option<Self> {
        let (first, rest) = identifier(statement.strip_prefix(b"COPY ")?)?;
        let (schema, table, rest) = match rest.strip_prefix(b".") {
            Some(rest) => {
                let (table, rest) = identifier(rest)?;
                (Some(first), table, rest)
            }
            None => (None, first, rest),
        };
        let rest = rest.strip_prefix(b" ")?;
        let (columns, rest) = match parenthesised(rest) {
            Some(columns) if is_list_of_names(columns) => (Some(columns), &rest[columns.len() + 2..]),
            Some(_) => return None,
            None => (None, rest),
        };
        let end = rest.trim_ascii_start().strip_prefix(b"FROM stdin")?;
        let end = end.strip_prefix(b";").unwrap_or(end);
        end.iter().all(u8::is_ascii_whitespace).then_some(Self { schema, table, columns })
    }
}

/// A name at the beginning of `sql`, as [`name`], that ends where PostgreSQL sees its end too.
fn identifier(sql: &[u8]) -> Option<(Cow<'_, [u8]>, &[u8])> {
    let (text, rest) = name(sql)?;
    let quoted = sql.first() == Some(&b'"');
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | 0x80..);
    let sound = if quoted { !text.is_empty() && !text.contains(&0) } else { text.iter().all(plain) };
    sound.then_some((text, rest))
}

fn is_list_of_names(list: &[u8]) -> bool {
    let mut rest = list;
    while let Some((_, after)) = identifier(rest) {
        match after.strip_prefix(b", ") {
            Some(more) => rest = more,
            None => return after.is_empty(),
        }
    }
    false
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
        entry.desc.replace(['\n', '\r'], " "),
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
            ("COPY public.t (id) FROM stdin", Some("id"), Some(("public", "t"))),
            ("COPY \"a.b\".\"c\"\"d (\" (x) FROM stdin;", Some("x"), Some(("a.b", "c\"d ("))),
            ("COPY t (id) FROM stdin;\n", Some("id"), None),
            ("", None, None),
        ] {
            table.copy = copy.into();
            assert_eq!(copy_columns(&table), columns.map(str::as_bytes), "{copy}");
            assert_eq!(copy_target(&table), target.map(|(schema, name)| (schema.into(), name.into())), "{copy}");
        }
    }

    #[test]
    fn nothing_but_names_and_one_statement_is_taken_from_a_copy_statement() {
        for hostile in [
            "COPY public.t (id) FROM PROGRAM 'id';",
            "COPY public.t (id) FROM '/etc/passwd';",
            "COPY public.t (id) FROM stdin; DROP TABLE t;",
            "COPY public.t (id) FROM stdin WITH (FORMAT binary);",
            "COPY public.t (id) TO stdout;",
            "COPY (SELECT 1) TO PROGRAM 'id';",
            "COPY public.t (1; DROP TABLE t; --) FROM stdin;",
            "COPY public.t (id /*\"*/) TO PROGRAM 'id' /*\"*/) FROM stdin;",
            "COPY public.t (id, ) FROM stdin;",
            "COPY public.t () FROM stdin;",
            "COPY public.t ('id') FROM stdin;",
            "COPY public.t (\"\") FROM stdin;",
            "COPY public.t (\"a\0b\") FROM stdin;",
            "COPY public.t -- (id) FROM stdin;",
            "COPY public.\"open (id) FROM stdin;",
            "COPY public.t (id FROM stdin;",
            "COPY a.b.c (id) FROM stdin;",
            "copy public.t (id) from stdin;",
        ] {
            let mut table = entry(1, "TABLE DATA", "t");
            table.copy = hostile.into();
            assert_eq!((copy_columns(&table), copy_target(&table)), (None, None), "{hostile}");
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
