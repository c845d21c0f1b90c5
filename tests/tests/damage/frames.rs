//! An archive of several frames: damage in each kind of them, and frames that changed places.

use std::path::Path;

use pgkeep_core::Meta;
use pgkeep_testkit::contents;

use crate::alteration::Object;
use crate::ground::{Ground, Kind};

/// Much plain text and little of it stored: frames hold about 4 MiB.
const LOG: &str = "
    CREATE TABLE log (id int, line text);
    INSERT INTO log SELECT n, repeat(n::text || ' ', 200) FROM generate_series(1, 11000) n";

/// Where the frames of a stored archive begin, and its end.
fn frames(archive: &Path) -> (Vec<usize>, Meta) {
    let json = std::fs::read(format!("{}.meta", archive.display())).unwrap();
    let meta = Meta::from_json("the meta", &json).unwrap();
    (meta.frames.stored_offsets().into_iter().map(|offset| offset as usize).collect(), meta)
}

#[test]
fn damage_in_any_frame_is_refused_and_what_lies_in_others_still_comes_back_alone() {
    let ground = Ground::with("frames", Kind { compression: "zstd:1", encrypted: false }, LOG);
    let (sound, _) = ground.copy().files(Object::Archive);
    let repository = ground.copy();
    let (archive, _) = repository.files(Object::Archive);
    assert_eq!(sound.file_name(), archive.file_name());
    let (ends, meta) = frames(&archive);
    let bytes = std::fs::read(&archive).unwrap();
    let count = ends.len() - 1;
    assert!(count >= 4, "{ends:?}");
    let id_of = |table: &str| meta.entries.iter().find(|entry| entry.name == table).unwrap().dump_id;
    let log = meta.entry_frames(id_of("log")).unwrap();
    assert!(log.len() >= 2, "{log:?}");
    let large_objects = meta.entry_frames(meta.large_objects.blocks[0].dump_id).unwrap();
    let customers = meta.entry_frames(id_of("customers")).unwrap();
    let order =
        |numbers: &[usize]| -> Vec<u8> { numbers.iter().flat_map(|&n| bytes[ends[n]..ends[n + 1]].to_vec()).collect() };
    let flipped = |frame: usize| {
        let mut bytes = bytes.clone();
        bytes[usize::midpoint(ends[frame], ends[frame + 1])] ^= 4;
        bytes
    };
    let straight: Vec<usize> = (0..count).collect();
    let (mut swapped, mut without) = (straight.clone(), straight.clone());
    swapped.swap(log.start, log.start + 1);
    without.remove(log.start);
    let twice = [&straight[..=log.start], &straight[log.start..]].concat();

    // In whose frames the damage lies, where it is in one.
    let cases = [
        ("in the table of contents", flipped(0), vec![0]),
        ("in a table's frame", flipped(log.start + 1), vec![log.start + 1]),
        ("in the large objects' frame", flipped(large_objects.start), vec![large_objects.start]),
        ("in the last frame", flipped(count - 1), vec![count - 1]),
        ("two frames of a table swapped", order(&swapped), vec![log.start, log.start + 1]),
        ("a frame left out", order(&without), (log.start..count).collect()),
        ("a frame there twice", order(&twice), (log.start + 1..count).collect()),
    ];
    let server = ground.source.server();
    let live = contents(server, &ground.source);
    for (what, damaged, hit) in cases {
        assert_ne!(damaged, bytes, "{what}");
        std::fs::write(&archive, damaged).unwrap();
        let deep = repository.pgkeep(&["verify", &ground.newest, "--deep"]);
        assert_eq!(deep.code, Some(4), "{what}: {deep}");
        let target = ground.target();
        let restore = repository.pgkeep(&["restore", &ground.newest, "--target-db", &target, "--yes"]);
        assert_eq!(restore.code, Some(4), "{what}: {restore}");
        assert!(!ground.source.relatives().contains(&target), "{what}: nothing is left half made");
        // One table: its frames only, and those of the table of contents.
        for (table, its) in [("public.log", &log), ("public.customers", &customers)] {
            let needs = |frame: &usize| its.contains(frame) || *frame == 0;
            let one =
                repository.pgkeep(&["restore", &ground.newest, "--target-db", &target, "--table", table, "--yes"]);
            let there = ground.source.relatives().contains(&target);
            if hit.iter().any(needs) {
                assert_eq!((one.code, there), (Some(4), false), "{what}, {table}: {one}");
            } else {
                assert_eq!((one.code, there), (Some(0), true), "{what}, {table}: {one}");
                let restored = contents(server, &target);
                assert_eq!(restored.get(table), live.get(table), "{what}: {:?}", restored.keys());
                server.psql("postgres", &format!("DROP DATABASE {target}"));
            }
        }
    }
    assert_eq!(contents(server, &ground.source), live, "the live database");
}
