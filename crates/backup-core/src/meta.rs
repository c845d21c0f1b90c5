//! The `.meta` beside an archive: JSON that names it, indexes it and proves it.

use std::io::{self, Write};
use std::ops::Range;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::ser::Formatter;

use crate::frames::FramedArchive;
use crate::{BackupClass, BackupId, EncryptionMeta, Error, FingerprintKey, Result};

/// The format version this library writes, and the highest it reads.
pub const FORMAT_VERSION: u32 = 1;

/// More than any frame has: bounds what a damaged meta can make us allocate.
pub(crate) const LARGEST_FRAME: u64 = 1 << 30;

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
    /// How it is encrypted; `None` is not encrypted.
    pub encryption: Option<EncryptionMeta>,
    /// Client encoding of the archive: `UTF8`.
    pub archive_encoding: String,
    /// Key of the fingerprints (POSTGRES A11): against accidents, not a signature.
    pub fingerprint_key: FingerprintKey,
    /// sha256 (hex) of the schema's items ([`crate::schema_sha256`]), by the rules of the version that wrote it: backups of
    /// one version with the same value have the same schema.
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
    /// BLAKE3, hex: there is far more of it than is stored, and this is the faster digest.
    pub blake3: String,
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
    /// The frame in which its data block begins; 0 in a backup without frame index.
    pub frame: u64,
    /// Offset in that frame's plain bytes of the block's first byte; in a backup without frame index, in the archive's.
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
    /// The data blocks that hold them, in archive order.
    #[serde(default)]
    pub blocks: Vec<DataBlock>,
}

/// Where the data block of an entry that is no table lies. See [`EntryMeta`] for the fields' meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataBlock {
    /// The entry.
    pub dump_id: i32,
    /// The frame in which it begins.
    pub frame: u64,
    /// Where in that frame's plain bytes.
    pub offset: u64,
    /// Its plain bytes, framing included.
    pub plain_bytes: u64,
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
///
/// Empty for an adopted archive, which is one stream of somebody else's making.
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

impl FrameIndex {
    /// How many frames.
    pub fn len(&self) -> usize {
        self.stored.len()
    }

    /// Whether there is no index.
    pub fn is_empty(&self) -> bool {
        self.stored.is_empty()
    }

    /// Where each frame begins in the stored bytes, and at last where the last one ends.
    pub fn stored_offsets(&self) -> Vec<u64> {
        offsets(&self.stored)
    }

    /// Where each frame's content begins in the plain archive, and at last where the archive ends.
    pub fn plain_offsets(&self) -> Vec<u64> {
        offsets(&self.plain)
    }

    /// What is wrong with the index of an archive, if anything. Encrypted, an archive is longer than its frames.
    fn fault(&self, meta: &Meta) -> Option<&'static str> {
        let sum = |column: &[u64]| column.iter().try_fold(0u64, |sum, &bytes| sum.checked_add(bytes));
        let columns = [self.plain.len(), self.entry.len(), self.aligned.len()];
        if columns.iter().any(|&length| length != self.len()) {
            Some("the columns of its frame index differ in length")
        } else if self.is_empty() {
            None
        } else if sum(&self.plain) != Some(meta.plain.bytes)
            || !sum(&self.stored).is_some_and(|stored| match meta.encryption {
                None => stored == meta.stored.bytes,
                Some(_) => stored < meta.stored.bytes,
            })
        {
            Some("its frames do not add up to the archive")
        } else if self.plain.iter().chain(&self.stored).any(|&bytes| bytes > LARGEST_FRAME) {
            Some("one of its frames is too large")
        } else {
            None
        }
    }
}

fn offsets(column: &[u64]) -> Vec<u64> {
    let mut end = 0;
    std::iter::once(0)
        .chain(column.iter().map(|bytes| {
            end += bytes;
            end
        }))
        .collect()
}

