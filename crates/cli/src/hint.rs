//! Every way to fail: a stable code, the exit code it gives, and what to do next.
//!
//! The table is documented in docs/TROUBLESHOOTING.md and tested against it. The first five are the issues of the
//! procedures this program takes over from.

use crate::exit::Exit;

macro_rules! codes {
    ($( $(#[doc = $doc:literal])+ $variant:ident $text:literal $exit:ident $advice:expr; )*) => {
        /// What went wrong, as programs see it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub(crate) enum Code { $( $(#[doc = $doc])+ $variant, )* }

        impl Code {
            /// Every code, in the order of the document.
            #[cfg(test)]
            pub(crate) const ALL: &[Self] = &[$( Self::$variant ),*];

            /// The stable name in JSON documents.
            pub(crate) fn text(self) -> &'static str {
                match self { $( Self::$variant => $text, )* }
            }

            /// The exit code.
            pub(crate) fn exit(self) -> Exit {
                match self { $( Self::$variant => Exit::$exit, )* }
            }

            /// What to do next, where nothing better is known.
            pub(crate) fn advice(self) -> Option<&'static str> {
                match self { $( Self::$variant => $advice, )* }
            }

            /// What it means, one sentence.
            #[cfg(test)]
            pub(crate) fn meaning(self) -> &'static str {
                match self { $( Self::$variant => concat!($($doc),+), )* }
            }
        }
    };
}

codes! {
    /// A file or directory may not be written or read by this user.
    PermissionDenied "permission_denied" Store
        Some("make the directory and give it to the user who runs this: sudo install -d -o \"$USER\" -m 750 DIR; or set BACKUP_DIR and LOG_FILE to places it can write");
    /// The store refused the credentials, or lacks a permission for them.
    StoreRefused "store_refused" Store
        Some("see who you are with `aws sts get-caller-identity`; the policy must allow s3:ListBucket, GetObject, PutObject, DeleteObject and AbortMultipartUpload on this bucket");
    /// The database server could not be reached.
    DatabaseUnreachable "database_unreachable" Database
        Some("check that the server runs and that host, port and firewall let this machine in: pg_isready -h HOST -p PORT");
    /// The file is no archive of pg_dump's custom format, or is cut off or altered.
    NotAnArchive "not_an_archive" Damage
        Some("see what it is with `file` and `gunzip -t`; a fresh copy from the bucket may be whole, `pgkeep list` shows where copies are");
    /// A program was not found in the scheduler's bare environment.
    ClientToolsMissing "client_tools_missing" Usage
        Some("install the client tools of the server's major version (Debian, Ubuntu: apt-get install postgresql-client), or name their folder in PG_BINDIRS; cron's PATH is short");

    /// The server refused the session: password, database, role or pg_hba.conf.
    DatabaseRefused "database_refused" Database
        Some("try the same with psql \"$DATABASE_URL\" -c 'select 1'; a password with : / + % & @ in it must be percent-encoded in the URL");
    /// There is no such database.
    DatabaseMissing "database_missing" Database
        Some("the name is the last part of DATABASE_URL; psql -l lists what the server has");
    /// The role may not read or do something that is needed.
    DatabasePermission "database_permission" Database
        Some("grant what is missing, or run as the owner or a member of pg_read_all_data");
    /// A transaction pooler stands where a server should be.
    DatabasePooler "database_pooler" Database
        Some("connect to the server itself, on its own port or host name; a dump needs one session from beginning to end");
    /// Something waited too long for a lock or an answer of the server.
    DatabaseTimeout "database_timeout" Database
        Some("see who holds what with: select pid, state, query from pg_stat_activity; BACKUP_LOCK_WAIT_TIMEOUT sets the longest wait");
    /// The dump failed.
    DumpFailed "dump_failed" Database
        Some("nothing of it was kept, earlier backups are untouched; the server's log and --verbose say more; run it again once the cause is gone");
    /// The restore failed; the live database is as it was.
    RestoreFailed "restore_failed" Database
        Some("the live database is as it was; --verbose shows more, `pgkeep verify` tells whether the backup is whole");

    /// The store could not be reached or stopped answering.
    StoreUnreachable "store_unreachable" Store
        Some("check the network, AWS_ENDPOINT_URL and AWS_REGION");
    /// The bucket or container does not exist.
    BucketMissing "bucket_missing" Store
        Some("check the name and the region, or make it: aws s3 mb s3://BUCKET");
    /// A disk or quota is full.
    DiskFull "disk_full" Store
        Some("free some space, keep fewer local copies (BACKUP_RETENTION_LOCAL_DAILY_DAYS) or none (BACKUP_DIR=none)");
    /// The object lies in an archive tier and can't be read now.
    Archived "archived" Store
        Some("ask the store to restore it (aws s3api restore-object …), or take a newer backup: `pgkeep list`");
    /// The store failed otherwise.
    StoreFailed "store_failed" Store
        Some("nothing half-written is visible; run it again, --verbose says more");
    /// A required destination does not hold the backup.
    DestinationFailed "destination_failed" Store
        Some("the other copy is complete; the next run copies what is missing");

    /// A stored backup is damaged.
    Damaged "damaged" Damage
        Some("take another copy or another backup: `pgkeep list` shows them, `pgkeep verify --all` tells which are whole");
    /// What came back is not what was there.
    ProofFailed "proof_failed" Damage
        Some("the live database is as it was; try another backup, or `pgkeep verify --deep` this one");

    /// Arguments are wrong.
    Usage "usage" Usage None;
    /// A setting is wrong.
    SettingsInvalid "settings_invalid" Usage None;
    /// The config file has a key nobody knows.
    ConfigUnknownKey "config_unknown_key" Usage
        Some("README.md lists the keys");
    /// The env-file could have been written by others.
    EnvFileRefused "env_file_refused" Usage
        Some("make it yours alone: chown \"$USER\" FILE && chmod 600 FILE");
    /// DATABASE_URL is not set.
    DatabaseUrlMissing "database_url_missing" Usage
        Some("set DATABASE_URL=postgresql://user:password@host:5432/dbname in the environment, in ./.env or in pgkeep.toml");
    /// DATABASE_URL can't be understood.
    DatabaseUrlInvalid "database_url_invalid" Usage
        Some("the form is postgresql://user:password@host:5432/dbname, with special characters percent-encoded");
    /// There is no place for backups.
    DestinationMissing "destination_missing" Usage
        Some("set AWS_S3_BACKUP_BUCKET, BACKUP_STORE or BACKUP_DIR");
    /// Another database's backups lie under this prefix.
    ForeignSource "foreign_source" Usage
        Some("give this database its own BACKUP_PREFIX and BACKUP_DIR, or pass --take-over if it takes the other's place");
    /// The backup was written by a newer version.
    NewerFormat "newer_format" Usage
        Some("use a pgkeep at least as new as the one that made it");
    /// The plan can't be carried out.
    Blocked "blocked" Usage None;
    /// A question could not be asked.
    NoTerminal "no_terminal" Usage
        Some("pass --yes (the drop-in: --force) where nobody can answer");
    /// Nothing matched.
    NothingMatched "nothing_matched" NothingMatched
        Some("`pgkeep list` shows what there is");
    /// More than one backup matched.
    Ambiguous "ambiguous" NothingMatched
        Some("type more of its name");

    /// Another run holds the lock.
    Locked "locked" Locked
        Some("wait for it (--wait 1h); if that run is gone for good, its lease ends by itself, or `pgkeep unlock`");
    /// The lock was lost to another run.
    LockLost "lock_lost" Locked
        Some("another run took over; see its log, then run this again");
    /// The answer was no.
    Declined "declined" Declined None;
    /// SIGINT.
    Interrupted "interrupted" Interrupted None;
    /// SIGTERM.
    Terminated "terminated" Terminated None;
    /// The run took longer than BACKUP_TIMEOUT.
    Timeout "timeout" Unexpected
        Some("raise BACKUP_TIMEOUT, or find out in the log what was slow");
    /// Whoever read stdout went away (nothing is said on stderr).
    BrokenPipe "broken_pipe" Unexpected None;
    /// Anything else.
    Unexpected "unexpected" Unexpected
        Some("run it again with --verbose; if it stays, please report it with the log");
}

