//! The same text as pg_dump's, whatever goes on meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};

use pgkeep_testkit::{MAJORS, PostgresOptions, PostgresServer, nasty};

use crate::tools::{Ends, assert_same, drain, engine, start, stock_text, text};

/// A table that is divided in many ranges, one whose pages are heavy, and what changes them without an end.
const CHURNED: &str = "
    CREATE TABLE public.ledger (id bigint PRIMARY KEY, amount numeric, note text, gone int, doubled numeric GENERATED ALWAYS AS (amount * 2) STORED);
    ALTER TABLE public.ledger DROP COLUMN gone;
    INSERT INTO public.ledger (id, amount, note) SELECT g, g / 7.0, repeat(md5(g::text), 1 + g % 5) FROM generate_series(1, 20000) g;
    CREATE TABLE public.media (id int, content bytea);
    ALTER TABLE public.media ALTER content SET STORAGE EXTERNAL;
    INSERT INTO public.media SELECT g, decode(repeat(md5(g::text), 400), 'hex') FROM generate_series(1, 300) g;
    CREATE TABLE public.parent (id int, note text);
    CREATE TABLE public.child (more text) INHERITS (public.parent);
    INSERT INTO public.parent SELECT g, 'parent' FROM generate_series(1, 3000) g;
    INSERT INTO public.child SELECT g, 'child', repeat('x', 50) FROM generate_series(1, 3000) g;
    VACUUM ANALYZE;
    CREATE TABLE public.uncounted WITH (autovacuum_enabled = off) AS SELECT id, content FROM public.media WITH NO DATA;
    ALTER TABLE public.uncounted ALTER content SET STORAGE EXTERNAL;
    INSERT INTO public.uncounted SELECT * FROM public.media;";
const CHURN: &str = "
    UPDATE public.ledger SET amount = amount + 1 WHERE id % 17 = (random() * 16)::int;
    DELETE FROM public.ledger WHERE id % 101 = (random() * 100)::int;
    INSERT INTO public.ledger (id, amount, note) SELECT 1000000 + (random() * 1e12)::bigint, 1, 'new' FROM generate_series(1, 500) ON CONFLICT DO NOTHING;
    UPDATE public.media SET id = -id WHERE id % 3 = (random() * 2)::int;
    INSERT INTO public.parent SELECT 7, 'late' FROM generate_series(1, 50);
    SELECT lo_put(oid, 0, '\\xdeadbeef') FROM pg_largeobject_metadata LIMIT 3;
    VACUUM public.ledger;";

