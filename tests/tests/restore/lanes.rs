//! Several lanes on one table: nothing is lost, its order is nearly kept, and what goes wrong in one is undone in all.

use std::process::Command;
use std::sync::Arc;

use pgkeep_core::ExportOptions;
use pgkeep_metrics::{Event, Observer, Stage};
use pgkeep_restore::{Error, RestoreReport, RestoreRequest, Target};
use pgkeep_testkit::{FaultyStorage, PostgresServer, client_tools, contents, large_objects};
use tokio_util::sync::CancellationToken;

use crate::bench::{Bench, Doomed, ENGINES, Engine, beside, request};

/// Some 160 MB of text, which is worth three lanes.
const BIG: &str = "CREATE TABLE before AS SELECT n, md5(n::text) AS word FROM generate_series(1, 20000) n;
    CREATE TABLE big (n bigint, at timestamptz, words text);
    INSERT INTO big SELECT n, timestamptz '2024-01-01' + n * interval '1 s', repeat(md5(n::text), 9) FROM generate_series(1, 500000) n;
    ALTER TABLE big ADD PRIMARY KEY (n);
    CREATE INDEX ON big USING brin (at)";

/// How many transactions a table's rows came by.
fn lanes(server: &PostgresServer, database: &str, table: &str) -> u32 {
    server.psql(database, &format!("SELECT count(DISTINCT xmin::text) FROM {table}")).trim().parse().unwrap()
}

fn correlation(server: &PostgresServer, database: &str) -> f64 {
    let sql = "SELECT correlation FROM pg_stats WHERE tablename = 'big' AND attname = 'at'";
    server.psql(database, sql).trim().parse().unwrap()
}

