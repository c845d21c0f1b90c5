//! What a large repository costs: `cargo bench -p pgkeep-benches --bench catalog`.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pgkeep_core::{
    BackupClass, BackupId, Catalog, ClassPolicy, DatabaseMeta, FORMAT_VERSION, FingerprintKey, FrameIndex, Keep,
    Keeper, LargeObjectsMeta, Layout, Meta, PlainDigest, RetentionPlan, StoredDigest,
};
use pgkeep_storage::{Key, ObjectStorage, Storage, StorageExt as _};
use tokio::runtime::Runtime;

const BACKUPS: usize = 10_000;
/// A small database's: four hundred frames of 4 MiB.
const FRAMES: usize = 400;
const ARCHIVE: &[u8] = b"archive";

/// One backup an hour; a week or a month has room for one of its class only.
fn begun(number: usize) -> (BackupClass, DateTime<Utc>) {
    let first = DateTime::from_timestamp(1_700_000_000, 0).expect("a time in range");
    (
        if number.is_multiple_of(10) { BackupClass::PreRestore } else { BackupClass::Daily },
        first + TimeDelta::hours(number as i64),
    )
}

fn meta(number: usize) -> Meta {
    let (class, begun) = begun(number);
    let id = BackupId::new(class, begun, 1);
    let text = |text: &str| text.to_owned();
    Meta {
        backup_file: format!("{id}.dump.zst"),
        backup_type: class,
        timestamp: BackupId::stamp(class, begun),
        date: begun,
        hostname: text("bench"),
        database_url: text("***REDACTED***"),
        size: text("1K"),
        duration_seconds: 1,
        compression: text("zstd-3"),
        pg_dump_version: text("pg_dump (PostgreSQL) 17.1"),
        format_version: FORMAT_VERSION,
        id,
        source: text("app"),
        tool_version: text("pgkeep bench"),
        engine: text("pg_dump"),
        snapshot_time: begun,
        wal_position: None,
        database: DatabaseMeta {
            name: text("app"),
            system_identifier: Some(text("1")),
            server: text("db:5432"),
            server_version_num: 170_001,
            server_version: text("17.1"),
            size_bytes: 1,
            encoding: text("UTF8"),
            locale_provider: text("libc"),
            collate: text("C"),
            ctype: text("C"),
            locale: None,
            icu_rules: None,
            owner: text("postgres"),
            tablespace: text("pg_default"),
            comment: None,
            connection_limit: -1,
            lc_monetary: text("C"),
        },
        selection: Vec::new(),
        lowest_pg_restore: 17,
        stored: StoredDigest { bytes: (FRAMES << 20) as u64, sha256: "0".repeat(64) },
        plain: PlainDigest { bytes: (FRAMES << 22) as u64, blake3: "0".repeat(64) },
        globals: None,
        encryption: None,
        archive_encoding: text("UTF8"),
        fingerprint_key: FingerprintKey([7; 32]),
        schema_sha256: "0".repeat(64),
        toc_entries: 0,
        toc_bytes: 0,
        entries: Vec::new(),
        large_objects: LargeObjectsMeta::default(),
        sequences: Vec::new(),
        frames: FrameIndex {
            stored: vec![1 << 20; FRAMES],
            plain: vec![1 << 22; FRAMES],
            entry: vec![0; FRAMES],
            aligned: vec![1; FRAMES],
        },
        extensions: Vec::new(),
        warnings: Vec::new(),
    }
}

/// A repository in memory. Its archives are shorter than their metas say, which costs no time and much less memory.
fn repository(runtime: &Runtime) -> Keeper {
    let keeper = Keeper::of(Arc::new(ObjectStorage::memory()), Layout::ByClass, "bench");
    let destination = &keeper.destinations[0];
    let storage: &dyn Storage = destination.storage.as_ref();
    runtime.block_on(async {
        for meta in (0..BACKUPS).map(meta) {
            let key = destination.key(&meta.id, &meta.backup_file).expect("a valid key");
            storage.put(&key, Bytes::from_static(ARCHIVE)).await.expect("stored");
            let json = Bytes::from(meta.to_json().expect("serialises"));
            storage.put(&Key::new(format!("{key}.meta")).expect("a valid key"), json).await.expect("stored");
        }
    });
    keeper
}

fn listing(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let keeper = repository(&runtime);
    let mut group = criterion.benchmark_group(format!("{BACKUPS} backups"));
    group.sample_size(10).throughput(Throughput::Elements(BACKUPS as u64));
    group.bench_function("list", |bencher| {
        bencher.iter(|| {
            let catalog = runtime.block_on(Catalog::load(&keeper)).expect("loaded");
            assert_eq!(catalog.entries.len(), BACKUPS);
            black_box(catalog)
        });
    });
    group.finish();
}

fn retention(criterion: &mut Criterion) {
    let backups: Vec<Keep> = (0..BACKUPS)
        .map(|number| {
            let (class, begun) = begun(number);
            let id = BackupId::new(class, begun, 1);
            Keep { id, class, begun, good: number % 50 != 0, proven: number % 7 == 0, whole: number % 30 != 0 }
        })
        .collect();
    let rule = ClassPolicy { days: Some(30), at_least: 7, at_most: Some(100) };
    let rules: BTreeMap<_, _> = BackupClass::ALL.map(|class| (class, rule)).into();
    let now = begun(BACKUPS).1;
    let mut group = criterion.benchmark_group(format!("{BACKUPS} backups"));
    group.sample_size(10).throughput(Throughput::Elements(BACKUPS as u64));
    group.bench_function("plan retention", |bencher| {
        bencher.iter(|| black_box(RetentionPlan::new(&backups, &rules, now)).removals().count());
    });
    group.finish();
}

criterion_group!(benches, listing, retention);
criterion_main!(benches);
