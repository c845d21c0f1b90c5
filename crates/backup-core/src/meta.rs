//! The `.meta` beside an archive: JSON that names it, indexes it and proves it.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{BackupClass, BackupId, Error, FingerprintKey, Result};

/// The format version this library writes, and the highest it reads.
pub const FORMAT_VERSION: u32 = 1;

/// A backup's metadata. Its presence is the backup's existence (law 1); it is never changed once written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Meta {
    /// File name of the archive.
    pub backup_file: String,
    /// Class.
    pub backup_type: BackupClass,
    /// Time part of the name.
    pub timestamp: String,
    /// When the backup was begun.
    pub date: DateTime<Utc>,
    /// Where it was made.
    pub hostname: String,
    /// Always `***REDACTED***`.
    pub database_url: String,
    /// Stored size for people: `45M`.
    pub size: String,
    /// How long dump and upload took, whole seconds.
    pub duration_seconds: u64,
    /// Codec and level: `zstd-3`.
    pub compression: String,
    /// What `pg_dump --version` printed.
    pub pg_dump_version: String,

    /// Version of this format.
    pub format_version: u32,
    /// The backup's name.
    pub id: BackupId,
    /// The source's name, from `source.json`.
    pub source: String,
    /// Program that wrote it.
    pub tool_version: String,
    /// Engine that dumped it.
    pub engine: String,
    /// The snapshot's time by the server's clock: the data is as of then.
    pub snapshot_time: DateTime<Utc>,
    /// WAL position when the dump began.
    pub wal_position: Option<String>,
    /// The database.
    pub database: DatabaseMeta,
    /// pg_dump arguments that selected a part of it; empty for all of it.
    pub selection: Vec<String>,
    /// The lowest major version of pg_restore that reads the archive.
    pub lowest_pg_restore: u32,
    /// What is stored.
    pub stored: StoredDigest,
    /// What it decompresses to.
    pub plain: PlainDigest,
    /// Roles, memberships, tablespaces, and structured facts that may hold secrets; `None` if they could not be read.
    pub globals: Option<GlobalsMeta>,
    /// Encryption scheme and recipients; `None` is not encrypted.
    pub encryption: Option<serde_json::Value>,
    /// Client encoding of the archive: `UTF8`.
    pub archive_encoding: String,
    /// Key of the fingerprints (POSTGRES A11): against accidents, not a signature.
    pub fingerprint_key: FingerprintKey,
    /// sha256 (hex) of the canonical schema rendering of the TOC.
    pub schema_sha256: String,
    /// Number of TOC entries.
    pub toc_entries: u64,
    /// Plain bytes of header and TOC: the archive begins with them.
    pub toc_bytes: u64,
    /// Table data, in archive order.
    pub entries: Vec<EntryMeta>,
    /// Large objects.
    pub large_objects: LargeObjectsMeta,
    /// Sequences.
    pub sequences: Vec<SequenceMeta>,
    /// Where the frames are.
    pub frames: FrameIndex,
    /// Extensions and versions.
    pub extensions: Vec<(String, String)>,
    /// What was not as it should be, one line each.
    pub warnings: Vec<String>,
}

/// The database a backup is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseMeta {
    /// Its name.
    pub name: String,
    /// System identifier of the cluster, where known.
    pub system_identifier: Option<String>,
    /// `host:port`.
    pub server: String,
    /// `server_version_num`.
    pub server_version_num: u32,
    /// `server_version`.
    pub server_version: String,
    /// `pg_database_size` in bytes.
    pub size_bytes: u64,
    /// Encoding.
    pub encoding: String,
    /// Locale provider: `libc`, `icu`, `builtin`.
    pub locale_provider: String,
    /// LC_COLLATE.
    pub collate: String,
    /// LC_CTYPE.
    pub ctype: String,
    /// ICU or builtin locale.
    pub locale: Option<String>,
    /// ICU rules.
    pub icu_rules: Option<String>,
    /// Owner.
    pub owner: String,
    /// Tablespace.
    pub tablespace: String,
    /// Comment.
    pub comment: Option<String>,
    /// Connection limit; −1 is none.
    pub connection_limit: i32,
    /// `lc_monetary`.
    pub lc_monetary: String,
}

/// Size and digest of the stored archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredDigest {
    /// Size in bytes.
    pub bytes: u64,
    /// sha256, hex.
    pub sha256: String,
}

/// Size and digest of the plain archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlainDigest {
    /// Size in bytes.
    pub bytes: u64,
    /// sha256, hex.
    pub sha256: String,
}

/// The globals object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GlobalsMeta {
    /// File name, beside the archive.
    pub file: String,
    /// As stored.
    pub stored: StoredDigest,
    /// Decompressed.
    pub plain: PlainDigest,
    /// Whether role passwords are in it.
    pub role_passwords: bool,
}

/// One TABLE DATA entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryMeta {
    /// Its number in the archive.
    pub dump_id: i32,
    /// Schema.
    pub schema: String,
    /// Table.
    pub name: String,
    /// Rows.
    pub rows: u64,
    /// Bytes of the rows' text without line feeds.
    pub bytes: u64,
    /// Σ h(row) mod 2¹²⁸, hex, 32 digits, most significant first.
    pub fingerprint: String,
    /// The column list of its COPY statement, verbatim, without parentheses; empty if it has none.
    pub columns: String,
    /// First frame that holds bytes of it.
    pub frame: u64,
    /// Offset in that frame's plain bytes of its block's first byte.
    pub offset: u64,
    /// Plain bytes of its block in the archive, framing included.
    pub plain_bytes: u64,
}

/// All large objects together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LargeObjectsMeta {
    /// How many.
    pub count: u64,
    /// Their content in bytes.
    pub bytes: u64,
    /// Σ h(oid, length, content) mod 2¹²⁸, hex.
    pub fingerprint: String,
}

/// One sequence's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SequenceMeta {
    /// Schema.
    pub schema: String,
    /// Name.
    pub name: String,
    /// `last_value`.
    pub last_value: i64,
    /// `is_called`.
    pub is_called: bool,
}

/// The frames of an archive as columns, in order. Stored offsets are the running sum of `stored`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameIndex {
    /// Stored bytes of each frame.
    pub stored: Vec<u64>,
    /// Plain bytes of each frame.
    pub plain: Vec<u64>,
    /// Dump id of the first data entry with bytes in the frame; 0 for none.
    pub entry: Vec<i32>,
    /// 1 if the frame's first payload begins at a row (or is no table data), 0 if it continues one.
    pub aligned: Vec<u8>,
}

impl Meta {
    /// Reads a meta. Unknown keys are ignored; a higher format version is refused.
    pub fn from_json(object: &str, json: &[u8]) -> Result<Self> {
        let value: serde_json::Value = serde_json::from_slice(json)
            .map_err(|error| Error::Meta { object: object.to_owned(), reason: error.to_string() })?;
        if let Some(found) = value.get("format_version").and_then(serde_json::Value::as_u64)
            && found > u64::from(FORMAT_VERSION)
        {
            return Err(Error::NewerFormat { object: object.to_owned(), found: found as u32, supported: FORMAT_VERSION });
        }
        serde_json::from_value(value)
            .map_err(|error| Error::Meta { object: object.to_owned(), reason: error.to_string() })
    }

    /// The meta as JSON.
    pub fn to_json(&self) -> Result<Vec<u8>> {
        serde_json::to_vec_pretty(self)
            .map_err(|error| Error::Meta { object: self.backup_file.clone(), reason: error.to_string() })
    }

    /// File name of the meta itself.
    pub fn file(&self) -> String {
        format!("{}.meta", self.backup_file)
    }
}
