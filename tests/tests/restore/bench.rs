//! What every test here needs: a repository on disk, backups into it, restores out of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pgkeep_compress::Compression;
use pgkeep_core::{BackupClass, BackupOptions, BackupSource, Catalog, Destination, Keeper, Layout, Pick, SystemClock};
use pgkeep_dump::{ClientTools, ConnectSettings, Dump, DumpOptions, ParallelEngine, PgDumpEngine, Selection};
use pgkeep_metrics::{Event, Observer};
use pgkeep_restore::{RestoreReport, RestoreRequest, Restorer, Target};
use pgkeep_storage::{DiskStorage, Key, Storage};
use pgkeep_testkit::{MAJORS, PostgresServer, client_tools};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// Hears everything, for tests that ask what was told.
#[derive(Debug, Default)]
pub(crate) struct Ear(Mutex<Vec<Event>>);

impl Observer for Ear {
    fn notice(&self, event: &Event) {
        self.0.lock().unwrap().push(event.clone());
    }
}

impl Ear {
    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().iter().map(|event| format!("{event:?}")).collect()
    }
}

/// Small enough that tables of a few thousand rows are in several ranges.
const RANGE_BYTES: usize = 256 << 10;

/// No pipe holds so much.
pub(crate) const PIPE_BYTES: u64 = 1 << 20;

/// What makes the archives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Engine {
    Parallel,
    PgDump,
}

/// For tests that look at what both engines write.
pub(crate) const ENGINES: [Engine; 2] = [Engine::Parallel, Engine::PgDump];

/// A repository on disk.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) folder: TempDir,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) tools: Vec<ClientTools>,
    pub(crate) ear: Arc<Ear>,
    pub(crate) cancel: CancellationToken,
}

pub(crate) fn settings(url: &str) -> ConnectSettings {
    ConnectSettings::parse(url, &BTreeMap::new(), None).expect("the test server's URL is good")
}

impl Bench {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let repository = folder.path().join("repository");
        std::fs::create_dir(&repository).unwrap();
        let storage: Arc<dyn Storage> = Arc::new(DiskStorage::open(&repository).unwrap());
        let tools = ClientTools::in_folders(&MAJORS.map(client_tools)).await;
        Self { folder, storage, tools, ear: Arc::default(), cancel: CancellationToken::new() }
    }

    pub(crate) fn keeper(&self) -> Keeper {
        Keeper {
            destinations: vec![Destination {
                name: "local".into(),
                storage: Arc::clone(&self.storage),
                layout: Layout::Flat,
                required: true,
                storage_classes: BTreeMap::new(),
                rank: 0,
            }],
            clock: Arc::new(SystemClock),
            observer: Arc::clone(&self.ear) as Arc<dyn Observer>,
            cancel: CancellationToken::new(),
            host: "test".into(),
            tool_version: "pgkeep test".into(),
            identities: pgkeep_core::Identities::default(),
        }
    }

    /// Backs a database up by the parallel engine and opens the backup.
    pub(crate) async fn backup(&self, url: &str) -> BackupSource {
        self.backup_by(Engine::Parallel, url, &[]).await
    }

    /// Backs a database up with these options of `pg_dump` and opens the backup.
    pub(crate) async fn backup_by(&self, engine: Engine, url: &str, arguments: &[&str]) -> BackupSource {
        let selection = Selection::parse(arguments).expect("the test's options are good").0;
        let options = DumpOptions { selection, lock_wait: Duration::from_secs(5), block_bytes: 1 << 20 };
        let (settings, tools) = (settings(url), self.tools.clone());
        let (dump, name): (Box<dyn Dump>, _) = match engine {
            Engine::Parallel => {
                let engine = ParallelEngine::new(settings, tools, options, 2).with_range_bytes(RANGE_BYTES);
                (Box::new(engine), "parallel")
            }
            Engine::PgDump => (Box::new(PgDumpEngine::new(settings, tools, options)), "pg_dump"),
        };
        let keeper = self.keeper();
        let codec = "zstd:1".parse::<Compression>().unwrap().codec();
        let options = BackupOptions { take_over: true, ..BackupOptions::new(BackupClass::Daily, codec) };
        let report = keeper.backup(&*dump, &options).await.expect("the backup is made");
        // What fits into a pipe pg_dump has written before anybody else can begin.
        if engine == Engine::PgDump || report.meta.plain.bytes > PIPE_BYTES {
            assert_eq!(report.meta.engine, name, "{:?}", self.ear.lines());
        }
        let catalog = Catalog::load(&keeper).await.unwrap();
        let entry = catalog.pick(&Pick::Name(report.meta.id.to_string())).unwrap();
        BackupSource::nearest(&keeper, entry).unwrap()
    }

    /// An archive that somebody else made.
    pub(crate) fn foreign(&self, name: &str, bytes: &[u8]) -> BackupSource {
        std::fs::write(self.folder.path().join("repository").join(name), bytes).unwrap();
        BackupSource::foreign(Arc::clone(&self.storage), Key::new(name).unwrap())
    }

    pub(crate) fn restorer(&self, url: &str) -> Restorer {
        Restorer {
            settings: settings(url),
            tools: self.tools.clone(),
            observer: Arc::clone(&self.ear) as Arc<dyn Observer>,
            cancel: self.cancel.clone(),
            clock: Arc::new(SystemClock),
            work: self.folder.path().join("work"),
            journal: Some(Arc::clone(&self.storage)),
        }
    }

    /// Plans and executes, without a snapshot.
    pub(crate) async fn restore(&self, url: &str, request: &RestoreRequest) -> pgkeep_restore::Result<RestoreReport> {
        let restorer = self.restorer(url);
        let plan = restorer.plan(request).await?;
        restorer.execute(&plan, None).await
    }
}

/// A request without snapshot.
pub(crate) fn request(source: &BackupSource, target: Target) -> RestoreRequest {
    RestoreRequest { skip_snapshot: true, ..RestoreRequest::new(source.clone(), target) }
}

/// A request for another database.
pub(crate) fn beside(source: &BackupSource, name: &str) -> RestoreRequest {
    request(source, Target::Database { name: name.to_owned(), replace: false })
}

/// A database of this name that is dropped in the end, whatever happened.
#[derive(Debug)]
pub(crate) struct Doomed<'s> {
    server: &'s PostgresServer,
    pub(crate) name: String,
}

impl<'s> Doomed<'s> {
    pub(crate) fn new(server: &'s PostgresServer, label: &str) -> Self {
        Self { server, name: pgkeep_testkit::unique(label) }
    }
}

impl Drop for Doomed<'_> {
    fn drop(&mut self) {
        let _ = self.server.try_psql("postgres", &format!("DROP DATABASE IF EXISTS \"{}\" WITH (FORCE)", self.name));
    }
}

/// Two long texts are the same; if not, where they begin to differ.
pub(crate) fn assert_same(left: &str, right: &str) {
    if left == right {
        return;
    }
    let mut before = Vec::new();
    for (left, right) in left.lines().zip(right.lines()) {
        assert!(
            left == right,
            "after\n{}\nthere is\n{left:.300}\nand\n{right:.300}",
            before[before.len().saturating_sub(12_usize)..].join("\n")
        );
        before.push(left);
    }
    panic!("{} and {} lines", left.lines().count(), right.lines().count());
}
