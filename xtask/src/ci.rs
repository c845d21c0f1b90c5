//! What must hold of every change before a test is run.

use std::process::Command;
use std::time::Instant;

use crate::checks;
use crate::process::{self, Result, cargo, seconds};

pub(crate) fn run() -> Result {
    step("format", || process::run(cargo().args(["fmt", "--all", "--check"])))?;
    step("rules of the house", checks::run)?;
    step("lints", || {
        process::run(cargo().args([
            "clippy",
            "--quiet",
            "--locked",
            "--workspace",
            "--all-targets",
            "--",
            "--deny",
            "warnings",
        ]))
    })?;
    step("documentation", || {
        process::run(documentation().args(["doc", "--quiet", "--locked", "--workspace", "--no-deps"]))
    })?;
    Ok(())
}

fn documentation() -> Command {
    let mut cargo = cargo();
    cargo.env("RUSTDOCFLAGS", "--deny warnings");
    cargo
}

fn step(name: &str, check: impl FnOnce() -> Result) -> Result {
    let started = Instant::now();
    println!("==> {name}");
    check()?;
    println!("    ok, {}", seconds(started.elapsed()));
    Ok(())
}
