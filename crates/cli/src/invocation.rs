//! From arguments to one command, whichever program it was typed for.

use std::ffi::OsString;

use clap::{CommandFactory, FromArgMatches, Parser};

use crate::args::{
    BackupArgs, BackupDatabase, Command, DrillArgs, GlobalArgs, ListArgs, MonitorAction, MonitorArgs,
    MonitorInstallArgs, OutputFormat, Pgkeep, RestoreArgs, RestoreDatabase, ScheduleAction, ScheduleArgs,
    ScheduleInstallArgs, SchedulePlace, ScheduleRemoveArgs, SetupBackupCron, SetupBackupMonitoring, TestBackupRestore,
    VerifyArgs,
};

/// Which program was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// `pgkeep`.
    Pgkeep,
    /// `backup-database`.
    BackupDatabase,
    /// `restore-database`.
    RestoreDatabase,
    /// `setup-backup-cron`.
    SetupBackupCron,
    /// `test-backup-restore`.
    TestBackupRestore,
    /// `setup-backup-monitoring`.
    SetupBackupMonitoring,
}

/// One command, understood.
#[derive(Debug)]
pub(crate) struct Invocation {
    /// The program it was typed for.
    pub(crate) program: Program,
    /// Options of every command.
    pub(crate) globals: GlobalArgs,
    /// The command.
    pub(crate) command: Command,
}

impl Invocation {
    /// Understands the arguments (without the program's name).
    pub(crate) fn parse(program: Program, arguments: &[OsString]) -> Result<Self, clap::Error> {
        let with_name = std::iter::once(OsString::from(program.name())).chain(arguments.iter().cloned());
        match program {
            Program::Pgkeep => {
                let typed = Pgkeep::from_arg_matches(&Pgkeep::command().try_get_matches_from(with_name)?)?;
                Ok(Self { program, globals: typed.globals, command: typed.command })
            }
            Program::BackupDatabase => Ok(Self::backup_database(&BackupDatabase::try_parse_from(with_name)?)),
            Program::RestoreDatabase => Ok(Self::restore_database(RestoreDatabase::try_parse_from(with_name)?)),
            Program::SetupBackupCron => Ok(Self::setup_backup_cron(&SetupBackupCron::try_parse_from(with_name)?)),
            Program::TestBackupRestore => {
                let typed = TestBackupRestore::try_parse_from(with_name)?;
                let command = Command::Drill(DrillArgs { mode: typed.mode, ..DrillArgs::default() });
                Ok(Self { program, globals: GlobalArgs::default(), command })
            }
            Program::SetupBackupMonitoring => {
                Ok(Self::setup_backup_monitoring(SetupBackupMonitoring::try_parse_from(with_name)?))
            }
        }
    }

    fn backup_database(typed: &BackupDatabase) -> Self {
        let command = Command::Backup(BackupArgs {
            class: typed.class,
            dry_run: typed.dry_run,
            no_upload: typed.no_upload,
            ..BackupArgs::default()
        });
        let globals = GlobalArgs { verbose: typed.verbose, ..GlobalArgs::default() };
        Self { program: Program::BackupDatabase, globals, command }
    }

    fn restore_database(typed: RestoreDatabase) -> Self {
        let backup = typed.from_s3.or(typed.backup);
        let command = if typed.list_backups {
            Command::List(ListArgs::default())
        } else if typed.verify_only {
            Command::Verify(VerifyArgs {
                backup: backup.into_iter().collect(),
                latest: typed.latest,
                ..VerifyArgs::default()
            })
        } else {
            Command::Restore(RestoreArgs {
                backup,
                latest: typed.latest,
                dry_run: typed.dry_run,
                yes: typed.force,
                target_db: typed.target_db,
                ..RestoreArgs::default()
            })
        };
        let globals = GlobalArgs { verbose: typed.verbose, ..GlobalArgs::default() };
        Self { program: Program::RestoreDatabase, globals, command }
    }

    fn setup_backup_cron(typed: &SetupBackupCron) -> Self {
        let place = SchedulePlace::default();
        let action = if typed.install {
            ScheduleAction::Install(ScheduleInstallArgs { place, ..ScheduleInstallArgs::default() })
        } else if typed.show {
            ScheduleAction::Show(place)
        } else if typed.test {
            ScheduleAction::Test(place)
        } else {
            ScheduleAction::Remove(ScheduleRemoveArgs { place, ..ScheduleRemoveArgs::default() })
        };
        let command = Command::Schedule(ScheduleArgs { action });
        Self { program: Program::SetupBackupCron, globals: GlobalArgs::default(), command }
    }

    fn setup_backup_monitoring(typed: SetupBackupMonitoring) -> Self {
        let action = if typed.test {
            MonitorAction::Test
        } else if typed.remove {
            MonitorAction::Remove
        } else {
            let (email, sns_topic) = (typed.email, typed.sns_topic);
            MonitorAction::Install(MonitorInstallArgs { email, sns_topic, ..MonitorInstallArgs::default() })
        };
        let command = Command::Monitor(MonitorArgs { action });
        Self { program: Program::SetupBackupMonitoring, globals: GlobalArgs::default(), command }
    }
}

