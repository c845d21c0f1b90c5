//! A prune is killed.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use chrono::Utc;

use crate::bucket::Bucket;
use crate::eyes::swept_after_two_days;
use crate::found::report;
use crate::gate::Side;
use crate::victim::{Whom, moments};
use crate::world::{World, files, name_of};

const PRUNE: [&str; 3] = ["prune", "--wait", "0s"];

#[test]
fn killed_at_any_writing_request_a_prune_has_removed_whole_backups_only() {
    let mut bucket = Bucket::new("bucket_prune");
    for (variable, value) in
        [("BACKUP_PRUNE", "false"), ("BACKUP_RETENTION_DAILY_MAX", "1"), ("BACKUP_RETENTION_DAILY_MIN", "0")]
    {
        bucket.world.setup.set(variable, value);
    }
    let mut requests = Vec::new();
    for nth in 1.. {
        // One that is kept and one that is not.
        while bucket.world.backups_are_whole().len() < 2 {
            bucket.world.setup.pgkeep(&["backup"]);
        }
        let newest = bucket.world.backups_are_whole().pop().expect("two");
        let request = bucket.kill_at(nth, Side::Before, &PRUNE, Whom::of(nth));
        let after = bucket.world.backups_are_whole();
        assert_eq!(after.last(), Some(&newest), "{request:?}: {after:?}");
        let Some(request) = request else { break };
        requests.push(request);
        bucket.world.setup.pgkeep(&["unlock", "--yes"]);
    }
    for what in [".pgkeep/lock-", ".pgkeep/unpublished-", "DELETE", ".meta", ".dump.zst", ".globals.sql"] {
        assert!(requests.iter().any(|request| request.contains(what)), "no {what} in {requests:#?}");
    }
    assert!(requests.len() >= 8, "{requests:#?}");
    let since = Utc::now();
    bucket.world.setup.pgkeep(&["backup"]);
    bucket.world.setup.pgkeep(&PRUNE);
    assert!(swept_after_two_days(bucket.store(), since) > 0);
    assert_eq!(bucket.litter(), [""; 0]);
    bucket.world.list_is_whole();
    report(
        "`prune` of a bucket",
        [
            "at each of its writing requests, before the store has it",
            "at least 8",
            "every backup in the list is whole, what is to be kept is kept",
            "removes the rest; what had lost its meta is swept when its mark is a day old",
        ],
    );
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").args(["--archive", "--no-target-directory"]).args([from, to]).status().unwrap();
    assert!(copied.success());
}

#[test]
fn killed_at_any_time_a_prune_of_a_folder_has_removed_whole_backups_only() {
    const MOMENTS: u32 = 6;
    let mut world = World::new("folder_prune");
    world.setup.set("BACKUP_PRUNE", "false");
    for _ in 0..5 {
        world.setup.pgkeep(&["backup"]);
    }
    world.setup.set("BACKUP_RETENTION_LOCAL_DAILY_MAX", "1");
    world.setup.set("BACKUP_RETENTION_LOCAL_DAILY_MIN", "0");
    let newest = world.backups_are_whole().pop().expect("five");
    let (backups, template) = (world.setup.backups(), world.setup.folder().join("template"));
    copy(&backups, &template);
    let whole = world.measure(&PRUNE);
    let spread = moments(whole, MOMENTS).map(|time| (false, time));
    // The removals are the last part of a run; they are waited for.
    let removing = moments(Duration::from_millis(30), MOMENTS).map(|time| (true, time));
    for (kills, (begun, time)) in spread.chain(removing).enumerate() {
        std::fs::remove_dir_all(&backups).unwrap();
        copy(&template, &backups);
        let mut victim = world.start(&PRUNE);
        if begun {
            let all = files(&backups).iter().filter(|file| name_of(file).ends_with(".meta")).count();
            let fewer = || files(&backups).iter().filter(|file| name_of(file).ends_with(".meta")).count() < all;
            assert!(victim.until(fewer), "nothing is removed");
        }
        std::thread::sleep(time);
        victim.kill(Whom::of(kills));
        world.settle();
        let left = world.backups_are_whole();
        assert_eq!(left.last(), Some(&newest), "{time:?}: {left:?}");
        world.after_the_lease();
        world.setup.pgkeep(&PRUNE);
        assert_eq!(world.backups_are_whole(), [newest.clone()], "{time:?}");
        // What has no meta and is not yet two days old stays until then.
        world.two_days_later();
        world.setup.pgkeep(&PRUNE);
        assert_eq!(world.litter(), [""; 0], "{time:?}");
    }
    report(
        "`prune` of a folder",
        [
            "spread over a run, and over the first 30 ms of its removals",
            "12",
            "every backup in the list is whole, what is to be kept is kept",
            "removes the rest; what had lost its meta is swept when its mark is a day old",
        ],
    );
}
