//! Blocks hold what was written, and say exactly where.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod story;

use std::sync::Arc;

use bytes::Bytes;
use pgkeep_archive::{
    Block, BlockWriter, Content, DataOffset, Decoder, Event, InnerCompression, SyntheticArchive, Toc, patch_offsets,
    rows,
};
use proptest::prelude::*;
use story::{Story, Told, archive, read};

/// An archive written anew in blocks.
fn rewrite(archive: &[u8], piece: usize, target: usize) -> (Arc<Toc>, Vec<Block>) {
    let mut decoder = Decoder::new();
    let mut writer = BlockWriter::new(target);
    let mut blocks = Vec::new();
    for piece in archive.chunks(piece) {
        decoder.push(piece);
        while let Some(event) = decoder.next_event().unwrap() {
            writer.event(&event).unwrap();
            blocks.extend(std::iter::from_fn(|| writer.take()));
        }
    }
    decoder.finish().unwrap();
    writer.finish().unwrap();
    blocks.extend(std::iter::from_fn(|| writer.take()));
    assert!(writer.take().is_none());
    (Arc::clone(decoder.toc().unwrap()), blocks)
}

fn joined(blocks: &[Block]) -> Vec<u8> {
    blocks.iter().flat_map(|block| block.bytes.iter().copied()).collect()
}

/// The story that the segments tell, checked for what their words mean.
fn told_by_segments(blocks: &[Block]) -> Vec<Told> {
    let mut told: Vec<Told> = Vec::new();
    for block in blocks {
        let mut marks: Vec<(u32, u8, i32)> = block.begins.iter().map(|&(id, at)| (at, 2, id)).collect();
        marks.extend(block.ends.iter().map(|&(id, at)| (at, 0, id)));
        marks.sort_unstable();
        let mut marks = marks.into_iter().peekable();
        let mut last_end = 0;
        let mut pass = |until: u32, told: &mut Vec<Told>| {
            while let Some((at, kind, id)) = marks.next_if(|mark| mark.0 <= until) {
                assert!(at as usize <= block.bytes.len());
                if kind == 2 {
                    told.push(match block.bytes[at as usize] {
                        1 => Told::Table { dump_id: id, text: Vec::new(), ended: false },
                        3 => Told::LargeObjects { dump_id: id, objects: Vec::new(), ended: false },
                        other => panic!("block type {other}"),
                    });
                } else {
                    let (Told::Table { dump_id, ended, .. } | Told::LargeObjects { dump_id, ended, .. }) =
                        told.last_mut().unwrap();
                    assert_eq!((*dump_id, *ended), (id, false));
                    *ended = true;
                }
            }
        };
        for segment in &block.segments {
            assert!(segment.range.start >= last_end, "segments lie in order");
            last_end = segment.range.end;
            pass(segment.range.start, &mut told);
            let payload = &block.bytes[segment.range.start as usize..segment.range.end as usize];
            match (segment.content, told.last_mut().unwrap()) {
                (Content::Rows, Told::Table { dump_id, text, ended: false }) => {
                    assert_eq!(*dump_id, segment.dump_id);
                    assert!(text.last().is_none_or(|last| *last == b'\n'), "rows begin at a row");
                    assert_eq!(payload.last(), Some(&b'\n'), "rows end at a row");
                    text.extend_from_slice(payload);
                }
                (Content::RowPart { first, last }, Told::Table { dump_id, text, ended: false }) => {
                    assert_eq!(*dump_id, segment.dump_id);
                    assert_eq!(text.last().is_none_or(|last| *last == b'\n'), first);
                    let line_feed = payload.iter().position(|byte| *byte == b'\n');
                    assert_eq!(line_feed, last.then_some(payload.len() - 1));
                    text.extend_from_slice(payload);
                }
                (Content::LargeObject { oid, offset, last }, Told::LargeObjects { dump_id, objects, ended: false }) => {
                    assert_eq!(*dump_id, segment.dump_id);
                    if offset == 0 {
                        objects.push((oid, Vec::new(), None));
                    }
                    let (of, content, length) = objects.last_mut().unwrap();
                    assert_eq!((*of, content.len() as u64, *length), (oid, offset, None));
                    assert!(!payload.is_empty() || offset == 0 && last);
                    content.extend_from_slice(payload);
                    *length = last.then_some(content.len() as u64);
                }
                other => panic!("{other:?}"),
            }
        }
        pass(u32::MAX, &mut told);
    }
    told
}

