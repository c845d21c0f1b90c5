//! Poolers are refused, servers are not.

use pgkeep_dump::{Connection, Error, ErrorKind, SessionSettings};
use pgkeep_testkit::{MAJORS, PostgresServer};

use crate::{authentication, connect, relay, settings, try_connect};

#[tokio::test(flavor = "multi_thread")]
async fn servers_are_none() {
    for major in MAJORS {
        for session in [SessionSettings::Dump, SessionSettings::Load, SessionSettings::Admin] {
            let settings = settings(&PostgresServer::shared(major).url("postgres"));
            Connection::connect(&settings, session).await.unwrap().refuse_pooler().await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_refuses_session_settings() {
    // pgbouncer's words.
    let fields = b"SFATAL\0C08P01\0Munsupported startup parameter: options\0\0";
    let mut message = vec![b'E', 0, 0, 0, fields.len() as u8 + 4];
    message.extend(fields);
    let relay = relay::says(&message).await;
    let error = try_connect(&format!("host=127.0.0.1 port={} sslmode=disable user=u password=p", relay.port))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Pooler { .. }), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::Pooler);
    assert!(error.hint().unwrap().contains("PostgreSQL server itself"));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_shares_a_server_process() {
    let server = authentication::server();
    let startup = |options: &str| {
        let mut body = vec![0, 3, 0, 0];
        for text in ["user", "trust_role", "database", "postgres", "options", options, ""] {
            body.extend(text.as_bytes());
            body.push(0);
        }
        let mut message = (body.len() as u32 + 4).to_be_bytes().to_vec();
        message.extend(body);
        message
    };
    for (options, sign) in [
        (SessionSettings::Dump.options(), "share one server process"),
        ("-c TimeZone=Asia/Kolkata".to_owned(), "did not arrive"),
    ] {
        let relay = relay::pooler(startup(&options), server.port()).await;
        let mut session =
            connect(&format!("host=127.0.0.1 port={} sslmode=disable user=trust_role dbname=postgres", relay.port))
                .await;
        let error = session.refuse_pooler().await.unwrap_err();
        assert!(matches!(error, Error::Pooler { .. }) && error.to_string().contains(sign), "{error:?}");
    }
}
