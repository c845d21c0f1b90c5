//! Traps of the dump: sessions, scans, names, sequences, standbys.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pgkeep_dump::{Connection, Dump, Error, PgDumpEngine, SessionSettings};
use pgkeep_testkit::{PostgresOptions, PostgresServer, unique};
use tokio_util::sync::CancellationToken;

use crate::ground::alone;
use crate::tools::{Ends, assert_same, drain, engine, installed, late_engine, settings, start, stock_text, text};

const TABLE: &str = "CREATE TABLE plain AS SELECT g AS id, repeat('x', 90) AS note FROM generate_series(1, 20000) g";

/// P-A1, third failure: the server's own limit for a client that takes nothing is not for a backup.
#[tokio::test(flavor = "multi_thread")]
async fn a01_a_dump_that_nobody_reads_outlives_tcp_user_timeout() {
    let limit = Duration::from_secs(2);
    let server = PostgresServer::shared(17);
    let database = server.create_database("stalled");
    server.psql("postgres", &format!("ALTER DATABASE {} SET tcp_user_timeout = {}", &*database, limit.as_millis()));
    // More than pipes, sockets and blocks hold, and nothing that could be read to its end before somebody takes it.
    database.psql("CREATE TABLE big AS SELECT g AS id, repeat('x', 1000) AS filler FROM generate_series(1, 60000) g");
    let options = pgkeep_dump::DumpOptions { block_bytes: 20_000, ..pgkeep_dump::DumpOptions::default() };
    let engine = PgDumpEngine::new(settings(&database.url()), installed().await, options);
    let stream = engine.start(CancellationToken::new()).await.unwrap();
    let blocked =
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'ClientWrite' AND query LIKE 'COPY public.big%'";
    let begun = Instant::now();
    while server.psql("postgres", blocked) != "1" {
        assert!(begun.elapsed() < Duration::from_mins(1), "the server never waits for pg_dump");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Longer than the limit, which is what ends a session without our settings.
    tokio::time::sleep(3 * limit).await;
    assert_eq!(server.psql("postgres", blocked), "1");
    let dumped = drain(stream).await.unwrap();
    assert_eq!(text(17, &dumped).await.matches("xxxx\n").count(), 60_000);
}

/// P-A4, CVE-2024-7348: what takes a table's name is never run with the backup's rights.
#[tokio::test(flavor = "multi_thread")]
async fn a04_a_view_in_a_tables_place_runs_nobodys_code() {
    let server = PostgresServer::shared(17);
    // Statements that make things are logged, so it must not stand in one.
    let mark = unique("somebodys_code_ran");
    let backwards: String = mark.chars().rev().collect();
    let evil = format!(
        "CREATE FUNCTION public.evil() RETURNS SETOF kept.rows LANGUAGE plpgsql AS
         $$ BEGIN RAISE LOG '% as %', reverse('{backwards}'), current_user; RETURN QUERY SELECT * FROM moved.rows; END $$"
    );
    let imposter =
        "ALTER SCHEMA kept RENAME TO moved; CREATE SCHEMA kept; CREATE VIEW kept.rows AS SELECT * FROM public.evil()";
    let kept = "CREATE SCHEMA kept; CREATE TABLE kept.rows AS SELECT g AS id, repeat('x', 100) AS note FROM generate_series(1, 50000) g";

    // Before the first lock: it is a view then, and is dumped as one.
    let database = server.create_database("imposter");
    database.psql(&format!("{kept}; {evil}; {TABLE}"));
    let (engine, _folder) = late_engine(&database, &database.url(), 1, imposter).await;
    let text = text(17, &drain(start(&engine).await.unwrap()).await.unwrap()).await;
    assert!(text.contains("CREATE VIEW kept.rows") && text.contains("COPY moved.rows"), "{text:.2000}");

    // Behind the locks, by the name of its schema, while workers copy.
    let database = server.create_database("imposter");
    database.psql(&format!("{kept}; {evil}"));
    let stream = start(&crate::tools::engine(&database.url(), 2, &[]).await).await.unwrap();
    assert_eq!(stream.engine, "parallel");
    database.psql(imposter);
    let Err(error) = drain(stream).await else { panic!("it succeeded") };
    assert!(matches!(&error, Error::Changed { .. } | Error::Copy { .. }), "{error}");

    // It can be run, and is seen when it is.
    assert!(!server.log().contains(&mark), "somebody's code ran");
    database.psql("SELECT count(*) FROM kept.rows");
    assert!(server.log().contains(&mark));
}

/// P-A5: ranges are scans of their rows only, whatever the role and the database say of the planner.
#[tokio::test(flavor = "multi_thread")]
async fn a05_tid_scans_switched_off_by_the_role() {
    let (server, _turn) = alone().await;
    let database = server.create_database("planner");
    let role = unique("planner");
    database.psql(&format!("{TABLE}; CREATE ROLE {role} LOGIN SUPERUSER PASSWORD 'pw'; VACUUM ANALYZE plain"));
    for setting in [
        "enable_tidscan = off",
        "enable_seqscan = on",
        "jit_above_cost = 0",
        "min_parallel_table_scan_size = 0",
        "parallel_setup_cost = 0",
        "parallel_tuple_cost = 0",
    ] {
        server
            .psql("postgres", &format!("ALTER ROLE {role} SET {setting}; ALTER DATABASE {} SET {setting}", &*database));
    }
    let read = "SELECT coalesce(sum(seq_tup_read), 0) FROM pg_stat_user_tables WHERE relname = 'plain'";
    let before: u64 = database.psql(read).parse().unwrap();
    let stream = start(&engine(&server.url_as(&role, "pw", &database), 3, &[]).await).await.unwrap();
    assert_eq!(stream.engine, "parallel");
    let theirs = stock_text(server, &database).await;
    let of_stock: u64 = 20_000;
    let dumped = drain(stream).await.unwrap();
    assert!(dumped.segments > 20, "it was divided, {}", dumped.segments);
    assert_same(&text(17, &dumped).await, &theirs);
    // Every range as a scan of all rows would be twenty thousand for each of them. What a session has read is told when it has ended.
    crate::tools::no_session_is_left(server, &database).await;
    let begun = Instant::now();
    let mut after = before;
    while after == before && begun.elapsed() < Duration::from_secs(20) {
        after =
            database.psql(&format!("SELECT pg_stat_clear_snapshot(); {read}")).lines().last().unwrap().parse().unwrap();
    }
    // A TID range scan counts as a sequential one; each row once for us, once for pg_dump.
    assert!(after - before <= 2 * of_stock + of_stock, "{} rows were read", after - before);
}

/// P-A5: a table that is not divided comes by pg_dump's own statement, in the order of its pages; a SELECT might take an index.
#[tokio::test(flavor = "multi_thread")]
async fn a05_an_undivided_table_comes_in_the_order_of_its_pages() {
    let (server, _turn) = alone().await;
    let database = server.create_database("ordered");
    server.psql("postgres", &format!("ALTER DATABASE {} SET random_page_cost = 0.1", &*database));
    database.psql(
        "CREATE TABLE small (id int PRIMARY KEY); ALTER TABLE small SET (fillfactor = 10);
         INSERT INTO small SELECT (g * 7919) % 1000 FROM generate_series(1, 1000) g;
         CREATE TABLE filler AS SELECT repeat('x', 100) FROM generate_series(1, 5000); VACUUM ANALYZE",
    );
    let plan = database.psql("EXPLAIN SELECT id FROM small");
    assert!(plan.contains("Index Only Scan"), "the trap is not set: {plan}");
    let stream = start(&engine(&database.url(), 2, &[]).await).await.unwrap();
    let theirs = stock_text(server, &database).await;
    let ours = text(17, &drain(stream).await.unwrap()).await;
    assert_same(&ours, &theirs);
    assert!(ours.contains("COPY public.small (id) FROM stdin;\n919\n838\n757\n"), "{ours}");
}

/// P-A10: nothing that the snapshot sees is missing in the archive, counted by the server itself.
#[tokio::test(flavor = "multi_thread")]
async fn a10_the_server_counts_as_many_rows_on_the_leaders_snapshot() {
    let (server, _turn) = alone().await;
    let database = server.create_database("counted");
    database.psql(
        "CREATE TABLE ledger (id bigserial PRIMARY KEY, note text);
         INSERT INTO ledger (note) SELECT repeat('l', 60) FROM generate_series(1, 20000);
         CREATE TABLE media (id bigserial, content text);
         ALTER TABLE media ALTER content SET STORAGE EXTERNAL;
         INSERT INTO media (content) SELECT repeat('m', 5000) FROM generate_series(1, 300);
         CREATE TABLE tree (id bigserial, kind int) PARTITION BY HASH (kind);
         CREATE TABLE leaf PARTITION OF tree FOR VALUES WITH (MODULUS 2, REMAINDER 0);
         CREATE TABLE other PARTITION OF tree FOR VALUES WITH (MODULUS 2, REMAINDER 1);
         INSERT INTO tree (kind) SELECT g % 50 FROM generate_series(1, 9000) g; VACUUM ANALYZE",
    );
    let churn = "DELETE FROM ledger WHERE id % 97 = (random() * 96)::int; INSERT INTO ledger (note) SELECT 'new' FROM generate_series(1, 900);
                 UPDATE media SET id = id WHERE id % 5 = 0; UPDATE tree SET kind = (kind + 1) % 50 WHERE id % 50 = 3; VACUUM ledger";
    let going_on = AtomicBool::new(true);
    let (archive, counted) = std::thread::scope(|scope| {
        scope.spawn(|| {
            while going_on.load(Ordering::Relaxed) {
                let _ = database.try_psql(churn);
            }
        });
        let _until_here = Ends(&going_on);
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                let stream = start(&engine(&database.url(), 3, &[]).await).await.unwrap();
                assert_eq!(stream.engine, "parallel");
                let snapshot = server.psql("postgres", "SELECT name FROM pg_ls_dir('pg_snapshots') AS name");
                let counted = database.psql(&format!(
                    "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT '{snapshot}';
                     SELECT 'ledger', count(*) FROM ledger UNION ALL SELECT 'media', count(*) FROM media
                     UNION ALL SELECT 'leaf', count(*) FROM leaf UNION ALL SELECT 'other', count(*) FROM other"
                ));
                (text(17, &drain(stream).await.unwrap()).await, counted)
            })
        })
    });
    for line in counted.lines() {
        let (table, rows) = line.split_once('|').unwrap();
        let (_, block) = archive.split_once(&format!("COPY public.{table} (")).unwrap();
        let (block, _) = block.split_once("\n\\.\n").unwrap();
        assert_eq!((block.lines().count() - 1).to_string(), rows, "{table}");
    }
    assert_eq!(counted.lines().count(), 4);
}

