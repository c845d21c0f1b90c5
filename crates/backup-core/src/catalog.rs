//! Every backup of a source, wherever its copies are.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt};
use pgkeep_storage::{Key, ObjectInfo, Storage};
use serde::Serialize;

use crate::mark::Mark;
use crate::{
    BackupClass, BackupId, Destination, Error, Keep, Keeper, Meta, Proof, ProofKind, ProofOutcome, Result,
    SourceRecord, objects,
};

/// Metas and proofs read at once from one store.
const READS_AT_ONCE: usize = 32;

/// The backups of a source. Reading never depends on the layout: every `*.meta` below a destination's root counts.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    /// Newest snapshot first.
    pub entries: Vec<CatalogEntry>,
    /// The source recorded at the destinations.
    pub source: Option<SourceRecord>,
    /// Destinations that could not be listed in full, with the reason; nothing may be removed on their word.
    pub incomplete: Vec<(String, String)>,
    /// Metas, proofs and records that could not be read.
    pub unreadable: Vec<Unreadable>,
    /// Archives that are no backups for want of a meta of ours, newest name first.
    pub adoptable: Vec<Adoptable>,
}

/// An archive that lies at a destination without a meta of ours: [`Keeper::adopt`] makes a backup of it. Until then nothing is
/// known of it, and nothing removes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Adoptable {
    /// The destination's name.
    pub destination: String,
    /// Its key there.
    #[serde(serialize_with = "as_text")]
    pub key: Key,
    /// Its size in bytes.
    pub stored_bytes: u64,
    /// When it was last written, by the store's clock.
    pub modified: DateTime<Utc>,
}

/// An object of the repository that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unreadable {
    /// The destination's name.
    pub destination: String,
    /// The object's key there.
    pub key: String,
    /// Why.
    pub reason: String,
}

/// One backup and its copies.
#[derive(Debug, Clone)]
pub struct CatalogEntry {
    /// Its meta.
    pub meta: Arc<Meta>,
    /// Its copies, nearest first.
    pub copies: Vec<Copy>,
    /// What was verified of it, newest first. Where another machine's own folder was read, the destination says whose.
    pub proofs: Vec<Proof>,
    /// Whether it is of the source recorded now, and not of one that was here before `--take-over`.
    pub own: bool,
}

/// One copy of a backup.
#[derive(Debug, Clone, Serialize)]
pub struct Copy {
    /// Index into the keeper's destinations.
    pub destination: usize,
    /// The destination's name.
    pub name: String,
    /// The archive's key.
    #[serde(serialize_with = "as_text")]
    pub key: Key,
    /// The archive's stored size, where it is there.
    pub stored_bytes: Option<u64>,
    /// Its storage class, where the store tells: listings do not, see [`Keeper::look_up_classes`].
    pub storage_class: Option<String>,
}

fn as_text<S: serde::Serializer>(key: &Key, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(key)
}

impl CatalogEntry {
    /// Whether the copy at `destination` is there in full and was not found damaged.
    pub fn good_at(&self, destination: usize) -> bool {
        let Some(copy) = self.copies.iter().find(|copy| copy.destination == destination) else { return false };
        let present = copy.stored_bytes == Some(self.meta.stored.bytes);
        present && !self.found_bad(&copy.name)
    }

    /// Whether a verification of the copy at the destination of this name found damage, and none as thorough has found it good since.
    fn found_bad(&self, destination: &str) -> bool {
        let mut here = self.proofs.iter().filter(|proof| proof.destination == destination);
        let mut overruled_to = None;
        here.any(|proof| match proof.outcome {
            ProofOutcome::Good => {
                overruled_to = overruled_to.max(Some(proof.kind));
                false
            }
            ProofOutcome::Bad => overruled_to < Some(proof.kind),
        })
    }

    /// Whether any copy is good.
    pub fn good(&self) -> bool {
        self.copies.iter().any(|copy| self.good_at(copy.destination))
    }

    /// Whether its content was proven, deep or by a restore, from whichever copy.
    pub fn proven(&self) -> bool {
        self.proofs.iter().any(|proof| proof.outcome == ProofOutcome::Good && proof.kind >= ProofKind::Deep)
    }

