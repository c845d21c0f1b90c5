//! The thin client on real servers: authentication, encryption, encodings, COPY in both directions, and what happens when
//! something breaks in the middle.

#![expect(clippy::unwrap_used, reason = "what a test relies on and does not get fails it")]

mod authentication;
mod copying;
mod encryption;
mod hosts;
mod poolers;
mod relay;
mod sessions;

use std::collections::BTreeMap;

use pgkeep_dump::{ConnectSettings, Connection, Error, SessionSettings};
use pgkeep_testkit::PostgresServer;

fn settings(conninfo: &str) -> ConnectSettings {
    ConnectSettings::parse(conninfo, &BTreeMap::new(), None).unwrap_or_else(|error| panic!("{conninfo}: {error}"))
}

async fn try_connect(conninfo: &str) -> Result<Connection, Error> {
    Connection::connect(&settings(conninfo), SessionSettings::Dump).await
}

async fn connect(conninfo: &str) -> Connection {
    try_connect(conninfo).await.unwrap_or_else(|error| panic!("{conninfo}: {error:?}"))
}

async fn value(connection: &mut Connection, sql: &str) -> String {
    connection.query_one(sql).await.expect("the query is good").text(0).expect("the value is not null")
}

/// `key=value` settings of the superuser at another place than the server's own port.
fn through(server: &PostgresServer, place: &str) -> String {
    format!("{place} user=postgres dbname=postgres password='{}'", server.password())
}
