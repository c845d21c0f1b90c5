//! `pg_restore` as a child: its errors as pairs of statement and message, and which of them cost nothing (P-A18).

use std::ffi::OsStr;
use std::fmt;
use std::process::Stdio;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::ChildStdin;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::child::{Child, Ended};
use crate::messages::{Message, Severity, untangle, without_row_data};
use crate::{ClientTools, ConnectSettings, Error, Result, Tool};

/// One error of a restore.
#[derive(Clone, PartialEq, Eq)]
pub struct RestoreError {
    /// The TOC entry that `pg_restore` named last before it: `215; 1259 16385 TABLE users alice`. It names them only with
    /// `--verbose`; with `--jobs` the lines of several workers mix, so take the statement's word before the entry's.
    pub entry: Option<String>,
    /// What failed and the server's message, in one line, without what could quote a row.
    pub message: String,
    /// The statement that failed, as far as it is kept. With rows as INSERTs it quotes them: not in `Debug` or `Display`.
    pub statement: Option<String>,
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.entry {
            Some(entry) => write!(f, " (TOC entry {entry})"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RestoreError")
            .field("entry", &self.entry)
            .field("message", &self.message)
            .field("statement", &self.statement.as_ref().map(String::len))
            .finish()
    }
}

/// What a run of `pg_restore` said and how it ended. Nothing is judged here: see [`judge`].
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct RestoreOutcome {
    /// Its errors, in the order of its stderr.
    pub errors: Vec<RestoreError>,
    /// Its warnings, one line each.
    pub warnings: Vec<String>,
    /// Messages whose text could not be told from another worker's.
    pub lost: usize,
    /// How many errors it says it went on after; `None` if it does not say. With `--jobs` it counts an entry that had errors
    /// once more (mark_restore_job_done in pg_backup_archiver.c), and those of a worker's beginning not at all.
    pub ignored: Option<usize>,
    /// Its exit status; `None` if a signal ended it.
    pub status: Option<i32>,
    /// Lines of stderr that could not be kept.
    pub omitted_lines: u64,
}

/// Errors of a restore, weighed.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Judgement {
    /// Errors that cost nothing, each with the reason.
    pub allowed: Vec<(RestoreError, &'static str)>,
    /// Errors that fail the restore.
    pub failed: Vec<RestoreError>,
}

impl RestoreOutcome {
    /// Weighs the errors and the end: an error that ended the run, or that was counted but not understood, fails it too.
    pub fn judge(&self, server_major: u32) -> Judgement {
        let mut judgement = judge(&self.errors, server_major);
        let told = |message: String| RestoreError { entry: None, message, statement: None };
        if self.lost > 0 {
            judgement.failed.push(told(format!("{} messages of pg_restore's workers were not understood", self.lost)));
        }
        match (self.status, self.ignored) {
            (Some(0), _) => {}
            (_, Some(ignored)) if ignored <= 2 * self.errors.len() => {}
            (_, Some(ignored)) => judgement
                .failed
                .push(told(format!("pg_restore counted {ignored} errors, and {} were understood", self.errors.len()))),
            (Some(status), None) => {
                judgement.failed.push(told(format!("pg_restore gave up with exit status {status}")));
            }
            (None, None) => judgement.failed.push(told("pg_restore was killed".to_owned())),
        }
        judgement
    }
}

/// Weighs errors against the short list of those that cost nothing; everything else fails the restore.
pub fn judge(errors: &[RestoreError], server_major: u32) -> Judgement {
    let mut judgement = Judgement::default();
    for error in errors {
        match allowance(error, server_major) {
            Some(reason) => judgement.allowed.push((error.clone(), reason)),
            None => judgement.failed.push(error.clone()),
        }
    }
    judgement
}

/// Session settings that `pg_restore` makes and the first server major that knows them.
const NEWER_SETTINGS: &[(&str, u32)] = &[("default_table_access_method", 12), ("transaction_timeout", 17)];

fn allowance(error: &RestoreError, server_major: u32) -> Option<&'static str> {
    // A lone statement only: lines of several workers that ran together are nobody's to allow.
    let statement = error.statement.as_deref()?.trim().trim_end_matches(';');
    if statement.is_empty() || statement.contains("pg_restore:") {
        return None;
    }
    let says = |text: &str| error.message.contains(text);
    for (setting, since) in NEWER_SETTINGS {
        if server_major < *since
            && says(&format!("unrecognized configuration parameter \"{setting}\""))
            && statement.starts_with(&format!("SET {setting} ="))
            && !statement.contains(';')
        {
            return Some(
                "the server is older than this session setting, and its value is the server's behaviour anyway",
            );
        }
    }
    if statement.starts_with("COMMENT ON EXTENSION ") && says("must be owner of extension") {
        return Some("the comment on an extension is the server's own");
    }
    if statement == "CREATE SCHEMA public" && says("schema \"public\" already exists") {
        return Some("schema public is there already");
    }
    if statement == "COMMENT ON SCHEMA public IS 'standard public schema'" && says("must be owner of schema public") {
        return Some("schema public has this comment already");
    }
    None
}