impl Program {
    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Pgkeep => "pgkeep",
            Self::BackupDatabase => "backup-database",
            Self::RestoreDatabase => "restore-database",
            Self::SetupBackupCron => "setup-backup-cron",
            Self::TestBackupRestore => "test-backup-restore",
            Self::SetupBackupMonitoring => "setup-backup-monitoring",
        }
    }
}

/// What stdout gets, as far as can be told from arguments that could not be understood.
pub(crate) fn output_format(program: Program, arguments: &[OsString]) -> OutputFormat {
    let words: Vec<_> = arguments.iter().map(|argument| argument.to_string_lossy()).collect();
    let json = words.iter().any(|word| word == "--output=json")
        || words.windows(2).any(|pair| pair[0] == "--output" && pair[1] == "json");
    if program == Program::Pgkeep && json { OutputFormat::Json } else { OutputFormat::Human }
}

/// The command that was probably meant, by arguments that could not be understood.
pub(crate) fn command_name(program: Program, arguments: &[OsString]) -> String {
    if program == Program::Pgkeep {
        let names: Vec<_> = Pgkeep::command().get_subcommands().map(|command| command.get_name().to_owned()).collect();
        let typed =
            arguments.iter().map(|argument| argument.to_string_lossy().into_owned()).find(|word| names.contains(word));
        return typed.unwrap_or_else(|| program.name().to_owned());
    }
    program.name().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::DrillMode;

    fn parse(program: Program, line: &str) -> Result<Invocation, clap::Error> {
        let arguments: Vec<_> = shell_words::split(line).unwrap().into_iter().map(OsString::from).collect();
        Invocation::parse(program, &arguments)
    }

    #[test]
    fn the_drop_ins_take_what_the_scripts_took() {
        for line in ["", "--daily", "--weekly --verbose", "--daily --dry-run", "--daily --no-upload", "--monthly"] {
            let invocation = parse(Program::BackupDatabase, line).unwrap();
            assert_eq!(invocation.command.name(), "backup", "{line}");
        }
        for (line, command) in [
            ("--list-backups", "list"),
            ("--latest", "restore"),
            ("/var/backups/app/daily_20251017_030001.dump.gz", "restore"),
            ("--from-s3 s3://bucket/database-backups/daily/daily_20251017.dump.gz", "restore"),
            ("--latest --dry-run", "restore"),
            ("/path/to/backup.dump.gz --verify-only", "verify"),
            ("--verify-only backup.dump.gz", "verify"),
            ("--latest --force", "restore"),
            ("--from-s3 s3://b/x.dump.gz --target-db temp_recovery --force", "restore"),
        ] {
            assert_eq!(parse(Program::RestoreDatabase, line).unwrap().command.name(), command, "{line}");
        }
        for line in ["--install", "--show", "--test", "--remove"] {
            assert_eq!(parse(Program::SetupBackupCron, line).unwrap().command.name(), "schedule", "{line}");
        }
        for line in
            ["--install", "--install --email a@b.c", "--install --sns-topic arn:aws:sns:x", "--test", "--remove"]
        {
            assert_eq!(parse(Program::SetupBackupMonitoring, line).unwrap().command.name(), "monitor", "{line}");
        }
    }

    #[test]
    fn the_drill_drop_in_has_the_scripts_modes() {
        for (line, mode) in [
            ("", DrillMode::Full),
            ("--full", DrillMode::Full),
            ("--backup-only", DrillMode::BackupOnly),
            ("--restore-only", DrillMode::RestoreOnly),
            ("--integrity-only", DrillMode::IntegrityOnly),
            ("--performance", DrillMode::Performance),
        ] {
            let Command::Drill(args) = parse(Program::TestBackupRestore, line).unwrap().command else {
                panic!("{line}")
            };
            assert_eq!(args.mode(), mode, "{line}");
        }
        let monthly = parse(Program::Pgkeep, "drill --monthly").unwrap().command;
        assert!(matches!(monthly, Command::Drill(args) if args.mode() == DrillMode::Monthly));
        for line in ["--monthly", "--full --performance", "--scratch"] {
            assert!(parse(Program::TestBackupRestore, line).is_err(), "{line}: exactly the script's options");
        }
        for line in ["drill --full --monthly", "drill --scratch --server x", "drill --bin-dir x"] {
            assert!(parse(Program::Pgkeep, line).is_err(), "{line}");
        }
    }

    #[test]
    fn what_excludes_each_other_is_refused() {
        for line in [
            "backup --daily --weekly",
            "restore",
            "restore x --latest",
            "verify",
            "verify x --all",
            "list --quiet --verbose",
        ] {
            assert!(parse(Program::Pgkeep, line).is_err(), "{line}");
        }
        assert!(parse(Program::RestoreDatabase, "x --latest").is_err());
        assert!(parse(Program::BackupDatabase, "--jobs 3").is_err(), "exactly the script's options");
        assert!(parse(Program::SetupBackupCron, "--install --remove").is_err());
    }
}
