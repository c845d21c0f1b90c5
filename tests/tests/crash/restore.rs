//! A restore beside the live database is killed, at every stage up to the exchange of names.

use std::time::Duration;

use crate::found::report;
use crate::victim::{Fate, Whom, moments};
use crate::world::{State, World};

const MOMENTS: u32 = 12;
/// Runs that are killed one after the other before one is left to its end.
const SERIES: usize = 4;
/// What a restore says when a stage has ended.
pub(crate) const STAGES: [&str; 6] = [
    "Starting database restore",
    "Schema created",
    "Rows loaded",
    "Indexes and constraints created",
    "Statistics collected",
    "Compared with the backup",
];

/// The two states between which a restore goes.
pub(crate) struct States {
    /// The live database before.
    pub(crate) before: State,
    /// As it was backed up.
    pub(crate) backed_up: State,
    /// Both once more.
    oracles: [(String, String); 2],
}

impl States {
    /// A world with a backup, and what its live database is before and after it is restored.
    pub(crate) fn new(label: &str) -> (World, Self) {
        let world = World::new(label);
        world.setup.pgkeep(&["backup"]);
        let oracles = |world: &World| world.oracles(world.database.name());
        let (backed_up, then) = (world.live(), oracles(&world));
        world.write();
        let (before, now) = (world.live(), oracles(&world));
        assert!(before != backed_up);
        (world, Self { before, backed_up, oracles: [now, then] })
    }

    #[track_caller]
    pub(crate) fn is_as_before(&self, world: &World, when: &str) {
        world.live().assert_is(&self.before, when);
    }

    #[track_caller]
    pub(crate) fn is_restored(&self, world: &World, when: &str) {
        world.live().assert_is(&self.backed_up, when);
    }

    /// The server's own pg_dump and the sums of the rows' hashes say the same.
    #[track_caller]
    pub(crate) fn oracles_agree(&self, world: &World) {
        let found = world.oracles(world.database.name());
        let expected = &self.oracles[usize::from(world.live() != self.before)];
        assert_eq!(found, *expected);
    }

    /// What is live is what was before, else exactly what was backed up, and then the old one is kept and comes back by
    /// one command. True if it had been restored.
    pub(crate) fn is_one_of_both(&self, world: &World, when: &str) -> bool {
        let exchanged = world.live() != self.before;
        if exchanged {
            self.is_restored(world, when);
            world.setup.pgkeep(&["rollback", "--yes"]);
            // The one that was restored is kept now.
            world.drop_databases("_before_");
        }
        self.is_as_before(world, when);
        exchanged
    }

    /// Runs it to its end, then goes back.
    pub(crate) fn succeeds(&self, world: &World, arguments: &[&str], when: &str) {
        world.setup.pgkeep(arguments);
        assert!(self.is_one_of_both(world, when), "it was restored");
        let left: Vec<_> = world.database.relatives().into_iter().filter(|name| name.contains("_pgkeep_")).collect();
        assert!(left.is_empty(), "{when}: {left:?}");
    }
}

/// Nothing of killed runs is left: no note, no mark, no private file.
pub(crate) fn nothing_is_left(world: &World) {
    assert_eq!(world.litter(), [""; 0]);
    assert_eq!(crate::world::files(&world.work()), [std::path::PathBuf::new(); 0], "private files");
}

#[test]
fn killed_at_any_stage_the_live_database_is_as_it_was() {
    const RESTORE: [&str; 3] = ["restore", "--latest", "--yes"];
    let (world, states) = States::new("restored");
    let whole = world.measure(&RESTORE);
    assert!(states.is_one_of_both(&world, "undisturbed"));
    let mut kills = 0;
    let mut held = |fate: &Fate, when: &str| {
        states.is_one_of_both(&world, &format!("{when}: {}", fate.said));
        world.backups_are_whole();
        // The snapshot's lock; in five minutes its lease would be over.
        world.after_the_lease();
        kills += 1;
        if kills % SERIES == 0 {
            states.succeeds(&world, &RESTORE, when);
        }
    };
    for (n, stage) in STAGES.into_iter().enumerate() {
        let fate = world.kill_when(&RESTORE, stage, Duration::ZERO, Whom::of(n));
        held(&fate, stage);
    }
    for (n, time) in moments(whole, MOMENTS).enumerate() {
        let fate = world.kill_after(&RESTORE, time, Whom::of(n));
        held(&fate, &format!("{time:?}"));
    }
    world.two_days_later();
    states.succeeds(&world, &RESTORE, "after all of them");
    states.oracles_agree(&world);
    world.list_is_whole();
    world.setup.pgkeep(&["prune"]);
    nothing_is_left(&world);
    report(
        "`restore`, with a pre-restore snapshot",
        [
            "when each stage begins, and spread over a run",
            "18",
            "live database as it was, or exactly the backed-up one with the old one kept, which `rollback` brings back; every backup in the list is whole",
            "succeeds; half-made databases and private files are gone",
        ],
    );
}

#[test]
fn killed_at_any_stage_a_restore_to_another_name_is_whole_or_not_there() {
    let (world, states) = States::new("beside");
    let target = format!("{}_target", world.database.name());
    let restore = ["restore", "--latest", "--yes", "--target-db", &target];
    // There it is whole, or it is not.
    let is_whole_if_there = |when: &str| {
        let there = world.database.relatives().contains(&target);
        if there {
            world.state(&target).assert_is(&states.backed_up, when);
            world.ask("postgres", &format!("DROP DATABASE \"{target}\""));
        }
        there
    };
    let whole = world.measure(&restore);
    assert!(is_whole_if_there("undisturbed"));
    for (n, time) in moments(whole, MOMENTS).enumerate() {
        let when = format!("{time:?}");
        world.kill_after(&restore, time, Whom::of(n));
        is_whole_if_there(&when);
        states.is_as_before(&world, &when);
        if (n + 1).is_multiple_of(SERIES) {
            world.setup.pgkeep(&restore);
            assert!(is_whole_if_there(&when));
            assert_eq!(world.database.relatives(), [world.database.name()], "{when}");
        }
    }
    world.two_days_later();
    world.setup.pgkeep(&restore);
    states.oracles_agree(&world);
    nothing_is_left(&world);
    report(
        "`restore --target-db`",
        [
            "spread over a run",
            "12",
            "live database as it was; the target is whole or not there",
            "succeeds; half-made databases and private files are gone",
        ],
    );
}
