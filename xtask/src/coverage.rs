//! Which lines the tests run, by LLVM's own counters, put into docs/RELIABILITY.md.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use crate::process::{Result, capture, cargo, command, run, workspace};
use crate::{apt, suite};

/// What loses data if it is wrong.
const MEASURED: [&str; 5] = ["archive", "compress", "storage", "backup-core", "restore"];

/// The release that `cargo install` gets; its output is stable, its age is not.
const CARGO_LLVM_COV: &str = "0.9.1";

/// Runs the tests (`arguments` go to `cargo test`; all of them if there are none) with counters and writes the chapter "Coverage".
/// Lines of test modules are not counted. Programs that a test kills leave no counts: what only they ran looks untested.
pub(crate) fn run_all(arguments: &[&str]) -> Result {
    let tools = install()?;
    let target = workspace().join("target/coverage");
    let environment = environment(&tools, &target)?;
    let tested = suite::run_with(arguments, &environment);
    // What was counted is worth a look even if a test failed.
    let lcov = target.join("lcov.info");
    let mut report = cargo();
    report.args(["llvm-cov", "report", "--lcov", "--output-path"]).arg(&lcov).envs(environment);
    run(report.env("PATH", tools.path()?))?;
    let lcov = fs::read_to_string(&lcov).map_err(|error| format!("cannot read {}: {error}", lcov.display()))?;
    let files = count(&lcov, &workspace())?;
    write_chapter(&files)?;
    for (file, counted) in &files {
        if !counted.missed.is_empty() {
            println!("{file}: {}", ranges(&counted.missed));
        }
    }
    tested
}

/// Where the programs are that count and add up.
struct Tools {
    cargo_subcommands: PathBuf,
    llvm: PathBuf,
}

impl Tools {
    fn path(&self) -> Result<std::ffi::OsString> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let all = std::iter::once(self.cargo_subcommands.clone()).chain(std::env::split_paths(&path));
        std::env::join_paths(all).map_err(|error| format!("PATH: {error}").into())
    }
}

/// cargo-llvm-cov below `target`, and LLVM's tools of the compiler's own major: rustup's component, else Debian's package.
fn install() -> Result<Tools> {
    let root = workspace().join("target/tools");
    if !root.join("bin/cargo-llvm-cov").is_file() {
        println!("==> installing cargo-llvm-cov");
        run(cargo()
            .args(["install", "--quiet", "--locked", "cargo-llvm-cov", "--version", CARGO_LLVM_COV, "--root"])
            .arg(&root))?;
    }
    let facts = capture(command("rustc").arg("-vV"))?;
    let fact = |name: &str| facts.lines().find_map(|line| line.strip_prefix(name)).map(str::trim).unwrap_or_default();
    let sysroot = capture(command("rustc").args(["--print", "sysroot"]))?;
    let component = Path::new(&sysroot).join("lib/rustlib").join(fact("host:")).join("bin");
    let major = fact("LLVM version:").split('.').next().unwrap_or_default();
    let packaged = PathBuf::from(format!("/usr/lib/llvm-{major}/bin"));
    if !component.join("llvm-cov").is_file() && !packaged.join("llvm-cov").is_file() {
        apt::install(&[&format!("llvm-{major}")])?;
    }
    let llvm = if component.join("llvm-cov").is_file() { component } else { packaged };
    Ok(Tools { cargo_subcommands: root.join("bin"), llvm })
}

/// The variables under which cargo builds with counters, as cargo-llvm-cov prints them: `NAME='value'` a line.
fn environment(tools: &Tools, target: &Path) -> Result<Vec<(String, String)>> {
    let llvm = [("LLVM_COV", "llvm-cov"), ("LLVM_PROFDATA", "llvm-profdata")];
    let llvm = llvm.map(|(name, tool)| (name.to_owned(), tools.llvm.join(tool).display().to_string()));
    let mut show = cargo();
    show.args(["llvm-cov", "show-env"]).env("PATH", tools.path()?).env("CARGO_TARGET_DIR", target).envs(llvm.clone());
    let mut variables: Vec<(String, String)> = capture(&mut show)?
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.trim_matches(['\'', '"']).to_owned()))
        .collect();
    variables.extend(llvm);
    variables.push(("CARGO_TARGET_DIR".to_owned(), target.display().to_string()));
    Ok(variables)
}

/// Lines of one file that can be run.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counted {
    lines: usize,
    missed: Vec<usize>,
}

