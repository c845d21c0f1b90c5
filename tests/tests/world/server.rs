//! Servers that are restarted, have little room, or are set up to end whoever takes his time.

use pgkeep_testkit::{Fault, FaultyTools, PostgresOptions, PostgresServer, client_tools, contents, saas, unique};

use crate::ground::{backups, ended, eventually, is_alive, nothing_half_made, objects, setup, wait};

fn started_with(settings: &[(&str, &str)]) -> PostgresServer {
    let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    PostgresServer::start(17, &PostgresOptions { settings, ..PostgresOptions::default() })
}

#[test]
fn a_server_that_is_restarted_in_the_middle_costs_that_run_only() {
    let server = started_with(&[]);
    server.psql("postgres", "CREATE DATABASE app");
    saas::load(&server, "app", 0.1);
    let mut setup = setup(&server.url("app"));
    setup.pgkeep(&["backup"]);
    let before = objects(&setup.backups());
    for (engine, hold) in [
        // Held while it writes rows; while our sessions wait for its table of contents.
        ("pg_dump", Fault::HangsAfter { bytes: 3_000_000 }),
        ("parallel", Fault::HangsAfter { bytes: 2_000 }),
    ] {
        let tools = FaultyTools::new(17, "pg_dump", &hold);
        setup.set("PG_BINDIRS", tools.path());
        setup.set("BACKUP_ENGINE", engine);
        let child = setup.start("pgkeep", &["backup", "--weekly"]);
        let held = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = 'app' AND backend_xmin IS NOT NULL AND application_name = 'pgkeep'"
        );
        eventually("pg_dump has its snapshot", || {
            !tools.processes().is_empty() && server.psql("postgres", &held) != "0"
        });
        server.stop();
        // What hangs is told nothing by a server that has gone; whoever feeds on it ends it, or is told to.
        for process in tools.processes().into_iter().filter(|process| is_alive(*process)) {
            crate::ground::signal(&crate::ground::with_descendants(process), "-TERM");
        }
        let run = wait(child);
        server.start_again();
        ended(&run, 5, &[], engine);
        assert_eq!(objects(&setup.backups()), before, "{engine}: it leaves something\n{run}");
        setup.set("PG_BINDIRS", client_tools(17));
        setup.pgkeep(&["backup", "--weekly"]);
        for path in objects(&setup.backups()).keys().filter(|path| !before.contains_key(*path)) {
            std::fs::remove_file(path).unwrap();
        }
    }

    // In the middle of a restore, in good order and not.
    server.psql("app", "CREATE TABLE since AS SELECT 1 AS id");
    let oid = || server.psql("postgres", "SELECT oid FROM pg_database WHERE datname = 'app'");
    let live = oid();
    let others = "SELECT count(*) FROM pg_database WHERE datname ~ '^app_'";
    for kind in ["fast", "immediate"] {
        let child = setup.start("pgkeep", &["restore", "--latest", "--yes", "--skip-snapshot"]);
        eventually("the new database is filled", || {
            let loading = "SELECT count(*) FROM pg_stat_activity WHERE datname ~ '^app_pgkeep' AND query ~ 'COPY'";
            server.psql("postgres", loading) != "0"
        });
        if kind == "fast" {
            server.stop();
        } else {
            server.kill();
        }
        let run = wait(child);
        server.start_again();
        ended(&run, 5, &[], kind);
        assert_eq!(
            (oid(), server.psql("app", "SELECT count(*) FROM since")),
            (live.clone(), "1".into()),
            "{kind}\n{run}"
        );
        assert!(
            server.psql("postgres", others) == "0" || run.stderr.contains("the next restore drops it"),
            "{kind}\n{run}"
        );
    }
    setup.pgkeep(&["restore", "--latest", "--yes", "--skip-snapshot"]);
    assert_eq!(server.psql("app", "SELECT to_regclass('since') IS NULL"), "t");
    assert_eq!(server.psql("postgres", others), "1", "what the others left is gone, and the old one is kept");
}

