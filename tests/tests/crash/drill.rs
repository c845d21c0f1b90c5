//! A drill is killed: its scratch database, or its throw-away server.

use std::time::Duration;

use crate::found::report;
use crate::restore::nothing_is_left;
use crate::victim::{Whom, moments};
use crate::world::World;

const MOMENTS: u32 = 12;
/// Runs that are killed one after the other before one is left to its end.
const SERIES: usize = 6;

/// Kills a drill at these moments of its run; each time the live database is as it was.
fn kill(world: &World, drill: &[&str], spread: impl Fn(Duration) -> Vec<Duration>) {
    let (live, oracles) = (world.live(), world.oracles(world.database.name()));
    let whole = world.measure(drill);
    for (n, time) in spread(whole).into_iter().enumerate() {
        world.kill_after(drill, time, Whom::of(n));
        world.live().assert_is(&live, &format!("{time:?}"));
        if (n + 1).is_multiple_of(SERIES) {
            world.backups_are_whole();
            world.setup.pgkeep(drill);
            assert_eq!(world.database.relatives(), [world.database.name()], "{time:?}");
        }
    }
    world.two_days_later();
    world.setup.pgkeep(drill);
    assert_eq!(world.oracles(world.database.name()), oracles);
    world.list_is_whole();
    nothing_is_left(world);
}

#[test]
fn a_drill_that_is_killed_leaves_the_live_database_alone_and_the_next_one_clears_up() {
    let world = World::with_backup("drilled");
    kill(&world, &["drill", "--restore-only"], |whole| moments(whole, MOMENTS).collect());
    report(
        "`drill` in a scratch database",
        [
            "spread over a run",
            "12",
            "live database as it was; every backup in the list is whole",
            "drops the scratch database that was left, and succeeds",
        ],
    );
}

/// `settle` sees to it after each kill that no process of the server is left.
#[test]
fn a_throw_away_server_ends_with_its_drill_and_its_folder_is_swept() {
    let world = World::with_backup("thrown_away");
    kill(&world, &["drill", "--scratch", "--restore-only"], |whole| moments(whole, MOMENTS).collect());
    report(
        "`drill --scratch`",
        [
            "spread over a run",
            "12",
            "live database as it was; every backup in the list is whole; the throw-away server ends by itself",
            "removes the folder that was left, and succeeds",
        ],
    );
}
