//! Archives made by hand, for tests and benches.

use std::io::Write;

use bytes::Bytes;
use flate2::write::ZlibEncoder;
use lz4_flex::frame::{BlockMode, FrameEncoder, FrameInfo};

use crate::decoder::{LARGE_OBJECTS_BLOCK, TABLE_DATA_BLOCK, TRAILER};
use crate::input::int_bytes;
use crate::parse::since;
use crate::{DataOffset, InnerCompression, PgText, Section, TocEntry};

/// An entry without data: `desc` named `public.tag`, owned by `owner`, in pre-data.
pub fn entry(dump_id: i32, desc: &str, tag: &str) -> TocEntry {
    TocEntry {
        dump_id,
        has_data: false,
        catalog_oid: 1259,
        oid: 16384 + dump_id as u32,
        tag: tag.into(),
        desc: desc.to_owned(),
        section: Section::PreData,
        definition: PgText::default(),
        drop: PgText::default(),
        copy: PgText::default(),
        namespace: Some("public".into()),
        tablespace: Some(PgText::default()),
        access_method: None,
        relkind: None,
        owner: Some("owner".into()),
        dependencies: Vec::new(),
        offset: DataOffset::NoData,
        offset_position: 0,
    }
}

/// A builder of archives as pg_dump writes them.
#[derive(Debug, Clone)]
pub struct SyntheticArchive {
    minor: u8,
    compression: InnerCompression,
    chunk_bytes: usize,
    entries: Vec<TocEntry>,
    data: Vec<(i32, Data)>,
}

#[derive(Debug, Clone)]
enum Data {
    /// The payload of each chunk.
    Rows(Vec<Bytes>),
    LargeObjects(Vec<(u32, Bytes)>),
}

impl SyntheticArchive {
    /// An archive of format 1.`minor` without entries.
    pub fn new(minor: u8, compression: InnerCompression) -> Self {
        Self { minor, compression, chunk_bytes: 4096, entries: Vec::new(), data: Vec::new() }
    }

    /// Size of the chunks of large objects and of compressed data.
    pub fn chunk_bytes(&mut self, bytes: usize) -> &mut Self {
        self.chunk_bytes = bytes;
        self
    }

    /// Adds an entry without data.
    pub fn entry(&mut self, entry: TocEntry) -> &mut Self {
        self.entries.push(entry);
        self
    }

    /// Adds a TABLE DATA entry; each item of `rows` becomes one chunk.
    pub fn table(&mut self, dump_id: i32, name: &str, columns: &str, rows: &[&[u8]]) -> &mut Self {
        let mut table = entry(dump_id, "TABLE DATA", name);
        table.copy = format!("COPY public.{name} ({columns}) FROM stdin;\n").as_str().into();
        let rows = rows.iter().copied().filter(|row| !row.is_empty()).map(Bytes::copy_from_slice).collect();
        self.data_entry(table, Data::Rows(rows))
    }

    /// Adds a BLOBS entry.
    pub fn large_objects(&mut self, dump_id: i32, objects: &[(u32, &[u8])]) -> &mut Self {
        let objects = objects.iter().map(|&(oid, content)| (oid, Bytes::copy_from_slice(content))).collect();
        self.data_entry(entry(dump_id, "BLOBS", "BLOBS"), Data::LargeObjects(objects))
    }

    fn data_entry(&mut self, entry: TocEntry, data: Data) -> &mut Self {
        self.data.push((entry.dump_id, data));
        self.entries.push(TocEntry { has_data: true, section: Section::Data, offset: DataOffset::NotSet, ..entry });
        self
    }

    /// Header and table of contents.
    pub fn toc_bytes(&self) -> Vec<u8> {
        let mut bytes = b"PGDMP".to_vec();
        bytes.extend([1, self.minor, 0, 4, 8, 1]);
        if self.minor >= since::ALGORITHM {
            bytes.push(match self.compression {
                InnerCompression::None => 0,
                InnerCompression::Gzip => 1,
                InnerCompression::Lz4 => 2,
                InnerCompression::Zstd => 3,
            });
        } else {
            bytes.extend(int_bytes(if self.compression == InnerCompression::None { 0 } else { -1 }));
        }
        // 2025-10-17 03:00:01
        for field in [1, 0, 3, 17, 9, 125, 0] {
            bytes.extend(int_bytes(field));
        }
        for text in ["shop", "17.11", "17.11"] {
            put_text(&mut bytes, Some(text.as_bytes()));
        }
        bytes.extend(int_bytes(self.entries.len() as i32));
        for entry in &self.entries {
            self.put_entry(&mut bytes, entry);
        }
        bytes
    }