    /// What retention needs to know of the copy at `destination`.
    pub fn keep(&self, destination: usize) -> Keep {
        let good = self.good_at(destination);
        Keep {
            id: self.meta.id.clone(),
            class: self.meta.backup_type,
            begun: self.meta.date,
            good,
            proven: good && self.proven(),
            whole: self.meta.is_whole(),
        }
    }
}

impl Keeper {
    /// Asks the stores for the storage classes of a backup's copies. What can't be asked stays unknown.
    pub async fn look_up_classes(&self, entry: &mut CatalogEntry) {
        for copy in entry.copies.iter_mut().filter(|copy| copy.stored_bytes.is_some()) {
            match self.destinations[copy.destination].storage.head(&copy.key).await {
                Ok(info) => copy.storage_class = info.storage_class,
                Err(error) => self.detail(&format!("the class of {} at {} is unknown: {error}", copy.key, copy.name)),
            }
        }
    }
}

/// How a backup is chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pick {
    /// The newest good one; never a pre-restore snapshot unless that class is asked for, nor one that holds a part of
    /// the database only, unless there is no other.
    Latest {
        /// Only of this class.
        class: Option<BackupClass>,
    },
    /// The newest good one whose snapshot is not after a time; in all else like the latest.
    Before(DateTime<Utc>),
    /// A name, with or without extension, a unique prefix, or `…/latest.dump.gz`.
    Name(String),
}

impl Catalog {
    /// Lists every destination and reads metas and proofs, many at once. A destination that can't be listed is noted in
    /// `incomplete`; an error only if none could be.
    pub async fn load(keeper: &Keeper) -> Result<Self> {
        let listings: Vec<BoxFuture<'_, _>> = keeper
            .destinations
            .iter()
            .enumerate()
            .map(|(index, destination)| Listing::read(index, destination).boxed())
            .collect();
        let listings = futures::future::join_all(listings).await;

        let mut catalog = Self::default();
        let mut entries: BTreeMap<BackupId, CatalogEntry> = BTreeMap::new();
        let mut failures = Vec::new();
        for (destination, listing) in keeper.destinations.iter().zip(listings) {
            match listing {
                Ok(listing) => {
                    catalog.source = catalog.source.take().or(listing.source.clone());
                    catalog.unreadable.extend(listing.unreadable.iter().cloned());
                    catalog.adoptable.extend(listing.adoptable.iter().cloned());
                    merge(&mut entries, &mut catalog.unreadable, keeper, destination, listing);
                }
                Err(error) => {
                    catalog.incomplete.push((destination.name.clone(), describe(&error)));
                    failures.push(error);
                }
            }
        }
        if !failures.is_empty() && failures.len() == keeper.destinations.len() {
            return Err(failures.remove(0));
        }
        catalog.adoptable.sort_by(|one, other| (other.modified, &other.key).cmp(&(one.modified, &one.key)));
        catalog.entries = entries.into_values().collect();
        for entry in &mut catalog.entries {
            entry.copies.sort_by_key(|copy| keeper.destinations[copy.destination].rank);
            entry.proofs.sort_by_key(|proof| std::cmp::Reverse(proof.at));
            entry.own = catalog.source.as_ref().is_none_or(|source| source_of(entry, source));
        }
        catalog.entries.sort_by(|one, other| {
            (other.meta.snapshot_time, &other.meta.id).cmp(&(one.meta.snapshot_time, &one.meta.id))
        });
        Ok(catalog)
    }

    /// The backups of this source, newest first.
    pub fn own(&self) -> impl Iterator<Item = &CatalogEntry> {
        self.entries.iter().filter(|entry| entry.own)
    }

    /// The chosen backup; the error lists what is close.
    pub fn pick(&self, pick: &Pick) -> Result<&CatalogEntry> {
        match pick {
            Pick::Latest { class } => self
                .newest(|entry| fits(entry, *class))
                .ok_or_else(|| not_found("the newest good backup".to_owned(), self.own().map(name))),
            Pick::Before(time) => self
                .newest(|entry| fits(entry, None) && entry.meta.snapshot_time <= *time)
                .ok_or_else(|| not_found(format!("a snapshot not after {}", time.to_rfc3339()), self.own().map(name))),
            Pick::Name(text) => self.by_name(text),
        }
    }

