//! A standby goes on replaying.

use std::time::{Duration, Instant};

use pgkeep_testkit::{PostgresOptions, PostgresServer};

use crate::tools::{assert_same, drain, engine, start, text};

const STANDBY_PORT: &str = "5499";

/// A standby beside the primary, in its container.
fn make_standby(server: &PostgresServer) -> String {
    let make = "set -e
        pg_basebackup -h /var/run/postgresql -U postgres -D /var/lib/postgresql/standby -R -X stream -c fast
        pg_ctl start -w -D /var/lib/postgresql/standby -l /tmp/standby.log \
            -o '-p 5499 -c listen_addresses=* -c max_connections=200 -c max_prepared_transactions=10 -c max_standby_streaming_delay=2s -c hot_standby_feedback=off'";
    let output = server.exec(&["sh", "-c", make]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let address = String::from_utf8_lossy(&server.exec(&["hostname", "-i"]).stdout).trim().to_owned();
    let published = format!("127.0.0.1:{}", server.port());
    server.url("app").replace(&published, &format!("{address}:{STANDBY_PORT}"))
}

fn on_standby(server: &PostgresServer, sql: &str) -> String {
    let output = server.exec(&["psql", "-XAtq", "-U", "postgres", "-p", STANDBY_PORT, "-d", "app", "-c", sql]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn replayed_within(server: &PostgresServer, limit: Duration) -> bool {
    let position = server.psql("app", "SELECT pg_current_wal_flush_lsn()");
    let begun = Instant::now();
    while begun.elapsed() < limit {
        if on_standby(server, &format!("SELECT pg_last_wal_replay_lsn() >= '{position}'")) == "t" {
            return true;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    false
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_is_dumped_and_replays_although_nobody_takes_the_blocks() {
    let server = PostgresServer::start(17, &PostgresOptions::default());
    server.psql("postgres", "CREATE DATABASE app");
    server.psql(
        "app",
        "CREATE TABLE big AS SELECT g AS id, repeat('x', 1000) AS filler FROM generate_series(1, 60000) g;
         SELECT lo_from_bytea(4711, decode(repeat('0123456789abcdef', 4000000), 'hex'));
         CREATE TABLE dead AS SELECT g AS id FROM generate_series(1, 50000) g",
    );
    let url = make_standby(&server);
    let engine = engine(&url, 3, &[]).await;

    let dumped = drain(start(&engine).await.unwrap()).await.unwrap();
    let whole = text(17, &dumped).await;
    assert_eq!(whole.matches("xxxx\n").count(), 60_000);
    assert_eq!(whole.matches("0123456789abcdef").count(), 4_000_000);

    let stream = start(&engine).await.unwrap();
    assert_eq!(stream.engine, "parallel");
    // Long enough for every worker to have read as much as it holds.
    tokio::time::sleep(Duration::from_secs(2)).await;
    // Rows vanish that the dump's snapshot sees: replay waits as long as it may, and then ends who is in its way.
    server.psql("app", "DELETE FROM dead; VACUUM dead; CREATE TABLE later AS SELECT 1 AS id");
    assert!(replayed_within(&server, Duration::from_secs(15)), "replay stands still");
    assert_eq!(on_standby(&server, "SELECT count(*) FROM later"), "1");
    let Err(error) = drain(stream).await else { panic!("its snapshot was taken away") };
    assert!(error.hint().is_some() || error.is_retryable(), "{error}");

    // In nobody's way, it comes to its end.
    let stream = start(&engine).await.unwrap();
    server.psql("app", "INSERT INTO later VALUES (2)");
    assert!(replayed_within(&server, Duration::from_secs(15)));
    let dumped = drain(stream).await.unwrap();
    let text = text(17, &dumped).await;
    assert!(text.contains("COPY public.later (id) FROM stdin;\n1\n\\."));
    assert_same(&text.matches("xxxx\n").count().to_string(), "60000");
}