impl Meta {
    /// Reads a meta. Unknown keys are ignored; a higher format version is refused, and so is one that contradicts itself.
    pub fn from_json(object: &str, json: &[u8]) -> Result<Self> {
        let refuse = |reason: String| Error::Meta { object: object.to_owned(), reason };
        let version: Version = serde_json::from_slice(json).map_err(|error| refuse(error.to_string()))?;
        if let Some(found) = version.format_version
            && found > u64::from(FORMAT_VERSION)
        {
            let found = u32::try_from(found).unwrap_or(u32::MAX);
            return Err(Error::NewerFormat { object: object.to_owned(), found, supported: FORMAT_VERSION });
        }
        let meta: Self = serde_json::from_slice(json).map_err(|error| refuse(error.to_string()))?;
        if let Some(unknown) = meta.encryption.as_ref().filter(|encryption| !encryption.is_known()) {
            return Err(refuse(format!("it is encrypted by a scheme that is not known here: {}", unknown.scheme)));
        }
        match meta.frames.fault(&meta) {
            Some(fault) => Err(refuse(fault.to_owned())),
            None => Ok(meta),
        }
    }

    /// Whether that is no meta of ours but the metadata that other scripts put beside their archives under the same name: a
    /// JSON object without `format_version`. It says nothing of what the archive holds, so it makes no backup of it.
    pub fn is_foreign(json: &[u8]) -> bool {
        let object = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(json);
        object.is_ok_and(|object| !object.contains_key("format_version"))
    }

    /// The meta as JSON: keys and list items on lines of their own, what lies deeper on one line.
    pub fn to_json(&self) -> Result<Vec<u8>> {
        let mut json = Vec::new();
        let mut serializer = serde_json::Serializer::with_formatter(&mut json, Layout::default());
        self.serialize(&mut serializer)
            .map_err(|error| Error::Meta { object: self.backup_file.clone(), reason: error.to_string() })?;
        json.push(b'\n');
        Ok(json)
    }

    /// Whether it holds all data of its database: a backup of a part never stands for the whole.
    pub fn is_whole(&self) -> bool {
        pgkeep_dump::Selection::is_whole(&self.selection)
    }

    /// File name of the meta itself.
    pub fn file(&self) -> String {
        format!("{}.meta", self.backup_file)
    }

    /// The frames that hold the data block of an entry, by their numbers; `None` without such an entry or without a frame
    /// index. Its first and last frame may hold other entries too.
    pub fn entry_frames(&self, dump_id: i32) -> Option<Range<usize>> {
        let (_, range) = self.data_blocks().into_iter().find(|(entry, _)| *entry == dump_id)?;
        (!self.frames.is_empty()).then(|| FramedArchive::holding(&self.frames.plain_offsets(), &range))
    }

    /// Every data block: dump id and range of bytes in the plain archive, in archive order.
    pub(crate) fn data_blocks(&self) -> Vec<(i32, Range<u64>)> {
        let frames = self.frames.plain_offsets();
        let tables = self.entries.iter().map(|entry| (entry.dump_id, entry.frame, entry.offset, entry.plain_bytes));
        let others = self.large_objects.blocks.iter();
        let others = others.map(|block| (block.dump_id, block.frame, block.offset, block.plain_bytes));
        let mut blocks: Vec<(i32, Range<u64>)> = tables
            .chain(others)
            .map(|(dump_id, frame, offset, bytes)| {
                let begin = frames.get(frame as usize).copied().unwrap_or(u64::MAX).saturating_add(offset);
                (dump_id, begin..begin.saturating_add(bytes))
            })
            .collect();
        blocks.sort_by_key(|(_, range)| range.start);
        blocks
    }
}

/// What is read before anything else.
#[derive(Deserialize)]
struct Version {
    format_version: Option<u64>,
}

/// JSON with line breaks down to the second level only: a frame index has millions of numbers.
#[derive(Default)]
struct Layout {
    depth: usize,
    /// The innermost list or object has items.
    filled: bool,
}

/// Levels below which everything stands on one line.
const LINES: usize = 2;

impl Layout {
    fn line<W: ?Sized + Write>(&self, writer: &mut W) -> io::Result<()> {
        if self.depth > LINES {
            return Ok(());
        }
        writer.write_all(b"\n")?;
        (0..self.depth).try_for_each(|_| writer.write_all(b"  "))
    }

