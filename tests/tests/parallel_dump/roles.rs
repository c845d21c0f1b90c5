//! Who may read what, and how many sessions there may be.

use pgkeep_dump::{ChildFailure, Error};
use pgkeep_testkit::{MAJORS, PostgresOptions, PostgresServer, unique};

use crate::tools::{assert_same, drain, engine, start, stock_text, text};

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
        Error::Copy { table, source } => {
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
    for limit in [2, 3] {
        server.psql("postgres", &format!("ALTER ROLE {role} CONNECTION LIMIT {limit}"));
        let stream = start(&engine(&server.url_as(&role, "pw", &database), 6, &[]).await).await.unwrap();
        let theirs = stock_text(&server, &database).await;
        let dumped = drain(stream).await.unwrap();
        assert_same(&text(17, &dumped).await, &theirs);
        assert!(dumped.notes.iter().any(|note| note.contains("of 6 sessions copy")), "{:?}", dumped.notes);
    }
}
