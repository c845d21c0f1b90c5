//! Stored backups without a server, for tests of what reads and removes them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use pgkeep_storage::{Key, ObjectStorage, Storage, StorageExt};
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use crate::{
    BackupClass, BackupId, Clock, DatabaseMeta, Destination, FingerprintKey, FrameIndex, Keeper, LargeObjectsMeta,
    Layout, Meta, PlainDigest, Policy, StoredDigest, retention::ClassPolicy,
};

/// A clock that stands where it was put.
#[derive(Debug)]
pub(crate) struct Stopped(pub(crate) Mutex<DateTime<Utc>>);

impl Clock for Stopped {
    fn now(&self) -> DateTime<Utc> {
        *self.0.lock().expect("no test panics holding it")
    }
}

/// 2025-10-17 03:00:01 UTC plus some hours.
pub(crate) fn at(hours: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_760_670_001, 0).expect("in range") + TimeDelta::hours(hours)
}

pub(crate) fn memory(name: &str, required: bool, rank: u8) -> Destination {
    Destination {
        name: name.to_owned(),
        storage: Arc::new(ObjectStorage::memory()),
        layout: if rank == 0 { Layout::Flat } else { Layout::ByClass },
        required,
        storage_classes: BTreeMap::new(),
        rank,
    }
}

pub(crate) fn keeper(destinations: Vec<Destination>, now: DateTime<Utc>) -> Keeper {
    Keeper {
        destinations,
        clock: Arc::new(Stopped(Mutex::new(now))),
        observer: Arc::new(pgkeep_metrics::Discard),
        cancel: CancellationToken::new(),
        host: "test".to_owned(),
        tool_version: "pgkeep test".to_owned(),
        identities: crate::Identities::default(),
    }
}

pub(crate) fn policy(days: u32, at_least: u32) -> Policy {
    let rule = ClassPolicy { days: Some(days), at_least, at_most: None };
    Policy { destinations: BTreeMap::from([("*".to_owned(), BackupClass::ALL.map(|class| (class, rule)).into())]) }
}

/// A meta of a backup whose archive is `archive`.
pub(crate) fn meta(class: BackupClass, begun: DateTime<Utc>, archive: &[u8]) -> Meta {
    let id = BackupId::new(class, begun, 1);
    let digest = hex::encode(Sha256::digest(archive));
    Meta {
        backup_file: format!("{id}.dump"),
        backup_type: class,
        timestamp: BackupId::stamp(class, begun),
        date: begun,
        hostname: "test".to_owned(),
        database_url: "***REDACTED***".to_owned(),
        size: "1K".to_owned(),
        duration_seconds: 1,
        compression: "none".to_owned(),
        pg_dump_version: "pg_dump (PostgreSQL) 17.1".to_owned(),
        format_version: crate::meta::FORMAT_VERSION,
        id,
        source: "app".to_owned(),
        tool_version: "pgkeep test".to_owned(),
        engine: "pg_dump".to_owned(),
        snapshot_time: begun,
        wal_position: None,
        database: DatabaseMeta {
            name: "app".to_owned(),
            system_identifier: Some("1".to_owned()),
            server: "db:5432".to_owned(),
            server_version_num: 170_001,
            server_version: "17.1".to_owned(),
            size_bytes: 1,
            encoding: "UTF8".to_owned(),
            locale_provider: "libc".to_owned(),
            collate: "C".to_owned(),
            ctype: "C".to_owned(),
            locale: None,
            icu_rules: None,
            owner: "postgres".to_owned(),
            tablespace: "pg_default".to_owned(),
            comment: None,
            connection_limit: -1,
            lc_monetary: "C".to_owned(),
        },
        selection: Vec::new(),
        lowest_pg_restore: 17,
        stored: StoredDigest { bytes: archive.len() as u64, sha256: digest },
        plain: PlainDigest::of(archive),
        globals: None,
        encryption: None,
        archive_encoding: "UTF8".to_owned(),
        fingerprint_key: FingerprintKey([7; 32]),
        schema_sha256: String::new(),
        toc_entries: 0,
        toc_bytes: 0,
        entries: Vec::new(),
        large_objects: LargeObjectsMeta::default(),
        sequences: Vec::new(),
        frames: FrameIndex::default(),
        extensions: Vec::new(),
        warnings: Vec::new(),
    }
}

/// What the shell scripts put beside an archive.
pub(crate) const FOREIGN_META: &str = r#"{
  "backup_file": "daily_20251001_030001.dump.gz",
  "backup_type": "daily",
  "timestamp": "20251001_030001",
  "date": "2025-10-01T03:00:01+00:00",
  "hostname": "prod-server-01",
  "database_url": "***REDACTED***",
  "size": "45M",
  "duration_seconds": 132,
  "compression": "gzip-9",
  "pg_dump_version": "pg_dump (PostgreSQL) 14.9"
}
"#;

/// Stores a backup as a run would have.
pub(crate) async fn store(destination: &Destination, meta: &Meta, archive: &[u8]) -> Key {
    let key = destination.key(&meta.id, &meta.backup_file).expect("a valid key");
    let storage: &dyn Storage = destination.storage.as_ref();
    storage.put(&key, Bytes::copy_from_slice(archive)).await.expect("stored");
    let json = Bytes::from(meta.to_json().expect("serialises"));
    storage.put(&Key::new(format!("{key}.meta")).expect("a valid key"), json).await.expect("stored");
    key
}

/// Every key at a destination, sorted.
pub(crate) async fn keys(destination: &Destination) -> Vec<String> {
    let all = destination.storage.list_all(&Key::root()).await.expect("listed");
    all.into_iter().map(|object| object.key.to_string()).collect()
}