/// What is promised about where blocks are cut.
fn check_cuts(blocks: &[Block], target: usize) {
    let target = target.max(64);
    let chunk = target.min(256 << 10);
    for (position, block) in blocks.iter().enumerate() {
        assert!(!block.bytes.is_empty());
        assert!(block.bytes.len() <= target + 2 * chunk + 64, "{} bytes for {target}", block.bytes.len());
        for segment in &block.segments {
            assert!(segment.range.len() <= chunk);
        }
        let last = block.segments.last().map(|segment| segment.dump_id);
        let goes_on = last.filter(|id| block.ends.iter().all(|end| end.0 != *id));
        if let Some(dump_id) = goes_on {
            // A big entry: alone in its blocks, beginning each of them, at rows unless one row fills it.
            assert!(block.segments.iter().all(|segment| segment.dump_id == dump_id));
            assert!(block.begins.iter().all(|&begin| begin == (dump_id, 0)));
            let next = &blocks[position + 1];
            assert_eq!(next.entry(), Some(dump_id));
            assert!(next.segments.iter().all(|segment| segment.dump_id == dump_id));
            if !next.row_aligned() {
                let parts = |segment: &&pgkeep_archive::Segment| matches!(segment.content, Content::RowPart { .. });
                assert_eq!(block.segments.iter().filter(parts).count(), block.segments.len());
                assert!(block.bytes.len() >= target);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn what_is_written_anew_is_the_same(
        archive in archive(),
        piece in prop_oneof![1..200_usize, 100..100_000_usize],
        target in prop_oneof![1..200_usize, 100..5_000_usize, 5_000..300_000_usize, Just(4 << 20)],
    ) {
        let (toc, blocks) = rewrite(&archive.bytes(), piece, target);
        let story = archive.story();
        let whole = joined(&blocks);
        prop_assert_eq!(&read(whole.as_slice()), &story);
        prop_assert_eq!(&told_by_segments(&blocks), &story.blocks);
        check_cuts(&blocks, target);
        prop_assert_eq!(&whole[..toc.raw.len()], &toc.plain()[..]);
        prop_assert_eq!(Toc::parse(toc.plain()).unwrap().compression, InnerCompression::None);

        // The same pieces give the same blocks; and so does what was written, written again.
        let (_, again) = rewrite(&whole, whole.len(), target);
        prop_assert!(joined(&again) == whole);
    }

    #[test]
    fn stretches_that_others_write_make_the_same_archive(
        archive in archive(),
        target in prop_oneof![1..200_usize, 100..5_000_usize, Just(4 << 20)],
        cuts in prop::collection::vec(any::<bool>(), 1..50),
    ) {
        let mut decoder = Decoder::new();
        decoder.push(&archive.bytes());
        let Some(Event::Toc(toc)) = decoder.next_event().unwrap() else { panic!() };
        let mut cuts = cuts.iter().copied().cycle();
        let mut blocks = Vec::new();
        let mut finish = |writer: &mut BlockWriter| {
            writer.finish_stretch().unwrap();
            blocks.extend(std::iter::from_fn(|| writer.take()));
        };
        let mut writer = BlockWriter::new(target);
        writer.toc(&toc).unwrap();
        finish(&mut writer);
        let due = |told: &Told| match told {
            Told::Table { dump_id, .. } | Told::LargeObjects { dump_id, .. } => toc.entry(*dump_id).unwrap(),
        };
        let story = archive.story();
        let mut entries = story.blocks.iter().peekable();
        // A stretch holds some whole entries, or a part of one.
        let mut writer = BlockWriter::stretch(target, entries.peek().map(|told| due(told)), false);
        while let Some(told) = entries.next() {
            let entry = due(told);
            writer.start(entry.dump_id).unwrap();
            let mut part = |writer: &mut BlockWriter| {
                if cuts.next().unwrap() {
                    finish(writer);
                    *writer = BlockWriter::stretch(target, [entry], true);
                }
            };
            match told {
                Told::Table { text, .. } => {
                    for row in text.split_inclusive(|&byte| byte == b'\n') {
                        part(&mut writer);
                        writer.data_slice(row).unwrap();
                    }
                }
                Told::LargeObjects { objects, .. } => {
                    for (oid, content, _) in objects {
                        part(&mut writer);
                        writer.start_large_object(*oid).unwrap();
                        writer.large_object_slice(content).unwrap();
                        writer.finish_large_object().unwrap();
                    }
                }
            }
            part(&mut writer);
            writer.finish_entry().unwrap();
            finish(&mut writer);
            writer = BlockWriter::stretch(target, entries.peek().map(|told| due(told)), false);
        }
        prop_assert_eq!(&read(joined(&blocks).as_slice()), &story);
        prop_assert_eq!(&told_by_segments(&blocks), &story.blocks);
    }

    #[test]
    fn begins_are_what_offsets_need(archive in archive(), target in 1..10_000_usize) {
        let (toc, blocks) = rewrite(&archive.bytes(), 1 << 20, target);
        let mut at = 0;
        let mut offsets = Vec::new();
        for block in &blocks {
            offsets.extend(block.begins.iter().map(|&(id, begin)| (id, at + u64::from(begin))));
            at += block.bytes.len() as u64;
        }
        let patched = patch_offsets(&toc.plain(), &offsets).unwrap();
        let file = [&patched, &joined(&blocks)[patched.len()..]].concat();
        let mut decoder = Decoder::new();
        decoder.push_bytes(file.into());
        let mut story = Story::default();
        while let Some(event) = decoder.next_event().unwrap() {
            if let Event::DataStarted { dump_id } = event {
                let entry = decoder.toc().unwrap().entry(dump_id).unwrap();
                prop_assert_eq!(entry.offset, DataOffset::At(decoder.offset() - 6));
            }
            story.add(event);
        }
        decoder.finish().unwrap();
        prop_assert_eq!(story, archive.story());
    }
}

fn table(rows: &[&[u8]]) -> Vec<u8> {
    SyntheticArchive::new(16, InnerCompression::None).table(1, "t", "a", rows).bytes()
}

#[test]
fn chunks_of_small_rows_are_put_together() {
    let row = b"12345\tsome text of a row\t2025-10-17\n";
    let many: Vec<&[u8]> = std::iter::repeat_n(&row[..], 100_000).collect();
    let (_, blocks) = rewrite(&table(&many), 64 << 10, 4 << 20);
    let segments: Vec<_> = blocks.iter().flat_map(|block| &block.segments).collect();
    assert_eq!(segments.len(), (row.len() * 100_000).div_ceil((256 << 10) / row.len() * row.len()));
    assert!(segments.iter().all(|segment| segment.content == Content::Rows && segment.range.len() % row.len() == 0));
    let text = segments.iter().zip([&blocks[0]].into_iter().cycle());
    assert_eq!(
        text.map(|(segment, block)| {
            rows(&block.bytes[segment.range.start as usize..segment.range.end as usize]).count()
        })
        .sum::<usize>(),
        100_000
    );
}

#[test]
fn a_row_that_fits_a_block_is_never_parted_between_blocks() {
    let small = vec![b"small\n".as_slice(); 5];
    let long = [vec![b'x'; 700_000], b"\n".to_vec()].concat();
    let mut all: Vec<&[u8]> = Vec::new();
    for _ in 0..10 {
        all.extend(&small);
        all.push(&long);
    }
    let (_, blocks) = rewrite(&table(&all), 64 << 10, 1 << 20);
    assert!(blocks.len() > 5);
    assert!(blocks.iter().all(Block::row_aligned));
    check_cuts(&blocks, 1 << 20);
}

#[test]
fn a_row_longer_than_a_block_comes_in_parts() {
    let long = [vec![b'x'; 3_000_000], b"\n".to_vec()].concat();
    let (_, blocks) = rewrite(&table(&[b"before\n", &long, b"after\n"]), 64 << 10, 1 << 20);
    let aligned: Vec<_> = blocks.iter().filter(|block| !block.segments.is_empty()).map(Block::row_aligned).collect();
    assert_eq!(aligned, [true, true, false, false]);
    check_cuts(&blocks, 1 << 20);
}

#[test]
fn small_entries_share_a_block_and_big_ones_do_not() {
    let row = [vec![b'x'; 999], b"\n".to_vec()].concat();
    let big: Vec<&[u8]> = std::iter::repeat_n(&row[..], 250).collect();
    let mut archive = SyntheticArchive::new(16, InnerCompression::None);
    for id in 1..=30 {
        if id == 10 || id == 20 {
            archive.table(id, "big", "a", &big);
        } else {
            archive.table(id, "small", "a", &big[..3]);
        }
    }
    let (_, blocks) = rewrite(&archive.bytes(), 64 << 10, 100_000);
    let ids = |block: &Block| block.begins.iter().map(|begin| begin.0).collect::<Vec<_>>();
    let begins: Vec<_> = blocks.iter().map(ids).collect();
    assert_eq!(begins[0], (1..=9).collect::<Vec<_>>());
    assert_eq!(begins[1..4], [vec![10], vec![], vec![]]);
    assert_eq!(begins[4], (11..=19).collect::<Vec<_>>());
    assert_eq!(begins[5..8], [vec![20], vec![], vec![]]);
    assert_eq!(begins[8], (21..=30).collect::<Vec<_>>());
}

#[test]
fn a_stretch_ends_between_rows_only() {
    let bytes = SyntheticArchive::new(16, InnerCompression::None).table(1, "t", "a", &[]).bytes();
    let mut decoder = Decoder::new();
    decoder.push(&bytes);
    let Some(Event::Toc(toc)) = decoder.next_event().unwrap() else { panic!() };
    for text in [&b"half"[..], b"whole\nhalf"] {
        let mut writer = BlockWriter::stretch(1000, toc.data_entries(), true);
        writer.data_slice(text).unwrap();
        assert!(writer.finish_stretch().is_err());
        writer.data_slice(b" and the rest\n").unwrap();
        writer.finish_stretch().unwrap();
        assert_eq!(writer.take().unwrap().segments.len(), 1);
    }
}

#[test]
fn calls_out_of_order_are_refused_by_name() {
    let bytes = SyntheticArchive::new(16, InnerCompression::None).table(1, "t", "a", &[]).large_objects(2, &[]).bytes();
    let mut decoder = Decoder::new();
    decoder.push(&bytes);
    let Some(Event::Toc(toc)) = decoder.next_event().unwrap() else { panic!() };
    let row = Bytes::from_static(b"1\n");
    let mut writer = BlockWriter::new(1000);
    let refusal = |outcome: pgkeep_archive::Result<()>| outcome.unwrap_err().to_string();
    let refused = |what: &str| format!("archive cannot be written: {what}");

    assert_eq!(refusal(writer.start(1)), refused("the beginning of entry 1 came before the table of contents"));
    writer.toc(&toc).unwrap();
    assert_eq!(refusal(writer.start(2)), refused("the beginning of entry 2 came where entry 1 is due"));
    assert_eq!(refusal(writer.data(row.clone())), refused("table data came where entry 1 is due"));
    assert_eq!(refusal(writer.finish()), refused("the end of the archive came where entry 1 is due"));
    writer.start(1).unwrap();
    assert_eq!(refusal(writer.start_large_object(7)), refused("the beginning of large object 7 came in entry 1"));
    writer.data(Bytes::from_static(b"half a row")).unwrap();
    assert_eq!(refusal(writer.finish_entry()), refused("the end of an entry inside a row came in entry 1"));
    writer.data(row.clone()).unwrap();
    writer.finish_entry().unwrap();
    writer.start(2).unwrap();
    assert_eq!(refusal(writer.data(row)), refused("table data came in entry 2"));
    writer.start_large_object(7).unwrap();
    assert_eq!(refusal(writer.finish_entry()), refused("the end of an entry came in large object 7"));
    writer.finish_large_object().unwrap();
    writer.finish_entry().unwrap();
    assert_eq!(refusal(writer.start(1)), refused("the beginning of entry 1 came where the archive is due to end"));
    writer.finish().unwrap();
    assert_eq!(refusal(writer.finish()), refused("the end of the archive came after the end of the archive"));
}
