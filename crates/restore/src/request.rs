//! What is wanted.

use std::fmt;
use std::str::FromStr;

use futures::future::BoxFuture;
use pgkeep_core::BackupSource;

use crate::{Error, Result};

/// Where a backup is restored to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The database of the connection settings: a new one is built beside it and takes its name in the end.
    Live,
    /// The database of the connection settings, emptied and filled again. For servers where no database can be created.
    InPlace,
    /// Another database of the same server. Created if there is none.
    Database {
        /// Its name.
        name: String,
        /// An existing database that is not empty may be replaced (it is kept under another name).
        replace: bool,
    },
}

/// A table by schema and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct TableName {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

impl FromStr for TableName {
    type Err = Error;

    /// `schema.name` or `name` (then in `public`); parts may stand in double quotes, without which they are taken as typed.
    fn from_str(text: &str) -> Result<Self> {
        let wrong = || Error::Usage(format!("{text} is not a table's name (schema.name)"));
        let mut parts = Vec::new();
        let mut rest = text;
        loop {
            let (part, after) = name_part(rest).ok_or_else(wrong)?;
            parts.push(part);
            match after.strip_prefix('.') {
                Some(more) => rest = more,
                None if after.is_empty() => break,
                None => return Err(wrong()),
            }
        }
        let mut parts = parts.into_iter();
        match (parts.next(), parts.next(), parts.next()) {
            (Some(name), None, None) => Ok(Self { schema: "public".to_owned(), name }),
            (Some(schema), Some(name), None) => Ok(Self { schema, name }),
            _ => Err(wrong()),
        }
    }
}

/// One part of a dotted name and what follows it.
fn name_part(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find('.').unwrap_or(text.len());
        return (end > 0).then(|| (text[..end].to_owned(), &text[end..]));
    };
    let mut name = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        if character != '"' {
            name.push(character);
        } else if quoted[at + 1..].starts_with('"') {
            name.push('"');
            characters.next();
        } else {
            return (!name.is_empty()).then_some((name, &quoted[at + 1..]));
        }
    }
    None
}

/// What is to be restored, from where, to where.
#[derive(Debug, Clone)]
pub struct RestoreRequest {
    /// The backup.
    pub source: BackupSource,
    /// Where it goes.
    pub target: Target,
    /// Only these tables and what belongs to them; empty is everything. With tables, [`Target::Live`] means *into* the live
    /// database: nothing that exists is replaced.
    pub tables: Vec<TableName>,
    /// Sessions that load, index, analyse and prove at the same time.
    pub jobs: usize,
    /// No pre-restore snapshot is wanted. Without one, [`Target::InPlace`] has no way back.
    pub skip_snapshot: bool,
    /// Roles and memberships that the backup's globals have and the server lacks are created first.
    pub roles: bool,
    /// Everything belongs to the restoring role.
    pub no_owner: bool,
    /// No grants.
    pub no_acl: bool,
    /// Goes on where the backup cannot be restored in full because the source already broke its own rules (a foreign key
    /// that does not hold), or where the proof found differences. They are reported as warnings then.
    pub force: bool,
}

impl RestoreRequest {
    /// Everything in `source` to `target`, with four jobs.
    pub fn new(source: BackupSource, target: Target) -> Self {
        Self {
            source,
            target,
            tables: Vec::new(),
            jobs: 4,
            skip_snapshot: false,
            roles: false,
            no_owner: false,
            no_acl: false,
            force: false,
        }
    }
}

/// The pre-restore backup of the live database: resolves to its name. It runs beside the load, on a task of its own.
pub type Snapshot = BoxFuture<'static, Result<String, Box<dyn std::error::Error + Send + Sync>>>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_names_are_read_with_and_without_quotes() {
        for (text, schema, name) in [
            ("orders", "public", "orders"),
            ("app.Orders", "app", "Orders"),
            ("\"my.schema\".\"odd \"\"name\"\"\"", "my.schema", "odd \"name\""),
            ("app.\"ü x\"", "app", "ü x"),
        ] {
            let table: TableName = text.parse().unwrap();
            assert_eq!((table.schema.as_str(), table.name.as_str()), (schema, name), "{text}");
        }
        for text in ["", ".", "a.", "a.b.c", "\"a", "\"a\"b", "\"\""] {
            assert!(text.parse::<TableName>().is_err(), "{text}");
        }
    }
}
