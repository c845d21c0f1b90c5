//! Metas as databases of an ordinary size have them.

use chrono::{DateTime, TimeDelta, Utc};
use pgkeep_core::{
    BackupClass, BackupId, DatabaseMeta, EntryMeta, FORMAT_VERSION, FingerprintKey, FrameIndex, GlobalsMeta,
    LargeObjectsMeta, Meta, PlainDigest, SequenceMeta, StoredDigest,
};

const TABLES: u64 = 60;
const SEQUENCES: usize = 40;
/// Of 4 MiB each, a quarter of it stored: half a gigabyte of data.
const FRAMES: usize = 120;

/// One backup an hour, the tenth of them a snapshot before a restore.
pub(crate) fn begun(number: usize) -> (BackupClass, DateTime<Utc>) {
    let first = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
    let class = if number.is_multiple_of(10) { BackupClass::PreRestore } else { BackupClass::Daily };
    (class, first + TimeDelta::hours(number as i64))
}

/// What the digests and fingerprints of a number look like.
fn digits(number: u64, length: usize) -> String {
    let mut digits = String::with_capacity(length + 16);
    let mut state = number;
    while digits.len() < length {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        digits += &format!("{:016x}", mixed ^ (mixed >> 27));
    }
    digits.truncate(length);
    digits
}

/// The meta of a backup of some 60 tables.
pub(crate) fn meta(number: usize) -> Meta {
    let (class, begun) = begun(number);
    let id = BackupId::new(class, begun, 1);
    let seed = number as u64 * 1000;
    let text = |text: &str| text.to_owned();
    let stored = vec![1_048_576 - (number % 1000) as u64; FRAMES];
    let plain = vec![4_194_304 - (number % 1000) as u64; FRAMES];
    Meta {
        backup_file: format!("{id}.dump.zst"),
        backup_type: class,
        timestamp: BackupId::stamp(class, begun),
        date: begun,
        hostname: text("app-worker-1.internal.example.com"),
        database_url: text("***REDACTED***"),
        size: text("121M"),
        duration_seconds: 37,
        compression: text("zstd-3"),
        pg_dump_version: text("pg_dump (PostgreSQL) 17.6 (Debian 17.6-1.pgdg13+1)"),
        format_version: FORMAT_VERSION,
        id: id.clone(),
        source: text("production"),
        tool_version: text("pgkeep 0.1.0"),
        engine: text("parallel"),
        snapshot_time: begun,
        snapshot: None,
        wal_position: Some(format!("1F/{:08X}", number * 4096)),
        database: DatabaseMeta {
            name: text("production"),
            system_identifier: Some(text("7412345678901234567")),
            server: text("db.internal.example.com:5432"),
            server_version_num: 170_006,
            server_version: text("17.6 (Debian 17.6-1.pgdg13+1)"),
            size_bytes: 734_003_200,
            encoding: text("UTF8"),
            locale_provider: text("libc"),
            collate: text("en_US.UTF-8"),
            ctype: text("en_US.UTF-8"),
            locale: None,
            icu_rules: None,
            owner: text("app_owner"),
            tablespace: text("pg_default"),
            comment: None,
            connection_limit: -1,
            lc_monetary: text("en_US.UTF-8"),
        },
        selection: Vec::new(),
        lowest_pg_restore: 17,
        stored: StoredDigest { bytes: stored.iter().sum(), sha256: digits(seed, 64) },
        plain: PlainDigest { bytes: plain.iter().sum(), blake3: digits(seed + 1, 64) },
        globals: Some(GlobalsMeta {
            file: format!("{id}.globals.sql.zst"),
            stored: StoredDigest { bytes: 1_734, sha256: digits(seed + 2, 64) },
            plain: PlainDigest { bytes: 6_210, blake3: digits(seed + 3, 64) },
            role_passwords: false,
        }),
        encryption: None,
        archive_encoding: text("UTF8"),
        fingerprint_key: FingerprintKey([number as u8; 32]),
        schema_sha256: digits(7, 64),
        toc_entries: 431,
        toc_bytes: 98_211,
        entries: (0..TABLES).map(|table| entry(table, seed)).collect(),
        large_objects: LargeObjectsMeta::default(),
        sequences: (0..SEQUENCES)
            .map(|sequence| SequenceMeta {
                schema: text("public"),
                name: format!("customer_relation_{sequence}_id_seq"),
                last_value: 1_000_000 + number as i64,
                is_called: true,
            })
            .collect(),
        frames: FrameIndex {
            stored,
            plain,
            entry: (0..FRAMES as i32).map(|frame| 3_000 + frame / 2).collect(),
            aligned: vec![1; FRAMES],
        },
        extensions: vec![(text("pgcrypto"), text("1.3")), (text("pg_trgm"), text("1.6"))],
        warnings: Vec::new(),
    }
}

fn entry(table: u64, seed: u64) -> EntryMeta {
    EntryMeta {
        dump_id: 3_000 + table as i32,
        schema: "public".to_owned(),
        name: format!("customer_relation_{table}"),
        rows: 52_000 + table,
        bytes: 8_123_456 + table,
        fingerprint: digits(seed + 10 + table, 32),
        columns: "id, created_at, updated_at, customer_id, kind, status, amount, note".to_owned(),
        frame: table * 2,
        offset: 1_234,
        plain_bytes: 8_388_608,
    }
}
