//! What a database holds, by PostgreSQL's own word, without pgkeep.

use std::collections::hash_map::DefaultHasher;
use std::fmt;
use std::fs::File;
use std::hash::{Hash as _, Hasher as _};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};

use super::server::Server;
use crate::process::{Result, run};

/// Counts and fingerprints of all tables, and the text of pg_dump in a file.
pub(crate) struct Evidence {
    tables: Vec<(String, String, String)>,
    text: PathBuf,
}

impl Evidence {
    pub(crate) fn take(server: &Server, database: &str, name: &str) -> Result<Self> {
        let tables = server.psql(database, FINGERPRINTS)?;
        let tables = tables
            .lines()
            .filter_map(|line| {
                let mut fields = line.split('|').map(str::to_owned);
                Some((fields.next()?, fields.next()?, fields.next()?))
            })
            .collect();
        let text = server.directory().join(format!("{name}.sql"));
        run(server.client("pg_dump", database).arg("--file").arg(&text))?;
        Ok(Self { tables, text })
    }

    pub(crate) fn tables(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        self.tables.iter().map(|(table, rows, fingerprint)| (table.as_str(), rows.as_str(), fingerprint.as_str()))
    }

    pub(crate) fn text_bytes(&self) -> Result<u64> {
        let metadata = self.text.metadata().map_err(|error| format!("{}: {error}", self.text.display()))?;
        Ok(metadata.len())
    }

    /// What is not the same in the other, by name; empty if all is.
    pub(crate) fn differences(&self, other: &Self) -> Result<Vec<String>> {
        let mut names: Vec<String> = self
            .tables
            .iter()
            .filter(|table| !other.tables.contains(table))
            .chain(other.tables.iter().filter(|table| !self.tables.contains(table)))
            .map(|(name, ..)| name.clone())
            .collect();
        names.sort();
        names.dedup();
        names.extend(self.difference_of_text(other)?);
        Ok(names)
    }

    /// Line by line, but for the two that hold a random word and for the order of a table's rows, which is not a
    /// property of a table.
    fn difference_of_text(&self, other: &Self) -> Result<Option<String>> {
        let (mut left, mut right) = (Text::open(&self.text)?, Text::open(&other.text)?);
        loop {
            let (one, two) = (left.next()?, right.next()?);
            if one != two {
                return Ok(Some(format!("pg_dump's text in line {} ({one} and {two})", left.line)));
            }
            if one == Item::End {
                return Ok(None);
            }
        }
    }
}

/// What pg_dump's text is made of.
#[derive(PartialEq, Eq)]
enum Item {
    Line(Vec<u8>),
    /// The rows after a COPY line: how many, and the sum of their hashes.
    Rows(u64, u128),
    End,
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => {
                let beginning: String = String::from_utf8_lossy(line).trim_end().chars().take(100).collect();
                f.write_str(&beginning)
            }
            Self::Rows(rows, sum) => write!(f, "{rows} rows with the sum {sum:032x}"),
            Self::End => f.write_str("the end"),
        }
    }
}

struct Text {
    reader: BufReader<File>,
    line: u64,
    /// Whether the line before began a table's rows.
    rows_follow: bool,
}

impl Text {
    fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self { reader: BufReader::new(file), line: 0, rows_follow: false })
    }

    fn next(&mut self) -> Result<Item> {
        if std::mem::take(&mut self.rows_follow) {
            return self.rows();
        }
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(Item::End);
            }
            if line.starts_with(b"\\restrict ") || line.starts_with(b"\\unrestrict ") {
                continue;
            }
            self.rows_follow = line.starts_with(b"COPY ") && line.ends_with(b" FROM stdin;\n");
            return Ok(Item::Line(line));
        }
    }

    fn rows(&mut self) -> Result<Item> {
        let (mut rows, mut sum) = (0, 0_u128);
        loop {
            let line = self.line()?;
            if line.is_empty() || line == b"\\.\n" {
                return Ok(Item::Rows(rows, sum));
            }
            let half = |seed: u8| {
                let mut hasher = DefaultHasher::new();
                (seed, &line).hash(&mut hasher);
                u128::from(hasher.finish())
            };
            rows += 1;
            sum = sum.wrapping_add(half(0) << 64 | half(1));
        }
    }

    /// With its end; empty at the end of the file.
    fn line(&mut self) -> Result<Vec<u8>> {
        let mut line = Vec::new();
        self.reader.read_until(b'\n', &mut line).map_err(|error| format!("cannot read pg_dump's text: {error}"))?;
        self.line += 1;
        Ok(line)
    }
}

/// The sum of the rows' hashes, whatever their order; sequences by their state.
const FINGERPRINTS: &str = r"
SET TimeZone = 'UTC'; SET bytea_output = 'hex'; SET extra_float_digits = 3;
SELECT format('SELECT %L, count(*), to_hex(mod(coalesce(sum(hashtextextended(%s::text, 0)::numeric), 0), 9223372036854775807)::bigint) FROM %s t',
              name, CASE relkind WHEN 'S' THEN 'ROW(last_value, is_called)' ELSE 't' END, name)
FROM (SELECT relkind, oid::regclass::text AS name FROM pg_class
      WHERE relkind IN ('r', 'p', 'S', 'm') AND NOT relispartition AND relnamespace = 'app'::regnamespace) tables
ORDER BY name \gexec
SELECT 'large objects', count(*), left(md5(string_agg(loid || encode(data, 'hex'), ',' ORDER BY loid, pageno)), 16) FROM pg_largeobject";
