//! Whatever ends a restore in the middle, the live database is as it was, and the next run says what happened.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use pgkeep_metrics::{Event, Observer, Stage};
use pgkeep_restore::{Error, ErrorKind, RecoveryAction, RestoreRequest, Snapshot, Target};
use pgkeep_testkit::{FaultyStorage, Operation, PostgresServer, saas};
use tokio_util::sync::CancellationToken;

use crate::bench::{Bench, request};

/// Pulls the trigger when a stage begins.
#[derive(Debug)]
struct At {
    stage: Stage,
    trigger: CancellationToken,
}

impl Observer for At {
    fn notice(&self, event: &Event) {
        if matches!(event, Event::StageStarted { stage, .. } if *stage == self.stage) {
            self.trigger.cancel();
        }
    }
}

const STAGES: [Stage; 6] = [Stage::Connect, Stage::PreData, Stage::Data, Stage::PostData, Stage::Analyze, Stage::Proof];

#[tokio::test(flavor = "multi_thread")]
async fn cancelled_at_any_stage_nothing_is_left() {
    let server = PostgresServer::shared(17);
    let live = server.create_database("cancelled");
    saas::load(server, &live, 0.02);
    let bench = Bench::new().await;
    let backup = bench.backup(&live.url()).await;
    let plan = bench.restorer(&live.url()).plan(&request(&backup, Target::Live)).await.unwrap();
    for stage in STAGES {
        let mut restorer = bench.restorer(&live.url());
        restorer.cancel = CancellationToken::new();
        restorer.observer = Arc::new(At { stage, trigger: restorer.cancel.clone() });
        let error = restorer.execute(&plan, None).await.unwrap_err();
        assert!(matches!(error, Error::Interrupted), "{stage:?}: {error}");
        assert_eq!(live.relatives(), [live.name()], "{stage:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelled_at_any_stage_tables_are_taken_back() {
    let server = PostgresServer::shared(17);
    let live = server.create_database("taken_back");
    live.psql(
        "CREATE TABLE a (id serial PRIMARY KEY, b int); CREATE TABLE b (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, a int REFERENCES a); \
         ALTER TABLE a ADD FOREIGN KEY (b) REFERENCES b; INSERT INTO a SELECT FROM generate_series(1, 1000)",
    );
    let bench = Bench::new().await;
    let backup = bench.backup(&live.url()).await;
    live.psql("DROP TABLE a, b CASCADE");
    let tables = ["a", "b"].map(|table| table.parse().unwrap()).to_vec();
    let wanted = RestoreRequest { tables, ..request(&backup, Target::Live) };
    for stage in STAGES.into_iter().skip(1) {
        let mut restorer = bench.restorer(&live.url());
        restorer.cancel = CancellationToken::new();
        restorer.observer = Arc::new(At { stage, trigger: restorer.cancel.clone() });
        let plan = restorer.plan(&wanted).await.unwrap();
        assert!(plan.blockers.is_empty(), "{stage:?}: {plan}");
        let error = restorer.execute(&plan, None).await.unwrap_err();
        assert!(matches!(error, Error::Interrupted), "{stage:?}: {error}");
        assert_eq!(live.psql("SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace").trim(), "0");
    }
    let report = bench.restore(&live.url(), &wanted).await.unwrap();
    assert_eq!(report.rows, 1000);
}

#[tokio::test(flavor = "multi_thread")]
async fn dropped_at_any_stage_the_next_run_tidies_up() {
    let server = PostgresServer::shared(17);
    let live = server.create_database("dropped");
    saas::load(server, &live, 0.02);
    let bench = Bench::new().await;
    let backup = bench.backup(&live.url()).await;
    let rows = live.psql("SELECT count(*) FROM pg_class");
    for stage in STAGES.into_iter().skip(1) {
        let mut restorer = bench.restorer(&live.url());
        let cut = CancellationToken::new();
        restorer.observer = Arc::new(At { stage, trigger: cut.clone() });
        let plan = restorer.plan(&request(&backup, Target::Live)).await.unwrap();
        // As good as killed: nothing of ours runs any more.
        tokio::select! {
            _ = restorer.execute(&plan, None) => panic!("{stage:?} was to be cut off"),
            () = cut.cancelled() => {}
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(live.psql("SELECT count(*) FROM pg_class"), rows);
        let restorer = bench.restorer(&live.url());
        let found = restorer.leftovers(None).await.unwrap();
        assert_eq!(found.leftovers.len(), 1, "{stage:?}: {found:?}");
        assert_eq!(found.leftovers[0].action, RecoveryAction::Drop);
        assert!(found.leftovers[0].story.contains(&plan.backup.name), "{found:?}");
        let done = restorer.recover(None).await.unwrap();
        assert_eq!((done.leftovers.len(), done.warnings.len()), (1, 0), "{done:?}");
        assert_eq!(live.relatives(), [live.name()], "{stage:?}");
    }
    // And then it succeeds.
    let report = bench.restore(&live.url(), &request(&backup, Target::Live)).await.unwrap();
    assert!(report.proof.differences.is_empty());
}

/// Stops a restore where its data begins, until it is let go.
#[derive(Debug)]
struct Hold {
    begun: CancellationToken,
    let_go: Arc<AtomicBool>,
}

impl Observer for Hold {
    fn notice(&self, event: &Event) {
        if matches!(event, Event::StageStarted { stage: Stage::Data, .. }) {
            self.begun.cancel();
            // Not for ever: a test that has failed lets nobody go.
            let since = Instant::now();
            tokio::task::block_in_place(|| {
                while !self.let_go.load(Ordering::Relaxed) && since.elapsed() < Duration::from_secs(50) {
                    std::thread::sleep(Duration::from_millis(10));
                }
            });
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn only_one_restore_of_a_database_runs_at_a_time() {
    let server = PostgresServer::shared(17);
    let live = server.create_database("busy");
    live.psql("CREATE TABLE t AS SELECT 1 AS a");
    let bench = Bench::new().await;
    let backup = bench.backup(&live.url()).await;
    let first = bench.restorer(&live.url());
    let plan = first.plan(&request(&backup, Target::Live)).await.unwrap();
    let mut restorer = bench.restorer(&live.url());
    let hold = Arc::new(Hold { begun: CancellationToken::new(), let_go: Arc::default() });
    restorer.observer = Arc::clone(&hold) as Arc<dyn Observer>;
    let running = tokio::spawn({
        let plan = plan.clone();
        async move { restorer.execute(&plan, None).await }
    });
    hold.begun.cancelled().await;
    let error = first.execute(&plan, None).await.unwrap_err();
    assert!(matches!(error, Error::Busy { .. }), "{error}");
    // Nor does tidying up touch what another run is building.
    assert_eq!(first.recover(None).await.unwrap().leftovers, []);
    hold.let_go.store(true, Ordering::Relaxed);
    running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_archive_never_reaches_the_live_database() {
    let server = PostgresServer::shared(17);
    let live = server.create_database("damaged");
    saas::load(server, &live, 0.02);
    let bench = Bench::new().await;
    let backup = bench.backup(&live.url()).await;
    let path = bench.folder.path().join("repository").join(backup.key.as_str());
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    std::fs::write(&path, bytes).unwrap();
    let error = bench.restore(&live.url(), &request(&backup, Target::Live)).await.unwrap_err();
    assert_eq!(error.kind(), pgkeep_restore::ErrorKind::Damaged, "{error:?}");
    assert_eq!(live.relatives(), [live.name()]);
    // In place it is found before anything is removed.
    let tables = live.psql("SELECT count(*) FROM pg_tables");
    let error = bench.restore(&live.url(), &request(&backup, Target::InPlace)).await.unwrap_err();
    assert_eq!(error.kind(), pgkeep_restore::ErrorKind::Damaged, "{error:?}");
    assert_eq!(live.psql("SELECT count(*) FROM pg_tables"), tables);
}

/// Pulls the trigger some time after names begin to be exchanged.
#[derive(Debug)]
struct Later(CancellationToken, Duration);

impl Observer for Later {
    fn notice(&self, event: &Event) {
        if matches!(event, Event::StageStarted { stage: Stage::Swap, .. }) {
            let (trigger, delay) = (self.0.clone(), self.1);
            tokio::spawn(async move {
                tokio::time::sleep(delay).await;
                trigger.cancel();
            });
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_off_while_names_are_exchanged_it_is_all_or_nothing() {
    let server = PostgresServer::shared(17);
    let live = server.create_database("exchanged");
    live.psql("CREATE TABLE t AS SELECT 'backed up' AS word");
    let bench = Bench::new().await;
    let backup = bench.backup(&live.url()).await;
    let mut done = 0;
    for delay in [0, 5, 10, 20, 40, 80, 120, 200, 400, 60_000] {
        live.psql("UPDATE t SET word = 'present'");
        let mut restorer = bench.restorer(&live.url());
        let cut = CancellationToken::new();
        restorer.observer = Arc::new(Later(cut.clone(), Duration::from_millis(delay)));
        let plan = restorer.plan(&request(&backup, Target::Live)).await.unwrap();
        let ended = tokio::select! {
            report = restorer.execute(&plan, None) => Some(report.unwrap()),
            () = cut.cancelled() => None,
        };
        tokio::time::sleep(Duration::from_millis(300)).await;
        let word = live.psql("SELECT word FROM t");
        let recovery = bench.restorer(&live.url()).recover(None).await.unwrap();
        let stories: Vec<_> = recovery.leftovers.iter().map(|leftover| leftover.story.as_str()).collect();
        if word.trim() == "backed up" {
            done += 1;
            // Cut off at its very last step, it has nothing more to tell than what is kept.
            assert!(stories.iter().all(|story| story.contains("it is done")), "{stories:?}");
            let kept = bench.restorer(&live.url()).kept_databases().await.unwrap();
            assert!(kept.iter().any(|kept| Some(&kept.name) == plan.kept_as.as_ref()), "{kept:?}");
        } else {
            assert!(ended.is_none());
            assert!(stories.iter().any(|story| story.contains("is as it was")), "{stories:?}");
        }
        assert_eq!(live.relatives().len(), 1 + done, "{:?}", live.relatives());
        // Said once.
        assert_eq!(bench.restorer(&live.url()).leftovers(None).await.unwrap().leftovers, []);
    }
    assert!(done > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_snapshot_nothing_is_emptied_and_a_swap_goes_on() {
    let server = PostgresServer::shared(15);
    let live = server.create_database("snapshots");
    live.psql("CREATE TABLE t AS SELECT 'backed up' AS word");
    let bench = Bench::new().await;
    let backup = bench.backup(&live.url()).await;
    live.psql("UPDATE t SET word = 'present'");
    let failing = || -> Option<Snapshot> { Some(async { Err("the bucket is gone".into()) }.boxed()) };
    let restorer = bench.restorer(&live.url());
    let plan = restorer.plan(&RestoreRequest::new(backup.clone(), Target::InPlace)).await.unwrap();
    for snapshot in [failing(), None] {
        let error = restorer.execute(&plan, snapshot).await.unwrap_err();
        assert!(matches!(error, Error::Snapshot { .. }), "{error}");
        assert_eq!(live.psql("SELECT word FROM t").trim(), "present");
    }
    let plan = restorer.plan(&RestoreRequest::new(backup, Target::Live)).await.unwrap();
    let report = restorer.execute(&plan, failing()).await.unwrap();
    assert!(report.warnings.iter().any(|warning| warning.contains("the bucket is gone")), "{:?}", report.warnings);
    assert_eq!(live.psql("SELECT word FROM t").trim(), "backed up");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_in_place_that_was_cut_off_is_told_until_one_succeeds() {
    let server = PostgresServer::shared(17);
    let live = server.create_database("cut_in_place");
    saas::load(server, &live, 0.02);
    let bench = Bench::new().await;
    let backup = bench.backup(&live.url()).await;
    let mut restorer = bench.restorer(&live.url());
    restorer.cancel = CancellationToken::new();
    restorer.observer = Arc::new(At { stage: Stage::Data, trigger: restorer.cancel.clone() });
    let snapshot: Snapshot = async { Ok("pre-restore_x".to_owned()) }.boxed();
    let plan = restorer.plan(&RestoreRequest::new(backup.clone(), Target::InPlace)).await.unwrap();
    let error = restorer.execute(&plan, Some(snapshot)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted);
    assert!(matches!(error, Error::HalfDone { snapshot: Some(name), .. } if name == "pre-restore_x"));
    let restorer = bench.restorer(&live.url());
    for _ in 0..2 {
        let found = restorer.recover(None).await.unwrap();
        assert_eq!(found.leftovers.len(), 1);
        assert_eq!(found.leftovers[0].action, RecoveryAction::Warn);
        assert!(found.leftovers[0].story.contains("pre-restore_x"), "{found:?}");
    }
    bench.restore(&live.url(), &request(&backup, Target::InPlace)).await.unwrap();
    assert_eq!(restorer.recover(None).await.unwrap().leftovers, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn notes_that_cannot_be_read_stand_in_nobodys_way() {
    let server = PostgresServer::shared(17);
    let live = server.create_database("unread_notes");
    live.psql("CREATE TABLE t AS SELECT 1 AS a");
    let bench = Bench::new().await;
    let backup = bench.backup(&live.url()).await;
    let mut restorer = bench.restorer(&live.url());
    let storage = FaultyStorage::new(Arc::clone(&bench.storage));
    restorer.journal = Some(Arc::new(storage.clone()));
    // One that was left, and cannot be read.
    let folder = bench.folder.path().join("repository/.pgkeep/restore");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("20250101_000000_1.json"), "{}").unwrap();
    for operation in [Operation::Read, Operation::List] {
        live.psql("UPDATE t SET a = 2");
        storage.fail_from(operation, 1);
        let plan = restorer.plan(&request(&backup, Target::Live)).await.unwrap();
        let report = restorer.execute(&plan, None).await.unwrap();
        assert!(storage.has_failed(), "{operation:?}");
        assert!(report.warnings.iter().any(|line| line.contains("cannot be read")), "{:?}", report.warnings);
        assert_eq!(live.psql("SELECT a FROM t").trim(), "1");
    }
}
