//! P-A10: a backup against the database it was made of. What the backup should hold and does not is found although the
//! database has gone on; and whatever else people do to their tables is no damage.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use pgkeep_dump::{Connection, SessionSettings};
use pgkeep_testkit::{PostgresServer, client_tools, nasty, unique};
use serde_json::Value;

use crate::setup::{Run, Setup};
use crate::tools::settings;

/// The comparison that `verify --against-source` gives to programs, and the run's exit code.
fn compared(setup: &Setup, arguments: &[&str]) -> (Option<i32>, Value) {
    let mut all = vec!["verify", "--latest", "--quick", "--against-source", "--jobs", "2", "--output", "json"];
    all.extend_from_slice(arguments);
    let run = setup.run("pgkeep", &all);
    let mut document: Value = serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}\n{run}"));
    (run.code, document["against_source"][0].take())
}

fn state(comparison: &Value, table: &str) -> String {
    let tables = comparison["tables"].as_array().unwrap_or_else(|| panic!("{comparison:#}"));
    let found =
        tables.iter().find(|found| found["table"] == table).unwrap_or_else(|| panic!("no {table} in {comparison:#}"));
    found["state"].as_str().unwrap().to_owned()
}

fn lines(comparison: &Value, list: &str) -> Vec<String> {
    let text =
        |finding: &Value| format!("{}: {}", finding["subject"].as_str().unwrap(), finding["problem"].as_str().unwrap());
    comparison[list].as_array().unwrap().iter().map(text).collect()
}

#[test]
fn a10_a_backup_is_what_its_source_was_and_a_source_that_grows_proves_it() {
    for major in [15, 18] {
        let server = PostgresServer::shared(major);
        let source = server.create_database("nasty_source");
        nasty::load_light(server, &source);
        let setup = Setup::new(&source.url());
        setup.pgkeep(&["backup"]);

        let (code, same) = compared(&setup, &["--strict"]);
        assert_eq!((code, &same["result"]), (Some(0), &Value::from("same")), "{major}: {same:#}");
        assert!(same["tables"].as_array().unwrap().len() > 30 && same["sequences"].as_u64() > Some(5), "{same:#}");
        assert_eq!(same["large_objects"]["state"], "same", "{same:#}");
        assert_eq!(lines(&same, "changes"), [""; 0]);

        source.psql(
            "INSERT INTO nasty.awkward_text (note) VALUES ('newer'); INSERT INTO nasty.no_columns DEFAULT VALUES;
             INSERT INTO nasty.hashed SELECT 'ok', 'newer'; SELECT lo_from_bytea(0, 'newer'); VACUUM FULL nasty.tree",
        );
        let (code, grown) = compared(&setup, &[]);
        assert_eq!((code, &grown["result"]), (Some(0), &Value::from("grown")), "{major}: {grown:#}");
        assert_eq!(grown["still"], false);
        assert_eq!(state(&grown, "nasty.awkward_text"), "grown");
        assert_eq!(state(&grown, "nasty.no_columns"), "grown");
        assert_eq!(state(&grown, "nasty.every_type"), "same");
        assert_eq!(grown["large_objects"]["state"], "grown");
        assert_eq!(compared(&setup, &["--strict"]).0, Some(8), "strictly, it is not the same");

        // What was proven is beside the archive, and as good as nothing about what is stored there.
        let shown = setup.pgkeep(&["show", "--latest"]).stdout;
        assert!(shown.contains("source good"), "{shown}");
    }
}

