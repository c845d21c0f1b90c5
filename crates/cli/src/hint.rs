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
    /// The server was lost while the databases' names were exchanged; they may or may not be.
    RestoreUncertain "restore_uncertain" Database
        Some("see with psql -l which databases there are; the next restore or rollback tells what happened before it does anything");
    /// A restore in place failed after the database had been emptied; it is not complete.
    RestoreHalfDone "restore_half_done" Database
        Some("the database is not as it was: restore the pre-restore snapshot with --in-place to go back, or a backup again");

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
        Some("pgkeep restore --thaw asks the store for it and waits, or take a newer backup: `pgkeep list`");
    /// The store failed otherwise.
    StoreFailed "store_failed" Store
        Some("nothing half-written is visible; run it again, --verbose says more");
    /// A required destination does not hold the backup.
    DestinationFailed "destination_failed" Store
        Some("the other copy is complete; the next run copies what is missing");

    /// Alarms, topics or messages could not be set up, tested or removed.
    MonitoringFailed "monitoring_failed" Store
        Some("see who you are with `aws sts get-caller-identity`; the policy must allow cloudwatch:PutMetricData, PutMetricAlarm, DescribeAlarms, SetAlarmState, DeleteAlarms, PutDashboard, GetDashboard, DeleteDashboards, and sns:CreateTopic, TagResource, Subscribe, Unsubscribe, ListSubscriptionsByTopic, GetTopicAttributes, Publish, DeleteTopic");
    /// Messages are sent, and nobody gets them.
    NobodyHears "nobody_hears" Store
        Some("open the message \"AWS Notification - Subscription Confirmation\" and confirm within 48 hours; if it is gone, pgkeep monitor install sends another");

    /// A stored backup is damaged.
    Damaged "damaged" Damage
        Some("take another copy or another backup: `pgkeep list` shows them, `pgkeep verify --all` tells which are whole");
    /// What came back is not what was there.
    ProofFailed "proof_failed" Damage
        Some("try another backup, or `pgkeep verify --deep` this one; unless it was restored in place, the live database is as it was");

    /// A drill found something that is not as it should be.
    DrillFailed "drill_failed" Damage
        Some("the report in test-results/ says what failed and what to do");
    /// A backup is overdue, or there is none.
    Overdue "overdue" Overdue
        Some("`pgkeep backup`, then see why the scheduled one was not made");
    /// Nothing proves that the backups can be restored.
    Unproven "unproven" Overdue
        Some("`pgkeep drill --restore-only` tries a restore out beside the live database");

    /// Arguments are wrong.
    Usage "usage" Usage None;
    /// A setting is wrong.
    SettingsInvalid "settings_invalid" Usage None;
    /// The config file has a key nobody knows.
    ConfigUnknownKey "config_unknown_key" Usage
        Some("docs/SETTINGS.md lists the keys");
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
    /// A backup is encrypted, and no key was given.
    KeyMissing "key_missing" Usage
        Some("pass --identity FILE, or set BACKUP_IDENTITY_FILE: the file with the secret key that `pgkeep keygen` made");
    /// A backup is encrypted, and none of the keys given opens it.
    KeyWrong "key_wrong" Usage
        Some("`pgkeep show` tells the public keys it is encrypted to; the secret key of one of them opens it");
    /// What backups are to be encrypted to is no public key.
    RecipientInvalid "recipient_invalid" Usage
        Some("give the public key (age1…), which `pgkeep keygen` prints; a secret key that was put there by mistake is no longer secret: make a new one");
    /// A key file can't be used.
    IdentityInvalid "identity_invalid" Usage
        Some("name a file as `pgkeep keygen` or `age-keygen` writes it: a line AGE-SECRET-KEY-1…");
    /// The backup was written by a newer version.
    NewerFormat "newer_format" Usage
        Some("use a pgkeep at least as new as the one that made it");
    /// The plan can't be carried out.
    Blocked "blocked" Usage None;
    /// A question could not be asked.
    NoTerminal "no_terminal" Usage
        Some("pass --yes (the drop-in: --force) where nobody can answer");
    /// A command of the user's own failed.
    HookFailed "hook_failed" Unexpected
        Some("run the command by hand with the same few variables (env -i PATH=\"$PATH\" …); --verbose shows what it says");
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
    /// There is no cron daemon's crontab and no systemd to schedule with.
    SchedulerMissing "scheduler_missing" Usage
        Some("install cron (Debian, Ubuntu: apt-get install cron; Red Hat: dnf install cronie; Alpine has crond), or use --systemd where systemd runs; in containers, let the orchestrator start `pgkeep backup`");
    /// crontab or systemctl refused.
    SchedulerRefused "scheduler_refused" Usage
        Some("see /etc/cron.allow and /etc/cron.deny, which say who may have a crontab; root may for others: --user USER");
    /// The cron daemon does not run.
    SchedulerStopped "scheduler_stopped" Usage
        Some("start it, now and at every boot: systemctl enable --now cron (Red Hat: crond); grep CRON /var/log/syslog shows what it starts");
    /// A scheduled job's checks fail in the scheduler's bare environment.
    JobFailed "job_failed" Usage
        Some("cron knows neither your shell's variables nor its PATH: put settings into the --env-file, tools' folders into PG_BINDIRS, then run `pgkeep schedule install` and `test` again");
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