    /// The newest good one that is wanted; one of a part only where there is no whole one.
    fn newest(&self, wanted: impl Fn(&CatalogEntry) -> bool) -> Option<&CatalogEntry> {
        let mut good = self.own().filter(|entry| entry.good() && wanted(entry));
        let newest = good.next()?;
        Some(if newest.meta.is_whole() { newest } else { good.find(|entry| entry.meta.is_whole()).unwrap_or(newest) })
    }

    fn by_name(&self, text: &str) -> Result<&CatalogEntry> {
        let folder = text.rsplit('/').nth(1).and_then(BackupClass::from_word);
        let file = text.rsplit('/').next().unwrap_or(text);
        let stem = file.split('.').next().unwrap_or(file);
        if stem == "latest" {
            return self.pick(&Pick::Latest { class: folder });
        }
        if let Some(entry) = self.entries.iter().find(|entry| entry.meta.id.as_str() == stem) {
            return Ok(entry);
        }
        let close: Vec<_> = self.entries.iter().filter(|entry| entry.meta.id.as_str().starts_with(stem)).collect();
        match close.as_slice() {
            [only] if !stem.is_empty() => Ok(only),
            [] => Err(not_found(text.to_owned(), self.entries.iter().map(name))),
            several => Err(Error::Ambiguous {
                wanted: text.to_owned(),
                candidates: several.iter().take(10).map(|entry| name(entry)).collect(),
            }),
        }
    }
}

fn fits(entry: &CatalogEntry, class: Option<BackupClass>) -> bool {
    match class {
        Some(class) => entry.meta.backup_type == class,
        None => entry.meta.backup_type != BackupClass::PreRestore,
    }
}

fn name(entry: &CatalogEntry) -> String {
    entry.meta.id.to_string()
}

fn not_found(wanted: String, candidates: impl Iterator<Item = String>) -> Error {
    Error::NotFound { wanted, candidates: candidates.take(10).collect() }
}

fn source_of(entry: &CatalogEntry, source: &SourceRecord) -> bool {
    let clusters = (&entry.meta.database.system_identifier, &source.identity.system_identifier);
    entry.meta.source == source.name && !matches!(clusters, (Some(one), Some(other)) if one != other)
}

/// An error and its causes in one line.
fn describe(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line.push_str(": ");
        line.push_str(&error.to_string());
        cause = error.source();
    }
    line
}

fn merge(
    entries: &mut BTreeMap<BackupId, CatalogEntry>,
    unreadable: &mut Vec<Unreadable>,
    keeper: &Keeper,
    destination: &Destination,
    listing: Listing,
) {
    for mut found in listing.found {
        for proof in &mut found.proofs {
            if is_of_elsewhere(proof, keeper, destination) {
                proof.destination = format!("{} of {}", proof.destination, proof.hostname);
            }
        }
        match entries.get_mut(&found.meta.id) {
            // Of encrypted ones, the keys of fingerprints are not told, but no two archives have the same bytes.
            Some(entry)
                if entry.meta.fingerprint_key != found.meta.fingerprint_key
                    || (found.meta.is_sealed() && entry.meta.stored != found.meta.stored) =>
            {
                unreadable.push(Unreadable {
                    destination: destination.name.clone(),
                    key: format!("{}.meta", found.copy.key),
                    reason: "another backup of the same name lies elsewhere".to_owned(),
                });
            }
            Some(entry) => {
                entry.copies.push(found.copy);
                for proof in found.proofs {
                    if !entry.proofs.contains(&proof) {
                        entry.proofs.push(proof);
                    }
                }
            }
            None => {
                let entry =
                    CatalogEntry { meta: found.meta, copies: vec![found.copy], proofs: found.proofs, own: true };
                entries.insert(entry.meta.id.clone(), entry);
            }
        }
    }
}

/// Whether a proof that lies at `found_at` is of a copy in another machine's folder: `local` is another place on every one.
/// What lies in the folder itself is about it, whatever the machine was called then.
fn is_of_elsewhere(proof: &Proof, keeper: &Keeper, found_at: &Destination) -> bool {
    let mut named = keeper.destinations.iter().filter(|destination| destination.name == proof.destination);
    let a_folder = named.any(|destination| destination.storage.location().as_str().starts_with("file://"));
    a_folder && found_at.name != proof.destination && proof.hostname != keeper.host
}

