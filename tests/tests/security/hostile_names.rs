//! Names that would be SQL, shell or terminal commands if somebody forgot to quote them.

use pgkeep_testkit::PostgresServer;

use crate::world::World;

const NAMES: [&str; 7] = [
    "x\"; DROP TABLE public.victim; --",
    "x'; DROP TABLE public.victim; --",
    "c\") FROM PROGRAM 'touch /tmp/pgkeep-was-here'; --",
    "\\! touch pgkeep-was-here",
    "two\nlines; DROP TABLE public.victim;",
    "\u{1b}]0;owned\u{7}\u{1b}[2J",
    "$$; DROP TABLE public.victim; $$",
];

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[test]
fn names_are_quoted_wherever_they_go() {
    let server = PostgresServer::shared(17);
    let source = server.create_database("names");
    let role = quoted("r\"; ALTER ROLE postgres NOLOGIN; --");
    source.psql(&format!("CREATE TABLE victim AS SELECT 1 n; CREATE ROLE {role}"));
    for name in NAMES {
        let name = quoted(name);
        source.psql(&format!(
            "CREATE SCHEMA {name}; CREATE TABLE {name}.{name} ({name} integer); INSERT INTO {name}.{name} SELECT generate_series(1, 3);
             ALTER TABLE {name}.{name} OWNER TO {role}; GRANT SELECT ON {name}.{name} TO {role}; CREATE SEQUENCE {name}.s;
             COMMENT ON TABLE {name}.{name} IS 'x''; DROP TABLE public.victim; --'"
        ));
    }
    let world = World::of(&source.url());
    let target = "back\"; DROP DATABASE postgres; --";
    let mut said = String::new();
    let whole = ["restore", "--latest", "--target-db", target, "--yes", "--verbose"];
    for arguments in [
        &["backup", "--verbose"][..],
        &["show", "daily"],
        &["verify", "--latest", "--deep", "--verbose"],
        &whole,
        &[
            "export",
            "--latest",
            "--table",
            "x'; DROP TABLE public.victim; --.x'; DROP TABLE public.victim; --",
            "--to",
            "part.dump",
        ],
    ] {
        let gave = world.pgkeep(arguments);
        said.push_str(&gave.stdout);
        said.push_str(&gave.stderr);
    }
    said.push_str(&std::fs::read_to_string(world.path("backups.log")).unwrap());
    for database in [source.name(), target] {
        assert_eq!(server.psql(database, "SELECT n FROM victim").trim(), "1", "{database}");
        for name in NAMES {
            let name = quoted(name);
            assert_eq!(server.psql(database, &format!("SELECT sum({name}) FROM {name}.{name}")).trim(), "6", "{name}");
        }
    }
    // The live database goes, and what was restored takes its name; the names in it still mean nothing.
    assert_eq!(world.pgkeep(&["restore", "--latest", "--yes", "--skip-snapshot"]).code, Some(0));
    assert_eq!(source.psql("SELECT n FROM victim").trim(), "1");
    assert!(!said.contains(['\u{1b}', '\u{7}']), "a terminal would obey");
    assert!(said.lines().all(|line| !line.starts_with("lines; DROP")), "a log line stays one");
    assert!(world.everything().iter().all(|(path, _)| !path.contains("was-here")));
    assert!(!server.exec(&["test", "-e", "/tmp/pgkeep-was-here"]).status.success());
    assert_eq!(server.psql("postgres", "SELECT rolcanlogin FROM pg_roles WHERE rolname = 'postgres'").trim(), "t");
    for relative in source.relatives() {
        server.psql("postgres", &format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quoted(&relative)));
    }
    server.psql("postgres", &format!("DROP DATABASE {}", quoted(target)));
    drop(source);
    server.psql("postgres", &format!("DROP ROLE {role}"));
}
