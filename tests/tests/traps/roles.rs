//! P-A17: a role that cannot see everything. What is missing has a name, in the log, the meta, the outcome and `check`; never a
//! quiet success.

use std::collections::BTreeSet;

use pgkeep_dump::Dump;
use pgkeep_testkit::{PostgresServer, ScratchDatabase, nasty, unique};
use serde_json::Value;

use crate::setup::Setup;
use crate::tools::{drain, engine, start, text};

/// The majors where roles differ most.
const MAJORS: [u16; 2] = [15, 18];

/// A role and what it leaves behind.
struct Role<'d> {
    database: &'d ScratchDatabase<'d>,
    name: String,
}

impl<'d> Role<'d> {
    fn new(database: &'d ScratchDatabase<'d>, options: &str) -> Self {
        let name = unique("reader");
        database.psql(&format!("CREATE ROLE {name} LOGIN PASSWORD 'pw' {options}"));
        Self { database, name }
    }

    fn url(&self) -> String {
        self.database.server().url_as(&self.name, "pw", self.database)
    }
}

impl Drop for Role<'_> {
    fn drop(&mut self) {
        let _ = self.database.try_psql(&format!("DROP OWNED BY {0}; DROP ROLE {0}", self.name));
    }
}

fn json(setup: &Setup, arguments: &[&str]) -> (Option<i32>, Value) {
    let mut all = arguments.to_vec();
    all.extend(["--output", "json"]);
    let run = setup.run("pgkeep", &all);
    (run.code, serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}\n{run}")))
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// The warnings of the one meta there is.
fn meta_warnings(setup: &Setup) -> Vec<String> {
    let meta = format!("{}.meta", setup.archive().display());
    texts(&serde_json::from_slice::<Value>(&std::fs::read(meta).unwrap()).unwrap()["warnings"])
}

/// What `check` says of reading, all of it.
fn check(setup: &Setup) -> (Option<i32>, String) {
    let (code, document) = json(setup, &["check"]);
    (code, document["checks"].to_string())
}

#[test]
fn a17_what_a_reading_role_loses_is_named_everywhere() {
    for major in MAJORS {
        for with_engine in ["parallel", "pg_dump"] {
            let server = PostgresServer::shared(major);
            let source = server.create_database("losses");
            source.psql(
                "CREATE TABLE t AS SELECT g AS id, repeat('x', 90) AS note FROM generate_series(1, 3000) g;
                 CREATE EXTENSION postgres_fdw; CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw;
                 CREATE USER MAPPING FOR postgres SERVER far OPTIONS (user 'u', password 'mapping-s3cret');
                 CREATE SUBSCRIPTION losses_sub CONNECTION 'host=nowhere.invalid password=sub-s3cret' PUBLICATION p \
                 WITH (connect = false, slot_name = NONE, enabled = false)",
            );
            let role = Role::new(&source, "BYPASSRLS IN ROLE pg_read_all_data");
            let setup = Setup::new(&role.url()).with("BACKUP_ENGINE", with_engine);
            let lost = ["user mapping for postgres on server \"far\"", "subscription \"losses_sub\""];

            let (code, document) = json(&setup, &["backup"]);
            assert_eq!((code, document["outcome"].as_str()), (Some(0), Some("warnings")), "{document:#}");
            let log = std::fs::read_to_string(setup.folder().join("backups.log")).unwrap();
            for lost in lost {
                assert!(texts(&document["warnings"]).iter().any(|line| line.contains(lost)), "{major}: {document:#}");
                assert!(meta_warnings(&setup).iter().any(|line| line.contains(lost)), "{:?}", meta_warnings(&setup));
                assert!(log.lines().any(|line| line.contains("[WARN") && line.contains(lost)), "{log}");
            }
            assert!(!log.contains("s3cret"));
            let (code, document) = json(&setup, &["backup", "--weekly", "--strict"]);
            assert_eq!((code, document["outcome"].as_str()), (Some(8), Some("warnings")), "{document:#}");
            let (code, checked) = check(&setup);
            assert_eq!(code, Some(0), "{checked}");
            for lost in lost {
                assert!(checked.contains(&lost.replace('"', "\\\"")), "{lost} is not in {checked}");
            }
            assert_eq!(setup.run("pgkeep", &["check", "--strict"]).code, Some(8));
            source.psql("DROP SUBSCRIPTION losses_sub");
        }
    }
}

#[test]
fn a17_what_a_role_cannot_read_ends_the_backup_and_check_says_how_to_mend_it() {
    for major in MAJORS {
        let server = PostgresServer::shared(major);
        let source = server.create_database("closed");
        source.psql(
            "CREATE SCHEMA shut; CREATE TABLE shut.inside AS SELECT 1 AS id; CREATE TABLE denied AS SELECT 1 AS id; CREATE SEQUENCE counter;
             CREATE TABLE secured AS SELECT 1 AS id; ALTER TABLE secured ENABLE ROW LEVEL SECURITY;
             CREATE TABLE open AS SELECT 1 AS id; CREATE EXTENSION postgres_fdw; SELECT lo_from_bytea(4711, 'x')",
        );
        // One obstacle after the other, each with the statement that takes it away.
        let role = Role::new(&source, "");
        let all = format!(
            "GRANT SELECT ON ALL TABLES IN SCHEMA public, shut TO {0}; GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO {0}; \
             GRANT USAGE ON SCHEMA shut TO {0}; GRANT SELECT ON LARGE OBJECT 4711 TO {0}; ALTER ROLE {0} BYPASSRLS",
            role.name
        );
        let name = &role.name;
        for (obstacle, named, remedy) in [
            (
                format!("REVOKE SELECT ON denied FROM {name}"),
                "\"public\".\"denied\"",
                format!("GRANT SELECT ON TABLE \"public\".\"denied\" TO \"{name}\""),
            ),
            (
                format!("REVOKE SELECT ON counter FROM {name}"),
                "\"public\".\"counter\"",
                format!("GRANT SELECT ON SEQUENCE \"public\".\"counter\" TO \"{name}\""),
            ),
            (
                format!("REVOKE USAGE ON SCHEMA shut FROM {name}"),
                "schema \"shut\"",
                format!("GRANT USAGE ON SCHEMA \"shut\" TO \"{name}\""),
            ),
            (
                format!("ALTER ROLE {name} NOBYPASSRLS"),
                "row-level security hides rows",
                format!("ALTER ROLE \"{name}\" BYPASSRLS"),
            ),
            (
                format!("REVOKE SELECT ON LARGE OBJECT 4711 FROM {name}"),
                "OID 4711",
                format!("GRANT SELECT ON LARGE OBJECT 4711 TO \"{name}\""),
            ),
        ] {
            source.psql(&all);
            source.psql(&obstacle);
            let setup = Setup::new(&role.url());
            let run = setup.run("pgkeep", &["backup"]);
            assert_eq!(run.code, Some(5), "{major} {obstacle}\n{run}");
            assert!(run.stderr.contains(named), "{major} {obstacle}: no {named} in\n{run}");
            assert!(!setup.files().iter().any(|file| file.contains(".dump")), "{:?}", setup.files());
            let (code, checked) = check(&setup);
            assert_eq!(code, Some(5), "{major} {obstacle}: {checked}");
            assert!(checked.contains(&remedy.replace('"', "\\\"")), "{major} {obstacle}: no {remedy} in {checked}");
        }
        source.psql(&all);
        Setup::new(&role.url()).pgkeep(&["backup", "--strict"]);
    }
}

#[test]
fn a17_role_passwords_that_cannot_be_had_are_a_warning_where_they_were_asked_for() {
    for major in MAJORS {
        let server = PostgresServer::shared(major);
        let source = server.create_database("passwords");
        source.psql("CREATE TABLE t AS SELECT 1 AS id");
        let reading = Role::new(&source, "");
        source.psql(&format!("GRANT SELECT ON t TO {}", reading.name));
        let setup = Setup::new(&reading.url());
        setup.pgkeep(&["backup", "--strict"]);
        let (code, document) = json(&setup, &["backup", "--weekly", "--role-passwords"]);
        assert_eq!((code, document["outcome"].as_str()), (Some(0), Some("warnings")), "{document:#}");
        let said = "role passwords are not in the globals: this role may not read pg_authid";
        assert!(texts(&document["warnings"]).iter().any(|line| line.contains(said)), "{document:#}");
        assert_eq!(setup.run("pgkeep", &["backup", "--monthly", "--role-passwords", "--strict"]).code, Some(8));

        // Who may read all data may read those, too.
        let all = Role::new(&source, "IN ROLE pg_read_all_data");
        let setup = Setup::new(&all.url());
        setup.pgkeep(&["backup", "--role-passwords", "--strict"]);
        let meta = std::fs::read(format!("{}.meta", setup.archive().display())).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&meta).unwrap()["globals"]["role_passwords"], true);
    }
}

