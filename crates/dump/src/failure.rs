//! Why a client tool failed.

use std::fmt;

use crate::ErrorKind;
use crate::messages::{Message, Severity, StderrLog, messages};

/// Why a client tool failed, by what can be done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ChildFailure {
    /// The server could not be reached.
    Unreachable,
    /// The server refused user, password or host.
    Refused,
    /// The database does not exist.
    NoSuchDatabase,
    /// The server or the connection went away in the middle.
    ServerGone,
    /// A lock was not granted in time.
    LockTimeout,
    /// A table or something else was dropped while it was being looked at.
    Vanished,
    /// A privilege is missing.
    PermissionDenied,
    /// A table has row-level security that this role may not bypass.
    RowSecurity,
    /// Client and server, or client and archive, do not fit.
    VersionMismatch,
    /// A standby's replay cancelled the reading session.
    StandbyConflict,
    /// The server has no more locks or connections to give.
    ServerExhausted,
    /// A disk is full, the server's or ours.
    DiskFull,
    /// A value is too large for the server to send as text.
    ValueTooLarge,
    /// The server cannot read its own data.
    DamagedData,
    /// A timeout or somebody else cancelled the statement.
    StatementCancelled,
    /// The selection matches nothing.
    NothingSelected,
    /// The tool did not accept its options.
    Usage,
    /// The tool was killed by a signal that we did not send.
    Killed,
    /// Anything else.
    Other,
}

/// What `pg_dumpall` says, and nothing else, when it gets no connection.
const NO_CONNECTION: &str = "could not connect to database";
/// What a server says that has no connection left to give.
const WANT_OF_CONNECTIONS: &[&str] = &["remaining connection slots", "too many clients", "too many connections"];

impl ChildFailure {
    /// Weighs the text of an error. Texts are those of PostgreSQL 14 to 18 with English messages; a server that speaks
    /// another language gives [`Self::Other`], or what the tool itself says of it.
    pub(crate) fn of(text: &str) -> Self {
        const RULES: &[(&[&str], ChildFailure)] = &[
            (&["row-level security policy"], ChildFailure::RowSecurity),
            (&["conflict with recovery"], ChildFailure::StandbyConflict),
            // The session that holds the snapshot is gone.
            (&["SET TRANSACTION SNAPSHOT"], ChildFailure::ServerGone),
            (&["due to lock timeout", "could not obtain lock on"], ChildFailure::LockTimeout),
            (&["statement timeout", "LOCK TABLE"], ChildFailure::LockTimeout),
            (&["does not exist", "LOCK TABLE"], ChildFailure::Vanished),
            (&["could not open relation with OID", "cache lookup failed for"], ChildFailure::Vanished),
            (&["server version mismatch", "in file header", "unsupported version"], ChildFailure::VersionMismatch),
            (&["No space left on device", "Disk quota exceeded", "could not extend file"], ChildFailure::DiskFull),
            (
                &["remaining connection slots", "too many clients", "too many connections", "out of shared memory"],
                ChildFailure::ServerExhausted,
            ),
            (
                &["invalid memory alloc request size", "string buffer exceeds maximum", "out of memory"],
                ChildFailure::ValueTooLarge,
            ),
            (
                &[
                    "invalid page in block",
                    "could not read block",
                    "missing chunk number",
                    "unexpected chunk number",
                    "data is corrupt",
                ],
                ChildFailure::DamagedData,
            ),
            (
                &[
                    "authentication failed",
                    "no password supplied",
                    "no pg_hba.conf entry",
                    "pg_hba.conf rejects",
                    "is not permitted to log in",
                    "permission denied for database",
                ],
                ChildFailure::Refused,
            ),
            (
                &["no matching tables", "no matching schemas", "no matching extensions", "no matching foreign servers"],
                ChildFailure::NothingSelected,
            ),
            (
                &["unrecognized option", "invalid option", "requires an argument", "cannot be used together"],
                ChildFailure::Usage,
            ),
            (
                &[
                    "server closed the connection",
                    "terminating connection",
                    "connection has been closed unexpectedly",
                    "connection not open",
                    "no connection to the server",
                    "could not receive data from server",
                    "could not send data to server",
                    "SSL SYSCALL error",
                    "lost synchronization with server",
                ],
                ChildFailure::ServerGone,
            ),
            (&["canceling statement due to"], ChildFailure::StatementCancelled),
            (&["permission denied", "must be owner of", "must be superuser"], ChildFailure::PermissionDenied),
        ];
        let text_of_connection =
            text.contains("connection to server ") || text.contains("could not translate host name");
        if text_of_connection && text.contains(" failed: ") {
            return match text {
                _ if text.contains("database \"") && text.contains("does not exist") => Self::NoSuchDatabase,
                _ if text.contains("role \"") && text.contains("does not exist") => Self::Refused,
                _ => RULES
                    .iter()
                    .find(|(texts, failure)| {
                        matches!(failure, Self::Refused | Self::ServerExhausted)
                            && texts.iter().any(|part| text.contains(part))
                    })
                    .map_or(Self::Unreachable, |&(_, failure)| failure),
            };
        }
        for (texts, failure) in RULES {
            let matched = match texts {
                // Both: pg_dump asks for the lock timeout by way of a statement timeout, and names may be wrong elsewhere, too.
                ["statement timeout" | "does not exist", "LOCK TABLE"] => texts.iter().all(|part| text.contains(part)),
                _ => texts.iter().any(|part| text.contains(part)),
            };
            if matched {
                return *failure;
            }
        }
        Self::Other
    }