#[test]
fn a_server_with_too_little_room_says_of_what() {
    let server = started_with(&[
        ("max_connections", "8"),
        ("max_locks_per_transaction", "10"),
        ("max_prepared_transactions", "0"),
    ]);
    server.psql("postgres", "CREATE ROLE reader LOGIN PASSWORD 'pw' IN ROLE pg_read_all_data");
    server.psql("postgres", "CREATE DATABASE app");
    server.psql(
        "app",
        "CREATE TABLE t AS SELECT g AS id, repeat(md5(g::text), 9) AS filler FROM generate_series(1, 3000) g",
    );
    let setup = setup(&server.url_as("reader", "pw", "app"));
    let mut tried = 0;
    for (sql, words) in [
        ("ALTER DATABASE app CONNECTION LIMIT 0", Some("too many connections for database")),
        ("ALTER DATABASE app CONNECTION LIMIT 1", None),
        ("ALTER DATABASE app CONNECTION LIMIT 2", None),
        ("ALTER DATABASE app CONNECTION LIMIT -1", None),
        ("ALTER ROLE reader CONNECTION LIMIT 0", Some("too many connections for role")),
        ("ALTER ROLE reader CONNECTION LIMIT 1", None),
        ("ALTER ROLE reader CONNECTION LIMIT -1", None),
    ] {
        server.psql("postgres", sql);
        let run = setup.run("pgkeep", &["backup"]);
        match words {
            Some(words) => ended(&run, 5, &[words], sql),
            None => ended(&run, 0, &[], sql),
        }
        tried += 1;
    }
    // Every place is taken by others.
    std::thread::scope(|scope| {
        for _ in 0..5 {
            scope.spawn(|| server.psql("postgres", "SELECT pg_sleep(600) /* taken */"));
        }
        let taken = "SELECT count(*) FROM pg_stat_activity WHERE query ~ 'taken.?' AND query !~ 'pg_stat_activity'";
        eventually("every place is taken", || server.psql("postgres", taken) == "5");
        let run = setup.run("pgkeep", &["backup"]);
        server.psql(
            "postgres",
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query ~ '^SELECT pg_sleep'",
        );
        ended(&run, 5, &["reserved for"], "every place is taken");
        tried += 1;
    });
    let many = "DO $$ BEGIN FOR n IN 1..400 LOOP EXECUTE format('CREATE TABLE t_%s (id int)', n); END LOOP; END $$";
    for _ in 0..5 {
        // No transaction has room for all of them.
        let few = many.replace("400", "60").replace("t_%s", &format!("{}_%s", unique("t")));
        server.psql("app", &few);
    }
    let before = backups(&setup.backups());
    let run = setup.run("pgkeep", &["backup"]);
    ended(&run, 5, &["out of shared memory", "max_locks_per_transaction"], "no room for locks");
    assert_eq!(backups(&setup.backups()), before);
    nothing_half_made(&setup.backups(), "no room for locks");
    tried += 1;
    crate::table::suffices("server::a_server_with_too_little_room_says_of_what", tried);
}

/// What administrators set against queries that run for too long, and against writing.
const HOSTILE: [&str; 13] = [
    "statement_timeout = 1",
    "lock_timeout = 1",
    "idle_in_transaction_session_timeout = 1",
    "idle_session_timeout = 1",
    "transaction_timeout = 1",
    "tcp_user_timeout = 1",
    "default_transaction_read_only = on",
    "default_transaction_isolation = 'serializable'",
    "default_transaction_deferrable = on",
    "enable_tidscan = off",
    "search_path = 'nowhere'",
    "client_min_messages = debug1",
    "synchronous_commit = off",
];

#[test]
fn timeouts_and_read_only_of_roles_and_databases_stop_nobody() {
    let server = PostgresServer::shared(17);
    let source = server.create_database("hostile");
    saas::load(server, &source, 0.03);
    let role = unique("hostile");
    server.psql("postgres", &format!("CREATE ROLE {role} SUPERUSER LOGIN PASSWORD 'x'"));
    let before = contents(server, &source);
    for setting in HOSTILE {
        server.psql("postgres", &format!("ALTER ROLE {role} SET {setting}"));
    }
    server.psql("postgres", &format!("ALTER DATABASE {} SET default_transaction_read_only = on", source.name()));
    server.psql("postgres", &format!("ALTER DATABASE {} SET transaction_timeout = 1000", source.name()));
    let setup = setup(&server.url_as(&role, "x", &source));
    for arguments in [
        &["backup"][..],
        &["backup", "--weekly", "--engine", "pg_dump"],
        &["verify", "--all", "--deep"],
        &["check", "--restore"],
        &["drill", "--restore-only"],
        &["restore", "--latest", "--yes", "--skip-snapshot"],
        &["status"],
        &["rollback", "--yes"],
    ] {
        let run = setup.run("pgkeep", arguments);
        ended(&run, 0, &[], &format!("{arguments:?}"));
    }
    server.psql("postgres", &format!("ALTER DATABASE {} RESET ALL", source.name()));
    assert_eq!(contents(server, &source), before);
    for name in source.relatives() {
        server.psql("postgres", &format!("ALTER DATABASE \"{name}\" RESET ALL"));
        server.psql("postgres", &format!("ALTER DATABASE \"{name}\" OWNER TO postgres"));
    }
    server.psql("postgres", &format!("DROP ROLE {role}"));
}

#[test]
fn a_table_that_the_role_may_not_read_ends_the_backup_and_is_named() {
    let server = PostgresServer::shared(17);
    let source = server.create_database("rights");
    let role = unique("rights");
    source.psql(&format!(
        "CREATE ROLE {role} LOGIN PASSWORD 'x'; CREATE TABLE open AS SELECT 1 AS id; GRANT SELECT ON open TO {role};
         CREATE TABLE closed AS SELECT 1 AS id"
    ));
    for engine in ["parallel", "pg_dump"] {
        let setup = setup(&server.url_as(&role, "x", &source)).with("BACKUP_ENGINE", engine);
        let run = setup.run("pgkeep", &["backup"]);
        ended(&run, 5, &["permission denied for table closed", "GRANT SELECT ON"], engine);
        assert_eq!(backups(&setup.backups()), 0);
        nothing_half_made(&setup.backups(), engine);
    }
    source.psql(&format!("DROP OWNED BY {role}; DROP ROLE {role}"));
}
