//! Settings of roles, databases and clients change neither archive nor proof (P-A4), and encodings other than UTF-8 come back.

use pgkeep_testkit::{PostgresServer, contents, dump_text, saas};
use sha2::{Digest, Sha256};

use crate::setup::Setup;

const SETTINGS: [&str; 6] = [
    "TimeZone = 'Asia/Kolkata'",
    "DateStyle = 'German, DMY'",
    "IntervalStyle = 'iso_8601'",
    "bytea_output = 'escape'",
    "quote_all_identifiers = on",
    "statement_timeout = '1h'",
];

/// The stored tables' rows, bytes and column lists, which no setting may change.
fn entries(setup: &Setup) -> Vec<serde_json::Value> {
    let meta = std::fs::read(format!("{}.meta", setup.archive().display())).expect("a meta");
    let meta: serde_json::Value = serde_json::from_slice(&meta).expect("JSON");
    meta["entries"]
        .as_array()
        .expect("entries")
        .iter()
        .map(|entry| {
            serde_json::json!([entry["schema"], entry["name"], entry["rows"], entry["bytes"], entry["columns"]])
        })
        .collect()
}

/// A digest of the archive's SQL, as pg_restore prints it, without the lines that hold times.
fn text_digest(setup: &Setup) -> Vec<u8> {
    let plain = setup.pgkeep(&["export", "--latest", "--to", "plain.dump"]);
    let output = std::process::Command::new(pgkeep_testkit::client_tools(17).join("pg_restore"))
        .args(["--file=-", "--restrict-key=k"])
        .arg(setup.folder().join("plain.dump"))
        .output()
        .expect("pg_restore can be run");
    assert!(output.status.success(), "{plain}\n{}", String::from_utf8_lossy(&output.stderr));
    Sha256::digest(&output.stdout).to_vec()
}

#[test]
fn role_and_database_settings_change_neither_archive_nor_proof() {
    let server = PostgresServer::shared(17);
    let source = server.create_database("settings");
    saas::load(server, &source, 0.03);
    source.psql("CREATE TABLE public.odd (at timestamptz, span interval, raw bytea); INSERT INTO public.odd VALUES (now(), '1 day 2 h', '\\x00ff41')");
    let plain = Setup::new(&source.url());
    plain.pgkeep(&["backup"]);

    let role = pgkeep_testkit::unique("odd_role");
    server.psql("postgres", &format!("CREATE ROLE {role} SUPERUSER LOGIN PASSWORD 'x'"));
    for setting in SETTINGS {
        server.psql("postgres", &format!("ALTER ROLE {role} SET {setting}"));
    }
    let mut odd = Setup::new(&server.url_as(&role, "x", &source));
    odd.set("PGTZ", "America/New_York");
    odd.set("PGDATESTYLE", "SQL, DMY");
    odd.set("PGCLIENTENCODING", "LATIN1");
    odd.set("PGOPTIONS", "-c bytea_output=escape");
    odd.pgkeep(&["backup"]);
    assert_eq!(entries(&plain), entries(&odd));
    assert_eq!(text_digest(&plain), text_digest(&odd));

    let target = format!("{}_restored", source.name());
    odd.pgkeep(&["restore", "--latest", "--target-db", &target, "--yes"]);
    assert_eq!(contents(server, &source), contents(server, &target));
    server.psql("postgres", &format!("DROP DATABASE \"{target}\" WITH (FORCE)"));
    for setting in SETTINGS {
        source.psql(&format!("ALTER DATABASE {} SET {setting}", source.name()));
    }
    let set = Setup::new(&source.url());
    set.pgkeep(&["backup"]);
    assert_eq!(text_digest(&plain), text_digest(&set));
    set.pgkeep(&["restore", "--latest", "--target-db", &target, "--yes"]);
    assert_eq!(dump_text(server, &source), dump_text(server, &target));
    server.psql("postgres", &format!("DROP DATABASE \"{target}\" WITH (FORCE); DROP ROLE {role}"));
}

fn comes_back(label: &str, options: &str, rows: &str) {
    let server = PostgresServer::shared(17);
    let source = server.create_database_with(label, options);
    source.psql(&format!("CREATE TABLE words (id int PRIMARY KEY, word text); {rows}"));
    let setup = Setup::new(&source.url());
    setup.pgkeep(&["backup"]);
    setup.pgkeep(&["verify", "--latest", "--deep"]);
    let target = format!("{}_restored", source.name());
    setup.pgkeep(&["restore", "--latest", "--target-db", &target, "--yes"]);
    let bytes = |database: &str| {
        let sql = "SELECT id, encode(convert_to(word, getdatabaseencoding()), 'hex') FROM words ORDER BY 1";
        let raw = "SELECT id, encode(textsend(word), 'hex'), getdatabaseencoding() FROM words ORDER BY 1";
        server.try_psql(database, sql).unwrap_or_default() + &server.psql(database, raw)
    };
    assert_eq!(bytes(&source), bytes(&target));
    assert!(!bytes(&source).is_empty());
    assert_eq!(dump_text(server, &source), dump_text(server, &target));
}

#[test]
fn a_latin1_database_comes_back() {
    comes_back(
        "latin1",
        "TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'",
        "INSERT INTO words SELECT n, 'h' || chr(n) || 'llo' FROM generate_series(160, 255) n; CREATE TABLE \"größe\" (n int); COMMENT ON TABLE words IS 'Wörter'",
    );
}

#[test]
fn an_sql_ascii_database_comes_back() {
    comes_back(
        "ascii",
        "TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'",
        r"INSERT INTO words VALUES (1, E'caf\xe9'), (2, E'caf\xc3\xa9'), (3, E'\x80\xff')",
    );
}
