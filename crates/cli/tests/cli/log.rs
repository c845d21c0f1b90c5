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
