//! Traps of the archive's format and of versions.

use pgkeep_restore::Error;
use pgkeep_testkit::{MAJORS, PostgresOptions, PostgresServer, ScratchDatabase};

use crate::bench::{Bench, Doomed, beside};
use crate::ground::alone;
use crate::tools::{assert_same, drain, engine, start, stock_text, text, text_of};

const TABLE: &str = "CREATE TABLE plain AS SELECT g AS id, repeat('x', 90) AS note FROM generate_series(1, 20000) g";

/// P-A18: the meta says which pg_restore reads the archive, and an older one is not tried.
#[tokio::test(flavor = "multi_thread")]
async fn a18_an_older_pg_restore_is_refused_before_anything_is_made() {
    for (major, lowest) in [(15, 12), (17, 17)] {
        let server = PostgresServer::shared(major);
        let source = server.create_database("versions");
        source.psql(TABLE);
        let bench = Bench::new().await;
        let backup = bench.backup(&source.url()).await;
        assert_eq!(backup.meta.as_ref().unwrap().lowest_pg_restore, lowest);
        let mut restorer = bench.restorer(&source.url());
        restorer.tools.retain(|tools| tools.major == 15);
        let target = Doomed::new(server, "versions_again");
        let plan = restorer.plan(&beside(&backup, &target.name)).await;
        if major == 15 {
            plan.unwrap();
        } else {
            let plan = plan.unwrap();
            assert!(
                plan.blockers.iter().any(|line| line.contains("needs pg_restore 17 or newer")),
                "{:?}",
                plan.blockers
            );
            let error = Box::pin(restorer.execute(&plan, None)).await.unwrap_err();
            assert!(matches!(&error, Error::Blocked { .. }), "{error}");
            assert_eq!(server.try_psql(&target.name, "SELECT 1").ok(), None, "it was made");
        }
    }
}

/// P-A18, P-B8: `\restrict`, with its random word, is psql's and stands in no archive.
#[tokio::test(flavor = "multi_thread")]
async fn b08_no_archive_holds_a_restrict_command() {
    for major in MAJORS {
        let server = PostgresServer::shared(major);
        let database = server.create_database("restrict");
        database.psql(TABLE);
        let dumped = drain(start(&engine(&database.url(), 2, &[]).await).await.unwrap()).await.unwrap();
        assert!(!dumped.bytes.windows(9).any(|window| window == b"\\restrict"), "{major}");
        assert!(text(major, &dumped).await.contains("\\restrict testkit"), "and it is what pg_restore adds");
    }
}

fn statistics(database: &ScratchDatabase<'_>) -> String {
    database.psql("SELECT tablename, attname, n_distinct, most_common_vals FROM pg_stats WHERE schemaname = 'public' ORDER BY 1, 2")
}

/// P-B7: statistics of 18 are entries in the data section without a data block, of tables, and behind it, of indexes.
#[tokio::test(flavor = "multi_thread")]
async fn b07_statistics_travel_as_entries_without_data() {
    let server = PostgresServer::start(18, &PostgresOptions::default());
    let source = server.create_database("statistics");
    source.psql(&format!(
        "{TABLE}; CREATE INDEX on_length ON plain (length(note)); CREATE MATERIALIZED VIEW seen AS SELECT id % 7 AS seventh FROM plain;
         VACUUM ANALYZE"
    ));
    let stream = start(&engine(&source.url(), 2, &["--statistics"]).await).await.unwrap();
    assert_eq!(stream.engine, "parallel");
    let entries: Vec<_> = stream.toc.entries.iter().filter(|entry| entry.desc == "STATISTICS DATA").collect();
    assert!(entries.len() >= 3 && entries.iter().all(|entry| !entry.has_data), "{entries:?}");
    let snapshot = server.psql("postgres", "SELECT name FROM pg_ls_dir('pg_snapshots') AS name");
    let stock = format!(
        "PGOPTIONS='-c TimeZone=UTC' pg_dump -U postgres -Fc -Z0 --statistics --snapshot={snapshot} '{}'",
        source.name()
    );
    let theirs = server.exec(&["sh", "-c", &stock]);
    assert!(theirs.status.success(), "{}", String::from_utf8_lossy(&theirs.stderr));
    let dumped = drain(stream).await.unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &theirs.stdout).unwrap();
    assert_same(&text(18, &dumped).await, &text_of(18, file.path()).await);

    // And they arrive: the restored database has them, whoever made them.
    let bench = Bench::new().await;
    let backup = bench.backup_by(crate::bench::Engine::Parallel, &source.url(), &["--statistics"]).await;
    assert!(backup.meta.as_ref().unwrap().is_whole());
    let target = server.create_database("statistics_again");
    server.psql("postgres", &format!("DROP DATABASE {}", target.name()));
    let report = bench.restore(&source.url(), &beside(&backup, &target)).await.unwrap();
    assert!(report.proof.differences.is_empty(), "{:?}", report.proof);
    let arrived = statistics(&target);
    assert!(arrived.contains("plain|id") && arrived.contains("seen|seventh"), "{arrived}");
}

/// P-A11, P-B5: the end of a block is the archive's and no row: an empty table is `\.` alone, and one with rows that look like
/// it has them all.
#[tokio::test(flavor = "multi_thread")]
async fn a11_what_looks_like_the_end_of_the_rows_is_a_row() {
    let (server, _turn) = alone().await;
    let database = server.create_database("ends");
    database.psql(&format!(
        "{TABLE}; CREATE TABLE bare (); CREATE TABLE ends (word text);
         INSERT INTO ends VALUES ('\\.'), (''), (NULL), (E'\\n\\\\.\\n'), ('\\N')"
    ));
    let bench = Bench::new().await;
    let backup = bench.backup(&database.url()).await;
    let meta = backup.meta.clone().unwrap();
    let rows = |name: &str| meta.entries.iter().find(|entry| entry.name == name).map(|entry| (entry.rows, entry.bytes));
    assert_eq!(rows("bare"), Some((0, 0)));
    // `\\.`, nothing, `\N`, `\n\\.\n`, `\\N`.
    assert_eq!(rows("ends"), Some((5, 3 + 2 + 7 + 3)));
    let stream = start(&engine(&database.url(), 2, &[]).await).await.unwrap();
    let theirs = stock_text(server, &database).await;
    assert_same(&text(17, &drain(stream).await.unwrap()).await, &theirs);
}
