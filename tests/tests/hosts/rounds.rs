//! Two hosts do everything at any time, while somebody reads.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::eyes::{swept_after_two_days, whole_backups};
use crate::found::report;
use crate::host::{Host, Shared, document, name_of_backup};

/// Commands of each host.
const ROUNDS: usize = 10;
/// Daily backups that are kept.
const KEPT: usize = 3;
const SEED: u64 = 20_251_017;

/// A sequence that is the same in every run (Knuth's MMIX).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }
}

/// What a host does; the names of the backups it made.
fn work(shared: &Shared, host: &Host, target: &str, mut dice: Dice) -> Vec<String> {
    let mut made = Vec::new();
    for round in 0..ROUNDS {
        std::thread::sleep(Duration::from_millis(dice.below(150) as u64));
        // Each does everything at least once.
        match if round < 5 { round } else { dice.below(5) } {
            0 => made.push(host.backup(&["--wait", "2m"])),
            1 => drop(host.pgkeep(&["prune", "--wait", "2m"])),
            2 => {
                let verified = document(&host.pgkeep(&["verify", "--all", "--deep", "--output", "json"]));
                let findings = verified["verified"].as_array().unwrap().iter().map(|one| &one["findings"]);
                assert!(findings.clone().all(|findings| *findings == serde_json::json!([])), "{verified}");
            }
            3 => drop(host.pgkeep(&["list"])),
            _ => {
                host.pgkeep(&["restore", "--latest", "--target-db", target, "--replace-target", "--yes"]);
                let rows = shared.database.server().psql(target, "SELECT count(*) FROM orders");
                assert_eq!(rows, "3000");
            }
        }
    }
    made
}

#[test]
fn whatever_two_hosts_do_at_once_no_backup_is_lost_and_none_is_seen_by_half() {
    let shared = Shared::new("rounds");
    let hosts = ["alpha", "beta"].map(|name| {
        let mut host = shared.host(name);
        for place in ["", "LOCAL_"] {
            host.setup.set(&format!("BACKUP_RETENTION_{place}DAILY_MAX"), KEPT.to_string());
            host.setup.set(&format!("BACKUP_RETENTION_{place}DAILY_MIN"), "1");
        }
        host
    });
    let first = hosts[0].backup(&[]);
    let targets = ["alpha", "beta"].map(|name| format!("{}_{name}", shared.database.name()));
    let store = shared.store();
    let over = AtomicBool::new(false);
    let (made, looks) = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut looks = 0;
            while !over.load(Ordering::Relaxed) {
                assert!(!whole_backups(store.clone()).is_empty());
                looks += 1;
            }
            looks
        });
        let workers: Vec<_> = hosts
            .iter()
            .zip(&targets)
            .enumerate()
            .map(|(n, (host, target))| {
                let shared = &shared;
                scope.spawn(move || work(shared, host, target, Dice(SEED + n as u64)))
            })
            .collect();
        let made: Vec<_> = workers.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        over.store(true, Ordering::Relaxed);
        let looks: u32 = reader.join().unwrap();
        (made.into_iter().map(Result::unwrap).collect::<Vec<_>>(), looks)
    });
    assert!(looks > 0);
    let all: BTreeSet<String> = made.iter().flatten().chain([&first]).cloned().collect();
    assert_eq!(all.len(), 1 + made.iter().map(Vec::len).sum::<usize>(), "every backup has a name of its own: {made:?}");

    // The last word of retention: the newest are there, whole, and at both places of whoever made them.
    hosts[0].pgkeep(&["prune"]);
    let left = whole_backups(store.clone());
    let newest: Vec<_> = all.iter().rev().take(KEPT).collect();
    assert!(newest.iter().all(|name| left.contains(name)), "{newest:?} of {all:?} are not in {left:?}");
    for host in &hosts {
        let verified = document(&host.pgkeep(&["verify", "--all", "--stored", "--output", "json"]));
        assert_eq!(verified["outcome"], "ok", "{verified}");
    }
    let litter = crate::eyes::litter(&shared.keys());
    assert_eq!(litter, [""; 0], "nothing belongs to no backup");
    assert_eq!(swept_after_two_days(store, chrono::Utc::now()), 0);
    for target in &targets {
        shared.database.server().psql("postgres", &format!("DROP DATABASE \"{target}\" WITH (FORCE)"));
    }
    let _ = name_of_backup;
    report(
        "`backup`, `prune`, `verify --all`, `list`, `restore --target-db` of two hosts, and a reader",
        [
            "20 commands at random times (seeded), the reader all the while",
            "every command succeeds; every backup has a name of its own and, until retention removes it, is whole whenever it is in the list; nothing is left that belongs to no backup",
        ],
    );
}