#[test]
fn a17_foreign_rows_that_cannot_be_had_are_an_error_that_names_them() {
    let server = PostgresServer::shared(17);
    let (source, far) = (server.create_database("near"), server.create_database("far"));
    far.psql("CREATE TABLE there AS SELECT g AS id FROM generate_series(1, 10) g");
    source.psql(&format!(
        "CREATE EXTENSION postgres_fdw; CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw OPTIONS (dbname '{}', host '/var/run/postgresql');
         CREATE USER MAPPING FOR postgres SERVER far OPTIONS (user 'postgres', password_required 'false');
         CREATE FOREIGN TABLE here (id int) SERVER far OPTIONS (table_name 'there'); CREATE TABLE own AS SELECT 1 AS id",
        far.name()
    ));
    let setup = |url: &str| Setup::new(url).with("PGDUMP_OPTIONS", "--include-foreign-data=far");
    let setup_of_all = setup(&source.url());
    setup_of_all.pgkeep(&["backup"]);
    let meta = std::fs::read(format!("{}.meta", setup_of_all.archive().display())).unwrap();
    let meta: Value = serde_json::from_slice(&meta).unwrap();
    let rows = meta["entries"]
        .as_array()
        .unwrap()
        .iter()
        .find(|entry| entry["name"] == "here")
        .map(|entry| entry["rows"].clone());
    assert_eq!(rows, Some(Value::from(10)));

    let role = Role::new(&source, "BYPASSRLS IN ROLE pg_read_all_data");
    let setup = setup(&role.url());
    let run = setup.run("pgkeep", &["backup"]);
    assert_eq!(run.code, Some(5), "{run}");
    assert!(run.stderr.contains("here") || run.stderr.contains("user mapping"), "{run}");
    assert!(!setup.files().iter().any(|file| file.contains(".dump")), "{:?}", setup.files());
}