fn assert_proven(report: &RestoreReport) {
    assert!(report.proof.differences.is_empty() && report.warnings.is_empty(), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_big_table_is_loaded_by_several_lanes_and_keeps_its_order() {
    let server = PostgresServer::shared(17);
    let live = server.create_database("many_lanes");
    live.psql(BIG);
    let bench = Bench::new().await;
    let backup = bench.backup(&live.url()).await;
    let expected = contents(server, &live);
    for jobs in [2, 4] {
        let target = Doomed::new(server, "many_lanes_target");
        let wanted = RestoreRequest { jobs, ..beside(&backup, &target.name) };
        let report = bench.restore(&live.url(), &wanted).await.unwrap();
        assert_eq!(contents(server, &target.name), expected);
        assert_proven(&report);
        assert_eq!((report.rows, report.proof.rows), (520_000, 520_000));
        let used = lanes(server, &target.name, "big");
        assert!((2..=jobs as u32).contains(&used), "{used} lanes of {jobs}");
        assert!(correlation(server, &target.name) > 0.95, "{}", correlation(server, &target.name));
        // A small one has one lane, and its very order.
        let order =
            "SELECT bool_and(n = number) FROM (SELECT n, row_number() OVER (ORDER BY ctid) AS number FROM before) t";
        assert_eq!(lanes(server, &target.name, "before"), 1);
        assert_eq!(server.psql(&target.name, order).trim(), "t");
    }

    // Of somebody else's archive the size is not known, and learnt on the way.
    let dump = bench.folder.path().join("foreign.dump");
    let pg_dump = client_tools(17).join("pg_dump");
    let made = Command::new(pg_dump).args(["-Fc", "-Z1", "-d", &live.url(), "-f"]).arg(&dump).status().unwrap();
    assert!(made.success());
    let foreign = bench.foreign("foreign.dump", &std::fs::read(&dump).unwrap());
    let target = Doomed::new(server, "many_lanes_foreign");
    let report = bench.restore(&live.url(), &beside(&foreign, &target.name)).await.unwrap();
    assert_proven(&report);
    assert_eq!(contents(server, &target.name), expected);
    assert!(lanes(server, &target.name, "big") >= 2);
    // The second lane comes when the first has some of the table in the network's buffers: a larger part of a small table.
    assert!(correlation(server, &target.name) > 0.8);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_lane_is_refused_is_taken_back_from_all_and_loaded_again() {
    let server = PostgresServer::shared(17);
    let live = server.create_database("refused_lane");
    // The first half passes by itself; the second needs a table that comes later.
    live.psql(
        "CREATE TABLE z_limits (most int); INSERT INTO z_limits VALUES (1000000);
         CREATE FUNCTION most() RETURNS int LANGUAGE plpgsql STABLE AS $$ DECLARE m int; BEGIN
            SELECT most INTO m FROM public.z_limits; RETURN coalesce(m, 0); END $$;
         CREATE TABLE big (n int CHECK (n <= 200000 OR n <= most()), words text);
         INSERT INTO big SELECT n, repeat(md5(n::text), 9) FROM generate_series(1, 300000) n",
    );
    let bench = Bench::new().await;
    let backup = bench.backup(&live.url()).await;
    let target = Doomed::new(server, "refused_lane_target");
    let report = bench.restore(&live.url(), &beside(&backup, &target.name)).await.unwrap();
    assert_proven(&report);
    assert_eq!(contents(server, &live), contents(server, &target.name));
    assert!(bench.ear.lines().iter().any(|line| line.contains("loading again")));

    // Refused for good, by a database of another name.
    live.psql(
        "CREATE FUNCTION here() RETURNS bool LANGUAGE sql STABLE AS $$ SELECT current_database() LIKE '%refused\\_lane%' AND \
         current_database() NOT LIKE '%target%' $$; \
         TRUNCATE z_limits; ALTER TABLE big DROP CONSTRAINT big_n_check, ADD CHECK (n <= 200000 OR here())",
    );
    let backup = bench.backup(&live.url()).await;
    let target = Doomed::new(server, "target");
    let error = bench.restore(&live.url(), &beside(&backup, &target.name)).await.unwrap_err();
    assert!(matches!(&error, Error::Table { table, .. } if table == "public.big"), "{error:?}");
    let there = format!("SELECT count(*) FROM pg_database WHERE datname LIKE '{}%'", target.name);
    assert_eq!(server.psql("postgres", &there).trim(), "0");
}

/// Pulls the trigger once so much of the archive was read.
#[derive(Debug)]
struct AfterBytes(u64, CancellationToken);

impl Observer for AfterBytes {
    fn notice(&self, event: &Event) {
        if matches!(event, Event::Progress { stage: Stage::Data, plain_bytes, .. } if *plain_bytes > self.0) {
            self.1.cancel();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelled_while_several_lanes_load_nothing_is_left() {
    let server = PostgresServer::shared(17);
    let live = server.create_database("cancelled_lanes");
    live.psql(BIG);
    let bench = Bench::new().await;
    let backup = bench.backup(&live.url()).await;
    let mut restorer = bench.restorer(&live.url());
    let plan = restorer.plan(&request(&backup, Target::Live)).await.unwrap();
    restorer.observer = Arc::new(AfterBytes(8 << 20, restorer.cancel.clone()));
    let error = restorer.execute(&plan, None).await.unwrap_err();
    assert!(matches!(error, Error::Interrupted), "{error}");
    assert_eq!(live.relatives(), [live.name()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn large_objects_of_any_size_come_back_by_all_lanes() {
    let server = PostgresServer::shared(17);
    let live = server.create_database("many_objects");
    live.psql(
        "SELECT count(lo_from_bytea(0, sha256(n::text::bytea))) FROM generate_series(1, 3000) n;
         SELECT lo_from_bytea(4000000000, (SELECT string_agg(sha512(n::text::bytea), ''::bytea ORDER BY n) FROM generate_series(1, 60000) n));
         SELECT lo_create(70000); SELECT lo_put(lo_create(70001), 1000003, 'after a hole');
         SELECT lo_from_bytea(70002, repeat('x', 262144)::bytea)",
    );
    let bench = Bench::new().await;
    let backup = bench.backup(&live.url()).await;
    let target = Doomed::new(server, "many_objects_target");
    let report = bench.restore(&live.url(), &beside(&backup, &target.name)).await.unwrap();
    assert_proven(&report);
    assert_eq!(report.proof.large_objects, 3004);
    assert_eq!(large_objects(server, &live), large_objects(server, &target.name));
}

/// Two tables, of which the bigger is not wanted; neither compresses.
const TWO: &str = "CREATE TABLE huge AS SELECT n, sha512(n::text::bytea) AS noise FROM generate_series(1, 100000) n;
    CREATE TABLE one AS SELECT n, sha512((-n)::text::bytea) AS noise FROM generate_series(1, 30000) n;
    CREATE TABLE huge_too AS SELECT * FROM huge";

#[tokio::test(flavor = "multi_thread")]
async fn for_one_table_no_more_is_fetched_than_its_frames() {
    for engine in ENGINES {
        no_more_is_fetched_than_its_frames(engine).await;
    }
}

async fn no_more_is_fetched_than_its_frames(engine: Engine) {
    let server = PostgresServer::shared(17);
    let live = server.create_database("fetched");
    live.psql(TWO);
    let mut bench = Bench::new().await;
    let counting = FaultyStorage::new(Arc::clone(&bench.storage));
    bench.storage = Arc::new(counting.clone());
    let backup = bench.backup_by(engine, &live.url(), &[]).await;

    // The frames that hold the table's block, and those of the table of contents.
    let meta = backup.meta.clone().unwrap();
    let entry = meta.entries.iter().find(|entry| entry.name == "one").unwrap();
    let offsets = meta.frames.plain_offsets();
    let stored = |from: u64, to: u64| -> u64 {
        let frames = offsets.windows(2).zip(&meta.frames.stored);
        frames.filter(|(bounds, _)| bounds[0] < to && bounds[1] > from).map(|(_, stored)| stored).sum()
    };
    let begins = offsets[entry.frame as usize] + entry.offset;
    let allowed = stored(begins, begins + entry.plain_bytes) + stored(0, meta.toc_bytes) + (1 << 20);
    assert!(allowed < meta.stored.bytes / 2, "{allowed} of {}", meta.stored.bytes);

    let target = Doomed::new(server, "fetched_target");
    let tables = vec!["one".parse().unwrap()];
    counting.heal();
    let wanted = RestoreRequest { tables, ..beside(&backup, &target.name) };
    let report = bench.restore(&live.url(), &wanted).await.unwrap();
    assert_eq!(report.rows, 30_000);
    assert!(counting.bytes_read() <= allowed, "{engine:?} restored: {} of {allowed}", counting.bytes_read());

    counting.heal();
    let options = ExportOptions { tables: Some(vec!["public.one".into()]), jobs: 4 };
    bench.keeper().export(&backup, &options, &mut Vec::new()).await.unwrap();
    assert!(counting.bytes_read() <= allowed, "{engine:?} exported: {} of {allowed}", counting.bytes_read());
}

#[tokio::test(flavor = "multi_thread")]
async fn stock_pg_restore_seeks_in_what_is_exported() {
    for engine in ENGINES {
        stock_pg_restore_seeks_in_an_export(engine).await;
    }
}

async fn stock_pg_restore_seeks_in_an_export(engine: Engine) {
    let server = PostgresServer::shared(17);
    let live = server.create_database("exported");
    live.psql(TWO);
    live.psql("SELECT count(lo_from_bytea(0, sha512(n::text::bytea))) FROM generate_series(1, 50) n");
    let bench = Bench::new().await;
    let backup = bench.backup_by(engine, &live.url(), &[]).await;
    let (all, objects) = (contents(server, &live), large_objects(server, &live));
    for tables in [None, Some(vec!["public.one".to_owned()])] {
        let mut archive = Vec::new();
        let options = ExportOptions { tables: tables.clone(), jobs: 2 };
        bench.keeper().export(&backup, &options, &mut archive).await.unwrap();
        let mut decoder = pgkeep_archive::Decoder::new();
        decoder.push(&archive);
        decoder.next_event().unwrap();
        let toc = Arc::clone(decoder.toc().unwrap());
        // Where the table of contents says that a block is, it is.
        for entry in toc.data_entries() {
            let pgkeep_archive::DataOffset::At(at) = entry.offset else { panic!("{entry:?}") };
            let id = i32::from_le_bytes(archive[at as usize + 2..at as usize + 6].try_into().unwrap());
            assert_eq!((id, archive[at as usize + 1]), (entry.dump_id, 0), "{}", entry.title());
        }
        let file = bench.folder.path().join("exported.dump");
        std::fs::write(&file, archive).unwrap();
        let target = Doomed::new(server, "exported_target");
        server.psql("postgres", &format!("CREATE DATABASE {} TEMPLATE template0", target.name));
        let url = server.url(&target.name);
        let mut command = Command::new(client_tools(17).join("pg_restore"));
        assert!(command.args(["-j2", "--exit-on-error", "-d", &url]).arg(&file).status().unwrap().success());
        let found = contents(server, &target.name);
        if tables.is_none() {
            assert_eq!((found, large_objects(server, &target.name)), (all.clone(), objects.clone()));
        } else {
            assert_eq!(found["public.one"], all["public.one"]);
            assert_eq!(found["public.huge"].rows, 0);
        }
    }
}
