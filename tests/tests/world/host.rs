//! Hosts that are set up oddly: locale, time zone, home, working directory, streams, limits, names that are not found.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use pgkeep_testkit::{PostgresServer, program};

use crate::ground::{backups, ended, nothing_half_made, tiny, wait};
use crate::setup::{Run, Setup};
use crate::table::suffices;

/// Runs it, and the backup that it makes is whole.
fn makes_a_backup(setup: &Setup, mut command: Command, what: &str) {
    let before = backups(&setup.backups());
    let run = Run::of(&command.output().unwrap());
    assert_eq!(run.code, Some(0), "{what}\n{run}");
    assert_eq!(backups(&setup.backups()), before + 1, "{what}\n{run}");
}

#[test]
fn a_backup_is_made_whatever_locale_time_zone_home_and_directory_it_is_started_with() {
    let (_source, setup) = tiny("odd");
    let removed = setup.folder().join("removed");
    let cases: [(&str, &[(&str, &str)]); 8] = [
        ("C", &[("LANG", "C"), ("LC_ALL", "C")]),
        ("Turkish", &[("LANG", "tr_TR.UTF-8"), ("LC_ALL", "tr_TR.UTF-8")]),
        ("no such locale", &[("LC_ALL", "xx_YY.latin9"), ("LANGUAGE", "tlh")]),
        ("Nepal", &[("TZ", "Asia/Kathmandu")]),
        ("the date line", &[("TZ", "Pacific/Kiritimati")]),
        ("no such zone", &[("TZ", "Nowhere/At_All")]),
        ("odd zone", &[("TZ", ":/etc/passwd")]),
        ("home is a file", &[("HOME", "/etc/passwd")]),
    ];
    let mut times = 0;
    for (what, variables) in cases {
        let mut command = setup.command("pgkeep", &["backup"]);
        command.envs(variables.iter().copied());
        makes_a_backup(&setup, command, what);
        times += 1;
    }
    // Nothing of its own is written to where it is started, /proc takes nothing, and one is gone altogether.
    let mut command = setup.command("pgkeep", &["backup"]);
    command.current_dir("/proc");
    makes_a_backup(&setup, command, "a directory that takes nothing");
    std::fs::create_dir(&removed).unwrap();
    let mut command = setup.stock("sh");
    let line = format!("cd '{0}' && rmdir '{0}' && exec '{1}' backup", removed.display(), program("pgkeep").display());
    command.args(["-c", &line]);
    makes_a_backup(&setup, command, "a directory that is gone");
    // Its name is of UTC, wherever it is made.
    let now = chrono::Utc::now();
    let days = [now - chrono::TimeDelta::hours(1), now].map(|time| time.format("daily_%Y%m%d_").to_string());
    for file in setup.files().iter().filter(|file| file.starts_with("daily_")) {
        assert!(days.iter().any(|day| file.starts_with(day)), "{file}");
    }
    setup.pgkeep(&["verify", "--all", "--deep"]);
    suffices("host::a_backup_is_made_whatever_locale_time_zone_home_and_directory_it_is_started_with", times + 2);
}

