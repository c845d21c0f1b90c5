//! Settings, encodings, errors and ends of sessions, and children that share the settings.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use pgkeep_dump::{Connection, Error, ErrorKind, SessionSettings, TransactionStatus};
use pgkeep_testkit::{MAJORS, PostgresServer, client_tools, unique};

use crate::{connect, settings, value};

/// What changes the text of a dump, set where people set it: on the role and on the database.
const DEFAULTS: [&str; 14] = [
    "TimeZone = 'Asia/Kolkata'",
    "DateStyle = 'German, DMY'",
    "bytea_output = 'escape'",
    "quote_all_identifiers = on",
    "IntervalStyle = 'iso_8601'",
    "extra_float_digits = -5",
    "statement_timeout = '1s'",
    "lock_timeout = '1s'",
    "idle_in_transaction_session_timeout = '1s'",
    "search_path = 'pg_temp'",
    "synchronize_seqscans = on",
    "client_encoding = 'LATIN1'",
    "row_security = on",
    "default_transaction_read_only = on",
];

const PROBES: [(&str, &str); 11] = [
    ("TimeZone", "UTC"),
    ("bytea_output", "hex"),
    ("quote_all_identifiers", "off"),
    ("IntervalStyle", "postgres"),
    ("extra_float_digits", "3"),
    ("statement_timeout", "0"),
    ("lock_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    ("search_path", ""),
    ("client_encoding", "UTF8"),
    ("row_security", "off"),
];

#[tokio::test(flavor = "multi_thread")]
async fn nobodys_defaults_change_a_session() {
    for major in MAJORS {
        let server = PostgresServer::shared(major);
        let database = server.create_database("defaults");
        let role = unique("defaults_role");
        server.psql("postgres", &format!("CREATE ROLE {role} LOGIN SUPERUSER PASSWORD 'x'"));
        let everywhere =
            |setting| format!("ALTER ROLE {role} SET {setting}; ALTER DATABASE {} SET {setting}", &*database);
        server.psql("postgres", &DEFAULTS.map(everywhere).join(";"));
        let url = server.url_as(&role, "x", &database);

        let mut session = connect(&url).await;
        for (name, expected) in PROBES {
            assert_eq!(value(&mut session, &format!("SHOW {name}")).await, expected, "{major} {name}");
        }
        assert_eq!(value(&mut session, "SELECT '2020-01-02 03:04:05Z'::timestamptz").await, "2020-01-02 03:04:05+00");
        assert_eq!(value(&mut session, "SHOW restrict_nonsystem_relation_kind").await, "view, foreign-table");
        let mut load = Connection::connect(&settings(&url), SessionSettings::Load).await.unwrap();
        for (name, expected) in
            [("synchronous_commit", "off"), ("default_transaction_read_only", "off"), ("check_function_bodies", "off")]
        {
            assert_eq!(value(&mut load, &format!("SHOW {name}")).await, expected);
        }

        // Children of every libpq get the same.
        for tools in MAJORS {
            let private = tempfile::tempdir().unwrap();
            let variables = session.resolved().libpq_environment(SessionSettings::Dump, private.path()).unwrap();
            for (name, expected) in &PROBES[..3] {
                assert_eq!(
                    psql(&client_tools(tools), &variables, &format!("SHOW {name}")),
                    *expected,
                    "{major} by {tools}: {name}"
                );
            }
        }
        drop(session);
        drop(load);
        drop(database);
        server.psql("postgres", &format!("DROP ROLE {role}"));
    }
}

/// What psql prints with nothing but these variables.
fn psql(tools: &Path, variables: &[(String, String)], sql: &str) -> String {
    let output = Command::new(tools.join("psql"))
        .args(["-XAtwc", sql])
        .env_clear()
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .output()
        .expect("psql can be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_come_as_the_database_has_them() {
    let server = PostgresServer::shared(17);
    for (encoding, stored) in
        [("LATIN1", b"caf\xe9".as_slice()), ("SQL_ASCII", b"caf\xe9\xff"), ("UTF8", "café".as_bytes())]
    {
        let database =
            server.create_database_with("encodings", &format!("ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0"));
        let mut session = connect(&database.url()).await;
        assert_eq!(session.parameter("client_encoding"), Some(encoding));
        let table = pgkeep_dump::quote_identifier_bytes(stored);
        let mut sql = b"CREATE TABLE public.".to_vec();
        sql.extend(&table);
        sql.extend(b" (a text); INSERT INTO public.");
        sql.extend(&table);
        sql.extend(b" VALUES (");
        sql.extend(pgkeep_dump::quote_literal_bytes(stored));
        sql.extend(b"); SELECT relname, (SELECT a FROM public.");
        sql.extend(&table);
        sql.extend(b") FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'");
        let row = session.query_one(&sql).await.unwrap();
        assert_eq!((row.bytes(0).unwrap().as_ref(), row.bytes(1).unwrap().as_ref()), (stored, stored), "{encoding}");

        let mut missing = b"SELECT * FROM ".to_vec();
        missing.extend(pgkeep_dump::quote_identifier_bytes(b"caf\xc3\xa9\xc3\xa9"));
        let error = session.query(&missing).await.unwrap_err();
        assert_eq!(error.sqlstate(), Some("42P01"), "{encoding}: {error}");

        let mut admin = Connection::connect(&settings(&database.url()), SessionSettings::Admin).await.unwrap();
        let expected = if encoding == "SQL_ASCII" { "caf\u{fffd}\u{fffd}" } else { "café" };
        let sql = "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'";
        assert_eq!(value(&mut admin, sql).await, expected);

        session.set_client_encoding("SQL_ASCII").await.unwrap();
        assert_eq!(session.parameter("client_encoding"), Some("SQL_ASCII"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_session_knows_of_its_server() {
    for major in MAJORS {
        let server = PostgresServer::shared(major);
        let mut session = connect(&server.url("postgres")).await;
        assert_eq!(value(&mut session, "SHOW server_version_num").await, session.server_version().to_string());
        assert_eq!(session.server_version() / 10_000, u32::from(major));
        assert_eq!(value(&mut session, "SELECT pg_backend_pid()").await, session.backend_pid().to_string());
        assert_eq!(
            value(&mut session, "SELECT application_name FROM pg_stat_activity WHERE pid = pg_backend_pid()").await,
            "pgkeep"
        );
        session.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_rows_and_errors() {
    let server = PostgresServer::shared(17);
    let mut session = connect(&server.url("postgres")).await;
    let rows = session.query("SELECT 1; SELECT 2, NULL, 'x' UNION ALL SELECT 3, 'y', '' ORDER BY 1").await.unwrap();
    assert_eq!(rows.len(), 2);
    assert_eq!((rows[0].get::<i32>(0).unwrap(), rows[0].text(1), rows[0].text(2)), (2, None, Some("x".to_owned())));
    assert_eq!(
        rows[1].get_optional::<u8>(2).unwrap_err().to_string(),
        "column 2 of the result cannot be read as u8: \"\""
    );
    assert_eq!(rows[0].get::<i32>(1).unwrap_err().to_string(), "column 1 of the result cannot be read as i32: NULL");
    assert!(session.query("SELECT 1; SET work_mem = '1MB'").await.unwrap().is_empty());
    assert!(session.query("").await.unwrap().is_empty());
    assert_eq!(
        session.execute("CREATE TEMP TABLE t (a int PRIMARY KEY); INSERT INTO t VALUES (1), (2)").await.unwrap(),
        "INSERT 0 2"
    );

    let error = session.query("INSERT INTO t VALUES (2)").await.unwrap_err();
    let told = error.server_error().unwrap();
    assert_eq!((told.sqlstate.as_str(), told.constraint.as_deref()), ("23505", Some("t_pkey")));
    assert_eq!(told.detail.as_deref(), Some("Key (a)=(2) already exists."));
    assert!(!format!("{error} {error:?}").contains("already exists."));

    session.execute("BEGIN").await.unwrap();
    assert_eq!(session.transaction(), TransactionStatus::Active);
    session.query("SELECT 1/0").await.unwrap_err();
    assert_eq!(session.transaction(), TransactionStatus::Failed);
    session.execute("ROLLBACK").await.unwrap();
    assert_eq!(session.transaction(), TransactionStatus::Idle);

    session.execute("DO $$BEGIN RAISE WARNING 'careful'; END$$").await.unwrap();
    let notices = session.take_notices();
    assert_eq!((notices.len(), notices[0].severity.as_str(), notices[0].message.as_str()), (1, "WARNING", "careful"));
    assert!(session.take_notices().is_empty());

    for (sql, problem) in
        [("COPY t TO STDOUT", "it is a COPY … TO STDOUT"), ("COPY t FROM STDIN", "it is a COPY … FROM STDIN")]
    {
        let error = session.query(sql).await.unwrap_err().to_string();
        assert!(error.ends_with(problem), "{error}");
    }
    assert!(matches!(session.copy_out("SELECT 1").await, Err(Error::Statement { .. })));
    assert!(matches!(session.copy_in("COPY t TO STDOUT").await, Err(Error::Statement { .. })));
    assert!(matches!(session.query("SELECT '\0'").await, Err(Error::Statement { .. })));
    assert_eq!(value(&mut session, "SELECT count(*) FROM t").await, "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling() {
    for major in MAJORS {
        let server = PostgresServer::shared(major);
        for mode in ["disable", "require"] {
            let mut session = connect(&format!("{}?sslmode={mode}", server.url("postgres"))).await;
            let token = session.cancel_token();
            let (outcome, cancelled) = tokio::join!(session.query("SELECT pg_sleep(60)"), async {
                tokio::time::sleep(Duration::from_millis(300)).await;
                token.cancel().await
            });
            cancelled.unwrap();
            assert_eq!(outcome.unwrap_err().sqlstate(), Some("57014"), "{major} {mode}");
            assert_eq!(value(&mut session, "SELECT 1").await, "1");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_was_ended_says_so() {
    let server = PostgresServer::shared(17);
    let mut killer = connect(&server.url("postgres")).await;
    // Between two statements, and within one.
    let mut idle = connect(&server.url("postgres")).await;
    killer.query(format!("SELECT pg_terminate_backend({}, 5000)", idle.backend_pid())).await.unwrap();
    let error = idle.query("SELECT 1").await.unwrap_err();
    assert_eq!((error.sqlstate(), error.kind()), (Some("57P01"), ErrorKind::Unreachable), "{error:?}");
    assert!(idle.is_closed());
    assert!(matches!(idle.query("SELECT 1").await.unwrap_err(), Error::Abandoned { .. } | Error::Lost { .. }));

    let mut busy = connect(&server.url("postgres")).await;
    let pid = busy.backend_pid();
    let (outcome, ()) = tokio::join!(busy.query("SELECT pg_sleep(60)"), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        killer.query(format!("SELECT pg_terminate_backend({pid})")).await.unwrap();
    });
    let error = outcome.unwrap_err();
    assert_eq!((error.sqlstate(), error.is_retryable()), (Some("57P01"), true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_future_that_was_dropped_leaves_no_session_to_go_on_with() {
    let server = PostgresServer::shared(17);
    let mut session = connect(&server.url("postgres")).await;
    let pid = session.backend_pid();
    tokio::time::timeout(Duration::from_millis(200), session.query("SELECT pg_sleep(0.5)")).await.unwrap_err();
    let error = session.query("SELECT 1").await.unwrap_err();
    assert!(matches!(error, Error::Abandoned { .. }), "{error:?}");
    assert!(session.is_closed());
    is_gone(server, pid).await;
}

/// Waits until the server has noticed.
pub(crate) async fn is_gone(server: &PostgresServer, pid: i32) {
    for _ in 0..200 {
        if server.psql("postgres", &format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}")) == "0" {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the server still has the session");
}
