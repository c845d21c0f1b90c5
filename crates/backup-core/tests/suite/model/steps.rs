//! What may happen next, and what must come of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::TimeDelta;
use pgkeep_core::{
    AdoptOptions, BackupClass, BackupOptions, BackupReport, Catalog, Error, ErrorKind, Layout, Lock, LockOptions, Meta,
    PruneOptions, PruneReport, Result, Verified, VerifyDepth,
};
use pgkeep_storage::{Key, Storage, StorageExt};
use pgkeep_testkit::{StoreFault, Trouble};

use crate::fake::{FakeDump, Flaw};
use crate::model::dice::Dice;
use crate::model::laws::Seen;
use crate::model::policy::{must_stay, stays};
use crate::model::world::{BUCKET, Backup, PLACES, POLICIES, Process, World, policy};
use crate::world::plain;

/// A history under way.
pub(crate) struct History {
    pub(crate) world: World,
    pub(crate) dice: Dice,
    pub(crate) seen: [Seen; 3],
    /// How often what happened.
    pub(crate) counts: BTreeMap<&'static str, u64>,
    /// What happened, in words.
    pub(crate) told: Vec<String>,
}

/// What befalls a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Well,
    /// A call to a store fails.
    Fault(StoreFault),
    /// The process dies at a call.
    Death(StoreFault),
    /// Its future is dropped at a call.
    Drop(u64),
    /// It is cancelled at a call.
    Cancel(u64),
}

/// What a run does.
#[derive(Debug)]
enum Deed {
    Backup { class: BackupClass, take_over: bool, fails: bool },
    Prune,
}

/// What came of it; nothing of a run that did not live to tell.
#[derive(Debug)]
enum Said {
    Backup(Option<Result<BackupReport>>),
    Prune(Option<Result<PruneReport>>),
}

/// A run: who does what, and what befalls it.
struct Run {
    host: usize,
    deed: Deed,
    fate: Fate,
    engine: FakeDump,
    options: BackupOptions,
    process: Process,
}

impl History {
    pub(crate) fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let world = World::new(&mut dice);
        Self { world, dice, seen: Default::default(), counts: BTreeMap::new(), told: Vec::new() }
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// One step: time passes, and something happens.
    pub(crate) async fn step(&mut self) {
        let pause = match self.dice.between(0, 100) {
            0..25 => TimeDelta::seconds(self.dice.between(20, 280)),
            25..70 => TimeDelta::minutes(self.dice.between(10, 200)),
            70..96 => TimeDelta::minutes(self.dice.between(300, 1700)),
            _ => TimeDelta::days(self.dice.between(3, 40)),
        };
        self.world.time.pass(pause);
        self.told.push(format!("-- {}", self.world.time.now().format("%F %T")));
        let host = self.dice.between(0, 2) as usize;
        match self.dice.between(0, 100) {
            0..46 => self.one_run(host).await,
            46..56 => self.two_runs().await,
            56..60 => self.dry_run(host).await,
            60..70 => self.verify(host).await,
            70..78 => self.meddle().await,
            78..84 => self.change_options(host),
            84..92 => self.set_clocks(host),
            92..95 => self.unlock(host).await,
            95..98 => self.adopt(host).await,
            _ => {
                // The database moves to a new cluster, now and then.
                if self.world.cluster < 3 && self.dice.percent(30) {
                    self.world.cluster += 1;
                    self.told.push(format!("the database is in cluster {} now", self.world.cluster));
                    self.count("moves of the database to another cluster");
                }
            }
        }
        let trespasses = self.world.trespasses.lock().unwrap().clone();
        assert_eq!(trespasses, Vec::<String>::new(), "somebody acts without the lock");
        self.world.assert_listing(host, &self.seen).await;
    }

    fn fate(&mut self) -> Fate {
        let nth = 1 + self.dice.number() % 150;
        let fault = StoreFault {
            operation: None,
            nth,
            trouble: Trouble::Fails,
            lasting: false,
            permanent: self.dice.percent(50),
        };
        match self.dice.between(0, 100) {
            0..56 => Fate::Well,
            56..74 => {
                let trouble = *self.dice.pick(&[Trouble::Fails, Trouble::AnswerLost, Trouble::Half]);
                Fate::Fault(StoreFault { trouble, lasting: self.dice.percent(25), ..fault })
            }
            74..88 => {
                let trouble = *self.dice.pick(&[Trouble::Dies, Trouble::DiesAfter]);
                Fate::Death(StoreFault { trouble, ..fault })
            }
            88..94 => Fate::Drop(nth),
            _ => Fate::Cancel(nth),
        }
    }