/// Runs `pg_restore` with these arguments, connected by `settings` (without them it only reads the archive). The archive
/// is named in `arguments`.
///
/// Errors are only that it could not be run or was cancelled; what it says of itself is the outcome.
pub async fn run_pg_restore(
    tools: &ClientTools,
    settings: Option<&ConnectSettings>,
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    cancel: CancellationToken,
) -> Result<RestoreOutcome> {
    let child = spawn(tools, settings, arguments, Stdio::null(), Stdio::null())?;
    Ok(outcome(&watched(child, &cancel).await?))
}

/// The same, with the archive pushed into its standard input. It stops taking bytes when it needs no more; the receiver
/// is then drained no further.
pub async fn feed_pg_restore(
    tools: &ClientTools,
    settings: Option<&ConnectSettings>,
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    archive: mpsc::Receiver<Bytes>,
    cancel: CancellationToken,
) -> Result<RestoreOutcome> {
    let mut child = spawn(tools, settings, arguments, Stdio::piped(), Stdio::null())?;
    let stdin = child.stdin()?;
    let fed = tokio::select! {
        () = cancel.cancelled() => None,
        fed = feed(stdin, archive) => Some(fed),
    };
    match fed {
        Some(Ok(())) => Ok(outcome(&watched(child, &cancel).await?)),
        Some(Err(error)) => {
            child.end().await?;
            Err(error)
        }
        None => {
            child.end().await?;
            Err(Error::Interrupted)
        }
    }
}

/// What `pg_restore` prints for these arguments (`--list`, or SQL with `--file=-`), an archive's schema for instance.
/// Anything but a clean end is an error.
pub async fn pg_restore_text(
    tools: &ClientTools,
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    cancel: CancellationToken,
) -> Result<Bytes> {
    let mut child = spawn(tools, None, arguments, Stdio::null(), Stdio::piped())?;
    let mut stdout = child.stdout()?;
    let mut text = Vec::new();
    let read = tokio::select! {
        () = cancel.cancelled() => None,
        read = stdout.read_to_end(&mut text) => Some(read),
    };
    drop(stdout);
    match read {
        Some(Ok(_)) => {
            watched(child, &cancel).await?.success()?;
            Ok(text.into())
        }
        Some(Err(source)) => {
            child.end().await?;
            Err(Error::io("read from pg_restore", source))
        }
        None => {
            child.end().await?;
            Err(Error::Interrupted)
        }
    }
}

fn spawn(
    tools: &ClientTools,
    settings: Option<&ConnectSettings>,
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    stdin: Stdio,
    stdout: Stdio,
) -> Result<Child> {
    let (mut command, private) = tools.command(Tool::PgRestore, settings, &std::env::temp_dir())?;
    if let Some(settings) = settings {
        // The name alone: libpq takes host, user and secret from the environment, and a name that looks like a
        // connection string would be taken for one.
        command.arg("--no-password").arg(format!("--dbname={}", crate::globals::conninfo_of(settings.database())));
    }
    command.args(arguments).stdin(stdin).stdout(stdout);
    Child::spawn(command, Tool::PgRestore, private)
}

