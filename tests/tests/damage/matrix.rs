//! Every object, altered in every way, and every command over it.

use std::collections::BTreeMap;

use pgkeep_testkit::{TableContents, contents, hold_against_document};

use crate::alteration::{Alteration, Object};
use crate::ground::{Ground, Kind, Repository, Run};

/// What the commands made of one altered object, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    /// Whether `list` and `status` told of it before anything was verified, and after.
    told: [bool; 2],
    /// `verify` by `--quick`, `--stored` and `--deep`.
    verified: [&'static str; 3],
    show: &'static str,
    export: &'static str,
    /// What became of the backup before.
    prune: &'static str,
    restore: &'static str,
    /// Where it was tried.
    backup: Option<&'static str>,
}

const GOOD: &str = "good";
const DAMAGE: &str = "damage (4)";
const NOT_FOUND: &str = "not found (3)";

fn word(run: &Run) -> &'static str {
    match run.code {
        Some(0) => GOOD,
        Some(2) => "refused (2)",
        Some(3) => NOT_FOUND,
        Some(4) => DAMAGE,
        Some(7) => "locked (7)",
        _ => panic!("{run}"),
    }
}

struct Cell<'g> {
    ground: &'g Ground,
    object: Object,
    alteration: Alteration,
    live: &'g BTreeMap<String, TableContents>,
}

impl Cell<'_> {
    /// A repository with the object altered.
    fn altered(&self) -> Repository<'_> {
        let repository = self.ground.copy();
        let (file, other) = repository.files(self.object);
        self.alteration.apply(&file, &other);
        repository
    }

    fn look(&self, with_backup: bool) -> Found {
        let (repository, name) = (self.altered(), self.ground.newest.as_str());
        let before = repository.all();
        let first = Self::told(&repository);
        assert_eq!(before, repository.all(), "{self}: looking changes nothing");
        let verified = ["--quick", "--stored", "--deep"].map(|depth| {
            let run = repository.pgkeep(&["verify", name, depth]);
            assert!(run.code != Some(4) || run.says("hint:"), "{self}: {run}");
            word(&run)
        });
        let (show, to) = (repository.pgkeep(&["show", name]), repository.store.with_extension("dump"));
        let export = repository.pgkeep(&["export", name, "--to", to.to_str().unwrap()]);
        assert_eq!(to.exists(), export.code == Some(0), "{self}: a refused export leaves nothing: {export}");
        let told = [first, Self::told(&repository)];
        Found {
            told,
            verified,
            show: word(&show),
            export: word(&export),
            prune: self.prune(&repository),
            restore: self.restore(),
            backup: with_backup.then(|| self.backup()),
        }
    }

    /// Whether `list` and `status`, which work whatever there is, tell of damage.
    fn told(repository: &Repository<'_>) -> bool {
        let says = |run: &Run| ["damaged", "can't be read", "BAD", "ADOPTABLE"].iter().any(|word| run.says(word));
        let (list, status) = (repository.well(&["list"]), repository.pgkeep(&["status"]));
        assert!(matches!(status.code, Some(0 | 10)), "{status}");
        let both = (says(&list), says(&status));
        // What is adoptable is only listed.
        both.0 || both.1
    }

    /// Retention keeps one backup: the newest, unless it is damaged.
    fn prune(&self, repository: &Repository<'_>) -> &'static str {
        let (before, meta) = (repository.all(), format!("{}.", self.ground.before));
        let run = repository.pgkeep(&["prune"]);
        let after = repository.all();
        let of_before = |objects: &BTreeMap<String, Vec<u8>>| -> Vec<String> {
            let mine = |key: &&String| key.starts_with(&meta);
            objects.keys().filter(mine).cloned().collect()
        };
        // Nothing else goes, whatever its state.
        let mine = of_before(&before);
        for (key, bytes) in before.iter().filter(|(key, _)| !key.starts_with(".pgkeep/") && !mine.contains(key)) {
            assert_eq!(after.get(key), Some(bytes), "{self}: {key} after {run}");
        }
        match (word(&run), of_before(&after)) {
            (GOOD, left) if left.is_empty() => "removes the one before",
            (GOOD, left) if left == mine => "removes nothing",
            (other, left) if left == mine => other,
            _ => panic!("{self}: half of a backup is left: {run}"),
        }
    }

    /// Restored beside the live database, which stays as it is; and so does the server, if it is refused.
    fn restore(&self) -> &'static str {
        let (repository, target) = (self.altered(), self.ground.target());
        let databases = self.ground.source.relatives();
        let run = repository.pgkeep(&["restore", &self.ground.newest, "--target-db", &target, "--yes"]);
        let server = self.ground.source.server();
        if run.code == Some(0) {
            assert_eq!(&contents(server, &target), self.live, "{self}: what came back");
            server.psql("postgres", &format!("DROP DATABASE {target}"));
        } else {
            assert!(run.says("hint:"), "{self}: {run}");
        }
        // Other cells restore to databases whose names begin in the same way.
        let left = self.ground.source.relatives();
        assert!(!left.iter().any(|name| name.starts_with(&target)), "{self}: {left:?}, before {databases:?}");
        word(&run)
    }

    /// The next backup.
    fn backup(&self) -> &'static str {
        let repository = self.altered();
        let mut run = repository.pgkeep(&["backup"]);
        let mut outcome = "made";
        if run.code == Some(7) {
            repository.written_ago(3600);
            run = repository.pgkeep(&["backup"]);
            outcome = "made once the lease is over";
        }
        if run.code != Some(0) {
            return word(&run);
        }
        let listed = repository.well(&["list", "--output", "json"]);
        let listed: serde_json::Value = serde_json::from_str(&listed.stdout).unwrap();
        let newest = listed["backups"][0]["id"].as_str().unwrap();
        assert!(newest > self.ground.newest.as_str(), "{self}: {newest}");
        repository.well(&["verify", newest, "--deep"]);
        outcome
    }

    /// What does not hold of it.
    fn faults(&self, found: &Found) -> Vec<String> {
        let mut faults = Vec::new();
        let mut hold = |holds: bool, what: &str| {
            if !holds {
                faults.push(format!("{self}: {what}: {found:?}"));
            }
        };
        let Found { told, verified: [quick, stored, deep], restore, prune, backup, .. } = found;
        if self.object.is_the_backup() {
            let gone = self.object == Object::Meta && self.alteration == Alteration::Deleted;
            let refused = if gone { NOT_FOUND } else { DAMAGE };
            hold([*stored, *deep] == [refused; 2], "verified");
            hold(*restore == refused, "refused by restore");
            hold(*quick == refused || !self.alteration.is_of_another_size(), "another size is found at once");
            hold(told[1], "told of");
            hold(*prune == "removes nothing", "the one before is the newest that may be good");
        } else {
            hold([*quick, *stored, *deep, *restore] == [GOOD; 4], "the backup is whole");
        }
        let foreign =
            self.object == Object::Source && matches!(self.alteration, Alteration::Replaced | Alteration::Swapped);
        match backup {
            Some(outcome) if foreign => hold(*outcome == "refused (2)", "another database's repository is refused"),
            Some(outcome) => hold(outcome.starts_with("made"), "the next backup is made"),
            None => {}
        }
        faults
    }
}