/// The objects of some archives, read many at once, in the order in which they arrive.
fn read_many<'o>(
    storage: &'o dyn Storage,
    objects: Vec<(&'o str, &'o Key)>,
) -> BoxStream<'o, (&'o str, &'o Key, Result<Option<Bytes>>)> {
    let reads: Vec<BoxFuture<'o, _>> = objects
        .into_iter()
        .map(|(archive, key)| async move { (archive, key, objects::get(storage, key).await) }.boxed())
        .collect();
    futures::stream::iter(reads).buffer_unordered(READS_AT_ONCE).boxed()
}

/// Whether a file's name is one that archives have.
fn is_archive(name: &str) -> bool {
    let name = name.strip_suffix(".age").unwrap_or(name);
    [".dump", ".dump.gz", ".dump.zst", ".dump.lz4"].iter().any(|extension| name.ends_with(extension))
}

/// What one destination holds.
struct Listing {
    source: Option<SourceRecord>,
    found: Vec<Found>,
    unreadable: Vec<Unreadable>,
    adoptable: Vec<Adoptable>,
}

struct Found {
    meta: Arc<Meta>,
    copy: Copy,
    proofs: Vec<Proof>,
}

impl Listing {
    async fn read(index: usize, destination: &Destination) -> Result<Self> {
        let storage = destination.storage.as_ref();
        let objects: Vec<ObjectInfo> = storage.list(&Key::root()).try_collect().await.map_err(objects::at(storage))?;
        let unreadable = |key: &str, reason: String| Unreadable {
            destination: destination.name.clone(),
            key: key.to_owned(),
            reason,
        };
        let mut listing = Self { source: None, found: Vec::new(), unreadable: Vec::new(), adoptable: Vec::new() };
        if objects.iter().any(|object| object.key.as_str() == "source.json")
            && let Some(json) = objects::get(storage, &Key::new("source.json")?).await?
        {
            match serde_json::from_slice(&json) {
                Ok(record) => listing.source = Some(record),
                Err(error) => listing.unreadable.push(unreadable("source.json", error.to_string())),
            }
        }
        let by_key: HashMap<&str, &ObjectInfo> = objects.iter().map(|object| (object.key.as_str(), object)).collect();
        let (mut metas, mut proofs) = (Vec::new(), Vec::new());
        for object in &objects {
            let text = object.key.as_str();
            if text.starts_with(".pgkeep/") {
            } else if let Some(archive) = text.strip_suffix(".meta") {
                metas.push((archive, &object.key));
            } else if let Some((archive, _)) = text.split_once(".proofs/") {
                proofs.push((archive, &object.key));
            }
        }
        let with_meta: BTreeSet<&str> = metas.iter().map(|(archive, _)| *archive).collect();
        proofs.retain(|(archive, _)| with_meta.contains(archive));

        let mut proofs_of: HashMap<String, Vec<Proof>> = HashMap::new();
        let mut reads = read_many(storage, proofs);
        while let Some((archive, key, json)) = reads.next().await {
            match json?.map(|json| serde_json::from_slice::<Proof>(&json)) {
                Some(Ok(proof)) => proofs_of.entry(archive.to_owned()).or_default().push(proof),
                Some(Err(error)) => listing.unreadable.push(unreadable(key.as_str(), error.to_string())),
                None => {}
            }
        }
        let mut ours = BTreeSet::new();
        let mut reads = read_many(storage, metas);
        while let Some((archive, key, json)) = reads.next().await {
            // Withdrawn between listing and reading: not there.
            let Some(json) = json? else { continue };
            if Meta::is_foreign(&json) {
                continue;
            }
            ours.insert(archive.to_owned());
            let object = format!("{}/{key}", storage.location());
            let checked = Meta::from_json(&object, &json).and_then(|meta| {
                let named = Key::new(archive)?;
                let own_name = named.name() == meta.backup_file && BackupId::parse(meta.id.as_str()).is_some();
                if own_name {
                    Ok((meta, named))
                } else {
                    Err(Error::Meta { object: object.clone(), reason: "it names another archive".to_owned() })
                }
            });
            match checked {
                Ok((meta, key)) => {
                    let archive_info = by_key.get(archive);
                    listing.found.push(Found {
                        copy: Copy {
                            destination: index,
                            name: destination.name.clone(),
                            key,
                            stored_bytes: archive_info.map(|info| info.bytes),
                            storage_class: archive_info.and_then(|info| info.storage_class.clone()),
                        },
                        meta: Arc::new(meta),
                        proofs: proofs_of.remove(archive).unwrap_or_default(),
                    });
                }
                Err(error) => listing.unreadable.push(unreadable(key.as_str(), describe(&error))),
            }
        }
        let unpublished: BTreeSet<&str> =
            objects.iter().filter_map(|object| Mark::backup_of(object.key.as_str())).collect();
        let adoptable = objects.iter().filter(|object| {
            let (text, name) = (object.key.as_str(), object.key.name());
            let hidden = text.starts_with(".pgkeep/") || text.contains(".proofs/") || ours.contains(text);
            !hidden && is_archive(name) && !unpublished.contains(name.split('.').next().unwrap_or(name))
        });
        listing.adoptable = adoptable
            .map(|object| Adoptable {
                destination: destination.name.clone(),
                key: object.key.clone(),
                stored_bytes: object.bytes,
                modified: DateTime::from_timestamp_millis(object.modified_ms).unwrap_or_default(),
            })
            .collect();
        Ok(listing)
    }
}

