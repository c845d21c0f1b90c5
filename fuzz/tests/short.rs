//! Every target: its corpus, then mutations of it, in processes with little memory.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use pgkeep_fuzz::Target;

/// A run that takes longer than this hangs.
const PATIENCE: Duration = Duration::from_mins(10);

/// Runs the targets side by side, each in a process of its own: one that asks for too much memory ends only itself.
#[test]
fn no_bytes_break_a_promise_of_a_parser() {
    let queue = Mutex::new(Target::ALL.iter());
    let next = || queue.lock().unwrap().next();
    let broken = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                while let Some(target) = next() {
                    if let Err(why) = run(target, None).or_else(|_| run(target, Some(current(target)))) {
                        broken.lock().unwrap().push(why);
                    }
                }
            });
        }
    });
    let broken = broken.into_inner().unwrap();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// Where the input lies that was being run.
fn current(target: &Target) -> PathBuf {
    std::env::temp_dir().join(format!("pgkeep-fuzz-{}-{}", target.name, std::process::id()))
}

fn run(target: &Target, current: Option<PathBuf>) -> Result<(), String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pgkeep-fuzz"));
    command.args([target.name, &target.mutations.to_string()]).stdout(Stdio::null()).stderr(Stdio::piped());
    command.envs(current.iter().map(|path| ("PGKEEP_FUZZ_CURRENT", path)));
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    let begun = Instant::now();
    while child.try_wait().map_err(|error| error.to_string())?.is_none() {
        if begun.elapsed() > PATIENCE {
            let _ = child.kill();
            let _ = child.wait();
            return Err(format!("{}: hangs ({current:?})", target.name));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    if output.status.success() {
        if let Some(path) = current {
            let _ = std::fs::remove_file(path);
        }
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(format!("{}: {}, by {current:?}\n{said}", target.name, output.status))
}

/// The page says what is read, who may have written it, and how often it is tried.
#[test]
fn the_document_lists_every_parser() {
    let rows: Vec<Vec<String>> = Target::ALL
        .iter()
        .map(|target| {
            let seeds = std::fs::read_dir(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name));
            let seeds = seeds.map_or(0, Iterator::count);
            assert!(seeds > 0, "{} has no corpus", target.name);
            let tried = format!("{seeds} seeds, {} mutations", target.mutations);
            [format!("`{}`", target.name), target.reads.to_owned(), target.from.to_owned(), tried].into()
        })
        .collect();
    pgkeep_testkit::hold_against_document("parsers", &["target", "bytes", "written by", "in every run"], &rows);
}
