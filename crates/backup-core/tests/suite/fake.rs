//! An engine that dumps archives made by hand, and stores that fail when told.

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::stream::BoxStream;
use pgkeep_archive::{Block, BlockWriter, Decoder, InnerCompression, SyntheticArchive, Toc, synthetic_entry};
use pgkeep_dump::{
    Dump, DumpOutcome, DumpStream, Error, PrivateFacts, Result, ServerFacts, SourceIdentity, StreamSegment,
};
use pgkeep_storage::{
    ByteStream, Created, Key, Location, ObjectInfo, ObjectStorage, ObjectWriter, Result as StoreResult, Storage,
    WriteOptions,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// How a dump goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    None,
    /// After so many blocks the stream ends, and the engine says that it failed.
    Fails(usize),
    /// After so many blocks the stream ends, and the engine says that all is well.
    Lies(usize),
    /// After so many blocks nothing more comes.
    Hangs(usize),
    /// The block with this number is left out.
    Skips(usize),
}

/// An engine with a ready-made archive.
#[derive(Debug)]
pub(crate) struct FakeDump {
    pub(crate) archive: Vec<u8>,
    pub(crate) block_bytes: usize,
    pub(crate) flaw: Flaw,
    pub(crate) globals: Option<Bytes>,
    pub(crate) warnings: Vec<String>,
    /// Bytes of blocks that somebody still holds, and the most there ever were.
    pub(crate) held: Arc<Held>,
    /// Dumps that were started and have not ended.
    pub(crate) running: Arc<AtomicUsize>,
}

#[derive(Debug, Default)]
pub(crate) struct Held {
    pub(crate) now: AtomicUsize,
    pub(crate) peak: AtomicUsize,
}

struct Counted(Bytes, Arc<Held>);

impl Counted {
    fn count(bytes: Bytes, held: &Arc<Held>) -> Bytes {
        let now = held.now.fetch_add(bytes.len(), Ordering::SeqCst) + bytes.len();
        held.peak.fetch_max(now, Ordering::SeqCst);
        Bytes::from_owner(Self(bytes, Arc::clone(held)))
    }
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.1.now.fetch_sub(self.0.len(), Ordering::SeqCst);
    }
}

/// Rows of a table: `id TAB text LF`.
pub(crate) fn rows(from: u64, count: u64, width: usize) -> Vec<Vec<u8>> {
    let text = |id: u64| (0..width).map(move |at| b'a' + ((id * 31 + at as u64 * 7 + id * at as u64) % 26) as u8);
    (from..from + count)
        .map(|id| format!("{id}\t").into_bytes().into_iter().chain(text(id)).chain(*b"\n").collect())
        .collect()
}

/// An archive with small tables, an empty one, a big one, one with a long row, large objects and sequences.
pub(crate) fn sample() -> SyntheticArchive {
    let mut archive = SyntheticArchive::new(16, InnerCompression::None);
    let mut encoding = synthetic_entry(1, "ENCODING", "ENCODING");
    encoding.definition = "SET client_encoding = 'UTF8';\n".into();
    archive.entry(encoding);
    let mut sequence = synthetic_entry(2, "SEQUENCE SET", "orders_id_seq");
    sequence.definition = "SELECT pg_catalog.setval('public.orders_id_seq', 42, true);\n".into();
    archive.entry(synthetic_entry(3, "TABLE", "orders"));
    table(&mut archive, 10, "small", &rows(0, 10, 20));
    table(&mut archive, 11, "nothing", &[]);
    table(&mut archive, 12, "orders", &rows(0, 4000, 100));
    table(&mut archive, 13, "wide", &[rows(0, 3, 10), rows(3, 1, 100_000), rows(4, 3, 10)].concat());
    archive.large_objects(14, &[(7, &b"seven"[..]), (3_000_000_001, b""), (9, &vec![9; 50_000])]);
    table(&mut archive, 15, "last", &rows(0, 100, 30));
    archive.entry(sequence);
    archive
}