#[cfg(test)]
mod tests {
    use pgkeep_storage::StorageExt;

    use super::*;
    use crate::fixture::{at, keeper, memory, meta, store};

    #[tokio::test]
    async fn copies_are_merged_and_the_nearest_comes_first() {
        let keeper = keeper(vec![memory("bucket", true, 1), memory("local", false, 0)], at(100));
        for hours in [0, 24] {
            for destination in &keeper.destinations {
                store(destination, &meta(BackupClass::Daily, at(hours), b"archive"), b"archive").await;
            }
        }
        let catalog = Catalog::load(&keeper).await.expect("loaded");
        assert_eq!(catalog.entries.len(), 2);
        assert_eq!(catalog.entries[0].meta.date, at(24));
        let places: Vec<_> = catalog.entries[0].copies.iter().map(|copy| copy.name.as_str()).collect();
        assert_eq!(places, ["local", "bucket"]);
    }

    #[tokio::test]
    async fn picks_by_name_prefix_path_class_and_time() {
        let keeper = keeper(vec![memory("bucket", true, 1)], at(100));
        for (class, hours) in [
            (BackupClass::Daily, 0),
            (BackupClass::Daily, 24),
            (BackupClass::Weekly, 30),
            (BackupClass::PreRestore, 40),
        ] {
            store(&keeper.destinations[0], &meta(class, at(hours), b"archive"), b"archive").await;
        }
        let catalog = Catalog::load(&keeper).await.expect("loaded");
        let pick = |pick: Pick| catalog.pick(&pick).map(|entry| entry.meta.id.to_string());
        let named = |text: &str| pick(Pick::Name(text.to_owned()));
        let latest = |class| pick(Pick::Latest { class });

        assert_eq!(named("daily_20251017_030001").expect("exact"), "daily_20251017_030001");
        assert_eq!(named("daily_20251017").expect("unique prefix"), "daily_20251017_030001");
        assert_eq!(named("s3://b/p/daily/daily_20251018_030001.dump.gz").expect("a URL"), "daily_20251018_030001");
        assert_eq!(named("s3://b/p/daily/latest.dump.gz").expect("latest of its folder"), "daily_20251018_030001");
        assert!(matches!(named("daily"), Err(Error::Ambiguous { candidates, .. }) if candidates.len() == 2));
        assert!(matches!(named("monthly"), Err(Error::NotFound { candidates, .. }) if candidates.len() == 4));
        assert!(latest(None).expect("any").starts_with("weekly_"), "never a pre-restore snapshot");
        assert!(latest(Some(BackupClass::PreRestore)).expect("asked for").starts_with("pre-restore_"));
        assert_eq!(pick(Pick::Before(at(24))).expect("not after"), "daily_20251018_030001");
        assert!(matches!(pick(Pick::Before(at(-1))), Err(Error::NotFound { .. })));
    }

