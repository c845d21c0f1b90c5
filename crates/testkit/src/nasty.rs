//! A database with everything that is hard to dump and restore: see `sql/nasty/*.sql`.
//!
//! What is only in newer servers is made only there. Every row is the same each time, so two loads are equal.

use std::sync::Mutex;

use crate::PostgresServer;

const PARTS: [&str; 5] = [
    include_str!("../sql/nasty/01_roles.sql"),
    include_str!("../sql/nasty/02_types.sql"),
    include_str!("../sql/nasty/03_tables.sql"),
    include_str!("../sql/nasty/04_rows.sql"),
    include_str!("../sql/nasty/05_rest.sql"),
];

/// Makes the roles of [`load`] on a server where a nasty database is only restored.
pub const ROLES: &str = "
    CREATE ROLE nasty_owner LOGIN; CREATE ROLE nasty_reader; CREATE ROLE nasty_group; CREATE ROLE \"Nasty \"\"Röle\"\"\"";

/// Words that are in the database, its settings or its user mappings, and must be in no log, argument, error or meta.
pub const SECRETS: [&str; 4] = ["jwt-s3cret-in-a-setting", "mapping-s3cret", "public-s3cret", "owner-s3cret"];

/// A subscription that never connects; apart from [`load`], because a database with one cannot simply be dropped.
pub const SUBSCRIPTION: &str = "
    CREATE SUBSCRIPTION nasty_subscription CONNECTION 'host=nowhere.invalid password=subscription-s3cret'
    PUBLICATION there WITH (connect = false, slot_name = NONE, enabled = false)";

/// Fills an empty UTF-8 database, a value of 64 MiB included (128 MiB in an archive).
pub fn load(server: &PostgresServer, database: &str) {
    load_with(server, database, 64 << 20);
}

/// The same with a value of 256 KiB where [`load`] has its 64 MiB, for tests that are not about size.
pub fn load_light(server: &PostgresServer, database: &str) {
    load_with(server, database, 256 << 10);
}

fn load_with(server: &PostgresServer, database: &str, big_value_bytes: u64) {
    // Two loads at once would alter the same roles.
    static ROLES_ARE_SHARED: Mutex<()> = Mutex::new(());
    let bytes = format!("big_value_bytes={big_value_bytes}");
    let script = PARTS.concat();
    let _one_at_a_time = ROLES_ARE_SHARED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    server
        .psql_with(database, &script, &["-v", &bytes, "-o", "/dev/null"])
        .unwrap_or_else(|error| panic!("the nasty database cannot be made on PostgreSQL {}: {error}", server.major()));
}
