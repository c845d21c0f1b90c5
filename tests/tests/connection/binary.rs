//! Values in binary form, there and back.

use bytes::Bytes;
use pgkeep_dump::{BinaryValue, Error, Format, TransactionStatus};
use pgkeep_testkit::PostgresServer;

use crate::{connect, value};

const PUT: &str = "SELECT pg_catalog.lo_put($1::pg_catalog.oid, $2::pg_catalog.int8, $3::pg_catalog.bytea)";

fn part(oid: u32, at: u64, content: &[u8]) -> [BinaryValue; 3] {
    let (first, second) = content.split_at(content.len() / 2);
    let number = |bytes: &[u8]| vec![Bytes::copy_from_slice(bytes)];
    [
        number(&oid.to_be_bytes()),
        number(&at.to_be_bytes()),
        vec![Bytes::copy_from_slice(first), Bytes::copy_from_slice(second)],
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_go_there_and_come_back() {
    let database = PostgresServer::shared(17).create_database("binary");
    let mut connection = connect(&database.url()).await;
    database.psql("SELECT lo_create(1000), lo_create(3000000001)");
    let long: Vec<u8> = (0..3_000_000_u32).map(|at| (at * 31 >> 3) as u8).collect();
    let parts = [part(1000, 0, &long), part(3_000_000_001, 5, b""), part(3_000_000_001, 2048, b"\0x\\")];
    connection.execute_each(PUT, parts.iter().map(<[_; 3]>::as_slice)).await.unwrap();

    let read = "SELECT oid, lo_get(oid), NULL::bytea FROM pg_largeobject_metadata ORDER BY oid";
    let rows = connection.query_formatted(read, &[Format::Text, Format::Binary, Format::Binary]).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.get::<u32>(0).unwrap()).collect::<Vec<_>>(), [1000, 3_000_000_001]);
    assert!(rows[0].bytes(1).unwrap() == &long);
    assert!(rows[1].bytes(1).unwrap().ends_with(b"\0x\\"));
    assert_eq!(rows[0].bytes(2), None);
    // Simple queries go on as before.
    assert_eq!(value(&mut connection, "SELECT length(lo_get(1000))").await, "3000000");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_runs_are_one_transaction_and_a_failure_leaves_the_session_usable() {
    let database = PostgresServer::shared(17).create_database("binary");
    let mut connection = connect(&database.url()).await;
    database.psql("SELECT lo_create(1000)");
    let parts = [part(1000, 0, b"gone"), part(1001, 0, b"nowhere"), part(1000, 0, b"too")];
    let error = connection.execute_each(PUT, parts.iter().map(<[_; 3]>::as_slice)).await.unwrap_err();
    assert_eq!(error.sqlstate(), Some("42704"), "{error}");
    assert_eq!(connection.transaction(), TransactionStatus::Idle);
    assert_eq!(value(&mut connection, "SELECT length(lo_get(1000))").await, "0");

    let unreadable = connection.query_formatted("SELECT 1 +", &[Format::Text]).await.unwrap_err();
    assert_eq!(unreadable.sqlstate(), Some("42601"), "{unreadable}");
    let with_nul = connection.query_formatted("SELECT '\0'", &[Format::Text]).await.unwrap_err();
    assert!(matches!(with_nul, Error::Statement { .. }), "{with_nul}");
    let copy = connection.query_formatted("COPY (SELECT 1) TO STDOUT", &[]).await.unwrap_err();
    assert!(matches!(copy, Error::Statement { .. }), "{copy}");
    assert_eq!(value(&mut connection, "SELECT 1").await, "1");

    connection.execute("BEGIN").await.unwrap();
    connection.execute_each(PUT, [part(1000, 0, b"kept").as_slice()]).await.unwrap();
    assert_eq!(connection.transaction(), TransactionStatus::Active);
    connection.execute("ROLLBACK").await.unwrap();
    assert_eq!(value(&mut connection, "SELECT length(lo_get(1000))").await, "0");
}
