//! Toy programs play `pg_dump`, with a real archive of 600 rows and one large object.

use std::os::unix::process::CommandExt;
use std::time::Instant;

use pgkeep_archive::Event;

use super::opening::first_toc;
use super::*;
use crate::{ChildFailure, ErrorKind};

/// `pg_dump -Fc -Z0` of PostgreSQL 15: tables customer (600 rows) and empty, large object 4000.
const ARCHIVE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/toy.dump");

/// A child that runs a shell script; `$A` is the archive.
fn toy(script: &str) -> Child {
    let mut command = std::process::Command::new("/bin/sh");
    command.args(["-c", script]).env("A", ARCHIVE).stdin(Stdio::null()).stdout(Stdio::piped()).process_group(0);
    let mut command = Command::from(command);
    command.kill_on_drop(true);
    Child::spawn(command, Tool::PgDump, PrivateFolder::create(&std::env::temp_dir()).unwrap()).unwrap()
}

async fn start(script: &str, cancel: &CancellationToken) -> Result<DumpStream> {
    let outcome = DumpOutcome {
        pg_dump_version: "pg_dump (PostgreSQL) 15.18".to_owned(),
        snapshot_time: DateTime::UNIX_EPOCH,
        warnings: Vec::new(),
    };
    stream(toy(script), 1 << 10, outcome, Dumps::default().begin(), cancel.clone()).await
}

/// All blocks, and the verdict.
async fn run(script: &str) -> (Vec<Block>, Result<DumpOutcome>) {
    let mut stream = match start(script, &CancellationToken::new()).await {
        Ok(stream) => stream,
        Err(error) => return (Vec::new(), Err(error)),
    };
    let mut blocks = Vec::new();
    while let Some(mut segment) = stream.segments.recv().await {
        while let Some(block) = segment.blocks.recv().await {
            blocks.push(block.unwrap());
        }
    }
    (blocks, stream.finish().await)
}

/// Whether a process whose command line holds `mark` is running.
fn lives(mark: &str) -> bool {
    std::fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        std::fs::read(entry.path().join("cmdline")).is_ok_and(|line| String::from_utf8_lossy(&line).contains(mark))
    })
}

async fn ends(mark: &str) -> bool {
    for _ in 0..400 {
        if !lives(mark) {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    false
}

#[tokio::test]
async fn a_whole_archive_comes_through() {
    let (blocks, outcome) = run("cat \"$A\"").await;
    let outcome = outcome.unwrap();
    assert!(outcome.warnings.is_empty());
    assert!(blocks.len() > 10, "{}", blocks.len());
    // What came through is an archive with the same entries and rows.
    let mut decoder = Decoder::new();
    for block in &blocks {
        decoder.push(&block.bytes);
    }
    let (mut rows, mut objects) = (0, Vec::new());
    while let Some(event) = decoder.next_event().unwrap() {
        match event {
            Event::Data { bytes, .. } => rows += bytes.split(|&byte| byte == b'\n').count() - 1,
            Event::LargeObjectFinished { oid, bytes } => objects.push((oid, bytes)),
            _ => {}
        }
    }
    decoder.finish().unwrap();
    assert_eq!((rows, objects), (600, vec![(4000, 3)]));
}

#[tokio::test]
async fn warnings_are_kept_and_harmless_lines_are_not() {
    let (_, outcome) =
        run("echo 'pg_dump: warning: subscriptions not dumped because current user is not a superuser' >&2; \
         echo 'pg_dump: warning: there are circular foreign-key constraints on this table:' >&2; \
         echo 'pg_dump: detail: self' >&2; cat \"$A\"; echo 'WARNING:  odd' >&2")
        .await;
    assert_eq!(
        outcome.unwrap().warnings,
        ["subscriptions not dumped because current user is not a superuser", "WARNING:  odd"]
    );
}

#[tokio::test]
async fn a_whole_archive_and_a_bad_status_is_no_success() {
    let (blocks, outcome) =
        run("cat \"$A\"; echo 'pg_dump: error: could not write to output file: No space left on device' >&2; exit 1")
            .await;
    assert!(!blocks.is_empty());
    let error = outcome.unwrap_err();
    let Error::Child(child) = &error else { panic!("{error}") };
    assert_eq!((child.failure, child.status), (ChildFailure::DiskFull, Some(1)));
    assert_eq!(error.kind(), ErrorKind::Child);
    assert!(error.hint().is_some());
}

#[tokio::test]
async fn a_truncated_archive_with_status_0_is_no_success() {
    for bytes in [9_000, 12_000] {
        let (_, outcome) = run(&format!("head -c {bytes} \"$A\"")).await;
        let error = outcome.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Archive, "{error}");
    }
    // Cut inside the table of contents, and nothing at all.
    for bytes in [0, 3, 500] {
        let (blocks, outcome) = run(&format!("head -c {bytes} \"$A\"")).await;
        assert!(blocks.is_empty());
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Archive);
    }
}

