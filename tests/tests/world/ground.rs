//! What these tests look at and wait for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use pgkeep_testkit::{PostgresServer, ScratchDatabase, client_tools, saas};

use crate::setup::{Run, Setup};

/// Nothing takes so long on a busy machine.
const PATIENCE: Duration = Duration::from_mins(3);

pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < until, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Sends it to processes, of which some may just have ended.
pub(crate) fn signal(processes: &[u32], signal: &str) {
    let numbers = processes.iter().map(u32::to_string);
    Command::new("kill").arg(signal).args(numbers).output().expect("kill can be run");
}

/// A process and all that it has started, and so on.
pub(crate) fn with_descendants(process: u32) -> Vec<u32> {
    let parent = |stat: &str| stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse::<u32>().ok();
    let all: Vec<(u32, u32)> = std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| {
            let number = entry.file_name().to_str()?.parse().ok()?;
            Some((number, parent(&std::fs::read_to_string(entry.path().join("stat")).ok()?)?))
        })
        .collect();
    let mut family = vec![process];
    let mut next = 0;
    while next < family.len() {
        let one = family[next];
        family.extend(all.iter().filter(|(_, parent)| *parent == one).map(|(number, _)| *number));
        next += 1;
    }
    family
}

pub(crate) fn is_alive(process: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

/// A set-up with the tools of one major only, which are found faster.
pub(crate) fn setup(url: &str) -> Setup {
    Setup::new(url).with("PG_BINDIRS", client_tools(17)).with("BACKUP_JOBS", "2")
}

/// A database of a few rows, and a set-up for it.
pub(crate) fn tiny(label: &str) -> (ScratchDatabase<'static>, Setup) {
    let source = PostgresServer::shared(17).create_database(label);
    source.psql("CREATE TABLE t AS SELECT g AS id, md5(g::text) AS filler FROM generate_series(1, 200) g");
    let setup = setup(&source.url());
    (source, setup)
}

/// A database of some megabytes, and a set-up for it.
pub(crate) fn small(label: &str) -> (ScratchDatabase<'static>, Setup) {
    let source = PostgresServer::shared(17).create_database(label);
    saas::load(source.server(), &source, 0.05);
    let setup = setup(&source.url());
    (source, setup)
}

/// A run to its end, which must not take for ever.
pub(crate) fn wait(child: Child) -> Run {
    let id = child.id();
    let (sender, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    let Ok(output) = ended.recv_timeout(PATIENCE) else {
        signal(&with_descendants(id), "-KILL");
        panic!("it does not end: {:?}", ended.recv().map(|output| output.map(|output| Run::of(&output).to_string())));
    };
    Run::of(&output.unwrap())
}

/// Every object below a folder but the lock, with what is in it.
pub(crate) fn objects(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if !path.to_string_lossy().contains("/.pgkeep/lock-") {
                found.insert(path.clone(), std::fs::read(&path).unwrap_or_default());
            }
        }
    }
    found
}

/// How many backups lie in a folder, by their metas.
pub(crate) fn backups(folder: &Path) -> usize {
    objects(folder).keys().filter(|path| path.extension().is_some_and(|end| end == "meta")).count()
}

/// Of what a run left, nothing is half-made: every archive has its meta.
pub(crate) fn nothing_half_made(folder: &Path, what: &str) {
    let found = objects(folder);
    for path in found.keys() {
        let text = path.to_string_lossy();
        assert!(!text.contains("partial") && !text.contains(".tmp"), "{what}: {text}");
        if text.ends_with(".dump") || text.contains(".dump.") && !text.contains(".meta") && !text.contains(".proofs") {
            assert!(found.contains_key(Path::new(&format!("{text}.meta"))), "{what}: {text} has no meta");
        }
    }
}

/// It ended with this code, and its words hold these; a failure has a hint.
pub(crate) fn ended(run: &Run, code: i32, words: &[&str], what: &str) {
    assert_eq!(run.code, Some(code), "{what}\n{run}");
    for word in words {
        assert!(run.stderr.contains(word), "{what}: no {word:?} in\n{run}");
    }
    assert!(matches!(code, 0 | 130 | 143) || run.stderr.contains("hint: "), "{what}: no hint in\n{run}");
}
