//! The log file, and what stderr gets.

use std::fs::File;
use std::process::Stdio;

use crate::{World, nobody};

#[test]
fn of_a_failed_backup() {
    let world = World::new();
    let gave = world.run("backup-database", "--daily", &[("DATABASE_URL", "postgresql://ada@h/d?sslmood=require")]);
    assert_eq!(gave.code, 2);
    let log = world.read("backups.log");
    assert_eq!(log, gave.stderr, "stderr that is no terminal gets the same lines");
    insta::assert_snapshot!(world.stable(&log), @r"
    [TIME] [INFO] ==========================================
    [TIME] [INFO] Database Backup Started
    [TIME] [INFO] ==========================================
    [TIME] [INFO] Backup Type: daily
    [TIME] [INFO] Timestamp: [STAMP]
    [TIME] [ERROR] DATABASE_URL can't be used: connection parameter sslmood is not known; did you mean sslmode?
    [TIME] [ERROR] hint: the form is postgresql://user:password@host:5432/dbname, with special characters percent-encoded
    ");
}

#[test]
fn restores_have_their_own() {
    let world = World::new();
    let url = nobody();
    assert_eq!(world.run("restore-database", "--latest", &[("DATABASE_URL", &url)]).code, 3);
    assert!(world.read("restores.log").contains("[INFO] Database Restore Started"));
    assert!(!world.path().join("backups.log").exists());
}

#[test]
fn each_line_once_where_stderr_is_the_log_file() {
    let world = World::new();
    let log = File::options().append(true).create(true).open(world.path().join("backups.log")).unwrap();
    let status = std::process::Command::new(env!("CARGO_BIN_EXE_backup-database"))
        .current_dir(world.path())
        .env_clear()
        .env("LOG_FILE", world.path().join("backups.log"))
        .stdout(Stdio::from(log.try_clone().unwrap()))
        .stderr(Stdio::from(log))
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(2));
    let log = world.read("backups.log");
    assert_eq!(log.matches("DATABASE_URL is not set").count(), 1, "{log}");
}

#[test]
fn the_files_that_settings_come_from_are_named() {
    let world = World::new();
    world.write(".env", "BACKUP_JOBS=2\n");
    world.write("pgkeep.toml", "wait = '1s'\n");
    let gave = world.pgkeep("backup", &[("DATABASE_URL", &nobody())]);
    assert!(!gave.stderr.contains("Settings from"), "{}", gave.stderr);
    let log = world.stable(&world.read("backups.log"));
    assert!(
        log.starts_with(
            "[TIME] [INFO] Settings from [FOLDER]/.env\n[TIME] [INFO] Settings from [FOLDER]/pgkeep.toml\n"
        ),
        "{log}"
    );
}

#[test]
fn an_unwritable_log_is_a_warning_and_nothing_more() {
    let world = World::new();
    world.write("file", "");
    let gave = world.pgkeep("prune", &[("LOG_FILE", "file/backups.log")]);
    assert_eq!(gave.code, 0);
    assert!(gave.stderr.contains("[WARN] no log file:"), "{}", gave.stderr);
}

#[test]
fn reading_commands_and_dry_runs_write_none() {
    let world = World::new();
    let url = nobody();
    world.pgkeep("list", &[]);
    world.pgkeep("backup --dry-run", &[("DATABASE_URL", &url)]);
    world.pgkeep("prune --dry-run", &[]);
    assert!(!world.path().join("backups.log").exists());
    assert!(!world.path().join("backups").exists(), "a dry run makes no directory");
}

#[test]
fn quiet_and_verbose() {
    let world = World::new();
    let url = nobody();
    let quiet = world.pgkeep("backup --quiet", &[("DATABASE_URL", &url)]).stderr;
    assert!(quiet.lines().all(|line| line.contains("[ERROR]")), "{quiet}");
    world.write(".env", "BACKUP_JOBS=2\n");
    let verbose = world.pgkeep("backup --verbose", &[("DATABASE_URL", &url)]).stderr;
    assert!(verbose.contains("Settings from [FOLDER]/.env") || verbose.contains("/.env"), "{verbose}");
}

#[test]
fn several_processes_at_once_rotate_once_and_lose_no_line() {
    let world = World::new();
    world.write("backups.log", "[2020-01-01 03:00:01] [INFO] yesterday\n");
    let yesterday = std::time::SystemTime::now() - std::time::Duration::from_hours(24);
    File::options().append(true).open(world.path().join("backups.log")).unwrap().set_modified(yesterday).unwrap();
    let run = || {
        let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_backup-database"));
        child
            .current_dir(world.path())
            .env_clear()
            .env("LOG_FILE", world.path().join("backups.log"))
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        child.spawn().unwrap()
    };
    let children: Vec<_> = (0..12).map(|_| run()).collect();
    for mut child in children {
        assert_eq!(child.wait().unwrap().code(), Some(2));
    }
    let names = std::fs::read_dir(world.path()).unwrap().flatten();
    let mut names: Vec<_> = names.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(names[1].starts_with("backups.log-"), "{names:?}");
    // One that opened the file while another put it aside writes to the one put aside.
    let all = world.read(&names[0]) + &world.read(&names[1]);
    assert!(world.read(&names[1]).starts_with("[2020-01-01 03:00:01] [INFO] yesterday\n"), "{all}");
    assert_eq!(all.matches("[ERROR] DATABASE_URL is not set").count(), 12, "{all}");
    assert!(all.lines().all(|line| line.starts_with("[20") && line.contains("] [")), "lines do not mix: {all}");
}

#[test]
fn restores_are_rotated_too() {
    let world = World::new();
    world.write("restores.log", "old\n");
    let old = std::time::SystemTime::now() - std::time::Duration::from_hours(72);
    File::options().append(true).open(world.path().join("restores.log")).unwrap().set_modified(old).unwrap();
    let url = nobody();
    world.run("restore-database", "--latest", &[("DATABASE_URL", &url)]);
    let names = std::fs::read_dir(world.path()).unwrap().flatten();
    let aside =
        names.map(|entry| entry.file_name().into_string().unwrap()).find(|name| name.starts_with("restores.log-"));
    assert_eq!(world.read(&aside.unwrap()), "old\n");
    assert!(!world.read("restores.log").contains("old"));
}

#[test]
fn the_rule_for_logrotate_is_one() {
    let rule = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/logrotate.d/pgkeep");
    let text = std::fs::read_to_string(&rule).unwrap();
    for word in ["/var/log/backups.log", "/var/log/restores.log", "daily", "rotate 30", "dateformat -%Y%m%d"] {
        assert!(text.contains(word), "{word}");
    }
    let world = World::new();
    world.write("backups.log", "line\n");
    let here = text.replace("/var/log", world.path().to_str().unwrap());
    world.write("rule", &here);
    let output = std::process::Command::new("logrotate")
        .args(["--force", "--state"])
        .arg(world.path().join("state"))
        .arg(world.path().join("rule"))
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .output()
        .expect("logrotate can be run (cargo xtask test installs it)");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let names = std::fs::read_dir(world.path()).unwrap().flatten();
    let aside =
        names.map(|entry| entry.file_name().into_string().unwrap()).find(|name| name.starts_with("backups.log-"));
    assert_eq!(world.read(&aside.unwrap()), "line\n");
    // The next run writes a new one.
    world.pgkeep("prune", &[]);
    assert!(!world.read("backups.log").contains("line"));
}
