//! What can go wrong between a connection string and an archive.

use std::fmt;
use std::io;
use std::time::Duration;

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, on what. Texts never hold a password, and never a row's content beyond what the server put into
/// its own one-line message.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A connection string, a `PG*` variable, a service or password file is not usable.
    #[error("connection setting {parameter}: {problem}")]
    Setting {
        /// The parameter, variable or file.
        parameter: String,
        /// What is wrong with it; never its value.
        problem: String,
    },
    /// A connection parameter that libpq does not know either.
    #[error("connection parameter {parameter} is not known{}", suggestion.as_ref().map(|known| format!("; did you mean {known}?")).unwrap_or_default())]
    UnknownParameter {
        /// Its name.
        parameter: String,
        /// The known parameter that is spelled most like it.
        suggestion: Option<String>,
    },
    /// Nothing answered there.
    #[error("server {server} cannot be reached")]
    Unreachable {
        /// `host:port` or the socket's path.
        server: String,
        /// What the system said.
        source: io::Error,
    },
    /// Several hosts were tried and none could be used.
    #[error("no server could be used ({})", tried(attempts))]
    NoServer {
        /// Server and what was wrong with it, in the order of trying.
        attempts: Vec<(String, Error)>,
    },
    /// The server answered, but its role (primary, standby, read-only) is not the one that was asked for.
    #[error("server {server} is not {wanted}")]
    WrongRole {
        /// `host:port` or the socket's path.
        server: String,
        /// `target_session_attrs` as asked for.
        wanted: &'static str,
    },
    /// No encrypted connection came about, or its peer did not prove who it is.
    #[error("no secure connection to server {server}: {problem}")]
    Tls {
        /// `host:port`.
        server: String,
        /// What was wrong.
        problem: String,
    },
    /// The server refused the session: wrong password, no such database, no `pg_hba.conf` entry, too many clients.
    #[error("server {server} refused the session")]
    Refused {
        /// `host:port` or the socket's path.
        server: String,
        /// Its words.
        source: Box<ServerError>,
    },
    /// We refused the server: it asked for a way to authenticate that we cannot or may not use, or did not prove that it knows the password.
    #[error("authentication at server {server} failed: {problem}")]
    Authentication {
        /// `host:port` or the socket's path.
        server: String,
        /// What was wrong.
        problem: String,
    },
    /// A transaction pooler stands where a server should be; snapshots and session settings do not survive it.
    #[error("{server} is a connection pooler, not a server: {sign}")]
    Pooler {
        /// `host:port`.
        server: String,
        /// How it was recognised.
        sign: String,
    },
    /// A statement failed; the session is usable again.
    #[error(transparent)]
    Server(Box<ServerError>),
    /// The session ended under us.
    #[error("connection to server {server} was lost")]
    Lost {
        /// `host:port` or the socket's path.
        server: String,
        /// What the system said.
        source: io::Error,
    },
    /// An earlier operation on this session was dropped before its end, so nobody knows where the session stands.
    #[error("session on server {server} was left in the middle of an operation")]
    Abandoned {
        /// `host:port` or the socket's path.
        server: String,
    },
    /// What the other side said makes no sense in PostgreSQL's protocol.
    #[error("server {server} broke the protocol: {problem}")]
    Protocol {
        /// `host:port` or the socket's path.
        server: String,
        /// What was wrong.
        problem: String,
    },
    /// A statement did not do what the call is for, or holds a NUL byte.
    #[error("statement is not usable here: {problem}")]
    Statement {
        /// What was wrong.
        problem: &'static str,
    },
    /// A value of a result is not what was expected.
    #[error("column {column} of the result cannot be read as {wanted}: {found}")]
    Value {
        /// Its number, from 0.
        column: usize,
        /// The type asked for.
        wanted: &'static str,
        /// The text found, shortened; `NULL` for a null.
        found: String,
    },
    /// Something took longer than it may.
    #[error("{what} took longer than {after:?}")]
    Timeout {
        /// What was waited for.
        what: String,
        /// How long.
        after: Duration,
    },
    /// The caller asked to stop.
    #[error("interrupted")]
    Interrupted,
    /// No client tools are installed that are new enough for the server.
    #[error("no client tools for PostgreSQL {server_major} or newer ({})", if found.is_empty() { "none found".to_owned() } else { format!("found {}", found.join(", ")) })]
    NoClientTools {
        /// The server's major version.
        server_major: u32,
        /// What was found: `15.18 in /usr/lib/postgresql/15/bin`.
        found: Vec<String>,
    },
    /// A client tool failed.
    #[error(transparent)]
    Child(#[from] Box<crate::ChildError>),
    /// A pg_dump option that cannot be passed on.
    #[error("pg_dump option {option}: {problem}")]
    DumpOption {
        /// The option as it was given, without its value.
        option: String,
        /// Why not.
        problem: String,
    },
    /// What came out of the server is not an archive.
    #[error(transparent)]
    Archive(#[from] pgkeep_archive::Error),
    /// The rows of a table could not be copied.
    #[error("cannot copy the rows of {table}")]
    Copy {
        /// The table.
        table: String,
        /// The server's error.
        source: Box<Error>,
        /// If a row is too long: the query that finds it.
        find: Option<String>,
    },
    /// A COPY brought another number of rows than the server says.
    #[error("the copy of {table} is not whole: {found} rows came, and the server says {told}")]
    RowCount {
        /// The table.
        table: String,
        /// Rows by the command tag.
        told: u64,
        /// Rows that came.
        found: u64,
    },
    /// What a dump stands on did not stay as it was.
    #[error("the dump can't go on: {what}")]
    Changed {
        /// What changed.
        what: String,
    },
    /// A table lost its rows, or was replaced, between a snapshot and its lock, however often the dump began: it would look empty.
    #[error("table {table} was rewritten or replaced while the backup began, {tries} times in a row")]
    Rewritten {
        /// The table.
        table: String,
        /// How often it was begun.
        tries: usize,
    },
    /// Somebody had to wait for the dump, and it was told not to make anybody wait.
    #[error("the dump was given up, for somebody waits for it: {waits}")]
    WaitedFor {
        /// Who waits, and for what.
        waits: String,
    },
    /// A local file or pipe failed.
    #[error("cannot {what}")]
    Io {
        /// The act and the path: "write the file /run/x".
        what: String,
        /// What the system said.
        source: io::Error,
    },
}

fn tried(attempts: &[(String, Error)]) -> String {
    attempts.iter().map(|(_, error)| describe(error)).collect::<Vec<_>>().join("; ")
}

/// What to do about rows that the server does not copy.
fn copy_hint(find: Option<&str>, source: &Error) -> Option<String> {
    match source.sqlstate()? {
        _ if source.is_of_a_row_too_long() => Some(format!(
            "the text of a row may have 1 GB at most (a bytea value half of that), and pg_dump cannot dump it either; find it by: {}",
            find.unwrap_or("octet_length() of its columns")
        )),
        "40001" => Some(
            "on a standby, replay may end queries that are in its way: set hot_standby_feedback = on, or a longer \
             max_standby_streaming_delay"
                .to_owned(),
        ),
        _ => source.hint(),
    }
}

/// One line with the causes behind it, for lists of attempts.
fn describe(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// What the caller can do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Correct the connection settings.
    Settings,
    /// Start the server, correct address or network, or try again: nobody answered, or the session was cut.
    Unreachable,
    /// Correct user, password, database, certificate or `pg_hba.conf`.
    Refused,
    /// Connect to the server itself.
    Pooler,
    /// Install client tools.
    Tools,
    /// A child process failed; read its messages.
    Child,
    /// The server refused a statement.
    Server,
    /// The caller stopped it.
    Interrupted,
    /// Give it more time, or find out what it waited for.
    Timeout,
    /// The archive is damaged.
    Archive,
    /// A local file or pipe failed.
    Io,
    /// A defect of this library or a server that does not speak the protocol.
    Defect,
}

impl Error {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Setting { .. } | Self::UnknownParameter { .. } | Self::DumpOption { .. } => ErrorKind::Settings,
            Self::Unreachable { .. } | Self::Lost { .. } | Self::WrongRole { .. } => ErrorKind::Unreachable,
            Self::NoServer { attempts } => attempts.last().map_or(ErrorKind::Unreachable, |(_, error)| error.kind()),
            Self::Refused { source, .. } if source.is_shutdown() => ErrorKind::Unreachable,
            Self::Refused { .. } | Self::Authentication { .. } | Self::Tls { .. } => ErrorKind::Refused,
            Self::Pooler { .. } => ErrorKind::Pooler,
            Self::Server(error) if error.is_shutdown() => ErrorKind::Unreachable,
            Self::Server(_) | Self::Changed { .. } | Self::Rewritten { .. } | Self::WaitedFor { .. } => {
                ErrorKind::Server
            }
            Self::Interrupted => ErrorKind::Interrupted,
            Self::Timeout { .. } => ErrorKind::Timeout,
            Self::NoClientTools { .. } => ErrorKind::Tools,
            Self::Child(error) => error.kind(),
            Self::Archive(_) => ErrorKind::Archive,
            Self::Copy { source, .. } => source.kind(),
            Self::Io { .. } => ErrorKind::Io,
            Self::RowCount { .. }
            | Self::Abandoned { .. }
            | Self::Protocol { .. }
            | Self::Statement { .. }
            | Self::Value { .. } => ErrorKind::Defect,
        }
    }

    /// Whether the same call can succeed a moment later without anybody correcting anything.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::Lost { .. }
            | Self::Timeout { .. }
            | Self::Changed { .. }
            | Self::Rewritten { .. }
            | Self::WaitedFor { .. } => true,
            Self::NoServer { attempts } => attempts.iter().any(|(_, error)| error.is_retryable()),
            Self::Child(error) => error.is_retryable(),
            Self::Copy { source, .. } => source.is_retryable(),
            Self::Refused { source, .. } => source.is_shutdown() || source.sqlstate == "53300",
            Self::Server(error) => {
                error.is_shutdown() || matches!(error.sqlstate.as_str(), "40001" | "40P01" | "53300")
            }
            _ => false,
        }
    }

    /// The server's own error, if it is one.
    pub fn server_error(&self) -> Option<&ServerError> {
        match self {
            Self::Server(error) | Self::Refused { source: error, .. } => Some(error),
            Self::Copy { source, .. } => source.server_error(),
            _ => None,
        }
    }

    /// The SQLSTATE, if the server gave one (`55P03`).
    pub fn sqlstate(&self) -> Option<&str> {
        self.server_error().map(|error| error.sqlstate.as_str())
    }

    /// Whether the server could not make a row's text, for it would be longer than can be.
    pub(crate) fn is_of_a_row_too_long(&self) -> bool {
        self.server_error().is_some_and(|error| {
            error.message.contains("invalid memory alloc request size")
                || error.message.contains("out of memory") && error.sqlstate != "53200"
                || error.message.contains("cannot enlarge string buffer")
                || error.sqlstate == "54000"
        })
    }

    /// What to do next, where that can be said without knowing the caller.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Pooler { .. } => Some(
                "connect to the PostgreSQL server itself (on its own port, or by the provider's direct host name without \"-pooler\"); \
                 a dump needs one session from beginning to end"
                    .to_owned(),
            ),
            Self::Server(error) | Self::Refused { source: error, .. } => error.hint.clone(),
            Self::Copy { source, find, .. } => copy_hint(find.as_deref(), source),
            Self::Rewritten { .. } => Some(
                "its rows would be missing without a word: TRUNCATE, VACUUM FULL, CLUSTER and some ALTER TABLE do that. Find who runs it \
                 (pg_stat_activity) and back up when it does not run, or leave its rows out by --exclude-table-data"
                    .to_owned(),
            ),
            Self::WaitedFor { .. } => Some("back up when nobody changes tables, or let them wait with --on-blocked-ddl wait".to_owned()),
            Self::NoServer { attempts } => attempts.last().and_then(|(_, error)| error.hint()),
            Self::NoClientTools { server_major, .. } => Some(crate::tools::package_hint(*server_major)),
            Self::Child(error) => error.hint().map(str::to_owned),
            _ => None,
        }
    }

    pub(crate) fn setting(parameter: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Setting { parameter: parameter.into(), problem: problem.into() }
    }

    pub(crate) fn io(what: impl Into<String>, source: io::Error) -> Self {
        Self::Io { what: what.into(), source }
    }
}

