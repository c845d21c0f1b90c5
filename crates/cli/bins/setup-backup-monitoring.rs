//! The drop-in for a runbook that calls `setup-backup-monitoring.sh`.

use std::process::ExitCode;

use pgkeep::{Program, Surroundings, run};

fn main() -> ExitCode {
    run(Program::SetupBackupMonitoring, std::env::args_os().skip(1), Surroundings::of_this_process())
}