pub(crate) fn table(archive: &mut SyntheticArchive, dump_id: i32, name: &str, rows: &[Vec<u8>]) {
    let rows: Vec<&[u8]> = rows.iter().map(Vec::as_slice).collect();
    archive.table(dump_id, name, "id, text", &rows);
}

impl FakeDump {
    pub(crate) fn new(archive: &SyntheticArchive) -> Self {
        let facts = "-- pgkeep-facts: {\"database_settings\":[[\"app.secret\",\"sekrit\"]],\"role_settings\":[],\"grants\":null,\"labels\":[]}\n";
        Self {
            archive: archive.bytes(),
            block_bytes: 16 << 10,
            flaw: Flaw::None,
            globals: Some(Bytes::from(format!("{facts}CREATE ROLE app;\n"))),
            warnings: Vec::new(),
            held: Arc::default(),
            running: Arc::default(),
        }
    }

    /// The blocks of its archive.
    pub(crate) fn blocks(&self) -> (Arc<Toc>, Vec<Block>) {
        let (mut decoder, mut writer) = (Decoder::new(), BlockWriter::new(self.block_bytes));
        let mut blocks = Vec::new();
        decoder.push(&self.archive);
        while let Some(event) = decoder.next_event().expect("a sound archive") {
            writer.event(&event).expect("in order");
            blocks.extend(std::iter::from_fn(|| writer.take()));
        }
        decoder.finish().expect("whole");
        writer.finish().expect("whole");
        blocks.extend(std::iter::from_fn(|| writer.take()));
        (Arc::clone(decoder.toc().expect("a TOC")), blocks)
    }
}

pub(crate) fn facts() -> ServerFacts {
    ServerFacts {
        identity: SourceIdentity {
            system_identifier: Some("7".into()),
            database: "shop".into(),
            server: "db.example:5432".into(),
        },
        version_num: 170_011,
        version: "17.11".into(),
        size_bytes: 1 << 20,
        encoding: "UTF8".into(),
        locale_provider: "libc".into(),
        collate: "C".into(),
        ctype: "C".into(),
        locale: None,
        icu_rules: None,
        owner: "app".into(),
        tablespace: "pg_default".into(),
        comment: None,
        connection_limit: -1,
        standby: false,
        lc_monetary: "C".into(),
        extensions: vec![("plpgsql".into(), "1.0".into())],
        wal_position: Some("0/16B3748".into()),
        server_time: time(),
        private: PrivateFacts::default(),
        warnings: Vec::new(),
    }
}

pub(crate) fn time() -> DateTime<Utc> {
    DateTime::from_timestamp(1_760_670_001, 0).expect("in range")
}

/// Begins the next stretch of blocks.
async fn segment(segments: &mpsc::Sender<StreamSegment>) -> Result<mpsc::Sender<Result<Block>>> {
    let (sender, blocks) = mpsc::channel(2);
    segments.send(StreamSegment { blocks }).await.map_err(|_| Error::Interrupted)?;
    Ok(sender)
}

