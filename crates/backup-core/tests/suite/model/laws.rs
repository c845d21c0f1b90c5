//! What is really there, what may have come and gone, and who did it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use futures::stream::BoxStream;
use pgkeep_core::{Catalog, Clock, Meta, Proof, ProofKind, ProofOutcome};
use pgkeep_storage::{
    ByteStream, Created, Key, Location, ObjectInfo, ObjectWriter, Result, Storage, StorageExt, Support, WriteOptions,
};
use pgkeep_testkit::TimedStorage;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::hours::SkewedClock;
use crate::model::policy::Known;
use crate::model::world::{BUCKET, PLACES, World};

/// A place as it is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    /// Every object's size.
    pub(crate) objects: BTreeMap<String, u64>,
    /// Metas by their archives' keys, and when they were written by the store's clock.
    pub(crate) metas: BTreeMap<String, (Bytes, Arc<Meta>, DateTime<Utc>)>,
    /// Proofs by their archives' keys.
    pub(crate) proofs: BTreeMap<String, Vec<Proof>>,
    /// The cluster of the recorded source.
    pub(crate) source: Option<u32>,
    /// The lock's newest epoch.
    pub(crate) epoch: Option<Epoch>,
}

/// What an epoch of the lock says.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Epoch {
    pub(crate) holder: String,
    pub(crate) released: bool,
    lease_seconds: i64,
    #[serde(skip)]
    written: DateTime<Utc>,
}

impl Epoch {
    pub(crate) fn is_held(&self, store_now: DateTime<Utc>) -> bool {
        !self.released && self.written + TimeDelta::seconds(self.lease_seconds) > store_now
    }

    async fn newest(store: &TimedStorage) -> Option<Self> {
        let folder = store.list_all(&Key::new(".pgkeep").unwrap()).await.unwrap();
        let newest = folder.into_iter().rfind(|info| info.key.name().starts_with("lock-"))?;
        let json = store.read_all(&newest.key, 1 << 20).await.unwrap();
        let epoch: Self = serde_json::from_slice(&json).unwrap();
        Some(Self { written: DateTime::from_timestamp_millis(newest.modified_ms).unwrap(), ..epoch })
    }
}

impl Seen {
    /// Looks, with what was read before: metas and proofs never change.
    pub(crate) async fn look(store: &TimedStorage, before: &Self) -> Self {
        let mut seen = Self { epoch: Epoch::newest(store).await, ..Self::default() };
        for info in store.list_all(&Key::root()).await.unwrap() {
            let key = info.key.to_string();
            seen.objects.insert(key.clone(), info.bytes);
            let read = async || store.read_all(&info.key, 1 << 30).await.unwrap();
            if key == "source.json" {
                let record: serde_json::Value = serde_json::from_slice(&read().await).unwrap();
                let cluster = record["identity"]["system_identifier"].as_str();
                seen.source = cluster.map(|cluster| cluster.parse().unwrap());
            } else if let Some(archive) = key.strip_suffix(".meta") {
                let json = read().await;
                let known = before.metas.get(archive).filter(|(known, ..)| *known == json);
                let meta = known.map(|(_, meta, _)| Arc::clone(meta));
                let meta = meta.unwrap_or_else(|| Arc::new(Meta::from_json(&key, &json).unwrap()));
                let written = DateTime::from_timestamp_millis(info.modified_ms).unwrap();
                seen.metas.insert(archive.to_owned(), (json, meta, written));
            } else if let Some((archive, _)) = key.split_once(".proofs/") {
                let proof: Proof = serde_json::from_slice(&read().await).unwrap();
                seen.proofs.entry(archive.to_owned()).or_default().push(proof);
            }
        }
        seen
    }
}

impl World {
    /// Everything, as it is now.
    pub(crate) async fn look(&self, before: &[Seen; 3]) -> [Seen; 3] {
        [
            Seen::look(&self.stores[0], &before[0]).await,
            Seen::look(&self.stores[1], &before[1]).await,
            Seen::look(&self.stores[2], &before[2]).await,
        ]
    }

    /// Whether the archive at a place is there in full.
    pub(crate) fn intact(seen: &Seen, archive: &str) -> bool {
        seen.objects.get(archive) == Some(&seen.metas[archive].1.stored.bytes)
    }

