//! `pgkeep drill` and `pgkeep status`.

use std::path::PathBuf;

use clap::Args;
use pgkeep_storage::ThawTier;

use super::IdentityArgs;
use super::restore::thaw_tier;

/// Try it out: back up, restore into a scratch database, compare, measure, report.
///
/// The scratch database is made beside the live one (or on --server, or in a --scratch cluster), proven against the backup,
/// asked your own questions (--query), and always dropped again. Reports as Markdown, JSON and JUnit go to test-results/.
#[derive(Debug, Default, Args)]
pub(crate) struct DrillArgs {
    #[command(flatten)]
    pub(crate) mode: DrillModeArgs,
    /// The newest monthly backup: restored, proven, measured; the monthly restore test as one command
    #[arg(long, group = "mode")]
    pub(crate) monthly: bool,
    /// The backup to restore, or to compare the live database with [default: the newest]
    #[arg(long, value_name = "NAME")]
    pub(crate) backup: Option<String>,
    /// Restore to this server (or set BACKUP_DRILL_SERVER, which no process list shows) [default: the live database's]
    #[arg(long, value_name = "URL", conflicts_with = "scratch")]
    pub(crate) server: Option<String>,
    /// Restore to a throw-away cluster, started from PostgreSQL's server binaries on this machine
    #[arg(long)]
    pub(crate) scratch: bool,
    /// Where initdb and postgres are [default: the newest version found]
    #[arg(long, value_name = "DIR", requires = "scratch")]
    pub(crate) bin_dir: Option<PathBuf>,
    /// Asked in the restored database; an error, no row, NULL or false fails (repeatable) [env: BACKUP_DRILL_QUERIES]
    #[arg(long, value_name = "SELECT")]
    pub(crate) query: Vec<String>,
    /// Where reports go [env: BACKUP_DRILL_RESULTS] [default: test-results]
    #[arg(long, value_name = "DIR")]
    pub(crate) results: Option<String>,
    /// Work done side by side [env: BACKUP_JOBS]
    #[arg(short, long, value_name = "N")]
    pub(crate) jobs: Option<String>,
    /// Longest wait for another run to end, such as 30m [env: BACKUP_WAIT]
    #[arg(long, value_name = "DURATION")]
    pub(crate) wait: Option<String>,
    #[command(flatten)]
    pub(crate) keys: IdentityArgs,
    /// Bring the backup out of its archive tier first, and wait for it: standard, bulk or expedited
    #[arg(long, value_name = "TIER", num_args = 0..=1, default_missing_value = "standard", value_parser = thaw_tier)]
    pub(crate) thaw: Option<ThawTier>,
}

/// What is tried out.
#[derive(Debug, Clone, Copy, Default, Args)]
#[group(id = "mode", multiple = false)]
pub(crate) struct DrillModeArgs {
    /// Everything (the default)
    #[arg(long)]
    full: bool,
    /// Making, compressing, verifying and uploading a backup
    #[arg(long)]
    backup_only: bool,
    /// Restoring the newest backup and comparing the result
    #[arg(long)]
    restore_only: bool,
    /// The live database after a restore: rows where nobody wrote, indexes, extensions; restores nothing
    #[arg(long)]
    integrity_only: bool,
    /// How long backup and restore take
    #[arg(long)]
    performance: bool,
}

/// What is tried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DrillMode {
    /// Everything.
    Full,
    /// Making a backup.
    BackupOnly,
    /// Restoring one.
    RestoreOnly,
    /// The live database.
    IntegrityOnly,
    /// How long it takes.
    Performance,
    /// The monthly restore test.
    Monthly,
}

impl DrillModeArgs {
    /// The mode that was asked for.
    pub(crate) fn mode(self) -> DrillMode {
        match self {
            Self { backup_only: true, .. } => DrillMode::BackupOnly,
            Self { restore_only: true, .. } => DrillMode::RestoreOnly,
            Self { integrity_only: true, .. } => DrillMode::IntegrityOnly,
            Self { performance: true, .. } => DrillMode::Performance,
            _ => DrillMode::Full,
        }
    }
}

impl DrillArgs {
    /// The mode that was asked for.
    pub(crate) fn mode(&self) -> DrillMode {
        if self.monthly { DrillMode::Monthly } else { self.mode.mode() }
    }
}

impl DrillMode {
    /// The word in reports.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::BackupOnly => "backup-only",
            Self::RestoreOnly => "restore-only",
            Self::IntegrityOnly => "integrity-only",
            Self::Performance => "performance",
            Self::Monthly => "monthly",
        }
    }
}

/// One screen: would I get my data back, how old would it be, how long would it take?
///
/// Ends with 10 if a backup is overdue or nothing is proven, so that it can be asked by a monitoring system.
#[derive(Debug, Default, Args)]
pub(crate) struct StatusArgs {
    /// Write it as one self-contained web page too
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
}