/// An error or notice as the server sent it. Texts that are not UTF-8 are decoded with replacement characters.
///
/// `Display` gives severity, message and SQLSTATE only. [`detail`](Self::detail), [`context`](Self::context) and the internal query
/// hold row data and stay out of `Display` and `Debug`.
#[derive(Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ServerError {
    /// `ERROR`, `FATAL`, `PANIC`, `WARNING`, `NOTICE`…, never translated.
    pub severity: String,
    /// Five characters (PostgreSQL's documentation, appendix A).
    pub sqlstate: String,
    /// The primary message, one line as a rule.
    pub message: String,
    /// DETAIL; can hold row data.
    pub detail: Option<String>,
    /// HINT.
    pub hint: Option<String>,
    /// CONTEXT (a COPY's line, a function's call stack); can hold row data.
    pub context: Option<String>,
    /// Where in the statement, in characters from 1.
    pub position: Option<u32>,
    /// The schema concerned.
    pub schema: Option<String>,
    /// The table concerned.
    pub table: Option<String>,
    /// The column concerned.
    pub column: Option<String>,
    /// The data type concerned.
    pub data_type: Option<String>,
    /// The constraint concerned.
    pub constraint: Option<String>,
}

impl ServerError {
    /// Whether the server is starting, stopping, recovering, or has ended this session.
    pub fn is_shutdown(&self) -> bool {
        matches!(self.sqlstate.as_str(), "57P01" | "57P02" | "57P03" | "57P05")
    }

