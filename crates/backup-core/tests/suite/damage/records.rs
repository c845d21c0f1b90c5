//! Every bit of the small objects: metas, proofs, marks, source.json, locks.

use bytes::Bytes;
use pgkeep_core::{Keep, Meta, VerifyDepth};

use super::repository::Repository;

/// Where in a meta the name of its digest stands. Altered, it is a key that nobody knows; what the meta says is whole then.
fn key_of_digest(json: &[u8]) -> std::ops::Range<usize> {
    let at = String::from_utf8_lossy(json).rfind("self_sha256").expect("a digest");
    at..at + "self_sha256".len()
}

/// Every bit of these bytes altered in turn.
fn each_bit(sound: &[u8], mut look: impl FnMut(usize, &[u8])) {
    let mut bytes = sound.to_vec();
    for at in 0..sound.len() {
        for bit in 0..8 {
            bytes[at] ^= 1 << bit;
            look(at, &bytes);
            bytes[at] = sound[at];
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_altered_bit_of_a_meta_makes_it_unreadable_or_changes_nothing_that_it_says() {
    for encrypted in [false, true] {
        let repository = Repository::new("zstd:1", encrypted).await;
        let sound = &repository.objects[&repository.meta_key()];
        let (whole, key) = (repository.meta(), key_of_digest(sound));
        each_bit(sound, |at, bytes| {
            assert!(!Meta::is_foreign(bytes), "byte {at}: it is not taken for another program's");
            match Meta::from_json("the meta", bytes) {
                Err(_) => {}
                Ok(meta) => assert!(key.contains(&at) && meta == whole, "byte {at} is not noticed"),
            }
        });
        for length in 0..sound.len() {
            // The digest's line ends with a line feed; without it the meta is not as it was written either.
            assert!(Meta::from_json("the meta", &sound[..length]).is_err(), "cut to {length}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_altered_meta_is_told_of_and_its_backup_is_none() {
    let repository = Repository::new("zstd:1", false).await;
    let sound = repository.objects[&repository.meta_key()].to_vec();
    let key = key_of_digest(&sound);
    for at in (0..sound.len()).step_by(3).filter(|at| !key.contains(at)) {
        let mut bytes = sound.clone();
        bytes[at] ^= 1 << (at % 8);
        let opened = repository.opened(&repository.with(&repository.meta_key(), bytes)).await;
        assert!(opened.entry().is_none(), "byte {at}");
        let told: Vec<_> = opened.catalog.unreadable.iter().map(|unreadable| unreadable.key.clone()).collect();
        assert_eq!(told, [repository.meta_key()], "byte {at}");
        assert!(opened.catalog.adoptable.is_empty(), "byte {at}: it has a meta, of whatever state");
    }
}

/// What a catalog makes of a repository with one object altered: proofs as they are read, and whether the record is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_altered_proof_or_record_is_told_of_or_says_the_same() {
    let repository = Repository::new("zstd:1", false).await;
    let sound = repository.opened(&repository.objects).await;
    for end in ["_deep.json", "source.json"] {
        let key = repository.key(end);
        let bytes = repository.objects[&key].to_vec();
        let digest = key_of_digest(&bytes);
        for at in 0..bytes.len() {
            let mut altered = bytes.clone();
            altered[at] ^= 1 << (at % 8);
            let opened = repository.opened(&repository.with(&key, altered)).await;
            let entry = opened.entry().expect("the backup is not touched by it");
            assert!(entry.good(), "{key}, byte {at}");
            if opened.catalog.unreadable.is_empty() {
                assert!(digest.contains(&at), "{key}, byte {at} is not noticed");
                assert_eq!(entry.proofs, sound.entry().unwrap().proofs, "{key}, byte {at}");
                assert_eq!(opened.catalog.source, sound.catalog.source, "{key}, byte {at}");
            } else {
                assert_eq!(opened.catalog.unreadable[0].key, key, "byte {at}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_of_another_backup_are_not_taken_for_its_own() {
    let (repository, other) = (Repository::new("zstd:1", false).await, Repository::new("zstd:1", false).await);
    // Both have the same names; their archives differ in nothing but the meta's key of fingerprints.
    let globals = repository.key("globals.sql.zst");
    let mut foreign = other.objects[&globals].to_vec();
    foreign.extend_from_slice(b"\n");
    for (key, bytes) in [
        (globals, Bytes::from(foreign)),
        (repository.archive.clone(), repository.objects[&repository.meta_key()].clone()),
        (repository.archive.clone(), Bytes::new()),
    ] {
        let opened = repository.opened(&repository.with(&key, bytes)).await;
        for depth in [VerifyDepth::Quick, VerifyDepth::Stored, VerifyDepth::Deep] {
            assert!(!opened.verify(depth).await.is_empty(), "{key} by {depth:?}");
        }
    }
    // The meta of another run of the same name: its fingerprints are under another key.
    let meta = other.objects[&other.meta_key()].clone();
    let opened = repository.opened(&repository.with(&repository.meta_key(), meta)).await;
    let Keep { good, .. } = opened.entry().expect("it names this archive").keep(0);
    assert!(good, "by its size it may be");
    assert!(opened.verify(VerifyDepth::Deep).await.is_empty(), "and what it says holds: the same data were dumped");
}