    /// What a host knows of the backups at a place, its own source's only.
    pub(crate) fn known(&self, host: usize, place: usize, seen: &[Seen; 3]) -> Vec<Known> {
        let name = if place == BUCKET { "bucket" } else { "local" };
        let source = seen[host].source.or(seen[BUCKET].source);
        let conflicts = self.conflicts(host, seen);
        let known = |(archive, (_, meta, _)): (&String, &(Bytes, Arc<Meta>, DateTime<Utc>))| {
            let id = meta.id.to_string();
            // Copied in between, and not there any more.
            let elsewhere = || self.shelves[host].values().find(|backup| backup.id == id);
            let backup = self.shelves[place].get(archive).or_else(elsewhere).unwrap();
            let ours = source.is_none_or(|source| backup.cluster == 0 || backup.cluster == source);
            let mine = !(place == BUCKET && conflicts.contains(&id));
            let proofs = self.proofs(host, &id, seen);
            // What another host says of its own folder says nothing of ours.
            let of_here = |(at, proof): &&(usize, &Proof)| {
                proof.destination == name
                    && (*at != BUCKET || name == "bucket" || proof.hostname == self.hosts[host].name)
            };
            let bad = is_bad(proofs.iter().filter(of_here).map(|(_, proof)| *proof));
            let proven =
                proofs.iter().any(|(_, proof)| proof.outcome == ProofOutcome::Good && proof.kind >= ProofKind::Deep);
            let good = Self::intact(&seen[place], archive) && !bad;
            (ours && mine).then(|| Known {
                dated: self.dated(host, &id, meta, seen),
                class: meta.backup_type,
                made: backup.made,
                good,
                proven: good && proven,
                id,
            })
        };
        seen[place].metas.iter().filter_map(known).collect()
    }

    /// Names that another backup has in the host's folder than in the bucket.
    pub(crate) fn conflicts(&self, host: usize, seen: &[Seen; 3]) -> BTreeSet<String> {
        let id = |backup: &(Bytes, Arc<Meta>, DateTime<Utc>)| (backup.1.id.to_string(), backup.0.clone());
        let here: BTreeMap<String, Bytes> = seen[host].metas.values().map(id).collect();
        let there = seen[BUCKET].metas.values().map(id);
        there.filter(|(id, json)| here.get(id).is_some_and(|other| other != json)).map(|(id, _)| id).collect()
    }

    /// By the clocks of the host, the server and the bucket: the one in the middle of those that are no more than a day from
    /// another; the server's, if only two are, or else the host's.
    fn dated(&self, host: usize, id: &str, meta: &Meta, seen: &[Seen; 3]) -> Option<DateTime<Utc>> {
        let conflicts = self.conflicts(host, seen);
        let stored = seen[BUCKET].metas.values().find(|(_, meta, _)| meta.id.as_str() == id && !conflicts.contains(id));
        let mut clocks = vec![meta.snapshot_time, meta.date];
        clocks.extend(stored.map(|(_, _, written)| *written));
        let near = |one: DateTime<Utc>, other: DateTime<Utc>| (one - other).abs() <= TimeDelta::days(1);
        let mut agree: Vec<_> = clocks
            .iter()
            .enumerate()
            .filter(|(at, one)| clocks.iter().enumerate().any(|(other, two)| *at != other && near(**one, *two)))
            .map(|(_, clock)| *clock)
            .collect();
        if agree.len() == 3 {
            agree.sort_unstable();
            return Some(agree[1]);
        }
        agree.first().copied()
    }

