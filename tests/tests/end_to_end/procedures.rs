//! What people and their scripts read: lines of the logs in their order, names, the meta's keys, a typed answer.

use std::io::{Read as _, Write as _};
use std::process::Stdio;

use chrono::{DateTime, NaiveDateTime, Utc};
use pgkeep_testkit::{Ceph, PostgresServer, contents, program, saas};
use serde_json::Value;

use crate::setup::Setup;

/// Each of the lines is there, in this order, as `[TIMESTAMP] [LEVEL] message`.
fn assert_in_order(log: &str, level: &str, lines: &[&str]) {
    let mut rest = log.lines();
    for wanted in lines {
        assert!(rest.any(|line| says(line, level, wanted)), "no {wanted:?} in its place in\n{log}");
    }
}

fn says(line: &str, level: &str, wanted: &str) -> bool {
    let Some((time, said)) = line.strip_prefix('[').and_then(|line| line.split_once("] [")) else { return false };
    NaiveDateTime::parse_from_str(time, "%Y-%m-%d %H:%M:%S").is_ok()
        && said.split_once("] ").is_some_and(|(found, said)| found == level && said.starts_with(wanted))
}

#[test]
fn the_log_of_a_backup_is_read_by_scripts() {
    let server = PostgresServer::shared(17);
    let source = server.create_database("log_of_backup");
    saas::load(server, &source, 0.03);
    let ceph = Ceph::shared();
    let bucket = ceph.create_bucket("log-of-backup");
    let mut setup = Setup::new(&source.url())
        .with("AWS_S3_BACKUP_BUCKET", &bucket)
        .with("USE_PIGZ", "true")
        .with("BACKUP_RETENTION_LOCAL_DAILY_MIN", "1")
        .with("BACKUP_RETENTION_LOCAL_DAILY_MAX", "1");
    for (name, value) in ceph.environment() {
        setup.set(name, value);
    }
    for _ in 0..2 {
        let run = setup.run("backup-database", &["--daily"]);
        assert_eq!(run.code, Some(0), "{run}");
    }
    let log = std::fs::read_to_string(setup.folder().join("backups.log")).expect("a log");
    let second = log.rfind("Database Backup Started").map_or(0, |at| log[..at].rfind('\n').map_or(0, |at| at + 1));
    let archive = setup.archive();
    let name = archive.file_name().and_then(|name| name.to_str()).expect("UTF-8").to_owned();
    let stamp = name.strip_prefix("daily_").and_then(|name| name.strip_suffix(".dump.gz")).expect("the script's name");
    assert_in_order(
        &log[second..],
        "INFO",
        &[
            "Database Backup Started",
            "Backup Type: daily",
            &format!("Timestamp: {}", &stamp[..8]),
            "Environment validation complete",
            "Database connection successful: PostgreSQL 17.",
            "Starting daily backup...",
            "Backup created successfully",
            &format!("File: {}", archive.display()),
            &format!("File: s3://{bucket}/database-backups/daily/{name}"),
            "Size: ",
            "Duration: ",
            "Upload complete (",
            "S3 upload verified",
            "Deleted 1 old ",
            "Backup Complete",
            "Total Duration: ",
        ],
    );

    let meta = std::fs::read(format!("{}.meta", archive.display())).expect("a meta");
    let meta: Value = serde_json::from_slice(&meta).expect("JSON");
    let text = |key: &str| meta[key].as_str().unwrap_or_else(|| panic!("{key} in {meta}")).to_owned();
    assert_eq!(
        (text("backup_file"), text("backup_type"), text("timestamp")),
        (name.clone(), "daily".to_owned(), stamp.to_owned())
    );
    assert_eq!((text("database_url"), text("compression")), ("***REDACTED***".to_owned(), "gzip-6".to_owned()));
    assert!(text("pg_dump_version").starts_with("pg_dump (PostgreSQL) 17."), "{meta}");
    assert!(!text("hostname").is_empty() && !text("size").is_empty() && meta["duration_seconds"].is_number(), "{meta}");
    let date = DateTime::parse_from_rfc3339(&text("date")).expect("RFC 3339").with_timezone(&Utc);
    assert_eq!(date.format("%Y%m%d_%H%M%S").to_string(), stamp);

    // The others are named after their week and their month.
    setup.set("AWS_S3_BACKUP_BUCKET", "");
    for (class, form) in [("--weekly", "weekly_%G_W%V_%H%M%S.dump.gz"), ("--monthly", "monthly_%Y_%m_%H%M%S.dump.gz")] {
        let run = setup.run("backup-database", &[class, "--no-upload", "--verbose"]);
        assert_eq!(run.code, Some(0), "{run}");
        let class = class.trim_start_matches('-');
        let files = setup.files();
        let meta = files.iter().find(|file| file.starts_with(class) && file.ends_with(".meta")).expect("a meta");
        let meta: Value =
            serde_json::from_slice(&std::fs::read(setup.backups().join(meta)).expect("read")).expect("JSON");
        let date = DateTime::parse_from_rfc3339(meta["date"].as_str().expect("text")).expect("RFC 3339");
        assert_eq!(meta["backup_file"], date.with_timezone(&Utc).format(form).to_string());
    }
}

