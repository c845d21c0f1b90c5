//! From the libraries' errors to failures: code, one line, hint.

use pgkeep_core::Error as CoreError;
use pgkeep_dump::{Error as DumpError, ErrorKind as DumpKind};
use pgkeep_restore::Error as RestoreError;
use pgkeep_storage::{Error as StorageError, ErrorKind as StorageKind};

use crate::failure::{Failure, chain};
use crate::hint::Code;

impl From<CoreError> for Failure {
    fn from(error: CoreError) -> Self {
        let mut failure = Self::new(core_code(&error), core_message(&error));
        match &error {
            CoreError::Dump(source) => adopt_hint(&mut failure, source.hint()),
            CoreError::Destination { copies, source, .. } => {
                if copies.is_empty() {
                    failure.code = core_code(source);
                    failure.hint = failure.code.advice().map(str::to_owned);
                } else {
                    let hint =
                        format!("a complete copy is at {}; the next run copies what is missing", copies.join(", "));
                    failure.hint = Some(match core_code(source).advice() {
                        Some(advice) => format!("{hint}. {advice}"),
                        None => hint,
                    });
                }
            }
            CoreError::NotFound { candidates, .. } | CoreError::Ambiguous { candidates, .. }
                if !candidates.is_empty() =>
            {
                failure.hint = Some(format!("there is: {}", candidates.join(", ")));
            }
            CoreError::KeyMissing { recipients, .. } | CoreError::KeyWrong { recipients, .. }
                if !recipients.is_empty() =>
            {
                failure.hint = Some(key_hint(recipients));
            }
            _ => {}
        }
        failure
    }
}

/// Which key is wanted.
fn key_hint(recipients: &[String]) -> String {
    if recipients.iter().any(|recipient| recipient == pgkeep_core::PASSPHRASE) {
        return "it takes a passphrase: set BACKUP_PASSPHRASE_FILE or BACKUP_PASSPHRASE, or run this on a terminal"
            .to_owned();
    }
    format!("pass --identity FILE, or set BACKUP_IDENTITY_FILE: the secret key of {}", recipients.join(" or of "))
}

impl From<DumpError> for Failure {
    fn from(error: DumpError) -> Self {
        let mut failure = Self::new(dump_code(&error), chain(&error));
        adopt_hint(&mut failure, error.hint());
        failure
    }
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Self {
        Self::of_store(&error)
    }
}

impl Failure {
    /// The failure that an error of a store is.
    pub(crate) fn of_store(error: &StorageError) -> Self {
        Self::new(storage_code(error), chain(error))
    }
}

impl From<RestoreError> for Failure {
    fn from(error: RestoreError) -> Self {
        if let RestoreError::Backup(source) = error {
            return source.into();
        }
        let mut failure = Self::new(restore_code(&error), chain(&error));
        adopt_hint(&mut failure, error.hint());
        if let RestoreError::HalfDone { snapshot: Some(snapshot), .. } = &error {
            failure.hint = Some(format!(
                "the database is not as it was; what it held is in the pre-restore snapshot, and to go back: \
                 pgkeep restore {snapshot} --in-place"
            ));
        }
        if matches!(error, RestoreError::SourceViolation { .. }) {
            failure.hint = Some(
                "the source had these rows already when it was backed up: restore to another database (--target-db) \
                 with --accept-differences and correct them there"
                    .to_owned(),
            );
        }
        failure
    }
}

impl From<pgkeep_compress::Error> for Failure {
    fn from(error: pgkeep_compress::Error) -> Self {
        Self::settings(chain(&error))
    }
}

fn adopt_hint(failure: &mut Failure, hint: Option<String>) {
    if hint.is_some() {
        failure.hint = hint;
    }
}

/// One line that says each thing once.
fn core_message(error: &CoreError) -> String {
    match error {
        // A store's own error names the place.
        CoreError::Storage { source, .. } => chain(source),
        CoreError::Destination { destination, source, .. } => {
            format!("the backup is not at {destination}: {}", core_message(source))
        }
        // Only a dump that failed is said to have failed: most often it was never begun.
        CoreError::Dump(source) if dump_code(source) != Code::DumpFailed => chain(source),
        _ => chain(error),
    }
}

fn core_code(error: &CoreError) -> Code {
    match error {
        CoreError::Storage { source, .. } | CoreError::Key(source) => storage_code(source),
        CoreError::Dump(source) => dump_code(source),
        CoreError::Archive { .. } => Code::NotAnArchive,
        CoreError::Frame { .. } | CoreError::Damaged { .. } | CoreError::Meta { .. } => Code::Damaged,
        CoreError::NewerFormat { .. } => Code::NewerFormat,
        CoreError::KeyMissing { .. } => Code::KeyMissing,
        CoreError::KeyWrong { .. } => Code::KeyWrong,
        CoreError::Recipient { .. } => Code::RecipientInvalid,
        CoreError::NotFound { .. } => Code::NothingMatched,
        CoreError::Ambiguous { .. } => Code::Ambiguous,
        CoreError::ForeignSource { .. } => Code::ForeignSource,
        CoreError::Locked { .. } => Code::Locked,
        CoreError::LockLost { .. } => Code::LockLost,
        CoreError::Destination { .. } => Code::DestinationFailed,
        CoreError::Interrupted => Code::Interrupted,
        CoreError::Timeout { .. } => Code::Timeout,
        CoreError::Usage(_) => Code::SettingsInvalid,
        CoreError::Sink(error) => Failure::io("", error).code,
        _ => match error.kind() {
            pgkeep_core::ErrorKind::Usage => Code::SettingsInvalid,
            pgkeep_core::ErrorKind::NotFound => Code::NothingMatched,
            pgkeep_core::ErrorKind::Damaged => Code::Damaged,
            pgkeep_core::ErrorKind::Database => Code::DumpFailed,
            pgkeep_core::ErrorKind::Store => Code::StoreFailed,
            pgkeep_core::ErrorKind::Locked => Code::Locked,
            pgkeep_core::ErrorKind::Interrupted => Code::Interrupted,
            pgkeep_core::ErrorKind::Timeout => Code::Timeout,
            _ => Code::Unexpected,
        },
    }
}

