//! Client tools that die, lie, hang, shout, or are not what they seem.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pgkeep_testkit::{Fault, FaultyTools};
use tempfile::TempDir;

use crate::ground::{Came, Ground, command_lines, eventually, signal};

/// How it is to end: the exit code, and a word of what is said.
struct End {
    code: i32,
    says: &'static str,
}

const fn fails(code: i32, says: &'static str) -> End {
    End { code, says }
}

/// A run with a faulty tool; what it came to, and nothing of it is left.
fn run(ground: &mut Ground, tool: &str, fault: &Fault, arguments: &[&str]) -> Came {
    let tools = FaultyTools::new(17, tool, fault);
    ground.setup.set("PG_BINDIRS", tools.path());
    let child = ground.start(arguments);
    if matches!(fault, Fault::HangsAfter { .. }) {
        eventually("the tool runs", || !tools.processes().is_empty());
        // Long enough to be waited for, whatever it does first.
        std::thread::sleep(Duration::from_millis(300));
        signal(child.id(), "-TERM");
    }
    let came = ground.wait(child);
    let what = format!("{tool}, {fault:?}");
    eventually(&format!("{what}: its processes end"), || {
        tools.processes().into_iter().all(|process| !Path::new(&format!("/proc/{process}/exe")).exists())
    });
    ground.nothing_lingers(&what);
    ground.setup.set("PG_BINDIRS", pgkeep_testkit::client_tools(17));
    came
}

fn ended(came: &Came, end: &End, what: &str) {
    assert_eq!(came.run.code, Some(end.code), "{what}\n{came}");
    assert!(came.run.stderr.contains(end.says), "{what}: nothing of {:?}\n{came}", end.says);
    // A plan that cannot be carried out says itself what is to be done.
    let explains_itself = matches!(end.code, 0 | 143) || came.error("code") == "blocked";
    assert!(explains_itself || came.run.stderr.contains("hint: "), "{what}: no hint\n{came}");
}

fn old() -> Fault {
    Fault::Version("pg_dump (PostgreSQL) 12.22".to_owned())
}

#[test]
fn a_pg_dump_that_goes_wrong_leaves_nothing_and_the_next_run_succeeds() {
    for (engine, some) in [("pg_dump", 100_000), ("parallel", 3_000)] {
        let mut ground = Ground::new("fault_tool");
        ground.setup.set("BACKUP_ENGINE", engine);
        ground.setup.pgkeep(&["backup"]);
        let before = ground.repository();
        let cases = [
            (Fault::KilledAfter { bytes: 0 }, fails(5, "signal 9")),
            (Fault::KilledAfter { bytes: some }, fails(5, "signal 9")),
            (Fault::DiesAfter { bytes: some }, fails(5, "out of luck")),
            (Fault::TruncatesAfter { bytes: 0 }, fails(5, "archive")),
            (Fault::TruncatesAfter { bytes: some }, fails(5, "archive")),
            (Fault::Idles, fails(5, "archive")),
            (Fault::HangsAfter { bytes: 0 }, fails(143, "terminated")),
            (Fault::HangsAfter { bytes: some }, fails(143, "terminated")),
            (old(), fails(2, "found 12.22")),
            (Fault::NotExecutable, fails(2, "no client tools")),
            (Fault::NoProgram, fails(2, "no client tools")),
        ];
        for (fault, end) in cases {
            let what = format!("{engine}: {fault:?}");
            let came = run(&mut ground, "pg_dump", &fault, &["backup", "--weekly"]);
            ended(&came, &end, &what);
            assert_eq!(ground.repository(), before, "{what}: it leaves something");
        }
        // With all of it written, a bad end is a bad end; a session of our own needs the beginning only.
        let came = run(&mut ground, "pg_dump", &Fault::EndsWith(1), &["backup", "--weekly"]);
        if engine == "pg_dump" {
            ended(&came, &fails(5, "exit status 1"), engine);
            assert_eq!(ground.repository(), before);
        } else {
            ended(&came, &fails(0, "Backup Complete"), engine);
        }
        let came = run(&mut ground, "pg_dump", &Fault::Floods { lines: 100_000 }, &["backup", "--monthly"]);
        ended(&came, &fails(0, "the river has left its bed"), engine);
        let longest = ground.repository().keys().map(|path| path.metadata().unwrap().len()).max();
        assert!(longest < Some(2 << 20), "what is said is kept in part: {longest:?}");
        let came = run(&mut ground, "pg_dump", &Fault::Slow { milliseconds: 1 }, &["backup"]);
        assert_eq!(came.run.code, Some(0), "{came}");
        ground.setup.pgkeep(&["verify", "--all", "--deep"]);
    }
}

