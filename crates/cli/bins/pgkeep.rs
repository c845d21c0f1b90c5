//! Backs up PostgreSQL, proves that it can be restored, and restores it.

use std::process::ExitCode;

use pgkeep::{Program, Surroundings, run};

fn main() -> ExitCode {
    run(Program::Pgkeep, std::env::args_os().skip(1), Surroundings::of_this_process())
}
