//! Making backups.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pgkeep_compress::Codec;
use pgkeep_core::{BackupOptions, Error, ErrorKind, FingerprintKey, Keeper, LargeObjectHasher, RowHasher, Tally};
use pgkeep_metrics::Event;
use pgkeep_storage::{Key, StorageExt};

use crate::fake::{FakeDump, Flaw, Refuses, rows, sample};
use crate::world::{World, bytes, keys, options, plain, table};

const ARCHIVE: &str = "daily_20251017_030001.dump.zst";
const GLOBALS: &str = "daily_20251017_030001.globals.sql.zst";

fn decoded(extension: &str, stored: &[u8]) -> Vec<u8> {
    let codec = pgkeep_compress::codec_for_extension(extension).unwrap();
    let mut plain = Vec::new();
    codec.reader(Box::new(stored)).unwrap().read_to_end(&mut plain).unwrap();
    plain
}

fn tally(key: &FingerprintKey, rows: &[Vec<u8>]) -> Tally {
    let mut hasher = RowHasher::new(*key);
    for row in rows {
        hasher.update(row);
    }
    hasher.finish().unwrap()
}

/// A run that failed leaves nothing: no object, no writer, no engine, no lock.
async fn assert_nothing_left(world: &World, engine: &FakeDump) {
    assert_eq!(keys(&world.bucket).await, Vec::<String>::new());
    assert_eq!(keys(&world.local).await, Vec::<String>::new());
    for _ in 0..100 {
        let open = [&world.bucket, &world.local].iter().map(|store| store.open.load(Ordering::SeqCst)).sum::<usize>();
        if (open, engine.running.load(Ordering::SeqCst)) == (0, 0) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("writers or engine are still there");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_the_archive_wherever_it_goes_and_its_meta_says_what_is_in_it() {
    for (compression, extension) in [("zstd:1", ".zst"), ("gzip:1", ".gz"), ("lz4", ".lz4"), ("none", "")] {
        let (world, engine) = (World::new(), FakeDump::new(&sample()));
        let report = world.keeper.backup(&engine, &options(compression)).await.unwrap();
        assert_eq!(report.warnings, Vec::<String>::new());
        assert!(report.destinations.iter().all(|destination| destination.stored && destination.error.is_none()));

        let archive = format!("daily_20251017_030001.dump{extension}");
        let stored = bytes(&world.local, &archive).await;
        assert_eq!(stored, bytes(&world.bucket, &format!("daily/{archive}")).await);
        let expected = plain(&engine);
        assert_eq!(decoded(extension, &stored), expected, "{compression}");

        let entry = world.only().await;
        assert_eq!(*entry.meta, *report.meta);
        assert_eq!(entry.copies.len(), 2);
        let meta = &entry.meta;
        assert_eq!((meta.stored.bytes, meta.plain.bytes), (stored.len() as u64, expected.len() as u64));
        assert!(meta.frames.len() > 20, "{}", meta.frames.len());
        assert_eq!(table(meta, "orders").rows, 4000);
        assert_eq!(table(meta, "nothing").rows, 0);
        assert_eq!(table(meta, "orders").columns, "id, text");
        let key = &meta.fingerprint_key;
        let orders = tally(key, &rows(0, 4000, 100));
        assert_eq!(
            (table(meta, "orders").bytes, &table(meta, "orders").fingerprint),
            (orders.bytes, &orders.fingerprint())
        );
        let wide = tally(key, &[rows(0, 3, 10), rows(3, 1, 100_000), rows(4, 3, 10)].concat());
        assert_eq!((table(meta, "wide").rows, &table(meta, "wide").fingerprint), (7, &wide.fingerprint()));

        let mut objects = Tally::default();
        for (oid, content) in [(7, &b"seven"[..]), (3_000_000_001, b""), (9, &vec![9; 50_000])] {
            let mut hasher = LargeObjectHasher::new(key, oid);
            hasher.update(content);
            objects += hasher.finish();
        }
        assert_eq!((meta.large_objects.count, &meta.large_objects.fingerprint), (3, &objects.fingerprint()));
        assert_eq!((meta.sequences[0].name.as_str(), meta.sequences[0].last_value), ("orders_id_seq", 42));
    }
}

/// zstd that takes its time, some blocks more than others.
#[derive(Debug)]
struct Uneven(Arc<dyn Codec>);

impl Codec for Uneven {
    fn label(&self) -> String {
        self.0.label()
    }
    fn extension(&self) -> &'static str {
        self.0.extension()
    }
    fn encode(&self, block: &[u8], frame: &mut Vec<u8>) -> pgkeep_compress::Result<()> {
        std::thread::sleep(Duration::from_millis(u64::from(block[block.len() / 2] % 8)));
        self.0.encode(block, frame)
    }
    fn decode(&self, frame: &[u8], block: &mut Vec<u8>, limit: usize) -> pgkeep_compress::Result<()> {
        self.0.decode(frame, block, limit)
    }
    fn reader<'r>(&self, stored: Box<dyn Read + Send + 'r>) -> pgkeep_compress::Result<Box<dyn Read + Send + 'r>> {
        self.0.reader(stored)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn order_is_kept_whichever_worker_is_first() {
    let (world, engine) = (World::new(), FakeDump::new(&sample()));
    let sound = options("zstd:1");
    let uneven = BackupOptions { jobs: 8, codec: Arc::new(Uneven(Arc::clone(&sound.codec))), ..sound };
    world.keeper.backup(&engine, &uneven).await.unwrap();
    assert_eq!(decoded(".zst", &bytes(&world.local, ARCHIVE).await), plain(&engine));
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_go_into_the_globals_only() {
    let (world, engine) = (World::new(), FakeDump::new(&sample()));
    world.backup(&engine).await.unwrap();
    let globals = decoded(".zst", &bytes(&world.local, GLOBALS).await);
    assert_eq!(globals, engine.globals.clone().unwrap());
    let meta = bytes(&world.local, &format!("{ARCHIVE}.meta")).await;
    assert!(!String::from_utf8(meta).unwrap().contains("sekrit"));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_truncated_is_ever_visible() {
    let last = FakeDump::new(&sample()).blocks().1.len();
    for flaw in [
        Flaw::Fails(0),
        Flaw::Fails(5),
        Flaw::Fails(last - 1),
        Flaw::Lies(0),
        Flaw::Lies(5),
        Flaw::Lies(last - 1),
        Flaw::Skips(0),
        Flaw::Skips(16),
        Flaw::Skips(17),
    ] {
        let world = World::new();
        let engine = FakeDump { flaw, ..FakeDump::new(&sample()) };
        let error = world.backup(&engine).await.unwrap_err();
        let expected = if matches!(flaw, Flaw::Fails(_)) { ErrorKind::Database } else { ErrorKind::Damaged };
        assert_eq!(error.kind(), expected, "{flaw:?}: {error}");
        assert_nothing_left(&world, &engine).await;
        // The lock is free again.
        world.backup(&FakeDump::new(&sample())).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_is_bounded_whatever_is_slow() {
    let mut archive = sample();
    crate::fake::table(&mut archive, 99, "big", &rows(0, 60_000, 200));
    let engine = FakeDump::new(&archive);
    let world = World::new();
    world.backup(&engine).await.unwrap();
    let (peak, bound) = (engine.held.peak.load(Ordering::SeqCst), 16 * (engine.block_bytes + (16 << 10)));
    assert!(peak < bound, "{peak} bytes were held, {bound} are allowed");
    assert_eq!(engine.held.now.load(Ordering::SeqCst), 0);
    assert!(plain(&engine).len() > 10 * bound);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_optional_destination_that_fails_is_a_warning() {
    for refuses in [
        Refuses::Open,
        Refuses::WriteAfter(10_000),
        Refuses::Finish,
        Refuses::Head,
        Refuses::CreateMeta,
        Refuses::Everything,
    ] {
        let (world, engine) = (World::new(), FakeDump::new(&sample()));
        world.local.refuse(refuses);
        let report = world.backup(&engine).await.unwrap_or_else(|error| panic!("{refuses:?}: {error}"));
        assert!(
            report.warnings.iter().any(|warning| warning.starts_with("no copy at local")),
            "{refuses:?} {:?}",
            report.warnings
        );
        let local = report.destinations.iter().find(|destination| destination.name == "local").unwrap();
        assert!(!local.stored && local.error.is_some());
        world.local.refuse(Refuses::Nothing);
        assert_eq!(keys(&world.bucket).await.len(), 3, "{refuses:?}");
        assert!(!keys(&world.local).await.iter().any(|key| key.ends_with(".meta")), "{refuses:?}");
        assert_eq!(world.only().await.copies.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_required_destination_that_fails_is_an_error_that_names_the_other_copy() {
    for refuses in [
        Refuses::Open,
        Refuses::WriteAfter(10_000),
        Refuses::Finish,
        Refuses::Head,
        Refuses::CreateMeta,
        Refuses::Everything,
    ] {
        let (world, engine) = (World::new(), FakeDump::new(&sample()));
        world.bucket.refuse(refuses);
        let error = world.backup(&engine).await.unwrap_err();
        match &error {
            Error::Destination { destination, copies, .. } => {
                assert_eq!((destination.as_str(), copies), ("bucket", &vec!["local".to_owned()]));
            }
            other => panic!("{refuses:?}: {other}"),
        }
        assert_eq!(error.kind(), ErrorKind::Store);
        world.bucket.refuse(Refuses::Nothing);
        assert_eq!(keys(&world.local).await.len(), 3, "{refuses:?}");
        assert_eq!(world.only().await.copies.len(), 1);
        // The next run makes the copy good, then its own backup under the next name.
        let report = world.backup(&engine).await.unwrap();
        assert_eq!(report.replicated.copied.len(), 1, "{refuses:?}");
        assert_eq!(report.meta.id.as_str(), "daily_20251017_030001_2");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_meta_whose_creation_was_not_answered_counts() {
    let (world, engine) = (World::new(), FakeDump::new(&sample()));
    world.bucket.refuse(Refuses::AnswerCreateMeta);
    let report = world.backup(&engine).await.unwrap();
    assert!(report.destinations.iter().all(|destination| destination.stored));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_run_ends_at_once_when_every_destination_has_failed() {
    let world = World::new();
    let engine = FakeDump { flaw: Flaw::Hangs(30), ..FakeDump::new(&sample()) };
    world.bucket.refuse(Refuses::WriteAfter(1000));
    world.local.refuse(Refuses::WriteAfter(1000));
    let error =
        tokio::time::timeout(Duration::from_secs(20), world.backup(&engine)).await.expect("not stuck").unwrap_err();
    assert!(matches!(&error, Error::Destination { copies, .. } if copies.is_empty()), "{error}");
    assert_nothing_left(&world, &engine).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_and_running_out_of_time_end_everything() {
    for (flaw, refuses) in
        [(Flaw::Hangs(0), Refuses::Nothing), (Flaw::Hangs(10), Refuses::Nothing), (Flaw::None, Refuses::Stalls)]
    {
        let mut world = World::new();
        let engine = FakeDump { flaw, ..FakeDump::new(&sample()) };
        world.bucket.refuse(refuses);
        let timed = BackupOptions { timeout: Some(Duration::from_millis(300)), ..options("zstd:1") };
        let error = world.keeper.backup(&engine, &timed).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{flaw:?} {error}");
        assert_nothing_left(&world, &engine).await;

        let cancel = world.keeper.cancel.clone();
        let soon = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(200)).await;
            cancel.cancel();
        });
        let error = world.backup(&engine).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Interrupted, "{flaw:?} {error}");
        soon.await.unwrap();
        assert_nothing_left(&world, &engine).await;

        world.keeper = Keeper { cancel: tokio_util::sync::CancellationToken::new(), ..world.keeper };
        world.bucket.refuse(Refuses::Nothing);
        world.backup(&FakeDump::new(&sample())).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_run_leaves_nothing_visible() {
    let world = World::new();
    let engine = FakeDump { flaw: Flaw::Hangs(10), ..FakeDump::new(&sample()) };
    let run = tokio::time::timeout(Duration::from_millis(300), world.backup(&engine));
    assert!(run.await.is_err());
    assert_nothing_left(&world, &engine).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_never_taken_twice() {
    let (world, engine) = (World::new(), FakeDump::new(&sample()));
    // Somebody's object without a meta, at one destination only.
    let orphan = Key::new("daily_20251017_030001_2.dump.zst").unwrap();
    world.local.put(&orphan, "precious".into()).await.unwrap();
    let ids = [
        world.backup(&engine).await.unwrap().meta.id.to_string(),
        world.backup(&engine).await.unwrap().meta.id.to_string(),
    ];
    assert_eq!(ids, ["daily_20251017_030001", "daily_20251017_030001_3"]);
    assert_eq!(bytes(&world.local, orphan.as_str()).await, b"precious");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_another_run_took_meanwhile_is_left_to_it() {
    let (world, engine) = (World::new(), FakeDump::new(&sample()));
    let meta = Key::new(format!("daily/{ARCHIVE}.meta")).unwrap();
    let other = async {
        while engine.running.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        world.bucket.put(&meta, "theirs".into()).await.unwrap();
    };
    let (outcome, ()) = tokio::join!(world.backup(&engine), other);
    let error = outcome.unwrap_err();
    assert!(
        matches!(&error, Error::Destination { source, .. } if matches!(**source, Error::NameTaken { .. })),
        "{error}"
    );
    assert_eq!(bytes(&world.bucket, meta.as_str()).await, b"theirs");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_local_copy_is_left_out_when_space_is_short() {
    let (world, engine) = (World::new(), FakeDump::new(&sample()));
    let first = world.backup(&engine).await.unwrap().meta;
    *world.local.free.lock().unwrap() = Some(first.stored.bytes);
    let report = world.backup(&engine).await.unwrap();
    assert!(report.warnings.iter().any(|warning| warning.contains("no copy goes to local")), "{:?}", report.warnings);
    let stored: Vec<_> = report
        .destinations
        .iter()
        .filter(|destination| destination.stored)
        .map(|destination| &destination.name)
        .collect();
    assert_eq!(stored, ["bucket"]);
    *world.local.free.lock().unwrap() = Some(first.stored.bytes * 2);
    assert!(world.backup(&engine).await.unwrap().warnings.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn globals_that_can_not_be_had_are_a_warning() {
    let world = World::new();
    let engine =
        FakeDump { globals: None, warnings: vec!["a warning of pg_dump".to_owned()], ..FakeDump::new(&sample()) };
    let report = world.backup(&engine).await.unwrap();
    assert!(report.meta.globals.is_none());
    assert_eq!(report.warnings.len(), 2, "{:?}", report.warnings);
    assert_eq!(report.meta.warnings, report.warnings);
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_reaches_its_end() {
    let (world, engine) = (World::new(), FakeDump::new(&sample()));
    let report = world.backup(&engine).await.unwrap();
    let heard = world.heard.0.lock().unwrap();
    let last = heard.iter().rev().find_map(|event| match event {
        Event::Progress { plain_bytes, total_bytes, items, total_items, .. } => {
            Some((*plain_bytes, *total_bytes, *items, *total_items))
        }
        _ => None,
    });
    let bytes = report.meta.plain.bytes;
    assert_eq!(last, Some((bytes, Some(bytes), 5, Some(5))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_writes_nothing() {
    let (world, engine) = (World::new(), FakeDump::new(&sample()));
    let plan = world.keeper.plan_backup(&engine, &options("gzip:9")).await.unwrap();
    assert_eq!((plan.id.as_str(), plan.file.as_str()), ("daily_20251017_030001", "daily_20251017_030001.dump.gz"));
    assert_eq!(plan.destinations.len(), 2);
    assert!(world.bucket.list_all(&Key::root()).await.unwrap().is_empty());
    assert_eq!(engine.running.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_visible_without_a_meta_is_marked_as_ours() {
    // Killed before the meta: here the store refuses it, and then everything.
    let (world, engine) = (World::new(), FakeDump::new(&sample()));
    world.backup(&engine).await.unwrap();
    let marks = async |world: &World| {
        let all = world.bucket.list_all(&Key::root()).await.unwrap();
        all.into_iter().filter(|object| object.key.as_str().contains("unpublished")).collect::<Vec<_>>()
    };
    assert!(marks(&world).await.is_empty(), "a backup that is whole has no mark");
    world.bucket.refuse(Refuses::CreateMeta);
    world.backup(&engine).await.unwrap_err();
    let left = marks(&world).await;
    assert_eq!(left.len(), 1);
    let mark: serde_json::Value = serde_json::from_slice(&bytes(&world.bucket, left[0].key.as_str()).await).unwrap();
    assert_eq!(mark["archive"], "daily/daily_20251017_030001_2.dump.zst");
    assert_eq!(mark["objects"].as_array().unwrap().len(), 2, "{mark}");
}