fn dump_code(error: &DumpError) -> Code {
    if let DumpError::NoServer { attempts } = error
        && let Some((_, last)) = attempts.last()
    {
        return dump_code(last);
    }
    match error.sqlstate() {
        Some("3D000") => return Code::DatabaseMissing,
        Some("42501") => return Code::DatabasePermission,
        Some("55P03" | "57014") => return Code::DatabaseTimeout,
        _ => {}
    }
    match error.kind() {
        DumpKind::Settings => Code::DatabaseUrlInvalid,
        DumpKind::Unreachable => Code::DatabaseUnreachable,
        DumpKind::Refused => Code::DatabaseRefused,
        DumpKind::Pooler => Code::DatabasePooler,
        DumpKind::Tools => Code::ClientToolsMissing,
        DumpKind::Interrupted => Code::Interrupted,
        DumpKind::Timeout => Code::DatabaseTimeout,
        DumpKind::Io => match error {
            DumpError::Io { source, .. } => Failure::io("", source).code,
            _ => Code::Unexpected,
        },
        _ => Code::DumpFailed,
    }
}

fn storage_code(error: &StorageError) -> Code {
    match error.kind() {
        StorageKind::NotFound => Code::NothingMatched,
        StorageKind::NoStore => Code::BucketMissing,
        StorageKind::Denied if error.code().is_some_and(|code| matches!(code, "EACCES" | "EPERM" | "EROFS")) => {
            Code::PermissionDenied
        }
        StorageKind::Denied => Code::StoreRefused,
        StorageKind::Unreachable | StorageKind::Timeout => Code::StoreUnreachable,
        StorageKind::Full => Code::DiskFull,
        StorageKind::Archived => Code::Archived,
        StorageKind::Damaged => Code::Damaged,
        StorageKind::Invalid => Code::SettingsInvalid,
        _ => Code::StoreFailed,
    }
}

fn restore_code(error: &RestoreError) -> Code {
    match error {
        RestoreError::Backup(source) => core_code(source),
        RestoreError::Archive(_) => Code::NotAnArchive,
        RestoreError::NotFound { .. } => Code::NothingMatched,
        RestoreError::Blocked { .. } => Code::Blocked,
        RestoreError::Busy { .. } => Code::Locked,
        RestoreError::Unproven { .. } | RestoreError::SourceViolation { .. } => Code::ProofFailed,
        RestoreError::NoPgRestore { .. } => Code::ClientToolsMissing,
        RestoreError::Interrupted => Code::Interrupted,
        RestoreError::Usage(_) => Code::Usage,
        RestoreError::Io { source, .. } => Failure::io("", source).code,
        RestoreError::Database { source, .. }
        | RestoreError::Table { source, .. }
        | RestoreError::Swap { source, .. } => match dump_code(source) {
            Code::DumpFailed => Code::RestoreFailed,
            code => code,
        },
        RestoreError::Uncertain { .. } => Code::RestoreUncertain,
        // Whoever ended it, or what was found, decides the exit code all the same.
        RestoreError::HalfDone { source, .. } => match restore_code(source) {
            code @ (Code::Interrupted | Code::ProofFailed) => code,
            _ => Code::RestoreHalfDone,
        },
        RestoreError::PgRestore { .. } | RestoreError::Snapshot { .. } => Code::RestoreFailed,
        _ => Code::Unexpected,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_connection_is_the_database_not_the_dump() {
        let source = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let failure: Failure = CoreError::Dump(DumpError::Unreachable { server: "db:5432".to_owned(), source }).into();
        assert_eq!(failure.code, Code::DatabaseUnreachable);
        assert_eq!(failure.exit().code(), 5);
        assert!(failure.hint.unwrap().contains("pg_isready"));
    }
    #[test]
    fn a_restore_that_is_half_done_never_says_that_nothing_has_changed() {
        let sources: [(fn() -> RestoreError, u8); 4] = [
            (|| RestoreError::PgRestore { stage: "before the data", count: 1, errors: vec!["one".to_owned()] }, 5),
            (|| RestoreError::Unproven { differences: vec!["one".to_owned()] }, 4),
            (|| RestoreError::Interrupted, 130),
            (|| RestoreError::Task("gone".to_owned()), 5),
        ];
        for (source, exit) in sources {
            for snapshot in [Some("pre-restore_x".to_owned()), None] {
                let with = snapshot.is_some();
                let source = Box::new(source());
                let failure: Failure = RestoreError::HalfDone { database: "app".to_owned(), snapshot, source }.into();
                assert_eq!(failure.exit().code(), exit, "{failure:?}");
                assert!(failure.message.starts_with("database app was emptied and is not complete"), "{failure:?}");
                let hint = failure.hint.unwrap_or_default();
                assert!(!hint.contains("is as it was"), "{hint}");
                assert_eq!(hint.contains("pgkeep restore pre-restore_x --in-place"), with, "{hint}");
            }
        }
    }
}