    #[tokio::test]
    async fn a_backup_of_a_part_is_the_latest_only_where_there_is_no_whole_one() {
        let keeper = keeper(vec![memory("bucket", true, 1)], at(100));
        let bucket = &keeper.destinations[0];
        let part = |class, hours| Meta {
            selection: vec!["--exclude-table-data=log".to_owned()],
            ..meta(class, at(hours), b"archive")
        };
        let without_grants = |hours| Meta {
            selection: vec!["--no-privileges".to_owned()],
            ..meta(BackupClass::Daily, at(hours), b"archive")
        };
        for meta in [
            meta(BackupClass::Daily, at(0), b"archive"),
            without_grants(24),
            part(BackupClass::Daily, 48),
            part(BackupClass::Weekly, 72),
        ] {
            store(bucket, &meta, b"archive").await;
        }
        let catalog = Catalog::load(&keeper).await.expect("loaded");
        let date = |pick: Pick| catalog.pick(&pick).expect("there").meta.date;
        assert_eq!(date(Pick::Latest { class: None }), at(24));
        assert_eq!(date(Pick::Before(at(90))), at(24));
        assert_eq!(date(Pick::Latest { class: Some(BackupClass::Weekly) }), at(72));
        assert_eq!(date(Pick::Name("daily_20251019".to_owned())), at(48), "by its name, always");
    }

    #[tokio::test]
    async fn damage_hides_a_backup_from_latest_until_a_proof_as_thorough_clears_it() {
        let keeper = keeper(vec![memory("bucket", true, 1)], at(100));
        for hours in [0, 24] {
            store(&keeper.destinations[0], &meta(BackupClass::Daily, at(hours), b"archive"), b"archive").await;
        }
        let newest = async || {
            let catalog = Catalog::load(&keeper).await.expect("loaded");
            catalog.pick(&Pick::Latest { class: None }).expect("one is good").clone()
        };
        let entry = newest().await;
        assert_eq!(entry.meta.date, at(24));
        let proof = |kind, outcome, hours| Proof {
            kind,
            outcome,
            at: at(hours),
            seconds: 1.0,
            hostname: "test".to_owned(),
            destination: "bucket".to_owned(),
            findings: Vec::new(),
            tool_version: "test".to_owned(),
        };
        keeper.store_proof(&entry, &proof(ProofKind::Deep, ProofOutcome::Bad, 30)).await.expect("stored");
        assert_eq!(newest().await.meta.date, at(0));
        keeper.store_proof(&entry, &proof(ProofKind::Quick, ProofOutcome::Good, 31)).await.expect("stored");
        assert_eq!(newest().await.meta.date, at(0), "a quick look clears nothing");
        keeper.store_proof(&entry, &proof(ProofKind::Deep, ProofOutcome::Good, 32)).await.expect("stored");
        assert_eq!(newest().await.meta.date, at(24));
        assert!(newest().await.proven());
    }

    #[tokio::test]
    async fn what_another_host_found_in_its_own_folder_is_not_said_of_ours() {
        let folder = tempfile::tempdir().expect("a folder");
        let storage = pgkeep_storage::DiskStorage::open(folder.path().canonicalize().expect("a path")).expect("opened");
        let local = Destination { storage: Arc::new(storage), ..memory("local", false, 0) };
        let keeper = keeper(vec![memory("bucket", true, 1), local], at(100));
        for destination in &keeper.destinations {
            store(destination, &meta(BackupClass::Daily, at(0), b"archive"), b"archive").await;
        }
        let load = async || Catalog::load(&keeper).await.expect("loaded").entries.remove(0);
        let proof = |hostname: &str, outcome, hours| Proof {
            kind: ProofKind::Restore,
            outcome,
            at: at(hours),
            seconds: 1.0,
            hostname: hostname.to_owned(),
            destination: "local".to_owned(),
            findings: Vec::new(),
            tool_version: "test".to_owned(),
        };
        // The other host has no way to our folder: its proofs come through the bucket.
        let entry = load().await;
        let in_bucket = CatalogEntry {
            copies: entry.copies.iter().filter(|copy| copy.name == "bucket").cloned().collect(),
            ..entry
        };
        keeper.store_proof(&in_bucket, &proof("other", ProofOutcome::Bad, 1)).await.expect("stored");
        let entry = load().await;
        assert!(entry.good_at(1), "our copy is another one");
        assert_eq!(entry.proofs[0].destination, "local of other");
        keeper.store_proof(&entry, &proof("test", ProofOutcome::Bad, 2)).await.expect("stored");
        assert!(!load().await.good_at(1));
        keeper.store_proof(&in_bucket, &proof("other", ProofOutcome::Good, 3)).await.expect("stored");
        let entry = load().await;
        assert!(!entry.good_at(1), "theirs clears nothing here");
        assert!(entry.proven(), "the content is the same everywhere");
    }

