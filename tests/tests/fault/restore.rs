//! Restores whose n-th statement goes wrong: the live database is as it was, or wholly the new one.

use crate::backup::{acts, why_is_told};
use crate::ground::{Came, Ground, everything};
use crate::relay::{Act, Whose};
use crate::table::suffices;

/// A way to restore, and how things are put back to where they were before it.
struct Way {
    label: &'static str,
    arguments: fn(&Ground) -> Vec<String>,
    put_back: fn(&Ground),
}

fn words(arguments: &[&str]) -> Vec<String> {
    arguments.iter().map(|argument| (*argument).to_owned()).collect()
}

fn beside(ground: &Ground) -> String {
    format!("{}_beside", ground.source.name())
}

fn drop_others(ground: &Ground) {
    for name in ground.databases().iter().filter(|name| *name != ground.source.name()) {
        ground.ask("postgres", &format!("DROP DATABASE \"{name}\" WITH (FORCE)"));
    }
}

const SWAP: Way = Way {
    label: "swap",
    arguments: |_| words(&["restore", "--latest", "--yes", "--skip-snapshot"]),
    put_back: |ground| {
        drop_others(ground);
        ground.change();
    },
};

const ROLLBACK: Way = Way {
    label: "rollback",
    arguments: |_| words(&["rollback", "--yes"]),
    put_back: |ground| {
        drop_others(ground);
        ground.setup.pgkeep(&["restore", "--latest", "--yes", "--skip-snapshot"]);
    },
};

const BESIDE: Way = Way {
    label: "beside",
    arguments: |ground| words(&["restore", "--latest", "--yes", "--target-db", &beside(ground)]),
    put_back: drop_others,
};

const IN_PLACE: Way = Way {
    label: "in_place",
    arguments: |_| words(&["restore", "--latest", "--yes", "--in-place", "--skip-snapshot"]),
    put_back: |ground| {
        // A half-filled database is filled by the next run.
        ground.setup.pgkeep(&["restore", "--latest", "--yes", "--in-place", "--skip-snapshot"]);
        ground.change();
    },
};

const TABLE: Way = Way {
    label: "table",
    arguments: |_| words(&["restore", "--latest", "--yes", "--table", "public.child"]),
    put_back: |ground| {
        ground.source.psql("DROP TABLE IF EXISTS child CASCADE");
    },
};

const DRILL: Way = Way { label: "drill", arguments: |_| words(&["drill", "--restore-only"]), put_back: drop_others };

/// What can be seen of everything that is not to be touched.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Sight {
    live: String,
    databases: Vec<String>,
}

fn look(ground: &Ground) -> Sight {
    Sight { live: ground.look(), databases: ground.databases() }
}

/// All or nothing, and what is left is told. Whether things are as they were.
fn judge(ground: &Ground, way: &Way, before: &Sight, came: &Came, what: &str) -> bool {
    let after = look(ground);
    let told = |words: &str| came.run.stderr.contains(words);
    if came.run.code == Some(0) {
        let restored = match way.label {
            "swap" | "in_place" => after.live.contains("backed up"),
            "rollback" => !after.live.contains("backed up"),
            "beside" => ground.ask(&beside(ground), "SELECT word FROM public.word") == ["backed up"],
            "table" => {
                ground.ask(ground.source.name(), "SELECT pg_catalog.count(*)::text FROM public.child") == ["200"]
            }
            _ => after == *before || told("the next drill drops it"),
        };
        assert!(restored, "{what}: it is said to be restored\n{after:?}\n{came}");
        if matches!(way.label, "beside" | "drill") {
            assert_eq!(after.live, before.live, "{what}: the live database was touched\n{came}");
        }
        return false;
    }
    if came.error("code") == "restore_uncertain" {
        let exchanged = after.live.contains("backed up") != before.live.contains("backed up");
        assert!(after.live == before.live || exchanged, "{what}: neither before nor after\n{after:?}\n{came}");
        return false;
    }
    if told("was emptied and is not complete") {
        assert_eq!(way.label, "in_place", "{what}\n{came}");
        return false;
    }
    if way.label == "table" && told("is left half restored") {
        return false;
    }
    assert_eq!(after.live, before.live, "{what}: the live database was touched\n{came}");
    if after.databases != before.databases {
        assert!(told("the next restore drops it") || told("the next drill drops it"), "{what}: {after:?}\n{came}");
    }
    after == *before
}

