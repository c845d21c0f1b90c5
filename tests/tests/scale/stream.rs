//! A long stream takes no more memory than a short one.

use std::process::Child;
use std::time::Duration;

use pgkeep_testkit::PostgresServer;

use crate::scaled;
use crate::setup::{Run, Setup};

/// What four jobs may take, however long they read.
const ALLOWED_KIB: u64 = 256 << 10;

fn peak_kib(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|value| value.trim().trim_end_matches(" kB").parse().ok()).unwrap_or_default()
}

/// The most resident memory that the program had, in KiB; its end must be a good one.
fn peak(mut program: Child) -> u64 {
    let mut peak = 0;
    while program.try_wait().unwrap().is_none() {
        peak = peak.max(peak_kib(program.id()));
        std::thread::sleep(Duration::from_millis(20));
    }
    let run = Run::of(&program.wait_with_output().unwrap());
    assert_eq!(run.code, Some(0), "{run}");
    assert!(peak > 0, "nothing was seen");
    peak
}

#[test]
fn a_stream_of_gigabytes_takes_no_more_memory_than_one_of_megabytes() {
    let gigabytes = scaled(2, 30);
    let server = PostgresServer::shared(17);
    let source = server.create_database("stream");
    // Rows of a mebibyte that take a hundredth of it on disk.
    source.psql(&format!(
        "CREATE TABLE long (n int, line text);
         INSERT INTO long SELECT n, repeat(md5(n::text), 32768) FROM generate_series(1, 1024 * {gigabytes}) n"
    ));
    let setup = Setup::new(&source.url()).with("BACKUP_ENGINE", "parallel");
    let made = peak(setup.start("pgkeep", &["backup", "--jobs", "4"]));
    let meta = std::fs::read_to_string(format!("{}.meta", setup.archive().display())).unwrap();
    let meta: pgkeep_core::Meta = serde_json::from_str(&meta).unwrap();
    assert_eq!(meta.engine, "parallel");
    assert!(meta.plain.bytes > gigabytes << 30, "{} bytes went through", meta.plain.bytes);
    let verified = peak(setup.start("pgkeep", &["verify", "--latest", "--deep"]));
    if std::env::var_os("PGKEEP_TEST_SCALE").is_some() {
        eprintln!("{gigabytes} GiB: backup {made} KiB, verify {verified} KiB, {} stored", meta.stored.bytes);
    }
    for (what, peak) in [("backup", made), ("verify", verified)] {
        assert!(peak <= ALLOWED_KIB, "{what}: {peak} KiB");
    }
}
