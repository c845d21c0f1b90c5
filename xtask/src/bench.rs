//! pgkeep against PostgreSQL's own tools, and where the numbers go.

use std::fs;

use crate::images;
use crate::process::{Result, capture, cargo, run, workspace};

const BEGIN: &str = "<!-- comparison: begin -->\n";
const END: &str = "<!-- comparison: end -->";

/// Builds everything optimised, runs the comparison with `arguments` (`--scale 9.5 --rounds 3`), prints its tables and
/// puts them into docs/BENCHMARKS.md.
pub(crate) fn run_all(arguments: &[&str]) -> Result {
    images::ensure()?;
    println!("==> building with optimisation");
    run(cargo().args([
        "build",
        "--quiet",
        "--locked",
        "--release",
        "--package",
        "pgkeep",
        "--package",
        "pgkeep-benches",
    ]))?;
    println!("==> comparing; nothing else should run on this machine meanwhile");
    let programs = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), Into::into);
    let programs = programs.join("release");
    let mut compare = std::process::Command::new(programs.join("compare"));
    compare.args(arguments).env("PGKEEP_TEST_PROGRAMS", &programs).stderr(std::process::Stdio::inherit());
    let report = capture(&mut compare)?;
    println!("{report}");

    let path = workspace().join("docs/BENCHMARKS.md");
    let failed = |error: std::io::Error| format!("cannot update {}: {error}", path.display());
    let text = fs::read_to_string(&path).map_err(failed)?;
    let (before, rest) = text.split_once(BEGIN).ok_or("docs/BENCHMARKS.md does not mark where the tables go")?;
    let (_, after) = rest.split_once(END).ok_or("docs/BENCHMARKS.md does not mark where the tables end")?;
    fs::write(&path, format!("{before}{BEGIN}{report}\n{END}{after}")).map_err(failed)?;
    Ok(())
}
