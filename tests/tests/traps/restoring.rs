//! Traps of the restore: what the proof must see, and in which order things come back.

use std::sync::atomic::{AtomicBool, Ordering};

use pgkeep_dump::{Connection, SessionSettings};
use pgkeep_restore::{CompareOptions, Error, RestoreRequest, Target};
use pgkeep_testkit::{PostgresServer, unique};

use crate::bench::{Bench, Doomed, beside, request, settings};
use crate::tools::Ends;

/// P-A10: a proof is not of rows alone. Here a materialized view meddles while it is filled again, after everything else.
#[tokio::test(flavor = "multi_thread")]
async fn a10_a_proof_sees_large_objects_and_sequences_that_are_others() {
    let server = PostgresServer::shared(17);
    let source = server.create_database("meddled");
    source.psql(
        "CREATE TABLE plain AS SELECT g AS id FROM generate_series(1, 100) g; CREATE SEQUENCE ticket; SELECT setval('ticket', 7);
         SELECT lo_from_bytea(4711, 'as it was');
         CREATE FUNCTION meddle() RETURNS int LANGUAGE plpgsql AS $$ BEGIN
             IF current_database() <> 'ORIGIN' THEN
                 PERFORM pg_catalog.setval('public.ticket', 99); PERFORM pg_catalog.lo_put(4711, 0, 'AS');
             END IF; RETURN 1; END $$",
    );
    source.psql(&format!(
        "DO $$ BEGIN EXECUTE replace(pg_get_functiondef('meddle'::regproc), 'ORIGIN', '{}'); END $$;
         CREATE MATERIALIZED VIEW meddling AS SELECT meddle()",
        source.name()
    ));
    let bench = Bench::new().await;
    let backup = bench.backup(&source.url()).await;
    let target = Doomed::new(server, "meddled_again");
    let error = bench.restore(&source.url(), &beside(&backup, &target.name)).await.unwrap_err();
    let Error::Unproven { differences } = &error else { panic!("{error}") };
    assert_eq!(differences.len(), 2, "{differences:?}");
    assert!(
        differences.iter().any(|line| line.contains("sequence public.ticket: stood at 7, stands at 99")),
        "{differences:?}"
    );
    assert!(differences.iter().any(|line| line.starts_with("large objects: 1 (9 bytes")), "{differences:?}");
}

/// What a session has written it tells the server's counters up to ten seconds later: until then a table looks as it was restored.
#[tokio::test(flavor = "multi_thread")]
async fn a10_what_was_written_a_moment_ago_is_no_damage() {
    let server = PostgresServer::shared(17);
    let source = server.create_database("settling");
    source.psql("CREATE TABLE first AS SELECT g AS id FROM generate_series(1, 10) g; CREATE TABLE last AS TABLE first");
    let bench = Bench::new().await;
    let backup = bench.backup(&source.url()).await;
    let target = Doomed::new(server, "settling_again");
    bench.restore(&source.url(), &beside(&backup, &target.name)).await.unwrap();
    let url = server.url(&target.name);
    let mut writer = Connection::connect(&settings(&url), SessionSettings::Admin).await.unwrap();
    // The first is told at once; what follows within a second waits.
    writer.execute("UPDATE public.first SET id = id WHERE id = 1").await.unwrap();
    writer.execute("UPDATE public.last SET id = 99 WHERE id = 2").await.unwrap();
    let options = CompareOptions { source: backup, exact: false, jobs: 1 };
    let comparison = bench.restorer(&url).compare(&options).await.unwrap();
    assert_eq!(comparison.differences, []);
    assert!(comparison.written.contains(&"public.last".to_owned()), "{comparison:?}");
}

/// P-A14, P-A15: clients never meet the new database without statistics; one that was closed to the public is closed from its
/// first moment; and that it is read-only by default stops no load.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a15_a_new_database_is_closed_while_it_is_made_and_has_statistics_when_it_is_met() {
    let server = PostgresServer::shared(17);
    let role = unique("public_role");
    server.psql("postgres", &format!("CREATE ROLE {role} LOGIN PASSWORD 'pw'"));
    let live = server.create_database("closed");
    live.psql(&format!(
        "CREATE TABLE word AS SELECT 'backed up' AS said; CREATE TABLE big AS SELECT g AS id, md5(g::text) AS note FROM generate_series(1, 60000) g;
         REVOKE CONNECT ON DATABASE {0} FROM PUBLIC; ALTER DATABASE {0} SET default_transaction_read_only = on",
        &*live
    ));
    let bench = Bench::new().await;
    let backup = bench.backup(&live.url()).await;
    live.psql("SET default_transaction_read_only = off; UPDATE word SET said = 'live'");

    let going_on = AtomicBool::new(true);
    let (entered, met) = std::thread::scope(|scope| {
        // Whoever comes without a grant, to any database that there is for it.
        let entered = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let mut entered = Vec::new();
            while going_on.load(Ordering::Relaxed) {
                for name in live.relatives() {
                    let url = server.url_as(&role, "pw", &name);
                    if runtime.block_on(Connection::connect(&settings(&url), SessionSettings::Admin)).is_ok() {
                        entered.push(name);
                    }
                }
            }
            entered
        });
        // Clients of the live one.
        let met = scope.spawn(|| {
            let mut met = Vec::new();
            let asked = "SELECT said, (SELECT count(*) FROM pg_stats WHERE tablename = 'big') FROM word";
            while going_on.load(Ordering::Relaxed) {
                met.extend(live.try_psql(asked));
            }
            met
        });
        let _until_here = Ends(&going_on);
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                let report = bench.restore(&live.url(), &request(&backup, Target::Live)).await.unwrap();
                assert!(report.proof.differences.is_empty(), "{:?}", report.proof);
            });
        });
        let new =
            (0..100).map(|_| live.try_psql("SELECT said FROM word")).find(|said| said.as_deref() == Ok("backed up"));
        assert!(new.is_some(), "the restored database does not answer");
        going_on.store(false, Ordering::Relaxed);
        (entered.join().unwrap(), met.join().unwrap())
    });
    assert_eq!(entered, [""; 0], "it was open to the public");
    let of_new: Vec<&String> = met.iter().filter(|met| met.starts_with("backed up|")).collect();
    assert!(of_new.iter().all(|met| *met == "backed up|2"), "it was met without statistics: {of_new:?}");
    assert_eq!(live.psql("SHOW default_transaction_read_only"), "on");
    assert!(live.relatives().len() == 2);
    server.psql("postgres", &format!("DROP ROLE {role}"));
}

