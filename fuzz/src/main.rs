//! `pgkeep-fuzz TARGET [MUTATIONS [SEED]]`: replays a target's corpus and mutates it, in bounded memory.
//!
//! With `PGKEEP_FUZZ_CURRENT` each input is written there before it is run, for one that ends the process.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it talks to the person who started it")]

use std::path::PathBuf;
use std::process::ExitCode;

use pgkeep_fuzz::{Target, short};
use rustix::process::{Resource, Rlimit, setrlimit};

/// Address space of a run, in bytes: the program itself, and what an input may make it ask for.
const MEMORY: u64 = 1 << 30;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default: u64| arguments.get(at).map_or(Ok(default), |text| text.parse());
    let target = arguments.first().and_then(|name| Target::named(name));
    let (Some(target), Ok(mutations), Ok(seed)) = (target, number(1, 10_000), number(2, 1)) else {
        let names: Vec<&str> = Target::ALL.iter().map(|target| target.name).collect();
        eprintln!("pgkeep-fuzz TARGET [MUTATIONS [SEED]]\ntargets: {}", names.join(" "));
        return ExitCode::from(2);
    };
    for (resource, most) in [(Resource::As, MEMORY), (Resource::Core, 0)] {
        if let Err(error) = setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) }) {
            eprintln!("memory cannot be bounded: {error}");
            return ExitCode::FAILURE;
        }
    }
    let current = std::env::var_os("PGKEEP_FUZZ_CURRENT").map(PathBuf::from);
    let before = |input: &[u8]| {
        if let Some(path) = &current {
            let _ = std::fs::write(path, input);
        }
    };
    let failures = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("failures");
    match short(target, mutations, seed, &failures, before) {
        Ok(Ok(report)) => {
            println!("{}: {} seeds, {} mutations", target.name, report.seeds, report.mutations);
            ExitCode::SUCCESS
        }
        Ok(Err(failure)) => {
            eprintln!("{}: a promise is broken by {}", target.name, failure.input.display());
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{}: {error}", target.name);
            ExitCode::FAILURE
        }
    }
}
