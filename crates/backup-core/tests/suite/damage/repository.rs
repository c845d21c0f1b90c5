//! A repository of one backup whose objects can be exchanged.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use pgkeep_archive::{InnerCompression, SyntheticArchive, synthetic_entry};
use pgkeep_core::{
    BackupOptions, BackupSource, Catalog, CatalogEntry, Destination, Error, Identities, KeyPair, Layout, Meta,
    PlainArchive, Recipients, VerifyDepth, VerifyFinding,
};
use pgkeep_storage::{Key, ObjectStorage, StorageExt};
use secrecy::ExposeSecret;

use crate::fake::{FakeDump, rows, table};
use crate::world::{World, options, plain};

/// Two tables, a large object, a sequence.
fn archive() -> SyntheticArchive {
    let mut archive = SyntheticArchive::new(16, InnerCompression::None);
    let (mut encoding, mut sequence) =
        (synthetic_entry(1, "ENCODING", "ENCODING"), synthetic_entry(2, "SEQUENCE SET", "s"));
    encoding.definition = "SET client_encoding = 'UTF8';\n".into();
    sequence.definition = "SELECT pg_catalog.setval('public.s', 42, true);\n".into();
    archive.entry(encoding);
    archive.entry(synthetic_entry(3, "TABLE", "orders"));
    table(&mut archive, 10, "orders", &rows(0, 40, 40));
    archive.large_objects(14, &[(7, &b"seven"[..])]);
    table(&mut archive, 15, "last", &rows(0, 5, 30));
    archive.entry(sequence);
    archive
}

/// Every object of a repository by its key.
pub(crate) type Objects = BTreeMap<String, Bytes>;

/// A sound repository.
pub(crate) struct Repository {
    /// Without locks.
    pub(crate) objects: Objects,
    /// The archive's key.
    pub(crate) archive: String,
    /// The plain archive.
    pub(crate) plain: Vec<u8>,
    identities: Identities,
}

impl Repository {
    /// One backup of a few kilobytes in several frames, with globals and a proof.
    pub(crate) async fn new(compression: &str, encrypted: bool) -> Self {
        let (mut world, engine) = (World::new(), FakeDump { block_bytes: 700, ..FakeDump::new(&archive()) });
        world.keeper.destinations.remove(1);
        let pair = KeyPair::generate();
        let recipients = encrypted.then(|| Recipients::parse([pair.recipient.as_str()]).unwrap());
        let options = BackupOptions { encryption: recipients, ..options(compression) };
        world.keeper.backup(&engine, &options).await.unwrap();
        let identities = Identities::parse(pair.identity.expose_secret()).unwrap();
        world.keeper.identities = identities.clone();
        let entry = world.only().await;
        let verified = world.keeper.verify(&entry, VerifyDepth::Deep).await.unwrap();
        assert!(verified[0].findings.is_empty(), "{verified:?}");
        let frames = entry.meta.unseal(&identities).unwrap().frames.len();
        assert!(frames >= 4, "table of contents, both tables and the large object apart: {frames}");

        let mut objects = Objects::new();
        for object in world.local.list_all(&Key::root()).await.unwrap() {
            if !object.key.as_str().starts_with(".pgkeep/") {
                let bytes = world.local.read_all(&object.key, 1 << 20).await.unwrap();
                objects.insert(object.key.to_string(), bytes);
            }
        }
        Self { objects, archive: entry.meta.backup_file.clone(), plain: plain(&engine), identities }
    }

    pub(crate) fn meta_key(&self) -> String {
        format!("{}.meta", self.archive)
    }

    /// The stored meta; of an encrypted backup, what of it is readable.
    pub(crate) fn meta(&self) -> Meta {
        Meta::from_json("the meta", &self.objects[&self.meta_key()]).unwrap()
    }

    /// A key that ends like this.
    pub(crate) fn key(&self, end: &str) -> String {
        self.objects.keys().find(|key| key.ends_with(end)).expect("such an object").clone()
    }

    /// The same with one object otherwise.
    pub(crate) fn with(&self, key: &str, bytes: impl Into<Bytes>) -> Objects {
        let mut objects = self.objects.clone();
        objects.insert(key.to_owned(), bytes.into());
        objects
    }

    /// A store with these objects.
    pub(crate) async fn opened(&self, objects: &Objects) -> Opened {
        let mut world = World::new();
        world.keeper.destinations.truncate(1);
        let storage = ObjectStorage::memory();
        for (key, bytes) in objects {
            storage.put(&Key::new(key.as_str()).unwrap(), bytes.clone()).await.unwrap();
        }
        let destination = &mut world.keeper.destinations[0];
        *destination = Destination { storage: Arc::new(storage), layout: Layout::Flat, ..destination.clone() };
        world.keeper.identities = self.identities.clone();
        let catalog = Catalog::load(&world.keeper).await.unwrap();
        Opened { world, catalog }
    }
}

/// A repository as it is found.
pub(crate) struct Opened {
    pub(crate) world: World,
    pub(crate) catalog: Catalog,
}

impl Opened {
    /// Its backup, if the catalog has it.
    pub(crate) fn entry(&self) -> Option<&CatalogEntry> {
        self.catalog.entries.first()
    }

    pub(crate) async fn verify(&self, depth: VerifyDepth) -> Vec<VerifyFinding> {
        let entry = self.entry().expect("a backup");
        let mut reports = self.world.keeper.verify(entry, depth).await.unwrap();
        assert_eq!(reports.len(), 1);
        reports.remove(0).findings
    }

    /// What a restore reads from.
    pub(crate) fn source(&self) -> Result<BackupSource, Error> {
        BackupSource::nearest(&self.world.keeper, self.entry().expect("a backup"))
    }
}

/// Reads to the end.
pub(crate) async fn all(archive: Result<PlainArchive, Error>) -> Result<Vec<u8>, Error> {
    let mut archive = archive?;
    let mut plain = Vec::new();
    while let Some(piece) = archive.next().await? {
        plain.extend_from_slice(&piece);
    }
    Ok(plain)
}