    fn run(&mut self, host: usize) -> Run {
        let class = *self.dice.pick(&[
            BackupClass::Daily,
            BackupClass::Daily,
            BackupClass::Daily,
            BackupClass::Weekly,
            BackupClass::Monthly,
            BackupClass::PreRestore,
        ]);
        let deed = if self.dice.percent(80) {
            Deed::Backup { class, take_over: self.dice.percent(15), fails: self.dice.percent(6) }
        } else {
            Deed::Prune
        };
        let fate = self.fate();
        let mut engine = self.world.engine();
        let mut options = self.world.options(host, class);
        if let Deed::Backup { take_over, fails, .. } = deed {
            options.take_over = take_over;
            engine.flaw = if fails { Flaw::Fails(0) } else { Flaw::None };
        }
        Run { host, deed, fate, engine, options, process: self.world.process(host) }
    }

    async fn one_run(&mut self, host: usize) {
        let run = self.run(host);
        let locked = self.locked();
        self.told.push(format!("{} {:?}, lock held: {locked}: {:?}", self.world.hosts[host].name, run.deed, run.fate));
        let said = run.go().await;
        self.told.push(said.brief());
        self.settle(&[(&run, &said)], locked).await;
    }

    /// Both hosts at once, calls to the stores in any order.
    async fn two_runs(&mut self) {
        let (one, mut other) = (self.run(0), self.run(1));
        let patient = self.dice.percent(30);
        if patient {
            other.options.lock.wait = Duration::from_secs(7200);
        }
        for run in [&one, &other] {
            let mut dice = Dice::new(self.dice.number());
            run.process.way.pace(move || (dice.number() % 8) as u32);
        }
        self.told.push(format!("at once a {:?}: {:?}, and b {:?}: {:?}", one.deed, one.fate, other.deed, other.fate));
        self.count("runs of both hosts at once");
        let locked = self.locked();
        let (first, second) = tokio::join!(one.go(), other.go());
        self.told.extend([first.brief(), second.brief()]);
        // Who waits has it when the lease is over.
        self.settle(&[(&one, &first), (&other, &second)], locked && !patient).await;
    }

    /// Whether somebody who is gone holds the lock.
    fn locked(&self) -> bool {
        use pgkeep_core::Clock;
        self.seen[BUCKET].epoch.as_ref().is_some_and(|epoch| epoch.is_held(self.world.store_clock.now()))
    }

    /// Whether a place says that it belongs to another cluster than the present one.
    fn is_foreign(&self, place: usize) -> bool {
        let seen = &self.seen[place];
        let told = || {
            let ours = seen.metas.iter().filter(|(archive, _)| self.world.shelves[place][*archive].cluster > 0);
            let newest = ours.max_by_key(|(_, (_, meta, _))| meta.date)?;
            Some(self.world.shelves[place][newest.0].cluster)
        };
        seen.source.or_else(told).is_some_and(|cluster| cluster != self.world.cluster)
    }

