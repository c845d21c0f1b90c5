//! What interrupted runs left, as far as it is provably ours.

use std::collections::{BTreeMap, BTreeSet};

use chrono::TimeDelta;
use futures::TryStreamExt;
use pgkeep_storage::{Key, ObjectInfo, StorageExt, Unfinished};
use serde::Serialize;

use crate::mark::Mark;
use crate::prune::is_complete;
use crate::{BackupId, Catalog, Destination, Keeper, Result, objects};

/// What was left is left alone for this long: a run may still be at work on it.
const SAFETY_AGE: TimeDelta = TimeDelta::hours(24);

/// What a prune would sweep at one destination.
#[derive(Debug, Clone, Default, Serialize)]
pub struct SweepPlan {
    /// The destination's name.
    pub destination: String,
    /// What would go.
    pub leftovers: Vec<Leftover>,
    /// Marks that are done with, each with the archive that must have no meta for the objects to go.
    #[serde(skip)]
    marks: Vec<Done>,
    #[serde(skip)]
    uploads: Vec<Unfinished>,
}

/// Something an interrupted run left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Leftover {
    /// The object's key; of an unfinished upload, what it was to become; of an unfinished file, its temporary name.
    pub key: String,
    /// Its size in bytes; of what was never finished the store does not tell it.
    pub bytes: Option<u64>,
}

/// A mark that is done with once its objects are gone.
#[derive(Debug, Clone)]
struct Done {
    mark: Key,
    archive: String,
    objects: Vec<Key>,
}

impl SweepPlan {
    /// Whether there is nothing to see.
    pub fn is_empty(&self) -> bool {
        self.leftovers.is_empty()
    }
}

impl Keeper {
    /// What [`Self::prune`] would sweep, per destination: objects that a mark proves to be of a run of ours which died
    /// between making them visible and publishing their meta (or between withdrawing the meta and removing them), and
    /// uploads that were never finished; all of them older than a day.
    ///
    /// Whatever has no mark is somebody else's and stays, whatever its name. Destinations that could not be looked at in full, and
    /// those where there is nothing to sweep, have no plan; why one could not be made is told as a warning.
    pub async fn plan_sweep(&self, catalog: &Catalog) -> Vec<SweepPlan> {
        let mut plans = Vec::new();
        for destination in &self.destinations {
            if !is_complete(catalog, destination) {
                continue;
            }
            match self.plan_sweep_at(destination).await {
                Ok(plan) if plan.is_empty() && plan.marks.is_empty() => {}
                Ok(plan) => plans.push(plan),
                Err(error) => {
                    let why = crate::run::chain(&error);
                    self.warn(&format!("what was left at {} could not be looked for: {why}", destination.name));
                }
            }
        }
        plans
    }

    async fn plan_sweep_at(&self, destination: &Destination) -> Result<SweepPlan> {
        let storage = destination.storage.as_ref();
        let listed: Vec<ObjectInfo> = storage.list(&Key::root()).try_collect().await.map_err(objects::at(storage))?;
        // The store's newest time stands for its clock; never later than ours, which somebody's file may be.
        let newest = listed.iter().map(|object| object.modified_ms).max().unwrap_or_default();
        let limit = newest.min(self.clock.now().timestamp_millis()) - SAFETY_AGE.num_milliseconds();
        let old = |object: &ObjectInfo| object.modified_ms < limit;
        let by_key: BTreeMap<&str, &ObjectInfo> = listed.iter().map(|object| (object.key.as_str(), object)).collect();

        let (mut marks, mut leftovers) = (Vec::new(), BTreeMap::new());
        for (info, mark) in Mark::read_all(storage, &listed).await? {
            if !old(&info) {
                continue;
            }
            let mut found: Vec<&ObjectInfo> = Vec::new();
            if !by_key.contains_key(format!("{}.meta", mark.archive).as_str()) {
                // What has another size than the mark says came from elsewhere.
                let marked = mark.objects.iter().filter_map(|marked| {
                    let object = by_key.get(marked.key.as_str()).copied()?;
                    (object.bytes == marked.bytes && !object.key.as_str().ends_with(".meta")).then_some(object)
                });
                found.extend(marked);
                let proofs = format!("{}.proofs/", mark.archive);
                found.extend(listed.iter().filter(|object| object.key.as_str().starts_with(&proofs)));
            }
            leftovers.extend(found.iter().map(|object| (object.key.to_string(), Some(object.bytes))));
            let objects = found.into_iter().map(|object| object.key.clone()).collect();
            marks.push(Done { mark: info.key, archive: mark.archive, objects });
        }
        let uploads = match storage.unfinished(limit).await {
            Ok(uploads) => uploads.unwrap_or_default(),
            // It takes a permission of its own.
            Err(error) => {
                let why = crate::run::chain(&error);
                self.warn(&format!("unfinished uploads at {} could not be listed: {why}", destination.name));
                Vec::new()
            }
        };
        // A file's temporary name is of our making; an upload has the name of what it is to become.
        let uploads: Vec<Unfinished> =
            uploads.into_iter().filter(|upload| upload.upload.is_empty() || is_ours(upload.key.as_str())).collect();
        leftovers.extend(uploads.iter().map(|upload| (upload.key.to_string(), None)));
        let leftovers = leftovers.into_iter().map(|(key, bytes)| Leftover { key, bytes }).collect();
        Ok(SweepPlan { destination: destination.name.clone(), leftovers, marks, uploads })
    }

