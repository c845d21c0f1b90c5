//! Killed while names are exchanged, forth and back.

use std::time::Duration;

use crate::found::report;
use crate::restore::{States, nothing_is_left};
use crate::victim::{Whom, moments};

/// The exchange takes some tens of milliseconds.
const EXCHANGE: Duration = Duration::from_millis(120);
const MOMENTS: u32 = 12;
const RESTORE: [&str; 4] = ["restore", "--latest", "--yes", "--skip-snapshot"];

#[test]
fn killed_while_names_are_exchanged_it_is_all_or_nothing() {
    let (world, states) = States::new("exchanged");
    let mut exchanged = 0;
    for (n, time) in moments(EXCHANGE, MOMENTS).enumerate() {
        world.kill_when(&RESTORE, "Compared with the backup", time, Whom::of(n));
        exchanged += u32::from(states.is_one_of_both(&world, &format!("{time:?}")));
    }
    // Half of them came too early, and half too late, as it happens; what matters is that there is nothing between.
    states.succeeds(&world, &RESTORE, &format!("{exchanged} of {MOMENTS} were exchanged"));
    world.two_days_later();
    states.succeeds(&world, &RESTORE, "two days later");
    states.oracles_agree(&world);
    nothing_is_left(&world);
    report(
        "`restore`, at the exchange of names",
        [
            "spread over the 120 ms after the proof",
            "12",
            "live database as it was, or exactly the backed-up one with the old one kept, which `rollback` brings back",
            "says what became of the exchange, and succeeds",
        ],
    );
}

#[test]
fn a_rollback_that_is_killed_has_gone_back_or_not_begun() {
    const ROLLBACK: [&str; 2] = ["rollback", "--yes"];
    let (world, states) = States::new("rolled_back");
    world.setup.pgkeep(&RESTORE);
    let whole = world.measure(&ROLLBACK);
    states.is_as_before(&world, "undisturbed");
    // Each exchanges both again, and so does each that is killed in time.
    let mut back;
    for (n, time) in moments(whole, MOMENTS).enumerate() {
        let when = format!("{time:?}");
        world.kill_after(&ROLLBACK, time, Whom::of(n));
        back = world.live() == states.before;
        if back {
            states.is_as_before(&world, &when)
        } else {
            states.is_restored(&world, &when)
        }
        assert_eq!(world.database.relatives().len(), 2, "{when}: the other one is kept");
    }
    // One command goes to the other of both, from whichever is live.
    back = world.live() == states.before;
    for _ in 0..2 {
        world.setup.pgkeep(&ROLLBACK);
        back = !back;
        if back { states.is_as_before(&world, "after all") } else { states.is_restored(&world, "after all") }
    }
    states.oracles_agree(&world);
    nothing_is_left(&world);
    report(
        "`rollback`",
        [
            "spread over a run",
            "12",
            "live database is exactly one of both, the other one is kept",
            "says what became of the exchange, and goes to the other of both",
        ],
    );
}