async fn watched(mut child: Child, cancel: &CancellationToken) -> Result<Ended> {
    let ended = tokio::select! {
        () = cancel.cancelled() => None,
        ended = child.wait() => Some(ended),
    };
    if let Some(ended) = ended {
        return ended;
    }
    child.end().await?;
    Err(Error::Interrupted)
}

async fn feed(mut stdin: ChildStdin, mut archive: mpsc::Receiver<Bytes>) -> Result<()> {
    while let Some(bytes) = archive.recv().await {
        match stdin.write_all(&bytes).await {
            Ok(()) => {}
            // It has what it needs, or has failed; its status tells.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(()),
            Err(source) => return Err(Error::io("write to pg_restore", source)),
        }
    }
    Ok(())
}

fn outcome(ended: &Ended) -> RestoreOutcome {
    let mut outcome = understand(ended.log().lines());
    outcome.status = ended.exit_code();
    outcome.omitted_lines = ended.log().omitted();
    if let Some(signal) = ended.signal() {
        outcome.warnings.push(format!("pg_restore was killed by signal {signal}"));
    }
    outcome
}

/// Takes stderr apart: stages (`while PROCESSING TOC:`), entries (`from TOC entry …`), errors with `Command was: …`,
/// warnings, and the count at the end.
fn understand<'l>(lines: impl Iterator<Item = &'l str>) -> RestoreOutcome {
    let mut outcome = RestoreOutcome::default();
    let mut entry: Option<String> = None;
    let (messages, headless) = untangle(Tool::PgRestore.name(), lines);
    outcome.lost = headless;
    for message in messages {
        match message.severity {
            Severity::Error => outcome.errors.push(restore_error(&message, entry.clone())),
            Severity::Info => {
                if let Some(named) = message.text.strip_prefix("from TOC entry ") {
                    entry = Some(named.trim().to_owned());
                } else if message.text.starts_with("while ") {
                    entry = None;
                }
            }
            Severity::Warning => match message.text.strip_prefix("errors ignored on restore: ") {
                Some(count) => outcome.ignored = count.trim().parse().ok(),
                None => outcome.warnings.push(message.summary()),
            },
        }
    }
    outcome
}

