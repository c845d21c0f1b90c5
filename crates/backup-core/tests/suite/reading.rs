//! Reading, verifying, adopting and exporting backups.

use std::sync::Arc;

use pgkeep_archive::{DataOffset, Decoder, Event, InnerCompression, SyntheticArchive, Toc};
use pgkeep_core::{
    AdoptOptions, BackupSource, CatalogEntry, Error, ErrorKind, ExportOptions, PlainArchive, ProofKind, VerifyDepth,
    VerifyReport,
};
use pgkeep_storage::{Key, StorageExt};

use crate::fake::{FakeDump, Refuses, rows, sample, table};
use crate::world::{World, bytes, keys, options, plain};

async fn all(mut archive: PlainArchive) -> Result<Vec<u8>, Error> {
    let mut plain = Vec::new();
    while let Some(piece) = archive.next().await? {
        plain.extend_from_slice(&piece);
    }
    assert!(archive.next().await?.is_none());
    Ok(plain)
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut stored = Vec::new();
    "gzip:6".parse::<pgkeep_compress::Compression>().unwrap().codec().encode(plain, &mut stored).unwrap();
    stored
}

async fn backed_up(compression: &str) -> (World, FakeDump, CatalogEntry) {
    let (world, engine) = (World::new(), FakeDump::new(&sample()));
    world.keeper.backup(&engine, &options(compression)).await.unwrap();
    let entry = world.only().await;
    (world, engine, entry)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_stored_is_read_back() {
    for compression in ["zstd:3", "gzip:1", "lz4", "none"] {
        let (world, engine, entry) = backed_up(compression).await;
        let source = BackupSource::nearest(&world.keeper, &entry).unwrap();
        assert_eq!(source.place, "local");
        assert_eq!(all(source.open(3).await.unwrap()).await.unwrap(), plain(&engine));
        assert_eq!(*source.toc().await.unwrap(), *engine.blocks().0);
        assert_eq!(source.globals().await.unwrap(), engine.globals);
        let facts = source.private_facts().await.unwrap().unwrap();
        assert_eq!(facts.database_settings, [("app.secret".to_owned(), "sekrit".to_owned())]);
    }
}

/// Tables and their rows in a plain archive.
fn tables(plain: &[u8]) -> Vec<(String, Vec<u8>)> {
    let (mut decoder, mut tables) = (Decoder::new(), Vec::new());
    decoder.push(plain);
    let mut toc: Option<Arc<Toc>> = None;
    while let Some(event) = decoder.next_event().unwrap() {
        match event {
            Event::Toc(found) => toc = Some(found),
            Event::DataStarted { dump_id } => {
                let name = toc.as_ref().unwrap().entry(dump_id).unwrap().tag.lossy();
                tables.push((name, Vec::new()));
            }
            Event::Data { bytes, .. } => tables.last_mut().unwrap().1.extend_from_slice(&bytes),
            _ => {}
        }
    }
    decoder.finish().unwrap();
    tables
}

#[tokio::test(flavor = "multi_thread")]
async fn some_tables_are_read_alone() {
    let (world, _, entry) = backed_up("zstd:1").await;
    let source = BackupSource::nearest(&world.keeper, &entry).unwrap();
    for (wanted, expected) in [
        (vec![12], vec![("orders", rows(0, 4000, 100).concat())]),
        (vec![15, 10], vec![("small", rows(0, 10, 20).concat()), ("last", rows(0, 100, 30).concat())]),
        (vec![11], vec![("nothing", Vec::new())]),
        (
            vec![13, 14],
            vec![
                ("wide", [rows(0, 3, 10), rows(3, 1, 100_000), rows(4, 3, 10)].concat().concat()),
                ("BLOBS", Vec::new()),
            ],
        ),
        (vec![], vec![]),
    ] {
        let reduced = all(source.open_entries(&wanted, 2).await.unwrap()).await.unwrap();
        let expected: Vec<_> = expected.into_iter().map(|(name, rows)| (name.to_owned(), rows)).collect();
        assert_eq!(tables(&reduced), expected, "{wanted:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_archives_are_read_whatever_they_are_compressed_with() {
    for (inner, outer) in
        [(InnerCompression::None, true), (InnerCompression::Gzip, false), (InnerCompression::Zstd, true)]
    {
        let mut archive = SyntheticArchive::new(16, inner);
        table(&mut archive, 1, "t", &rows(0, 1000, 50));
        table(&mut archive, 2, "u", &rows(0, 10, 50));
        let world = World::new();
        let stored = if outer { gzip(&archive.bytes()) } else { archive.bytes() };
        let key = Key::new("old.dump").unwrap();
        world.local.put(&key, stored.into()).await.unwrap();
        let source = BackupSource::foreign(Arc::clone(&world.local) as _, key);
        assert_eq!(all(source.open(1).await.unwrap()).await.unwrap(), archive.bytes());
        assert_eq!(source.toc().await.unwrap().entries.len(), 2);
        let reduced = all(source.open_entries(&[2], 1).await.unwrap()).await.unwrap();
        assert_eq!(tables(&reduced), [("u".to_owned(), rows(0, 10, 50).concat())]);
        assert!(source.globals().await.unwrap().is_none());
    }
}

/// Every copy verified; of the local one the findings.
async fn verified(world: &World, entry: &CatalogEntry, depth: VerifyDepth) -> VerifyReport {
    let reports = world.keeper.verify(entry, depth).await.unwrap();
    assert_eq!(reports.len(), 2);
    assert!(reports[1].findings.is_empty(), "{:?}", reports[1].findings);
    reports.into_iter().next().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sound_backup_verifies_and_gets_its_proofs() {
    let (world, _, entry) = backed_up("zstd:1").await;
    for depth in [VerifyDepth::Quick, VerifyDepth::Stored, VerifyDepth::Deep] {
        let report = verified(&world, &entry, depth).await;
        assert!(report.findings.is_empty(), "{:?}", report.findings);
        let globals = entry.meta.globals.as_ref().unwrap().stored.bytes;
        let read = if depth == VerifyDepth::Quick { 0 } else { entry.meta.stored.bytes + globals };
        assert_eq!(report.stored_bytes, read, "{depth:?}");
        let counted = if depth == VerifyDepth::Deep { (4117, 5) } else { (0, 0) };
        assert_eq!((report.rows, report.tables), counted);
    }
    assert!(world.only().await.proven());
}

/// Bytes of an object are changed by hand.
async fn tamper(world: &World, key: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let mut object = bytes(&world.local, key).await;
    change(&mut object);
    world.local.put(&Key::new(key).unwrap(), object.into()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_found_and_named() {
    const ARCHIVE: &str = "daily_20251017_030001.dump.zst";
    const GLOBALS: &str = "daily_20251017_030001.globals.sql.zst";
    type Change = fn(&mut Vec<u8>);
    let flip: Change = |object| object[6000] ^= 1;
    let cut: Change = |object| object.truncate(object.len() - 1);
    let append: Change = |object| object.push(0);
    let flip_last: Change = |object| *object.last_mut().unwrap() ^= 1;
    for (key, change, quick, subject) in [
        (ARCHIVE, flip, true, "public.orders"),
        (ARCHIVE, flip_last, true, ""),
        (ARCHIVE, cut, false, ARCHIVE),
        (ARCHIVE, append, false, ARCHIVE),
        (GLOBALS, flip_last, true, ""),
        (GLOBALS, cut, false, GLOBALS),
    ] {
        let (world, _, entry) = backed_up("zstd:1").await;
        tamper(&world, key, change).await;
        let found = verified(&world, &entry, VerifyDepth::Quick).await;
        assert_eq!(found.findings.is_empty(), quick, "{key} {:?}", found.findings);
        let found = verified(&world, &entry, VerifyDepth::Stored).await;
        assert!(!found.findings.is_empty(), "{key}");
        let found = verified(&world, &entry, VerifyDepth::Deep).await;
        assert!(found.findings.iter().any(|finding| finding.subject.contains(subject)), "{key} {:?}", found.findings);
        assert!(!world.only().await.good_at(0));
        // Reading never ends well.
        if key == ARCHIVE {
            let local = BackupSource::copy(&world.keeper, &entry, &entry.copies[0]);
            let error = all(local.open(2).await.unwrap()).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
            // The other copy is taken.
            assert_eq!(BackupSource::nearest(&world.keeper, &world.only().await).unwrap().place, "bucket");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_archive_is_a_finding_and_an_unreachable_store_is_not() {
    let (world, _, entry) = backed_up("zstd:1").await;
    world.local.refuse(Refuses::Everything);
    assert_eq!(world.keeper.verify(&entry, VerifyDepth::Deep).await.unwrap_err().kind(), ErrorKind::Store);
    world.local.refuse(Refuses::Nothing);
    let key = entry.copies[0].key.clone();
    pgkeep_storage::Storage::delete(world.local.as_ref(), &key).await.unwrap();
    for depth in [VerifyDepth::Quick, VerifyDepth::Stored, VerifyDepth::Deep] {
        let found = verified(&world, &entry, depth).await.findings;
        assert!(matches!(found.as_slice(), [finding] if finding.problem == "it is missing"), "{found:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_in_an_archive_tier_is_looked_at_from_outside_and_hides_no_damage() {
    for depth in [VerifyDepth::Stored, VerifyDepth::Deep] {
        let (world, _, entry) = backed_up("zstd:1").await;
        world.local.refuse(Refuses::Thawing);
        let verified = world.keeper.verify_copies(&entry, depth).await.unwrap();
        assert!(verified.unknown.is_empty(), "{:?}", verified.unknown);
        let [local, bucket] = &verified.reports[..] else { panic!("two copies") };
        assert!(local.findings.is_empty() && bucket.findings.is_empty());
        assert_eq!((local.archived, local.depth, local.proof.kind), (true, VerifyDepth::Quick, ProofKind::Quick));
        assert_eq!((bucket.archived, bucket.depth), (false, depth));

        let mut entry = world.only().await;
        assert_eq!(BackupSource::nearest(&world.keeper, &entry).unwrap().place, "local");
        world.keeper.look_up_classes(&mut entry).await;
        assert_eq!(entry.copies[0].storage_class.as_deref(), Some("GLACIER"));
        assert_eq!(BackupSource::nearest(&world.keeper, &entry).unwrap().place, "bucket");

        // The meta at the copy is another one: found before the archive can't be read.
        let meta = format!("{}.meta", entry.copies[0].key);
        tamper(&world, &meta, Vec::clear).await;
        world.bucket.refuse(Refuses::Everything);
        let verified = world.keeper.verify_copies(&entry, depth).await.unwrap();
        assert_eq!(verified.reports.len(), 1);
        assert_eq!((verified.reports[0].findings.len(), verified.reports[0].archived), (1, true));
        assert_eq!(verified.unknown.len(), 1);
        assert_eq!(verified.unknown[0].0, "bucket");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adopted_archive_is_a_backup_like_any_other() {
    for compressed in [true, false] {
        let world = World::new();
        let archive = sample().bytes();
        let stored = if compressed { gzip(&archive) } else { archive.clone() };
        let name = if compressed { "daily_20240102_030405.dump.gz" } else { "shop.backup" };
        world.local.put(&Key::new(name).unwrap(), stored.clone().into()).await.unwrap();
        let meta = world.keeper.adopt(0, &Key::new(name).unwrap(), &AdoptOptions::default()).await.unwrap();
        let id = if compressed { "daily_20240102_030405" } else { "daily_20251017_030001" };
        assert_eq!((meta.id.as_str(), meta.backup_file.as_str(), meta.source.as_str()), (id, name, "shop"));
        assert_eq!(meta.compression, if compressed { "gzip" } else { "none" });
        assert_eq!((meta.stored.bytes, meta.plain.bytes), (stored.len() as u64, archive.len() as u64));
        assert_eq!(crate::world::table(&meta, "orders").rows, 4000);
        assert!(world.keeper.adopt(0, &Key::new(name).unwrap(), &AdoptOptions::default()).await.is_err());

        let entry = world.only().await;
        let reports = world.keeper.verify(&entry, VerifyDepth::Deep).await.unwrap();
        assert!(reports[0].findings.is_empty(), "{:?}", reports[0].findings);
        let source = BackupSource::nearest(&world.keeper, &entry).unwrap();
        assert_eq!(all(source.open(2).await.unwrap()).await.unwrap(), archive);
        let reduced = all(source.open_entries(&[15], 2).await.unwrap()).await.unwrap();
        assert_eq!(tables(&reduced), [("last".to_owned(), rows(0, 100, 30).concat())]);
        tamper(&world, name, |object| object[6000] ^= 4).await;
        let reports = world.keeper.verify(&entry, VerifyDepth::Deep).await.unwrap();
        assert!(!reports[0].findings.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_of_other_scripts_give_way_to_a_meta() {
    const NAME: &str = "daily_20240102_030405.dump.gz";
    let world = World::new();
    world.local.put(&Key::new(NAME).unwrap(), gzip(&sample().bytes()).into()).await.unwrap();
    let theirs = Key::new(format!("{NAME}.meta")).unwrap();
    let json = r#"{"backup_file": "x", "date": "2024-01-02T05:04:05+02:00", "hostname": "old", "duration_seconds": 7}"#;
    world.local.put(&theirs, json.into()).await.unwrap();
    let meta = world.keeper.adopt(0, &Key::new(NAME).unwrap(), &AdoptOptions::default()).await.unwrap();
    assert_eq!((meta.id.as_str(), meta.hostname.as_str(), meta.duration_seconds), ("daily_20240102_030405", "old", 7));
    assert_eq!(meta.date.to_rfc3339(), "2024-01-02T03:04:05+00:00");
    assert_eq!(*world.only().await.meta, *meta);
    assert!(world.keeper.adopt(0, &Key::new(NAME).unwrap(), &AdoptOptions::default()).await.is_err(), "once");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_archive_is_not_adopted() {
    let world = World::new();
    for (name, content) in [
        ("a.dump", &b"CREATE TABLE t ();\n"[..]),
        ("b.dump.gz", &gzip(b"x")),
        ("c.dump", b""),
        ("d.dump", &sample().bytes()[..5000]),
    ] {
        world.local.put(&Key::new(name).unwrap(), content.to_vec().into()).await.unwrap();
        let error = world.keeper.adopt(0, &Key::new(name).unwrap(), &AdoptOptions::default()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged, "{name}: {error}");
    }
    assert_eq!(keys(&world.local).await.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_is_a_plain_archive_in_which_data_can_be_found() {
    let (world, engine, entry) = backed_up("zstd:1").await;
    let source = BackupSource::nearest(&world.keeper, &entry).unwrap();
    for (wanted, names) in [
        (None, vec!["small", "nothing", "orders", "wide", "BLOBS", "last"]),
        (Some(vec!["public.last".to_owned(), "small".to_owned()]), vec!["small", "last"]),
    ] {
        let mut sink = Vec::new();
        let exporting = ExportOptions { tables: wanted.clone(), jobs: 2 };
        let report = world.keeper.export(&source, &exporting, &mut sink).await.unwrap();
        assert_eq!(report.plain_bytes, sink.len() as u64);
        assert_eq!(tables(&sink).into_iter().map(|(name, _)| name).collect::<Vec<_>>(), names);
        let mut decoder = Decoder::new();
        decoder.push(&sink);
        let Some(Event::Toc(toc)) = decoder.next_event().unwrap() else { panic!("no TOC") };
        for entry in toc.data_entries() {
            let DataOffset::At(offset) = entry.offset else { panic!("{} has no offset", entry.tag.lossy()) };
            let block = &sink[offset as usize..];
            let kind = if entry.holds_large_objects() { 3 } else { 1 };
            assert_eq!((block[0], &block[1..6]), (kind, &[0, entry.dump_id as u8, 0, 0, 0][..]));
        }
        if wanted.is_none() {
            let head = toc.raw.len();
            assert_eq!(sink[head..], plain(&engine)[head..]);
        }
    }
    let unknown = ExportOptions { tables: Some(vec!["order".to_owned()]), jobs: 2 };
    match world.keeper.export(&source, &unknown, &mut Vec::new()).await.unwrap_err() {
        Error::NotFound { candidates, .. } => assert_eq!(candidates, ["public.orders"]),
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_of_an_uncompressed_backup_are_exported_as_they_were_dumped_or_not_at_all() {
    let (world, _, entry) = backed_up("none").await;
    let key = entry.copies[0].key.clone();
    let source = BackupSource::copy(&world.keeper, &entry, &entry.copies[0]);
    let exporting = ExportOptions { tables: Some(vec!["orders".to_owned()]), jobs: 2 };
    world.keeper.export(&source, &exporting, &mut Vec::new()).await.unwrap();
    // A letter within a row: all lengths stay what they were, and there is no checksum.
    let sound = bytes(&world.local, key.as_str()).await;
    let row = &rows(0, 4000, 100)[2000];
    let at = sound.windows(row.len()).position(|window| window == row.as_slice()).unwrap();
    tamper(&world, key.as_str(), |object| object[at + row.len() - 3] ^= 1).await;
    let error = world.keeper.export(&source, &exporting, &mut Vec::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
    assert!(error.to_string().contains("public.orders"), "{error}");
}
