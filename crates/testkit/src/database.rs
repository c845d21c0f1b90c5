//! A database that lasts as long as its test.

use std::ops::Deref;

use crate::{PostgresServer, unique};

/// A database of its own on a shared server. When it is dropped, so are it and every database that a restore
/// left beside it (`<name>_before_…`), whoever is still connected.
#[derive(Debug)]
pub struct ScratchDatabase<'s> {
    server: &'s PostgresServer,
    name: String,
}

impl<'s> ScratchDatabase<'s> {
    pub(crate) fn create(server: &'s PostgresServer, label: &str, options: &str) -> Self {
        let name = unique(label);
        server.psql("postgres", &format!("CREATE DATABASE {} {options}", quoted(&name)));
        Self { server, name }
    }

    /// Its name; unique on this machine.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The server it is on.
    pub fn server(&self) -> &'s PostgresServer {
        self.server
    }

    /// A connection URL as superuser, with the password in it.
    pub fn url(&self) -> String {
        self.server.url(&self.name)
    }

    /// What psql prints; see [`PostgresServer::psql`].
    pub fn psql(&self, sql: &str) -> String {
        self.server.psql(&self.name, sql)
    }

    /// What psql prints or says; see [`PostgresServer::try_psql`].
    pub fn try_psql(&self, sql: &str) -> Result<String, String> {
        self.server.try_psql(&self.name, sql)
    }

    /// The databases on the server whose names begin with this one's, itself among them.
    pub fn relatives(&self) -> Vec<String> {
        databases_like(self.server, &self.name).unwrap_or_else(|error| panic!("{error}"))
    }
}

impl Deref for ScratchDatabase<'_> {
    type Target = str;

    /// The name, so that a database goes where a name does.
    fn deref(&self) -> &str {
        &self.name
    }
}

impl Drop for ScratchDatabase<'_> {
    fn drop(&mut self) {
        // The server may be stopped by now; then everything goes with it.
        for name in databases_like(self.server, &self.name).unwrap_or_default() {
            let _ = self.server.psql_with("postgres", LEAVE_NOTHING_BEHIND, &["-v", &format!("name={name}")]);
            let _ = self.server.psql_with(&name, DROP_SUBSCRIPTIONS, &[]);
            let _ = self.server.try_psql("postgres", &format!("DROP DATABASE {} WITH (FORCE)", quoted(&name)));
        }
    }
}

/// Logical slots would keep a database from being dropped.
const LEAVE_NOTHING_BEHIND: &str = "
    ALTER DATABASE :\"name\" IS_TEMPLATE false;
    SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = :'name' AND NOT active";

/// So would subscriptions and prepared transactions.
const DROP_SUBSCRIPTIONS: &str = r"
    SELECT format('ROLLBACK PREPARED %L', gid) FROM pg_prepared_xacts WHERE database = current_database() \gexec
    SELECT format(s, subname)
    FROM pg_subscription, unnest(ARRAY[
        'ALTER SUBSCRIPTION %I DISABLE', 'ALTER SUBSCRIPTION %I SET (slot_name = NONE)', 'DROP SUBSCRIPTION %I']) s
    WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database()) \gexec";

fn databases_like(server: &PostgresServer, name: &str) -> Result<Vec<String>, String> {
    let sql = format!(
        "SELECT datname FROM pg_database WHERE starts_with(datname, '{name}') ORDER BY length(datname), datname"
    );
    // A name that continues the number is another test's database.
    let mine = |other: &&str| !other[name.len()..].starts_with(|next: char| next.is_ascii_digit());
    Ok(server.try_psql("postgres", &sql)?.lines().filter(mine).map(str::to_owned).collect())
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
