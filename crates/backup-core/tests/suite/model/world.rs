//! Two hosts with a local folder each, a bucket that they share, and everybody's clocks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use pgkeep_archive::{InnerCompression, SyntheticArchive};
use pgkeep_core::{
    BackupClass, BackupOptions, ClassPolicy, Clock, Destination, Identities, Keeper, KeyPair, Layout, Policy,
    Recipients,
};
use pgkeep_storage::{Key, Location, ObjectStorage, StorageExt};
use pgkeep_testkit::{FaultyStorage, TimedStorage};
use secrecy::ExposeSecret;

use crate::fake::{FakeDump, rows, table};
use crate::hours::{SkewedClock, Time};
use crate::model::dice::Dice;
use crate::world::options;

/// The places: a host's folder has the host's number.
pub(crate) const BUCKET: usize = 2;
pub(crate) const PLACES: [&str; 3] = ["a's folder", "b's folder", "the bucket"];

/// What is kept, one way or another.
pub(crate) const POLICIES: usize = 3;

/// A host: its clock, and how its operator wants backups made.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) name: &'static str,
    pub(crate) clock: SkewedClock,
    pub(crate) codec: &'static str,
    pub(crate) layout: Layout,
    pub(crate) encrypted: bool,
    pub(crate) policy: usize,
}

/// A backup at one place, as the model has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Backup {
    pub(crate) id: String,
    pub(crate) class: BackupClass,
    pub(crate) cluster: u32,
    /// When it was made, truly.
    pub(crate) made: DateTime<Utc>,
    /// Its meta, which never changes.
    pub(crate) meta: Bytes,
}

/// The backups of a place, by their archives' keys.
pub(crate) type Shelf = BTreeMap<String, Backup>;

pub(crate) struct World {
    pub(crate) time: Time,
    pub(crate) store_clock: SkewedClock,
    pub(crate) stores: [TimedStorage; 3],
    pub(crate) hosts: [Host; 2],
    /// The database cluster, and how many dumps of it there were.
    pub(crate) cluster: u32,
    pub(crate) dumps: u64,
    keys: KeyPair,
    /// What there must be.
    pub(crate) shelves: [Shelf; 3],
    /// Objects of others, by place.
    pub(crate) strangers: BTreeSet<(usize, String)>,
    /// Who is seen doing what only the holder of the lock may do.
    pub(crate) trespasses: Arc<Mutex<Vec<String>>>,
}

/// One run of the program on a host: what it does goes through stores that can fail together.
pub(crate) struct Process {
    pub(crate) keeper: Keeper,
    pub(crate) way: FaultyStorage,
}

impl World {
    pub(crate) fn new(dice: &mut Dice) -> Self {
        // Leap days, years of 53 weeks, and others.
        let begins = ["2028-02-25", "2026-12-26", "2025-10-18", "2032-12-28", "2099-12-30", "2100-02-27"];
        let begins = format!("{}T00:00:00Z", dice.pick(&begins)).parse().unwrap();
        let time = Time::new(begins);
        let store_clock = SkewedClock::new(&time);
        let host = |name| Host {
            name,
            clock: SkewedClock::new(&time),
            codec: "zstd:1",
            layout: Layout::ByClass,
            encrypted: false,
            policy: 0,
        };
        let hosts = [host("a"), host("b")];
        let store = |location: &str, clock: &SkewedClock| {
            let clock = clock.clone();
            let memory = Arc::new(ObjectStorage::memory());
            TimedStorage::new(memory, Location::new(location), move || clock.now().timestamp_millis())
        };
        Self {
            stores: [
                store("file:///a", &hosts[0].clock),
                store("file:///b", &hosts[1].clock),
                store("memory://bucket", &store_clock),
            ],
            hosts,
            store_clock,
            time,
            cluster: 1,
            dumps: 0,
            keys: KeyPair::generate(),
            shelves: [Shelf::new(), Shelf::new(), Shelf::new()],
            strangers: BTreeSet::new(),
            trespasses: Arc::default(),
        }
    }