    /// What to do about it.
    pub(crate) fn hint(self) -> Option<&'static str> {
        Some(match self {
            Self::Unreachable => {
                "check host and port, that the server runs, and that a firewall lets this host through"
            }
            Self::Refused => "check user and password, and the server's pg_hba.conf",
            Self::NoSuchDatabase => "check the database's name in DATABASE_URL",
            Self::ServerGone => "look into the server's log for why it ended the session, then run again",
            Self::LockTimeout => {
                "somebody holds a lock (a migration, VACUUM FULL, an idle transaction): see pg_stat_activity, and run again or wait longer"
            }
            Self::Vanished => {
                "something was dropped while the backup began: run again; if it happens every time, find who drops and creates tables all the time"
            }
            Self::PermissionDenied => "grant the role what it lacks, for instance: GRANT pg_read_all_data TO …",
            Self::RowSecurity => "let the role see all rows: ALTER ROLE … BYPASSRLS, or leave the table out",
            Self::VersionMismatch => "install client tools that are not older than the server",
            Self::StandbyConflict => {
                "set hot_standby_feedback=on on the standby, raise its max_standby_streaming_delay, or back up from the primary"
            }
            Self::ServerExhausted => {
                "raise max_connections or max_locks_per_transaction on the server, or run when it is less busy"
            }
            Self::DiskFull => "free some disk space, or point the temporary folder elsewhere",
            Self::ValueTooLarge => {
                "a value is too large to be sent as text (bytea doubles; the limit is about 512 MB): find it by pg_column_size"
            }
            Self::DamagedData => {
                "the server cannot read its own data: look into its log and check its disks before anything else"
            }
            Self::StatementCancelled => {
                "somebody or a timeout cancelled the statement: see the server's log, then run again"
            }
            Self::NothingSelected => "check the names of tables and schemas in the selection",
            Self::Usage => "check the pg_dump options in the settings",
            Self::Killed => "see the system's log: the kernel ends programs when memory runs out",
            Self::Other => return None,
        })
    }
}

/// A client tool that failed: what it said, without what could quote a row.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChildError {
    /// `pg_dump`, `pg_restore`, `pg_dumpall`.
    pub program: &'static str,
    /// Why, by what can be done about it.
    pub failure: ChildFailure,
    /// Its exit status.
    pub status: Option<i32>,
    /// The signal that killed it.
    pub signal: Option<i32>,
    /// The last error it reported, in one line.
    pub message: Option<String>,
    /// Everything it said, row data included: for a log that the user may see whole, not for notices. Not in `Debug`.
    pub log: Vec<String>,
}

