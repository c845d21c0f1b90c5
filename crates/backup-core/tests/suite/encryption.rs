//! Encrypted backups: what lies in the stores tells nothing, and comes back with any of the keys.

use std::sync::Arc;

use pgkeep_archive::SyntheticArchive;
use pgkeep_core::{
    AdoptOptions, BackupOptions, BackupSource, Catalog, CatalogEntry, Error, ErrorKind, Identities, KeyPair,
    PlainArchive, Recipients, VerifyDepth,
};
use pgkeep_storage::{Key, StorageExt};
use secrecy::ExposeSecret;

use crate::fake::{FakeDump, rows, sample, table};
use crate::world::{World, bytes, keys, options, plain};

/// Names and contents of the sample that must not be readable.
const MARKERS: [&[u8]; 6] = [b"orders", b"nothing", b"small", b"public", b"sekrit", b"CREATE ROLE"];

struct Keys {
    pairs: [KeyPair; 3],
}

impl Keys {
    fn new() -> Self {
        Self { pairs: [KeyPair::generate(), KeyPair::generate(), KeyPair::generate()] }
    }

    /// The first two open it.
    fn recipients(&self) -> Recipients {
        Recipients::parse(self.pairs[..2].iter().map(|pair| pair.recipient.as_str())).unwrap()
    }

    fn identities(&self, index: usize) -> Identities {
        Identities::parse(self.pairs[index].identity.expose_secret()).unwrap()
    }
}

async fn all(mut archive: PlainArchive) -> Result<Vec<u8>, Error> {
    let mut plain = Vec::new();
    while let Some(piece) = archive.next().await? {
        plain.extend_from_slice(&piece);
    }
    Ok(plain)
}

fn encrypted(compression: &str, recipients: Recipients) -> BackupOptions {
    BackupOptions { encryption: Some(recipients), ..options(compression) }
}