    /// Compares what was said with what there is now, and both with what may be.
    async fn settle(&mut self, runs: &[(&Run, &Said)], locked: bool) {
        if runs.iter().any(|(run, _)| matches!(run.fate, Fate::Drop(_))) {
            tokio::time::sleep(Duration::from_secs(15)).await;
        }
        let now = self.world.look(&self.seen).await;
        let foreign = [self.is_foreign(0), self.is_foreign(1), self.is_foreign(BUCKET)];
        let before = self.seen.clone();
        let mut new_at: [BTreeSet<String>; 3] = Default::default();
        for place in 0..3 {
            for (archive, (json, meta, _)) in &now[place].metas {
                match self.world.shelves[place].get(archive) {
                    Some(known) => assert_eq!(known.meta, json, "{archive} at {} has another meta now", PLACES[place]),
                    None => {
                        let backup = self.new_backup(runs, place, json, meta);
                        self.world.assert_whole(place, archive, meta).await;
                        self.world.shelves[place].insert(archive.clone(), backup);
                        new_at[place].insert(meta.id.to_string());
                    }
                }
            }
        }
        // Law 6: what went was to go.
        let mut expected: [BTreeSet<String>; 3] = Default::default();
        let present = with(&before, &now);
        let orders: [Vec<&(&Run, &Said)>; 2] = [runs.iter().collect(), runs.iter().rev().collect()];
        for order in orders {
            let mut later: BTreeSet<&str> = order.iter().map(|(run, _)| self.world.hosts[run.host].name).collect();
            let mut gone: [BTreeSet<String>; 3] = Default::default();
            for (run, said) in order {
                later.remove(self.world.hosts[run.host].name);
                let there = without(&present, &new_at, &later, &gone);
                // What was copied may have gone right after, for the new backup takes its place.
                let copied = self.copied(run, said, &there);
                let states = if said.is_well() { vec![copied] } else { vec![there, copied] };
                for (state, place) in states.iter().flat_map(|state| [(state, run.host), (state, BUCKET)]) {
                    let to_go = self.to_go(run.host, place, state);
                    expected[place].extend(to_go.iter().cloned());
                    if said.is_well() {
                        gone[place].extend(to_go);
                    }
                }
            }
        }
        for place in 0..3 {
            let gone: BTreeSet<String> = self.world.shelves[place]
                .iter()
                .filter(|(archive, _)| !now[place].metas.contains_key(*archive))
                .map(|(_, backup)| backup.id.clone())
                .collect();
            let spared: Vec<_> = gone.difference(&expected[place]).collect();
            assert!(
                spared.is_empty(),
                "{spared:?} went from {}, and were to stay: {:#?}",
                PLACES[place],
                runs.iter().map(|(run, _)| self.world.known(run.host, place, &present)).collect::<Vec<_>>()
            );
            for (run, _) in runs.iter().filter(|(run, _)| place == BUCKET || place == run.host) {
                let name = if place == BUCKET { "bucket" } else { "local" };
                let rules = policy(self.world.hosts[run.host].policy).rules(name);
                let known = self.world.known(run.host, place, &present);
                let must = must_stay(&known, &rules, self.world.time.now(), World::tolerance());
                let lost: Vec<_> = gone.intersection(&must).collect();
                assert!(
                    runs.len() > 1 || lost.is_empty(),
                    "{lost:?} went from {}; by true time, {}, they stay: {known:#?}",
                    PLACES[place],
                    self.world.time.now()
                );
            }
            if !gone.is_empty() {
                *self.counts.entry("copies removed by retention").or_default() += gone.len() as u64;
            }
            self.world.shelves[place].retain(|archive, _| now[place].metas.contains_key(archive));
            for (at, key) in self.world.strangers.iter().filter(|(at, _)| *at == place) {
                assert!(now[*at].objects.contains_key(key), "{key} of somebody else went from {}", PLACES[*at]);
            }
        }
        let both = runs.len() > 1;
        for (run, said) in runs {
            self.judge(run, said, locked, foreign, both, &new_at, &before, &now, &expected);
        }
        let nobody =
            runs.iter().all(|(_, said)| said.error().is_some_and(|error| matches!(error, Error::Locked { .. })));
        assert!(
            !both || locked || !nobody || runs.iter().any(|(run, _)| run.fate != Fate::Well),
            "both were told that the other has the lock"
        );
        self.seen = now;
    }

    /// Whose a new meta is: a copy of what a host had already, or of a run.
    fn new_backup(&self, runs: &[(&Run, &Said)], place: usize, json: &Bytes, meta: &Meta) -> Backup {
        for (run, _) in runs {
            let copied = self.world.shelves[run.host].values().find(|backup| backup.meta == json);
            if let Some(copied) = copied.filter(|_| place == BUCKET) {
                return copied.clone();
            }
            if let Deed::Backup { class, .. } = run.deed
                && meta.hostname == self.world.hosts[run.host].name
                && meta.backup_type == class
                && [run.host, BUCKET].contains(&place)
            {
                let made = self.world.time.now();
                return Backup {
                    id: meta.id.to_string(),
                    class,
                    cluster: self.world.cluster,
                    made,
                    meta: json.clone(),
                };
            }
        }
        panic!("nobody made {} at {}", meta.id, PLACES[place]);
    }