#[test]
fn a_run_past_its_time_limit_ends_itself_and_the_tool_that_hangs() {
    let mut ground = Ground::new("fault_limit");
    ground.setup.set("BACKUP_TIMEOUT", "2s");
    for tool in ["pg_dump", "pg_dumpall"] {
        let tools = FaultyTools::new(17, tool, &Fault::HangsAfter { bytes: 0 });
        ground.setup.set("PG_BINDIRS", tools.path());
        let child = ground.start(&["backup"]);
        let came = ground.wait(child);
        ended(&came, &fails(1, "not done within 2 s"), tool);
        ground.nothing_lingers(tool);
        assert!(!ground.repository().keys().any(|path| path.extension().is_some_and(|end| end == "meta")));
    }
}

#[test]
fn a_pg_dumpall_that_goes_wrong_costs_the_roles_and_says_so() {
    let mut ground = Ground::new("fault_roles");
    let said = "no roles and tablespaces";
    for (fault, end) in [
        (Fault::KilledAfter { bytes: 0 }, fails(0, said)),
        (Fault::KilledAfter { bytes: 300 }, fails(0, said)),
        (Fault::DiesAfter { bytes: 300 }, fails(0, said)),
        (Fault::TruncatesAfter { bytes: 300 }, fails(0, said)),
        (Fault::Idles, fails(0, said)),
        (Fault::EndsWith(1), fails(0, said)),
        (Fault::NotExecutable, fails(0, said)),
        (Fault::NoProgram, fails(0, said)),
        (Fault::Floods { lines: 100_000 }, fails(0, "the river has left its bed")),
        (Fault::HangsAfter { bytes: 300 }, fails(143, "terminated")),
    ] {
        let came = run(&mut ground, "pg_dumpall", &fault, &["backup"]);
        ended(&came, &end, &format!("{fault:?}"));
        assert!(end.code != 0 || came.document["outcome"] == "warnings", "{fault:?}: {came}");
    }
}

#[test]
fn a_pg_restore_that_goes_wrong_never_reaches_the_live_database() {
    let mut ground = Ground::with_a_backup("fault_loads");
    let (live, databases) = (ground.look(), ground.databases());
    for arguments in [
        &["restore", "--latest", "--yes", "--skip-snapshot"][..],
        &["restore", "--latest", "--yes", "--target-db", "fault_never_made"],
        &["drill", "--restore-only"],
    ] {
        for (fault, end) in [
            (Fault::KilledMeanwhile { milliseconds: 0 }, fails(5, "killed")),
            (Fault::KilledMeanwhile { milliseconds: 60 }, fails(5, "killed")),
            (Fault::DiesAfter { bytes: 0 }, fails(5, "out of luck")),
            (Fault::Idles, fails(5, "")),
            (Fault::EndsWith(1), fails(5, "exit status 1")),
            (Fault::HangsAfter { bytes: 0 }, fails(143, "terminated")),
            (Fault::NotExecutable, fails(2, "pg_restore")),
            (Fault::NoProgram, fails(2, "pg_restore")),
            (old(), fails(2, "12.22")),
        ] {
            let tool = if fault == old() { "pg_dump" } else { "pg_restore" };
            let what = format!("{arguments:?}, {fault:?}");
            let came = run(&mut ground, tool, &fault, arguments);
            ended(&came, &end, &what);
            assert_eq!(ground.look(), live, "{what}: the live database was touched");
            assert_eq!(ground.databases(), databases, "{what}: a database is left");
        }
    }
    let came = run(&mut ground, "pg_restore", &Fault::Floods { lines: 100_000 }, &["drill", "--restore-only"]);
    assert_eq!(came.run.code, Some(0), "{came}");
    let restore = ["restore", "--latest", "--yes", "--skip-snapshot"];
    let warned = Fault::Warns("pg_restore: warning: it rains".to_owned());
    let came = run(&mut ground, "pg_restore", &warned, &restore);
    ended(&came, &fails(0, "it rains"), "warned");
    assert_eq!(came.document["outcome"], "warnings", "{came}");
}

