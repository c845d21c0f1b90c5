//! What others do to the tables meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pgkeep_dump::{ChildFailure, Error, OnBlockedDdl};
use pgkeep_testkit::{PostgresOptions, PostgresServer};

use crate::tools::{
    EVERY_TIME, Ends, assert_same, drain, engine, late_engine, no_session_is_left, start, stock_text, text,
};

const TABLES: &str = "
    CREATE TABLE first AS SELECT g AS id, repeat('x', 100) AS note FROM generate_series(1, 5000) g;
    CREATE TABLE second AS SELECT * FROM first;
    CREATE TABLE third AS SELECT * FROM first;";

fn waits_for_a_lock(server: &PostgresServer) -> bool {
    server.psql("postgres", "SELECT count(*) FROM pg_locks WHERE NOT granted") != "0"
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_made_although_somebody_waits_to_change_a_table() {
    let server = PostgresServer::start(17, &PostgresOptions::default());
    let database = server.create_database("queued");
    database.psql(TABLES);
    for jobs in [1, 3] {
        let stream = start(&engine(&database.url(), jobs, &[]).await).await.unwrap();
        let theirs = stock_text(&server, &database).await;
        let (ours, notes) = std::thread::scope(|scope| {
            let ddl = scope.spawn(|| {
                database
                    .psql("ALTER TABLE second ALTER id TYPE bigint, ADD COLUMN late int; ALTER TABLE second DROP late")
            });
            while !waits_for_a_lock(&server) {
                std::thread::sleep(Duration::from_millis(20));
            }
            let dumping = tokio::task::block_in_place(|| {
                tokio::runtime::Handle::current().block_on(async {
                    // Long enough for somebody to look.
                    tokio::time::sleep(Duration::from_secs(6)).await;
                    let dumped = drain(stream).await.unwrap();
                    (text(17, &dumped).await, dumped.notes)
                })
            });
            ddl.join().unwrap();
            dumping
        });
        assert_same(&ours, &theirs);
        assert!(notes.iter().any(|note| note.contains("AccessExclusiveLock on public.second")), "{notes:?}");
        database.psql("ALTER TABLE second ALTER id TYPE int");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_the_end_of_all_snapshots_is_told_of() {
    let server = PostgresServer::start(17, &PostgresOptions::default());
    let database = server.create_database("concurrently");
    database.psql(TABLES);
    let stream = start(&engine(&database.url(), 2, &[]).await).await.unwrap();
    let notes = std::thread::scope(|scope| {
        let index = scope.spawn(|| database.psql("CREATE INDEX CONCURRENTLY ON second (id)"));
        while !waits_for_a_lock(&server) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let dumped = tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                // Long enough for somebody to look.
                tokio::time::sleep(Duration::from_secs(6)).await;
                drain(stream).await.unwrap()
            })
        });
        index.join().unwrap();
        dumped.notes
    });
    assert!(notes.iter().any(|note| note.contains("waits for the end of a transaction of this backup")), "{notes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_gives_up_if_it_is_not_to_make_anybody_wait() {
    let server = PostgresServer::start(17, &PostgresOptions::default());
    let database = server.create_database("aborted");
    database.psql(TABLES);
    let engine = engine(&database.url(), 2, &[]).await.with_on_blocked_ddl(OnBlockedDdl::Abort);
    let stream = start(&engine).await.unwrap();
    std::thread::scope(|scope| {
        // Ends although nobody takes a block: whoever waits is not made to wait for a store.
        scope.spawn(|| database.psql("ALTER TABLE third ADD COLUMN late int"));
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                while !stream.outcome.is_finished() {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                let Err(error) = drain(stream).await else { panic!("it succeeded") };
                assert!(matches!(&error, Error::WaitedFor { waits } if waits.contains("public.third")), "{error}");
            });
        });
    });
    no_session_is_left(&server, &database).await;
}

const FILL_ANEW: &str = "BEGIN; TRUNCATE third; INSERT INTO third SELECT * FROM first; COMMIT";
const REPLACE: &str = "BEGIN; DROP TABLE third; CREATE TABLE third AS SELECT * FROM first; COMMIT";

