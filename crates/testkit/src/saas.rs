//! A sample of a business: salons, customers, bookings, messages, media; see `sql/saas.sql`.

use crate::PostgresServer;

/// The script, for `psql -v scale=1`; it needs an empty UTF-8 database. Scale 1 makes some 200 MB.
pub const SQL: &str = include_str!("../sql/saas.sql");

/// Fills an empty database; 1.0 makes some 200 MB in some ten seconds, 9.5 some 1.9 GB.
pub fn load(server: &PostgresServer, database: &str, scale: f64) {
    server
        .psql_with(database, SQL, &["-v", &format!("scale={scale}"), "-o", "/dev/null"])
        .unwrap_or_else(|error| panic!("the sample database cannot be made: {error}"));
}