    /// Whether it ended the session.
    pub fn is_fatal(&self) -> bool {
        matches!(self.severity.as_str(), "FATAL" | "PANIC")
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({})", self.severity, self.message, self.sqlstate)
    }
}

impl fmt::Debug for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = |text: &Option<String>| text.as_ref().map(|text| format!("<{} bytes>", text.len()));
        f.debug_struct("ServerError")
            .field("severity", &self.severity)
            .field("sqlstate", &self.sqlstate)
            .field("message", &self.message)
            .field("detail", &held(&self.detail))
            .field("hint", &self.hint)
            .field("context", &held(&self.context))
            .field("schema", &self.schema)
            .field("table", &self.table)
            .field("column", &self.column)
            .field("constraint", &self.constraint)
            .finish_non_exhaustive()
    }
}

impl std::error::Error for ServerError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn duplicate_key() -> ServerError {
        ServerError {
            severity: "ERROR".to_owned(),
            sqlstate: "23505".to_owned(),
            message: "duplicate key value violates unique constraint \"customer_email\"".to_owned(),
            detail: Some("Key (email)=(ada@example.org) already exists.".to_owned()),
            context: Some("COPY customer, line 7: \"7\tada@example.org\"".to_owned()),
            ..ServerError::default()
        }
    }

    #[test]
    fn row_data_stays_out_of_display_and_debug() {
        let error = Error::Server(Box::new(duplicate_key()));
        for text in [error.to_string(), format!("{error:?}"), format!("{error:#?}")] {
            assert!(!text.contains("ada@"), "{text}");
        }
        assert_eq!(
            error.to_string(),
            "ERROR: duplicate key value violates unique constraint \"customer_email\" (23505)"
        );
        assert!(error.server_error().unwrap().detail.as_ref().unwrap().contains("ada@"));
    }

    #[test]
    fn kinds_and_retries() {
        let refused = |sqlstate: &str| Error::Refused {
            server: "db:5432".to_owned(),
            source: Box::new(ServerError { sqlstate: sqlstate.to_owned(), ..ServerError::default() }),
        };
        assert_eq!((refused("28P01").kind(), refused("28P01").is_retryable()), (ErrorKind::Refused, false));
        assert_eq!((refused("57P03").kind(), refused("57P03").is_retryable()), (ErrorKind::Unreachable, true));
        assert_eq!((refused("53300").kind(), refused("53300").is_retryable()), (ErrorKind::Refused, true));
        let several = Error::NoServer {
            attempts: vec![
                (
                    "a:1".to_owned(),
                    Error::Unreachable { server: "a:1".to_owned(), source: io::Error::other("no route") },
                ),
                ("b:2".to_owned(), refused("28P01")),
            ],
        };
        assert_eq!((several.kind(), several.is_retryable()), (ErrorKind::Refused, true));
        assert_eq!(
            several.to_string(),
            "no server could be used (server a:1 cannot be reached: no route; server db:5432 refused the session: :  (28P01))"
        );
    }
}
