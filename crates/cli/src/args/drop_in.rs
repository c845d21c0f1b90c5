//! The drop-ins' options: exactly those of the scripts whose place they take.

use clap::{ArgGroup, Parser};

use super::{ClassArgs, DrillModeArgs};

/// Makes a backup of the database of DATABASE_URL, as `pgkeep backup` does.
#[derive(Debug, Parser)]
#[command(name = "backup-database", version, max_term_width = 100)]
pub(crate) struct BackupDatabase {
    #[command(flatten)]
    pub(crate) class: ClassArgs,
    /// Print the plan, write nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Tell the details too
    #[arg(long)]
    pub(crate) verbose: bool,
    /// Keep it in the local directory only
    #[arg(long)]
    pub(crate) no_upload: bool,
}

/// Restores a backup, lists backups or verifies one, as `pgkeep restore`, `list` and `verify` do.
#[derive(Debug, Parser)]
#[command(
    name = "restore-database",
    version,
    max_term_width = 100,
    arg_required_else_help = true,
    group = ArgGroup::new("which").required(true).args(["backup", "from_s3", "latest", "list_backups"])
)]
pub(crate) struct RestoreDatabase {
    /// A backup's path or name
    #[arg(value_name = "backup-file")]
    pub(crate) backup: Option<String>,
    /// Restore from this URL
    #[arg(long, value_name = "URL")]
    pub(crate) from_s3: Option<String>,
    /// Restore the newest backup
    #[arg(long)]
    pub(crate) latest: bool,
    /// List the backups, newest first; the fourth field is the name
    #[arg(long)]
    pub(crate) list_backups: bool,
    /// Print the plan, change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Only verify the backup
    #[arg(long)]
    pub(crate) verify_only: bool,
    /// Don't ask
    #[arg(long)]
    pub(crate) force: bool,
    /// Restore into this database instead
    #[arg(long, value_name = "NAME")]
    pub(crate) target_db: Option<String>,
    /// Tell the details too
    #[arg(long)]
    pub(crate) verbose: bool,
}

/// Tries backup and restore out and writes a report to test-results/, as `pgkeep drill` does.
#[derive(Debug, Parser)]
#[command(name = "test-backup-restore", version, max_term_width = 100)]
pub(crate) struct TestBackupRestore {
    #[command(flatten)]
    pub(crate) mode: DrillModeArgs,
}

/// Sets up alarms, a dashboard and messages for the database of DATABASE_URL, as `pgkeep monitor` does.
#[derive(Debug, Parser)]
#[command(
    name = "setup-backup-monitoring",
    version,
    max_term_width = 100,
    arg_required_else_help = true,
    group = ArgGroup::new("what").required(true).args(["install", "test", "remove"])
)]
pub(crate) struct SetupBackupMonitoring {
    /// Make a topic, a subscription, alarms and a dashboard
    #[arg(long)]
    pub(crate) install: bool,
    /// Subscribe this address
    #[arg(long, value_name = "ADDRESS", requires = "install")]
    pub(crate) email: Option<String>,
    /// Use this topic; make none
    #[arg(long, value_name = "ARN", requires = "install")]
    pub(crate) sns_topic: Option<String>,
    /// Send a metric and a message, and say who has confirmed
    #[arg(long)]
    pub(crate) test: bool,
    /// Remove exactly what --install made
    #[arg(long)]
    pub(crate) remove: bool,
}