    /// The state while a run was at work: with copies in the bucket of what its folder has.
    fn copied(&self, run: &Run, said: &Said, present: &[Seen; 3]) -> [Seen; 3] {
        use pgkeep_core::Clock;
        let mut state = present.clone();
        for (archive, (json, meta, _)) in &present[run.host].metas {
            let id = meta.id.as_str();
            let told = match said {
                Said::Backup(Some(Ok(report))) => report.replicated.copied.iter().any(|(copied, _)| copied == id),
                Said::Backup(_) => true,
                Said::Prune(_) => false,
            };
            if told && !present[BUCKET].metas.values().any(|(_, meta, _)| meta.id.as_str() == id) {
                state[BUCKET]
                    .metas
                    .insert(archive.clone(), (json.clone(), Arc::clone(meta), self.world.store_clock.now()));
                state[BUCKET].objects.insert(archive.clone(), meta.stored.bytes);
            }
        }
        state
    }

    /// What a host's policy does not keep at a place.
    fn to_go(&self, host: usize, place: usize, seen: &[Seen; 3]) -> BTreeSet<String> {
        use pgkeep_core::Clock;
        let name = if place == BUCKET { "bucket" } else { "local" };
        let clusters: BTreeSet<u32> = [host, BUCKET]
            .into_iter()
            .flat_map(|place| self.world.shelves[place].values().map(|backup| backup.cluster))
            .filter(|cluster| *cluster > 0)
            .collect();
        let unknown_whose = seen[host].source.is_none() && seen[BUCKET].source.is_none() && clusters.len() > 1;
        if unknown_whose || place == BUCKET && !self.world.conflicts(host, seen).is_empty() {
            return BTreeSet::new();
        }
        let known = self.world.known(host, place, seen);
        let rules = policy(self.world.hosts[host].policy).rules(name);
        let stays = stays(&known, &rules, self.world.hosts[host].clock.now());
        known.into_iter().map(|known| known.id).filter(|id| !stays.contains(id)).collect()
    }

