//! Archives made at random, and what they hold, free of how it was cut.
#![allow(dead_code, reason = "each test file takes what it needs")]

use std::io::Read;

use pgkeep_archive::{ArchiveReader, Event, InnerCompression, SyntheticArchive, synthetic_entry};
use proptest::prelude::*;

/// What an archive tells, with neighbouring pieces put together.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Story {
    /// Dump ids and types of all entries.
    pub(crate) entries: Vec<(i32, String)>,
    pub(crate) blocks: Vec<Told>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Told {
    Table { dump_id: i32, text: Vec<u8>, ended: bool },
    LargeObjects { dump_id: i32, objects: Vec<(u32, Vec<u8>, Option<u64>)>, ended: bool },
}

impl Story {
    pub(crate) fn add(&mut self, event: Event) {
        match event {
            Event::Toc(toc) => {
                assert!(self.entries.is_empty() && self.blocks.is_empty());
                self.entries = toc.entries.iter().map(|entry| (entry.dump_id, entry.desc.clone())).collect();
            }
            Event::DataStarted { dump_id } => {
                let (_, desc) = self.entries.iter().find(|entry| entry.0 == dump_id).expect("an entry of the TOC");
                self.blocks.push(match desc.as_str() {
                    "BLOBS" => Told::LargeObjects { dump_id, objects: Vec::new(), ended: false },
                    _ => Told::Table { dump_id, text: Vec::new(), ended: false },
                });
            }
            Event::Data { dump_id, bytes } => {
                assert!(!bytes.is_empty());
                let Some(Told::Table { dump_id: open, text, ended: false }) = self.blocks.last_mut() else { panic!() };
                assert_eq!(*open, dump_id);
                text.extend_from_slice(&bytes);
            }
            Event::LargeObjectStarted { dump_id, oid } => {
                let Some(Told::LargeObjects { dump_id: open, objects, ended: false }) = self.blocks.last_mut() else {
                    panic!()
                };
                assert_eq!(*open, dump_id);
                objects.push((oid, Vec::new(), None));
            }
            Event::LargeObjectData { oid, bytes } => {
                let object = self.large_object();
                assert_eq!((object.0, object.2), (oid, None));
                object.1.extend_from_slice(&bytes);
            }
            Event::LargeObjectFinished { oid, bytes } => {
                let object = self.large_object();
                assert_eq!((object.0, object.2), (oid, None));
                assert_eq!(object.1.len() as u64, bytes);
                object.2 = Some(bytes);
            }
            Event::DataFinished { dump_id } => {
                let (Told::Table { dump_id: open, ended, .. } | Told::LargeObjects { dump_id: open, ended, .. }) =
                    self.blocks.last_mut().expect("a block that began");
                assert_eq!((*open, *ended), (dump_id, false));
                *ended = true;
            }
        }
    }

    fn large_object(&mut self) -> &mut (u32, Vec<u8>, Option<u64>) {
        match self.blocks.last_mut() {
            Some(Told::LargeObjects { objects, ended: false, .. }) => objects.last_mut().expect("one that began"),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn payload_bytes(&self) -> usize {
        let bytes = |told: &Told| match told {
            Told::Table { text, .. } => text.len(),
            Told::LargeObjects { objects, .. } => objects.iter().map(|object| object.1.len()).sum(),
        };
        self.blocks.iter().map(bytes).sum()
    }
}

/// The story that a good archive tells through [`ArchiveReader`].
pub(crate) fn read(archive: impl Read) -> Story {
    let mut story = Story::default();
    for event in ArchiveReader::new(archive) {
        story.add(event.expect("a good archive"));
    }
    story
}

/// An archive before it is written.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    minor: u8,
    compression: InnerCompression,
    chunk_bytes: usize,
    blocks: Vec<Planned>,
}

#[derive(Debug, Clone)]
enum Planned {
    Schema,
    Table(Vec<Vec<u8>>),
    LargeObjects(Vec<(u32, Vec<u8>)>),
}

impl Plan {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut archive = SyntheticArchive::new(self.minor, self.compression);
        archive.chunk_bytes(self.chunk_bytes);
        for (block, dump_id) in self.blocks.iter().zip(1..) {
            match block {
                Planned::Schema => archive.entry(synthetic_entry(dump_id, "TABLE", "t")),
                Planned::Table(rows) => {
                    let rows: Vec<_> = rows.iter().map(Vec::as_slice).collect();
                    archive.table(dump_id, "t", "a, b", &rows)
                }
                Planned::LargeObjects(objects) => {
                    let objects: Vec<_> = objects.iter().map(|(oid, content)| (*oid, content.as_slice())).collect();
                    archive.large_objects(dump_id, &objects)
                }
            };
        }
        archive.bytes()
    }

    pub(crate) fn story(&self) -> Story {
        let mut story = Story::default();
        for (block, dump_id) in self.blocks.iter().zip(1..) {
            let desc = match block {
                Planned::Schema => "TABLE",
                Planned::Table(rows) => {
                    story.blocks.push(Told::Table { dump_id, text: rows.concat(), ended: true });
                    "TABLE DATA"
                }
                Planned::LargeObjects(objects) => {
                    let told = |(oid, content): &(u32, Vec<u8>)| (*oid, content.clone(), Some(content.len() as u64));
                    let objects = objects.iter().map(told).collect();
                    story.blocks.push(Told::LargeObjects { dump_id, objects, ended: true });
                    "BLOBS"
                }
            };
            story.entries.push((dump_id, desc.to_owned()));
        }
        story
    }
}

/// Archives of every format and compression, with short and long rows, empty tables and empty large objects.
pub(crate) fn archive() -> impl Strategy<Value = Plan> {
    let byte = prop_oneof![8 => b'a'..=b'z', 1 => Just(b'\\'), 1 => Just(b'.'), 1 => Just(b'\t')];
    let row = prop_oneof![
        6 => prop::collection::vec(byte, 0..40),
        1 => (b'a'..=b'z', 1..1500_usize).prop_map(|(byte, count)| vec![byte; count]),
        1 => (b'a'..=b'z', 30_000..90_000_usize).prop_map(|(byte, count)| vec![byte; count]),
    ];
    let row = row.prop_map(|mut row| {
        row.push(b'\n');
        row
    });
    let content = prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..60),
        1 => (any::<u8>(), 1..90_000_usize).prop_map(|(byte, count)| vec![byte; count]),
    ];
    let object = (prop_oneof![1..99_u32, 1_u32 << 31..=u32::MAX], content);
    let block = prop_oneof![
        1 => Just(Planned::Schema),
        3 => prop::collection::vec(row, 0..30).prop_map(Planned::Table),
        1 => prop::collection::vec(object, 0..6).prop_map(Planned::LargeObjects),
    ];
    let format = prop_oneof![
        (15..=16_u8, prop::sample::select(vec![InnerCompression::Lz4, InnerCompression::Zstd])),
        (12..=16_u8, prop::sample::select(vec![InnerCompression::None, InnerCompression::Gzip])),
    ];
    (format, 1..70_000_usize, prop::collection::vec(block, 0..8))
        .prop_map(|((minor, compression), chunk_bytes, blocks)| Plan { minor, compression, chunk_bytes, blocks })
}