async fn backed_up(compression: &str, keys: &Keys) -> (World, FakeDump, CatalogEntry) {
    let (world, engine) = (World::new(), FakeDump::new(&sample()));
    world.keeper.backup(&engine, &encrypted(compression, keys.recipients())).await.unwrap();
    let entry = world.only().await;
    (world, engine, entry)
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_readable_at_rest_and_either_key_brings_it_back() {
    for compression in ["zstd:3", "gzip:1", "lz4", "none"] {
        let pairs = Keys::new();
        let (mut world, engine, entry) = backed_up(compression, &pairs).await;
        assert!(entry.meta.is_sealed() && entry.good());
        for storage in [&world.bucket, &world.local] {
            for key in keys(storage).await {
                let object = bytes(storage, &key).await;
                for marker in MARKERS {
                    assert!(!object.windows(marker.len()).any(|window| window == marker), "{key} {compression}");
                }
                assert!(key.contains(".age"), "{key}");
                assert_eq!(key.ends_with(".age"), object.starts_with(b"age-encryption.org/v1\n"), "{key}");
            }
        }
        let refused = BackupSource::nearest(&world.keeper, &entry).unwrap_err();
        assert!(matches!(&refused, Error::KeyMissing { recipients, .. } if recipients.len() == 2), "{refused}");
        world.keeper.identities = pairs.identities(2);
        let refused = BackupSource::nearest(&world.keeper, &entry).unwrap_err();
        assert!(matches!(&refused, Error::KeyWrong { .. }), "{refused}");
        assert_eq!(refused.kind(), ErrorKind::Usage);

        for index in [0, 1] {
            world.keeper.identities = pairs.identities(index);
            let source = BackupSource::nearest(&world.keeper, &entry).unwrap();
            assert_eq!(all(source.open(3).await.unwrap()).await.unwrap(), plain(&engine), "{compression}");
            assert_eq!(*source.toc().await.unwrap(), *engine.blocks().0);
            assert_eq!(source.globals().await.unwrap(), engine.globals);
            let meta = source.meta.as_ref().unwrap();
            let tables: Vec<i32> = meta.entries.iter().map(|entry| entry.dump_id).collect();
            assert_eq!(tables.len(), 5);
            for table in &tables {
                let reduced = all(source.open_entries(&[*table], 2).await.unwrap()).await.unwrap();
                let whole = meta.entries.iter().find(|entry| entry.dump_id == *table).unwrap();
                assert_eq!(reduced.len() as u64, meta.toc_bytes + whole.plain_bytes);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_look_inside_needs_the_key() {
    let pairs = Keys::new();
    let (mut world, _, entry) = backed_up("zstd:1", &pairs).await;
    for depth in [VerifyDepth::Quick, VerifyDepth::Stored] {
        let reports = world.keeper.verify(&entry, depth).await.unwrap();
        assert!(reports.iter().all(|report| report.findings.is_empty()), "{reports:?}");
    }
    let refused = world.keeper.verify(&entry, VerifyDepth::Deep).await.unwrap_err();
    assert!(matches!(refused, Error::KeyMissing { .. }), "{refused}");
    world.keeper.identities = pairs.identities(1);
    for report in world.keeper.verify(&entry, VerifyDepth::Deep).await.unwrap() {
        assert!(report.findings.is_empty(), "{:?}", report.findings);
        assert_eq!((report.rows, report.tables), (4117, 5));
    }
    // Copied as it is, without a key.
    let archive = entry.copies[1].key.clone();
    let meta = Key::new(format!("{archive}.meta")).unwrap();
    let globals = Key::new(archive.as_str().replace(".dump.zst.age", ".globals.sql.zst.age")).unwrap();
    for key in [meta, archive, globals] {
        pgkeep_storage::Storage::delete(world.bucket.as_ref(), &key).await.unwrap();
    }
    world.keeper.identities = Identities::default();
    let catalog = Catalog::load(&world.keeper).await.unwrap();
    let copied = world.keeper.replicate_missing(&catalog, None, true).await.unwrap();
    assert_eq!(copied.copied.len(), 1, "{copied:?}");
    world.keeper.identities = pairs.identities(0);
    let reports = world.keeper.verify(&world.only().await, VerifyDepth::Deep).await.unwrap();
    assert!(reports.len() == 2 && reports.iter().all(|report| report.findings.is_empty()), "{reports:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_altered_or_cut_is_damage_wherever_it_is() {
    const ARCHIVE: &str = "daily_20251017_030001.dump.zst.age";
    const GLOBALS: &str = "daily_20251017_030001.globals.sql.zst.age";
    let pairs = Keys::new();
    let (mut world, _, entry) = backed_up("zstd:1", &pairs).await;
    world.keeper.identities = pairs.identities(0);
    for key in [ARCHIVE, GLOBALS] {
        let sound = bytes(&world.local, key).await;
        let places = [0, 30, 100, 200, sound.len() / 2, sound.len() - 20, sound.len() - 1];
        let flipped = places.into_iter().map(|at| {
            let mut object = sound.clone();
            object[at] ^= 1;
            (format!("{key} flipped at {at} of {}", sound.len()), object)
        });
        let cut = [sound.len() - 1, sound.len() - 17, sound.len() / 2, 100].into_iter();
        let cut = cut.map(|at| (format!("{key} cut at {at}"), sound[..at].to_vec()));
        for (what, object) in flipped.chain(cut).collect::<Vec<_>>() {
            world.local.put(&Key::new(key).unwrap(), object.into()).await.unwrap();
            for depth in [VerifyDepth::Stored, VerifyDepth::Deep] {
                let reports = world.keeper.verify(&entry, depth).await.unwrap();
                assert!(!reports[0].findings.is_empty(), "{what} {depth:?}");
                assert!(reports[1].findings.is_empty(), "{what} {depth:?}: {:?}", reports[1].findings);
            }
            let local = BackupSource::copy(&world.keeper, &entry, &entry.copies[0]).opened().unwrap();
            let error = if key == ARCHIVE {
                all(local.open(2).await.unwrap()).await.unwrap_err()
            } else {
                local.globals().await.unwrap_err()
            };
            assert_eq!(error.kind(), ErrorKind::Damaged, "{what}: {error}");
        }
        world.local.put(&Key::new(key).unwrap(), sound.into()).await.unwrap();
    }
    // Proofs lie beside it, and name no table either.
    for key in keys(&world.local).await.iter().filter(|key| key.ends_with(".json")) {
        let proof = String::from_utf8(bytes(&world.local, key).await).unwrap();
        assert!(!proof.contains("orders") && !proof.contains("public"), "{proof}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_read_by_ranges() {
    let mut archive = SyntheticArchive::new(16, pgkeep_archive::InnerCompression::None);
    table(&mut archive, 10, "before", &rows(0, 20_000, 100));
    table(&mut archive, 11, "wanted", &rows(0, 1_000, 100));
    table(&mut archive, 12, "after", &rows(0, 20_000, 100));
    let (mut world, engine, pairs) = (World::new(), FakeDump::new(&archive), Keys::new());
    world.keeper.destinations.remove(1);
    world.keeper.backup(&engine, &encrypted("none", pairs.recipients())).await.unwrap();
    world.keeper.identities = pairs.identities(0);
    let entry = world.only().await;
    let source = BackupSource::nearest(&world.keeper, &entry).unwrap();
    world.local.ranges.lock().unwrap().clear();
    let reduced = all(source.open_entries(&[11], 2).await.unwrap()).await.unwrap();
    assert!(reduced.len() > 100_000);
    let asked = std::mem::take(&mut *world.local.ranges.lock().unwrap());
    let asked: u64 = asked.into_iter().map(|range| range.map_or(u64::MAX >> 8, |range| range.end - range.start)).sum();
    assert!(asked < entry.meta.stored.bytes / 4, "{asked} of {}", entry.meta.stored.bytes);
    let whole = all(source.open(1).await.unwrap()).await.unwrap();
    assert_eq!(whole, plain(&engine));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encrypted_archive_without_meta_is_read_with_the_key() {
    let pairs = Keys::new();
    let (mut world, engine, entry) = backed_up("gzip:1", &pairs).await;
    let archive = bytes(&world.local, entry.copies[0].key.as_str()).await;
    let key = Key::new("saved.dump.gz.age").unwrap();
    world.local.put(&key, archive.into()).await.unwrap();
    let foreign = BackupSource::foreign(Arc::clone(&world.local) as _, key.clone());
    let open = async |source: BackupSource| all(source.open(1).await.unwrap()).await;
    assert!(matches!(open(foreign.clone()).await.unwrap_err(), Error::KeyMissing { .. }));
    let wrong = foreign.clone().with_identities(&pairs.identities(2));
    assert!(matches!(open(wrong).await.unwrap_err(), Error::KeyWrong { .. }));
    let right = foreign.with_identities(&pairs.identities(1));
    assert_eq!(open(right.clone()).await.unwrap(), plain(&engine));
    assert_eq!(right.toc().await.unwrap().entries.len(), engine.blocks().0.entries.len());

    world.keeper.identities = pairs.identities(0);
    let refused = world.keeper.adopt(0, &key, &AdoptOptions::default()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Usage, "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_passphrase_opens_it_too() {
    let recipients = Recipients::passphrase("correct horse".to_owned().into()).with_work_factor(6);
    let (mut world, engine) = (World::new(), FakeDump::new(&sample()));
    world.keeper.backup(&engine, &encrypted("zstd:1", recipients)).await.unwrap();
    let entry = world.only().await;
    assert_eq!(entry.meta.encryption.as_ref().unwrap().recipients, ["passphrase"]);
    world.keeper.identities = Identities::passphrase("battery staple".to_owned().into());
    assert!(matches!(BackupSource::nearest(&world.keeper, &entry), Err(Error::KeyWrong { .. })));
    world.keeper.identities = Identities::passphrase("correct horse".to_owned().into());
    let source = BackupSource::nearest(&world.keeper, &entry).unwrap();
    assert_eq!(all(source.open(2).await.unwrap()).await.unwrap(), plain(&engine));
    assert!(!all(source.open_entries(&[12], 2).await.unwrap()).await.unwrap().is_empty());
}
