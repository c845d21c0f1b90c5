//! `pgkeep schedule`, and the drop-in `setup-backup-cron`.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Parser, Subcommand};

/// Have backups made by themselves, by cron or systemd.
///
/// Times are cron expressions in UTC. On a host in another zone, whose cron daemon knows only that, jobs look every hour
/// whether they are due.
#[derive(Debug, Args)]
pub(crate) struct ScheduleArgs {
    #[command(subcommand)]
    pub(crate) action: ScheduleAction,
}

/// What to do with the schedule.
#[derive(Debug, Subcommand)]
pub(crate) enum ScheduleAction {
    Install(ScheduleInstallArgs),
    Show(SchedulePlace),
    Test(SchedulePlace),
    Remove(ScheduleRemoveArgs),
}

/// Write the jobs into the crontab or as systemd timers; what is there of them is replaced.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ScheduleInstallArgs {
    /// When daily backups are made, none for never [env: BACKUP_SCHEDULE_DAILY] [default: 0 3 * * *]
    #[arg(long, value_name = "EXPRESSION")]
    pub(crate) daily: Option<String>,
    /// When weekly backups are made [env: BACKUP_SCHEDULE_WEEKLY] [default: 0 2 * * 0]
    #[arg(long, value_name = "EXPRESSION")]
    pub(crate) weekly: Option<String>,
    /// When monthly backups are made [env: BACKUP_SCHEDULE_MONTHLY] [default: 0 1 1 * *]
    #[arg(long, value_name = "EXPRESSION")]
    pub(crate) monthly: Option<String>,
    /// When the newest backup is verified [env: BACKUP_SCHEDULE_VERIFY] [default: never]
    #[arg(long, value_name = "EXPRESSION")]
    pub(crate) verify: Option<String>,
    /// When the newest backup is restored as a test [env: BACKUP_SCHEDULE_DRILL] [default: never]
    #[arg(long, value_name = "EXPRESSION")]
    pub(crate) drill: Option<String>,
    /// Longest random delay of each backup, under an hour [env: BACKUP_SCHEDULE_JITTER] [default: 5m]
    #[arg(long, value_name = "DURATION")]
    pub(crate) jitter: Option<String>,
    /// Print what would be written, write nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Write the systemd units into this folder and start nothing
    #[arg(long, value_name = "DIR", conflicts_with = "cron")]
    pub(crate) unit_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) place: SchedulePlace,
}

/// Take exactly the jobs out again.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ScheduleRemoveArgs {
    /// Print what would be removed, remove nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) place: SchedulePlace,
}

/// Show or test the jobs that are there.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct SchedulePlace {
    /// The crontab, whatever else there is
    #[arg(long)]
    pub(crate) cron: bool,
    /// systemd timers: the system's for root, else the user's own
    #[arg(long, conflicts_with = "cron")]
    pub(crate) systemd: bool,
    /// The user whose jobs they are (root only)
    #[arg(long, value_name = "USER")]
    pub(crate) user: Option<String>,
    /// Tells several schedules of one user apart [default: --database, where it is given]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
}

/// Installs, shows, tests or removes the scheduled backups, as `pgkeep schedule` does.
#[derive(Debug, Parser)]
#[command(
    name = "setup-backup-cron",
    version,
    max_term_width = 100,
    arg_required_else_help = true,
    group = ArgGroup::new("what").required(true).args(["install", "show", "test", "remove"])
)]
pub(crate) struct SetupBackupCron {
    /// Install the jobs
    #[arg(long)]
    pub(crate) install: bool,
    /// Show the jobs, and when each ran last
    #[arg(long)]
    pub(crate) show: bool,
    /// Run each job's checks as cron would
    #[arg(long)]
    pub(crate) test: bool,
    /// Remove the jobs
    #[arg(long)]
    pub(crate) remove: bool,
}