/// Checks that the project's document `name` holds `table` between its marks; with `PGKEEP_UPDATE_DOCS` set, puts it there.
#[cfg(test)]
pub(crate) fn check_document(name: &str, table: &str) {
    const BEGIN: &str = "<!-- table: begin -->\n";
    const END: &str = "<!-- table: end -->";
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(name);
    let found = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = found.split_once(BEGIN).expect("the document marks the table");
    let (present, after) = rest.split_once(END).expect("the document marks the table's end");
    if present != table {
        if std::env::var_os("PGKEEP_UPDATE_DOCS").is_some() {
            std::fs::write(&path, format!("{before}{BEGIN}{table}{END}{after}")).unwrap();
        } else {
            panic!("{name} is out of date; run this test with PGKEEP_UPDATE_DOCS=1");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fmt::Write;

    use super::*;

    /// The tables of docs/TROUBLESHOOTING.md.
    fn document() -> String {
        let mut text = String::from("| exit | meaning |\n| --- | --- |\n");
        for (exit, meaning) in Exit::TABLE {
            writeln!(text, "| {} | {meaning} |", exit.code()).unwrap();
        }
        text.push_str("\n| `error.code` | exit | what it means | what to do |\n| --- | --- | --- | --- |\n");
        for code in Code::ALL {
            let advice = code.advice().unwrap_or("see the message").replace('|', "\\|");
            writeln!(text, "| `{}` | {} | {} | {advice} |", code.text(), code.exit().code(), code.meaning().trim())
                .unwrap();
        }
        text
    }

    #[test]
    fn texts_are_unique() {
        let texts: BTreeSet<_> = Code::ALL.iter().map(|code| code.text()).collect();
        assert_eq!(texts.len(), Code::ALL.len());
    }

    #[test]
    fn the_document_has_this_table() {
        check_document("docs/TROUBLESHOOTING.md", &document());
    }
}
