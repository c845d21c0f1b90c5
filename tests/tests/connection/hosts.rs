//! Which server a session ends up with.

use std::time::Duration;

use pgkeep_dump::{Error, ErrorKind};
use pgkeep_testkit::{MAJORS, PostgresServer};

use crate::{connect, relay, through, try_connect, value};

/// A port nobody listens on.
fn closed_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_host_that_answers_is_taken_and_pinned() {
    let server = PostgresServer::shared(17);
    let silent = relay::silent().await;
    let place = format!(
        "host=localhost,127.0.0.1,localhost port={},{},{} connect_timeout=1",
        closed_port(),
        silent.port,
        server.port()
    );
    let session = connect(&through(server, &place)).await;
    assert_eq!(session.resolved().server(), format!("localhost:{}", server.port()));
    let again = pgkeep_dump::Connection::connect(session.resolved(), pgkeep_dump::SessionSettings::Dump).await.unwrap();
    assert_eq!(again.resolved().server(), session.resolved().server());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_reached_is_named() {
    let server = PostgresServer::shared(17);
    let port = closed_port();
    let error = try_connect(&through(server, &format!("host=127.0.0.1 port={port}"))).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Unreachable, true));
    assert_eq!(error.to_string(), format!("server 127.0.0.1:{port} cannot be reached"));

    let error = try_connect(&through(server, "host=/no/such/folder port=1")).await.unwrap_err();
    assert_eq!(error.to_string(), "server /no/such/folder/.s.PGSQL.1 cannot be reached");
    let error = try_connect(&through(server, "host=no-such-host.invalid")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error:?}");

    let silent = relay::silent().await;
    let error = try_connect(&through(server, &format!("host=127.0.0.1 port={} connect_timeout=1", silent.port)))
        .await
        .unwrap_err();
    assert!(matches!(&error, Error::Timeout { after, .. } if *after == Duration::from_secs(1)), "{error:?}");

    let error = try_connect(&through(
        server,
        &format!("host=127.0.0.1,127.0.0.1 port={port},{}  connect_timeout=1", silent.port),
    ))
    .await;
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains(&format!("127.0.0.1:{port} cannot be reached")) && error.contains("took longer than 1s"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_not_hidden_by_trying_others() {
    let server = PostgresServer::shared(17);
    let place =
        format!("host=127.0.0.1,127.0.0.1 port={0},{0} user=postgres password=wrong dbname=postgres", server.port());
    let error = try_connect(&place).await.unwrap_err();
    assert_eq!(error.sqlstate(), Some("28P01"), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_server_is_told_apart() {
    let server = PostgresServer::shared(17);
    for answer in
        [b"HTTP/1.1 400 Bad Request\r\n\r\n".as_slice(), b"", b"N\xff\xff\xff\xff\xff", b"R\0\0\0\x08\0\0\0\x63"]
    {
        let relay = relay::says(answer).await;
        for mode in ["disable", "prefer", "require"] {
            let place = format!("host=127.0.0.1 port={} sslmode={mode} connect_timeout=3", relay.port);
            let error = try_connect(&through(server, &place)).await.unwrap_err();
            assert!(
                matches!(
                    error,
                    Error::Protocol { .. }
                        | Error::Lost { .. }
                        | Error::Unreachable { .. }
                        | Error::Tls { .. }
                        | Error::Timeout { .. }
                ),
                "{mode} {answer:?}: {error:?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unix_sockets() {
    for major in MAJORS {
        let server = PostgresServer::shared(major);
        let folder = tempfile::tempdir().unwrap();
        let _relay = relay::unix_socket(folder.path(), 7777, server.port());
        // sslmode does not concern a socket, as in libpq.
        let mut session =
            connect(&through(server, &format!("host={} port=7777 sslmode=require", folder.path().display()))).await;
        assert!(!session.is_encrypted());
        assert_eq!(session.resolved().server(), folder.path().join(".s.PGSQL.7777").display().to_string());
        assert_eq!(value(&mut session, "SELECT 1").await, "1");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn target_session_attrs() {
    for major in MAJORS {
        let server = PostgresServer::shared(major);
        let database = server.create_database("target");
        let reading = server.create_database("target_reading");
        server.psql("postgres", &format!("ALTER DATABASE {} SET default_transaction_read_only = on", reading.name()));
        for (database, wanted, right) in [
            (&database, "any", true),
            (&database, "read-write", true),
            (&database, "read-only", false),
            (&database, "primary", true),
            (&database, "standby", false),
            (&database, "prefer-standby", true),
            (&reading, "read-write", false),
            (&reading, "read-only", true),
            (&reading, "primary", true),
        ] {
            match try_connect(&format!("{}?target_session_attrs={wanted}", database.url())).await {
                Ok(_) => assert!(right, "{major} {wanted}"),
                Err(error) => {
                    assert!(!right && matches!(error, Error::WrongRole { .. }), "{major} {wanted}: {error:?}");
                }
            }
        }
    }
}