    /// Whether what a run said is true.
    #[expect(clippy::too_many_arguments, reason = "all that is known before and after")]
    fn judge(
        &mut self,
        run: &Run,
        said: &Said,
        locked: bool,
        foreign: [bool; 3],
        both: bool,
        new_at: &[BTreeSet<String>; 3],
        before: &[Seen; 3],
        now: &[Seen; 3],
        expected: &[BTreeSet<String>; 3],
    ) {
        let places = [run.host, BUCKET];
        let gone = |place: usize| {
            let gone = before[place].metas.iter().filter(|(archive, _)| !now[place].metas.contains_key(*archive));
            gone.map(|(_, (_, meta, _))| meta.id.to_string()).collect::<BTreeSet<_>>()
        };
        let well = run.fate == Fate::Well;
        let error = said.error();
        if let Some(error) = error {
            let kinds: &[ErrorKind] = match (run.fate, &run.deed) {
                _ if locked || both => &[
                    ErrorKind::Locked,
                    ErrorKind::Store,
                    ErrorKind::Usage,
                    ErrorKind::Database,
                    ErrorKind::Interrupted,
                ],
                (_, Deed::Backup { fails: true, .. }) => {
                    &[ErrorKind::Database, ErrorKind::Store, ErrorKind::Usage, ErrorKind::Interrupted]
                }
                (Fate::Cancel(_), _) => &[ErrorKind::Interrupted, ErrorKind::Usage],
                (Fate::Fault(_), _) => &[ErrorKind::Store, ErrorKind::Usage],
                _ => &[ErrorKind::Usage],
            };
            assert!(kinds.contains(&error.kind()), "{error:?}");
            assert!(
                error.kind() != ErrorKind::Usage
                    || matches!(error, Error::ForeignSource { .. }) && places.iter().any(|place| foreign[*place]),
                "{error:?}"
            );
        }
        match said {
            Said::Backup(Some(Ok(report))) => {
                let Deed::Backup { take_over, fails, .. } = run.deed else { unreachable!("it was a backup") };
                assert!(!locked, "the lock was somebody else's");
                assert!(!fails, "the dump failed");
                for destination in &report.destinations {
                    let place = places[usize::from(destination.name == "bucket")];
                    assert!(!destination.stored || take_over || !foreign[place], "another cluster's backups lie here");
                    let there = new_at[place].contains(report.meta.id.as_str());
                    assert_eq!(
                        destination.stored,
                        there,
                        "{} at {}: {:#?}",
                        report.meta.id,
                        PLACES[place],
                        self.world.known(run.host, place, now)
                    );
                    assert!(there || !destination.required && !well, "{} is not at {}", report.meta.id, PLACES[place]);
                }
                for (id, _) in &report.replicated.copied {
                    let there = new_at[BUCKET].contains(id) || expected[BUCKET].contains(id);
                    assert!(there || both, "{id} was said to be copied");
                }
                if well && !both {
                    for place in places {
                        let copied = |id: &String| report.replicated.copied.iter().any(|(copied, _)| copied == id);
                        let mut expected = expected[place].clone();
                        expected.retain(|id| place != BUCKET || !copied(id));
                        assert_eq!(gone(place), expected, "other backups went from {}", PLACES[place]);
                    }
                }
                self.count("backups made");
            }
            Said::Backup(Some(Err(error))) => {
                let told: BTreeSet<usize> = match error {
                    Error::Destination { copies, .. } => {
                        copies.iter().map(|copy| places[usize::from(copy == "bucket")]).collect()
                    }
                    _ => BTreeSet::new(),
                };
                let open = matches!(run.fate, Fate::Fault(fault) if fault.lasting);
                let copied: BTreeSet<String> =
                    before[run.host].metas.values().map(|(_, meta, _)| meta.id.to_string()).collect();
                let there: BTreeSet<usize> =
                    places.into_iter().filter(|place| new_at[*place].iter().any(|id| !copied.contains(id))).collect();
                assert!(
                    open || both || told == there,
                    "copies were told to be at {told:?}, and are at {there:?}: {error:?}"
                );
                assert!(both || places.iter().all(|place| gone(*place).is_empty()), "something went after a failure");
                self.count(match error.kind() {
                    ErrorKind::Locked => "backups refused: somebody else's lock",
                    ErrorKind::Usage => "backups refused: another source's",
                    ErrorKind::Database => "backups whose dump failed",
                    ErrorKind::Interrupted => "backups interrupted",
                    _ => "backups that a store failed",
                });
            }
            Said::Prune(Some(Ok(report))) => {
                assert!(!locked, "the lock was somebody else's");
                if well && !both {
                    for place in places {
                        assert_eq!(gone(place), expected[place], "other backups went from {}", PLACES[place]);
                    }
                    assert_eq!(report.removed as usize, places.iter().map(|place| gone(*place).len()).sum::<usize>());
                }
                self.count("prunes done");
            }
            Said::Prune(Some(Err(_))) => self.count("prunes that failed"),
            Said::Backup(None) | Said::Prune(None) if matches!(run.fate, Fate::Death(_)) => {
                self.count("runs that died")
            }
            Said::Backup(None) | Said::Prune(None) => self.count("runs that were dropped"),
        }
    }

    async fn dry_run(&mut self, host: usize) {
        let keeper = self.world.process(host).keeper;
        let catalog = Catalog::load(&keeper).await.unwrap();
        let plans = keeper.plan_prune(&catalog, &policy(self.world.hosts[host].policy));
        keeper.plan_sweep(&catalog).await;
        for place in [host, BUCKET] {
            let name = if place == BUCKET { "bucket" } else { "local" };
            let plan = plans.iter().find(|(planned, _)| planned == name);
            let removals: BTreeSet<String> = plan
                .into_iter()
                .flat_map(|(_, plan)| plan.removals())
                .map(|decision| decision.id.to_string())
                .collect();
            assert_eq!(
                removals,
                self.to_go(host, place, &self.seen),
                "{} plans otherwise",
                self.world.hosts[host].name
            );
        }
        let now = self.world.look(&self.seen).await;
        assert!(
            now.iter().zip(&self.seen).all(|(now, before)| now.objects == before.objects),
            "a dry run changes nothing"
        );
        self.told.push(format!("{} plans a prune", self.world.hosts[host].name));
        self.count("dry runs");
    }

