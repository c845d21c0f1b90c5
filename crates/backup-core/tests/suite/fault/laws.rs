//! What must hold after a run, whatever failed in it: the laws of the design, read off what really lies in the stores.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use pgkeep_core::{Error, ErrorKind, Meta, Proof, ProofOutcome};
use pgkeep_storage::Key;
use pgkeep_testkit::{Operation, StoreFault, Trouble};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::fault::commands::{Command, Said};
use crate::fault::ground::{BUCKET, Contents, Ground, LOCAL, PLACES, is_foreign};
use crate::world::{decoded, plain};

/// A fault that was met, and what was there before and after.
pub(crate) struct Case<'c> {
    pub(crate) ground: &'c Ground,
    pub(crate) command: Command,
    pub(crate) fault: StoreFault,
    /// The object whose call met it.
    pub(crate) met_at: Key,
    pub(crate) before: [Contents; 2],
    pub(crate) after: [Contents; 2],
    pub(crate) said: &'c Said,
}

/// The parts of a mark that prove something.
#[derive(Deserialize)]
struct Mark {
    archive: String,
    objects: Vec<Marked>,
}

#[derive(Deserialize)]
struct Marked {
    key: String,
    bytes: u64,
}

/// The backups of a store, by their archives' keys.
pub(crate) fn backups(contents: &Contents) -> BTreeMap<String, Arc<Meta>> {
    let metas = contents.iter().filter_map(|(key, object)| Some((key.strip_suffix(".meta")?, &object.bytes)));
    let ours = metas.filter(|(archive, json)| !(is_foreign(archive) && Meta::is_foreign(json)));
    ours.map(|(archive, json)| (archive.to_owned(), parsed(archive, json))).collect()
}

/// A meta. Most are read again and again.
fn parsed(archive: &str, json: &Bytes) -> Arc<Meta> {
    static KNOWN: Mutex<BTreeMap<Bytes, Arc<Meta>>> = Mutex::new(BTreeMap::new());
    let known = KNOWN.lock().unwrap().get(json).cloned();
    known.unwrap_or_else(|| {
        let meta = Arc::new(Meta::from_json(archive, json).unwrap());
        KNOWN.lock().unwrap().insert(json.clone(), Arc::clone(&meta));
        meta
    })
}

fn beside(archive: &str, file: &str) -> String {
    archive.rsplit_once('/').map_or_else(|| file.to_owned(), |(folder, _)| format!("{folder}/{file}"))
}

/// Law 1: what has a meta is there in full. Gives the keys that belong to backups, and to nobody in particular.
fn whole_backups(contents: &Contents) -> BTreeSet<String> {
    let mut known = BTreeSet::from(["source.json".to_owned()]);
    for (archive, meta) in backups(contents) {
        let mut objects = vec![(archive.clone(), &meta.stored)];
        objects.extend(meta.globals.as_ref().map(|globals| (beside(&archive, &globals.file), &globals.stored)));
        for (key, stored) in objects {
            let object = contents.get(&key).unwrap_or_else(|| panic!("{archive} has a meta, and {key} is missing"));
            assert_eq!(object.bytes.len() as u64, stored.bytes, "{key} has another size than its meta says");
            assert_eq!(hex::encode(Sha256::digest(&object.bytes)), stored.sha256, "{key} is not what its meta says");
            known.insert(key);
        }
        let proofs = format!("{archive}.proofs/");
        known.extend(contents.keys().filter(|key| key.starts_with(&proofs)).cloned());
        known.insert(format!("{archive}.meta"));
    }
    known.extend(contents.keys().filter(|key| key.starts_with(".pgkeep/lock-") || is_foreign(key)).cloned());
    known
}

/// What belongs to no backup: each is known to be ours, by a mark.
pub(crate) fn leftovers(contents: &Contents) -> Vec<String> {
    let known = whole_backups(contents);
    let rest: Vec<String> = contents.keys().filter(|key| !known.contains(*key)).cloned().collect();
    let marks = rest.iter().filter(|key| key.starts_with(".pgkeep/unpublished-"));
    let marks: Vec<Mark> = marks.map(|key| serde_json::from_slice(&contents[key].bytes).unwrap()).collect();
    for key in rest.iter().filter(|key| !key.starts_with(".pgkeep/")) {
        let bytes = contents[key].bytes.len() as u64;
        let marked = marks.iter().any(|mark| {
            mark.objects.iter().any(|marked| marked.key == *key && marked.bytes == bytes)
                || key.starts_with(&format!("{}.proofs/", mark.archive))
        });
        assert!(marked, "{key} was left, and no mark tells whose it is");
    }
    rest
}

