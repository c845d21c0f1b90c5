//! Who may read what, and how many sessions there may be.

use pgkeep_dump::{ChildFailure, Error};
use pgkeep_testkit::{MAJORS, PostgresOptions, PostgresServer, ScratchDatabase, unique};
use tokio_util::sync::CancellationToken;

use crate::tools::{EVERY_TIME, assert_same, drain, engine, late_engine, start, stock_text, text};

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_may_only_read_gets_all_of_it_large_objects_too() {
    for major in MAJORS {
        let server = PostgresServer::start(major, &PostgresOptions::default());
        let database = server.create_database("reader");
        let role = unique("reader");
        database.psql(&format!(
            "CREATE ROLE {role} LOGIN BYPASSRLS PASSWORD 'pw' IN ROLE pg_read_all_data;
             CREATE TABLE secured AS SELECT g AS id, repeat('y', 90) AS note FROM generate_series(1, 4000) g;
             ALTER TABLE secured ENABLE ROW LEVEL SECURITY; CREATE SCHEMA closed; CREATE TABLE closed.inside AS SELECT 1 AS id;
             REVOKE ALL ON SCHEMA closed FROM PUBLIC; SELECT lo_from_bytea(0, '\\x0102')"
        ));
        let stream = start(&engine(&server.url_as(&role, "pw", &database), 2, &[]).await).await.unwrap();
        assert_eq!(stream.engine, "parallel");
        let theirs = stock_text(&server, &database).await;
        let dumped = drain(stream).await.unwrap();
        assert_same(&text(major, &dumped).await, &theirs);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_level_security_is_an_error_and_never_fewer_rows() {
    let server = PostgresServer::shared(17);
    let database = server.create_database("secured");
    let role = unique("reader");
    database.psql(&format!(
        "CREATE ROLE {role} LOGIN PASSWORD 'pw' IN ROLE pg_read_all_data;
         CREATE TABLE plain AS SELECT g AS id, repeat('y', 90) AS note FROM generate_series(1, 4000) g;
         CREATE TABLE secured AS SELECT * FROM plain; ALTER TABLE secured ENABLE ROW LEVEL SECURITY;
         CREATE POLICY half ON secured USING (id % 2 = 0)"
    ));
    let outcome = match start(&engine(&server.url_as(&role, "pw", &database), 2, &[]).await).await {
        Ok(stream) => drain(stream).await.map(drop),
        Err(error) => Err(error),
    };
    let error = outcome.unwrap_err();
    match &error {
        Error::Copy { table, source, .. } => {
            assert_eq!((table.as_str(), source.sqlstate()), ("public.secured", Some("42501")));
        }
        Error::Child(child) => assert_eq!(child.failure, ChildFailure::RowSecurity),
        other => panic!("{other}"),
    }
    server.psql(&database, &format!("DROP OWNED BY {role}; DROP ROLE {role}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn fewer_sessions_than_wanted_are_enough() {
    let server = PostgresServer::start(17, &PostgresOptions::default());
    let database = server.create_database("few");
    let role = unique("few");
    database.psql(&format!(
        "CREATE ROLE {role} LOGIN PASSWORD 'pw' IN ROLE pg_read_all_data;
         CREATE TABLE plain AS SELECT g AS id, repeat('y', 90) AS note FROM generate_series(1, 9000) g"
    ));
    for limit in [2, 3, 4] {
        server.psql("postgres", &format!("ALTER ROLE {role} CONNECTION LIMIT {limit}"));
        let stream = start(&engine(&server.url_as(&role, "pw", &database), 6, &[]).await).await.unwrap();
        let theirs = stock_text(&server, &database).await;
        let dumped = drain(stream).await.unwrap();
        assert_same(&text(17, &dumped).await, &theirs);
        assert!(dumped.notes.iter().any(|note| note.contains("of 6 sessions copy")), "{:?}", dumped.notes);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_session_is_enough_for_pg_dump() {
    let server = PostgresServer::shared(17);
    let database = server.create_database("one");
    let role = unique("one");
    database.psql(&format!(
        "CREATE ROLE {role} LOGIN PASSWORD 'pw' IN ROLE pg_read_all_data CONNECTION LIMIT 1;
         CREATE TABLE plain AS SELECT g AS id, repeat('y', 90) AS note FROM generate_series(1, 9000) g"
    ));
    let stream = start(&engine(&server.url_as(&role, "pw", &database), 6, &[]).await).await.unwrap();
    assert_eq!(stream.engine, "pg_dump");
    let dumped = drain(stream).await.unwrap();
    assert_eq!(text(17, &dumped).await.matches("yyyy\n").count(), 9000);
    let [note] = &dumped.notes[..] else { panic!("{:?}", dumped.notes) };
    assert!(note.contains("can't connect beside") && note.contains("too many connections for role"), "{note}");
    server.psql(&database, &format!("DROP OWNED BY {role}; DROP ROLE {role}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_are_read_although_the_dump_takes_every_connection() {
    let server = PostgresServer::shared(17);
    let database = server.create_database("crowded");
    let role = unique("crowded");
    database.psql(&format!(
        "CREATE ROLE {role} LOGIN PASSWORD 'pw' IN ROLE pg_read_all_data;
         CREATE TABLE plain AS SELECT g AS id, repeat('y', 90) AS note FROM generate_series(1, 40000) g"
    ));
    // With three jobs: less than they want, and exactly what they take.
    for limit in [1, 2, 3, 4] {
        server.psql("postgres", &format!("ALTER ROLE {role} CONNECTION LIMIT {limit}"));
        let engine = engine(&server.url_as(&role, "pw", &database), 3, &[]).await;
        let stream = start(&engine).await.unwrap();
        let (dumped, globals) = tokio::join!(drain(stream), engine.globals_with_warnings(CancellationToken::new()));
        assert_eq!(text(17, &dumped.unwrap()).await.matches("yyyy\n").count(), 40_000);
        let globals = globals.unwrap();
        assert_eq!(globals.warnings, Vec::<String>::new(), "limit {limit}");
        assert!(String::from_utf8_lossy(&globals.sql).contains(&format!("CREATE ROLE {role};")), "limit {limit}");
    }
    server.psql(&database, &format!("DROP OWNED BY {role}; DROP ROLE {role}"));
}

/// A role that may read each large object, but not the table of all of them.
fn objects_reader(database: &ScratchDatabase<'_>) -> String {
    let role = unique("objects");
    database.psql(&format!(
        "CREATE ROLE {role} LOGIN PASSWORD 'pw';
         CREATE TABLE plain AS SELECT g AS id, repeat('y', 90) AS note FROM generate_series(1, 9000) g;
         GRANT SELECT ON plain TO {role};
         SELECT lo_from_bytea(4711, '\\x0102'), lo_from_bytea(4712, decode(repeat('0f', 9000), 'hex'));
         GRANT SELECT ON LARGE OBJECT 4711, 4712 TO {role}"
    ));
    role
}

#[tokio::test(flavor = "multi_thread")]
async fn large_objects_that_may_be_read_one_by_one_only_are_left_to_pg_dump() {
    for major in MAJORS {
        let server = PostgresServer::shared(major);
        let database = server.create_database("objects");
        let role = objects_reader(&database);
        let stream = start(&engine(&server.url_as(&role, "pw", &database), 2, &[]).await).await.unwrap();
        assert_eq!(stream.engine, "pg_dump");
        let dumped = drain(stream).await.unwrap();
        assert_eq!(dumped.notes, ["pg_dump does all of the work: this role may read large objects one by one only"]);
        let text = text(major, &dumped).await;
        assert_eq!(text.matches("yyyy\n").count(), 9000);
        assert!(text.contains("lo_open('4711'") && text.contains("'\\x0102'"), "{major}");
        server.psql(&database, &format!("DROP OWNED BY {role}; DROP ROLE {role}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_to_pg_dump_is_not_empty_either() {
    let server = PostgresServer::shared(17);
    let database = server.create_database("emptied");
    let role = objects_reader(&database);
    let url = server.url_as(&role, "pw", &database);
    let meddling = "BEGIN; CREATE TEMP TABLE old AS TABLE plain; TRUNCATE plain; INSERT INTO plain TABLE old; COMMIT";
    let (engine, _folder) = late_engine(&database, &url, 2, meddling).await;
    let stream = start(&engine).await.unwrap();
    assert_eq!(stream.engine, "pg_dump");
    assert_eq!(text(17, &drain(stream).await.unwrap()).await.matches("yyyy\n").count(), 9000);

    let (engine, _folder) = late_engine(&database, &url, EVERY_TIME, meddling).await;
    let Err(error) = start(&engine).await else { panic!("pg_dump would find it empty") };
    assert!(matches!(&error, Error::Rewritten { table, .. } if table == "public.plain"), "{error}");
    server.psql(&database, &format!("DROP OWNED BY {role}; DROP ROLE {role}"));
}