#[test]
fn streams_that_are_closed_full_or_left_cost_nothing() {
    let (_source, setup) = tiny("streams");
    let pgkeep = program("pgkeep").display().to_string();
    let mut times = 0;
    for redirection in
        ["<&-", ">&-", "2>&-", "<&- >&- 2>&-", "2>/dev/full", ">/dev/full", "2>/dev/full >/dev/null </dev/full"]
    {
        let mut command = setup.stock("sh");
        command.args(["-c", &format!("exec '{pgkeep}' backup {redirection}")]);
        makes_a_backup(&setup, command, redirection);
        times += 1;
    }
    // Whoever read along has gone.
    for stream in ["stdout", "stderr"] {
        let before = backups(&setup.backups());
        let mut command = setup.command("pgkeep", &["backup", "--output", "json", "--verbose"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        if stream == "stdout" {
            drop(child.stdout.take());
        } else {
            drop(child.stderr.take());
        }
        let run = wait(child);
        assert_eq!(run.code, Some(0), "{stream}\n{run}");
        assert_eq!(backups(&setup.backups()), before + 1);
        times += 1;
    }
    setup.pgkeep(&["verify", "--all", "--deep"]);
    suffices("host::streams_that_are_closed_full_or_left_cost_nothing", times);
}

#[test]
fn few_descriptors_are_enough_or_it_is_told() {
    let (_source, setup) = tiny("descriptors");
    let limited = |limit: u32, arguments: &[&str]| {
        let mut command = setup.stock("prlimit");
        command.arg(format!("--nofile={limit}")).arg(program("pgkeep")).args(arguments);
        Run::of(&command.output().unwrap())
    };
    let target = format!("{}_restored", _source.name());
    for arguments in
        [&["backup"][..], &["verify", "--latest", "--deep"], &["restore", "--latest", "--target-db", &target, "--yes"]]
    {
        ended(&limited(64, arguments), 0, &[], &format!("{arguments:?}"));
    }
    let made = backups(&setup.backups());
    let mut refused = 0;
    for limit in (8..40).step_by(3) {
        let run = limited(limit, &["backup", "--weekly"]);
        let what = format!("{limit} descriptors");
        nothing_half_made(&setup.backups(), &what);
        if run.code == Some(0) {
            assert!(backups(&setup.backups()) > made, "{what}");
            break;
        }
        // Whatever had no room for its files: a word, and no panic.
        assert!(matches!(run.code, Some(1 | 2 | 5 | 6)), "{what}\n{run}");
        ended(&run, run.code.unwrap(), &[], &what);
        assert_eq!(backups(&setup.backups()), made, "{what}\n{run}");
        refused += 1;
    }
    setup.pgkeep(&["backup", "--weekly"]);
    suffices("host::few_descriptors_are_enough_or_it_is_told", refused);
}

#[test]
fn few_processes_are_enough_or_it_is_told() {
    const NOBODY: u32 = 63_999;
    let (_source, setup) = tiny("processes");
    std::fs::set_permissions(setup.folder(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let limited = |limit: u32| {
        let mut command = setup.stock("prlimit");
        command.arg(format!("--nproc={limit}")).arg(program("pgkeep")).args(["backup"]).uid(NOBODY).gid(NOBODY);
        Run::of(&command.output().unwrap())
    };
    let mut refused = 0;
    for limit in [1, 2, 3, 4, 5, 6, 8, 10, 14, 20, 40, 100] {
        let run = limited(limit);
        let what = format!("{limit} processes");
        nothing_half_made(&setup.backups(), &what);
        if run.code == Some(0) {
            assert!(backups(&setup.backups()) > 0, "{what}");
            if refused > 0 && limit >= 20 {
                break;
            }
            continue;
        }
        assert!(matches!(run.code, Some(1 | 2 | 5 | 6)), "{what}\n{run}");
        ended(&run, run.code.unwrap(), &[], &what);
        refused += 1;
    }
    suffices("host::few_processes_are_enough_or_it_is_told", refused);
}

#[test]
fn names_that_are_not_found_are_named() {
    let (_source, mut setup) = tiny("names");
    let run = setup.run("pgkeep", &["backup"]);
    assert_eq!(run.code, Some(0), "{run}");
    for (name, value) in [
        ("AWS_S3_BACKUP_BUCKET", "some-bucket"),
        ("AWS_ENDPOINT_URL", "http://store.pgkeep.invalid:9000"),
        ("AWS_ACCESS_KEY_ID", "x"),
        ("AWS_SECRET_ACCESS_KEY", "x"),
        ("AWS_ALLOW_HTTP", "true"),
    ] {
        setup.set(name, value);
    }
    let run = setup.run("pgkeep", &["backup"]);
    ended(&run, 6, &["some-bucket"], "a store that is not found");
    assert_eq!(backups(&setup.backups()), 2, "the local copy is made all the same\n{run}");
    let nowhere = Setup::new("postgresql://postgres:x@db.pgkeep.invalid/app");
    ended(&nowhere.run("pgkeep", &["backup"]), 5, &["db.pgkeep.invalid"], "a server that is not found");
    drop(PostgresServer::shared(17));
}