impl ChildError {
    pub(crate) fn new(program: &'static str, status: Option<i32>, signal: Option<i32>, log: &StderrLog) -> Self {
        let messages = messages(program, log.lines());
        // The first error is the cause where several follow; a "server closed" after it is a consequence.
        let error = messages.iter().find(|message| message.severity == Severity::Error).or(messages.last());
        let mut failure = error.map_or(ChildFailure::Other, |error| ChildFailure::of(&error.everything()));
        if signal.is_some() && failure == ChildFailure::Other {
            failure = ChildFailure::Killed;
        }
        Self {
            program,
            failure,
            status,
            signal,
            message: error.map(Message::summary),
            log: log.lines().map(str::to_owned).collect(),
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        self.failure.hint()
    }

    /// Whether the server, the database or the role has no connection left to give.
    pub(crate) fn is_for_want_of_connections(&self) -> bool {
        self.failure == ChildFailure::ServerExhausted
            && self.log.iter().any(|line| WANT_OF_CONNECTIONS.iter().any(|part| line.contains(part)))
    }

    /// Whether it could not connect and does not say why: `pg_dumpall` keeps the server's reason to itself for the database
    /// that it is told to begin with (main in pg_dumpall.c).
    pub(crate) fn is_no_connection_without_a_reason(&self) -> bool {
        self.log.iter().any(|line| line.contains(NO_CONNECTION))
    }

    /// What the caller can do about it, in the crate's terms.
    pub fn kind(&self) -> ErrorKind {
        match self.failure {
            ChildFailure::Unreachable | ChildFailure::ServerGone => ErrorKind::Unreachable,
            ChildFailure::Refused | ChildFailure::NoSuchDatabase => ErrorKind::Refused,
            ChildFailure::VersionMismatch => ErrorKind::Tools,
            ChildFailure::NothingSelected | ChildFailure::Usage => ErrorKind::Settings,
            _ => ErrorKind::Child,
        }
    }

    /// Whether the same run may well succeed a little later.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self.failure,
            ChildFailure::Unreachable
                | ChildFailure::ServerGone
                | ChildFailure::LockTimeout
                | ChildFailure::Vanished
                | ChildFailure::StandbyConflict
                | ChildFailure::ServerExhausted
        )
    }
}

impl fmt::Display for ChildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.program)?;
        match (self.signal, self.status) {
            (Some(signal), _) => write!(f, "was killed by signal {signal}")?,
            (None, Some(status)) => write!(f, "failed with exit status {status}")?,
            (None, None) => f.write_str("failed")?,
        }
        match &self.message {
            Some(message) => write!(f, ": {message}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for ChildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildError")
            .field("program", &self.program)
            .field("failure", &self.failure)
            .field("status", &self.status)
            .field("signal", &self.signal)
            .field("message", &self.message)
            .field("log", &format_args!("<{} lines>", self.log.len()))
            .finish()
    }
}