/// A folder with the newest server's programs on this machine, one of which does this instead.
fn servers(program: &str, script: Option<&str>) -> TempDir {
    let real = |folder: PathBuf| Some(folder.join("bin")).filter(|folder| folder.join("initdb").is_file());
    let installed = std::fs::read_dir("/usr/lib/postgresql").unwrap().flatten();
    let real = installed.filter_map(|entry| real(entry.path())).max().expect("a server's programs are installed");
    let folder = tempfile::Builder::new().prefix("pgkeep-servers-").tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    for entry in std::fs::read_dir(real).unwrap().flatten() {
        let path = folder.path().join(entry.file_name());
        let faulty = entry.file_name() == program;
        let as_it_is = format!("exec '{}' \"$@\"", entry.path().display());
        let body = if faulty { script.unwrap_or_default() } else { &as_it_is };
        // Asked for its version, it is well: others look for each other by that.
        let version = format!("case \"$*\" in *-V*|*--version*) {as_it_is} ;; esac");
        std::fs::write(&path, format!("#!/bin/sh\n{version}\n{body}\n")).unwrap();
        let mode = if faulty && script.is_none() { 0o644 } else { 0o755 };
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    folder
}

/// What hangs in the place of a server's program, as its command line shows it.
const HANGING: &str = "sleep 61803";

#[test]
fn a_server_for_a_drill_that_goes_wrong_is_gone_with_its_folder() {
    let ground = Ground::with_a_backup("fault_server");
    // The server runs as somebody else.
    for folder in [ground.setup.folder(), &ground.setup.folder().join("tmp")] {
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    for (program, script, code, says) in [
        ("initdb", Some("echo 'initdb: error: out of luck' >&2; exit 1"), 1, "out of luck"),
        ("initdb", Some("sleep 61803 & wait"), 143, "terminated"),
        ("initdb", None, 2, "initdb cannot be run"),
        ("postgres", Some("echo 'FATAL: out of luck' >&2; exit 1"), 5, "out of luck"),
        ("postgres", Some("sleep 61803 & wait"), 143, "terminated"),
        ("postgres", None, 5, "did not start"),
    ] {
        let folder = servers(program, script);
        let what = format!("{program}: {script:?}");
        let path = folder.path().to_str().unwrap();
        let is_running = |mark: &str| command_lines().iter().any(|line| line.contains(mark));
        let child = ground.start(&["drill", "--restore-only", "--scratch", "--bin-dir", path]);
        if code == 143 {
            eventually(&what, || is_running(HANGING));
            signal(child.id(), "-TERM");
        }
        let came = ground.wait(child);
        assert_eq!(came.run.code, Some(code), "{what}\n{came}");
        assert!(came.run.stderr.contains(says), "{what}: nothing of {says:?}\n{came}");
        eventually(&format!("{what}: no process is left"), || !is_running(path) && !is_running(HANGING));
        ground.nothing_lingers(&what);
    }
}
