//! The drop-in for a crontab or runbook that calls `test-backup-restore.sh`.

use std::process::ExitCode;

use pgkeep::{Program, Surroundings, run};

fn main() -> ExitCode {
    run(Program::TestBackupRestore, std::env::args_os().skip(1), Surroundings::of_this_process())
}
