//! Who may read what, and whose backups lie where.

use pgkeep_testkit::{PostgresServer, saas};

use crate::setup::Setup;

#[test]
fn another_database_under_the_same_prefix_is_refused_until_taken_over() {
    let server = PostgresServer::shared(17);
    let (one, other) = (server.create_database("mine"), server.create_database("other"));
    for database in [&one, &other] {
        database.psql("CREATE TABLE t AS SELECT generate_series(1, 3) n");
    }
    let mut setup = Setup::new(&one.url());
    setup.pgkeep(&["backup"]);
    setup.set("DATABASE_URL", other.url());
    let refused = setup.run("pgkeep", &["backup", "--weekly"]);
    refused.failed_with(2, &[one.name(), "take-over"]);
    setup.pgkeep(&["backup", "--weekly", "--take-over"]);
}

#[test]
fn a_role_that_cannot_read_everything_is_told_what_and_gets_no_backup() {
    let server = PostgresServer::shared(17);
    let source = server.create_database("partial");
    saas::load(server, &source, 0.03);
    let role = pgkeep_testkit::unique("reader");
    source.psql(&format!(
        "CREATE ROLE {role} LOGIN PASSWORD 'x'; GRANT USAGE ON SCHEMA app TO {role}; GRANT SELECT ON ALL TABLES IN SCHEMA app TO {role};
         REVOKE SELECT ON app.customers FROM {role}"
    ));
    let setup = Setup::new(&server.url_as(&role, "x", &source));
    let run = setup.run("pgkeep", &["backup"]);
    run.failed_with(5, &["customers"]);
    assert!(!setup.files().iter().any(|file| file.contains(".dump")), "{:?}", setup.files());
    source.psql(&format!("DROP OWNED BY {role}; DROP ROLE {role}"));
}

#[test]
fn a_read_only_role_with_all_it_needs_makes_a_backup() {
    let server = PostgresServer::shared(17);
    let source = server.create_database("readonly");
    saas::load(server, &source, 0.03);
    let role = pgkeep_testkit::unique("keeper");
    server.psql(
        "postgres",
        &format!("CREATE ROLE {role} LOGIN PASSWORD 'x' BYPASSRLS; GRANT pg_read_all_data TO {role}"),
    );
    source.psql(&format!("ALTER ROLE {role} SET lo_compat_privileges = on"));
    let setup = Setup::new(&server.url_as(&role, "x", &source));
    setup.pgkeep(&["backup"]);
    setup.pgkeep(&["verify", "--latest", "--deep"]);
    server.psql("postgres", &format!("DROP ROLE {role}"));
}
