//! What `check` finds on the database's side.

use std::io::{Read, Write};
use std::net::TcpListener;

use pgkeep_testkit::{PostgresServer, ScratchDatabase, unique};

use crate::world::World;

/// A role that may log in and nothing else; gone with its value.
struct Role<'s> {
    server: &'s PostgresServer,
    name: String,
}

impl<'s> Role<'s> {
    fn create(server: &'s PostgresServer, options: &str) -> Self {
        let name = unique("check_role");
        server.psql("postgres", &format!("CREATE ROLE {name} LOGIN PASSWORD 'pw' {options}"));
        Self { server, name }
    }

    fn url(&self, database: &str) -> String {
        self.server.url_as(&self.name, "pw", database)
    }
}

impl Role<'_> {
    fn drop_from(self, database: &ScratchDatabase<'_>) {
        database.psql(&format!("DROP OWNED BY {0}; DROP ROLE {0}", self.name));
    }
}

#[test]
fn all_is_well_and_nothing_stays_behind() {
    for major in pgkeep_testkit::MAJORS {
        let server = PostgresServer::shared(major);
        let source = server.create_database("check_well");
        source.psql("CREATE TABLE t AS SELECT 1 AS n; SELECT lo_from_bytea(0, 'x')");
        let world = World::of(&source.url());
        let (code, document) = world.check(&["--restore"]);
        assert_eq!(code, 0, "{:#}", document.0);
        assert_eq!(document.failed(), [""; 0]);
        for name in ["connect", "no pooler", "create a database", "pg_dump", "write", "ranged get", "create if absent"]
        {
            assert_eq!(document.state(name), "pass", "{name} in {:#}", document.0);
        }
        let (_, message, _) = document.finding("read everything");
        assert!(message.starts_with("1 table, 0 sequences and 1 large object"), "{message}");
        assert_eq!(document.finding("destination").0, "warn", "no bucket is worth a word");
        assert_eq!(world.names(), [""; 0], "no directory, no log");
        let left = server.psql("postgres", "SELECT count(*) FROM pg_database WHERE datname LIKE 'pgkeep_check%'");
        assert_eq!(left, "0");
        let (code, document) = world.check(&["--strict"]);
        assert_eq!((code, document.0["outcome"].as_str()), (8, Some("warnings")));
    }
}

#[test]
fn a_table_that_cannot_be_read_is_named_with_its_grant() {
    let server = PostgresServer::shared(17);
    let source = server.create_database("check_grant");
    source.psql("CREATE SCHEMA app; CREATE TABLE app.open (n int); CREATE TABLE app.\"Closed One\" (n int)");
    let role = Role::create(server, "");
    source.psql(&format!("GRANT USAGE ON SCHEMA app TO {0}; GRANT SELECT ON app.open TO {0}", role.name));
    let world = World::of(&role.url(&source));
    let (code, document) = world.check(&[]);
    assert_eq!(code, 5, "{:#}", document.0);
    assert_eq!(document.0["error"]["code"], "database_permission");
    let (state, message, missing) = document.finding("read");
    assert_eq!(state, "fail");
    assert!(message.contains("\"app\".\"Closed One\""), "{message}");
    assert_eq!(missing, format!("GRANT SELECT ON TABLE \"app\".\"Closed One\" TO \"{}\"", role.name));
    assert_eq!(document.failed(), ["read"]);
    let (state, _, missing) = document.finding("create a database");
    assert_eq!((state.as_str(), missing), ("warn", format!("ALTER ROLE \"{}\" CREATEDB", role.name)));
    let human = world.pgkeep(&["check"]);
    assert!(human.stdout.contains("FAIL  read "), "{human}");
    assert!(human.stdout.contains("missing: GRANT SELECT ON TABLE"), "{human}");

    // What it names is what was missing.
    source.psql(&missing_grant(&document));
    let (code, document) = world.check(&[]);
    assert_eq!(code, 0, "{:#}", document.0);

    let (code, document) = world.check(&["--restore"]);
    assert_eq!(code, 5);
    assert_eq!(document.failed(), ["create a database", "rename the live database"]);
    let rename = document.finding("rename the live database").2;
    assert_eq!(rename, format!("ALTER DATABASE \"{}\" OWNER TO \"{}\"", source.name(), role.name));
    assert_eq!(document.finding("owners").2, "", "nobody is made a superuser for it");
    role.drop_from(&source);
}