    fn open<W: ?Sized + Write>(&mut self, writer: &mut W, bracket: u8) -> io::Result<()> {
        self.depth += 1;
        self.filled = false;
        writer.write_all(&[bracket])
    }

    fn close<W: ?Sized + Write>(&mut self, writer: &mut W, bracket: u8) -> io::Result<()> {
        let deep = self.depth > LINES;
        self.depth -= 1;
        if self.filled && !deep {
            self.line(writer)?;
        }
        self.filled = true;
        writer.write_all(&[bracket])
    }

    fn item<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.filled = true;
        if !first {
            writer.write_all(b",")?;
        }
        self.line(writer)
    }
}

impl Formatter for Layout {
    fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.open(writer, b'[')
    }

    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.close(writer, b']')
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.item(writer, first)
    }

    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.open(writer, b'{')
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.close(writer, b'}')
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.item(writer, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{at, meta};

    fn sample() -> Meta {
        let mut meta = meta(BackupClass::Daily, at(0), b"archive");
        meta.stored.bytes = 30;
        meta.plain.bytes = 300;
        meta.frames =
            FrameIndex { stored: vec![10, 20], plain: vec![100, 200], entry: vec![0, 7], aligned: vec![1, 0] };
        meta.warnings = vec!["a \"quoted\" warning".to_owned()];
        meta
    }

    #[test]
    fn json_has_a_line_per_key_and_a_line_per_column_of_the_index() {
        let json = String::from_utf8(sample().to_json().unwrap()).unwrap();
        assert!(json.starts_with("{\n  \"backup_file\": \"daily_"), "{json}");
        assert!(json.ends_with("\n}\n"), "{json}");
        for line in ["    \"stored\": [10,20],", "  \"entries\": [],", "    \"a \\\"quoted\\\" warning\""] {
            assert!(json.lines().any(|found| found == line), "{line} in {json}");
        }
        assert_eq!(Meta::from_json("x", json.as_bytes()).unwrap(), sample());
    }

    #[test]
    fn unknown_keys_are_ignored_and_newer_formats_refused() {
        let mut json: serde_json::Value = serde_json::from_slice(&sample().to_json().unwrap()).unwrap();
        json["something"] = "new".into();
        assert_eq!(Meta::from_json("x", json.to_string().as_bytes()).unwrap(), sample());
        json["format_version"] = (FORMAT_VERSION + 1).into();
        let refused = Meta::from_json("x", json.to_string().as_bytes());
        assert!(matches!(refused, Err(Error::NewerFormat { found, .. }) if found == FORMAT_VERSION + 1));
        // Also one that this version could not even read.
        let future = br#"{"format_version": 7}"#;
        assert!(matches!(Meta::from_json("x", future), Err(Error::NewerFormat { found: 7, .. })));
    }

    #[test]
    fn frames_of_an_entry_are_found() {
        let mut meta = sample();
        let block = |dump_id, frame, offset, plain_bytes| DataBlock { dump_id, frame, offset, plain_bytes };
        meta.large_objects.blocks = vec![block(7, 0, 90, 10), block(8, 1, 0, 200), block(9, 0, 50, 51)];
        assert_eq!(meta.entry_frames(7), Some(0..1));
        assert_eq!(meta.entry_frames(8), Some(1..2));
        assert_eq!(meta.entry_frames(9), Some(0..2));
        assert_eq!(meta.entry_frames(1), None);
        meta.frames = FrameIndex::default();
        assert_eq!(meta.entry_frames(7), None);
    }

    #[test]
    fn an_index_that_contradicts_its_archive_is_refused() {
        let changes: [fn(&mut Meta); 4] = [
            |meta| meta.frames.stored[0] = 11,
            |meta| meta.frames.plain[1] = u64::MAX,
            |meta| meta.frames.aligned.truncate(1),
            |meta| meta.plain.bytes = 301,
        ];
        for change in changes {
            let mut meta = sample();
            change(&mut meta);
            assert!(matches!(Meta::from_json("x", &meta.to_json().unwrap()), Err(Error::Meta { .. })));
        }
    }
}