/// The rows of all tables in a text.
fn rows(text: &str) -> usize {
    text.lines().filter(|line| line.contains("xxxx")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_filled_anew_after_the_snapshot_is_dumped_on_a_newer_one() {
    let server = PostgresServer::shared(17);
    let database = server.create_database("newer");
    database.psql(TABLES);
    for meddling in [FILL_ANEW, REPLACE] {
        let (engine, _folder) = late_engine(&database, &database.url(), 2, meddling).await;
        let stream = start(&engine).await.unwrap();
        assert_eq!(stream.engine, "parallel");
        assert_eq!(rows(&text(17, &drain(stream).await.unwrap()).await), 15_000);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_filled_anew_after_every_snapshot_is_an_error_that_names_it() {
    let server = PostgresServer::shared(17);
    let database = server.create_database("rewritten");
    database.psql(TABLES);
    for meddling in [FILL_ANEW, REPLACE, "VACUUM FULL third"] {
        let (engine, _folder) = late_engine(&database, &database.url(), EVERY_TIME, meddling).await;
        let Err(error) = start(&engine).await else { panic!("{meddling}: pg_dump would find it empty") };
        assert!(
            matches!(&error, Error::Rewritten { table, tries: 5 } if table == "public.third"),
            "{meddling}: {error}"
        );
        assert!(error.is_retryable() && error.hint().unwrap().contains("TRUNCATE"), "{:?}", error.hint());
        no_session_is_left(server, &database).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_vanishes_before_its_lock_is_not_missed() {
    let server = PostgresServer::shared(17);
    let database = server.create_database("vanished");
    database.psql(TABLES);
    let drop_one =
        "DO $$ BEGIN EXECUTE (SELECT 'DROP TABLE ' || min(relname) FROM pg_class WHERE relname ~ '^gone_'); END $$";
    let make = "DO $$ BEGIN FOR n IN 1..5 LOOP EXECUTE format('CREATE TABLE gone_%s (id int)', n); END LOOP; END $$";

    database.psql(make);
    let (engine, _folder) = late_engine(&database, &database.url(), 2, drop_one).await;
    let stream = start(&engine).await.unwrap();
    assert_eq!(stream.engine, "parallel");
    let text = text(17, &drain(stream).await.unwrap()).await;
    assert_eq!(rows(&text), 15_000);
    assert!(!text.contains("gone_2") && text.contains("CREATE TABLE public.gone_3"));

    database.psql("DROP TABLE gone_3, gone_4, gone_5");
    database.psql(make);
    let (engine, _folder) = late_engine(&database, &database.url(), EVERY_TIME, drop_one).await;
    let Err(error) = start(&engine).await else { panic!("it vanished every time") };
    assert!(matches!(&error, Error::Child(child) if child.failure == ChildFailure::Vanished), "{error}");
    assert!(error.to_string().contains("gone_5") && error.is_retryable(), "{error}");
    no_session_is_left(server, &database).await;
}

/// Dumps while `meddling` is repeated: what succeeds has all rows, and what fails names the table.
fn is_whole_or_names_the_table(label: &str, meddling: &str) {
    let server = PostgresServer::start(17, &PostgresOptions::default());
    let database = server.create_database(label);
    database.psql(TABLES);
    let going_on = AtomicBool::new(true);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while going_on.load(Ordering::Relaxed) {
                database.psql(&format!("{meddling}; SELECT pg_sleep(0.05)"));
            }
        });
        let _until_here = Ends(&going_on);
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                let engine = engine(&database.url(), 2, &[]).await;
                for _ in 0..6 {
                    match start(&engine).await {
                        Ok(stream) => {
                            let dumped = drain(stream).await.expect("what has begun ends well");
                            assert_eq!(rows(&text(17, &dumped).await), 15_000, "{:?}", dumped.notes);
                        }
                        Err(error) => assert!(error.to_string().contains("third"), "{error}"),
                    }
                }
            });
        });
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_filled_anew_again_and_again_never_looks_empty() {
    is_whole_or_names_the_table("anew", FILL_ANEW);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_replaced_again_and_again_never_looks_empty() {
    is_whole_or_names_the_table("replaced", REPLACE);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_is_renamed_under_the_dump_ends_it() {
    let server = PostgresServer::shared(17);
    let imposter = "ALTER SCHEMA kept RENAME TO moved; CREATE SCHEMA kept; CREATE TABLE kept.rows (id int, note text)";
    for renaming in ["ALTER SCHEMA kept RENAME TO moved", imposter] {
        let database = server.create_database("renamed");
        database.psql(
            "CREATE SCHEMA kept; CREATE TABLE kept.rows AS SELECT g AS id, repeat('x', 100) AS note FROM generate_series(1, 50000) g",
        );
        let stream = start(&engine(&database.url(), 2, &[]).await).await.unwrap();
        assert_eq!(stream.engine, "parallel");
        database.psql(renaming);
        let Err(error) = drain(stream).await else { panic!("{renaming}: it succeeded") };
        assert!(matches!(&error, Error::Changed { what } if what.contains("kept.rows")), "{renaming}: {error}");
        no_session_is_left(server, &database).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_thousand_tables_need_the_lock_table_that_pg_dump_needs() {
    // As few locks as pg_dump alone can do with: some 8 × 2,400 and a little.
    let settings =
        [("max_locks_per_transaction", "1000"), ("max_connections", "20"), ("max_prepared_transactions", "0")];
    let options = PostgresOptions {
        settings: settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
        ..PostgresOptions::default()
    };
    let server = PostgresServer::start(17, &options);
    let database = server.create_database("many");
    for part in 0..20 {
        database.psql(&format!(
            "DO $$ BEGIN FOR n IN 1..1000 LOOP EXECUTE format('CREATE TABLE t_%s (id int)', {part} * 1000 + n); END LOOP; END $$;
             DO $$ BEGIN FOR n IN 1..1000 LOOP EXECUTE format('INSERT INTO t_%s VALUES (%s)', {part} * 1000 + n, n); END LOOP; END $$;"
        ));
    }
    let stock = server.exec(&["pg_dump", "-U", "postgres", "-Fc", "-Z0", "-f", "/tmp/stock.dump", &database]);
    assert!(stock.status.success(), "{}", String::from_utf8_lossy(&stock.stderr));
    let engine = engine(&database.url(), 2, &[]).await.with_range_bytes(8 << 20);
    let stream = start(&engine).await.unwrap();
    assert_eq!(stream.engine, "parallel");
    let theirs = stock_text(&server, &database).await;
    let dumped = drain(stream).await.unwrap();
    assert!(dumped.segments < 300, "small tables share segments: {}", dumped.segments);
    assert_same(&text(17, &dumped).await, &theirs);
}
