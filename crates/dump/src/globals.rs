//! Roles, memberships and tablespaces: `pg_dumpall --globals-only`, and before it our own facts as comment lines.
//!
//! The object's first line is `-- pgkeep-facts: {…}`: [`PrivateFacts`] as JSON in ASCII, one line. What could not be had
//! follows as `-- pgkeep-warning: "…"` lines. All of it is legal SQL for psql.

use std::fmt::Write as _;
use std::path::Path;

use bytes::Bytes;
use tokio::io::AsyncReadExt;
use tokio_util::sync::CancellationToken;

use crate::child::Child;
use crate::dumps::Dumps;
use crate::{ChildFailure, ClientTools, ConnectSettings, Error, PrivateFacts, Result, Tool};

const FACTS: &str = "-- pgkeep-facts: ";
const WARNING: &str = "-- pgkeep-warning: ";

/// Whether roles' password hashes go into the globals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GlobalsPasswords {
    /// Never.
    #[default]
    Never,
    /// Where this role may read them; else without, and a warning says so.
    IfPermitted,
}

/// The globals of a cluster, as far as they could be had.
#[derive(Debug, Clone)]
pub struct Globals {
    /// The object to be stored.
    pub sql: Bytes,
    /// What is missing from it.
    pub warnings: Vec<String>,
}

/// `pg_dumpall --globals-only`, connected to the settings' own database.
pub(crate) struct PgDumpall<'p> {
    pub(crate) tools: &'p ClientTools,
    pub(crate) settings: &'p ConnectSettings,
    pub(crate) work: &'p Path,
    /// What may take the places on the server meanwhile.
    pub(crate) dumps: &'p Dumps,
    pub(crate) cancel: &'p CancellationToken,
}

impl PgDumpall<'_> {
    /// Runs it. Only cancelling and a broken machine are errors: a cluster whose globals this role may not read gives the
    /// facts alone, and a warning.
    pub(crate) async fn globals(&self, facts: &PrivateFacts, passwords: GlobalsPasswords) -> Result<Globals> {
        let mut warnings = Vec::new();
        let mut sql = None;
        if passwords == GlobalsPasswords::IfPermitted {
            match self.run_once_there_is_room(true).await {
                Ok((text, mut said)) => {
                    warnings.append(&mut said);
                    sql = Some(text);
                }
                Err(Error::Child(error)) if error.failure == ChildFailure::PermissionDenied => {
                    warnings.push("role passwords are not in the globals: this role may not read pg_authid".to_owned());
                }
                Err(error @ Error::Interrupted) => return Err(error),
                // Whatever it was, the run without passwords decides whether there is anything.
                Err(error) => warnings.push(format!("role passwords are not in the globals: {error}")),
            }
        }
        if sql.is_none() {
            match self.run_once_there_is_room(false).await {
                Ok((text, mut said)) => {
                    warnings.append(&mut said);
                    sql = Some(text);
                }
                Err(error @ (Error::Interrupted | Error::Io { .. })) => return Err(error),
                Err(error) => warnings.push(format!("the backup has no roles and tablespaces: {error}")),
            }
        }
        Ok(Globals { sql: assemble(facts, &warnings, &sql.unwrap_or_default())?, warnings })
    }

    async fn run_once_there_is_room(&self, passwords: bool) -> Result<(Vec<u8>, Vec<String>)> {
        let mut tries = 0;
        loop {
            match self.run(passwords).await {
                Err(error) if self.dumps.wait_for_a_place(&error, &mut tries, self.cancel).await? => {}
                ended => return ended,
            }
        }
    }

    async fn run(&self, passwords: bool) -> Result<(Vec<u8>, Vec<String>)> {
        let (mut command, private) = self.tools.command(Tool::PgDumpall, Some(self.settings), self.work)?;
        let database = conninfo_of(self.settings.database());
        command.args(["--globals-only", "--no-password"]).arg(format!("--database={database}"));
        if !passwords {
            command.arg("--no-role-passwords");
        }
        command.stdout(std::process::Stdio::piped());
        let mut child = Child::spawn(command, Tool::PgDumpall, private)?;
        let mut stdout = child.stdout()?;
        let mut text = Vec::new();
        tokio::select! {
            () = self.cancel.cancelled() => {
                drop(stdout);
                child.end().await?;
                return Err(Error::Interrupted);
            }
            read = stdout.read_to_end(&mut text) => {
                read.map_err(|source| Error::io("read from pg_dumpall", source))?;
            }
        }
        let ended = tokio::select! {
            () = self.cancel.cancelled() => None,
            ended = child.wait() => Some(ended?),
        };
        let Some(ended) = ended else {
            child.end().await?;
            return Err(Error::Interrupted);
        };
        let warnings = ended.success()?;
        // Its last words; without them it was cut short, whatever the status says.
        if !text.windows(COMPLETE.len()).any(|window| window == COMPLETE) {
            return Err(ended.error());
        }
        Ok((text, warnings))
    }
}

