//! A backup for which somebody waits: it is made and says so, or it gives up, as it is told.

use std::process::{Child, Command};
use std::time::Duration;

use pgkeep_dump::{Connection, SessionSettings};
use pgkeep_testkit::{PostgresServer, ScratchDatabase};

use crate::bench::settings;
use crate::programs::{Run, Setup};

/// Of its rows more lies in the archive than a pipe holds.
const TABLES: &str = "
    CREATE TABLE first AS SELECT n, repeat(md5(n::text), 30) AS words FROM generate_series(1, 60000) n;
    CREATE TABLE last AS SELECT * FROM first;";

/// Whether the session that came first, and holds the snapshot, has its lock on the table that comes last.
const IS_LOCKED: &str = "
    SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)
    WHERE l.relation = 'public.last'::regclass AND l.granted AND a.backend_start =
        (SELECT min(backend_start) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'pgkeep')";

fn signal(process: &Child, signal: &str) {
    assert!(Command::new("kill").args([signal, &process.id().to_string()]).status().unwrap().success());
}

/// A backup during which somebody comes to change a table that is not read yet, and waits.
async fn backup_in_the_way(setup: &Setup, source: &ScratchDatabase<'_>, arguments: &[&str]) -> Run {
    let url = settings(&source.url()).with_application_name("onlooker");
    let mut onlooker = Connection::connect(&url, SessionSettings::Admin).await.unwrap();
    let mut backup = setup.start("pgkeep", arguments);
    while onlooker.query(IS_LOCKED).await.unwrap()[0].text(0).as_deref() == Some("0") {
        assert!(backup.try_wait().unwrap().is_none(), "the backup ended before it was seen to begin");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    // It goes on when the change is waiting.
    signal(&backup, "-STOP");
    std::thread::scope(|scope| {
        scope.spawn(|| source.psql("ALTER TABLE last ADD COLUMN late int"));
        let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'public.last'::regclass";
        let seen = (0..500).any(|_| source.psql(waits).trim() != "0");
        signal(&backup, "-CONT");
        assert!(seen, "nobody waits for the table");
        Run::of(&backup.wait_with_output().unwrap())
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_for_a_backup_is_named_and_it_can_be_given_up_for_him() {
    let server = PostgresServer::shared(17);
    let source = server.create_database("waited_for");
    source.psql(TABLES);
    let setup = Setup::new(&source.url()).with("BACKUP_ENGINE", "parallel");

    let run = backup_in_the_way(&setup, &source, &["backup", "--on-blocked-ddl", "abort"]).await;
    run.failed_with(5, &["somebody waits for it", "AccessExclusiveLock on", "last", "--on-blocked-ddl wait"]);
    assert_eq!(setup.files(), ["source.json"], "no archive and no meta");
    // He has had his way meanwhile.
    source.psql("ALTER TABLE last DROP COLUMN late");

    let run = backup_in_the_way(&setup, &source, &["backup"]).await;
    assert_eq!(run.code, Some(0), "{run}");
    let log = std::fs::read_to_string(setup.folder().join("backups.log")).unwrap();
    assert!(log.contains("(user postgres, psql) waits for AccessExclusiveLock on"), "{log}");
    let shown = setup.pgkeep(&["show", "--latest", "--output", "json"]);
    assert!(shown.stdout.contains("\"parallel\""), "{shown}");
    setup.pgkeep(&["verify", "--latest", "--deep"]);
}