impl Case<'_> {
    /// All of them.
    pub(crate) fn hold(&self) {
        for (place, name) in PLACES.iter().enumerate() {
            let (before, after) = (&self.before[place], &self.after[place]);
            leftovers(after);
            self.nothing_is_lost(name, before, after);
            self.new_ones_are_what_was_dumped(before, after);
            self.proofs_are_true(before, after);
        }
        if self.command.only_looks() {
            assert_eq!(self.before, self.after, "a look changed something");
        }
        self.the_kind_of_failure_is_right();
        match self.said {
            Said::Backup(Ok(report)) => {
                for place in &report.destinations {
                    let index = PLACES.iter().position(|name| *name == place.name).unwrap();
                    let there = self.new_ids(index).contains(report.meta.id.as_str());
                    assert_eq!(place.stored, there, "{} was said to be stored or not: {place:?}", place.name);
                    assert!(place.stored || !place.required, "success without {}", place.name);
                    assert!(place.stored || !report.warnings.is_empty(), "no copy at {}, and no warning", place.name);
                }
                for (id, destination) in &report.replicated.copied {
                    assert!(destination == "bucket" && self.new_ids(BUCKET).contains(id), "{id} was not copied");
                }
            }
            Said::Backup(Err(error)) => self.a_failed_backup_tells_what_there_is(error),
            Said::Copied(Ok(report)) => {
                let copied: BTreeSet<_> = report.copied.iter().map(|(id, _)| id.clone()).collect();
                self.told_or_unknown(copied == self.new_ids(BUCKET), "copies were not told as they are");
                assert!(!copied.is_empty() || !report.warnings.is_empty(), "nothing was copied, and no warning");
            }
            Said::Adopted(name, adopted) => {
                let json = &self.after[LOCAL].get(&format!("{name}.meta"));
                let there = json.is_some_and(|object| !Meta::is_foreign(&object.bytes));
                self.told_or_unknown(adopted.is_ok() == there, "it is adopted, or is not, otherwise than was told");
            }
            Said::Pruned(Ok(report)) => {
                let gone = [LOCAL, BUCKET].map(|place| self.gone(place).len()).iter().sum::<usize>() as u64;
                assert!(report.removed <= gone, "{} were said to be removed, {gone} are", report.removed);
                assert!(report.removed == gone || !report.warnings.is_empty(), "{gone} are gone, and no warning");
                for (place, name) in PLACES.iter().enumerate() {
                    if !report.plans.iter().any(|(planned, _)| planned == name) {
                        assert_eq!(self.gone(place), Vec::<String>::new(), "removed at {name} without a plan");
                    }
                }
            }
            Said::Verified(Ok(verified)) => {
                assert_eq!(
                    verified.reports.len() + verified.unknown.len(),
                    2,
                    "a copy was not spoken of: {verified:?}"
                );
                let lied = matches!(self.fault.trouble, Trouble::Short | Trouble::Garbled);
                assert!(lied || !self.said.finds_damage(), "what could not be read is called damaged: {verified:?}");
                let silent = verified.unknown.is_empty() && !self.said.finds_damage();
                let swallowed = lied && self.fault.operation == Some(Operation::ReadChunk) && silent;
                // A proof is read to see whether it is the one that is to be stored.
                let swallowed = swallowed && !self.met_at.as_str().contains(".proofs/");
                assert!(!swallowed, "wrong bytes are called good: {verified:?}");
            }
            Said::Listed(Ok(catalog)) if !self.said.has_warnings() => {
                let listed: usize = catalog.entries.iter().map(|entry| entry.copies.len()).sum();
                let there: usize = self.after.iter().map(|contents| backups(contents).len()).sum();
                let stale = self.fault.trouble == Trouble::Short;
                assert!(listed == there || stale, "{listed} copies are listed, {there} are there");
            }
            _ => {}
        }
    }

    /// A store that answers nothing any more leaves it open whether its last deed was done.
    fn told_or_unknown(&self, told: bool, message: &str) {
        let open = self.said.error().is_some() || self.said.has_warnings();
        assert!(told || self.fault.lasting && open, "{message}: {:?}", self.said);
    }

    /// The archives of backups that were there, and are not any more.
    fn gone(&self, place: usize) -> Vec<String> {
        let after = backups(&self.after[place]);
        backups(&self.before[place]).into_keys().filter(|archive| !after.contains_key(archive)).collect()
    }

    fn new_ids(&self, place: usize) -> BTreeSet<String> {
        let before = backups(&self.before[place]);
        let after = backups(&self.after[place]).into_iter();
        after.filter(|(archive, _)| !before.contains_key(archive)).map(|(_, meta)| meta.id.to_string()).collect()
    }

    /// Laws 5 and 6: what was there stays as it was; only what expired goes, and only from a run that may, and did well.
    fn nothing_is_lost(&self, name: &str, before: &Contents, after: &Contents) {
        let may_remove = self.command.removes() && !matches!(self.said, Said::Backup(Err(_)));
        for (key, object) in before.iter().filter(|(key, _)| !key.starts_with(".pgkeep/")) {
            let adopted = self.command == Command::AdoptWithMetadata && is_foreign(key) && key.ends_with(".meta");
            let recorded = self.command == Command::BackupTakingOver && key == "source.json";
            if adopted || recorded {
                continue;
            }
            let expired = key.contains("weekly_") || key.contains("daily_20251001_");
            match after.get(key) {
                Some(now) => assert_eq!(now.bytes, object.bytes, "{key} at {name} was changed"),
                None => assert!(may_remove && expired, "{key} is gone from {name}"),
            }
        }
    }

    /// Law 2: a new backup holds all that the engine gave.
    fn new_ones_are_what_was_dumped(&self, before: &Contents, after: &Contents) {
        let expected = plain(&self.ground.engine());
        for (archive, _) in
            backups(after).into_iter().filter(|(archive, _)| !before.contains_key(&format!("{archive}.meta")))
        {
            let extension = if archive.ends_with(".gz") { ".gz" } else { ".zst" };
            assert!(decoded(extension, &after[&archive].bytes) == expected, "{archive} is not what was dumped");
        }
    }

    /// No proof says that something is damaged because a store failed; only one that lied can make us think so.
    fn proofs_are_true(&self, before: &Contents, after: &Contents) {
        for (key, object) in after.iter().filter(|(key, _)| key.contains(".proofs/") && !before.contains_key(*key)) {
            let proof: Proof = serde_json::from_slice(&object.bytes).unwrap();
            let lied = matches!(self.fault.trouble, Trouble::Short | Trouble::Garbled);
            assert!(proof.outcome == ProofOutcome::Good || lied, "{key} says damaged: {:?}", proof.findings);
        }
    }

    fn a_failed_backup_tells_what_there_is(&self, error: &Error) {
        let missed = |place| {
            self.new_ids(place)
                .iter()
                .any(|id| !backups(&self.before[LOCAL]).values().any(|meta| meta.id.as_str() == id))
        };
        let there: BTreeSet<&str> =
            [LOCAL, BUCKET].into_iter().filter(|place| missed(*place)).map(|place| PLACES[place]).collect();
        let told: BTreeSet<&str> = match error {
            Error::Destination { copies, .. } => copies.iter().map(String::as_str).collect(),
            _ => BTreeSet::new(),
        };
        self.told_or_unknown(told == there, &format!("copies are at {there:?}"));
    }

    /// A store that failed is not the fault of settings, of the database, or of a backup.
    fn the_kind_of_failure_is_right(&self) {
        use ErrorKind::{Damaged, Database, Interrupted, Locked, NotFound, Store, Usage};
        let Some(error) = self.said.error() else { return };
        let allowed: &[ErrorKind] = match (self.fault.trouble, self.command) {
            (_, Command::BackupThatFails) => &[Database, Store, Interrupted],
            (Trouble::Fails | Trouble::AnswerLost | Trouble::Half, _) => &[Store],
            // The metadata are others than before: somebody else is at work.
            (Trouble::Short | Trouble::Garbled, Command::AdoptWithMetadata) => &[Damaged, Usage],
            (Trouble::Short | Trouble::Garbled, _) => &[Store, Damaged, Locked, NotFound],
            (Trouble::Hangs, _) => &[Interrupted, Store],
            // Given back too late for anybody to wait for it.
            (Trouble::Late(_), Command::Lock | Command::LockOfTheDead) => &[Store],
            _ => &[],
        };
        assert!(allowed.contains(&error.kind()), "{:?}: {error}: {error:?}", error.kind());
    }
}
