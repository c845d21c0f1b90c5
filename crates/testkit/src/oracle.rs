//! What PostgreSQL itself says a database is, for comparing a source with what was restored from it.

use std::collections::BTreeMap;

use crate::PostgresServer;
use crate::container::said;

/// Role and database settings change how values are written; these do not let them.
const CANONICAL: &str = "PGOPTIONS=-c TimeZone=UTC -c DateStyle=ISO -c IntervalStyle=postgres -c bytea_output=hex \
     -c extra_float_digits=3 -c statement_timeout=0 -c search_path=pg_catalog";

/// The database as the server's own `pg_dump` writes it in plain SQL, large objects included: equal texts are
/// equal databases, rows in the same order. One thing is changed: where rows are routed by the root of a partitioned table
/// (pg_dump says so), the leaves' rows are put together and sorted, because the routing differs from database to database.
pub fn dump_text(server: &PostgresServer, database: &str) -> String {
    with_routed_rows_sorted(&pg_dump(server, database, &[]))
}

/// The same with the rows of each table sorted, for restores with more than one lane: the order of rows is no property
/// of a table.
pub fn dump_text_sorted(server: &PostgresServer, database: &str) -> String {
    with_rows_sorted(&dump_text(server, database))
}

/// The same without data.
pub fn schema_text(server: &PostgresServer, database: &str) -> String {
    pg_dump(server, database, &["--schema-only"])
}

fn pg_dump(server: &PostgresServer, database: &str, options: &[&str]) -> String {
    // The key makes the two lines equal that otherwise hold a random word.
    let mut command = vec!["env", CANONICAL, "pg_dump", "-U", "postgres", "--restrict-key=testkit"];
    command.extend_from_slice(options);
    command.push(database);
    let output = server.exec(&command);
    assert!(output.status.success(), "pg_dump {database}: {}", said(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn with_rows_sorted(text: &str) -> String {
    let mut lines: Vec<&str> = Vec::new();
    let mut source = text.split('\n');
    while let Some(line) = source.next() {
        lines.push(line);
        if line.starts_with("COPY ") && line.ends_with(" FROM stdin;") {
            let first = lines.len();
            lines.extend(source.by_ref().take_while(|row| *row != "\\."));
            lines[first..].sort_unstable();
            lines.push("\\.");
        }
    }
    lines.join("\n")
}

fn with_routed_rows_sorted(text: &str) -> String {
    const ROUTED: &str = "-- load via partition root ";
    let mut lines: Vec<&str> = Vec::new();
    // By root: where its first block begins in `lines`, and the rows of all its blocks.
    let mut trees: BTreeMap<&str, (usize, Vec<&str>)> = BTreeMap::new();
    let mut source = text.split('\n');
    while let Some(line) = source.next() {
        lines.push(line);
        let Some(root) = line.strip_prefix(ROUTED) else { continue };
        lines.extend(source.next());
        let (_, rows) = trees.entry(root).or_insert((lines.len(), Vec::new()));
        for row in source.by_ref() {
            if row == "\\." {
                lines.push(row);
                break;
            }
            rows.push(row);
        }
    }
    // From the last to the first, so that places stay right.
    let mut trees: Vec<_> = trees.into_values().collect();
    trees.sort_by_key(|(place, _)| std::cmp::Reverse(*place));
    for (place, mut rows) in trees {
        rows.sort_unstable();
        lines.splice(place..place, rows);
    }
    lines.join("\n")
}

/// What a table holds, whatever the order of its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableContents {
    /// Its rows.
    pub rows: u64,
    /// The sum of the rows' hashes.
    pub fingerprint: String,
}

/// What every table holds, by quoted name: partitioned tables at their root (leaves may divide the rows in another way), others
/// without their children; filled materialized views too; sequences as one row of value and whether it was handed out.
pub fn contents(server: &PostgresServer, database: &str) -> BTreeMap<String, TableContents> {
    run(server, database, CONTENTS)
        .lines()
        .map(|line| {
            let mut fields = line.rsplitn(3, '|');
            let fingerprint = fields.next().unwrap_or_default().to_owned();
            let rows = fields.next().and_then(|rows| rows.parse().ok()).expect("a number of rows");
            (fields.next().unwrap_or_default().to_owned(), TableContents { rows, fingerprint })
        })
        .collect()
}

const CONTENTS: &str = r#"
SELECT format(
    'SELECT %L, count(*), coalesce(sum(hashtextextended(%s::text, 0)::numeric), 0) FROM %s t',
    replace(name, E'\n', '\n'), CASE relkind WHEN 'S' THEN 'ROW(last_value, is_called)' ELSE 't' END,
    CASE relkind WHEN 'r' THEN 'ONLY ' ELSE '' END || name)
FROM (SELECT c.relkind, format('%I.%I', n.nspname, c.relname) AS name
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE n.nspname !~ '^pg_(toast|temp|catalog)' AND n.nspname <> 'information_schema'
        AND (c.relkind IN ('r', 'p', 'S') AND NOT c.relispartition OR c.relkind = 'm' AND c.relispopulated)) tables
ORDER BY name COLLATE pg_catalog."C" \gexec"#;

/// All large objects of a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LargeObjects {
    /// How many there are.
    pub count: u64,
    /// Owner, grants, comment and the contents' digest of each, in order of oid.
    pub fingerprint: String,
}

/// What is in the large objects of a database.
pub fn large_objects(server: &PostgresServer, database: &str) -> LargeObjects {
    let answer = run(
        server,
        database,
        "SELECT count(*), coalesce(md5(string_agg(
             concat_ws('|', m.oid, r.rolname, m.lomacl, obj_description(m.oid, 'pg_largeobject'), sha256(lo_get(m.oid))), ',' ORDER BY m.oid)), '')
         FROM pg_largeobject_metadata m JOIN pg_roles r ON r.oid = m.lomowner",
    );
    let (count, fingerprint) = answer.split_once('|').expect("two columns");
    LargeObjects { count: count.parse().expect("a number"), fingerprint: fingerprint.to_owned() }
}

fn run(server: &PostgresServer, database: &str, sql: &str) -> String {
    let psql = ["env", CANONICAL, "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", database];
    let output = server.exec_with_input(&psql, sql.as_bytes());
    assert!(output.status.success(), "{database}: {}", said(&output));
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::{with_routed_rows_sorted, with_rows_sorted};

    #[test]
    fn rows_are_sorted_where_they_are() {
        let text = |rows: &str| format!("b\na\nCOPY q (a) FROM stdin;\n{rows}\\.\nd\nc\n");
        assert_eq!(with_rows_sorted(&text("2\n1\n")), text("1\n2\n"));
        assert_eq!(with_rows_sorted(&text("")), text(""));
    }

    #[test]
    fn only_rows_that_are_routed_are_sorted() {
        let block = |rows: &str| format!("-- load via partition root p\nCOPY p (a) FROM stdin;\n{rows}\\.\n\n");
        let plain = "COPY q (a) FROM stdin;\n2\n1\n\\.\n";
        let one = format!("{}{plain}{}end", block("3\n1\n"), block("2\n"));
        let other = format!("{}{plain}{}end", block("2\n"), block("1\n3\n"));
        let sorted = format!("{}{plain}{}end", block("1\n2\n3\n"), block(""));
        assert_eq!(with_routed_rows_sorted(&one), sorted);
        assert_eq!(with_routed_rows_sorted(&other), sorted);
    }
}
