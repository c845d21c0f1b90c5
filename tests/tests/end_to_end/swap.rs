//! The swap under load, killed at any point, and taken back.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pgkeep_testkit::{PostgresServer, client_tools, dump_text, saas};

use crate::setup::Setup;

/// What a client that reconnects for every query saw: `old`, `new`, or an error's text.
fn reconnecting_client(url: String, stop: Arc<AtomicBool>) -> std::thread::JoinHandle<Vec<String>> {
    std::thread::spawn(move || {
        let mut seen = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let output = Command::new(client_tools(17).join("psql"))
                .args([
                    "-XAtq",
                    "-d",
                    &url,
                    "-c",
                    "SELECT CASE WHEN to_regclass('public.only_in_old') IS NULL THEN 'new' ELSE 'old' END",
                ])
                .stdin(Stdio::null())
                .output()
                .expect("psql can be run");
            let said = if output.status.success() { output.stdout } else { output.stderr };
            seen.push(String::from_utf8_lossy(&said).trim().to_owned());
        }
        seen
    })
}

#[test]
fn clients_see_the_old_database_a_moment_of_errors_at_most_and_then_the_new_one() {
    let server = PostgresServer::shared(17);
    let source = server.create_database("swapped");
    saas::load(server, &source, 0.03);
    let setup = Setup::new(&source.url());
    setup.pgkeep(&["backup"]);
    source.psql("CREATE TABLE public.only_in_old AS SELECT 1 AS n");
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..4).map(|_| reconnecting_client(source.url(), Arc::clone(&stop))).collect();
    std::thread::sleep(Duration::from_millis(300));
    setup.pgkeep(&["restore", "--latest", "--yes"]);
    std::thread::sleep(Duration::from_millis(500));
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        let seen = client.join().expect("no panic");
        let first_new = seen.iter().position(|answer| answer == "new").expect("the new database was reached");
        assert_eq!(seen.first().map(String::as_str), Some("old"));
        assert!(seen[first_new..].iter().all(|answer| answer == "new"), "{seen:?}");
        let errors: Vec<_> = seen[..first_new].iter().filter(|answer| *answer != "old").collect();
        assert!(errors.len() <= 20, "{errors:?}");
    }
    setup.pgkeep(&["rollback", "--yes"]);
    assert_eq!(source.psql("SELECT n FROM public.only_in_old").trim(), "1", "rolled back");
}

#[test]
fn killed_at_any_time_the_live_database_is_whole_and_the_next_run_clears_up() {
    let server = PostgresServer::shared(17);
    let source = server.create_database("killed");
    saas::load(server, &source, 0.03);
    let setup = Setup::new(&source.url());
    setup.pgkeep(&["backup"]);
    let before = dump_text(server, &source);
    for milliseconds in [150, 400, 800, 1200, 1700, 2300, 3000] {
        let mut child = setup.start("pgkeep", &["restore", "--latest", "--yes", "--skip-snapshot"]);
        std::thread::sleep(Duration::from_millis(milliseconds));
        // It may be done by then; either way the database is whole.
        let _ = child.kill();
        child.wait_with_output().expect("it ends");
        assert_eq!(before, dump_text(server, &source), "killed after {milliseconds} ms");
    }
    // The killed ones' lock runs out by itself; who can't wait breaks it.
    setup.pgkeep(&["unlock", "--yes"]);
    setup.pgkeep(&["restore", "--latest", "--yes", "--skip-snapshot"]);
    assert_eq!(before, dump_text(server, &source));
    let leftovers: Vec<_> = source.relatives().into_iter().filter(|name| name.contains("_pgkeep_")).collect();
    assert!(leftovers.is_empty(), "{leftovers:?}");
}

#[test]
fn a_restore_in_place_that_fails_half_way_says_so_and_names_the_way_back() {
    let server = PostgresServer::shared(17);
    let source = server.create_database("half_done");
    source.psql("CREATE TABLE p (id int PRIMARY KEY); CREATE TABLE c (p int REFERENCES p); SET session_replication_role = replica; INSERT INTO c VALUES (99)");
    let setup = Setup::new(&source.url());
    setup.pgkeep(&["backup"]);
    source.psql("INSERT INTO p VALUES (99), (100)");
    let run = setup.run("pgkeep", &["restore", "--latest", "--in-place", "--yes"]);
    run.failed_with(4, &["was emptied and is not complete", "pgkeep restore pre-restore_"]);
    assert!(!run.stderr.contains("is as it was"), "{run}");
    let back = run.stderr.split("pgkeep restore ").nth(1).expect("the way back");
    let arguments: Vec<&str> = back.split_whitespace().take(2).collect();
    setup.pgkeep(&["restore", arguments[0], arguments[1], "--yes"]);
    assert_eq!(source.psql("SELECT count(*) FROM p").trim(), "2");
}

#[test]
fn a_local_file_comes_back_while_the_bucket_is_down() {
    let source = PostgresServer::shared(17).create_database("bucket_down");
    source.psql("CREATE TABLE t AS SELECT 1 AS n");
    let local = Setup::new(&source.url());
    local.pgkeep(&["backup"]);
    let archive = local.archive();
    source.psql("UPDATE t SET n = 2");
    let down = Setup::new(&source.url())
        .with("BACKUP_DIR", "none")
        .with("AWS_S3_BACKUP_BUCKET", "nobody-there")
        .with("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
        .with("AWS_REGION", "us-east-1")
        .with("AWS_ACCESS_KEY_ID", "somebody")
        .with("AWS_SECRET_ACCESS_KEY", "nothing");
    let run = down.pgkeep(&["restore", archive.to_str().expect("UTF-8"), "--yes"]);
    assert!(run.stderr.contains("no pre-restore snapshot"), "{run}");
    assert_eq!(source.psql("SELECT n FROM t").trim(), "1");
    assert!(source.relatives().iter().any(|name| name.contains("_before_")), "the old database is kept");
    down.pgkeep(&["rollback", "--yes"]);
    assert_eq!(source.psql("SELECT n FROM t").trim(), "2");
}

#[test]
fn a_restore_into_another_database_never_claims_the_repository() {
    let server = PostgresServer::shared(17);
    let source = server.create_database("claimed");
    source.psql("CREATE TABLE t AS SELECT 1 AS n");
    let elsewhere = Setup::new(&source.url());
    elsewhere.pgkeep(&["backup"]);
    let archive = elsewhere.archive();
    let target = server.create_database("claimed_target");
    target.psql("CREATE TABLE precious AS SELECT 1 AS n");
    let setup = Setup::new(&source.url());
    let archive = archive.to_str().expect("UTF-8");
    setup.pgkeep(&["restore", archive, "--target-db", &target, "--replace-target", "--yes"]);
    assert_eq!(target.psql("SELECT n FROM t").trim(), "1");
    assert_eq!(setup.files(), [""; 0], "nothing was claimed, nothing stored");
    setup.pgkeep(&["backup"]);
}