#[tokio::test(flavor = "multi_thread")]
async fn the_text_is_pg_dumps_on_the_same_snapshot_while_writers_write() {
    for major in MAJORS {
        // A server of its own: its exported snapshots are counted.
        let server = PostgresServer::start(major, &PostgresOptions::default());
        let database = server.create_database("identity");
        nasty::load_light(&server, &database);
        database.psql(CHURNED);
        let going_on = AtomicBool::new(true);
        let (ours, theirs, segments) = std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while going_on.load(Ordering::Relaxed) {
                        // Two writers can be in each other's way.
                        let _ = database.try_psql(CHURN);
                    }
                });
            }
            let _until_here = Ends(&going_on);
            tokio::task::block_in_place(|| {
                tokio::runtime::Handle::current().block_on(async {
                    let stream = start(&engine(&database.url(), 3, &[]).await).await.unwrap();
                    assert_eq!(stream.engine, "parallel");
                    let theirs = stock_text(&server, &database).await;
                    let dumped = drain(stream).await.unwrap();
                    assert_eq!(dumped.outcome.warnings, Vec::<String>::new());
                    (text(major, &dumped).await, theirs, dumped.segments)
                })
            })
        });
        assert_same(&ours, &theirs);
        assert!(segments > 40, "{major}: the tables were divided, {segments}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_of_a_database_and_its_options() {
    let server = PostgresServer::start(17, &PostgresOptions::default());
    let database = server.create_database("parts");
    nasty::load_light(&server, &database);
    database.psql(CHURNED);
    for arguments in
        [&["--table=public.ledger"][..], &["--schema=public", "-x"], &["--exclude-table-data=public.media", "-B"]]
    {
        let stream = start(&engine(&database.url(), 2, arguments).await).await.unwrap();
        assert_eq!(stream.engine, "parallel");
        let snapshot = server.psql("postgres", "SELECT name FROM pg_ls_dir('pg_snapshots') AS name");
        let snapshot = format!("--snapshot={snapshot}");
        let mut stock = vec!["pg_dump", "-U", "postgres", "-Fc", "-Z0", &snapshot];
        stock.extend_from_slice(arguments);
        stock.push(&database);
        let canonical = ["env", "PGOPTIONS=-c TimeZone=UTC -c bytea_output=hex"];
        let output = server.exec(&[&canonical[..], &stock].concat());
        assert!(output.status.success());
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &output.stdout).unwrap();
        let dumped = drain(stream).await.unwrap();
        assert_same(&text(17, &dumped).await, &crate::tools::text_of(17, file.path()).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn databases_of_other_encodings() {
    for (encoding, value) in [("LATIN1", "E'M\\xfcller'"), ("SQL_ASCII", "E'M\\xfcller \\xff'"), ("EUC_JP", "'日本語'")]
    {
        let server = PostgresServer::start(15, &PostgresOptions::default());
        let database =
            server.create_database_with("encoded", &format!("ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0"));
        let client = if encoding == "EUC_JP" { "UTF8" } else { encoding };
        let name = if encoding == "LATIN1" { "Größe" } else { "odd \"\" \\ name" };
        database.psql(&format!(
            "SET client_encoding = '{client}'; CREATE TABLE \"{name}\" (\"a\\b'c)\" text, n int); \
             INSERT INTO \"{name}\" SELECT {value}, g FROM generate_series(1, 5000) g"
        ));
        let stream = start(&engine(&database.url(), 2, &[]).await).await.unwrap();
        assert_eq!((stream.engine, stream.toc.encoding().as_deref()), ("parallel", Some(encoding)));
        let theirs = stock_text(&server, &database).await;
        let dumped = drain(stream).await.unwrap();
        assert_same(&text(15, &dumped).await, &theirs);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn large_objects_with_holes_and_odd_numbers() {
    for major in MAJORS {
        let server = PostgresServer::start(major, &PostgresOptions::default());
        let database = server.create_database("objects");
        database.psql(
            "CREATE ROLE keeper; CREATE TABLE filler AS SELECT g, repeat('x', 100) FROM generate_series(1, 2000) g;
             SELECT lo_create(3000000001); SELECT lo_put(3000000001, 5000000, '\\x616263');
             SELECT lo_create(1); SELECT lo_from_bytea(2, decode(repeat('00ff', 300000), 'hex'));
             SELECT lo_put(lo_create(77), 2047, '\\x01'); SELECT lo_put(77, 4096, '\\x02');
             ALTER LARGE OBJECT 77 OWNER TO keeper; GRANT SELECT ON LARGE OBJECT 77 TO PUBLIC;
             SELECT count(lo_from_bytea(1000 + g, decode(md5(g::text), 'hex'))) FROM generate_series(1, 3000) g;
             SELECT lo_truncate(lo_open(2, x'60000'::int), 100001);",
        );
        let stream = start(&engine(&database.url(), 3, &[]).await).await.unwrap();
        let theirs = stock_text(&server, &database).await;
        let dumped = drain(stream).await.unwrap();
        assert_same(&text(major, &dumped).await, &theirs);
        drop(database);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_big_large_object_is_read_in_stretches_and_no_statement_waits_for_a_store() {
    let server = PostgresServer::start(17, &PostgresOptions::default());
    let database = server.create_database("stretches");
    database.psql("SELECT lo_from_bytea(1, '\\x01'), lo_from_bytea(2, decode(repeat('0123456789abcdef', 4000000), 'hex')), lo_create(3)");
    let stream = start(&engine(&database.url(), 2, &[]).await).await.unwrap();
    assert_eq!(stream.engine, "parallel");
    let theirs = stock_text(&server, &database).await;
    // Long enough for every session to have read as much as it may.
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'ClientWrite'";
    assert_eq!(server.psql("postgres", waiting), "0");
    assert_same(&text(17, &drain(stream).await.unwrap()).await, &theirs);
}
