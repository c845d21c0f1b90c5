//! pgkeep against PostgreSQL's own tools, and where the numbers go.

use std::process::Command;

use crate::process::{Result, cargo, on_path, run, workspace};
use crate::{apt, images, python};

/// Builds everything optimised and runs the comparison with `arguments` (`--databases toast --scale 9.5 --rounds 3`), which
/// prints its tables and puts them into docs/BENCHMARKS.md.
pub(crate) fn run_all(arguments: &[&str]) -> Result {
    images::ensure()?;
    python::ensure()?;
    if !on_path("zstd") {
        apt::install(&["zstd"])?;
    }
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
    let mut compare = Command::new(programs.join("compare"));
    compare.arg("--document").arg(workspace().join("docs/BENCHMARKS.md")).args(arguments);
    run(compare.env("PGKEEP_TEST_PROGRAMS", &programs))
}