#[tokio::test]
async fn what_is_no_archive_is_refused_and_its_writer_ended() {
    let begun = Instant::now();
    let (_, outcome) = run("yes 'SELECT 1;'; sleep 611").await;
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Archive);
    assert!(begun.elapsed() < Duration::from_secs(30));
    assert!(ends("sleep 611").await);
}

#[tokio::test]
async fn killed_half_way() {
    let (_, outcome) = run("head -c 9000 \"$A\"; kill -9 $$").await;
    let error = outcome.unwrap_err();
    assert_eq!(error.to_string(), "pg_dump was killed by signal 9");
    assert!(error.hint().unwrap().contains("memory"));
}

#[tokio::test]
async fn the_servers_end_is_the_reason_that_is_told() {
    let (_, outcome) = run("head -c 9000 \"$A\"; \
         echo 'pg_dump: error: Dumping the contents of table \"customer\" failed: PQgetCopyData() failed.' >&2; \
         echo 'pg_dump: detail: Error message from server: server closed the connection unexpectedly' >&2; \
         exit 1")
    .await;
    let error = outcome.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert!(error.is_retryable());
    assert!(error.to_string().ends_with("server closed the connection unexpectedly"), "{error}");
}

#[tokio::test]
async fn a_failure_before_the_table_of_contents_fails_the_start() {
    let error = start(
        "echo 'pg_dump: error: query failed: ERROR:  permission denied for table t' >&2; \
         echo 'pg_dump: detail: Query was: LOCK TABLE public.t IN ACCESS SHARE MODE' >&2; exit 1",
        &CancellationToken::new(),
    )
    .await
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        "pg_dump failed with exit status 1: query failed: ERROR:  permission denied for table t"
    );
}

#[tokio::test]
async fn cancelling_ends_a_child_that_hangs_and_one_that_waits_for_us() {
    // It hangs before anything is written, deaf to SIGTERM.
    let cancel = CancellationToken::new();
    let starting = start("trap '' TERM; while :; do sleep 1; done; echo toy-612", &cancel);
    tokio::pin!(starting);
    let none = tokio::time::timeout(Duration::from_millis(300), &mut starting).await;
    assert!(none.is_err());
    cancel.cancel();
    assert!(matches!(starting.await.unwrap_err(), Error::Interrupted));
    assert!(ends("toy-612").await);

    // Its archive is not taken, so it waits at the pipe and we at the channel.
    let cancel = CancellationToken::new();
    let stream = start("while cat \"$A\"; do :; done; echo toy-613", &cancel).await.unwrap();
    cancel.cancel();
    assert!(matches!(joined(stream.outcome.await).unwrap_err(), Error::Interrupted));
    assert!(ends("toy-613").await);
}

#[tokio::test]
async fn dropping_the_stream_or_its_start_ends_the_child() {
    let cancel = CancellationToken::new();
    let stream = start("cat \"$A\"; sleep 614", &cancel).await.unwrap();
    assert!(lives("sleep 614") || lives("toy.dump"));
    drop(stream);
    assert!(ends("sleep 614").await);

    let none = tokio::time::timeout(Duration::from_millis(300), start("sleep 615", &cancel)).await;
    assert!(none.is_err());
    assert!(ends("sleep 615").await);
}

#[tokio::test]
async fn finishing_before_the_end_gives_it_up() {
    let stream = start("cat \"$A\"; sleep 616", &CancellationToken::new()).await.unwrap();
    assert!(matches!(stream.finish().await.unwrap_err(), Error::Interrupted));
    assert!(ends("sleep 616").await);
}

#[tokio::test]
async fn the_table_of_contents_alone() {
    let cancel = CancellationToken::new();
    let toc = first_toc(toy("cat \"$A\"; sleep 617"), cancel.clone()).await.unwrap();
    assert_eq!(toc.encoding().as_deref(), Some("UTF8"));
    assert!(toc.entries.iter().any(|entry| entry.desc == "TABLE" && entry.tag.lossy() == "customer"));
    assert!(ends("sleep 617").await);
    let error =
        first_toc(toy("echo 'pg_dump: error: no matching tables were found' >&2; exit 1"), cancel).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Settings);
    let cancelled = CancellationToken::new();
    cancelled.cancel();
    assert!(matches!(first_toc(toy("sleep 618"), cancelled).await.unwrap_err(), Error::Interrupted));
    assert!(ends("sleep 618").await);
}
