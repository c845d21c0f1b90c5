//! What goes wrong: the right exit code, a message with a hint, nothing half-made, no stray process, the last good backup kept.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use pgkeep_testkit::{Fault, FaultyTools, PostgresServer, saas};

use crate::setup::{Run, Setup};

/// A set-up with one good backup.
fn with_one_good_backup(label: &str) -> (pgkeep_testkit::ScratchDatabase<'static>, Setup) {
    let source = PostgresServer::shared(17).create_database(label);
    saas::load(source.server(), &source, 0.05);
    let setup = Setup::new(&source.url());
    setup.pgkeep(&["backup"]);
    (source, setup)
}

/// Nothing was added to what the first backup left, and that backup is as good as it was.
fn nothing_half_made(setup: &Setup, before: &[String]) {
    assert_eq!(setup.files(), before);
    let hidden: Vec<_> = setup
        .everything_written()
        .into_iter()
        .map(|(path, _)| path.display().to_string())
        .filter(|path| path.contains("partial") || path.contains(".tmp"))
        .collect();
    assert!(hidden.is_empty(), "{hidden:?}");
    setup.pgkeep(&["verify", "--all", "--deep"]);
}

fn is_alive(process: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    !status.is_empty() && !status.contains(") Z ")
}

fn signal(process: u32, signal: &str) {
    let sent = Command::new("kill").args([signal, &process.to_string()]).status().expect("kill can be run");
    assert!(sent.success());
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < until, "{what}: not within 30 s");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_pg_dump_that_dies_or_lies_leaves_nothing() {
    let (_source, mut setup) = with_one_good_backup("dying");
    let before = setup.files();
    // One engine takes the rows from it, the other only the table of contents.
    for (engine, fault) in [
        ("pg_dump", Fault::DiesAfter { bytes: 3_000_000 }),
        ("pg_dump", Fault::KilledAfter { bytes: 3_000_000 }),
        ("pg_dump", Fault::TruncatesAfter { bytes: 3_000_000 }),
        ("pg_dump", Fault::TruncatesAfter { bytes: 0 }),
        ("pg_dump", Fault::EndsWith(1)),
        ("parallel", Fault::DiesAfter { bytes: 3_000 }),
        ("parallel", Fault::KilledAfter { bytes: 3_000 }),
        ("parallel", Fault::TruncatesAfter { bytes: 3_000 }),
        ("parallel", Fault::TruncatesAfter { bytes: 0 }),
    ] {
        let tools = FaultyTools::new(17, "pg_dump", &fault);
        setup.set("PG_BINDIRS", tools.path());
        setup.set("BACKUP_ENGINE", engine);
        let run = setup.run("pgkeep", &["backup"]);
        assert!(matches!(run.code, Some(1 | 5)), "{fault:?}\n{run}");
        assert!(run.stderr.contains("hint:"), "{fault:?}\n{run}");
        assert!(tools.processes().into_iter().all(|process| !is_alive(process)), "{fault:?}: a process was left");
        nothing_half_made(&setup, &before);
    }
}

#[test]
fn warnings_of_pg_dump_are_told_and_kept() {
    let (_source, mut setup) = with_one_good_backup("warned");
    let tools = FaultyTools::new(17, "pg_dump", &Fault::Warns("pg_dump: warning: the moon is full".to_owned()));
    setup.set("PG_BINDIRS", tools.path());
    let run = setup.pgkeep(&["backup", "--weekly", "--output", "json"]);
    let document: serde_json::Value = serde_json::from_str(&run.stdout).expect("JSON");
    assert_eq!(document["outcome"], "warnings", "{run}");
    assert!(run.stdout.contains("the moon is full"), "{run}");
    let strict = setup.run("pgkeep", &["backup", "--monthly", "--strict"]);
    assert_eq!(strict.code, Some(8), "{strict}");
}

#[test]
fn ctrl_c_and_sigterm_end_all_that_was_begun() {
    let (source, mut setup) = with_one_good_backup("interrupted");
    let before = setup.files();
    for (name, code, engine, bytes) in [
        ("-INT", 130, "pg_dump", 2_000_000),
        ("-TERM", 143, "pg_dump", 2_000_000),
        ("-INT", 130, "parallel", 2_000),
        ("-TERM", 143, "parallel", 2_000),
    ] {
        let tools = FaultyTools::new(17, "pg_dump", &Fault::HangsAfter { bytes });
        setup.set("PG_BINDIRS", tools.path());
        setup.set("BACKUP_ENGINE", engine);
        let child = setup.start("pgkeep", &["backup"]);
        eventually("pg_dump runs", || !tools.processes().is_empty());
        std::thread::sleep(Duration::from_millis(500));
        signal(child.id(), name);
        let run = Run::of(&child.wait_with_output().expect("it ends"));
        assert_eq!(run.code, Some(code), "{run}");
        assert!(tools.processes().into_iter().all(|process| !is_alive(process)), "a process was left");
        nothing_half_made(&setup, &before);
        let sessions = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND pid <> pg_backend_pid()",
            source.name()
        );
        eventually("sessions end", || source.server().psql("postgres", &sessions).trim() == "0");
    }
}

