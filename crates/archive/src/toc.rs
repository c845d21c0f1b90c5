//! Header and table of contents.

use std::collections::HashMap;
use std::sync::OnceLock;

use bytes::Bytes;

use crate::literal::set_value;

/// Text as it stands in an archive: bytes in the dump's encoding, usually but not always UTF-8.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PgText(pub Bytes);

impl PgText {
    /// The text, with a replacement character for what is not UTF-8.
    pub fn lossy(&self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl AsRef<[u8]> for PgText {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl From<&str> for PgText {
    fn from(text: &str) -> Self {
        Self(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl PartialEq<str> for PgText {
    fn eq(&self, other: &str) -> bool {
        self.0 == other.as_bytes()
    }
}

/// Where an entry stands in a restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    /// Entries such as ENCODING that belong to none.
    None,
    /// Before the data.
    PreData,
    /// The data.
    Data,
    /// After the data.
    PostData,
}

/// One entry of the table of contents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TocEntry {
    /// Its number in this archive.
    pub dump_id: i32,
    /// Whether it has a data block.
    pub has_data: bool,
    /// OID of the catalog it comes from.
    pub catalog_oid: u32,
    /// Its OID in that catalog.
    pub oid: u32,
    /// Its name.
    pub tag: PgText,
    /// Its type: `TABLE`, `TABLE DATA`, `BLOBS`, …
    pub desc: String,
    /// Its section.
    pub section: Section,
    /// SQL that creates it. It may hold secrets: passwords of user mappings and subscriptions.
    pub definition: PgText,
    /// SQL that drops it.
    pub drop: PgText,
    /// `COPY t (a, b) FROM stdin;` for table data.
    pub copy: PgText,
    /// Its schema.
    pub namespace: Option<PgText>,
    /// Its tablespace.
    pub tablespace: Option<PgText>,
    /// Its table access method (1.14 and later).
    pub access_method: Option<PgText>,
    /// Its relkind (1.16 and later).
    pub relkind: Option<char>,
    /// Its owner.
    pub owner: Option<PgText>,
    /// Dump ids that it needs.
    pub dependencies: Vec<i32>,
    /// The offset of its data block, where the archive tells.
    pub offset: DataOffset,
    /// Where in the archive the offset field itself stands, in bytes (for `export` to fill it in).
    pub offset_position: u64,
}

impl TocEntry {
    /// Whether its data block holds large objects and not table data.
    pub fn holds_large_objects(&self) -> bool {
        self.desc == "BLOBS"
    }

    /// Whether its data block is COPY text, which ends in a `\.` line. Otherwise it is large objects or, in archives
    /// made with `pg_dump --inserts`, SQL.
    pub fn holds_copy_text(&self) -> bool {
        self.has_data && !self.holds_large_objects() && !self.copy.is_empty()
    }

    /// Its name for people: `TABLE DATA public.orders`.
    pub fn title(&self) -> String {
        match &self.namespace {
            Some(namespace) if !namespace.is_empty() => {
                format!("{} {}.{}", self.desc, namespace.lossy(), self.tag.lossy())
            }
            _ => format!("{} {}", self.desc, self.tag.lossy()),
        }
    }
}

/// An entry's offset field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataOffset {
    /// Written to a pipe: not known.
    NotSet,
    /// Bytes from the beginning of the archive.
    At(u64),
    /// The entry has no data.
    NoData,
}

/// Compression inside an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InnerCompression {
    /// None: what we write.
    None,
    /// zlib streams.
    Gzip,
    /// LZ4 frames.
    Lz4,
    /// zstd frames.
    Zstd,
}

/// Header and table of contents of an archive. [`Toc::parse`] makes one from bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Toc {
    /// Format version: (1, 16, 0).
    pub format: (u8, u8, u8),
    /// Compression of data blocks.
    pub compression: InnerCompression,
    /// The dump's local time as written: year, month 1–12, day, hour, minute, second.
    pub created: (i32, u32, u32, u32, u32, u32),
    /// The database's name.
    pub database: PgText,
    /// The server's version as text.
    pub server_version: String,
    /// pg_dump's version as text: `17.11 (Debian …)`.
    pub dump_version: String,
    /// The entries, in archive order.
    pub entries: Vec<TocEntry>,
    /// Header and TOC verbatim: a legal archive file for `pg_restore --list` and for schema-only restores.
    pub raw: Bytes,
    pub(crate) index: Index,
}

impl Toc {
    /// The entry with this dump id.
    pub fn entry(&self, dump_id: i32) -> Option<&TocEntry> {
        let position = *self.index.positions(&self.entries).get(&dump_id)?;
        self.entries.get(position as usize)
    }

    /// The entries that have a data block, in the order of the blocks.
    pub fn data_entries(&self) -> impl Iterator<Item = &TocEntry> {
        self.entries.iter().filter(|entry| entry.has_data)
    }

    /// The client encoding of the dump, from its ENCODING entry (`UTF8`, `LATIN1`, `SQL_ASCII`).
    pub fn encoding(&self) -> Option<String> {
        self.setting("ENCODING")
    }

    /// `standard_conforming_strings` of the dump, from its STDSTRINGS entry.
    pub fn std_strings(&self) -> Option<bool> {
        Some(self.setting("STDSTRINGS")? == "on")
    }

    /// Lowest major version of pg_restore that reads this format: 1.14 → 12, 1.15 → 16, 1.16 → 17.
    ///
    /// Formats 1.12 and 1.13 are read by every maintained pg_restore; 10 stands for them.
    pub fn lowest_pg_restore(&self) -> u32 {
        match self.format.1 {
            ..=13 => 10,
            14 => 12,
            15 => 16,
            _ => 17,
        }
    }

    fn setting(&self, desc: &str) -> Option<String> {
        let entry = self.entries.iter().find(|entry| entry.desc == desc)?;
        set_value(&entry.definition.0).map(|value| String::from_utf8_lossy(value).into_owned())
    }
}

/// Where each dump id stands among the entries; built when first asked for.
#[derive(Clone, Default)]
pub(crate) struct Index(OnceLock<HashMap<i32, u32>>);

impl Index {
    fn positions(&self, entries: &[TocEntry]) -> &HashMap<i32, u32> {
        self.0.get_or_init(|| entries.iter().zip(0..).map(|(entry, position)| (entry.dump_id, position)).collect())
    }
}

impl std::fmt::Debug for Index {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Index")
    }
}

/// An index follows from the entries, so it never makes a difference.
impl PartialEq for Index {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Index {}
