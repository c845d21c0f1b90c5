//! Memory does not grow with a value either (law 10).

use std::process::Child;
use std::time::Duration;

use pgkeep_testkit::{PostgresServer, contents};

use crate::programs::{Run, Setup};

/// A value of 250 MB, which is 500 MB of COPY text (PostgreSQL itself can't dump one twice that large), in the first row of the
/// first table; and many small rows.
const VALUE: &str = "
    CREATE TABLE a_value (n int, value bytea);
    ALTER TABLE a_value ALTER value SET STORAGE EXTERNAL;
    INSERT INTO a_value VALUES (1, decode(repeat('c0ffee1517', 50000000), 'hex'));
    INSERT INTO a_value SELECT n, sha256(n::text::bytea) FROM generate_series(2, 200000) n;
    CREATE TABLE many AS SELECT * FROM a_value WHERE n > 1";

/// The value as COPY text, with its row.
const TEXT_KIB: u64 = 500_000_002 / 1024;

/// What four jobs may take, whatever they read.
const ALLOWED_KIB: u64 = 256 << 10;

/// Peak resident memory, in KiB.
#[derive(Debug, Default)]
struct Peaks {
    program: u64,
    /// Of that child that had the most.
    child: u64,
}

fn peak_kib(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|value| value.trim().trim_end_matches(" kB").parse().ok()).unwrap_or_default()
}

/// The processes that this one has started and not buried.
fn children(process: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().filter_map(|id| id.parse().ok()).collect::<Vec<u32>>()).collect()
}

/// Runs it to its end, which must be a good one.
fn peaks(mut program: Child) -> Peaks {
    let mut peaks = Peaks::default();
    while program.try_wait().unwrap().is_none() {
        peaks.program = peaks.program.max(peak_kib(program.id()));
        for child in children(program.id()) {
            peaks.child = peaks.child.max(peak_kib(child));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let run = Run::of(&program.wait_with_output().unwrap());
    assert_eq!(run.code, Some(0), "{run}");
    assert!(peaks.program > 0 && peaks.child > 0, "nothing was seen: {peaks:?}");
    peaks
}

#[test]
fn a_value_of_500_mb_of_text_passes_in_parts() {
    let server = PostgresServer::shared(17);
    let source = server.create_database("value");
    source.psql(VALUE);
    let setup = Setup::new(&source.url());
    let made = peaks(setup.start("pgkeep", &["backup", "--jobs", "4", "--engine", "parallel"]));
    let target = format!("{}_target", source.name());
    let restored =
        peaks(setup.start("pgkeep", &["restore", "--latest", "--jobs", "4", "--target-db", &target, "--yes"]));
    assert_eq!(contents(server, &source), contents(server, &target));
    // It goes through both in parts.
    let peaks = [("backup", made.program), ("restore", restored.program), ("pg_restore", restored.child)];
    for (what, peak) in peaks {
        assert!(peak <= ALLOWED_KIB, "{what}: {peak} KiB");
    }
    // The end of its table of contents leaves pg_dump's buffer with its first row, which libpq takes in as a whole: once as it comes,
    // once as it is handed over (POSTGRES A20).
    assert!(made.child <= ALLOWED_KIB + 2 * TEXT_KIB, "pg_dump: {} KiB", made.child);
}