#[async_trait]
impl Dump for FakeDump {
    fn name(&self) -> &'static str {
        "fake"
    }

    async fn facts(&self) -> Result<ServerFacts> {
        Ok(facts())
    }

    async fn start(&self, cancel: CancellationToken) -> Result<DumpStream> {
        let (toc, blocks) = self.blocks();
        let (segment_sender, segments) = mpsc::channel(1);
        let (held, flaw, running) = (Arc::clone(&self.held), self.flaw, Arc::clone(&self.running));
        let warnings = self.warnings.clone();
        running.fetch_add(1, Ordering::SeqCst);
        let outcome = tokio::spawn(async move {
            let work = async {
                let mut sender = segment(&segment_sender).await?;
                for (number, block) in blocks.into_iter().enumerate() {
                    match flaw {
                        Flaw::Fails(at) if number == at => {
                            return Err(Error::Timeout {
                                what: "the dump".into(),
                                after: std::time::Duration::from_secs(1),
                            });
                        }
                        Flaw::Lies(at) if number == at => break,
                        Flaw::Hangs(at) if number == at => std::future::pending::<()>().await,
                        Flaw::Skips(at) if number == at => continue,
                        _ => {}
                    }
                    // Several segments, some of them empty.
                    if number % 7 == 3 {
                        drop(sender);
                        segment(&segment_sender).await?;
                        sender = segment(&segment_sender).await?;
                    }
                    let block = Block { bytes: Counted::count(block.bytes, &held), ..block };
                    sender.send(Ok(block)).await.map_err(|_| Error::Interrupted)?;
                }
                Ok(DumpOutcome {
                    pg_dump_version: "pg_dump (PostgreSQL) 17.11".into(),
                    snapshot_time: time(),
                    warnings,
                })
            };
            let outcome = tokio::select! {
                () = cancel.cancelled() => Err(Error::Interrupted),
                outcome = work => outcome,
            };
            running.fetch_sub(1, Ordering::SeqCst);
            outcome
        });
        let (_, notes) = mpsc::unbounded_channel();
        Ok(DumpStream { toc, engine: self.name(), segments, notes, outcome })
    }

    async fn globals(&self, _cancel: CancellationToken) -> Result<Bytes> {
        self.globals.clone().ok_or(Error::Interrupted)
    }
}

/// What a [`FlakyStorage`] does not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refuses {
    Nothing,
    /// Beginning an archive.
    Open,
    /// Archive bytes past this many.
    WriteAfter(usize),
    /// Completing an archive.
    Finish,
    /// Asking for an archive after it was written.
    Head,
    /// Creating a meta.
    CreateMeta,
    /// Answering that it created a meta; it did.
    AnswerCreateMeta,
    /// Anything at all.
    Everything,
    /// Reading an archive: it lies in an archive tier.
    Thawing,
    /// Taking an archive's bytes: it waits for ever.
    Stalls,
}

/// Memory that fails when told, and counts writers.
pub(crate) struct FlakyStorage {
    memory: ObjectStorage,
    location: Location,
    pub(crate) refuses: Mutex<Refuses>,
    /// Writers that are neither finished nor aborted nor dropped.
    pub(crate) open: Arc<AtomicUsize>,
    /// Space that is said to be free.
    pub(crate) free: Mutex<Option<u64>>,
    /// What was read of archives.
    pub(crate) ranges: Mutex<Vec<Option<Range<u64>>>>,
}

impl FlakyStorage {
    pub(crate) fn new(name: &str) -> Arc<Self> {
        Arc::new(Self {
            memory: ObjectStorage::memory(),
            location: Location::new(format!("memory://{name}")),
            refuses: Mutex::new(Refuses::Nothing),
            open: Arc::default(),
            free: Mutex::new(None),
            ranges: Mutex::default(),
        })
    }

    pub(crate) fn refuse(&self, refuses: Refuses) {
        *self.refuses.lock().unwrap() = refuses;
    }

    fn refuses(&self, what: &[Refuses]) -> StoreResult<()> {
        let refuses = *self.refuses.lock().unwrap();
        if refuses == Refuses::Everything || what.contains(&refuses) { Err(self.error()) } else { Ok(()) }
    }

    fn error(&self) -> pgkeep_storage::Error {
        pgkeep_storage::Error::Unreachable {
            doing: "do as told".into(),
            location: self.location.clone(),
            source: Box::new(pgkeep_storage::Cause::new("flaky")),
        }
    }
}

impl fmt::Debug for FlakyStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FlakyStorage")
    }
}

fn is_archive(key: &Key) -> bool {
    key.as_str().contains(".dump") && !key.as_str().ends_with(".meta") && !key.as_str().ends_with(".json")
}