fn sweep(way: &Way, whose: Whose, stride: usize) -> usize {
    let ground = Ground::with_a_backup(&format!("fault_{}", way.label));
    (way.put_back)(&ground);
    let mut before = look(&ground);
    let arguments = (way.arguments)(&ground);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (mut points, stride) = (0, if everything() { 1 } else { stride });
    for nth in (1..).step_by(stride) {
        let mut reached = false;
        for act in acts(nth / stride) {
            let came = ground.run_with(&arguments, whose, nth, act);
            let struck = ground.relay.struck();
            reached |= struck.is_some();
            points += usize::from(struck.is_some());
            let what = format!("{}, {whose:?} {nth}, {act:?}: {}", way.label, struck.as_deref().unwrap_or("nothing"));
            // First of all: until its sessions have ended, they may still end others.
            ground.nothing_lingers(&what);
            let as_it_was = judge(&ground, way, &before, &came, &what);
            why_is_told(&came, struck.as_deref(), act, &what);
            if as_it_was {
                continue;
            }
            let is_exchanged = look(&ground).live != before.live && came.error("code") == "restore_uncertain";
            if came.run.code != Some(0) && !is_exchanged {
                // What was left is no hindrance.
                let came = ground.run_with(&arguments, whose, usize::MAX, Act::Cut);
                let next = format!("the run after {what}");
                assert_eq!(came.run.code, Some(0), "{next}\n{came}");
                judge(&ground, way, &before, &came, &next);
                ground.nothing_lingers(&next);
            }
            (way.put_back)(&ground);
            before = look(&ground);
        }
        if !reached {
            return points;
        }
    }
    unreachable!("a run has so many statements and no more")
}

#[test]
fn any_statement_of_our_own_in_an_exchange() {
    suffices("restore::any_statement_of_our_own_in_an_exchange", sweep(&SWAP, Whose::Ours, 7));
}

#[test]
fn any_statement_of_pg_restore_in_an_exchange() {
    suffices("restore::any_statement_of_pg_restore_in_an_exchange", sweep(&SWAP, Whose::Tools, 23));
}

#[test]
fn any_statement_of_our_own_in_a_rollback() {
    suffices("restore::any_statement_of_our_own_in_a_rollback", sweep(&ROLLBACK, Whose::Ours, 5));
}

#[test]
fn any_statement_of_our_own_beside() {
    suffices("restore::any_statement_of_our_own_beside", sweep(&BESIDE, Whose::Ours, 9));
}

#[test]
fn any_statement_of_our_own_in_place() {
    suffices("restore::any_statement_of_our_own_in_place", sweep(&IN_PLACE, Whose::Ours, 7));
}

#[test]
fn any_statement_of_pg_restore_in_place() {
    suffices("restore::any_statement_of_pg_restore_in_place", sweep(&IN_PLACE, Whose::Tools, 47));
}

#[test]
fn any_statement_of_our_own_for_a_table() {
    suffices("restore::any_statement_of_our_own_for_a_table", sweep(&TABLE, Whose::Ours, 5));
}

#[test]
fn any_statement_of_pg_restore_for_a_table() {
    suffices("restore::any_statement_of_pg_restore_for_a_table", sweep(&TABLE, Whose::Tools, 13));
}

#[test]
fn any_statement_of_our_own_in_a_drill() {
    suffices("restore::any_statement_of_our_own_in_a_drill", sweep(&DRILL, Whose::Ours, 11));
}