    async fn verify(&mut self, host: usize) {
        let process = self.world.process(host);
        let catalog = Catalog::load(&process.keeper).await.unwrap();
        if catalog.entries.is_empty() {
            return;
        }
        let entry = self.dice.pick(&catalog.entries);
        let depth = *self.dice.pick(&[VerifyDepth::Quick, VerifyDepth::Stored, VerifyDepth::Deep, VerifyDepth::Deep]);
        let fate = if self.dice.percent(70) { Fate::Well } else { self.fate() };
        self.told.push(format!("{} verifies {} {depth:?}: {fate:?}", self.world.hosts[host].name, entry.meta.id));
        let said = suffer(&process, fate, process.keeper.verify_copies(entry, depth)).await;
        let now = self.world.look(&self.seen).await;
        for (before, now) in self.seen.iter().zip(&now) {
            let lost =
                before.objects.keys().filter(|key| !key.starts_with(".pgkeep/") && !now.objects.contains_key(*key));
            assert_eq!(lost.collect::<Vec<_>>(), Vec::<&String>::new(), "a look removes nothing");
        }
        if let Some(Ok(Verified { reports, unknown })) = said {
            assert_eq!(reports.len() + unknown.len(), entry.copies.len());
            assert!(unknown.is_empty() || fate != Fate::Well, "{unknown:?}");
            for report in &reports {
                let place = World::place(host, usize::from(report.destination == "bucket"));
                let copy = entry.copies.iter().find(|copy| copy.name == report.destination).unwrap();
                let (_, meta, _) = &self.seen[place].metas[copy.key.as_str()];
                let beside = |file: &str| match copy.key.parent().filter(|folder| !folder.is_root()) {
                    Some(folder) => format!("{folder}/{file}"),
                    None => file.to_owned(),
                };
                let globals = meta.globals.as_ref().is_none_or(|globals| {
                    self.seen[place].objects.get(&beside(&globals.file)) == Some(&globals.stored.bytes)
                });
                let sound = World::intact(&self.seen[place], copy.key.as_str()) && globals;
                assert_eq!(
                    report.findings.is_empty(),
                    sound,
                    "{} at {}: {:?}",
                    report.id,
                    PLACES[place],
                    report.findings
                );
            }
        }
        self.seen = now;
        self.count("verifications");
    }

    /// Somebody else removes or cuts an object.
    async fn meddle(&mut self) {
        let place = self.dice.between(0, 3) as usize;
        let shelf: Vec<String> = self.world.shelves[place].keys().cloned().collect();
        if shelf.is_empty() {
            return;
        }
        let archive = self.dice.pick(&shelf).clone();
        let below: Vec<String> = self.seen[place]
            .objects
            .keys()
            .filter(|key| key.starts_with(&format!("{archive}.proofs/")) || **key == archive)
            .cloned()
            .collect();
        let key = match self.dice.between(0, 10) {
            0..7 if !below.is_empty() => self.dice.pick(&below).clone(),
            7..9 => format!("{archive}.meta"),
            _ if self.world.cluster == 1 => "source.json".to_owned(),
            _ => return,
        };
        let name = Key::new(key.as_str()).unwrap();
        let store = &self.world.stores[place];
        if key == archive && self.dice.percent(50) {
            let bytes = self.world.read(place, &name).await;
            store.put(&name, bytes.slice(..bytes.len() / 2)).await.unwrap();
        } else {
            store.delete(&name).await.unwrap();
        }
        self.told.push(format!("somebody meddles with {key} in {}", PLACES[place]));
        if key.ends_with(".meta") {
            self.world.shelves[place].remove(&archive);
        }
        self.seen = self.world.look(&self.seen).await;
        if key.ends_with(".meta") {
            // What it leaves is nobody's, so far as anybody can tell.
            let stem = archive.rsplit('/').next().unwrap().split('.').next().unwrap().to_owned();
            if self.seen[place].objects.keys().any(|key| key.starts_with(&format!(".pgkeep/unpublished-{stem}"))) {
                return;
            }
            let left =
                self.seen[place].objects.keys().filter(|left| left.contains(&stem) && !left.starts_with(".pgkeep/"));
            self.world.strangers.extend(left.map(|left| (place, left.clone())));
        }
        self.count("objects removed or cut by somebody else");
    }

