//! COPY in both directions: sizes, bounded pieces, and failures in the middle.

use bytes::Bytes;
use pgkeep_dump::{Connection, Error, SessionSettings, TransactionStatus};
use pgkeep_testkit::{MAJORS, PostgresServer};

use crate::sessions::is_gone;
use crate::{connect, settings, value};

/// The pieces' bytes in one, the rows, and the size of the largest piece.
async fn read(session: &mut Connection, sql: &str) -> (Vec<u8>, u64, usize) {
    let mut copy = session.copy_out(sql).await.unwrap();
    let (mut bytes, mut largest) = (Vec::new(), 0);
    while let Some(piece) = copy.next().await.unwrap() {
        assert!(!piece.is_empty());
        largest = largest.max(piece.len());
        bytes.extend_from_slice(&piece);
    }
    assert!(copy.next().await.unwrap().is_none());
    let rows = copy.rows();
    (bytes, rows, largest)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_in_comes_out() {
    for major in MAJORS {
        let server = PostgresServer::shared(major);
        let database = server.create_database("copy");
        for mode in ["disable", "require"] {
            let settings = settings(&format!("{}?sslmode={mode}", database.url()));
            let mut session = Connection::connect(&settings, SessionSettings::Load).await.unwrap();
            session.execute("DROP TABLE IF EXISTS public.t; CREATE TABLE public.t (a int, b text)").await.unwrap();
            // Rows of all sizes around the limits of pieces and batches, and thousands of small ones.
            let sizes = [0, 1, 8_000, 32_000, 32_768, 65_536, 131_072, 262_144, 300_000, 1_048_576, 3_000_000];
            let mut text = Vec::new();
            for number in 0..30_000 {
                let size = if number % 3_000 == 7 { sizes[number / 3_000] } else { number % 200 };
                text.extend(
                    format!("{number}\t{}\n", "xyzäöü".chars().cycle().take(size).collect::<String>()).into_bytes(),
                );
            }
            for (chunk, rows) in [(1_000, 30_000), (40_000, 30_000), (5_000_000, 30_000)] {
                session.execute("TRUNCATE public.t").await.unwrap();
                let mut copy = session.copy_in("COPY public.t (a, b) FROM STDIN").await.unwrap();
                for piece in text.chunks(chunk) {
                    copy.send(Bytes::copy_from_slice(piece)).await.unwrap();
                }
                assert_eq!(copy.finish().await.unwrap(), rows);
                // Small rows fill up the pages of larger ones, so they need not lie in the order in which they came.
                let (bytes, told, largest) =
                    read(&mut session, "COPY (SELECT a, b FROM public.t ORDER BY a) TO STDOUT").await;
                assert!(bytes == text, "{major} {mode} {chunk}");
                assert_eq!(told, rows);
                assert!(largest <= 256 * 1024, "{largest}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_huge_value_comes_in_bounded_pieces() {
    for major in MAJORS {
        let server = PostgresServer::shared(major);
        let mut session = connect(&server.url("postgres")).await;
        let sql =
            "COPY (SELECT n, decode(repeat('ab', 64 * 1024 * 1024), 'hex') FROM generate_series(1, 2) n) TO STDOUT";
        let (bytes, rows, largest) = read(&mut session, sql).await;
        assert_eq!((bytes.len(), rows), (2 * (2 + 3 + 2 * 64 * 1024 * 1024 + 1), 2));
        assert!(largest <= 256 * 1024, "{largest}");
        assert!(bytes.starts_with(b"1\t\\\\xabab"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_copies() {
    let mut session = connect(&PostgresServer::shared(17).url("postgres")).await;
    let (bytes, rows, _) = read(&mut session, "COPY (SELECT 1 WHERE false) TO STDOUT").await;
    assert_eq!((bytes.len(), rows), (0, 0));
    session.execute("CREATE TEMP TABLE none (); CREATE TEMP TABLE t (a int)").await.unwrap();
    let copy = session.copy_in("COPY t FROM STDIN").await.unwrap();
    assert_eq!(copy.finish().await.unwrap(), 0);
    session.execute("INSERT INTO none DEFAULT VALUES; INSERT INTO none DEFAULT VALUES").await.unwrap();
    let (bytes, rows, _) = read(&mut session, "COPY none TO STDOUT").await;
    assert_eq!((bytes.as_slice(), rows), (b"\n\n".as_slice(), 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_in_the_middle_of_reading_leaves_a_usable_session() {
    let mut session = connect(&PostgresServer::shared(17).url("postgres")).await;
    session.execute("BEGIN").await.unwrap();
    let mut copy = session
        .copy_out("COPY (SELECT 100000 / (50000 - n) FROM generate_series(1, 100000) n) TO STDOUT")
        .await
        .unwrap();
    let mut bytes = 0;
    let error = loop {
        match copy.next().await {
            Ok(Some(piece)) => bytes += piece.len(),
            Ok(None) => panic!("it came to its end"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.sqlstate(), Some("22012"));
    assert!(bytes > 100_000, "rows before the error come out first");
    drop(copy);
    assert_eq!(session.transaction(), TransactionStatus::Failed);
    session.execute("ROLLBACK").await.unwrap();
    assert_eq!(value(&mut session, "SELECT 1").await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_in_the_middle_of_writing_is_noticed_early_and_leaves_a_usable_session() {
    for mode in ["disable", "require"] {
        let url = format!("{}?sslmode={mode}", PostgresServer::shared(17).url("postgres"));
        let mut session = connect(&url).await;
        session.execute("CREATE TEMP TABLE t (a int)").await.unwrap();
        let mut copy = session.copy_in("COPY t FROM STDIN").await.unwrap();
        copy.send(Bytes::from_static(b"1\nsecret row\n")).await.unwrap();
        let rows = Bytes::from(b"2\n".repeat(500_000));
        let mut sent = 0;
        let error = loop {
            assert!(sent < 200, "nobody noticed");
            match copy.send(rows.clone()).await {
                Ok(()) => sent += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(error.sqlstate(), Some("22P02"));
        assert!(error.server_error().unwrap().context.as_ref().unwrap().contains("line 2"));
        assert!(matches!(copy.send(rows).await, Err(Error::Abandoned { .. })));
        drop(copy);
        assert_eq!(value(&mut session, "SELECT count(*) FROM t").await, "0");

        // One that only shows at the end.
        let mut copy = session.copy_in("COPY t FROM STDIN").await.unwrap();
        copy.send(Bytes::from_static(b"1\nx\n")).await.unwrap();
        assert_eq!(copy.finish().await.unwrap_err().sqlstate(), Some("22P02"));
        assert_eq!(value(&mut session, "SELECT count(*) FROM t").await, "0");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn giving_up_a_copy() {
    let mut session = connect(&PostgresServer::shared(17).url("postgres")).await;
    session.execute("CREATE TEMP TABLE t (a int)").await.unwrap();
    let mut copy = session.copy_in("COPY t FROM STDIN").await.unwrap();
    copy.send(Bytes::from(b"2\n".repeat(500_000))).await.unwrap();
    copy.abort("it was not wanted").await.unwrap();
    assert_eq!(value(&mut session, "SELECT count(*) FROM t").await, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_talks_much_while_it_reads_does_not_stall() {
    let mut session = connect(&PostgresServer::shared(17).url("postgres")).await;
    session
        .execute(
            "CREATE TEMP TABLE t (a int);
             CREATE FUNCTION pg_temp.talk() RETURNS trigger LANGUAGE plpgsql AS
             $$BEGIN RAISE WARNING '%', repeat('x', 2000); RETURN new; END$$;
             CREATE TRIGGER talk BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION pg_temp.talk()",
        )
        .await
        .unwrap();
    let mut copy = session.copy_in("COPY t FROM STDIN").await.unwrap();
    copy.send(Bytes::from(b"2\n".repeat(30_000))).await.unwrap();
    assert_eq!(copy.finish().await.unwrap(), 30_000);
    assert_eq!(session.take_notices().len(), 1000);
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_that_are_dropped_end_their_sessions() {
    let server = PostgresServer::shared(17);
    let mut session = connect(&server.url("postgres")).await;
    let mut copy =
        session.copy_out("COPY (SELECT repeat('x', 1000) FROM generate_series(1, 10000000)) TO STDOUT").await.unwrap();
    copy.next().await.unwrap();
    drop(copy);
    assert!(session.is_closed());
    assert!(session.query("SELECT 1").await.is_err());
    is_gone(server, session.backend_pid()).await;

    let database = server.create_database("dropped");
    database.psql("CREATE TABLE t (a int)");
    let mut session = connect(&database.url()).await;
    let mut copy = session.copy_in("COPY public.t FROM STDIN").await.unwrap();
    copy.send(Bytes::from(b"2\n".repeat(500_000))).await.unwrap();
    drop(copy);
    is_gone(server, session.backend_pid()).await;
    assert_eq!(database.psql("SELECT count(*) FROM t"), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_for_a_piece_can_be_given_up_and_taken_up_again() {
    let mut session = connect(&PostgresServer::shared(17).url("postgres")).await;
    let sql =
        "COPY (SELECT n, pg_sleep(CASE WHEN n % 50 = 0 THEN 0.05 ELSE 0 END) FROM generate_series(1, 500) n) TO STDOUT";
    let mut copy = session.copy_out(sql).await.unwrap();
    let mut bytes = Vec::new();
    loop {
        match tokio::time::timeout(std::time::Duration::from_millis(10), copy.next()).await {
            Err(_) => {}
            Ok(piece) => match piece.unwrap() {
                Some(piece) => bytes.extend_from_slice(&piece),
                None => break,
            },
        }
    }
    assert_eq!(copy.rows(), 500);
    let expected = (1..=500).flat_map(|n| format!("{n}\t\n").into_bytes());
    assert_eq!(bytes, expected.collect::<Vec<_>>());
}