/// P-C3: a sequence may be ahead of the rows that took its numbers, and never behind.
#[tokio::test(flavor = "multi_thread")]
async fn c03_a_sequence_is_never_behind_its_rows() {
    let server = PostgresServer::shared(17);
    let database = server.create_database("sequences");
    database.psql(&format!("{TABLE}; CREATE TABLE numbered (id bigserial PRIMARY KEY, note text)"));
    let going_on = AtomicBool::new(true);
    let texts = std::thread::scope(|scope| {
        scope.spawn(|| {
            while going_on.load(Ordering::Relaxed) {
                database.psql("INSERT INTO numbered (note) SELECT 'n' FROM generate_series(1, 50)");
            }
        });
        let _until_here = Ends(&going_on);
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                let engine = engine(&database.url(), 2, &[]).await;
                let mut texts = Vec::new();
                for _ in 0..3 {
                    texts.push(text(17, &drain(start(&engine).await.unwrap()).await.unwrap()).await);
                }
                texts
            })
        })
    });
    for text in texts {
        let (_, rows) = text.split_once("COPY public.numbered (id, note) FROM stdin;\n").unwrap();
        let (rows, _) = rows.split_once("\\.\n").unwrap();
        let highest = rows.lines().filter_map(|row| row.split('\t').next()?.parse::<u64>().ok()).max().unwrap_or(0);
        let (_, stands) = text.split_once("setval('public.numbered_id_seq', ").unwrap();
        let stands: u64 = stands.split(',').next().unwrap().parse().unwrap();
        assert!(stands >= highest, "it stands at {stands}, and {highest} is taken");
    }
}

