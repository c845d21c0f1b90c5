//! A restore of tables into the live database is killed.

use crate::found::report;
use crate::restore::nothing_is_left;
use crate::victim::{Whom, moments};
use crate::world::World;

const MOMENTS: u32 = 12;
const RESTORE: [&str; 4] = ["restore", "--latest", "--yes", "--table=orders"];
/// Runs that are killed one after the other before one is left to its end.
const SERIES: usize = 3;

#[test]
fn killed_while_a_table_is_added_what_is_half_made_is_told_and_the_same_command_mends_it() {
    let world = World::with_backup("table_added");
    let name = world.database.name().to_owned();
    let drop = || {
        world.ask(
            &name,
            "DROP VIEW IF EXISTS turnover; DROP TABLE IF EXISTS orders; DROP SEQUENCE IF EXISTS orders_id_seq",
        )
    };
    let view = "CREATE VIEW turnover AS SELECT customer, sum(total) AS sum FROM orders GROUP BY customer";
    drop();
    let without = world.live();
    let whole = world.measure(&RESTORE);
    // A foreign key to a table that is not restored is left out, and the plan says so.
    world.ask(&name, view);
    let everything = world.live();
    drop();
    let (mut halves, mut wholes) = (0, 0);
    for (n, time) in moments(whole, MOMENTS).enumerate() {
        let when = format!("{time:?}");
        let fate = world.kill_after(&RESTORE, time, Whom::of(n));
        let there = world.ask(&name, "SELECT count(*) FROM pg_class WHERE relname LIKE 'orders%'") != "0";
        let told = world.setup.run("pgkeep", &["status"]).stdout.contains("a restore of tables from");
        if there && !fate.done {
            halves += 1;
            let complete = world.ask(&name, view).is_empty() && world.live() == everything;
            world.ask(&name, "DROP VIEW turnover");
            wholes += u32::from(complete);
            // The note goes last.
            assert!(told || complete, "{when}: {}", fate.said);
        } else if !fate.done {
            world.live().assert_is(&without, &when);
        }
        world.backups_are_whole();
        if fate.done || !told && there {
            drop();
        } else if (n + 1).is_multiple_of(SERIES) {
            world.setup.pgkeep(&RESTORE);
            world.ask(&name, view);
            world.live().assert_is(&everything, &when);
            drop();
        }
    }
    // Everything else in the database was never touched.
    drop();
    world.live().assert_is(&without, &format!("{halves} were half made, {wholes} of them only not yet told"));
    world.two_days_later();
    world.setup.pgkeep(&RESTORE);
    nothing_is_left(&world);
    report(
        "`restore --table`",
        [
            "spread over a run",
            "12",
            "everything else in the live database as it was; the table is not there, or whole, or `status` says that it may not be complete",
            "says in its plan that it drops what is half made, and succeeds",
        ],
    );
}

#[test]
fn what_is_half_made_and_was_written_to_is_not_dropped() {
    let world = World::with_backup("table_kept");
    let name = world.database.name().to_owned();
    world.ask(&name, "DROP VIEW turnover; DROP TABLE orders");
    world.kill_when(&RESTORE, "Rows loaded", std::time::Duration::ZERO, Whom::All);
    world.ask(&name, "UPDATE orders SET total = 1 WHERE id = 1");
    // Counted when the session has ended, at the latest.
    let counted = "SELECT sum(n_tup_upd) FROM pg_stat_all_tables WHERE relname = 'orders'";
    let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while world.ask(&name, counted) == "0" {
        assert!(std::time::Instant::now() < until, "the update is not counted");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let refused = world.setup.run("pgkeep", &RESTORE);
    assert_ne!(refused.code, Some(0), "{refused}");
    assert!(refused.stderr.contains("somebody has written to it since"), "{refused}");
    assert_eq!(world.ask(&name, "SELECT total FROM orders WHERE id = 1"), "1.00");
    world.ask(&name, "ALTER TABLE orders RENAME TO precious; ALTER SEQUENCE orders_id_seq RENAME TO precious_id_seq");
    world.setup.pgkeep(&RESTORE);
    assert_eq!(world.ask(&name, "SELECT total FROM precious WHERE id = 1"), "1.00");
}
