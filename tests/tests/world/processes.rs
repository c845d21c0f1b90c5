//! How runs are ended from outside, and runs beside each other.

use pgkeep_testkit::{Fault, FaultyTools, client_tools};

use crate::ground::{
    backups, ended, eventually, is_alive, nothing_half_made, objects, signal, small, tiny, wait, with_descendants,
};
use crate::table::suffices;

#[test]
fn systemd_ends_all_processes_of_a_run_at_once_and_nothing_is_left() {
    let (source, mut setup) = small("killed");
    setup.pgkeep(&["backup"]);
    let before = objects(&setup.backups());
    let temporary = setup.folder().join("tmp");
    std::fs::create_dir(&temporary).unwrap();
    setup.set("TMPDIR", &temporary);
    let mut times = 0;
    for (engine, tool, bytes, arguments) in [
        ("pg_dump", "pg_dump", 2_000_000, &["backup", "--weekly"][..]),
        ("pg_dump", "pg_dump", 0, &["backup", "--weekly"]),
        ("parallel", "pg_dump", 2_000, &["backup", "--weekly"]),
        ("parallel", "pg_dumpall", 100, &["backup", "--weekly"]),
        ("parallel", "pg_restore", 0, &["restore", "--latest", "--yes", "--skip-snapshot"]),
        ("parallel", "pg_restore", 0, &["drill", "--restore-only"]),
    ] {
        let tools = FaultyTools::new(17, tool, &Fault::HangsAfter { bytes });
        setup.set("PG_BINDIRS", tools.path());
        setup.set("BACKUP_ENGINE", engine);
        let child = setup.start("pgkeep", arguments);
        let what = format!("{engine}, {tool}, {arguments:?}");
        eventually(&format!("{what}: the tool runs"), || !tools.processes().is_empty());
        let family = with_descendants(child.id());
        signal(&family, "-TERM");
        let run = wait(child);
        ended(&run, 143, &[], &what);
        eventually(&format!("{what}: its processes end"), || !family.iter().any(|process| is_alive(*process)));
        assert_eq!(objects(&setup.backups()), before, "{what}: it leaves something\n{run}");
        assert_eq!(source.relatives(), [source.name()], "{what}\n{run}");
        assert_eq!(std::fs::read_dir(&temporary).unwrap().count(), 0, "{what}: a temporary file is left");
        times += 1;
    }
    setup.set("PG_BINDIRS", client_tools(17));
    setup.pgkeep(&["backup", "--weekly"]);
    suffices("processes::systemd_ends_all_processes_of_a_run_at_once_and_nothing_is_left", times);
}

#[test]
fn whoever_interrupts_twice_is_obeyed_at_once() {
    let (_source, mut setup) = small("twice");
    setup.pgkeep(&["backup"]);
    let before = objects(&setup.backups());
    let tools = FaultyTools::new(17, "pg_dump", &Fault::HangsAfter { bytes: 2_000 });
    setup.set("PG_BINDIRS", tools.path());
    let child = setup.start("pgkeep", &["backup", "--weekly"]);
    eventually("pg_dump runs", || !tools.processes().is_empty());
    signal(&[child.id()], "-INT");
    signal(&[child.id()], "-INT");
    let run = wait(child);
    ended(&run, 130, &["nterrupted"], "twice");
    eventually("its processes end", || !tools.processes().iter().any(|process| is_alive(*process)));
    assert_eq!(objects(&setup.backups()), before, "{run}");
    setup.set("PG_BINDIRS", client_tools(17));
    // It may not have come to give its lock back: then the next run says whose it is.
    let run = setup.run("pgkeep", &["backup", "--weekly", "--wait", "0s"]);
    if run.code != Some(0) {
        ended(&run, 7, &["locked by"], "after it");
        setup.pgkeep(&["unlock", "--yes"]);
        setup.pgkeep(&["backup", "--weekly"]);
    }
}

#[test]
fn a_terminal_that_is_closed_ends_a_run_politely_unless_nohup_says_otherwise() {
    let (_source, mut setup) = small("hangup");
    let tools = FaultyTools::new(17, "pg_dump", &Fault::HangsAfter { bytes: 2_000 });
    setup.set("PG_BINDIRS", tools.path());
    let child = setup.start("pgkeep", &["backup"]);
    eventually("pg_dump runs", || !tools.processes().is_empty());
    signal(&[child.id()], "-HUP");
    let run = wait(child);
    ended(&run, 143, &["terminated"], "hung up");
    eventually("its processes end", || !tools.processes().iter().any(|process| is_alive(*process)));
    nothing_half_made(&setup.backups(), "hung up");

    let tools = FaultyTools::new(17, "pg_dump", &Fault::Slow { milliseconds: 20 });
    setup.set("PG_BINDIRS", tools.path());
    let mut command = setup.stock("nohup");
    command.arg(pgkeep_testkit::program("pgkeep")).args(["backup", "--engine", "pg_dump"]);
    let child = command.spawn().unwrap();
    eventually("pg_dump runs", || !tools.processes().is_empty());
    signal(&[child.id()], "-HUP");
    let run = wait(child);
    ended(&run, 0, &[], "nohup");
    assert_eq!(backups(&setup.backups()), 1);
}

#[test]
fn three_crons_at_once_make_three_backups_one_after_the_other() {
    let (_source, setup) = tiny("crons");
    let children: Vec<_> = (0..3).map(|_| setup.start("pgkeep", &["backup", "--wait", "5m"])).collect();
    for child in children {
        ended(&wait(child), 0, &[], "at once");
    }
    assert_eq!(backups(&setup.backups()), 3, "{:?}", setup.files());
    setup.pgkeep(&["verify", "--all", "--deep"]);
    // And all of them at once, who do not wait: one is made at least, and the others say who has the lock.
    let children: Vec<_> = (0..3).map(|_| setup.start("pgkeep", &["backup", "--weekly", "--wait", "0s"])).collect();
    let mut made = 0;
    for child in children {
        let run = wait(child);
        match run.code {
            Some(0) => made += 1,
            _ => ended(&run, 7, &["locked by"], "without waiting"),
        }
    }
    assert!(made > 0);
    assert_eq!(backups(&setup.backups()), 3 + made);
    nothing_half_made(&setup.backups(), "at once");
}
