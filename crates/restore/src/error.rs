//! What can go wrong, by what the caller can do about it.

pub use pgkeep_core::ErrorKind;

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, on what.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Options that don't go together, or are out of range.
    #[error("{0}")]
    Usage(String),
    /// What was asked for is not in the backup or on the server.
    #[error("{what} is not there")]
    NotFound {
        /// What: a table, a kept database.
        what: String,
        /// What there is instead.
        candidates: Vec<String>,
    },
    /// The plan names reasons why it cannot be carried out.
    #[error("the restore cannot be carried out: {}", blockers.join("; "))]
    Blocked {
        /// The reasons.
        blockers: Vec<String>,
    },
    /// Something changed between plan and execution.
    #[error("the plan no longer holds: {0}")]
    Changed(String),
    /// Another restore of the same database is under way.
    #[error("another restore of database {database} is under way on this server")]
    Busy {
        /// The database.
        database: String,
    },
    /// Reading the backup failed.
    #[error("the backup cannot be read")]
    Backup(#[from] pgkeep_core::Error),
    /// The archive is damaged.
    #[error("the archive is damaged")]
    Archive(#[from] pgkeep_archive::Error),
    /// The server or a client tool failed.
    #[error("{what} failed")]
    Database {
        /// What was being done.
        what: String,
        /// Why.
        #[source]
        source: Box<pgkeep_dump::Error>,
    },
    /// A table could not be loaded.
    #[error("table {table} cannot be loaded")]
    Table {
        /// The table.
        table: String,
        /// Why.
        #[source]
        source: Box<pgkeep_dump::Error>,
    },
    /// `pg_restore` reported errors that are not harmless.
    #[error("pg_restore reported {} ({stage}): {}", plural(*count, "error"), errors.first().map_or("", String::as_str))]
    PgRestore {
        /// `before the data` or `after the data`.
        stage: &'static str,
        /// How many.
        count: usize,
        /// The first of them, one line each.
        errors: Vec<String>,
    },
    /// The source broke its own constraints, so they cannot be created.
    #[error("the backup's own data breaks {}", constraints.join(", "))]
    SourceViolation {
        /// The constraints and indexes, with what the server said.
        constraints: Vec<String>,
    },
    /// What came back is not what was there.
    #[error("what came back differs from the backup: {}", differences.join("; "))]
    Unproven {
        /// The differences, one line each.
        differences: Vec<String>,
    },
    /// A restore in place failed after it had begun to empty the database: what that held is gone, at least in part.
    #[error("database {database} was emptied and is not complete")]
    HalfDone {
        /// The database.
        database: String,
        /// The pre-restore snapshot, the way back.
        snapshot: Option<String>,
        /// Why.
        #[source]
        source: Box<Error>,
    },
    /// The pre-restore snapshot failed, and nothing may be touched without it.
    #[error("the pre-restore snapshot failed")]
    Snapshot {
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The names could not be exchanged. Nothing has changed.
    #[error("database {database} could not be exchanged after {attempts} attempts")]
    Swap {
        /// The live database.
        database: String,
        /// How often it was tried.
        attempts: u32,
        /// The last reason.
        #[source]
        source: Box<pgkeep_dump::Error>,
    },
    /// The session was lost while names were exchanged, and the server could not be asked whether they were.
    #[error("database {database} may or may not have been exchanged: the server could not be asked")]
    Uncertain {
        /// The live database.
        database: String,
        /// What tells: `database app_before_20251017_030001 exists`.
        evidence: String,
        /// How the session was lost.
        #[source]
        source: Box<pgkeep_dump::Error>,
    },
    /// No `pg_restore` that reads this archive is installed.
    #[error("the archive needs pg_restore {needed} or newer ({})", if found.is_empty() { "none found".to_owned() } else { format!("found {}", found.join(", ")) })]
    NoPgRestore {
        /// The lowest major version that reads it.
        needed: u32,
        /// What was found.
        found: Vec<String>,
    },
    /// A local file failed.
    #[error("cannot {what}")]
    Io {
        /// The act: `write the list of entries`.
        what: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The run was cancelled.
    #[error("interrupted")]
    Interrupted,
    /// A task of ours ended without an answer.
    #[error("an internal task failed: {0}")]
    Task(String),
}

impl Error {
    /// What class of error this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Usage(_) | Self::Blocked { .. } | Self::NoPgRestore { .. } => ErrorKind::Usage,
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Busy { .. } => ErrorKind::Locked,
            Self::Backup(error) => error.kind(),
            Self::Archive(_) | Self::Unproven { .. } | Self::SourceViolation { .. } => ErrorKind::Damaged,
            Self::Database { source, .. } | Self::Table { source, .. } | Self::Swap { source, .. } => {
                if matches!(source.kind(), pgkeep_dump::ErrorKind::Interrupted) {
                    ErrorKind::Interrupted
                } else {
                    ErrorKind::Database
                }
            }
            Self::PgRestore { .. } | Self::Uncertain { .. } => ErrorKind::Database,
            Self::HalfDone { source, .. } => source.kind(),
            Self::Interrupted => ErrorKind::Interrupted,
            Self::Snapshot { .. } | Self::Changed(_) | Self::Io { .. } | Self::Task(_) => ErrorKind::Other,
        }
    }

    /// Whether the same call can succeed a moment later without anybody correcting anything.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Busy { .. } | Self::Swap { .. } | Self::Changed(_) => true,
            Self::Database { source, .. } | Self::Table { source, .. } => source.is_retryable(),
            _ => false,
        }
    }

    /// What to do next, where that can be said without knowing the caller.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NotFound { candidates, .. } if !candidates.is_empty() => format!("there is: {}", candidates.join(", ")),
            Self::Busy { .. } => "wait until it has ended".to_owned(),
            Self::Changed(_) => "nothing was changed; look at a new plan, and run it again".to_owned(),
            Self::Database { source, .. } | Self::Table { source, .. } => return source.hint(),
            Self::SourceViolation { .. } => {
                "the source already had these rows when it was backed up; restore to another database with --force and correct them there"
                    .to_owned()
            }
            Self::HalfDone { snapshot: Some(snapshot), .. } => {
                format!("what the database held is in the pre-restore snapshot: restore {snapshot} in place to go back")
            }
            Self::HalfDone { snapshot: None, .. } => "there is no pre-restore snapshot: restore a backup again".to_owned(),
            Self::Unproven { .. } => "the live database is as it was; try another backup, or verify this one with --deep".to_owned(),
            Self::Snapshot { .. } => "correct its cause, or pass --skip-snapshot if the present data may be lost".to_owned(),
            Self::Swap { database, .. } => {
                format!("sessions on {database} could not be ended: stop its clients, then restore again")
            }
            Self::Uncertain { evidence, .. } => {
                format!("if {evidence}, it was exchanged and nothing is left to do; else nothing has changed: run it again")
            }
            Self::NoPgRestore { needed, .. } => {
                format!("install the client tools of PostgreSQL {needed} (Debian, Ubuntu: apt-get install postgresql-client-{needed})")
            }
            _ => return None,
        })
    }

    pub(crate) fn io(what: impl Into<String>, source: std::io::Error) -> Self {
        Self::Io { what: what.into(), source }
    }
}

/// Says what was being done when the server or a tool failed.
pub(crate) trait Doing<T> {
    /// The result with `what` said in its error; an interruption stays one.
    fn doing(self, what: impl Into<String>) -> Result<T>;
}

impl<T> Doing<T> for pgkeep_dump::Result<T> {
    fn doing(self, what: impl Into<String>) -> Result<T> {
        self.map_err(|source| match source {
            pgkeep_dump::Error::Interrupted => Error::Interrupted,
            source => Error::Database { what: what.into(), source: Box::new(source) },
        })
    }
}

/// The error and its causes in one line.
pub(crate) fn one_line(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// `1 error`, `2 errors`.
pub(crate) fn plural(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}
