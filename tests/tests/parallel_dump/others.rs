//! Small databases, other engines, ends before the end.

use std::time::Duration;

use pgkeep_dump::{Dump, Error};
use pgkeep_testkit::{PostgresOptions, PostgresServer};
use tokio_util::sync::CancellationToken;

use crate::tools::{assert_same, drain, engine, no_session_is_left, start, stock_text, text};

const BIG: &str = "CREATE TABLE big AS SELECT g AS id, repeat('x', 1000) AS filler FROM generate_series(1, 60000) g";

#[tokio::test(flavor = "multi_thread")]
async fn a_tiny_database_is_dumped_whoever_does_it_first() {
    let server = PostgresServer::shared(17);
    let database = server.create_database("tiny");
    database.psql("CREATE TABLE t AS SELECT 1 AS id");
    let stream = start(&engine(&database.url(), 2, &[]).await).await.unwrap();
    // As a rule pg_dump has ended before anybody could help; on a busy machine it has not.
    let dumped = drain(stream).await.unwrap();
    assert!(text(17, &dumped).await.contains("COPY public.t (id) FROM stdin;\n1\n\\."));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_cannot_do_is_left_to_pg_dump_with_a_reason() {
    let server = PostgresServer::shared(17);
    let database = server.create_database("unsuited");
    database.psql(BIG);
    let stream = start(&engine(&database.url(), 2, &["--serializable-deferrable"]).await).await.unwrap();
    assert_eq!(stream.engine, "pg_dump");
    let dumped = drain(stream).await.unwrap();
    assert_eq!(dumped.notes, ["pg_dump does all of the work: --serializable-deferrable is left to pg_dump"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_session_is_enough_and_so_are_many() {
    let server = PostgresServer::start(18, &PostgresOptions::default());
    let database = server.create_database("jobs");
    database.psql(BIG);
    for jobs in [1, 9] {
        let stream = start(&engine(&database.url(), jobs, &[]).await).await.unwrap();
        let theirs = stock_text(&server, &database).await;
        assert_same(&text(18, &drain(stream).await.unwrap()).await, &theirs);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_of_a_dump_that_is_given_up() {
    let server = PostgresServer::start(17, &PostgresOptions::default());
    let database = server.create_database("ended");
    database.psql(BIG);
    let engine = engine(&database.url(), 3, &[]).await;

    let cancel = CancellationToken::new();
    let stream = engine.start(cancel.clone()).await.unwrap();
    cancel.cancel();
    assert!(matches!(drain(stream).await, Err(Error::Interrupted)));
    no_session_is_left(&server, &database).await;

    drop(engine.start(CancellationToken::new()).await.unwrap());
    no_session_is_left(&server, &database).await;

    for wait in [0, 30, 100, 300] {
        let _ = tokio::time::timeout(Duration::from_millis(wait), engine.start(CancellationToken::new())).await;
    }
    no_session_is_left(&server, &database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_loses_its_session_fails_the_dump() {
    let server = PostgresServer::start(17, &PostgresOptions::default());
    let database = server.create_database("ended");
    database.psql(BIG);
    let engine = engine(&database.url(), 2, &[]).await;
    for (state, whose) in [
        ("backend_xmin IS NOT NULL", "all"),
        ("query ILIKE '%pg_export_snapshot%' OR query LIKE 'SELECT relation FROM%'", "the leader's"),
    ] {
        let stream = start(&engine).await.unwrap();
        let ended = server.psql(
            "postgres",
            &format!(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = '{}' AND ({state})",
                database.name()
            ),
        );
        assert_ne!(ended, "0", "{whose}");
        let Err(error) = drain(stream).await else { panic!("{whose} session was lost, and it succeeded") };
        assert!(error.is_retryable(), "{whose}: {error}");
        no_session_is_left(&server, &database).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_beyond_the_limit_is_named() {
    let server = PostgresServer::shared(17);
    let database = server.create_database("limit");
    database.psql(
        "CREATE TABLE fine AS SELECT g AS id, repeat('x', 1000) AS filler FROM generate_series(1, 1000) g;
         CREATE TABLE \"too \"\"Long\" (id int, content bytea, more jsonb);
         INSERT INTO \"too \"\"Long\" SELECT 1, decode(repeat('00', 1000), 'hex')",
    );
    // Half a gigabyte and more, made of pieces: no statement could bring it.
    database.psql(
        "ALTER TABLE \"too \"\"Long\" ALTER content SET STORAGE EXTENDED;
         DO $$ DECLARE b bytea := decode(repeat('00', 1000000), 'hex'); BEGIN
         FOR i IN 1..9 LOOP b := b || b; END LOOP; b := b || substr(b, 1, 60000000);
         INSERT INTO \"too \"\"Long\" VALUES (2, b, '[1]'); END $$",
    );
    let Err(error) = drain(start(&engine(&database.url(), 2, &[]).await).await.unwrap()).await else { panic!() };
    assert!(matches!(&error, Error::Copy { table, .. } if table == "public.too \"Long"), "{error}");
    let hint = error.hint().unwrap();
    let (_, query) = hint.split_once("find it by: ").expect("it says how");
    let found = database.psql(query);
    let longest = found.lines().next().unwrap();
    assert!(longest.starts_with("(0,2)|572000000|"), "{found}");
}