/// A database's name as `--dbname` and `--database` take it: a name that looks like a connection string is taken for one.
pub(crate) fn conninfo_of(database: &str) -> String {
    if database.contains('=') || database.contains("://") {
        format!("dbname='{}'", database.replace('\\', "\\\\").replace('\'', "\\'"))
    } else {
        database.to_owned()
    }
}

const COMPLETE: &[u8] = b"-- PostgreSQL database cluster dump complete";

fn assemble(facts: &PrivateFacts, warnings: &[String], sql: &[u8]) -> Result<Bytes> {
    let mut text = format!("{FACTS}{}\n", json_line(facts)?);
    for warning in warnings {
        text.push_str(WARNING);
        text.push_str(&json_line(warning)?);
        text.push('\n');
    }
    let mut bytes = text.into_bytes();
    bytes.extend_from_slice(sql);
    Ok(bytes.into())
}

/// JSON in one line of ASCII, so that neither a client encoding nor a line end can change it.
fn json_line(value: &impl serde::Serialize) -> Result<String> {
    let json = serde_json::to_string(value).map_err(|error| Error::io("write facts as JSON", error.into()))?;
    let mut line = String::with_capacity(json.len());
    for c in json.chars() {
        if c.is_ascii() && c != '\x7f' {
            line.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(line, "\\u{unit:04x}");
            }
        }
    }
    Ok(line)
}

/// The comment lines at the beginning of a globals object.
fn head(globals: &[u8]) -> impl Iterator<Item = &str> {
    globals
        .split(|&byte| byte == b'\n')
        .map_while(|line| std::str::from_utf8(line).ok().filter(|line| line.starts_with("-- pgkeep-")))
}

impl PrivateFacts {
    /// Reads them back from a globals object; `None` if it holds none, as one written by `pg_dumpall` alone.
    pub fn from_globals(globals: &[u8]) -> Result<Option<Self>> {
        head(globals)
            .find_map(|line| line.strip_prefix(FACTS))
            .map(|json| {
                serde_json::from_str(json).map_err(|error| Error::io("read the facts in the globals", error.into()))
            })
            .transpose()
    }
}

/// What the run that wrote a globals object could not have.
pub fn globals_warnings(globals: &[u8]) -> Vec<String> {
    head(globals).filter_map(|line| serde_json::from_str(line.strip_prefix(WARNING)?).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_survive_their_comment_line() {
        let facts = PrivateFacts {
            database_settings: vec![(
                "app.note".to_owned(),
                "line one\nDROP TABLE x; -- \u{2028} 'é' \u{1f600}\r\n\\".to_owned(),
            )],
            role_settings: vec![("Müller".to_owned(), "search_path".to_owned(), "\"$user\", public".to_owned())],
            grants: Some(vec![(String::new(), "CONNECT".to_owned(), false)]),
            labels: Vec::new(),
        };
        let warnings = vec!["one\ntwo".to_owned(), "drei".to_owned()];
        let object = assemble(&facts, &warnings, b"\\restrict abc\nCREATE ROLE r;\n").unwrap();
        assert_eq!(PrivateFacts::from_globals(&object).unwrap(), Some(facts));
        assert_eq!(globals_warnings(&object), warnings);
        let text = std::str::from_utf8(&object).unwrap();
        let ours: Vec<&str> = text.lines().take_while(|line| !line.starts_with("\\restrict")).collect();
        assert_eq!(ours.len(), 3);
        assert!(ours.iter().all(|line| line.starts_with("-- ") && line.is_ascii()));
        assert!(text.ends_with("\nCREATE ROLE r;\n"));
    }

    #[test]
    fn odd_database_names_stay_names() {
        assert_eq!(conninfo_of("shop"), "shop");
        assert_eq!(conninfo_of("a=b'c\\"), "dbname='a=b\\'c\\\\'");
    }

    #[test]
    fn foreign_and_damaged_globals() {
        assert_eq!(PrivateFacts::from_globals(b"--\n-- PostgreSQL database cluster dump\n").unwrap(), None);
        assert_eq!(PrivateFacts::from_globals(b"").unwrap(), None);
        assert!(PrivateFacts::from_globals(b"-- pgkeep-facts: {\"database_settings\"").is_err());
        // Only the head counts: a role's comment cannot pass for facts.
        assert_eq!(PrivateFacts::from_globals(b"SELECT 1;\n-- pgkeep-facts: {}\n").unwrap(), None);
    }
}