    /// Carries a plan out; gives how many objects and uploads went.
    pub(crate) async fn sweep(&self, plan: &SweepPlan) -> Result<u64> {
        let at = |destination: &&Destination| destination.name == plan.destination;
        let Some(destination) = self.destinations.iter().find(at) else { return Ok(0) };
        let storage = destination.storage.as_ref();
        let mut swept = BTreeSet::new();
        for Done { mark, archive, objects: marked } in &plan.marks {
            // It may have become a backup since: adopted, or published by a run that slept.
            let meta = Key::new(format!("{archive}.meta"))?;
            if !storage.exists(&meta).await.map_err(objects::at(storage))? {
                for key in marked {
                    storage.delete(key).await.map_err(objects::at(storage))?;
                    if swept.insert(key.to_string()) {
                        self.detail(&format!("swept {key} from {}: its backup was never finished", destination.name));
                    }
                }
            }
            storage.delete(mark).await.map_err(objects::at(storage))?;
        }
        for upload in &plan.uploads {
            storage.discard(upload).await.map_err(objects::at(storage))?;
        }
        Ok((swept.len() + plan.uploads.len()) as u64)
    }
}

/// Whether an object's name is of the kind that our archives, globals and what belongs to them have.
fn is_ours(key: &str) -> bool {
    if key == "source.json" || key.starts_with(".pgkeep/") {
        return true;
    }
    let archive = key.split_once(".proofs/").map_or(key, |(archive, _)| archive);
    let name = archive.rsplit('/').next().unwrap_or(archive);
    let Some((stem, rest)) = name.split_once('.') else { return false };
    let dated = stem.split('_').nth(1).is_some_and(|stamp| stamp.starts_with(|first: char| first.is_ascii_digit()));
    dated && BackupId::parse(stem).is_some() && (rest.starts_with("dump") || rest.starts_with("globals.sql"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;
    use std::time::{Duration, SystemTime};

    use bytes::Bytes;
    use chrono::Utc;
    use pgkeep_storage::DiskStorage;

    use super::*;
    use crate::fixture::{at, keeper, keys, memory, meta, policy, store};
    use crate::{BackupClass, PruneOptions};

    const ARCHIVE: &str = "daily_20251016_030001.dump.gz";

    #[test]
    fn only_names_that_we_give_are_ours() {
        for ours in [
            "daily/daily_20251017_030001.dump.zst",
            "weekly_2025_W42_020001.globals.sql",
            "pre-restore_20251017_030001.dump.gz.proofs/x.json",
            "daily/daily_20251017_030001.dump.zst.meta",
            "source.json",
        ] {
            assert!(is_ours(ours), "{ours}");
        }
        for foreign in
            ["daily/notes.txt", "daily_report.dump", "yearly_2025.dump.gz", "daily_20251017_030001.sql", "daily.dump"]
        {
            assert!(!is_ours(foreign), "{foreign}");
        }
    }

    /// A folder with old files, and one that was written just now.
    struct Folder {
        root: tempfile::TempDir,
        keeper: Keeper,
    }

    impl Folder {
        fn new() -> Self {
            let root = tempfile::tempdir().expect("a folder");
            let storage = Arc::new(DiskStorage::open(root.path().canonicalize().expect("a path")).expect("a store"));
            let destination = Destination { storage, ..memory("local", true, 0) };
            Self { keeper: keeper(vec![destination], Utc::now()), root }
        }

        async fn put(&self, key: &str, content: &str, days_ago: u64) {
            let storage = &self.keeper.destinations[0].storage;
            storage.put(&Key::new(key).expect("valid"), Bytes::copy_from_slice(content.as_bytes())).await.expect("put");
            self.age(key, days_ago);
        }

        fn age(&self, key: &str, days_ago: u64) {
            let file = std::fs::File::options().write(true).open(self.root.path().join(Path::new(key))).expect("there");
            let then = SystemTime::now() - Duration::from_hours(24 * days_ago);
            file.set_modified(then).expect("its time is set");
        }

        async fn mark(&self, archive: &str, objects: &[(&str, u64)], days_ago: u64) {
            let key = |text: &str| Key::new(text).expect("valid");
            let keys: Vec<_> = objects.iter().map(|(text, bytes)| (key(text), *bytes)).collect();
            let objects: Vec<_> = keys.iter().map(|(key, bytes)| (key, *bytes)).collect();
            let id = BackupId::parse(archive.split('.').next().expect("a name")).expect("a name");
            let mark = Mark::new(&id, "test", &key(archive), &objects);
            let mark = mark.put(self.keeper.destinations[0].storage.as_ref()).await.expect("put");
            self.age(mark.as_str(), days_ago);
        }

        async fn planned(&self) -> Vec<String> {
            let catalog = Catalog::load(&self.keeper).await.expect("loaded");
            let plans = self.keeper.plan_sweep(&catalog).await;
            plans.into_iter().flat_map(|plan| plan.leftovers).map(|leftover| leftover.key).collect()
        }

        async fn prune(&self) -> u64 {
            let pruned = self.keeper.prune(&PruneOptions { policy: policy(0, 0), lock: None }).await.expect("pruned");
            assert!(pruned.warnings.is_empty(), "{:?}", pruned.warnings);
            pruned.swept
        }

        async fn keys(&self) -> Vec<String> {
            keys(&self.keeper.destinations[0]).await
        }
    }

    #[tokio::test]
    async fn archives_that_others_left_here_stay_whatever_their_names() {
        let folder = Folder::new();
        let theirs = [ARCHIVE, "weekly_2025_W42_030001.dump.gz", "monthly_2025_10_030001.dump", "daily_x.globals.sql"];
        for name in theirs {
            folder.put(name, "precious", 30).await;
        }
        folder.put("new", "now", 0).await;
        assert_eq!(folder.planned().await, Vec::<String>::new());
        assert_eq!(folder.prune().await, 0);
        for name in theirs {
            assert!(folder.keys().await.contains(&name.to_owned()), "{name}");
        }
    }

    #[tokio::test]
    async fn what_a_mark_proves_to_be_ours_is_planned_and_then_swept() {
        let folder = Folder::new();
        let globals = "daily_20251016_030001.globals.sql.gz";
        let proof = format!("{ARCHIVE}.proofs/20251017_030001_deep.json");
        for key in [ARCHIVE, globals, &proof] {
            folder.put(key, "12345", 2).await;
        }
        folder.put("daily_20251015_030001.dump.gz", "12345", 2).await;
        folder.put("new", "now", 0).await;
        folder.mark(ARCHIVE, &[(ARCHIVE, 5), (globals, 5)], 2).await;
        assert_eq!(folder.planned().await, [ARCHIVE, &proof, globals]);
        assert_eq!(folder.keys().await.len(), 6, "a plan removes nothing");
        assert_eq!(folder.prune().await, 3);
        assert_eq!(folder.keys().await, ["daily_20251015_030001.dump.gz", "new"]);
    }

    #[tokio::test]
    async fn a_mark_proves_nothing_of_what_is_young_or_has_another_size_or_a_meta() {
        let folder = Folder::new();
        folder.put(ARCHIVE, "12345", 2).await;
        folder.put("new", "now", 0).await;
        folder.mark(ARCHIVE, &[(ARCHIVE, 5)], 0).await;
        assert_eq!(folder.prune().await, 0, "the mark is young");
        assert_eq!(folder.keys().await.len(), 3);
        let sized = Folder::new();
        sized.put(ARCHIVE, "123456", 2).await;
        sized.put("new", "now", 0).await;
        sized.mark(ARCHIVE, &[(ARCHIVE, 5)], 2).await;
        assert_eq!(sized.prune().await, 0, "another size");
        assert_eq!(sized.keys().await, [ARCHIVE, "new"], "the mark is done with");
        let whole = Folder::new();
        let meta = meta(BackupClass::Daily, at(0), b"12345");
        let archive = store(&whole.keeper.destinations[0], &meta, b"12345").await;
        whole.age(archive.as_str(), 2);
        whole.mark(archive.as_str(), &[(archive.as_str(), 5)], 2).await;
        assert_eq!(whole.prune().await, 0, "a backup");
        assert_eq!(whole.keys().await.len(), 2);
    }

    #[tokio::test]
    async fn a_file_dated_in_the_future_makes_nothing_old() {
        let folder = Folder::new();
        folder.put(ARCHIVE, "12345", 0).await;
        folder.mark(ARCHIVE, &[(ARCHIVE, 5)], 0).await;
        folder.put("odd", "", 0).await;
        let file = std::fs::File::options().write(true).open(folder.root.path().join("odd")).expect("there");
        file.set_modified(SystemTime::now() + Duration::from_hours(24 * 365)).expect("set");
        assert_eq!(folder.prune().await, 0);
        assert_eq!(folder.keys().await.len(), 3);
    }
}