impl std::error::Error for ChildError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(text: &str) -> StderrLog {
        let mut log = StderrLog::default();
        log.push(text.as_bytes());
        log.finish();
        log
    }

    #[test]
    fn failures_are_told_apart() {
        for (text, failure) in [
            (
                "pg_dump: error: query failed: ERROR:  query would be affected by row-level security policy for table \"rls\"\n\
                 pg_dump: detail: Query was: COPY public.rls (id, who) TO stdout;",
                ChildFailure::RowSecurity,
            ),
            (
                "pg_dump: error: query failed: ERROR:  permission denied for table t\n\
                 pg_dump: detail: Query was: LOCK TABLE public.t IN ACCESS SHARE MODE",
                ChildFailure::PermissionDenied,
            ),
            (
                "pg_dump: error: query failed: ERROR:  canceling statement due to statement timeout\n\
                 pg_dump: detail: Query was: LOCK TABLE public.t IN ACCESS SHARE MODE",
                ChildFailure::LockTimeout,
            ),
            (
                "pg_dump: error: query failed: ERROR:  canceling statement due to user request\n\
                 pg_dump: detail: Query was: SELECT 1",
                ChildFailure::StatementCancelled,
            ),
            (
                "pg_dump: error: connection to server at \"127.0.0.1\", port 1 failed: Connection refused\n\
                 \tIs the server running on that host and accepting TCP/IP connections?",
                ChildFailure::Unreachable,
            ),
            (
                "pg_dump: error: connection to server at \"h\" (1.2.3.4), port 5432 failed: FATAL:  password authentication failed for user \"u\"",
                ChildFailure::Refused,
            ),
            (
                "pg_dump: error: connection to server on socket \"/s\" failed: FATAL:  role \"none\" does not exist",
                ChildFailure::Refused,
            ),
            (
                "pg_dump: error: connection to server on socket \"/s\" failed: FATAL:  database \"nodb\" does not exist",
                ChildFailure::NoSuchDatabase,
            ),
            (
                "pg_dump: error: connection to server at \"h\", port 1 failed: FATAL:  sorry, too many clients already",
                ChildFailure::ServerExhausted,
            ),
            (
                "pg_dump: error: Dumping the contents of table \"t\" failed: PQgetCopyData() failed.\n\
                 pg_dump: detail: Error message from server: server closed the connection unexpectedly\n\
                 \tThis probably means the server terminated abnormally\n\
                 pg_dump: detail: Command was: COPY public.t (id) TO stdout;",
                ChildFailure::ServerGone,
            ),
            (
                "pg_dump: error: query failed: ERROR:  relation \"public.gone\" does not exist\n\
                 pg_dump: detail: Query was: LOCK TABLE public.kept, public.gone IN ACCESS SHARE MODE",
                ChildFailure::Vanished,
            ),
            (
                "pg_dump: error: query failed: ERROR:  column \"x\" does not exist\n\
                 pg_dump: detail: Query was: SELECT x",
                ChildFailure::Other,
            ),
            (
                "pg_dump: error: query failed: ERROR:  could not open relation with OID 16385\n\
                 pg_dump: detail: Query was: EXECUTE getColumnACLs('16385')",
                ChildFailure::Vanished,
            ),
            (
                "pg_dump: error: query failed: ERROR:  snapshot \"0000000A-00000007-1\" does not exist\n\
                 pg_dump: detail: Query was: SET TRANSACTION SNAPSHOT '0000000A-00000007-1'",
                ChildFailure::ServerGone,
            ),
            (
                "pg_dump: error: query failed: ERROR:  invalid snapshot identifier: \"0000000A-00000007-1\"\n\
                 pg_dump: detail: Query was: SET TRANSACTION SNAPSHOT '0000000A-00000007-1'",
                ChildFailure::ServerGone,
            ),
            (
                "pg_dump: error: query failed: ERROR:  canceling statement due to conflict with recovery\n\
                 pg_dump: detail: Query was: SET TRANSACTION SNAPSHOT '0000000A-00000007-1'",
                ChildFailure::StandbyConflict,
            ),
            ("pg_dump: error: could not write to output file: No space left on device", ChildFailure::DiskFull),
            ("pg_dump: error: no matching tables were found", ChildFailure::NothingSelected),
            (
                "/usr/lib/postgresql/15/bin/pg_dump: unrecognized option '--filter=x'\n\
                 pg_dump: hint: Try \"pg_dump --help\" for more information.",
                ChildFailure::Usage,
            ),
            (
                "pg_dump: error: aborting because of server version mismatch\n\
                 pg_dump: detail: server version: 17.2; pg_dump version: 15.18",
                ChildFailure::VersionMismatch,
            ),
            (
                "pg_dump: error: Dumping the contents of table \"t\" failed: PQgetResult() failed.\n\
                 pg_dump: detail: Error message from server: ERROR:  invalid memory alloc request size 1073741824",
                ChildFailure::ValueTooLarge,
            ),
            ("something else", ChildFailure::Other),
        ] {
            assert_eq!(ChildError::new("pg_dump", Some(1), None, &log(text)).failure, failure, "{text}");
        }
        for (text, connections) in [
            (
                "pg_dump: error: connection to server at \"h\", port 1 failed: FATAL:  too many connections for role \"r\"",
                true,
            ),
            (
                "pg_dump: error: query failed: ERROR:  out of shared memory\n\
                 pg_dump: detail: Query was: LOCK TABLE public.t IN ACCESS SHARE MODE",
                false,
            ),
        ] {
            let error = ChildError::new("pg_dump", Some(1), None, &log(text));
            assert_eq!(error.failure, ChildFailure::ServerExhausted);
            assert_eq!(error.is_for_want_of_connections(), connections, "{text}");
        }
        assert_eq!(ChildError::new("pg_dump", None, Some(9), &log("")).failure, ChildFailure::Killed);
    }

    #[test]
    fn an_error_never_quotes_a_row() {
        let error = ChildError::new(
            "pg_restore",
            Some(1),
            None,
            &log(
                "pg_restore: error: COPY failed for table \"users\": ERROR:  duplicate key value violates unique constraint \"users_email\"\n\
                  DETAIL:  Key (email)=(ann@example.org) already exists.\n\
                  CONTEXT:  COPY users, line 7\n",
            ),
        );
        let shown = error.to_string();
        assert_eq!(
            shown,
            "pg_restore failed with exit status 1: COPY failed for table \"users\": ERROR:  duplicate key value violates unique constraint \"users_email\""
        );
        assert!(!format!("{error:?}").contains("ann@"));
        assert!(error.log.iter().any(|line| line.contains("ann@example.org")));
    }

    #[test]
    fn the_servers_own_words_are_told() {
        let error = ChildError::new(
            "pg_dump",
            Some(1),
            None,
            &log("pg_dump: error: Dumping the contents of table \"t\" failed: PQgetResult() failed.\n\
                  pg_dump: detail: Error message from server: ERROR:  could not open file \"base/1/2\"\n\
                  pg_dump: detail: Command was: COPY public.t (id) TO stdout;"),
        );
        assert!(
            error.to_string().ends_with("failed: PQgetResult() failed. ERROR:  could not open file \"base/1/2\""),
            "{error}"
        );
    }
}