fn missing_grant(document: &crate::world::Document) -> String {
    document.finding("read").2
}

#[test]
fn a_large_object_that_cannot_be_read_is_named() {
    let server = PostgresServer::shared(18);
    let source = server.create_database("check_lo");
    source.psql("SELECT lo_from_bytea(4711, 'x')");
    let role = Role::create(server, "");
    let grant = |role: &Role| format!("GRANT SELECT ON LARGE OBJECT 4711 TO \"{}\"", role.name);
    let (code, document) = World::of(&role.url(&source)).check(&[]);
    assert_eq!(code, 5, "{:#}", document.0);
    assert_eq!(document.finding("read").2, grant(&role));
    role.drop_from(&source);

    // Who may read every table may read their pages, but not ask for each: that takes its own right.
    let role = Role::create(server, "IN ROLE pg_read_all_data");
    let (code, document) = World::of(&role.url(&source)).check(&[]);
    assert_eq!(code, 0, "{:#}", document.0);
    let (code, document) = World::of(&role.url(&source)).with("BACKUP_ENGINE", "pg_dump").check(&[]);
    assert_eq!(code, 5, "{:#}", document.0);
    assert_eq!(document.finding("read").2, grant(&role));
    role.drop_from(&source);
}

#[test]
fn a_refused_session_is_the_databases_fault() {
    let server = PostgresServer::shared(17);
    let source = server.create_database("check_refused");
    let (code, document) = World::of(&server.url_as("postgres", "wrong", &source)).check(&[]);
    assert_eq!(code, 5, "{:#}", document.0);
    assert_eq!(document.0["error"]["code"], "database_refused");
    assert_eq!(document.state("connect"), "fail");
    assert!(!document.0.to_string().contains("wrong"), "no password is told");

    let role = Role::create(server, "");
    source.psql(&format!("REVOKE CONNECT ON DATABASE {} FROM PUBLIC", source.name()));
    let (code, document) = World::of(&role.url(&source)).check(&[]);
    assert_eq!(code, 5, "{:#}", document.0);
    assert_eq!(
        document.finding("connect").2,
        format!("GRANT CONNECT ON DATABASE \"{}\" TO \"{}\"", source.name(), role.name)
    );
    role.drop_from(&source);
}

#[test]
fn missing_client_tools_are_named_with_their_package() {
    let server = PostgresServer::shared(18);
    let source = server.create_database("check_tools");
    let old = pgkeep_testkit::client_tools(15);
    let world = World::of(&source.url()).with("PG_BINDIRS", old).with("PATH", "/nowhere");
    let gave = world.pgkeep(&["check"]);
    // This machine may have newer ones in a usual place.
    if gave.code != Some(0) {
        assert_eq!(gave.code, Some(2), "{gave}");
        assert!(gave.stdout.contains("postgresql-client-18"), "{gave}");
    }
}

#[test]
fn a_pooler_is_told_from_a_server() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    // pgbouncer's words.
    std::thread::spawn(move || {
        let fields = b"SFATAL\0C08P01\0Munsupported startup parameter: options\0\0";
        let mut message = vec![b'E', 0, 0, 0, fields.len() as u8 + 4];
        message.extend(fields);
        for mut client in listener.incoming().flatten() {
            let _ = client.read(&mut [0; 1024]);
            let _ = client.write_all(&message);
        }
    });
    let world = World::of(&format!("postgresql://u:p@127.0.0.1:{port}/d?sslmode=disable"));
    let (code, document) = world.check(&[]);
    assert_eq!(code, 5, "{:#}", document.0);
    assert_eq!(document.0["error"]["code"], "database_pooler");
    assert_eq!(document.state("no pooler"), "fail");
}
