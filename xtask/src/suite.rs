//! Every test there is, against the real servers.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::Instant;

use crate::process::{self, Result, cargo, on_path, seconds, workspace};
use crate::{apt, demo, images, python};

/// Programs that tests call, and the packages that have them.
const STOCK_TOOLS: [(&str, &str); 7] = [
    ("age", "age"),
    ("zstd", "zstd"),
    ("lz4", "lz4"),
    ("gzip", "gzip"),
    ("kill", "procps"),
    ("script", "bsdutils"),
    ("logrotate", "logrotate"),
];

/// Prepares what the end-to-end tests need and runs `cargo test` over the workspace; `arguments` go to it.
pub(crate) fn run(arguments: &[&str]) -> Result {
    let started = Instant::now();
    let mut missing: Vec<&str> =
        STOCK_TOOLS.iter().filter(|(tool, _)| !on_path(tool)).map(|(_, package)| *package).collect();
    // Drills start throw-away clusters.
    missing.extend((!demo::has_server()).then_some("postgresql"));
    if !missing.is_empty() {
        apt::install(&missing)?;
    }
    // Images come from the network and one core, programs from the compiler: side by side.
    std::thread::scope(|scope| {
        let images = scope.spawn(images::ensure);
        let built = build(arguments).and_then(|()| python::ensure());
        let images = images.join().unwrap_or_else(|_| Err("building the images panicked".into()));
        built.and(images)
    })?;

    let mut total = Total::default();
    println!("==> tests");
    let tested = test(&mut total, arguments, None);
    let again = if arguments.is_empty() {
        println!("==> end to end once more, by pg_dump alone");
        test(&mut total, &["--test", "end_to_end"], Some("pg_dump"))
    } else {
        Ok(())
    };

    println!("\nall tests, in {}:", seconds(started.elapsed()));
    println!("{} passed, {} failed, {} skipped", total.passed, total.failed, total.skipped);
    tested.and(again)?;
    if total.passed == 0 {
        return Err("no test was run".into());
    }
    Ok(())
}

/// Runs `cargo test` over the workspace, by a certain dump engine if one is named.
fn test(total: &mut Total, arguments: &[&str], engine: Option<&str>) -> Result {
    let programs = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), Into::into);
    let mut child = cargo()
        .args(["test", "--locked", "--workspace", "--no-fail-fast"])
        .args(arguments)
        .env("PGKEEP_TEST_PROGRAMS", programs.join("debug"))
        .envs(engine.map(|engine| ("PGKEEP_TEST_ENGINE", engine)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot run cargo: {error}"))?;
    let output = child.stdout.take().ok_or("cargo has no output")?;
    for line in BufReader::new(output).lines().map_while(std::io::Result::ok) {
        println!("{line}");
        total.add(&line);
    }
    let status = child.wait().map_err(|error| format!("cannot wait for cargo: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("tests failed: {status}").into()) }
}

fn build(arguments: &[&str]) -> Result {
    println!("==> building the programs and the tests");
    process::run(cargo().args(["build", "--quiet", "--locked", "--package", "pgkeep", "--bins"]))?;
    process::run(cargo().args(["test", "--quiet", "--locked", "--workspace", "--no-run"]).args(arguments))
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Total {
    passed: u64,
    failed: u64,
    skipped: u64,
}

impl Total {
    /// Adds up the closing lines of all test programs: `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
    fn add(&mut self, line: &str) {
        let Some((_, counts)) = line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". ")) else {
            return;
        };
        for count in counts.split("; ") {
            let Some((number, word)) = count.split_once(' ') else { continue };
            let number: u64 = number.parse().unwrap_or(0);
            match word {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.skipped += number,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Total;

    #[test]
    fn closing_lines_are_added_up() {
        let mut total = Total::default();
        total.add("test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.01s");
        total.add("test a::b ... ok");
        total.add("test result: FAILED. 4 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1s");
        assert_eq!(total, Total { passed: 7, failed: 2, skipped: 1 });
    }
}
