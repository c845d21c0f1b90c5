//! Header and table of contents.

use bytes::Bytes;

/// Text as it stands in an archive: bytes in the dump's encoding, usually but not always UTF-8.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PgText(pub Bytes);

impl PgText {
    /// The text, with a replacement character for what is not UTF-8.
    pub fn lossy(&self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
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
    /// SQL that creates it.
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

/// Header and table of contents of an archive.
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
}

impl Toc {
    /// The entry with this dump id.
    pub fn entry(&self, dump_id: i32) -> Option<&TocEntry> {
        self.entries.iter().find(|entry| entry.dump_id == dump_id)
    }
    /// The client encoding of the dump, from its ENCODING entry (`UTF8`, `LATIN1`, `SQL_ASCII`).
    pub fn encoding(&self) -> Option<String> {
        unimplemented!()
    }
    /// Lowest major version of pg_restore that reads this format: 1.14 → 12, 1.15 → 16, 1.16 → 17.
    pub fn lowest_pg_restore(&self) -> u32 {
        unimplemented!()
    }
}