fn restore_error(message: &Message, entry: Option<String>) -> RestoreError {
    const COMMAND: &str = "\nCommand was: ";
    let (text, statement) = match message.text.split_once(COMMAND) {
        Some((text, statement)) => (text, Some(statement.trim_end().to_owned())),
        None => (message.text.as_str(), None),
    };
    let statement = statement.or_else(|| {
        message
            .detail
            .iter()
            .find_map(|line| line.strip_prefix("Command was: ").or(line.strip_prefix("Query was: ")))
            .map(str::to_owned)
    });
    RestoreError { entry, message: without_row_data(text), statement }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = r#"pg_restore: while INITIALIZING:
pg_restore: error: could not execute query: ERROR:  unrecognized configuration parameter "transaction_timeout"
Command was: SET transaction_timeout = 0;
pg_restore: while PROCESSING TOC:
pg_restore: from TOC entry 6; 2615 2200 SCHEMA public pg_database_owner
pg_restore: error: could not execute query: ERROR:  schema "public" already exists
Command was: CREATE SCHEMA public;


pg_restore: from TOC entry 3339; 0 0 COMMENT EXTENSION plpgsql 
pg_restore: error: could not execute query: ERROR:  must be owner of extension plpgsql
Command was: COMMENT ON EXTENSION plpgsql IS 'PL/pgSQL procedural language';


pg_restore: from TOC entry 215; 1255 16385 FUNCTION f() alice
pg_restore: error: could not execute query: ERROR:  syntax error at or near "oops"
LINE 3:     oops
            ^
HINT:  Try again.
Command was: CREATE FUNCTION public.f() RETURNS void
    LANGUAGE sql
    AS $$
    oops
WARNING: this line belongs to the function
$$;


pg_restore: from TOC entry 3340; 0 16390 TABLE DATA users alice
pg_restore: error: COPY failed for table "users": ERROR:  duplicate key value violates unique constraint "users_email_key"
DETAIL:  Key (email)=(ann@example.org) already exists.
CONTEXT:  COPY users, line 2
pg_restore: warning: errors ignored on restore: 5
"#;

    fn error(message: &str, statement: &str) -> RestoreError {
        RestoreError { entry: None, message: message.to_owned(), statement: Some(statement.to_owned()) }
    }

    #[test]
    fn errors_are_pairs_of_statement_and_message() {
        let outcome = understand(SAID.lines());
        assert_eq!(outcome.errors.len(), 5, "{:#?}", outcome.errors);
        assert_eq!(outcome.ignored, Some(5));
        assert!(outcome.warnings.is_empty(), "{:?}", outcome.warnings);
        let [setting, schema, comment, function, copy] = &outcome.errors[..] else { panic!() };
        assert_eq!(
            (setting.entry.as_deref(), setting.statement.as_deref()),
            (None, Some("SET transaction_timeout = 0;"))
        );
        assert_eq!(schema.entry.as_deref(), Some("6; 2615 2200 SCHEMA public pg_database_owner"));
        assert_eq!(comment.message, "could not execute query: ERROR:  must be owner of extension plpgsql");
        assert_eq!(function.message, "could not execute query: ERROR:  syntax error at or near \"oops\"");
        assert!(function.statement.as_ref().unwrap().ends_with("WARNING: this line belongs to the function\n$$;"));
        assert_eq!(copy.statement, None);
        assert!(!format!("{copy:?} {copy}").contains("ann@"));
        assert!(copy.to_string().ends_with("\"users_email_key\" (TOC entry 3340; 0 16390 TABLE DATA users alice)"));
    }

    #[test]
    fn the_allow_list_is_short() {
        let outcome = RestoreOutcome { status: Some(1), ..understand(SAID.lines()) };
        let judgement = outcome.judge(15);
        assert_eq!(judgement.allowed.len(), 3);
        assert_eq!(judgement.failed.len(), 2);
        // The same setting on a server that knows it is no triviality.
        assert_eq!(outcome.judge(17).allowed.len(), 2);

        for (message, statement) in [
            ("must be owner of extension plpgsql", "DROP EXTENSION plpgsql"),
            ("schema \"public\" already exists", "CREATE SCHEMA public; DROP TABLE x"),
            ("schema \"sales\" already exists", "CREATE SCHEMA sales"),
            ("must be owner of schema public", "COMMENT ON SCHEMA public IS 'ours'"),
            ("unrecognized configuration parameter \"transaction_timeout\"", "SET transaction_timeout = 0; SELECT 1"),
            ("role \"alice\" does not exist", "ALTER TABLE t OWNER TO alice"),
            (
                "must be owner of extension plpgsql",
                "COMMENT ON EXTENSION plpgsql IS 'x';\npg_restore: pg_restore: error: more",
            ),
        ] {
            assert_eq!(judge(&[error(message, statement)], 15).failed.len(), 1, "{statement}");
        }
        assert_eq!(
            judge(&[RestoreError { statement: None, ..error("schema \"public\" already exists", "") }], 15)
                .failed
                .len(),
            1
        );
    }

    #[test]
    fn what_was_counted_but_not_understood_fails() {
        let mut outcome = RestoreOutcome { status: Some(1), ..understand(SAID.lines()) };
        outcome.errors.truncate(2);
        assert_eq!(outcome.judge(15).failed.len(), 1);
        outcome.ignored = Some(3);
        assert!(outcome.judge(15).failed.is_empty());
        outcome.lost = 1;
        assert_eq!(outcome.judge(15).failed.len(), 1);
        outcome.lost = 0;
        outcome.ignored = None;
        assert!(outcome.judge(15).failed[0].message.contains("gave up with exit status 1"));
        outcome.status = None;
        assert!(outcome.judge(15).failed[0].message.contains("killed"));
        assert!(RestoreOutcome { status: Some(0), ..RestoreOutcome::default() }.judge(15).failed.is_empty());
    }
}