#[test]
fn a10_rows_that_were_there_and_are_not_in_the_backup_are_damage_although_everybody_writes() {
    let server = PostgresServer::shared(17);
    let source = server.create_database("hidden");
    let role = unique("half_blind");
    source.psql(&format!(
        "CREATE ROLE {role} LOGIN PASSWORD 'pw' IN ROLE pg_read_all_data;
         CREATE TABLE orders AS SELECT g AS id, 'order ' || g AS note FROM generate_series(1, 1000) g; CREATE TABLE notes AS TABLE orders;
         ALTER TABLE orders ENABLE ROW LEVEL SECURITY; CREATE POLICY visible ON orders USING (id <= 600)"
    ));
    // Somebody asked for it, once, and everybody forgot.
    let mut setup = Setup::new(&server.url_as(&role, "pw", &source)).with("PGDUMP_OPTIONS", "--enable-row-security");
    setup.pgkeep(&["backup"]);
    setup.set("DATABASE_URL", source.url());
    source.psql(
        "INSERT INTO orders SELECT g, 'newer' FROM generate_series(2001, 2100) g; UPDATE orders SET note = 'changed' WHERE id <= 50;
         INSERT INTO notes VALUES (5000, 'newer')",
    );
    let (code, lacking) = compared(&setup, &[]);
    assert_eq!((code, &lacking["result"]), (Some(4), &Value::from("damaged")), "{lacking:#}");
    assert_eq!(
        (state(&lacking, "public.orders"), state(&lacking, "public.notes")),
        ("damaged".to_owned(), "grown".to_owned())
    );
    assert_eq!(
        lines(&lacking, "damage"),
        ["table public.orders: 350 rows of the source were there when the backup was made, and are not in it"]
    );
    let name = setup.archive().file_name().unwrap().to_str().unwrap().to_owned();
    let run = setup.run("pgkeep", &["verify", &name, "--against-source"]);
    run.failed_with(4, &["public.orders", "350 rows"]);
    source.psql(&format!("DROP OWNED BY {role}; DROP ROLE {role}"));
}

/// Client tools whose pg_dump leaves something out, with status 0.
fn forgetful_tools(major: u16, forgets: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for tool in ["pg_dump", "pg_dumpall", "pg_restore", "psql"] {
        let real = client_tools(major).join(tool);
        let forgets = if tool == "pg_dump" { forgets } else { "" };
        let script = folder.path().join(tool);
        let body = format!(
            "#!/bin/sh\ncase \"$*\" in *version*) exec '{0}' \"$@\";; esac\nexec '{0}' {forgets} \"$@\"\n",
            real.display()
        );
        fs::write(&script, body).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    }
    folder
}

#[test]
fn a10_what_was_never_dumped_is_damage_that_no_reading_of_the_backup_clears() {
    for (major, engine) in [(15, "parallel"), (18, "pg_dump")] {
        let server = PostgresServer::shared(major);
        let source = server.create_database("forgotten");
        source.psql(
            "CREATE TABLE kept AS SELECT g AS id, repeat('k', 100) AS note FROM generate_series(1, 3000) g;
             CREATE TABLE lost AS TABLE kept; CREATE SEQUENCE ticket; SELECT nextval('ticket'); SELECT lo_from_bytea(4711, 'lost')",
        );
        let mut setup = Setup::new(&source.url()).with("BACKUP_ENGINE", engine);
        setup.pgkeep(&["backup"]);
        let whole = setup.archive();
        let tools = forgetful_tools(major, "--exclude-table-data=lost --exclude-table=ticket --no-blobs");
        setup.set("PG_BINDIRS", tools.path());
        setup.pgkeep(&["backup", "--weekly"]);
        setup.set("PG_BINDIRS", pgkeep_testkit::client_tools_path());
        // It is what was dumped, to the last row.
        setup.pgkeep(&["verify", "--latest", "--deep"]);

        let expected = [
            "large objects: 1 of the source were there when the backup was made, and are not in it",
            "sequence public.ticket: was there when the backup was made, and is not in it",
            "table public.lost: was there when the backup was made, and is not in it",
        ];
        source.psql("INSERT INTO lost VALUES (9, 'newer'); INSERT INTO kept VALUES (9, 'newer')");
        let (code, lacking) = compared(&setup, &[]);
        assert_eq!(code, Some(4), "{major}: {lacking:#}");
        assert_eq!(lines(&lacking, "damage"), expected, "{major}");

        // The newest good backup is the one before, until somebody has compared again; a deep look compares nothing.
        let latest = |setup: &Setup| setup.pgkeep(&["show", "--latest"]).stdout;
        let name = whole.file_name().unwrap().to_str().unwrap().split('.').next().unwrap().to_owned();
        assert!(latest(&setup).contains(&name), "{}", latest(&setup));
        let weekly =
            setup.files().into_iter().find(|file| file.starts_with("weekly_") && file.ends_with(".meta")).unwrap();
        let weekly = weekly.split('.').next().unwrap();
        setup.pgkeep(&["verify", weekly, "--deep"]);
        assert!(latest(&setup).contains(&name));
        let (code, well) = compared(&setup, &[]);
        assert_eq!((code, &well["result"]), (Some(0), &Value::from("grown")), "{major}: {well:#}");
    }
}

