//! Emptying a database and filling it again: all of it or nothing, and never a word too many.

use std::sync::{Arc, Mutex};

use futures::FutureExt as _;
use pgkeep_dump::{Connection, SessionSettings};
use pgkeep_restore::{Error, RestoreRequest, Snapshot, Target};
use pgkeep_testkit::{PostgresServer, dump_text};

use crate::bench::{Bench, assert_same, request, settings};

#[tokio::test(flavor = "multi_thread")]
async fn what_others_own_keeps_everything_where_it_is() {
    let server = PostgresServer::shared(17);
    let owner = pgkeep_testkit::unique("in_place_owner");
    server.psql("postgres", &format!("CREATE ROLE {owner} LOGIN PASSWORD 'secret'"));
    let live = server.create_database_with("others", &format!("OWNER {owner}"));
    let url = server.url_as(&owner, "secret", &live);
    server.psql(
        &live,
        &format!(
            "SET ROLE {owner}; CREATE SCHEMA app; CREATE TABLE app.t AS SELECT 'mine' AS word; CREATE TABLE kept AS SELECT 1 AS a; \
             SELECT lo_from_bytea(0, 'x')"
        ),
    );
    server.psql(&live, "CREATE EXTENSION citext");
    let bench = Bench::new().await;
    let backup = bench.backup(&url).await;

    // What the plan sees it says.
    server.psql(&live, "CREATE SCHEMA theirs; CREATE TABLE theirs.t (a int); SELECT lo_from_bytea(0, 'y')");
    let plan = bench.restorer(&url).plan(&request(&backup, Target::InPlace)).await.unwrap();
    let blockers = plan.blockers.join("\n");
    for line in ["cannot drop what others own", "schema theirs (role postgres)", "1 large objects (role postgres)"] {
        assert!(blockers.contains(line), "{plan}");
    }
    assert!(!blockers.contains("citext") && !blockers.contains("kept"), "{plan}");
    server.psql(
        &live,
        "DROP SCHEMA theirs CASCADE; SELECT lo_unlink(oid) FROM pg_largeobject_metadata WHERE lomowner = 10",
    );
    let plan = bench.restorer(&url).plan(&request(&backup, Target::InPlace)).await.unwrap();
    assert!(plan.blockers.is_empty(), "{plan}");

    // What comes after the plan is found before anything is gone.
    server.psql(&live, "CREATE SCHEMA theirs; CREATE TABLE theirs.t (a int)");
    let before = dump_text(server, &live);
    let error = bench.restorer(&url).execute(&plan, None).await.unwrap_err();
    assert!(
        matches!(&error, Error::Blocked { blockers } if blockers.len() == 1 && blockers[0].contains("schema theirs stays")),
        "{error:?}"
    );
    assert_same(&before, &dump_text(server, &live));
    // Nothing has happened, so nothing is told.
    assert_eq!(bench.restorer(&url).leftovers(None).await.unwrap().leftovers, []);

    // An extension of somebody else's may stay.
    server.psql(&live, "DROP SCHEMA theirs CASCADE");
    server.psql(&live, "INSERT INTO app.t VALUES ('since')");
    let report = bench.restorer(&url).execute(&plan, None).await.unwrap();
    assert!(report.warnings.iter().any(|line| line.starts_with("extension citext stays")), "{:?}", report.warnings);
    assert_eq!(server.psql(&live, "SELECT string_agg(word, ',') FROM app.t").trim(), "mine");
}

/// A snapshot during which somebody tries to do this; the answer is the SQLSTATE, empty if it could be done.
fn during_the_snapshot(url: String, sql: &'static str, answer: Arc<Mutex<Option<String>>>) -> Snapshot {
    let snapshot = async move {
        let mut connection = Connection::connect(&settings(&url), SessionSettings::Admin).await?;
        connection.query("SELECT count(*) FROM public.t").await?;
        connection.execute("SET lock_timeout = '300ms'").await?;
        let done = connection.execute(sql).await;
        let state = done.err().and_then(|error| error.sqlstate().map(str::to_owned)).unwrap_or_default();
        *answer.lock().unwrap() = Some(state);
        Ok("pre-restore_x".to_owned())
    };
    snapshot.boxed()
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_writes_between_the_snapshot_and_the_emptying() {
    let server = PostgresServer::shared(17);
    let live = server.create_database("standstill");
    live.psql("CREATE TABLE t AS SELECT 'backed up' AS word");
    let bench = Bench::new().await;
    let backup = bench.backup(&live.url()).await;
    let restorer = bench.restorer(&live.url());
    let plan = restorer.plan(&RestoreRequest::new(backup, Target::InPlace)).await.unwrap();

    // A table that is new has no lock, and is not in the snapshot: nothing is emptied.
    let answer: Arc<Mutex<Option<String>>> = Arc::default();
    let snapshot = during_the_snapshot(live.url(), "CREATE TABLE public.newer AS SELECT 1 AS n", Arc::clone(&answer));
    let error = restorer.execute(&plan, Some(snapshot)).await.unwrap_err();
    assert!(matches!(&error, Error::Changed(what) if what.contains("public.newer")), "{error:?}");
    assert_eq!(answer.lock().unwrap().as_deref(), Some(""));
    assert_eq!(live.psql("SELECT word, n FROM t, newer").trim(), "backed up|1");
    assert_eq!(restorer.leftovers(None).await.unwrap().leftovers, []);

    // A writer who is in the middle of it is ended, another one waits.
    let mut writer = Connection::connect(&settings(&live.url()), SessionSettings::Admin).await.unwrap();
    writer.execute("BEGIN; INSERT INTO public.t VALUES ('not committed')").await.unwrap();
    let snapshot = during_the_snapshot(live.url(), "INSERT INTO public.t VALUES ('lost')", Arc::clone(&answer));
    let report = restorer.execute(&plan, Some(snapshot)).await.unwrap();
    assert_eq!(answer.lock().unwrap().as_deref(), Some("55P03"));
    assert!(report.warnings.is_empty(), "{:?}", report.warnings);
    assert!(writer.execute("COMMIT").await.is_err());
    assert_eq!(live.psql("SELECT string_agg(word, ',') FROM t").trim(), "backed up");
    assert_eq!(live.psql("SELECT count(*) FROM pg_class WHERE relname = 'newer'").trim(), "0");
}