/// Whatever the minimal role does not get, compared with what a superuser gets, is among what it was told.
#[tokio::test(flavor = "multi_thread")]
async fn a17_the_minimal_role_loses_nothing_but_what_it_is_told() {
    for major in MAJORS {
        let server = PostgresServer::shared(major);
        let source = server.create_database("nasty_source");
        nasty::load_light(server, &source);
        source.psql(nasty::SUBSCRIPTION);
        let role = Role::new(&source, "BYPASSRLS IN ROLE pg_read_all_data");
        source.psql("ANALYZE");
        // Statistics travel from 18 on.
        let arguments: &[&str] = if major >= 18 { &["--statistics"] } else { &[] };
        let reading = engine(&role.url(), 2, arguments).await;
        let told = reading.facts().await.unwrap().warnings;
        let mut texts = Vec::new();
        for url in [source.url(), role.url()] {
            let stream = start(&engine(&url, 2, arguments).await).await.unwrap();
            texts.push(text(major, &drain(stream).await.unwrap()).await);
        }
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<BTreeSet<String>>();
        let (all, read) = (lines(&texts[0]), lines(&texts[1]));
        let statements = |line: &&String| !line.starts_with("--") && !line.trim().is_empty();
        let lost: Vec<&String> = all.difference(&read).filter(statements).collect();
        let gained: Vec<&String> = read.difference(&all).filter(statements).collect();
        let explained = |line: &&&String| {
            line.contains("SUBSCRIPTION")
                || line.contains("s3cret")
                || line.contains("\"user\"")
                || line.contains("password ")
                || line.starts_with("CREATE USER MAPPING")
        };
        let unexplained: Vec<_> = lost.iter().filter(|line| !explained(line)).collect();
        assert!(
            unexplained.is_empty(),
            "{major}: lost without a word: {unexplained:#?}\ngained {gained:#?}\ntold {told:#?}"
        );
        assert!(lost.len() > 3, "{lost:#?}");
        for part in ["user mapping for nasty_owner", "user mapping for public", "subscription \"nasty_subscription\""] {
            assert!(told.iter().any(|line| line.contains(part)), "{major}: {part} is not in {told:#?}");
        }
    }
}