/// Types an answer when the question has been asked, on a terminal of its own; what is seen there.
fn converse(setup: &Setup, name: &str, arguments: &str, question: &str, answer: &str) -> (Option<i32>, String) {
    let line = format!("stty rows 40 cols 200; exec {} {arguments}", program(name).display());
    let mut child = setup
        .stock("script")
        .env("TERM", "dumb")
        .args(["--quiet", "--return", "--flush", "--command", &line, "/dev/null"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("script (of bsdutils) can be run");
    let (mut stdin, mut stdout) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
    let (mut said, mut piece) = (Vec::new(), [0; 4096]);
    while !String::from_utf8_lossy(&said).contains(question) {
        let read = stdout.read(&mut piece).expect("read");
        assert!(read > 0, "{question} was not asked: {}", String::from_utf8_lossy(&said));
        said.extend_from_slice(&piece[..read]);
    }
    writeln!(stdin, "{answer}").expect("typed");
    stdin.flush().expect("typed");
    let _ = stdout.read_to_end(&mut said);
    let code = child.wait().expect("it ends").code();
    (code, String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn the_log_of_a_restore_is_read_by_scripts_and_its_question_takes_a_typed_yes() {
    const QUESTION: &str = "(type 'yes' to proceed)";
    let server = PostgresServer::shared(17);
    let source = server.create_database("log_of_restore");
    saas::load(server, &source, 0.03);
    let setup = Setup::new(&source.url());
    setup.pgkeep(&["backup"]);
    let before = contents(server, &source);
    source.psql("DELETE FROM app.bookings");

    let (code, seen) = converse(&setup, "restore-database", "--latest", QUESTION, "no");
    assert_eq!(code, Some(9), "{seen}");
    assert_eq!(source.psql("SELECT count(*) FROM app.bookings").trim(), "0", "nothing was restored");

    let (code, seen) = converse(&setup, "restore-database", "--latest", QUESTION, "yes");
    assert_eq!(code, Some(0), "{seen}");
    assert_eq!(before, contents(server, &source));
    let log = std::fs::read_to_string(setup.folder().join("restores.log")).expect("a log");
    let last = log.rfind("Database Restore Started").map_or(0, |at| log[..at].rfind('\n').map_or(0, |at| at + 1));
    let log = &log[last..];
    assert_in_order(
        log,
        "INFO",
        &[
            "Database Restore Started",
            "Finding latest backup...",
            "Latest backup: ",
            "Backup Information:",
            "File: daily_",
            "Size: ",
            "Date: ",
            "Backup integrity verified",
            "Creating pre-restore snapshot...",
            "Database restore complete (",
            "Database queries successful: ",
            "Restored database size: ",
            "Restore Complete",
        ],
    );
    assert_in_order(log, "INFO", &["Creating pre-restore snapshot...", "Pre-restore snapshot created: pre-restore_"]);
    assert_in_order(log, "INFO", &["Starting database restore...", "Database restore complete ("]);
    let target = format!("Target Database: {}", source.name());
    assert_in_order(
        log,
        "WARN",
        &["WARNING: DATABASE RESTORE OPERATION", "This will REPLACE the current database", &target],
    );
}