#[async_trait]
impl Storage for FlakyStorage {
    fn location(&self) -> &Location {
        &self.location
    }
    async fn write(&self, key: &Key, options: &WriteOptions) -> StoreResult<Box<dyn ObjectWriter>> {
        if is_archive(key) {
            self.refuses(&[Refuses::Open])?;
        }
        self.refuses(&[])?;
        let inner = self.memory.write(key, options).await?;
        let refuses = if is_archive(key) { *self.refuses.lock().unwrap() } else { Refuses::Nothing };
        self.open.fetch_add(1, Ordering::SeqCst);
        let open = Open(Arc::clone(&self.open));
        Ok(Box::new(FlakyWriter {
            inner,
            refuses,
            error: Arc::new(Mutex::new(Some(self.error()))),
            written: 0,
            _open: open,
        }))
    }
    async fn create(&self, key: &Key, bytes: Bytes) -> StoreResult<Created> {
        if key.as_str().ends_with(".meta") {
            self.refuses(&[Refuses::CreateMeta])?;
            let created = self.memory.create(key, bytes).await?;
            self.refuses(&[Refuses::AnswerCreateMeta])?;
            return Ok(created);
        }
        self.refuses(&[])?;
        self.memory.create(key, bytes).await
    }
    async fn read(&self, key: &Key, range: Option<Range<u64>>) -> StoreResult<ByteStream> {
        self.refuses(&[])?;
        if is_archive(key) && *self.refuses.lock().unwrap() == Refuses::Thawing {
            let (key, location) = (key.to_string(), self.location.clone());
            let source = Box::new(pgkeep_storage::Cause::new("InvalidObjectState"));
            return Err(pgkeep_storage::Error::Archived { key, location, source });
        }
        if is_archive(key) {
            self.ranges.lock().unwrap().push(range.clone());
        }
        self.memory.read(key, range).await
    }
    async fn head(&self, key: &Key) -> StoreResult<ObjectInfo> {
        self.refuses(&[])?;
        let mut info = self.memory.head(key).await?;
        if is_archive(key) {
            self.refuses(&[Refuses::Head])?;
            let thawing = *self.refuses.lock().unwrap() == Refuses::Thawing;
            info.storage_class = thawing.then(|| "GLACIER".to_owned());
        }
        Ok(info)
    }
    fn list(&self, prefix: &Key) -> BoxStream<'static, StoreResult<ObjectInfo>> {
        match self.refuses(&[]) {
            Ok(()) => self.memory.list(prefix),
            Err(error) => Box::pin(futures::stream::once(std::future::ready(Err(error)))),
        }
    }
    async fn delete(&self, key: &Key) -> StoreResult<()> {
        self.refuses(&[])?;
        self.memory.delete(key).await
    }
    async fn free_bytes(&self) -> StoreResult<Option<u64>> {
        Ok(*self.free.lock().unwrap())
    }
}

#[derive(Debug)]
struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[derive(Debug)]
struct FlakyWriter {
    inner: Box<dyn ObjectWriter>,
    refuses: Refuses,
    error: Arc<Mutex<Option<pgkeep_storage::Error>>>,
    written: usize,
    _open: Open,
}

impl FlakyWriter {
    fn error(&self) -> pgkeep_storage::Error {
        self.error.lock().unwrap().take().expect("asked once")
    }
}

#[async_trait]
impl ObjectWriter for FlakyWriter {
    async fn write(&mut self, chunk: Bytes) -> StoreResult<()> {
        self.written += chunk.len();
        match self.refuses {
            Refuses::WriteAfter(limit) if self.written > limit => Err(self.error()),
            Refuses::Stalls => std::future::pending().await,
            _ => self.inner.write(chunk).await,
        }
    }
    async fn finish(self: Box<Self>) -> StoreResult<ObjectInfo> {
        if self.refuses == Refuses::Finish {
            return Err(self.error());
        }
        self.inner.finish().await
    }
    async fn abort(self: Box<Self>) -> StoreResult<()> {
        self.inner.abort().await
    }
}
