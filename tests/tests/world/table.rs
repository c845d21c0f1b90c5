//! What docs/RELIABILITY.md says of these tests, and of those elsewhere that belong to them.

use pgkeep_testkit::hold_against_document;

/// What happens, what comes of it, and which test shows it; how often at least, if that is counted.
struct Row {
    what: &'static str,
    outcome: &'static str,
    test: &'static str,
    at_least: Option<usize>,
}

const fn row(what: &'static str, outcome: &'static str, test: &'static str) -> Row {
    Row { what, outcome, test, at_least: None }
}

const fn counted(what: &'static str, outcome: &'static str, test: &'static str, at_least: usize) -> Row {
    Row { what, outcome, test, at_least: Some(at_least) }
}

const ROWS: [Row; 32] = [
    counted(
        "the only place for backups is full, with 0, 1, 2… pages left",
        "exit 6, nothing half-made, what was there is as it was",
        "world::disks::a_disk_that_is_full_at_any_page_is_told_and_leaves_the_last_good_backup",
        5,
    ),
    counted(
        "one of two places is full, with 0, 3, 6… pages left",
        "the other copy is made; a warning if it may fail, else exit 6, and the next run makes the missing copy",
        "world::disks::a_full_disk_beside_another_place_costs_that_copy_only",
        4,
    ),
    counted(
        "files may not grow beyond some bytes (`ulimit -f`)",
        "as a full disk",
        "world::disks::a_file_that_may_not_grow_is_a_full_disk",
        3,
    ),
    row(
        "the disk of the log is full",
        "exit 0, lines are missing",
        "world::disks::a_log_that_cannot_be_written_costs_nothing_but_lines",
    ),
    row("no proof can be written", "a warning", "world::disks::a_proof_that_cannot_be_kept_is_a_warning"),
    row(
        "no report of a drill can be written",
        "it is told, nothing stays behind",
        "world::disks::a_report_that_cannot_be_written_is_told",
    ),
    row(
        "the temporary folder is full, takes nothing, is not there",
        "exit 6, 2 or 1 with its name, nothing half-made",
        "world::disks::a_temporary_folder_that_is_full_or_closed_is_named",
    ),
    counted(
        "the server's disk is full during a restore: at the beginning, among the rows",
        "exit 5, the live database is as it was, the new one is dropped",
        "world::disks::a_server_without_room_for_the_new_database_keeps_the_old_one",
        2,
    ),
    row(
        "the bucket refuses, then hangs, for seconds in the middle of an upload",
        "waited for, exit 0",
        "world::bucket::a_bucket_that_is_away_for_a_while_is_waited_for",
    ),
    row(
        "the bucket is closed for good in the middle of an upload",
        "exit 6, the local copy is complete, the next run makes the missing copy",
        "world::bucket::a_bucket_that_is_closed_in_the_middle_costs_its_copy_which_the_next_run_makes",
    ),
    row(
        "PostgreSQL is restarted, or ended as by a power failure, in the middle of a backup or a restore",
        "exit 5, the live database is as it was, the next run succeeds",
        "world::server::a_server_that_is_restarted_in_the_middle_costs_that_run_only",
    ),
    row(
        "PostgreSQL is killed in the middle of a backup by pg_dump",
        "exit 5, nothing half-made, no process is left",
        "end_to_end::faults::the_server_going_away_half_way_is_an_error_with_a_hint",
    ),
    row(
        "a standby's replay ends the sessions of a backup in its way",
        "an error that says what helps; replay never stands still longer than the server lets it",
        "parallel_dump::standby::a_standby_is_dumped_and_replays_although_nobody_takes_the_blocks",
    ),
    row(
        "somebody waits to change a table that is being dumped",
        "the backup is made and the log says who waits",
        "parallel_dump::locks::a_backup_is_made_although_somebody_waits_to_change_a_table",
    ),
    row(
        "the same, with `--on-blocked-ddl abort`",
        "exit 5 and no trace of it",
        "restore::blocked_ddl::whoever_waits_for_a_backup_is_named_and_it_can_be_given_up_for_him",
    ),
    row(
        "a table is locked for longer than the lock timeout",
        "given up after that time",
        "dump_engine::a_held_lock_is_waited_for_no_longer_than_the_limit",
    ),
    row(
        "`pg_terminate_backend` on all sessions of a backup, or on the leader's",
        "the dump fails, no session is left",
        "parallel_dump::others::whoever_loses_its_session_fails_the_dump",
    ),
    counted(
        "no connection is left: of the database, of the role, of the server; no room for locks",
        "fewer sessions where there is one, else exit 5 with the reason",
        "world::server::a_server_with_too_little_room_says_of_what",
        9,
    ),
    row(
        "role and database have timeouts of a millisecond and are read-only",
        "backup, verify, check, drill, restore and rollback succeed",
        "world::server::timeouts_and_read_only_of_roles_and_databases_stop_nobody",
    ),
    row(
        "role and database write dates, numbers and bytes otherwise",
        "archive and proof are the same",
        "end_to_end::surroundings::role_and_database_settings_change_neither_archive_nor_proof",
    ),
    row(
        "the role may not read a table",
        "exit 5, with the table and the grant that helps",
        "world::server::a_table_that_the_role_may_not_read_ends_the_backup_and_is_named",
    ),
    counted(
        "systemd sends SIGTERM to every process of a run at once",
        "exit 143, nothing half-made, no process, no database and no file is left",
        "world::processes::systemd_ends_all_processes_of_a_run_at_once_and_nothing_is_left",
        6,
    ),
    row(
        "SIGINT or SIGTERM to pgkeep alone",
        "exit 130 or 143, nothing is left",
        "end_to_end::faults::ctrl_c_and_sigterm_end_all_that_was_begun",
    ),
    row(
        "SIGINT twice",
        "exit 130 at once, nothing half-made; the lock may stay, and says whose it is",
        "world::processes::whoever_interrupts_twice_is_obeyed_at_once",
    ),
    row(
        "the terminal is closed (SIGHUP)",
        "exit 143, nothing is left; under `nohup` the run goes on",
        "world::processes::a_terminal_that_is_closed_ends_a_run_politely_unless_nohup_says_otherwise",
    ),
    row(
        "three runs start in the same second",
        "one after the other, or exit 7 for those that do not wait",
        "world::processes::three_crons_at_once_make_three_backups_one_after_the_other",
    ),
    counted(
        "locale, time zone, home or working directory are odd or not there",
        "a whole backup with a name in UTC",
        "world::host::a_backup_is_made_whatever_locale_time_zone_home_and_directory_it_is_started_with",
        10,
    ),
    counted(
        "standard streams are closed, full, or nobody reads them any more",
        "a whole backup, exit 0",
        "world::host::streams_that_are_closed_full_or_left_cost_nothing",
        9,
    ),
    counted(
        "64 file descriptors; fewer",
        "exit 0; an error, nothing half-made",
        "world::host::few_descriptors_are_enough_or_it_is_told",
        2,
    ),
    counted(
        "few processes and threads",
        "an error, or a whole backup; nothing half-made",
        "world::host::few_processes_are_enough_or_it_is_told",
        1,
    ),
    row(
        "names of servers and stores are not found",
        "exit 5 or 6 with the name; the other copy is made",
        "world::host::names_that_are_not_found_are_named",
    ),
    row(
        "the clock jumps",
        "retention removes no more than it would without",
        "core::retention::a_jump_removes_no_more",
    ),
];

/// It happened as often as the document says.
pub(crate) fn suffices(test: &str, times: usize) {
    let row = ROWS
        .iter()
        .find(|row| row.test.strip_prefix("world::") == Some(test))
        .unwrap_or_else(|| panic!("no row for {test}"));
    let at_least = row.at_least.unwrap_or_default();
    assert!(times >= at_least, "{test}: {times} times, and the document says at least {at_least}");
}

#[test]
fn the_document_says_what_is_done_here() {
    let rows: Vec<Vec<String>> = ROWS
        .iter()
        .map(|row| {
            let times = row.at_least.map(|times| format!("at least {times}")).unwrap_or_default();
            vec![row.what.into(), times, row.outcome.into(), format!("`{}`", row.test)]
        })
        .collect();
    hold_against_document("world", &["what happens", "times", "what comes of it", "test"], &rows);
}
