//! Every byte of an archive and of the globals.

use pgkeep_archive::{Decoder, Event};
use pgkeep_core::{ErrorKind, LargeObjectHasher, RowHasher, Tally, VerifyDepth};

use super::repository::{Repository, all};

/// What became of altering every byte of an object.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    altered: usize,
    /// Reading some of it alone did not notice, and gave what was dumped: the bytes of others' frames, and those that mean nothing.
    harmless: usize,
    /// Reading some of it alone gave something else, which its fingerprint tells.
    told_by_fingerprint: usize,
}

/// Both tables and the large objects.
const WANTED: [i32; 3] = [10, 14, 15];

/// Tables and large objects in a plain archive, as far as it can be parsed.
fn tallies(plain: &[u8], key: pgkeep_core::FingerprintKey) -> Option<Vec<(i32, Tally)>> {
    let mut decoder = Decoder::new();
    decoder.push(plain);
    let (mut found, mut rows, mut object, mut objects) = (Vec::new(), None, None, Tally::default());
    while let Some(event) = decoder.next_event().ok()? {
        match event {
            Event::DataStarted { .. } => {
                (rows, objects) = (Some(RowHasher::new(key)), Tally::default());
            }
            Event::Data { bytes, .. } => rows.as_mut()?.update(&bytes),
            Event::LargeObjectStarted { oid, .. } => object = Some(LargeObjectHasher::new(&key, oid)),
            Event::LargeObjectData { bytes, .. } => object.as_mut()?.update(&bytes),
            Event::LargeObjectFinished { .. } => objects += object.take()?.finish(),
            Event::DataFinished { dump_id } => {
                let mut tally = rows.take()?.finish().ok()?;
                tally += objects;
                found.push((dump_id, tally));
            }
            Event::Toc(_) => {}
        }
    }
    decoder.finish().ok()?;
    Some(found)
}