impl std::fmt::Display for Cell<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.object, self.alteration)
    }
}

/// Looks at these, side by side; the live database is as it was.
fn look(ground: &Ground, cells: &[(Object, Alteration)]) -> Vec<Found> {
    let live = contents(ground.source.server(), &ground.source);
    let look = |&(object, alteration): &(Object, Alteration)| {
        let cell = Cell { ground, object, alteration, live: &live };
        let with_backup = matches!(
            alteration,
            Alteration::Deleted | Alteration::CutInTheMiddle | Alteration::FlippedInTheMiddle | Alteration::Swapped
        );
        let found = cell.look(with_backup);
        (cell.faults(&found), found)
    };
    let half = cells.len().div_ceil(2);
    let found: Vec<(Vec<String>, Found)> = std::thread::scope(|scope| {
        let halves: Vec<_> =
            cells.chunks(half).map(|cells| scope.spawn(move || cells.iter().map(look).collect::<Vec<_>>())).collect();
        halves
            .into_iter()
            .flat_map(|half| half.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    assert_eq!(contents(ground.source.server(), &ground.source), live, "the live database");
    let (faults, found): (Vec<_>, Vec<_>) = found.into_iter().unzip();
    let faults = faults.concat();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    found
}

fn cells(objects: &[Object], alterations: &[Alteration]) -> Vec<(Object, Alteration)> {
    objects.iter().flat_map(|&object| alterations.iter().map(move |&alteration| (object, alteration))).collect()
}

#[test]
fn whatever_is_damaged_is_told_refused_and_never_the_last_that_is_kept() {
    let ground = Ground::new("damage", Kind { compression: "zstd:1", encrypted: false });
    let cells = cells(&Object::ALL, &Alteration::ALL);
    let found = look(&ground, &cells);
    let mut rows: Vec<(Object, Vec<Alteration>, Found)> = Vec::new();
    for (&(object, alteration), found) in cells.iter().zip(found) {
        let same = |(of, _, other): &&mut (Object, Vec<Alteration>, Found)| {
            let backup = found.backup.is_none() || other.backup.is_none() || found.backup == other.backup;
            *of == object
                && backup
                && Found { backup: None, ..other.clone() } == Found { backup: None, ..found.clone() }
        };
        match rows.iter_mut().find(same) {
            Some((_, alterations, other)) => {
                alterations.push(alteration);
                other.backup = other.backup.or(found.backup);
            }
            None => rows.push((object, vec![alteration], found)),
        }
    }
    let rows: Vec<Vec<String>> = rows
        .into_iter()
        .map(|(object, alterations, found)| {
            let words = |alteration: &Alteration| {
                let words = alteration.to_string();
                // There is one only.
                if object == Object::Source { words.replace("the one before", "another database's") } else { words }
            };
            let alterations: Vec<_> = alterations.iter().map(words).collect();
            let told = match found.told {
                [true, _] => "tell",
                [false, true] => "tell once verified",
                [false, false] => "nothing to tell",
            };
            let mut row = vec![object.to_string(), alterations.join("; "), told.to_owned()];
            row.extend(found.verified.map(str::to_owned));
            row.extend(
                [found.show, found.export, found.restore, found.prune, found.backup.unwrap_or("")].map(str::to_owned),
            );
            row
        })
        .collect();
    let columns = [
        "object",
        "altered",
        "`list`, `status`",
        "`verify --quick`",
        "`--stored`",
        "`--deep`",
        "`show`",
        "`export`",
        "`restore`",
        "`prune`",
        "next backup",
    ];
    hold_against_document("damage", &columns, &rows);
}

#[test]
fn encrypted_or_by_gzip_it_is_the_same() {
    let objects = [Object::Archive, Object::Meta, Object::Globals];
    let alterations = [
        Alteration::CutInTheMiddle,
        Alteration::FlippedAtTheFirst,
        Alteration::FlippedInTheMiddle,
        Alteration::FlippedAtTheLast,
        Alteration::Replaced,
    ];
    for (compression, encrypted) in [("gzip:6", false), ("zstd:1", true)] {
        let ground = Ground::new("damage", Kind { compression, encrypted });
        look(&ground, &cells(&objects, &alterations));
    }
}