/// Reads LCOV's text (`SF:` file, `DA:` line, count) for the measured crates' sources, up to where their test modules begin.
fn count(lcov: &str, root: &Path) -> Result<BTreeMap<String, Counted>> {
    let mut files: BTreeMap<String, Counted> = BTreeMap::new();
    let mut current: Option<(String, usize)> = None;
    for line in lcov.lines() {
        if let Some(path) = line.strip_prefix("SF:") {
            current = measured(Path::new(path), root)?;
        } else if let (Some(data), Some((file, tests_from))) = (line.strip_prefix("DA:"), &current) {
            let mut numbers = data.split(',').map(|number| number.parse::<usize>().unwrap_or(0));
            let (number, times) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
            if number < *tests_from {
                let counted = files.entry(file.clone()).or_default();
                counted.lines += 1;
                if times == 0 {
                    counted.missed.push(number);
                }
            }
        }
    }
    Ok(files)
}

/// The file's name in the workspace and the line at which its tests begin, if it is one of the measured.
fn measured(path: &Path, root: &Path) -> Result<Option<(String, usize)>> {
    let Ok(relative) = path.strip_prefix(root) else { return Ok(None) };
    let name = relative.display().to_string();
    let ours = MEASURED.iter().any(|krate| name.starts_with(&format!("crates/{krate}/src/")));
    if !ours || name.ends_with("tests.rs") || name.contains("/tests/") {
        return Ok(None);
    }
    let text = fs::read_to_string(path).map_err(|error| format!("cannot read {name}: {error}"))?;
    let tests_from = text.lines().position(|line| line == "#[cfg(test)]").map_or(usize::MAX, |index| index + 1);
    Ok(Some((name, tests_from)))
}

fn write_chapter(files: &BTreeMap<String, Counted>) -> Result {
    let mut table = "| crate | lines | run by a test | of them |\n| --- | --- | --- | --- |\n".to_owned();
    let mut least = "\n| file | lines | not run | which |\n| --- | --- | --- | --- |\n".to_owned();
    for krate in MEASURED {
        let folder = format!("crates/{krate}/src/");
        let of_crate = || files.iter().filter(|(file, _)| file.starts_with(&folder)).map(|(_, counted)| counted);
        let (lines, missed) = of_crate().fold((0, 0), |sum, one| (sum.0 + one.lines, sum.1 + one.missed.len()));
        if lines > 0 {
            let share = 100.0 * (lines - missed) as f64 / lines as f64;
            let _ = writeln!(table, "| {krate} | {lines} | {} | {share:.1} % |", lines - missed);
        }
    }
    for (file, counted) in files.iter().filter(|(_, counted)| counted.missed.len() * 20 > counted.lines) {
        let (lines, missed) = (counted.lines, counted.missed.len());
        let _ = writeln!(least, "| {file} | {lines} | {missed} | {} |", ranges(&counted.missed));
    }
    let document = workspace().join("docs/RELIABILITY.md");
    let text = fs::read_to_string(&document).map_err(|error| format!("cannot read {}: {error}", document.display()))?;
    let (begin, end) = ("<!-- coverage: begin -->\n", "<!-- coverage: end -->");
    let (before, rest) = text.split_once(begin).ok_or("docs/RELIABILITY.md has no mark for the coverage")?;
    let (_, after) = rest.split_once(end).ok_or("docs/RELIABILITY.md has no end mark for the coverage")?;
    fs::write(&document, format!("{before}{begin}{table}{least}{end}{after}"))
        .map_err(|error| format!("cannot write {}: {error}", document.display()).into())
}

/// `3, 7–9`.
fn ranges(lines: &[usize]) -> String {
    let mut text: Vec<String> = Vec::new();
    let mut rest = lines;
    while let Some(&first) = rest.first() {
        let length = rest.iter().enumerate().take_while(|&(index, &line)| line == first + index).count();
        text.push(if length == 1 { first.to_string() } else { format!("{first}–{}", first + length - 1) });
        rest = &rest[length..];
    }
    text.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_follow_each_other_are_one_range() {
        assert_eq!(ranges(&[3, 7, 8, 9, 11]), "3, 7–9, 11");
    }

    #[test]
    fn lines_of_tests_and_of_other_crates_are_not_counted() {
        let root = tempfile_root("coverage");
        let source = root.join("crates/archive/src/lib.rs");
        fs::create_dir_all(source.parent().unwrap()).unwrap();
        fs::write(&source, "fn a() {}\nfn b() {}\n#[cfg(test)]\nmod tests {}\n").unwrap();
        let lcov = format!(
            "SF:{}\nDA:1,5\nDA:2,0\nDA:4,0\nend_of_record\nSF:{}\nDA:1,0\nend_of_record\n",
            source.display(),
            root.join("crates/cli/src/lib.rs").display()
        );
        let files = count(&lcov, &root).unwrap();
        assert_eq!(files.len(), 1);
        assert_eq!(files["crates/archive/src/lib.rs"], Counted { lines: 2, missed: vec![2] });
        fs::remove_dir_all(root).unwrap();
    }

    fn tempfile_root(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("xtask-{name}-{}", std::process::id()))
    }
}
