//! Memory does not grow with the database (law 10).

use std::time::Duration;

use pgkeep_testkit::{PostgresServer, saas};

use crate::setup::Setup;

/// Peak resident memory of a backup with four jobs, in KiB.
fn peak_kib(scale: f64) -> u64 {
    let source = PostgresServer::shared(17).create_database("memory");
    saas::load(source.server(), &source, scale);
    let setup = Setup::new(&source.url());
    let mut child = setup.start("pgkeep", &["backup", "--jobs", "4"]);
    let mut peak = 0;
    loop {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        peak = peak.max(line.and_then(|value| value.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0));
        if let Some(status) = child.try_wait().expect("it can be waited for") {
            assert!(status.success());
            return peak;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_backup_with_four_jobs_stays_below_256_mib_and_does_not_grow() {
    let small = peak_kib(0.2);
    let large = peak_kib(1.0);
    assert!(large < 256 << 10, "{large} KiB");
    assert!(large < small + (96 << 10), "{small} KiB, then {large} KiB");
}