    /// The proofs of a backup that a host can see, newest first, each with the place where it lies.
    fn proofs<'s>(&self, host: usize, id: &str, seen: &'s [Seen; 3]) -> Vec<(usize, &'s Proof)> {
        let mut all = Vec::new();
        for place in [host, BUCKET] {
            for (archive, proofs) in &seen[place].proofs {
                if seen[place].metas.get(archive).is_some_and(|(_, meta, _)| meta.id.as_str() == id) {
                    all.extend(proofs.iter().map(|proof| (place, proof)));
                }
            }
        }
        all.sort_by_key(|(_, proof)| std::cmp::Reverse(proof.at));
        all
    }

    /// Law 1 and 2, of what is new: it is there in full, and it is what was dumped.
    pub(crate) async fn assert_whole(&self, place: usize, archive: &str, meta: &Meta) {
        let key = Key::new(archive).unwrap();
        let stored = self.read(place, &key).await;
        assert_eq!(
            hex::encode(Sha256::digest(&stored)),
            meta.stored.sha256,
            "{archive} at {} is not whole",
            PLACES[place]
        );
        if let Some(globals) = &meta.globals {
            let folder = archive.rsplit_once('/').map(|(folder, _)| format!("{folder}/")).unwrap_or_default();
            let stored = self.read(place, &Key::new(format!("{folder}{}", globals.file)).unwrap()).await;
            assert_eq!(hex::encode(Sha256::digest(&stored)), globals.stored.sha256, "globals of {archive}");
        }
    }

    /// What a host lists is what the model has.
    pub(crate) async fn assert_listing(&self, host: usize, seen: &[Seen; 3]) {
        let catalog = Catalog::load(&self.process(host).keeper).await.unwrap();
        assert!(catalog.incomplete.is_empty(), "{:?}", catalog.incomplete);
        let conflicts = self.conflicts(host, seen);
        assert_eq!(catalog.unreadable.len(), conflicts.len(), "{:?}", catalog.unreadable);
        let mut listed = BTreeMap::new();
        for entry in catalog.own() {
            for copy in &entry.copies {
                let (good, proven) = (entry.good_at(copy.destination), entry.keep(copy.destination).proven);
                listed.insert((Self::place(host, copy.destination), entry.meta.id.to_string()), (good, proven));
            }
        }
        let mut there = BTreeMap::new();
        for place in [host, BUCKET] {
            let known = self.known(host, place, seen).into_iter();
            there.extend(known.map(|known| ((place, known.id), (known.good, known.proven))));
        }
        assert_eq!(
            listed, there,
            "{} lists other backups than there are, or says otherwise of them",
            self.hosts[host].name
        );
    }
}

/// Whether a copy was found damaged, and by nothing as thorough found good since.
fn is_bad<'p>(newest_first: impl Iterator<Item = &'p Proof>) -> bool {
    let mut good: Option<ProofKind> = None;
    for proof in newest_first {
        match proof.outcome {
            ProofOutcome::Good => good = good.max(Some(proof.kind)),
            ProofOutcome::Bad if good < Some(proof.kind) => return true,
            ProofOutcome::Bad => {}
        }
    }
    false
}

/// The bucket, with somebody who sees to it that only the holder of the lock makes and unmakes backups.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) inner: TimedStorage,
    pub(crate) host: &'static str,
    pub(crate) clock: SkewedClock,
    pub(crate) trespasses: Arc<Mutex<Vec<String>>>,
}

impl Watched {
    async fn only_the_holder(&self, what: &str, key: &Key) {
        if !key.as_str().ends_with(".meta") {
            return;
        }
        let epoch = Epoch::newest(&self.inner).await;
        let ours = format!("{} (process ", self.host);
        if !epoch.as_ref().is_some_and(|epoch| epoch.is_held(self.clock.now()) && epoch.holder.starts_with(&ours)) {
            let trespass = format!("{} {what} {key}, and the lock is {epoch:?}", self.host);
            self.trespasses.lock().unwrap().push(trespass);
        }
    }
}

#[async_trait]
impl Storage for Watched {
    fn location(&self) -> &Location {
        self.inner.location()
    }
    async fn write(&self, key: &Key, options: &WriteOptions) -> Result<Box<dyn ObjectWriter>> {
        self.inner.write(key, options).await
    }
    async fn create(&self, key: &Key, bytes: Bytes) -> Result<Created> {
        self.only_the_holder("creates", key).await;
        self.inner.create(key, bytes).await
    }
    async fn read(&self, key: &Key, range: Option<Range<u64>>) -> Result<ByteStream> {
        self.inner.read(key, range).await
    }
    async fn head(&self, key: &Key) -> Result<ObjectInfo> {
        self.inner.head(key).await
    }
    fn list(&self, prefix: &Key) -> BoxStream<'static, Result<ObjectInfo>> {
        self.inner.list(prefix)
    }
    fn conditional_writes(&self) -> Support {
        self.inner.conditional_writes()
    }
    async fn delete(&self, key: &Key) -> Result<()> {
        self.only_the_holder("deletes", key).await;
        self.inner.delete(key).await
    }
}