    /// A new process on a host.
    pub(crate) fn process(&self, host: usize) -> Process {
        let settings = &self.hosts[host];
        let way = FaultyStorage::new(Arc::new(self.stores[host].clone()));
        let bucket = way.beside(Arc::new(crate::model::laws::Watched {
            inner: self.stores[BUCKET].clone(),
            host: settings.name,
            clock: self.store_clock.clone(),
            trespasses: Arc::clone(&self.trespasses),
        }));
        let destination = |name: &str, storage: FaultyStorage, layout, required, rank| Destination {
            name: name.to_owned(),
            storage: Arc::new(storage),
            layout,
            required,
            storage_classes: BTreeMap::new(),
            rank,
        };
        let destinations = vec![
            destination("local", way.clone(), Layout::Flat, false, 0),
            destination("bucket", bucket, settings.layout, true, 1),
        ];
        let mut keeper = Keeper::new(destinations, settings.name);
        keeper.clock = Arc::new(settings.clock.clone());
        keeper.identities = Identities::parse(self.keys.identity.expose_secret()).unwrap();
        Process { keeper, way }
    }

    /// Which place a keeper's destination is, seen from a host.
    pub(crate) fn place(host: usize, destination: usize) -> usize {
        if destination == 0 { host } else { BUCKET }
    }

    /// How a host makes backups now.
    pub(crate) fn options(&self, host: usize, class: BackupClass) -> BackupOptions {
        let settings = &self.hosts[host];
        let recipients = || Recipients::parse([self.keys.recipient.as_str()]).unwrap();
        BackupOptions {
            class,
            jobs: 2,
            policy: Some(policy(settings.policy)),
            encryption: settings.encrypted.then(recipients),
            ..options(settings.codec)
        }
    }

    /// The next dump of the database: never the same twice.
    pub(crate) fn engine(&mut self) -> FakeDump {
        self.dumps += 1;
        let mut archive = SyntheticArchive::new(16, InnerCompression::None);
        table(&mut archive, 10, "orders", &rows(self.dumps, 1 + self.dumps % 7, 20));
        FakeDump { at: self.time.now(), cluster: self.cluster, ..FakeDump::new(&archive) }
    }

    pub(crate) async fn read(&self, place: usize, key: &Key) -> Bytes {
        self.stores[place].read_all(key, 1 << 30).await.unwrap()
    }

    /// How far from the truth the server's and the bucket's clock may be.
    pub(crate) fn tolerance() -> TimeDelta {
        TimeDelta::hours(3)
    }
}

/// One of several policies.
pub(crate) fn policy(number: usize) -> Policy {
    use BackupClass::{Daily, Monthly, PreRestore, Weekly};
    let rule = |days, at_least, at_most| ClassPolicy { days: Some(days), at_least, at_most };
    let rules = match number {
        0 => [
            (Daily, rule(3, 2, None)),
            (Weekly, rule(10, 1, None)),
            (Monthly, rule(30, 1, None)),
            (PreRestore, rule(2, 0, None)),
        ],
        1 => [
            (Daily, rule(5, 1, Some(3))),
            (Weekly, rule(5, 0, None)),
            (Monthly, rule(9, 1, Some(1))),
            (PreRestore, rule(1, 1, None)),
        ],
        _ => [
            (Daily, rule(1, 1, None)),
            (Weekly, rule(1, 0, None)),
            (Monthly, rule(2, 0, None)),
            (PreRestore, rule(1, 0, Some(1))),
        ],
    };
    let here: BTreeMap<_, _> = rules.into();
    // In the folders less is kept.
    let local =
        here.iter().map(|(class, rule)| (*class, ClassPolicy { days: rule.days.map(|days| days.min(2)), ..*rule }));
    Policy { destinations: BTreeMap::from([("local".to_owned(), local.collect()), ("*".to_owned(), here)]) }
}
