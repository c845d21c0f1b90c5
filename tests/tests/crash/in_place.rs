//! A restore in place is killed: the one that cannot leave the live database as it was.

use crate::found::report;
use crate::restore::{STAGES, States, nothing_is_left};
use crate::victim::{Whom, moments};
use crate::world::World;

const MOMENTS: u32 = 12;
const RESTORE: [&str; 4] = ["restore", "--latest", "--yes", "--in-place"];

/// The name of the snapshot that `status` tells to go back with, if it tells of a restore in place that was cut off.
fn way_back(world: &World) -> Option<String> {
    let status = world.setup.run("pgkeep", &["status"]);
    let told = status.stdout.split("in place was cut off").nth(1)?;
    let name = told.split("go back with the snapshot ").nth(1)?;
    Some(name.split_whitespace().next().unwrap().to_owned())
}

#[test]
fn killed_in_place_the_database_is_as_it_was_or_one_command_brings_it_back() {
    let (world, states) = States::new("in_place");
    let whole = world.measure(&RESTORE);
    states.is_restored(&world, "undisturbed");
    world.write();
    let mut incomplete = 0;
    let stages = STAGES.into_iter().map(Err).filter(|stage| *stage != Err(STAGES[0]));
    for (n, when) in moments(whole, MOMENTS).map(Ok).chain(stages).enumerate() {
        world.after_the_lease();
        let whom = Whom::of(n);
        match when {
            Ok(time) => world.kill_after(&RESTORE, time, whom),
            Err(stage) => world.kill_when(&RESTORE, stage, std::time::Duration::ZERO, whom),
        };
        let when = format!("{when:?}");
        world.backups_are_whole();
        world.after_the_lease();
        if world.live() == states.before {
            continue;
        }
        incomplete += 1;
        match way_back(&world) {
            // Back, by what was told.
            Some(snapshot) if incomplete % 2 == 1 => {
                world.setup.pgkeep(&["restore", &snapshot, "--in-place", "--yes"]);
                states.is_as_before(&world, &when);
            }
            // Forth, by the same command.
            told => {
                // It had told everything when it had nothing more to do.
                if told.is_none() {
                    states.is_restored(&world, &when);
                }
                world.setup.pgkeep(&RESTORE);
                states.is_restored(&world, &when);
                world.write();
            }
        }
        assert_eq!(way_back(&world), None, "{when}: what is mended is told no more");
        states.is_as_before(&world, &when);
    }
    assert!(incomplete >= STAGES.len() - 1, "{incomplete}");
    world.two_days_later();
    world.setup.pgkeep(&RESTORE);
    states.oracles_agree(&world);
    world.list_is_whole();
    world.setup.pgkeep(&["prune"]);
    nothing_is_left(&world);
    report(
        "`restore --in-place`",
        [
            "spread over a run, and when each stage begins",
            "17",
            "live database as it was, or `status` says that it is not complete and names the snapshot to go back with; every backup in the list is whole",
            "succeeds; so does the restore of the snapshot, after which all is as it was",
        ],
    );
}
