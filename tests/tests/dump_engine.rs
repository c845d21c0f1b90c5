//! The `pg_dump` engine and what is around it, on real servers: facts, preflight, globals, the archive itself, failures,
//! and `pg_restore`'s errors.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pgkeep_dump::{
    ChildFailure, ClientTools, ConnectSettings, Connection, Dump, DumpOptions, DumpOutcome, Error, ErrorKind,
    GlobalsPasswords, LargeObjectReading, PgDumpEngine, PrivateFacts, Selection, SessionSettings, feed_pg_restore,
    globals_warnings, pg_restore_text, preflight, run_pg_restore, schema_toc,
};
use pgkeep_testkit::{
    Fault, FaultyTools, MAJORS, PostgresOptions, PostgresServer, ScratchDatabase, client_tools, nasty, unique,
};
use tokio_util::sync::CancellationToken;

fn settings(url: &str) -> ConnectSettings {
    ConnectSettings::parse(url, &BTreeMap::new(), None).expect("the test server's URL is good")
}

async fn tools() -> Vec<ClientTools> {
    ClientTools::in_folders(&MAJORS.map(client_tools)).await
}

fn options(arguments: &[&str]) -> DumpOptions {
    let selection = Selection::parse(arguments).expect("the test's options are good").0;
    DumpOptions { selection, lock_wait: Duration::from_secs(5), block_bytes: 1 << 20 }
}

async fn engine(url: &str, arguments: &[&str]) -> PgDumpEngine {
    PgDumpEngine::new(settings(url), tools().await, options(arguments))
}

/// The archive's bytes and the engine's word on them.
async fn archive(engine: &PgDumpEngine) -> Result<(Vec<u8>, DumpOutcome), Error> {
    let mut stream = engine.start(CancellationToken::new()).await?;
    let mut bytes = Vec::new();
    while let Some(mut segment) = stream.segments.recv().await {
        while let Some(block) = segment.blocks.recv().await {
            bytes.extend_from_slice(&block?.bytes);
        }
    }
    Ok((bytes, stream.finish().await?))
}

/// The SQL that an archive stands for.
async fn text_of(tools: &ClientTools, archive: &Path) -> String {
    let arguments = [Path::new("--file=-"), Path::new("--restrict-key=testkit"), archive];
    let text = pg_restore_text(tools, arguments, CancellationToken::new()).await.expect("the archive is readable");
    String::from_utf8_lossy(&text).into_owned()
}

