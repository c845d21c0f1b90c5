//! What was typed. What it means is decided in [`crate::settings`].

mod backup;
mod drill;
mod drop_in;
mod global;
mod housekeeping;
mod monitor;
mod restore;
mod schedule;
mod setup;

pub(crate) use backup::{BackupArgs, ClassArgs};
pub(crate) use drill::{DrillArgs, DrillMode, DrillModeArgs, StatusArgs};
pub(crate) use drop_in::{BackupDatabase, RestoreDatabase, SetupBackupMonitoring, TestBackupRestore};
pub(crate) use global::{ColorChoice, GlobalArgs, OutputFormat};
pub(crate) use housekeeping::{
    AdoptArgs, CompletionsArgs, DemoArgs, ExportArgs, IdentityArgs, KeygenArgs, ListArgs, ManArgs, PruneArgs, ShowArgs,
    UnlockArgs, VerifyArgs,
};
pub(crate) use monitor::{MonitorAction, MonitorArgs, MonitorInstallArgs};
pub(crate) use restore::{RestoreArgs, RollbackArgs};
pub(crate) use schedule::{
    ScheduleAction, ScheduleArgs, ScheduleInstallArgs, SchedulePlace, ScheduleRemoveArgs, SetupBackupCron,
};
pub(crate) use setup::{CheckArgs, DatabasesArgs, InitArgs, PolicyRole};

use clap::{CommandFactory, Parser, Subcommand};

/// Backs up PostgreSQL, proves that what it stored can be restored, and restores it.
///
/// Settings come from flags, then the environment, then --env-file (else ./.env), then the config file. The two that
/// matter: DATABASE_URL, and where backups go: AWS_S3_BACKUP_BUCKET (or BACKUP_STORE), BACKUP_DIR, or both.
#[derive(Debug, Parser)]
#[command(
    name = "pgkeep",
    version,
    propagate_version = true,
    subcommand_required = true,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    max_term_width = 100,
    after_help = crate::exit::Exit::help()
)]
pub(crate) struct Pgkeep {
    #[command(flatten)]
    pub(crate) globals: GlobalArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Backup(BackupArgs),
    Restore(RestoreArgs),
    Rollback(RollbackArgs),
    List(ListArgs),
    Show(ShowArgs),
    Verify(VerifyArgs),
    Status(StatusArgs),
    Drill(DrillArgs),
    Prune(PruneArgs),
    Adopt(AdoptArgs),
    Export(ExportArgs),
    Schedule(ScheduleArgs),
    Unlock(UnlockArgs),
    Init(InitArgs),
    Check(CheckArgs),
    Keygen(KeygenArgs),
    Monitor(MonitorArgs),
    Demo(DemoArgs),
    Completions(CompletionsArgs),
    Man(ManArgs),
}

impl Command {
    /// Whether it is for every database of the config file, one after the other.
    pub(crate) fn all_databases(&self) -> bool {
        match self {
            Self::Backup(args) => args.databases.all,
            Self::List(args) => args.databases.all,
            Self::Prune(args) => args.databases.all,
            Self::Verify(args) => args.all_databases,
            Self::Check(args) => args.databases.all,
            _ => false,
        }
    }

    /// The command's name, as typed and as in JSON documents.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Backup(_) => "backup",
            Self::Restore(_) => "restore",
            Self::Rollback(_) => "rollback",
            Self::List(_) => "list",
            Self::Show(_) => "show",
            Self::Verify(_) => "verify",
            Self::Status(_) => "status",
            Self::Drill(_) => "drill",
            Self::Prune(_) => "prune",
            Self::Adopt(_) => "adopt",
            Self::Export(_) => "export",
            Self::Schedule(_) => "schedule",
            Self::Unlock(_) => "unlock",
            Self::Init(_) => "init",
            Self::Check(_) => "check",
            Self::Keygen(_) => "keygen",
            Self::Monitor(_) => "monitor",
            Self::Demo(_) => "demo",
            Self::Completions(_) => "completions",
            Self::Man(_) => "man",
        }
    }
}

/// The definitions of every program, for completions and man pages.
pub(crate) fn programs() -> [clap::Command; 6] {
    [
        Pgkeep::command(),
        BackupDatabase::command(),
        RestoreDatabase::command(),
        SetupBackupCron::command(),
        TestBackupRestore::command(),
        SetupBackupMonitoring::command(),
    ]
}

#[cfg(test)]
mod tests {
    #[test]
    fn definitions_are_sound() {
        for program in super::programs() {
            program.debug_assert();
        }
    }
}
