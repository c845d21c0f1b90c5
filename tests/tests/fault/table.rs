//! What docs/RELIABILITY.md says of these tests.

use pgkeep_testkit::hold_against_document;

/// A test, what it makes go wrong, how often at least, and what comes of it.
struct Row {
    test: &'static str,
    run: &'static str,
    fault: &'static str,
    at_least: usize,
    outcome: &'static str,
}

const OURS: &str = "the n-th statement of our own sessions";
const TOOLS: &str = "the n-th statement of the client tools' sessions";
const BACKUP: &str = "exit 5 and no trace of it, or whole; without roles it says so";
const BESIDE: &str = "exit 5 and nothing is changed, or wholly restored";

const ROWS: [Row; 21] = [
    row("backup::any_statement_of_our_own_by_several_sessions", "backup, parallel", OURS, 25, BACKUP),
    row("backup::any_statement_of_pg_dump_beside_our_sessions", "backup, parallel", TOOLS, 5, BACKUP),
    row("backup::any_statement_of_our_own_beside_pg_dump", "backup, pg_dump", OURS, 8, BACKUP),
    row("backup::any_statement_of_pg_dump_alone", "backup, pg_dump", TOOLS, 6, BACKUP),
    row("restore::any_statement_of_our_own_in_an_exchange", "restore, exchange of names", OURS, 15, BESIDE),
    row("restore::any_statement_of_pg_restore_in_an_exchange", "restore, exchange of names", TOOLS, 7, BESIDE),
    row(
        "restore::any_statement_of_our_own_in_a_rollback",
        "rollback",
        OURS,
        8,
        "exit 5 and nothing is changed, or exchanged",
    ),
    row("restore::any_statement_of_our_own_beside", "restore to another database", OURS, 10, BESIDE),
    row(
        "restore::any_statement_of_our_own_in_place",
        "restore in place",
        OURS,
        12,
        "exit 5 and nothing is changed; once emptied, that is said, and the next run fills it",
    ),
    row(
        "restore::any_statement_of_pg_restore_in_place",
        "restore in place",
        TOOLS,
        3,
        "exit 5, that it is emptied is said, and the next run fills it",
    ),
    row(
        "restore::any_statement_of_our_own_for_a_table",
        "restore of a table",
        OURS,
        10,
        "exit 5 and no other table is touched; what cannot be dropped is named, and the next run drops it",
    ),
    row(
        "restore::any_statement_of_pg_restore_for_a_table",
        "restore of a table",
        TOOLS,
        5,
        "exit 5 and no other table is touched; what cannot be dropped is named, and the next run drops it",
    ),
    row(
        "restore::any_statement_of_our_own_in_a_drill",
        "drill",
        OURS,
        8,
        "exit 5 and a report; the scratch database is dropped, by the next drill at the latest",
    ),
    row(
        "look::any_statement_of_a_check",
        "check --restore",
        OURS,
        10,
        "exit 5, or the finding names it; nothing stays behind",
    ),
    row("look::any_statement_of_status", "status", OURS, 4, "it is told, and nothing is changed"),
    row(
        "look::a_backup_is_verified_and_listed_without_its_server",
        "verify, list, show, prune --dry-run",
        "the server is away",
        4,
        "exit 0: none of them asks it",
    ),
    row(
        "tools::a_pg_dump_that_goes_wrong_leaves_nothing_and_the_next_run_succeeds",
        "backup, either engine",
        "pg_dump is killed, fails, ends early, hangs, floods stderr, warns, is too old, is no program, may not be run",
        28,
        "exit 5 or 2 and no trace of it; what is said of a whole archive is a warning",
    ),
    row(
        "tools::a_run_past_its_time_limit_ends_itself_and_the_tool_that_hangs",
        "backup with BACKUP_TIMEOUT",
        "pg_dump or pg_dumpall hangs",
        2,
        "exit 1 and no trace of it",
    ),
    row(
        "tools::a_pg_dumpall_that_goes_wrong_costs_the_roles_and_says_so",
        "backup",
        "pg_dumpall goes wrong in each of these ways",
        10,
        "a whole backup, with a warning that it has no roles",
    ),
    row(
        "tools::a_pg_restore_that_goes_wrong_never_reaches_the_live_database",
        "restore, restore to another database, drill",
        "pg_restore is killed, fails, does nothing, hangs, is too old, is no program, may not be run",
        27,
        "exit 5 or 2, nothing is changed, no database is left",
    ),
    row(
        "tools::a_server_for_a_drill_that_goes_wrong_is_gone_with_its_folder",
        "drill --scratch",
        "initdb or postgres fails, hangs, may not be run",
        6,
        "exit 1, 5 or 143, and no process and no folder is left",
    ),
];

const fn row(
    test: &'static str,
    run: &'static str,
    fault: &'static str,
    at_least: usize,
    outcome: &'static str,
) -> Row {
    Row { test, run, fault, at_least, outcome }
}

/// It went wrong as often as the document says.
pub(crate) fn suffices(test: &str, times: usize) {
    let row = ROWS.iter().find(|row| row.test == test).unwrap_or_else(|| panic!("no row for {test}"));
    assert!(times >= row.at_least, "{test}: {times} times, and the document says at least {}", row.at_least);
}

#[test]
fn the_document_says_what_is_done_here() {
    let rows: Vec<Vec<String>> = ROWS
        .iter()
        .map(|row| {
            let test = format!("`fault::{}`", row.test);
            vec![row.run.into(), row.fault.into(), format!("at least {}", row.at_least), row.outcome.into(), test]
        })
        .collect();
    hold_against_document(
        "server-faults",
        &["run", "what goes wrong", "times in CI", "what comes of it", "test"],
        &rows,
    );
}