#[test]
fn a_second_run_is_locked_out_and_told_by_whom() {
    let (_source, mut setup) = with_one_good_backup("locked");
    let tools = FaultyTools::new(17, "pg_dump", &Fault::HangsAfter { bytes: 2_000 });
    let real = pgkeep_testkit::client_tools_path();
    setup.set("PG_BINDIRS", tools.path());
    let first = setup.start("pgkeep", &["backup"]);
    eventually("pg_dump runs", || !tools.processes().is_empty());
    setup.set("PG_BINDIRS", real);
    let second = setup.run("pgkeep", &["backup", "--wait", "0s"]);
    second.failed_with(7, &["locked by"]);
    signal(first.id(), "-TERM");
    first.wait_with_output().expect("it ends");
    setup.pgkeep(&["backup", "--weekly"]);
}

#[test]
fn the_server_going_away_half_way_is_an_error_with_a_hint() {
    let server = PostgresServer::start(17, &pgkeep_testkit::PostgresOptions::default());
    server.psql("postgres", "CREATE DATABASE app");
    saas::load(&server, "app", 0.1);
    let mut setup = Setup::new(&server.url("app"));
    setup.pgkeep(&["backup"]);
    let before = setup.files();
    let tools = FaultyTools::new(17, "pg_dump", &Fault::Slow { milliseconds: 50 });
    setup.set("PG_BINDIRS", tools.path());
    setup.set("BACKUP_ENGINE", "pg_dump");
    let child = setup.start("pgkeep", &["backup"]);
    eventually("pg_dump runs", || !tools.processes().is_empty());
    std::thread::sleep(Duration::from_millis(700));
    server.kill();
    let run = Run::of(&child.wait_with_output().expect("it ends"));
    run.failed_with(5, &[]);
    assert!(tools.processes().into_iter().all(|process| !is_alive(process)), "a process was left");
    nothing_half_made(&setup, &before);
}

#[test]
fn a_wrong_password_a_wrong_host_and_a_missing_database_are_told_apart() {
    let server = PostgresServer::shared(17);
    let wrong = Setup::new(&server.url_as("postgres", "not-the-passw0rd", "postgres"));
    wrong.run("pgkeep", &["backup"]).failed_with(5, &["password"]);
    let closed = Setup::new("postgresql://postgres:x@127.0.0.1:1/app");
    closed.run("pgkeep", &["backup"]).failed_with(5, &["127.0.0.1:1"]);
    let missing = Setup::new(&server.url("no_such_database"));
    missing.run("pgkeep", &["backup"]).failed_with(5, &["no_such_database"]);
    let nonsense = Setup::new("not a connection string");
    nonsense.run("pgkeep", &["backup"]).failed_with(2, &["DATABASE_URL"]);
    for setup in [wrong, closed, missing, nonsense] {
        assert!(setup.files().is_empty(), "{:?}", setup.files());
    }
}

/// A filesystem of its own, too small for the second backup.
struct SmallDisk<'p>(&'p Path);

impl<'p> SmallDisk<'p> {
    fn mount(path: &'p Path, megabytes: u32) -> Self {
        std::fs::create_dir_all(path).expect("a folder");
        let options = format!("size={megabytes}m,mode=0700");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(path)
            .status()
            .expect("mount can be run");
        assert!(mounted.success(), "the end-to-end tests run as root, for they mount a small disk");
        Self(path)
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0).status();
    }
}

#[test]
fn a_full_disk_is_told_and_leaves_the_last_good_backup() {
    let source = PostgresServer::shared(17).create_database("full");
    saas::load(source.server(), &source, 0.05);
    let setup = Setup::new(&source.url()).with("BACKUP_COMPRESSION", "none");
    let folder = setup.backups();
    let _disk = SmallDisk::mount(&folder, 16);
    setup.pgkeep(&["backup", "--weekly"]);
    let before = setup.files();
    let run = setup.run("pgkeep", &["backup"]);
    run.failed_with(6, &["space"]);
    nothing_half_made(&setup, &before);
}