    fn change_options(&mut self, host: usize) {
        let settings = &mut self.world.hosts[host];
        match self.dice.between(0, 4) {
            0 => settings.codec = *self.dice.pick(&["zstd:1", "gzip:1", "lz4", "none"]),
            1 => settings.layout = *self.dice.pick(&[Layout::ByClass, Layout::Flat]),
            2 => settings.encrypted = !settings.encrypted,
            _ => settings.policy = self.dice.between(0, POLICIES as i64) as usize,
        }
        self.told.push(format!("{settings:?}"));
        self.count("changes of options");
    }

    fn set_clocks(&mut self, host: usize) {
        if self.dice.percent(30) {
            let minutes = self.dice.between(-40, 40);
            self.world.store_clock.set_skew(TimeDelta::minutes(minutes));
            self.told.push(format!("the bucket's clock is {minutes} min ahead"));
        } else {
            let hours =
                *self.dice.pick(&[0, 0, 0, 1, -1, 13, -13, 24 * 31, -24 * 31, 24 * 1096, -24 * 1096, -24 * 366 * 20]);
            self.world.hosts[host].clock.set_skew(TimeDelta::hours(hours));
            self.told.push(format!("{}'s clock is {hours} h ahead", self.world.hosts[host].name));
        }
        self.count("clocks set");
    }

    async fn unlock(&mut self, host: usize) {
        let process = self.world.process(host);
        let unreleased = self.seen[BUCKET].epoch.as_ref().is_some_and(|epoch| !epoch.released);
        let broken = Lock::break_it(&process.keeper).await.unwrap();
        assert_eq!(broken.len(), usize::from(unreleased));
        self.told.push(format!("{} unlocks {}", self.world.hosts[host].name, broken.len()));
        self.seen = self.world.look(&self.seen).await;
        Lock::acquire(&process.keeper, &LockOptions::new("test")).await.unwrap().release().await.unwrap();
        self.seen = self.world.look(&self.seen).await;
        self.count("unlocks");
    }

    /// Somebody leaves an archive in a host's folder, and it is adopted.
    async fn adopt(&mut self, host: usize) {
        let engine = self.world.engine();
        let codec = "gzip:1".parse::<pgkeep_compress::Compression>().unwrap().codec();
        let mut archive = Vec::new();
        codec.encode(&plain(&engine), &mut archive).unwrap();
        let name = format!("shop_{}.dump.gz", self.world.dumps);
        let key = Key::new(name.as_str()).unwrap();
        self.world.stores[host].put(&key, archive.into()).await.unwrap();
        self.world.strangers.insert((host, name.clone()));
        self.seen = self.world.look(&self.seen).await;
        if self.dice.percent(30) {
            return;
        }
        let process = self.world.process(host);
        let options = AdoptOptions { class: Some(BackupClass::Daily), source_name: Some("shop".to_owned()) };
        let fate = if self.dice.percent(70) { Fate::Well } else { self.fate() };
        let said = suffer(&process, fate, process.keeper.adopt(0, &key, &options)).await;
        let now = self.world.look(&self.seen).await;
        let there = now[host].metas.get(&name);
        match &said {
            Some(said) => {
                let open = matches!(fate, Fate::Fault(fault) if fault.lasting) || matches!(fate, Fate::Cancel(_));
                assert!(said.is_ok() == there.is_some() || open, "adopted or not: {said:?}");
                assert!(said.is_ok() || fate != Fate::Well, "{said:?}");
            }
            None => assert!(fate != Fate::Well),
        }
        if let Some((json, meta, _)) = there {
            self.world.strangers.remove(&(host, name.clone()));
            let backup = Backup {
                id: meta.id.to_string(),
                class: BackupClass::Daily,
                cluster: 0,
                // What is told of it.
                made: meta.date,
                meta: json.clone(),
            };
            self.world.shelves[host].insert(name.clone(), backup);
        }
        self.told.push(format!("{} adopts {name}: {fate:?}", self.world.hosts[host].name));
        self.seen = now;
        self.count("archives adopted");
    }
}