/// P-C1: what a standby does not have is named.
#[tokio::test(flavor = "multi_thread")]
async fn c01_unlogged_tables_are_named_where_a_standby_is_dumped() {
    let server = PostgresServer::start(17, &PostgresOptions::default());
    let database = server.create_database("unlogged");
    database.psql(&format!("{TABLE}; CREATE UNLOGGED TABLE quick AS SELECT g AS id FROM generate_series(1, 100) g"));
    let make = "set -e
        pg_basebackup -h /var/run/postgresql -U postgres -D /var/lib/postgresql/standby -R -X stream -c fast
        pg_ctl start -w -D /var/lib/postgresql/standby -l /tmp/standby.log \
            -o '-p 5499 -c listen_addresses=* -c max_connections=200 -c max_prepared_transactions=10'";
    let output = server.exec(&["sh", "-c", make]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let address = String::from_utf8_lossy(&server.exec(&["hostname", "-i"]).stdout).trim().to_owned();
    let url = database.url().replace(&format!("127.0.0.1:{}", server.port()), &format!("{address}:5499"));
    let mut caught_up = Connection::connect(&settings(&url), SessionSettings::Admin).await;
    for _ in 0..200 {
        if caught_up.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        caught_up = Connection::connect(&settings(&url), SessionSettings::Admin).await;
    }
    drop(caught_up);
    let engine = engine(&url, 2, &[]).await;
    let warnings = engine.facts().await.unwrap().warnings;
    assert_eq!(
        warnings,
        ["will not be in the backup: rows of the unlogged table \"public\".\"quick\": a standby has none of them"]
    );
    let text = text(17, &drain(start(&engine).await.unwrap()).await.unwrap()).await;
    assert!(text.contains("CREATE UNLOGGED TABLE public.quick") && !text.contains("COPY public.quick"), "{text:.2000}");
    assert_eq!(text.matches("xxxx\n").count(), 20_000);
}