/// The same by the server's own pg_dump, with the settings that the engine holds on to.
fn pg_dump_text(server: &PostgresServer, database: &str) -> String {
    let canonical = "PGOPTIONS=-c TimeZone=UTC -c bytea_output=hex -c quote_all_identifiers=off -c statement_timeout=0";
    let output =
        server.exec(&["env", canonical, "pg_dump", "-U", "postgres", "-E", "UTF8", "--restrict-key=testkit", database]);
    assert!(output.status.success());
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn first_difference(left: &str, right: &str) -> Option<String> {
    let lines = left.lines().zip(right.lines()).find(|(left, right)| left != right);
    lines
        .map(|(left, right)| format!("{left:.300}\n{right:.300}"))
        .or_else(|| (left.len() != right.len()).then(|| "length".to_owned()))
}

/// What `ps` would show of pg_dump on this machine that connects to this port: there should be none left.
fn children_of(port: u16) -> usize {
    let mark = format!("PGPORT={port}\0");
    std::fs::read_dir("/proc")
        .expect("there are processes")
        .flatten()
        .filter(|entry| {
            std::fs::read(entry.path().join("environ")).is_ok_and(|all| String::from_utf8_lossy(&all).contains(&mark))
        })
        .count()
}

async fn no_child_is_left(port: u16) {
    for _ in 0..200 {
        if children_of(port) == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("a child is left");
}

/// A table whose dump takes long enough to be interrupted.
fn fill(database: &ScratchDatabase<'_>) {
    database.psql("CREATE TABLE big AS SELECT g AS id, repeat('x', 1000) AS filler FROM generate_series(1, 60000) g");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_archive_is_pg_dumps_own_whatever_a_role_or_database_is_set_to() {
    for major in MAJORS {
        let server = PostgresServer::shared(major);
        let database = server.create_database("engine");
        nasty::load_light(server, &database);
        let role = unique("moody");
        server.psql(
            &database,
            &format!(
                "CREATE ROLE {role} LOGIN SUPERUSER PASSWORD 'pw'; ALTER ROLE {role} SET client_encoding = 'LATIN1'; \
                 ALTER ROLE {role} SET extra_float_digits = 0; ALTER ROLE {role} SET statement_timeout = '1ms'; \
                 ALTER ROLE {role} SET quote_all_identifiers = on; ALTER ROLE {role} SET bytea_output = escape; \
                 ALTER ROLE {role} SET lc_monetary = 'C'; ALTER ROLE {role} SET search_path = nasty"
            ),
        );
        let engine = engine(&server.url_as(&role, "pw", &database), &[]).await;
        let (bytes, outcome) = archive(&engine).await.unwrap_or_else(|error| panic!("{major}: {error}"));
        assert!(outcome.warnings.is_empty(), "{major}: {:?}", outcome.warnings);
        assert!(outcome.pg_dump_version.contains(&format!(") {major}.")), "{}", outcome.pg_dump_version);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &bytes).unwrap();
        let installed = tools().await;
        let ours = text_of(ClientTools::choose(&installed, major.into()).unwrap(), file.path()).await;
        let theirs = pg_dump_text(server, &database);
        if let Some(difference) = first_difference(&ours, &theirs) {
            panic!("{major}: {difference}");
        }
        drop(database);
        server.psql("postgres", &format!("DROP ROLE {role}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn facts_of_each_major() {
    for major in MAJORS {
        let server = PostgresServer::shared(major);
        let database = server.create_database("facts");
        nasty::load_light(server, &database);
        let facts = engine(&database.url(), &[]).await.facts().await.unwrap();
        assert_eq!(facts.major(), u32::from(major));
        assert_eq!(facts.identity.database, database.name());
        let identifier = server.psql("postgres", "SELECT system_identifier FROM pg_control_system()");
        assert_eq!(facts.identity.system_identifier, Some(identifier));
        assert_eq!(
            (facts.encoding.as_str(), facts.owner.as_str(), facts.tablespace.as_str()),
            ("UTF8", "postgres", "pg_default")
        );
        assert!(facts.size_bytes > 1 << 20);
        assert!(!facts.standby && facts.wal_position.as_ref().unwrap().contains('/'));
        assert_eq!(facts.comment.as_deref(), Some("nasty: it's \"quoted\", has a \\ and\na second line"));
        assert!(facts.extensions.iter().any(|(name, _)| name == "citext"), "{:?}", facts.extensions);
        assert!((chrono::Utc::now() - facts.server_time).num_seconds().abs() < 60);
        assert_eq!(facts.warnings, Vec::<String>::new());

        let private = &facts.private;
        assert!(
            private.database_settings.contains(&("app.jwt_secret".to_owned(), "jwt-s3cret-in-a-setting".to_owned()))
        );
        assert!(private.database_settings.contains(&("DateStyle".to_owned(), "SQL, DMY".to_owned())));
        assert_eq!(private.role_settings, [("nasty_reader".to_owned(), "work_mem".to_owned(), "17MB".to_owned())]);
        let grants = private.grants.as_ref().unwrap();
        assert!(grants.contains(&("nasty_owner".to_owned(), "CREATE".to_owned(), true)), "{grants:?}");
        assert!(grants.contains(&(String::new(), "CONNECT".to_owned(), false)), "{grants:?}");
        assert!(!grants.contains(&(String::new(), "TEMPORARY".to_owned(), false)), "{grants:?}");
        let told = format!("{} {facts:?}", serde_json::to_string(&facts).unwrap());
        for secret in nasty::SECRETS {
            assert!(!told.contains(secret), "{secret}");
        }

        let plain = server.create_database("facts_plain");
        let facts = engine(&plain.url(), &[]).await.facts().await.unwrap();
        assert_eq!(facts.private, PrivateFacts::default());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn locale_providers_are_told_apart() {
    let icu = "TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'de-AT' LOCALE 'C.UTF-8' ENCODING 'UTF8'";
    for major in MAJORS {
        let server = PostgresServer::shared(major);
        let rules = if major >= 16 { " ICU_RULES '&a < g'" } else { "" };
        let database = server.create_database_with("icu", &format!("{icu}{rules}"));
        let facts = engine(&database.url(), &[]).await.facts().await.unwrap();
        assert_eq!((facts.locale_provider.as_str(), facts.locale.as_deref()), ("icu", Some("de-AT")), "{major}");
        assert_eq!(facts.icu_rules.as_deref(), (major >= 16).then_some("&a < g"));
        if major >= 17 {
            let builtin = "TEMPLATE template0 LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8' ENCODING 'UTF8'";
            let database = server.create_database_with("builtin", builtin);
            let facts = engine(&database.url(), &[]).await.facts().await.unwrap();
            assert_eq!((facts.locale_provider.as_str(), facts.locale.as_deref()), ("builtin", Some("C.UTF-8")));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn databases_that_are_not_utf_8() {
    for major in MAJORS {
        let server = PostgresServer::shared(major);
        for (encoding, text) in [("LATIN1", "E'M\\xfcller'"), ("SQL_ASCII", "E'M\\xfcller \\xff'")] {
            let database =
                server.create_database_with("encoded", &format!("ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0"));
            database.psql(&format!(
                "SET client_encoding = '{encoding}'; CREATE TABLE t (v text); INSERT INTO t VALUES ({text}); \
                 COMMENT ON DATABASE \"{}\" IS {text}",
                database.name()
            ));
            let engine = engine(&database.url(), &[]).await;
            let facts = engine.facts().await.unwrap();
            assert_eq!(facts.encoding, encoding);
            let comment = if encoding == "LATIN1" { "Müller" } else { "M\u{fffd}ller \u{fffd}" };
            assert_eq!(facts.comment.as_deref(), Some(comment));
            let stream = engine.start(CancellationToken::new()).await.unwrap();
            assert_eq!(stream.toc.encoding().as_deref(), Some(encoding));
            drop(stream);
            let (bytes, _) = archive(&engine).await.unwrap();
            assert!(bytes.windows(8).any(|window| window.starts_with(b"M\xfcller")), "{major} {encoding}");
            engine.globals(CancellationToken::new()).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_preflight_names_each_grant_that_is_missing_and_they_suffice() {
    for major in MAJORS {
        let server = PostgresServer::shared(major);
        let database = server.create_database("preflight");
        let role = unique("reader");
        let blocked = |lines: &[String]| lines.iter().filter(|line| line.starts_with("cannot be dumped")).count();
        database.psql(&format!(
            "CREATE ROLE {role} LOGIN PASSWORD 'pw'; \
             CREATE TABLE plain (id int); CREATE SEQUENCE counter; CREATE SCHEMA closed; CREATE TABLE closed.inside (id int); \
             CREATE TABLE secured (id int); ALTER TABLE secured ENABLE ROW LEVEL SECURITY; \
             CREATE TABLE \"Odd \"\"one\" (id int); \
             CREATE EXTENSION hstore; CREATE VIEW a_view AS SELECT * FROM plain; CREATE UNLOGGED TABLE quick (id int)"
        ));
        let engine = engine(&server.url_as(&role, "pw", &database), &[]).await;

        for round in 0.. {
            assert!(round < 5, "{major}: the grants do not suffice");
            let warnings = engine.facts().await.unwrap().warnings;
            if round == 0 {
                assert_eq!(blocked(&warnings), 8, "{warnings:#?}");
            }
            let outcome = archive(&engine).await;
            if blocked(&warnings) == 0 {
                outcome.unwrap_or_else(|error| panic!("{major}: {error}"));
                assert!(round > 0);
                break;
            }
            // What it says will fail does fail, and what it says to run helps.
            let error = outcome.unwrap_err();
            let Error::Child(child) = &error else { panic!("{error}") };
            assert!(matches!(child.failure, ChildFailure::PermissionDenied | ChildFailure::RowSecurity), "{child:?}");
            for line in warnings {
                let remedy = line.split_once("; run: ").expect("there is a remedy").1;
                database.psql(remedy);
            }
        }

        // Large objects: nobody's grant but their own.
        database.psql("SELECT lo_from_bytea(3000000001, '\\x01'); SELECT lo_from_bytea(3000000002, '\\x02')");
        let warnings = engine.facts().await.unwrap().warnings;
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].contains("2 large objects, the first with OID 3000000001"), "{warnings:?}");
        let Err(Error::Child(child)) = archive(&engine).await else { panic!() };
        assert_eq!(child.failure, ChildFailure::PermissionDenied);
        let without = PgDumpEngine::new(
            settings(&server.url_as(&role, "pw", &database)),
            tools().await,
            options(&["--no-blobs"]),
        );
        assert!(without.facts().await.unwrap().warnings.is_empty());
        archive(&without).await.unwrap();
        database.psql(&format!(
            "GRANT SELECT ON LARGE OBJECT 3000000001 TO {role}; GRANT SELECT ON LARGE OBJECT 3000000002 TO PUBLIC"
        ));
        assert!(engine.facts().await.unwrap().warnings.is_empty());
        archive(&engine).await.unwrap();
        server.psql(&database, &format!("DROP OWNED BY {role}; DROP ROLE {role}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_selected_is_weighed() {
    let server = PostgresServer::shared(17);
    let database = server.create_database("selected");
    let role = unique("reader");
    database.psql(&format!(
        "CREATE ROLE {role} LOGIN PASSWORD 'pw'; CREATE SCHEMA s; GRANT USAGE ON SCHEMA s TO {role}; \
         CREATE TABLE s.mine (id int); CREATE TABLE s.other (id int); CREATE TABLE public.visible (id int); \
         CREATE TABLE s.parted (id int) PARTITION BY LIST (id); CREATE TABLE s.part_1 PARTITION OF s.parted FOR VALUES IN (1); \
         CREATE TABLE s.secured (id int); ALTER TABLE s.secured ENABLE ROW LEVEL SECURITY; \
         GRANT SELECT ON s.mine, s.secured TO {role}; SELECT lo_create(0)"
    ));
    for (arguments, named) in [
        (&["--table=s.mine"][..], &[][..]),
        (&["--table=S.M*"], &[]),
        (&["-t", "visible"], &["visible"]),
        (&["-t", "mine"], &[]),
        (&["--table-and-children=s.parted"], &["parted", "part_1"]),
        (&["-n", "s", "-T", "s.part*", "-T", "s.other", "--exclude-table-data=s.secured"], &[]),
        (&["-n", "s", "-T", "s.part*", "-T", "s.other"], &["secured"]),
        (&["-N", "s", "-B"], &["visible"]),
        (&["-N", "s"], &["visible", "large objects"]),
        (&["-s", "-n", "public"], &["visible"]),
    ] {
        let mut connection =
            Connection::connect(&settings(&server.url_as(&role, "pw", &database)), SessionSettings::Dump)
                .await
                .unwrap();
        let found =
            preflight(&mut connection, &options(arguments).selection, LargeObjectReading::OneByOne).await.unwrap();
        assert!(found.losses.is_empty(), "{found:?}");
        assert_eq!(found.blockers.len(), named.len(), "{arguments:?}: {found:#?}");
        for name in named {
            assert!(found.blockers.iter().any(|finding| finding.problem.contains(name)), "{arguments:?}: {found:#?}");
        }
        // pg_dump's own word.
        let outcome = archive(&engine(&server.url_as(&role, "pw", &database), arguments).await).await;
        let nothing_there =
            matches!(&outcome, Err(Error::Child(child)) if child.failure == ChildFailure::NothingSelected);
        assert_eq!(outcome.is_ok() || nothing_there, named.is_empty(), "{arguments:?}: {outcome:?}");
    }
    database.psql(&format!("DROP OWNED BY {role}; DROP ROLE {role}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_lost_without_a_word_gets_one() {
    for major in MAJORS {
        let server = PostgresServer::shared(major);
        let database = server.create_database("losses");
        let role = unique("reader");
        database.psql(&format!(
            "CREATE ROLE {role} LOGIN PASSWORD 'pw' BYPASSRLS; GRANT pg_read_all_data TO {role}; \
             CREATE EXTENSION postgres_fdw; CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw; \
             CREATE USER MAPPING FOR postgres SERVER far OPTIONS (user 'u', password 'mapping-s3cret'); \
             CREATE USER MAPPING FOR {role} SERVER far; CREATE TABLE t (id int)"
        ));
        database.psql(
            "CREATE SUBSCRIPTION sub CONNECTION 'host=nowhere.invalid password=sub-s3cret' PUBLICATION p \
             WITH (connect = false, slot_name = NONE, enabled = false)",
        );
        database.psql("BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION 'left over'");
        let engine = engine(&server.url_as(&role, "pw", &database), &[]).await;
        let warnings = engine.facts().await.unwrap().warnings;
        assert_eq!(warnings.len(), 3, "{warnings:#?}");
        assert!(warnings.iter().all(|line| line.starts_with("will not be in the backup: ")), "{warnings:#?}");
        for part in ["user mapping for postgres on server \"far\"", "subscription \"sub\"", "1 prepared transactions"] {
            assert!(warnings.iter().any(|line| line.contains(part)), "{part}: {warnings:#?}");
        }
        assert!(!warnings.iter().any(|line| line.contains("s3cret")));
        let (_, outcome) = archive(&engine).await.unwrap();
        assert_eq!(outcome.warnings, ["subscriptions not dumped because current user is not a superuser"]);
        // A superuser loses only the prepared transaction.
        let warnings = engine_warnings(&database).await;
        assert_eq!(warnings.len(), 1, "{warnings:#?}");
        database.psql("ROLLBACK PREPARED 'left over'");
        database.psql(&format!("DROP USER MAPPING FOR {role} SERVER far; DROP OWNED BY {role}; DROP ROLE {role}"));
    }
}

async fn engine_warnings(database: &ScratchDatabase<'_>) -> Vec<String> {
    engine(&database.url(), &[]).await.facts().await.expect("the server answers").warnings
}

#[tokio::test(flavor = "multi_thread")]
async fn globals_with_and_without_passwords_and_privileges() {
    for major in MAJORS {
        let server = PostgresServer::shared(major);
        let database = server.create_database("globals");
        let role = unique("nobody");
        database.psql(&format!(
            "CREATE ROLE {role} LOGIN PASSWORD 'pw'; ALTER DATABASE \"{}\" SET app.note = E'two\\nlines and ü'",
            database.name()
        ));
        let cancel = CancellationToken::new;
        let note = ("app.note".to_owned(), "two\nlines and ü".to_owned());
        let super_engine = engine(&database.url(), &[]).await;

        let without = super_engine.globals(cancel()).await.unwrap();
        assert_eq!(
            PrivateFacts::from_globals(&without).unwrap().unwrap().database_settings,
            std::slice::from_ref(&note)
        );
        let text = String::from_utf8(without.to_vec()).unwrap();
        assert!(
            text.contains(&format!("CREATE ROLE {role};"))
                && !text.contains("PASSWORD")
                && globals_warnings(&without).is_empty()
        );

        let with = super_engine
            .with_globals_passwords(GlobalsPasswords::IfPermitted)
            .globals_with_warnings(cancel())
            .await
            .unwrap();
        assert!(String::from_utf8_lossy(&with.sql).contains("PASSWORD 'SCRAM-SHA-256") && with.warnings.is_empty());

        let denied = engine(&server.url_as(&role, "pw", &database), &[])
            .await
            .with_globals_passwords(GlobalsPasswords::IfPermitted);
        let denied = denied.globals_with_warnings(cancel()).await.unwrap();
        assert_eq!(denied.warnings.len(), 1, "{:?}", denied.warnings);
        assert_eq!(globals_warnings(&denied.sql), denied.warnings);
        let text = String::from_utf8_lossy(&denied.sql);
        assert!(text.contains(&format!("CREATE ROLE {role};")) && !text.contains("PASSWORD"));
        // psql takes it as it is.
        assert!(server.psql_with("postgres", &format!("BEGIN;\n{}ROLLBACK;", comments(&text)), &[]).is_ok());

        // Not to be had at all: the facts are kept, and a warning says so.
        let broken = FaultyTools::new(major, "pg_dumpall", &Fault::DiesAfter { bytes: 100 });
        let installed = ClientTools::in_folders(&[broken.path().to_owned()]).await;
        let broken = PgDumpEngine::new(settings(&database.url()), installed, options(&[]));
        let globals = broken.globals_with_warnings(cancel()).await.unwrap();
        assert_eq!(globals.warnings.len(), 1, "{:?}", globals.warnings);
        assert_eq!(PrivateFacts::from_globals(&globals.sql).unwrap().unwrap().database_settings, [note]);
        assert!(!String::from_utf8_lossy(&globals.sql).contains("CREATE ROLE"));
        server.psql("postgres", &format!("DROP ROLE {role}"));
    }
}

fn comments(text: &str) -> String {
    text.split_inclusive('\n').filter(|line| line.starts_with("--")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_have_their_kind() {
    let server = PostgresServer::shared(17);
    let database = server.create_database("refused");
    let cases = [
        (server.url_as("postgres", "wrong", &database), ErrorKind::Refused),
        (server.url("no_such_database"), ErrorKind::Refused),
        ("postgresql://postgres@127.0.0.1:1/x".to_owned(), ErrorKind::Unreachable),
    ];
    for (url, kind) in cases {
        let engine = engine(&url, &[]).await;
        for error in [
            engine.facts().await.unwrap_err(),
            archive(&engine).await.unwrap_err(),
            engine.globals(CancellationToken::new()).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), kind, "{error}");
            assert!(!format!("{error} {error:?}").contains("wrong"));
        }
    }
    let older =
        PgDumpEngine::new(settings(&database.url()), ClientTools::in_folders(&[client_tools(15)]).await, options(&[]));
    let error = archive(&older).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Tools);
    assert!(error.hint().unwrap().contains("postgresql-client-17"));
    let nothing = archive(&engine(&database.url(), &["-t", "nothing"]).await).await.unwrap_err();
    assert!(matches!(&nothing, Error::Child(child) if child.failure == ChildFailure::NothingSelected), "{nothing}");
    let newer = PgDumpEngine::new(settings(&database.url()), tools().await, options(&["--no-policies"]));
    assert!(matches!(archive(&newer).await.unwrap_err(), Error::DumpOption { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_lock_is_waited_for_no_longer_than_the_limit() {
    for major in MAJORS {
        let server = PostgresServer::shared(major);
        let database = server.create_database("locked");
        database.psql("CREATE TABLE held (id int)");
        let mut holder = Connection::connect(&settings(&database.url()), SessionSettings::Admin).await.unwrap();
        holder.execute("BEGIN; LOCK TABLE public.held IN ACCESS EXCLUSIVE MODE").await.unwrap();
        let mut options = options(&[]);
        options.lock_wait = Duration::from_millis(300);
        let begun = std::time::Instant::now();
        let error = archive(&PgDumpEngine::new(settings(&database.url()), tools().await, options)).await.unwrap_err();
        assert!(begun.elapsed() < Duration::from_secs(20));
        assert!(matches!(&error, Error::Child(child) if child.failure == ChildFailure::LockTimeout), "{error}");
        assert!(error.is_retryable());
        holder.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_goes_away_half_way() {
    let server = PostgresServer::start(17, &PostgresOptions::default());
    let database = server.create_database("gone");
    fill(&database);
    let engine = engine(&database.url(), &[]).await;
    for act in ["terminate", "kill"] {
        let mut stream = engine.start(CancellationToken::new()).await.unwrap();
        let mut segment = stream.segments.recv().await.unwrap();
        assert!(segment.blocks.recv().await.is_some());
        if act == "kill" {
            server.kill();
        } else {
            server.psql("postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'COPY %'");
        }
        while segment.blocks.recv().await.is_some() {}
        let error = stream.finish().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unreachable, "{act}: {error}");
        no_child_is_left(server.port()).await;
        if act == "kill" {
            server.start_again();
        }
    }
    archive(&engine).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelled_or_dropped_nothing_is_left_on_either_side() {
    let server = PostgresServer::start(15, &PostgresOptions::default());
    let database = server.create_database("cancelled");
    fill(&database);
    let engine = engine(&database.url(), &[]).await;
    let sessions =
        || server.psql("postgres", "SELECT count(*) FROM pg_stat_activity WHERE application_name ~ 'pg_dump|pgkeep'");
    for act in ["cancel", "drop"] {
        let cancel = CancellationToken::new();
        let stream = engine.start(cancel.clone()).await.unwrap();
        assert_ne!(sessions(), "0");
        if act == "cancel" {
            cancel.cancel();
            assert!(matches!(stream.outcome.await.unwrap().unwrap_err(), Error::Interrupted));
        } else {
            drop(stream);
        }
        no_child_is_left(server.port()).await;
        for _ in 0..100 {
            if sessions() == "0" {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(sessions(), "0", "{act}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pg_dump_on_a_bad_day() {
    let server = PostgresServer::shared(17);
    let database = server.create_database("bad_day");
    fill(&database);
    for (fault, kind) in [
        (Fault::DiesAfter { bytes: 3 << 20 }, ErrorKind::Child),
        (Fault::KilledAfter { bytes: 3 << 20 }, ErrorKind::Child),
        (Fault::TruncatesAfter { bytes: 3 << 20 }, ErrorKind::Archive),
        (Fault::EndsWith(1), ErrorKind::Child),
    ] {
        let faulty = FaultyTools::new(17, "pg_dump", &fault);
        let installed = ClientTools::in_folders(&[faulty.path().to_owned()]).await;
        let engine = PgDumpEngine::new(settings(&database.url()), installed, options(&[]));
        let error = archive(&engine).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{fault:?}: {error}");
        assert!(!faulty.calls().iter().any(|line| line.contains(server.password())));
    }
    let faulty = FaultyTools::new(17, "pg_dump", &Fault::Warns("pg_dump: warning: it rains".to_owned()));
    let installed = ClientTools::in_folders(&[faulty.path().to_owned()]).await;
    let engine = PgDumpEngine::new(settings(&database.url()), installed, options(&[]));
    assert_eq!(archive(&engine).await.unwrap().1.warnings, ["it rains"]);

    let faulty = FaultyTools::new(17, "pg_dump", &Fault::HangsAfter { bytes: 3 << 20 });
    let installed = ClientTools::in_folders(&[faulty.path().to_owned()]).await;
    let engine = PgDumpEngine::new(settings(&database.url()), installed, options(&[]));
    let cancel = CancellationToken::new();
    let mut stream = engine.start(cancel.clone()).await.unwrap();
    let mut segment = stream.segments.recv().await.unwrap();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(500)).await;
        cancel.cancel();
    });
    while segment.blocks.recv().await.is_some() {}
    assert!(matches!(stream.finish().await.unwrap_err(), Error::Interrupted));
    for process in faulty.processes() {
        assert!(!Path::new(&format!("/proc/{process}")).exists());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn schemas_are_compared_by_their_tables_of_contents() {
    for major in MAJORS {
        let server = PostgresServer::shared(major);
        let (source, target) = (server.create_database("schema"), server.create_database("schema_again"));
        nasty::load_light(server, &source);
        let installed = tools().await;
        let tools = ClientTools::choose(&installed, major.into()).unwrap();
        let engine = engine(&source.url(), &[]).await;
        let (bytes, _) = archive(&engine).await.unwrap();

        // From a pipe, as an archive without an index is restored.
        let (sender, receiver) = tokio::sync::mpsc::channel(2);
        let feeding = tokio::spawn(async move {
            for chunk in bytes.chunks(1 << 16) {
                if sender.send(bytes::Bytes::copy_from_slice(chunk)).await.is_err() {
                    break;
                }
            }
        });
        let arguments: [&str; 0] = [];
        let outcome =
            feed_pg_restore(tools, Some(&settings(&target.url())), arguments, receiver, CancellationToken::new())
                .await
                .unwrap();
        feeding.await.unwrap();
        let judgement = outcome.judge(major.into());
        assert!(judgement.failed.is_empty(), "{major}: {:#?}", judgement.failed);

        let toc = async |database: &ScratchDatabase<'_>| {
            let settings = settings(&database.url());
            schema_toc(&settings, tools, &Selection::default(), CancellationToken::new()).await.unwrap()
        };
        let lines = |toc: &Arc<pgkeep_archive::Toc>| pgkeep_archive::schema_lines(toc);
        let (before, after) = (toc(&source).await, toc(&target).await);
        assert!(before.entries.len() > 100);
        assert_eq!(lines(&before).len(), lines(&after).len());
        no_child_is_left(server.port()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn restore_errors_are_weighed() {
    // An archive of a newer major's tools, into an older server, by a role that owns the database and nothing else.
    let server = PostgresServer::shared(15);
    let (source, target) = (server.create_database("weighed"), server.create_database("weighed_again"));
    source.psql(
        "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 3); CREATE EXTENSION hstore",
    );
    target.psql("CREATE EXTENSION hstore");
    let role = unique("owner");
    server.psql(
        "postgres",
        &format!("CREATE ROLE {role} LOGIN PASSWORD 'pw'; ALTER DATABASE \"{}\" OWNER TO {role}", target.name()),
    );
    let installed = tools().await;
    let newest = installed.last().unwrap();
    let engine = PgDumpEngine::new(settings(&source.url()), vec![newest.clone()], options(&[]));
    let (bytes, _) = archive(&engine).await.unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &bytes).unwrap();

    let target_settings = settings(&server.url_as(&role, "pw", &target));
    let arguments = [Path::new("--no-owner"), file.path()];
    let outcome = run_pg_restore(newest, Some(&target_settings), arguments, CancellationToken::new()).await.unwrap();
    assert_eq!((outcome.status, outcome.ignored), (Some(1), Some(outcome.errors.len())), "{outcome:#?}");
    let judgement = outcome.judge(15);
    assert!(judgement.failed.is_empty(), "{:#?}", judgement.failed);
    assert_eq!(judgement.allowed.len(), 2, "{:#?}", judgement.allowed);
    assert_eq!(target.psql("SELECT count(*) FROM t"), "3");

    // Once more into the same: now the table is there, and its rows meet its key.
    for jobs in ["--jobs=1", "--jobs=3"] {
        let arguments = [Path::new("--no-owner"), Path::new(jobs), file.path()];
        let outcome =
            run_pg_restore(newest, Some(&target_settings), arguments, CancellationToken::new()).await.unwrap();
        assert!(outcome.ignored.unwrap() <= outcome.errors.len(), "{outcome:#?}");
        let judgement = outcome.judge(15);
        assert_eq!(judgement.failed.len(), 3, "{:#?}", judgement.failed);
        assert!(judgement.failed.iter().any(|error| error.message.contains("relation \"t\" already exists")));
        assert!(judgement.failed.iter().any(|error| error.message.contains("duplicate key")));
    }

    // What ends it is an error too, though nothing was counted.
    let outcome = run_pg_restore(newest, Some(&target_settings), [Path::new("/nowhere")], CancellationToken::new())
        .await
        .unwrap();
    assert!(!outcome.judge(15).failed.is_empty());
    let wrong = settings(&server.url_as(&role, "wrong", &target));
    let outcome = run_pg_restore(newest, Some(&wrong), [file.path()], CancellationToken::new()).await.unwrap();
    assert!(!outcome.judge(15).failed.is_empty());
    drop(target);
    server.psql("postgres", &format!("DROP ROLE {role}"));
}
