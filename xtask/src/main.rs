//! The project's own tasks, `cargo xtask <task>`: everything a machine with Rust, a C compiler and a
//! shell needs to try, test and check pgkeep, without a step by hand.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a task talks to the person who started it")]

mod apt;
mod bench;
mod checks;
mod ci;
mod demo;
mod docker;
mod images;
mod process;
mod python;
mod suite;
mod tools;

use std::process::ExitCode;

use process::Result;

const USAGE: &str = "\
Usage: cargo xtask <task>

Tasks:
  demo     back up, lose, restore and prove a sample database on a throw-away server (pgkeep demo; --scale, --keep)
  test     run every test: unit, property, contract and end to end (Docker; installs what is missing)
  ci       format, lints, docs, and the rules of the house
  bench    compare with PostgreSQL's own tools; puts tables and a plot into docs/BENCHMARKS.md
           (--databases balanced,one-table,small-tables,jsonb,toast,large-objects --store disk,bucket --scale 9.5 --rounds 3)
  images   build the test servers' Docker images and unpack their client tools
           and install the stand-ins for other services (PyPI)
           (PGKEEP_BASE_IMAGES=pull: start from pulled debian images instead of debootstrap)
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done: Result = match arguments.as_slice() {
        ["demo", arguments @ ..] => demo::run(arguments),
        ["test", arguments @ ..] => suite::run(arguments),
        ["ci"] => ci::run(),
        ["bench", arguments @ ..] => bench::run_all(arguments),
        ["images"] => images::ensure().and_then(|()| python::ensure()),
        ["help" | "--help" | "-h"] => {
            print!("{USAGE}");
            Ok(())
        }
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("xtask: {reason}");
            ExitCode::FAILURE
        }
    }
}