    #[tokio::test]
    async fn another_sources_backups_are_listed_but_never_the_latest() {
        let keeper = keeper(vec![memory("bucket", true, 1)], at(100));
        let foreign = Meta { source: "other".to_owned(), ..meta(BackupClass::Daily, at(24), b"archive") };
        store(&keeper.destinations[0], &foreign, b"archive").await;
        store(&keeper.destinations[0], &meta(BackupClass::Daily, at(0), b"archive"), b"archive").await;
        let identity = pgkeep_dump::SourceIdentity {
            system_identifier: Some("1".to_owned()),
            database: "app".to_owned(),
            server: "db:5432".to_owned(),
        };
        keeper.claim_source(&identity, None, false).await.expect("claimed");
        let catalog = Catalog::load(&keeper).await.expect("loaded");
        assert_eq!(catalog.entries.len(), 2);
        assert_eq!(catalog.pick(&Pick::Latest { class: None }).expect("own").meta.date, at(0));

        let clone = pgkeep_dump::SourceIdentity { server: "staging:5432".to_owned(), ..identity.clone() };
        assert!(matches!(keeper.claim_source(&clone, None, false).await, Err(Error::ForeignSource { .. })));
        keeper.claim_source(&identity, None, false).await.expect("still its own");
        keeper.claim_source(&clone, None, true).await.expect("taken over");
        assert!(matches!(keeper.claim_source(&identity, None, false).await, Err(Error::ForeignSource { .. })));
    }

    #[tokio::test]
    async fn metadata_of_other_scripts_block_nothing_and_their_archives_are_adoptable() {
        let keeper = keeper(vec![memory("local", true, 0)], at(9 * 24));
        let local = &keeper.destinations[0];
        for day in 0..10 {
            store(local, &meta(BackupClass::Daily, at(day * 24), b"archive"), b"archive").await;
        }
        let put = async |key: &str, content: &'static [u8]| {
            local.storage.put(&Key::new(key).expect("valid"), Bytes::from_static(content)).await.expect("stored");
        };
        put("daily_20251001_030001.dump.gz", b"precious").await;
        put("daily_20251001_030001.dump.gz.meta", crate::fixture::FOREIGN_META.as_bytes()).await;
        put("by-hand.dump", b"also").await;
        let catalog = Catalog::load(&keeper).await.expect("loaded");
        assert_eq!(catalog.unreadable, []);
        assert_eq!(catalog.entries.len(), 10);
        let mut adoptable: Vec<_> = catalog.adoptable.iter().map(|archive| archive.key.as_str()).collect();
        adoptable.sort_unstable();
        assert_eq!(adoptable, ["by-hand.dump", "daily_20251001_030001.dump.gz"]);
        let options = crate::PruneOptions { policy: crate::fixture::policy(5, 2), lock: None };
        let report = keeper.prune(&options).await.expect("pruned");
        assert_eq!((report.removed, report.swept, report.warnings.len()), (4, 0, 0), "{report:?}");
        assert_eq!(crate::fixture::keys(local).await.len(), 6 * 2 + 3);
    }

    #[tokio::test]
    async fn a_meta_that_names_another_archive_or_a_newer_format_is_told_of() {
        let keeper = keeper(vec![memory("bucket", true, 1)], at(100));
        let storage = keeper.destinations[0].storage.as_ref();
        let good = meta(BackupClass::Daily, at(0), b"archive");
        let json = Bytes::from(good.to_json().expect("serialises"));
        storage.put(&Key::new("daily/daily_20251019_030001.dump.meta").expect("valid"), json).await.expect("stored");
        let newer = Bytes::from_static(b"{\"format_version\": 99}");
        storage.put(&Key::new("daily/daily_20251020_030001.dump.meta").expect("valid"), newer).await.expect("stored");
        let catalog = Catalog::load(&keeper).await.expect("loaded");
        assert!(catalog.entries.is_empty());
        assert_eq!(catalog.unreadable.len(), 2);
    }
}
