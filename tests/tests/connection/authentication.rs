//! Every method that pg_hba.conf can ask for and we know, and every refusal.

use std::sync::OnceLock;

use pgkeep_dump::{Connection, Error, ErrorKind, SessionSettings};
use pgkeep_testkit::{MAJORS, PostgresOptions, PostgresServer};

use crate::{connect, settings, try_connect, value};

const RULES: &str = "
host      all md5_role    all md5
host      all plain_role  all password
host      all trust_role  all trust
host      all barred_role all reject
hostssl   all tls_role    all scram-sha-256
hostnossl all clear_role  all scram-sha-256
host      all tls_role,clear_role all reject
";

/// A server whose rules are ours. Its certificate is the self-signed one of its image.
pub(crate) fn server() -> &'static PostgresServer {
    static SERVER: OnceLock<PostgresServer> = OnceLock::new();
    SERVER.get_or_init(|| {
        let server = PostgresServer::start(17, &PostgresOptions::default());
        server.psql(
            "postgres",
            "SET password_encryption = 'md5'; CREATE ROLE md5_role LOGIN PASSWORD 'pass word';
             SET password_encryption = 'scram-sha-256'; CREATE ROLE plain_role LOGIN PASSWORD 'pass word';
             CREATE ROLE trust_role LOGIN; CREATE ROLE barred_role LOGIN PASSWORD 'pass word';
             CREATE ROLE tls_role LOGIN PASSWORD 'pass word'; CREATE ROLE clear_role LOGIN PASSWORD 'pass word';
             CREATE ROLE \"päß\" LOGIN PASSWORD 'pa\u{a0}\u{df}€'",
        );
        let script = "cd /var/lib/postgresql/data && { cat; cat pg_hba.conf; } >new && mv new pg_hba.conf && pg_ctl reload -s -D .";
        let output = server.exec_with_input(&["sh", "-c", script], RULES.as_bytes());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        // The reload has no answer; a rule that is in force has.
        while server.psql("postgres", "SELECT count(*) FROM pg_hba_file_rules WHERE 'md5_role' = ANY (user_name)") != "1"
            || server.exec(&["psql", "-h", "127.0.0.1", "-U", "trust_role", "-d", "postgres", "-wc", "SELECT 1"]).status.code() != Some(0)
        {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        server
    })
}

fn place(role: &str, more: &str) -> String {
    format!("host=127.0.0.1 port={} dbname=postgres user={role} {more}", server().port())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_method_lets_the_right_password_in_and_no_other() {
    for role in ["md5_role", "plain_role", "tls_role"] {
        let mut session = connect(&place(role, "password='pass word'")).await;
        assert_eq!(value(&mut session, "SELECT current_user").await, role);
        session.close().await.unwrap();

        let refused = try_connect(&place(role, "password=wrong")).await.unwrap_err();
        assert!(matches!(refused, Error::Refused { .. }), "{role}: {refused:?}");
        assert_eq!(
            (refused.kind(), refused.sqlstate(), refused.is_retryable()),
            (ErrorKind::Refused, Some("28P01"), false)
        );

        let missing = try_connect(&place(role, "")).await.unwrap_err();
        assert!(missing.to_string().ends_with("the server asks for a password and none is given"), "{missing}");
    }
    connect(&place("trust_role", "")).await;
    connect(&place("'päß'", "password='pa ß€'")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_say_why() {
    let barred = try_connect(&place("barred_role", "password='pass word'")).await.unwrap_err();
    assert_eq!((barred.kind(), barred.sqlstate()), (ErrorKind::Refused, Some("28000")));
    for major in MAJORS {
        let server = PostgresServer::shared(major);
        let unknown = try_connect(&server.url("no_such_database")).await.unwrap_err();
        assert_eq!((unknown.kind(), unknown.sqlstate()), (ErrorKind::Refused, Some("3D000")), "{unknown:?}");
        let wrong = try_connect(&server.url_as("postgres", "hunter2", "postgres")).await.unwrap_err();
        assert_eq!(wrong.sqlstate(), Some("28P01"));
        assert!(!format!("{wrong:?} {wrong}").contains("hunter2"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn require_auth_excludes_what_it_does_not_name() {
    connect(&place("md5_role", "password='pass word' require_auth=md5,scram-sha-256")).await;
    connect(&place("tls_role", "password='pass word' require_auth=!password,!md5,!none")).await;
    for (role, rule) in [
        ("md5_role", "scram-sha-256"),
        ("plain_role", "!password"),
        ("trust_role", "!none"),
        ("trust_role", "scram-sha-256"),
    ] {
        let refused =
            try_connect(&place(role, &format!("password='pass word' require_auth={rule}"))).await.unwrap_err();
        assert!(matches!(refused, Error::Authentication { .. }), "{role} {rule}: {refused:?}");
        assert!(refused.to_string().contains("require_auth excludes"), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn channels_are_bound_where_that_is_required() {
    for major in MAJORS {
        let settings = settings(&format!(
            "{}?sslmode=require&channel_binding=require",
            PostgresServer::shared(major).url("postgres")
        ));
        let session = Connection::connect(&settings, SessionSettings::Admin).await.unwrap();
        assert!(session.is_encrypted());
    }
    connect(&place("tls_role", "password='pass word' channel_binding=disable")).await;
    for (role, more) in
        [("clear_role", "sslmode=disable"), ("md5_role", "sslmode=require"), ("trust_role", "sslmode=require")]
    {
        let refused = try_connect(&place(role, &format!("password='pass word' channel_binding=require {more}")))
            .await
            .unwrap_err();
        assert!(refused.to_string().contains("channel binding is required"), "{role}: {refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn encryption_follows_sslmode_and_the_servers_rules() {
    for (role, mode, encrypted) in [
        ("tls_role", "allow", Some(true)),
        ("tls_role", "prefer", Some(true)),
        ("tls_role", "require", Some(true)),
        ("tls_role", "disable", None),
        ("clear_role", "disable", Some(false)),
        ("clear_role", "allow", Some(false)),
        ("clear_role", "prefer", Some(false)),
        ("clear_role", "require", None),
    ] {
        let outcome = try_connect(&place(role, &format!("password='pass word' sslmode={mode}"))).await;
        match (outcome, encrypted) {
            (Ok(mut session), Some(encrypted)) => {
                assert_eq!(session.is_encrypted(), encrypted, "{role} {mode}");
                let told = value(&mut session, "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").await;
                assert_eq!(told == "t", encrypted);
            }
            (Err(error), None) => assert_eq!(error.sqlstate(), Some("28000"), "{role} {mode}: {error:?}"),
            (outcome, _) => panic!("{role} {mode}: {outcome:?}"),
        }
    }
}
