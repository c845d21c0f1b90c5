//! Whoever holds the lock is killed; whoever takes it over is killed too.

use std::time::Duration;

use crate::found::report;
use crate::victim::Whom;
use crate::world::{World, document, files, name_of};

const TAKE_OVERS: u32 = 12;

#[test]
fn a_dead_runs_lock_is_kept_until_its_lease_is_over_and_then_taken_over() {
    let world = World::with_backup("taken_over");
    let live = world.live();
    let folder = world.setup.backups().join(".pgkeep");
    let epochs =
        || files(&folder).iter().filter_map(|file| name_of(file).strip_prefix("lock-")?.parse::<u32>().ok()).max();
    let now_or_never = ["backup", "--wait", "0s"];
    for n in 0..TAKE_OVERS {
        world.after_the_lease();
        let before = epochs();
        let mut victim = world.start(&now_or_never);
        let holder = victim.id();
        assert!(victim.until(|| epochs() > before), "the lock was taken");
        std::thread::sleep(Duration::from_millis(u64::from(n)));
        let fate = victim.kill(Whom::of(n as usize));
        world.settle();
        if n > 0 {
            assert!(fate.done || fate.said.is_empty() || fate.said.contains("taking over the lock"), "{}", fate.said);
        }
        // Nobody knows that it is dead, so nobody takes its place before its time.
        let refused = world.setup.run("pgkeep", &["backup", "--wait", "0s", "--output", "json"]);
        if !fate.done {
            assert_eq!(refused.code, Some(7), "{refused}");
            assert!(refused.stderr.contains(&format!("process {holder}")), "{refused}");
            assert_eq!(document(&refused)["error"]["code"], "locked", "{refused}");
        }
    }
    world.live().assert_is(&live, "after all of them");
    world.backups_are_whole();
    world.after_the_lease();
    let taken = world.setup.pgkeep(&now_or_never);
    assert!(taken.stderr.contains("taking over the lock"), "{taken}");
    world.list_is_whole();
    report(
        "taking over a dead run's lock",
        [
            "0 to 11 ms after the lock was taken (over)",
            "12",
            "live database as it was; every backup in the list is whole; another run is refused with exit 7, which names the dead one",
            "takes the lock over when the lease is over, and says so",
        ],
    );
}
