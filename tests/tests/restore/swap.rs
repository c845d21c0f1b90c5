//! Taking the live database's name, and giving it back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures::FutureExt as _;
use pgkeep_dump::{Connection, SessionSettings};
use pgkeep_restore::{Error, RestoreRequest, Snapshot, Target};
use pgkeep_testkit::PostgresServer;

use crate::bench::{Bench, request, settings};
use crate::relay::Relay;

/// A client that connects again and again, and asks the same.
async fn client(url: String, stop: Arc<AtomicBool>, failures: Arc<AtomicU64>, rounds: Arc<AtomicU64>) {
    let settings = settings(&url);
    while !stop.load(Ordering::Relaxed) {
        let asked = async {
            let mut connection = Connection::connect(&settings, SessionSettings::Admin).await?;
            for _ in 0..20 {
                connection.query("SELECT count(*) FROM public.t").await?;
                rounds.fetch_add(1, Ordering::Relaxed);
            }
            connection.close().await
        };
        if asked.await.is_err() {
            failures.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn clients_that_reconnect_see_a_moments_error_and_then_the_new_database() {
    let server = PostgresServer::shared(17);
    let live = server.create_database("live");
    live.psql("CREATE TABLE t AS SELECT 'old' AS word");
    let bench = Bench::new().await;
    let backup = bench.backup(&live.url()).await;
    live.psql("INSERT INTO t VALUES ('written since')");

    let (stop, failures, rounds) =
        (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let clients: Vec<_> = (0..4)
        .map(|_| tokio::spawn(client(live.url(), Arc::clone(&stop), Arc::clone(&failures), Arc::clone(&rounds))))
        .collect();
    // One that sits in a transaction, and holds a lock.
    let mut idle = Connection::connect(&settings(&live.url()), SessionSettings::Admin).await.unwrap();
    idle.execute("BEGIN; LOCK TABLE public.t IN ROW EXCLUSIVE MODE").await.unwrap();

    let snapshot: Snapshot = async { Ok("pre-restore_x".to_owned()) }.boxed();
    let wanted = RestoreRequest { skip_snapshot: false, ..request(&backup, Target::Live) };
    let restorer = bench.restorer(&live.url());
    let plan = restorer.plan(&wanted).await.unwrap();
    assert!(plan.wants_snapshot && plan.sessions.iter().map(|session| session.count).sum::<u64>() >= 1);
    let report = restorer.execute(&plan, Some(snapshot)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    assert_eq!(report.snapshot.as_deref(), Some("pre-restore_x"));
    assert!(rounds.load(Ordering::Relaxed) > 100);
    assert!(failures.load(Ordering::Relaxed) <= 4 * 3, "{} failures", failures.load(Ordering::Relaxed));

    assert_eq!(live.psql("SELECT string_agg(word, ',') FROM t").trim(), "old");
    let kept = report.kept_as.clone().unwrap();
    assert_eq!(server.psql(&kept, "SELECT count(*) FROM public.t").trim(), "2");
    let known = restorer.kept_databases().await.unwrap();
    assert_eq!(known.iter().map(|kept| kept.name.as_str()).collect::<Vec<_>>(), [kept.as_str()]);
    assert_eq!(restorer.recover(None).await.unwrap().leftovers, []);

    // And back, and forth.
    let back = restorer.plan_rollback(None).await.unwrap();
    assert!(back.blockers.is_empty());
    let done = restorer.rollback(&back).await.unwrap();
    assert_eq!(done.restored, kept);
    assert_eq!(live.psql("SELECT count(*) FROM public.t").trim(), "2");
    let again = restorer.plan_rollback(done.kept_as.as_deref()).await.unwrap();
    let done = restorer.rollback(&again).await.unwrap();
    assert_eq!(live.psql("SELECT count(*) FROM public.t").trim(), "1");
    restorer.drop_kept(&done.kept_as.unwrap()).await.unwrap();
    assert_eq!(live.relatives(), [live.name()]);
    assert!(matches!(restorer.plan_rollback(None).await, Err(Error::NotFound { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_must_not_be_swapped_blocks_the_plan() {
    let server = PostgresServer::shared(17);
    let live = server.create_database("blocked");
    live.psql("CREATE TABLE t AS SELECT 1 AS a");
    let bench = Bench::new().await;
    let backup = bench.backup(&live.url()).await;
    live.psql("CREATE SUBSCRIPTION blocking CONNECTION 'host=nowhere.invalid' PUBLICATION p WITH (connect = false, slot_name = NONE)");
    // An enabled one needs a slot's name.
    live.psql("ALTER SUBSCRIPTION blocking SET (slot_name = 'blocking'); ALTER SUBSCRIPTION blocking ENABLE");
    let restorer = bench.restorer(&live.url());
    let plan = restorer.plan(&request(&backup, Target::Live)).await.unwrap();
    live.psql("ALTER SUBSCRIPTION blocking DISABLE; ALTER SUBSCRIPTION blocking SET (slot_name = NONE); DROP SUBSCRIPTION blocking");
    assert!(plan.blockers.iter().any(|blocker| blocker.contains("subscription blocking is enabled")), "{plan}");
    assert!(matches!(restorer.execute(&plan, None).await, Err(Error::Blocked { .. })));

    let role = pgkeep_testkit::unique("weak");
    server.psql("postgres", &format!("CREATE ROLE {role} LOGIN PASSWORD 'p'"));
    let plan = bench.restorer(&server.url_as(&role, "p", &live)).plan(&request(&backup, Target::Live)).await.unwrap();
    assert!(plan.blockers.iter().any(|blocker| blocker.contains("may not create databases")), "{plan}");

    let other = server.create_database("full");
    other.psql("CREATE TABLE somebody_elses ()");
    let target = Target::Database { name: other.name().to_owned(), replace: false };
    let plan = restorer.plan(&request(&backup, target)).await.unwrap();
    assert!(plan.blockers.iter().any(|blocker| blocker.contains("--replace-target")), "{plan}");
    let target = Target::Database { name: other.name().to_owned(), replace: true };
    let report = bench.restore(&live.url(), &request(&backup, target)).await.unwrap();
    assert_eq!(other.psql("SELECT a FROM t").trim(), "1");
    assert!(report.kept_as.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_without_an_answer_is_never_told_as_nothing_changed() {
    let server = PostgresServer::shared(17);
    for arrives in [true, false] {
        let live = server.create_database("uncertain");
        live.psql("CREATE TABLE t AS SELECT 'backed up' AS word");
        let bench = Bench::new().await;
        let backup = bench.backup(&live.url()).await;
        live.psql("UPDATE t SET word = 'present'");
        let relay = Relay::new(server.port(), arrives).await;
        let url = relay.url(&live.url(), server.port());
        let mut restorer = bench.restorer(&url);
        restorer.observer = relay.armed_by_swap();
        let plan = restorer.plan(&request(&backup, Target::Live)).await.unwrap();
        let kept = plan.kept_as.clone().unwrap();
        let error = restorer.execute(&plan, None).await.unwrap_err();
        let Error::Uncertain { evidence, .. } = &error else { panic!("{error:?}") };
        assert_eq!(*evidence, format!("database {kept} exists"));
        assert_eq!(live.relatives().contains(&kept), arrives, "the evidence is right");
        let word = if arrives { "backed up" } else { "present" };
        assert_eq!(live.psql("SELECT word FROM t").trim(), word);

        // The next run tells, once.
        relay.heal();
        let restorer = bench.restorer(&url);
        let told = restorer.recover(None).await.unwrap();
        let story = if arrives { "it is done" } else { "nothing changed" };
        assert!(told.leftovers.iter().any(|leftover| leftover.story.contains(story)), "{told:?}");
        assert_eq!(restorer.leftovers(None).await.unwrap().leftovers, []);
        if !arrives {
            continue;
        }

        // The same of a rollback.
        let plan = restorer.plan_rollback(None).await.unwrap();
        relay.arm();
        let error = restorer.rollback(&plan).await.unwrap_err();
        assert!(matches!(error, Error::Uncertain { .. }), "{error:?}");
        relay.heal();
        assert_eq!(live.psql("SELECT word FROM t").trim(), "present");
        let told = restorer.recover(None).await.unwrap();
        assert!(told.leftovers.iter().any(|leftover| leftover.story.contains("it is done")), "{told:?}");
    }
}