/// Alters a bit of every `step`th byte of the archive and looks at it in every way there is.
async fn altered(compression: &str, encrypted: bool, step: usize) -> Outcome {
    let repository = Repository::new(compression, encrypted).await;
    let sound = repository.objects[&repository.archive].to_vec();
    let key = repository.opened(&repository.objects).await.source().unwrap().meta.unwrap().fingerprint_key;
    let expected = tallies(&repository.plain, key).unwrap();
    let mut outcome = Outcome::default();
    for at in (0..sound.len()).step_by(step) {
        let what = format!("{compression}, encrypted {encrypted}, byte {at} of {}", sound.len());
        let mut bytes = sound.clone();
        bytes[at] ^= 1 << (at % 8);
        let opened = repository.opened(&repository.with(&repository.archive, bytes)).await;
        if outcome.altered % 8 == 0 {
            assert!(opened.verify(VerifyDepth::Quick).await.is_empty(), "{what}: it is there and of the right size");
            assert!(!opened.verify(VerifyDepth::Stored).await.is_empty(), "{what}");
        }
        assert!(!opened.verify(VerifyDepth::Deep).await.is_empty(), "{what}");
        let source = opened.source().unwrap();
        let error = all(source.open(2).await).await.expect_err(&what);
        assert_eq!(error.kind(), ErrorKind::Damaged, "{what}: {error}");
        outcome.altered += 1;
        for dump_id in WANTED {
            let Ok(some) = all(source.open_entries(&[dump_id], 2).await).await else { continue };
            let found = tallies(&some, key);
            if found.as_ref().is_some_and(|found| found.iter().all(|tally| expected.contains(tally))) {
                outcome.harmless += 1;
            } else {
                outcome.told_by_fingerprint += 1;
            }
        }
    }
    outcome
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_altered_byte_of_an_archive_is_found_and_never_read_as_what_was_dumped() {
    for (compression, encrypted, step) in [
        ("zstd:1", false, 1),
        ("gzip:6", false, 1),
        ("lz4", false, 5),
        ("none", false, 5),
        // Decryption is slow without optimisation.
        ("zstd:1", true, 17),
        ("gzip:6", true, 53),
    ] {
        let outcome = altered(compression, encrypted, step).await;
        assert!(outcome.altered > 20, "{outcome:?}");
        if compression == "none" {
            assert!(outcome.told_by_fingerprint > 0, "nothing else tells where frames have no checksum");
        } else {
            assert_eq!(outcome.told_by_fingerprint, 0, "{compression}: each frame has a checksum, each chunk a seal");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_length_an_archive_or_its_globals_can_be_cut_to_is_found_without_reading_them() {
    let repository = Repository::new("zstd:1", false).await;
    for key in [repository.archive.clone(), repository.key("globals.sql.zst")] {
        let sound = repository.objects[&key].clone();
        for length in 0..sound.len() {
            let opened = repository.opened(&repository.with(&key, sound.slice(..length))).await;
            assert!(!opened.verify(VerifyDepth::Quick).await.is_empty(), "{key} cut to {length}");
            assert!(length % 16 != 0 || !opened.verify(VerifyDepth::Deep).await.is_empty(), "{key} cut to {length}");
            if key == repository.archive {
                assert!(!opened.entry().unwrap().good(), "cut to {length}: the listing tells");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_altered_byte_of_the_globals_is_found() {
    for (encrypted, step) in [(false, 1), (true, 11)] {
        let repository = Repository::new("zstd:1", encrypted).await;
        let key = repository.key(if encrypted { "globals.sql.zst.age" } else { "globals.sql.zst" });
        let sound = repository.objects[&key].to_vec();
        for at in (0..sound.len()).step_by(step) {
            let mut bytes = sound.clone();
            bytes[at] ^= 1 << (at % 8);
            let opened = repository.opened(&repository.with(&key, bytes)).await;
            for depth in [VerifyDepth::Stored, VerifyDepth::Deep] {
                assert!(!opened.verify(depth).await.is_empty(), "byte {at} by {depth:?}");
            }
            let error = opened.source().unwrap().globals().await.expect_err("a restore refuses them");
            assert_eq!(error.kind(), ErrorKind::Damaged, "byte {at}: {error}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_that_changed_places_or_came_twice_are_found() {
    for compression in ["zstd:1", "gzip:6", "lz4", "none"] {
        let repository = Repository::new(compression, false).await;
        let meta = repository.meta();
        let ends = meta.frames.stored_offsets();
        let sound = &repository.objects[&repository.archive];
        let frames: Vec<_> = ends.windows(2).map(|pair| sound.slice(pair[0] as usize..pair[1] as usize)).collect();
        let order = |numbers: &[usize]| -> Vec<u8> { numbers.iter().flat_map(|&n| frames[n].to_vec()).collect() };
        let straight: Vec<usize> = (0..frames.len()).collect();
        let mut orders = Vec::new();
        for one in 0..frames.len() {
            for other in one + 1..frames.len() {
                let mut swapped = straight.clone();
                swapped.swap(one, other);
                orders.push(swapped);
            }
            let mut without = straight.clone();
            without.remove(one);
            let twice = [&straight[..=one], &straight[one..]].concat();
            let mut instead = straight.clone();
            instead[one] = (one + 1) % frames.len();
            orders.extend([without, twice, instead]);
        }
        for numbers in orders {
            let opened = repository.opened(&repository.with(&repository.archive, order(&numbers))).await;
            for depth in [VerifyDepth::Stored, VerifyDepth::Deep] {
                assert!(!opened.verify(depth).await.is_empty(), "{compression}, frames {numbers:?} by {depth:?}");
            }
            let error = all(opened.source().unwrap().open(2).await).await.expect_err("a restore refuses it");
            assert_eq!(error.kind(), ErrorKind::Damaged, "{compression}, frames {numbers:?}: {error}");
        }
    }
}