    /// The whole archive.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.toc_bytes();
        for (dump_id, data) in &self.data {
            match data {
                Data::Rows(rows) => {
                    bytes.push(TABLE_DATA_BLOCK);
                    bytes.extend(int_bytes(*dump_id));
                    let trailer = Bytes::from_static(TRAILER);
                    self.put_chunks(&mut bytes, rows.iter().chain([&trailer]));
                }
                Data::LargeObjects(objects) => {
                    bytes.push(LARGE_OBJECTS_BLOCK);
                    bytes.extend(int_bytes(*dump_id));
                    for (oid, content) in objects {
                        bytes.extend(int_bytes(*oid as i32));
                        let pieces: Vec<_> =
                            content.chunks(self.chunk_bytes).map(|piece| content.slice_ref(piece)).collect();
                        self.put_chunks(&mut bytes, pieces.iter());
                    }
                    bytes.extend(int_bytes(0));
                }
            }
        }
        bytes
    }

    fn put_entry(&self, bytes: &mut Vec<u8>, entry: &TocEntry) {
        bytes.extend(int_bytes(entry.dump_id));
        bytes.extend(int_bytes(i32::from(entry.has_data)));
        put_text(bytes, Some(entry.catalog_oid.to_string().as_bytes()));
        put_text(bytes, Some(entry.oid.to_string().as_bytes()));
        put_text(bytes, Some(&entry.tag.0));
        put_text(bytes, Some(entry.desc.as_bytes()));
        bytes.extend(int_bytes(match entry.section {
            Section::None => 1,
            Section::PreData => 2,
            Section::Data => 3,
            Section::PostData => 4,
        }));
        for text in [&entry.definition, &entry.drop, &entry.copy] {
            put_text(bytes, (!text.is_empty()).then_some(&text.0));
        }
        put_text(bytes, entry.namespace.as_ref().map(AsRef::as_ref));
        put_text(bytes, entry.tablespace.as_ref().map(AsRef::as_ref));
        if self.minor >= since::ACCESS_METHOD {
            put_text(bytes, entry.access_method.as_ref().map(AsRef::as_ref));
        }
        if self.minor >= since::RELKIND {
            bytes.extend(int_bytes(entry.relkind.map_or(0, |kind| kind as i32)));
        }
        put_text(bytes, entry.owner.as_ref().map(AsRef::as_ref));
        put_text(bytes, Some(b"false"));
        for dependency in &entry.dependencies {
            put_text(bytes, Some(dependency.to_string().as_bytes()));
        }
        put_text(bytes, None);
        let (flag, offset) = match entry.offset {
            DataOffset::NotSet => (1, 0),
            DataOffset::At(offset) => (2, offset),
            DataOffset::NoData => (3, 0),
        };
        bytes.push(flag);
        bytes.extend(offset.to_le_bytes());
    }

    fn put_chunks<'c>(&self, bytes: &mut Vec<u8>, chunks: impl Iterator<Item = &'c Bytes>) {
        if self.compression == InnerCompression::None {
            for chunk in chunks {
                bytes.extend(int_bytes(chunk.len() as i32));
                bytes.extend_from_slice(chunk);
            }
        } else {
            let plain: Vec<u8> = chunks.flatten().copied().collect();
            for chunk in compress(self.compression, &plain).chunks(self.chunk_bytes) {
                bytes.extend(int_bytes(chunk.len() as i32));
                bytes.extend_from_slice(chunk);
            }
        }
        bytes.extend(int_bytes(0));
    }
}

fn put_text(bytes: &mut Vec<u8>, text: Option<&[u8]>) {
    bytes.extend(int_bytes(text.map_or(-1, |text| text.len() as i32)));
    bytes.extend_from_slice(text.unwrap_or_default());
}

fn compress(compression: InnerCompression, plain: &[u8]) -> Vec<u8> {
    const MEMORY: &str = "writing to memory";
    match compression {
        InnerCompression::None => plain.to_vec(),
        InnerCompression::Gzip => {
            let mut encoder = ZlibEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(plain).expect(MEMORY);
            encoder.finish().expect(MEMORY)
        }
        InnerCompression::Lz4 => {
            let info = FrameInfo::new().block_mode(BlockMode::Linked);
            let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
            encoder.write_all(plain).expect(MEMORY);
            encoder.finish().expect(MEMORY)
        }
        InnerCompression::Zstd => zstd::encode_all(plain, 0).expect(MEMORY),
    }
}
