//! An engine, what it writes, and what `pg_dump` says to that.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pgkeep_dump::{
    ClientTools, ConnectSettings, Dump, DumpOptions, DumpOutcome, DumpStream, Error, ParallelEngine, Selection,
    pg_restore_text,
};
use pgkeep_testkit::{MAJORS, PostgresServer, ScratchDatabase, client_tools};
use tempfile::{NamedTempFile, TempDir};
use tokio_util::sync::CancellationToken;

/// Ranges of a few pages, so that small tables are divided too.
pub(crate) const SMALL_RANGES: usize = 40_000;

pub(crate) fn settings(url: &str) -> ConnectSettings {
    ConnectSettings::parse(url, &BTreeMap::new(), None).expect("the test server's URL is good")
}

pub(crate) async fn installed() -> Vec<ClientTools> {
    ClientTools::in_folders(&MAJORS.map(client_tools)).await
}

pub(crate) async fn engine(url: &str, jobs: usize, arguments: &[&str]) -> ParallelEngine {
    let selection = Selection::parse(arguments).expect("the test's options are good").0;
    let options = DumpOptions { selection, lock_wait: Duration::from_secs(5), block_bytes: 20_000 };
    ParallelEngine::new(settings(url), installed().await, options, jobs).with_range_bytes(SMALL_RANGES)
}

pub(crate) async fn start(engine: &ParallelEngine) -> Result<DumpStream, Error> {
    engine.start(CancellationToken::new()).await
}

/// More often than anything is begun.
pub(crate) const EVERY_TIME: usize = 100;

/// An engine whose `pg_dump` comes late: `sql` is run before each of its first `times` runs, when the snapshot is taken and no
/// table is locked. Keep the folder as long as the engine.
pub(crate) async fn late_engine(
    database: &ScratchDatabase<'_>,
    url: &str,
    times: usize,
    sql: &str,
) -> (ParallelEngine, TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let major = database.server().major();
    for tool in ["pg_dump", "pg_dumpall", "pg_restore"] {
        let real = client_tools(major).join(tool);
        let psql = client_tools(major).join("psql");
        let before = format!(
            "case \" $* \" in *' --snapshot='*) echo >>'{folder}/runs'\n\
             if [ $(wc -l <'{folder}/runs') -le {times} ]; then '{psql}' -XAtq -v ON_ERROR_STOP=1 -f '{folder}/before.sql' '{url}' >&2 || exit 99; fi;; esac\n",
            folder = folder.path().display(),
            psql = psql.display(),
            url = database.url(),
        );
        let script = folder.path().join(tool);
        std::fs::write(&script, format!("#!/bin/sh\n{before}exec '{}' \"$@\"\n", real.display())).expect("a script");
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("a script that runs");
    }
    std::fs::write(folder.path().join("before.sql"), sql).expect("a script");
    let options =
        DumpOptions { selection: Selection::default(), lock_wait: Duration::from_secs(5), block_bytes: 20_000 };
    let installed = ClientTools::in_folders(&[folder.path().to_owned()]).await;
    let engine = ParallelEngine::new(settings(url), installed, options, 2).with_range_bytes(SMALL_RANGES);
    (engine, folder)
}

/// Tells a thread to end, also when a test fails.
pub(crate) struct Ends<'f>(pub(crate) &'f AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// Everything a stream yields, its notes, and the engine's word on it.
pub(crate) struct Dumped {
    pub(crate) bytes: Vec<u8>,
    pub(crate) segments: usize,
    pub(crate) notes: Vec<String>,
    pub(crate) outcome: DumpOutcome,
}

pub(crate) async fn drain(mut stream: DumpStream) -> Result<Dumped, Error> {
    let (mut bytes, mut segments, mut notes) = (Vec::new(), 0, Vec::new());
    while let Some(mut segment) = stream.segments.recv().await {
        segments += 1;
        let mut first = true;
        while let Some(block) = segment.blocks.recv().await {
            let block = block?;
            // What is read alone later begins at a row.
            assert!(!first || block.segments.is_empty() || block.row_aligned(), "a stretch begins inside a row");
            first = false;
            bytes.extend_from_slice(&block.bytes);
        }
    }
    while let Some(note) = stream.notes.recv().await {
        notes.push(note);
    }
    Ok(Dumped { bytes, segments, notes, outcome: stream.finish().await? })
}

/// The SQL an archive stands for.
pub(crate) async fn text_of(major: u16, archive: &Path) -> String {
    let installed = installed().await;
    let tools = ClientTools::choose(&installed, major.into()).expect("they are installed");
    let arguments = [Path::new("--file=-"), Path::new("--restrict-key=testkit"), archive];
    let text = pg_restore_text(tools, arguments, CancellationToken::new()).await.expect("the archive is readable");
    String::from_utf8_lossy(&text).into_owned()
}

pub(crate) async fn text(major: u16, dumped: &Dumped) -> String {
    let file = NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), &dumped.bytes).expect("room for it");
    text_of(major, file.path()).await
}

/// What pg_dump writes on the snapshot that a session of ours has exported; no other session may export one.
pub(crate) async fn stock_text(server: &PostgresServer, database: &str) -> String {
    let snapshot = server.psql("postgres", "SELECT name FROM pg_ls_dir('pg_snapshots') AS name");
    assert_eq!(snapshot.lines().count(), 1, "{snapshot}");
    let canonical = "PGOPTIONS=-c TimeZone=UTC -c bytea_output=hex -c quote_all_identifiers=off -c statement_timeout=0";
    let snapshot = format!("--snapshot={snapshot}");
    let output = server.exec(&["env", canonical, "pg_dump", "-U", "postgres", "-Fc", "-Z0", &snapshot, database]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let file = NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), &output.stdout).expect("room for it");
    text_of(server.major(), file.path()).await
}

pub(crate) fn assert_same(ours: &str, theirs: &str) {
    if ours == theirs {
        return;
    }
    let difference = ours.lines().zip(theirs.lines()).find(|(ours, theirs)| ours != theirs);
    panic!("{} and {} bytes; {difference:.300?}", ours.len(), theirs.len());
}

/// Sessions on a database beside those of psql.
pub(crate) fn sessions(server: &PostgresServer, database: &str) -> usize {
    let sql = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = '{database}' AND backend_type = 'client backend'"
    );
    server.psql("postgres", &sql).parse().expect("a number")
}

pub(crate) async fn no_session_is_left(server: &PostgresServer, database: &str) {
    for _ in 0..200 {
        if sessions(server, database) == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("a session is left");
}