impl Run {
    async fn go(&self) -> Said {
        let keeper = &self.process.keeper;
        match self.deed {
            Deed::Backup { .. } => {
                Said::Backup(suffer(&self.process, self.fate, keeper.backup(&self.engine, &self.options)).await)
            }
            Deed::Prune => {
                let lock = Some(LockOptions { purpose: "prune".to_owned(), ..self.options.lock.clone() });
                let options = PruneOptions { policy: self.options.policy.clone().unwrap(), lock };
                Said::Prune(suffer(&self.process, self.fate, keeper.prune(&options)).await)
            }
        }
    }
}

impl Said {
    /// In one line.
    fn brief(&self) -> String {
        match self {
            Self::Backup(None) | Self::Prune(None) => "    never heard of again".to_owned(),
            Self::Backup(Some(Ok(report))) => format!("    {}, copied {:?}", report.meta.id, report.replicated.copied),
            Self::Prune(Some(Ok(report))) => format!("    {} removed", report.removed),
            Self::Backup(Some(Err(error))) | Self::Prune(Some(Err(error))) => format!("    {error}"),
        }
    }

    fn is_well(&self) -> bool {
        matches!(self, Self::Backup(Some(Ok(_))) | Self::Prune(Some(Ok(_))))
    }

    fn error(&self) -> Option<&Error> {
        match self {
            Self::Backup(said) => said.as_ref()?.as_ref().err(),
            Self::Prune(said) => said.as_ref()?.as_ref().err(),
        }
    }
}

/// Lets a run meet its fate. `None` if it did not live to tell.
async fn suffer<T>(process: &Process, fate: Fate, work: impl Future<Output = T>) -> Option<T> {
    let way = &process.way;
    let call = |nth, trouble| StoreFault { operation: None, nth, trouble, lasting: false, permanent: false };
    match fate {
        Fate::Well => Some(work.await),
        Fate::Fault(fault) => {
            way.inject(fault);
            Some(work.await)
        }
        Fate::Death(fault) => {
            way.inject(fault);
            tokio::select! {
                biased;
                () = way.died() => None,
                said = work => Some(said),
            }
        }
        Fate::Drop(nth) => {
            way.inject(call(nth, Trouble::Hangs));
            tokio::select! {
                biased;
                () = way.met() => None,
                said = work => Some(said),
            }
        }
        Fate::Cancel(nth) => {
            way.inject(call(nth, Trouble::Late(Duration::ZERO)));
            let mut work = std::pin::pin!(work);
            tokio::select! {
                biased;
                () = way.met() => {
                    process.keeper.cancel.cancel();
                    Some(work.await)
                }
                said = &mut work => Some(said),
            }
        }
    }
}

/// The same without what those hosts made in this step, and what went.
fn without(
    state: &[Seen; 3],
    new_at: &[BTreeSet<String>; 3],
    hosts: &BTreeSet<&str>,
    gone: &[BTreeSet<String>; 3],
) -> [Seen; 3] {
    let mut state = state.clone();
    for ((seen, new), gone) in state.iter_mut().zip(new_at).zip(gone) {
        seen.metas.retain(|_, (_, meta, _)| {
            let id = meta.id.as_str();
            !(hosts.contains(meta.hostname.as_str()) && new.contains(id)) && !gone.contains(id)
        });
    }
    state
}

/// What was there at some time of a step: what there is now, and what went.
fn with(before: &[Seen; 3], now: &[Seen; 3]) -> [Seen; 3] {
    let mut all = now.clone();
    for (all, before) in all.iter_mut().zip(before) {
        for (archive, meta) in &before.metas {
            all.metas.entry(archive.clone()).or_insert_with(|| (meta.0.clone(), Arc::clone(&meta.1), meta.2));
        }
        for (key, bytes) in &before.objects {
            all.objects.entry(key.clone()).or_insert(*bytes);
        }
        for (archive, proofs) in &before.proofs {
            all.proofs.entry(archive.clone()).or_insert_with(|| proofs.clone());
        }
    }
    all
}
