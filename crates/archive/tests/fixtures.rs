//! Archives that pg_dump 15, 17 and 18 wrote (tests/fixtures/make), held against what pg_restore makes of them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod story;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use pgkeep_archive::{
    ArchiveReader, DataOffset, Decoder, Event, InnerCompression, SchemaItem, Toc, copy_columns, copy_target,
    large_object_oids, list_line, schema_lines, sequence_set,
};
use story::{Story, Told, read};

fn fixture(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn text(name: &str) -> String {
    String::from_utf8(fixture(name)).unwrap()
}

fn toc(name: &str) -> Arc<Toc> {
    match ArchiveReader::new(fixture(name).as_slice()).next() {
        Some(Ok(Event::Toc(toc))) => toc,
        other => panic!("{other:?}"),
    }
}

const MAJORS: [(u32, u8, u32); 3] = [(15, 14, 12), (17, 16, 17), (18, 16, 17)];

#[test]
fn every_compression_tells_the_same_story() {
    for (major, ..) in MAJORS {
        let plain = read(fixture(&format!("{major}-none.dump")).as_slice());
        assert!(plain.payload_bytes() > 5000);
        for (compression, kind) in [
            ("gzip", InnerCompression::Gzip),
            ("lz4", InnerCompression::Lz4),
            ("zstd", InnerCompression::Zstd),
            ("file", InnerCompression::None),
        ] {
            if major == 15 && matches!(compression, "lz4" | "zstd") {
                continue;
            }
            let name = format!("{major}-{compression}.dump");
            assert_eq!(toc(&name).compression, kind);
            assert!(read(fixture(&name).as_slice()) == plain, "{name}");
        }
    }
}

#[test]
fn payload_is_what_pg_restore_prints() {
    for (major, ..) in MAJORS {
        let archive = fixture(&format!("{major}-none.dump"));
        let toc = Toc::parse(toc(&format!("{major}-none.dump")).raw.clone()).unwrap();
        let printed = text(&format!("{major}.sql"));
        let mut large_objects = 0;
        for told in read(archive.as_slice()).blocks {
            match told {
                Told::Table { dump_id, text, ended: true } => {
                    let copy = toc.entry(dump_id).unwrap().copy.lossy();
                    let expected = format!("{copy}{}\\.\n", String::from_utf8(text).unwrap());
                    assert!(printed.contains(&expected), "{major}: {expected}");
                }
                Told::LargeObjects { objects, ended: true, .. } => {
                    for (oid, content, bytes) in objects {
                        large_objects += 1;
                        assert_eq!(bytes, Some(content.len() as u64));
                        let open = format!("SELECT pg_catalog.lo_open('{oid}', 131072);\n");
                        let at = printed.find(&open).unwrap() + open.len();
                        let hex: String = content.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
                        let write = match hex.as_str() {
                            "" => "SELECT pg_catalog.lo_close(0);".to_owned(),
                            hex => format!("SELECT pg_catalog.lowrite(0, '\\x{hex}');\nSELECT pg_catalog.lo_close(0);"),
                        };
                        assert!(printed[at..].starts_with(&write), "{major}: {oid}");
                    }
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(large_objects, 4);
        for entry in toc
            .entries
            .iter()
            .filter(|entry| !["ACL", "BLOB METADATA", "STDSTRINGS", "DATABASE"].contains(&entry.desc.as_str()))
        {
            assert!(printed.contains(entry.definition.lossy().as_str()), "{major}: {}", entry.title());
        }
    }
}

#[test]
fn list_lines_are_those_of_pg_restore() {
    for (major, ..) in MAJORS {
        let toc = toc(&format!("{major}-none.dump"));
        let ours = toc
            .entries
            .iter()
            .filter(|entry| !["ENCODING", "STDSTRINGS", "SEARCHPATH", "DATABASE"].contains(&entry.desc.as_str()));
        let ours: Vec<_> = ours.map(list_line).collect();
        let theirs = text(&format!("{major}.list"));
        let theirs: Vec<_> = theirs.lines().filter(|line| !line.starts_with(';')).collect();
        assert_eq!(ours, theirs);
    }
}

#[test]
fn headers_tell_versions_and_settings() {
    for (major, minor, lowest) in MAJORS {
        let toc = toc(&format!("{major}-none.dump"));
        assert_eq!(toc.format, (1, minor, 0));
        assert_eq!(toc.lowest_pg_restore(), lowest);
        assert_eq!(toc.compression, InnerCompression::None);
        assert!(toc.server_version.starts_with(&format!("{major}.")));
        assert!(toc.dump_version.starts_with(&format!("{major}.")));
        assert_eq!(toc.database.lossy(), "nasty");
        assert_eq!(toc.encoding().as_deref(), Some("UTF8"));
        assert_eq!(toc.std_strings(), Some(true));
        assert!(toc.created.0 >= 2025 && (1..=12).contains(&toc.created.1) && (1..=31).contains(&toc.created.2));
        let relkinds: BTreeSet<_> = toc.entries.iter().filter_map(|entry| entry.relkind).collect();
        assert_eq!(relkinds.into_iter().collect::<String>(), if minor < 16 { "" } else { "mprv" });
        let heap = toc.entries.iter().filter(|entry| entry.access_method.as_ref().is_some_and(|name| name == "heap"));
        assert_eq!(heap.count(), 8);
    }
}

#[test]
fn entries_tell_columns_sequences_and_large_objects() {
    for (major, ..) in MAJORS {
        let toc = toc(&format!("{major}-none.dump"));
        let columns = |tag: &str| {
            let entry = toc.data_entries().find(|entry| &entry.tag == tag).unwrap();
            copy_columns(entry).map(|columns| String::from_utf8(columns.to_vec()).unwrap())
        };
        assert_eq!(columns("customer").unwrap(), "id, name, status, feeling, photo");
        assert_eq!(columns("two\nlines (t)").unwrap(), r#""a)", "b"", c", "ünï""#);
        assert_eq!(columns("empty").unwrap(), "id");
        assert_eq!(columns("no_columns"), None);
        assert_eq!(columns("all_generated"), None);

        let odd = toc.data_entries().find(|entry| &entry.tag == "two\nlines (t)").unwrap();
        assert_eq!(copy_target(odd), Some(("S.x".into(), "two\nlines (t)".into())));
        // Hash partitions by an enum are loaded through their root.
        let part = toc.data_entries().find(|entry| &entry.tag == "vote0").unwrap();
        assert_eq!(copy_target(part), Some(("public".into(), "vote".into())));

        let sequences = toc.entries.iter().filter_map(sequence_set);
        let sequences: Vec<_> = sequences.map(|set| (set.name.lossy(), set.last_value, set.is_called)).collect();
        let expected = [("customer_id_seq", 43, true), ("it's \"s\"", 6, true), ("untouched", -3, false)];
        assert_eq!(sequences, expected.map(|(name, value, called)| (name.to_owned(), value, called)));

        let mut oids: Vec<_> = toc.entries.iter().filter_map(large_object_oids).flatten().collect();
        oids.sort_unstable();
        assert_eq!(oids, [16001, 16002, 16003, 3_000_000_001]);
    }
}

#[test]
fn offsets_in_files_are_where_the_blocks_begin() {
    for (major, ..) in MAJORS {
        let mut decoder = Decoder::new();
        decoder.push(&fixture(&format!("{major}-file.dump")));
        let mut blocks = 0;
        while let Some(event) = decoder.next_event().unwrap() {
            if let Event::DataStarted { dump_id } = event {
                let begin = decoder.offset() - 6;
                assert_eq!(decoder.toc().unwrap().entry(dump_id).unwrap().offset, DataOffset::At(begin));
                blocks += 1;
            }
        }
        decoder.finish().unwrap();
        let toc = toc(&format!("{major}-none.dump"));
        assert_eq!(toc.data_entries().count(), blocks);
        assert!(toc.data_entries().all(|entry| entry.offset == DataOffset::NotSet));
    }
}

#[test]
fn every_archive_cut_short_is_refused() {
    for (major, ..) in MAJORS {
        for compression in ["none", "gzip"] {
            let bytes = fixture(&format!("{major}-{compression}.dump"));
            for end in (0..bytes.len()).step_by(7) {
                let last = ArchiveReader::new(&bytes[..end]).last();
                assert!(matches!(last, Some(Err(_))), "{major} {compression} cut at {end}");
            }
        }
    }
}

#[test]
fn a_faithful_restore_has_the_same_schema() {
    for (major, ..) in MAJORS {
        let source = schema_lines(&toc(&format!("{major}-none.dump")));
        let restored = schema_lines(&toc(&format!("{major}-restored.dump")));
        for (was, is) in source.iter().zip(&restored) {
            let text = |item: &SchemaItem| String::from_utf8_lossy(&item.text).into_owned();
            assert_eq!(was, is, "{major} {}:\n{}\n{}", was.desc, text(was), text(is));
        }
        assert_eq!(source.len(), restored.len());
    }
}

#[test]
fn stories_of_all_majors_have_the_same_payload() {
    let tables = |story: Story| -> Vec<Vec<u8>> {
        let text = |told| match told {
            Told::Table { text, .. } => Some(text),
            Told::LargeObjects { .. } => None,
        };
        story.blocks.into_iter().filter_map(text).collect()
    };
    let first = tables(read(fixture("15-none.dump").as_slice()));
    for (major, ..) in MAJORS {
        assert!(tables(read(fixture(&format!("{major}-none.dump")).as_slice())) == first, "{major}");
    }
}