#[test]
fn a10_whatever_else_is_done_to_a_table_is_no_damage() {
    let server = PostgresServer::shared(17);
    let source = server.create_database("lived");
    let tables = [
        "grown", "changed", "emptied", "frozen", "packed", "sorted", "retyped", "widened", "shrunk", "renamed",
        "swapped", "swap", "gone", "remade", "moods", "named", "paged", "late", "between",
    ];
    for table in tables {
        source.psql(&format!("CREATE TABLE {table} (id int PRIMARY KEY, note text); INSERT INTO {table} SELECT g, '{table}' FROM generate_series(1, 200) g"));
    }
    source.psql(
        "CREATE TYPE mood AS ENUM ('glad', 'sad'); ALTER TABLE moods ADD COLUMN mood mood DEFAULT 'glad';
         ALTER TABLE named ADD COLUMN of regclass; UPDATE named SET of = 'grown'; UPDATE named SET of = 'renamed' WHERE id = 1;
         CREATE TABLE tree (id int, note text) PARTITION BY RANGE (id); CREATE TABLE leaf PARTITION OF tree FOR VALUES FROM (0) TO (100);
         INSERT INTO tree SELECT g, 'leaf' FROM generate_series(1, 99) g; CREATE SEQUENCE ahead; CREATE SEQUENCE back; SELECT setval('back', 500);
         SELECT count(lo_from_bytea(g, 'object')) FROM generate_series(4000, 4010) g",
    );
    let setup = Setup::new(&source.url());
    // Transactions that are running while the snapshot is taken, one with a subtransaction that ends before it.
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut running = runtime.block_on(Connection::connect(&settings(&source.url()), SessionSettings::Admin)).unwrap();
    let sql = "BEGIN; INSERT INTO public.late VALUES (1001, 'late'); SAVEPOINT s; INSERT INTO public.late VALUES (1002, 'later'); RELEASE s";
    runtime.block_on(running.execute(sql)).unwrap();
    source.psql("INSERT INTO between VALUES (1001, 'ended before the snapshot, begun after the oldest that runs')");
    setup.pgkeep(&["backup"]);
    runtime.block_on(running.execute("COMMIT")).unwrap();
    runtime.block_on(running.close()).unwrap();

    for sql in [
        "INSERT INTO grown VALUES (1001, 'newer')",
        "UPDATE changed SET note = 'other' WHERE id < 10; DELETE FROM changed WHERE id = 50",
        "TRUNCATE emptied",
        "VACUUM FREEZE frozen",
        "VACUUM FULL packed",
        "CLUSTER sorted USING sorted_pkey",
        "ALTER TABLE retyped ALTER id TYPE bigint",
        "ALTER TABLE widened ADD COLUMN more text DEFAULT 'same for all'",
        "ALTER TABLE shrunk DROP COLUMN note",
        "ALTER TABLE renamed RENAME TO renamed_since",
        "ALTER TABLE swapped RENAME TO swap_old; ALTER TABLE swap RENAME TO swapped; ALTER TABLE swap_old RENAME TO swap",
        "DROP TABLE gone",
        "DROP TABLE remade; CREATE TABLE remade AS SELECT 1 AS id, 'others'::text AS note",
        "ALTER TYPE mood RENAME VALUE 'glad' TO 'happy'",
        "BEGIN; CREATE TABLE copied (id int, note text); COPY copied FROM PROGRAM 'printf \"1\\tx\\n\"' (FREEZE); COMMIT",
        "ALTER TABLE tree DETACH PARTITION leaf; INSERT INTO leaf VALUES (5000, 'newer')",
        "SELECT nextval('ahead'); SELECT setval('back', 3); CREATE SEQUENCE another",
        "SELECT lo_unlink(4000); SELECT lo_put(4001, 2, 'XX'); SELECT lo_from_bytea(5000, 'newer'); GRANT SELECT ON LARGE OBJECT 4002 TO PUBLIC",
        "GRANT SELECT ON grown, frozen TO PUBLIC; ALTER TABLE grown CLUSTER ON grown_pkey",
    ] {
        source.psql(sql);
    }
    let (code, lived) = compared(&setup, &[]);
    assert_eq!(lines(&lived, "damage"), [""; 0], "{lived:#}");
    assert_eq!(code, Some(0), "{lived:#}");
    assert_eq!(lived["ages_unknown"], Value::Null, "{lived:#}");
    let states: Vec<(&str, String)> = [
        "grown", "changed", "emptied", "frozen", "packed", "sorted", "retyped", "widened", "renamed", "swapped",
        "swap", "remade", "moods", "named", "paged", "late", "between", "leaf",
    ]
    .into_iter()
    .map(|table| (table, state(&lived, &format!("public.{table}"))))
    .collect();
    let expected = [
        ("grown", "grown"),
        ("changed", "changed"),
        ("emptied", "changed"),
        ("frozen", "same"),
        ("packed", "same"),
        ("sorted", "same"),
        ("retyped", "same"),
        ("widened", "same"),
        ("renamed", "same"),
        ("swapped", "same"),
        ("swap", "same"),
        ("remade", "differs"),
        ("moods", "differs"),
        ("named", "differs"),
        ("paged", "same"),
        ("late", "grown"),
        ("between", "same"),
        ("leaf", "grown"),
    ];
    assert_eq!(states, expected.map(|(table, state)| (table, state.to_owned())), "{lived:#}");
    assert_eq!(lived["large_objects"]["state"], "changed");
    let unprovable: Vec<&str> = lived["unprovable"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(
        matches!(unprovable[..], [line] if line.contains("public.shrunk") && line.contains("note")),
        "{unprovable:?}"
    );
    let changes = lines(&lived, "changes");
    for told in [
        "table public.gone: 200 rows are in the backup, the table is gone since",
        "table public.renamed: it is public.renamed_since now",
        "table public.remade: another table has its name now, or it was restored since",
        "table public.copied: is newer than the backup",
        "sequence public.another: is newer than the backup",
        "sequence public.back: stands at 3, behind the backup's 500: it was set back since",
    ] {
        assert!(changes.iter().any(|line| line == told), "{told} is not in {changes:#?}");
    }
}

#[test]
fn a10_nothing_is_claimed_where_nobody_can_tell() {
    let server = PostgresServer::shared(17);
    let source = server.create_database("told");
    source.psql(
        "CREATE TYPE mood AS ENUM ('glad', 'sad', 'calm', 'cross'); CREATE TABLE root (m mood, n int) PARTITION BY HASH (m);
         CREATE TABLE leaf PARTITION OF root FOR VALUES WITH (MODULUS 2, REMAINDER 0);
         CREATE TABLE other PARTITION OF root FOR VALUES WITH (MODULUS 2, REMAINDER 1);
         INSERT INTO root SELECT m, n FROM unnest(enum_range(NULL::mood)) m, generate_series(1, 100) n;
         CREATE TABLE plain AS SELECT g AS id FROM generate_series(1, 100) g",
    );
    let mut setup = Setup::new(&source.url());
    setup.pgkeep(&["backup"]);

    // Restored, every table is another one, and leaves hold other rows than before; the trees are the same.
    setup.pgkeep(&["restore", "--latest", "--yes", "--skip-snapshot"]);
    let (code, restored) = compared(&setup, &[]);
    assert_eq!((code, &restored["result"]), (Some(0), &Value::from("changed")), "{restored:#}");
    for table in ["leaf", "other", "plain"] {
        assert_eq!(state(&restored, &format!("public.{table}")), "same", "{restored:#}");
    }
    source.psql("DELETE FROM plain WHERE id < 5");
    let (code, since) = compared(&setup, &[]);
    assert_eq!((code, state(&since, "public.plain")), (Some(0), "differs".to_owned()), "{since:#}");

    // Another database, by whatever name.
    let other = server.create_database("another");
    setup.set("DATABASE_URL", other.url());
    let run: Run = setup.run("pgkeep", &["verify", "--latest", "--against-source"]);
    run.failed_with(2, &["was made of database", "drill --integrity-only"]);

    // An archive of somebody else's says nothing of transactions.
    let source = server.create_database("adopted");
    source.psql("CREATE TABLE plain AS SELECT g AS id FROM generate_series(1, 100) g");
    let setup = Setup::new(&source.url());
    fs::create_dir_all(setup.backups()).unwrap();
    let dumped = server.exec(&["pg_dump", "-U", "postgres", "-Fc", "-Z0", source.name()]);
    fs::write(setup.backups().join("daily_20261130_030001.dump"), &dumped.stdout).unwrap();
    setup.pgkeep(&["adopt", setup.backups().join("daily_20261130_030001.dump").to_str().unwrap()]);
    source.psql("INSERT INTO plain VALUES (101)");
    let (code, adopted) = compared(&setup, &[]);
    assert_eq!((code, state(&adopted, "public.plain")), (Some(0), "differs".to_owned()), "{adopted:#}");
    assert!(adopted["ages_unknown"].as_str().unwrap().contains("does not say which transactions"), "{adopted:#}");
}