/// P-C3: a materialized view that cannot be filled again is told of, by its name; nothing takes the live database's place.
#[tokio::test(flavor = "multi_thread")]
async fn c03_a_materialized_view_that_cannot_be_filled_is_named() {
    let server = PostgresServer::shared(17);
    let live = server.create_database("unfillable");
    // With the search path of a restore, which is empty, its function finds no table.
    live.psql(
        "CREATE TABLE counted AS SELECT g AS id FROM generate_series(1, 10) g;
         CREATE FUNCTION how_many() RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN RETURN (SELECT count(*) FROM counted); END $$;
         CREATE TABLE guard AS SELECT 1 AS n",
    );
    // It was filled by a session with a search path, before 17 took that away from it.
    live.psql(
        "CREATE MATERIALIZED VIEW summed AS SELECT 0::bigint AS n; ALTER FUNCTION how_many() SET search_path = public",
    );
    live.psql("DROP MATERIALIZED VIEW summed; CREATE MATERIALIZED VIEW summed AS SELECT how_many() AS n; ALTER FUNCTION how_many() RESET search_path");
    let bench = Bench::new().await;
    let backup = bench.backup(&live.url()).await;
    live.psql("UPDATE guard SET n = 2");
    let error = bench.restore(&live.url(), &request(&backup, Target::Live)).await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, Error::PgRestore { .. }) && text.contains("counted"), "{text}");
    assert_eq!(live.psql("SELECT n FROM guard"), "2");
    assert_eq!(live.relatives(), [live.name()]);
}

/// P-C9: extensions that can be created in one database only, or want more than to be created, are named before anything begins.
#[tokio::test(flavor = "multi_thread")]
async fn c09_extensions_that_are_not_like_others_block_the_plan() {
    let server = PostgresServer::shared(17);
    let source = server.create_database("scheduled");
    source.psql("CREATE EXTENSION pg_trgm; CREATE TABLE plain AS SELECT 1 AS id");
    let dumped = server.exec(&["pg_dump", "-U", "postgres", "-Fc", "-Z0", source.name()]);
    assert!(dumped.status.success());
    // As long a name as the other.
    let mut archive = dumped.stdout;
    for at in 0..archive.len() - 7 {
        if archive[at..].starts_with(b"pg_trgm") {
            archive[at..at + 7].copy_from_slice(b"pg_cron");
        }
    }
    let bench = Bench::new().await;
    let backup = bench.foreign("scheduled.dump", &archive);
    let target = Doomed::new(server, "scheduled_again");
    let plan = bench.restorer(&source.url()).plan(&beside(&backup, &target.name)).await.unwrap();
    assert!(
        plan.blockers.iter().any(|line| line.contains("pg_cron") && line.contains("cron.database_name")),
        "{:?}",
        plan.blockers
    );
}

/// P-C12: a restored subscription has its old slot and is disabled, and the plan says so beforehand.
#[tokio::test(flavor = "multi_thread")]
async fn c12_a_restored_subscription_is_disabled_and_told_of() {
    for major in [15, 18] {
        let server = PostgresServer::shared(major);
        let source = server.create_database("subscribed");
        let subscription = unique("sub");
        source.psql(&format!(
            "CREATE TABLE plain AS SELECT 1 AS id;
             CREATE SUBSCRIPTION {subscription} CONNECTION 'host=nowhere.invalid' PUBLICATION p WITH (connect = false)"
        ));
        let bench = Bench::new().await;
        let backup = bench.backup(&source.url()).await;
        let target = Doomed::new(server, "subscribed_again");
        let wanted: RestoreRequest = beside(&backup, &target.name);
        let plan = bench.restorer(&source.url()).plan(&wanted).await.unwrap();
        let told = format!(
            "subscription {subscription} is restored disabled, with the slot of the old one: never enable both"
        );
        assert!(plan.warnings.contains(&told), "{:?}", plan.warnings);
        bench.restore(&source.url(), &wanted).await.unwrap();
        let there = "SELECT subname, subenabled, subslotname FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid WHERE datname = current_database()";
        assert_eq!(server.psql(&target.name, there), format!("{subscription}|f|{subscription}"), "{major}");
        server.psql(
            &target.name,
            &format!("ALTER SUBSCRIPTION {subscription} SET (slot_name = NONE); DROP SUBSCRIPTION {subscription}"),
        );
    }
}
