//! A backup is killed.

use std::path::PathBuf;

use chrono::Utc;
use pgkeep_testkit::Ceph;

use crate::bucket::Bucket;
use crate::eyes::swept_after_two_days;
use crate::found::report;
use crate::gate::Side;
use crate::victim::{Whom, moments};
use crate::world::{World, files};

/// Runs that are killed one after the other before one is left to its end.
const SERIES: usize = 4;

/// Every request that changes something in the bucket is one of the moments; none is left out.
#[test]
fn killed_at_any_writing_request_a_backup_is_whole_or_not_there() {
    let mut bucket = Bucket::new("bucket_backup");
    bucket.world.setup.set("BACKUP_RETENTION_DAILY_MAX", "3");
    bucket.world.setup.set("BACKUP_RETENTION_DAILY_MIN", "1");
    let live = bucket.world.live();
    let mut before = bucket.world.backups_are_whole();
    let (mut kills, mut requests) = (0, Vec::new());
    for nth in 1.. {
        let mut side = Side::Before;
        let Some(mut request) = bucket.kill_at(nth, side, &["backup", "--wait", "0s"], Whom::of(kills)) else { break };
        // What the store has done just before the next request is the same thing; where an answer alone makes the difference,
        // it is withheld too.
        if [".meta", ".dump.zst", ".pgkeep/lock-"].iter().any(|what| request.contains(what)) {
            kills += 1;
            bucket.world.setup.pgkeep(&["unlock", "--yes"]);
            side = Side::After;
            request = bucket.kill_at(nth, side, &["backup", "--wait", "0s"], Whom::of(kills)).unwrap_or(request);
        }
        kills += 1;
        let after = bucket.world.backups_are_whole();
        assert!(after.iter().any(|name| before.contains(name)), "{side:?} {request}: {before:?} {after:?}");
        bucket.world.live().assert_is(&live, &request);
        before = after;
        requests.push(request);
        // The lease would run out in five minutes; who can't wait breaks the lock.
        bucket.world.setup.pgkeep(&["unlock", "--yes"]);
        if nth.is_multiple_of(SERIES) {
            bucket.world.setup.pgkeep(&["backup"]);
            before = bucket.world.backups_are_whole();
        }
    }
    for what in [".pgkeep/lock-", ".pgkeep/unpublished-", ".dump.zst", ".globals.sql", ".meta"] {
        assert!(requests.iter().any(|request| request.contains(what)), "no {what} in {requests:#?}");
    }
    assert!(kills >= 16, "{requests:#?}");
    let since = Utc::now();
    bucket.world.setup.pgkeep(&["backup"]);
    assert!(!bucket.litter().is_empty(), "{:?}", bucket.keys());
    assert!(swept_after_two_days(bucket.store(), since) > 0);
    assert_eq!(bucket.litter(), [""; 0]);
    assert_eq!(Ceph::shared().unfinished_uploads(&bucket.name), [""; 0]);
    bucket.world.list_is_whole();
    report(
        "`backup` to a bucket",
        [
            "at each of its writing requests, before the store has it; for archive, meta and lock also when the store has done it",
            "at least 16",
            "live database as it was; every backup in the list is whole, none is lost",
            "succeeds when the lock's lease is over, or after `unlock`; objects and uploads that were left are swept when they are a day old",
        ],
    );
}

/// Moments of each kind of run.
const MOMENTS: u32 = 12;

fn to_a_folder(engine: &'static str, row: &'static str) {
    let mut world = World::new(&format!("folder_{engine}"));
    world.setup.set("BACKUP_ENGINE", engine);
    world.setup.set("BACKUP_RETENTION_LOCAL_DAILY_MAX", "2");
    world.setup.set("BACKUP_RETENTION_LOCAL_DAILY_MIN", "1");
    world.setup.pgkeep(&["backup"]);
    let live = world.live();
    let whole = world.measure(&["backup"]);
    let mut names = world.backups_are_whole();
    let backups = world.setup.backups();
    let mut kill = |kills: usize, when: Result<std::time::Duration, &'static str>| {
        // Its predecessor is dead, and so is that one's lock.
        world.after_the_lease();
        let known = files(&backups);
        let mut victim = world.start(&["backup", "--wait", "0s"]);
        match when {
            Ok(time) => std::thread::sleep(time),
            Err(part) => {
                let is_new = |file: &PathBuf| file.display().to_string().contains(part) && !known.contains(file);
                assert!(victim.until(|| files(&backups).iter().any(is_new)), "no {part} was written");
            }
        }
        let fate = victim.kill(Whom::of(kills));
        world.settle();
        let after = world.backups_are_whole();
        assert!(after.iter().any(|name| names.contains(name)), "{when:?}: {names:?} {after:?}\n{}", fate.said);
        names = after;
        world.live().assert_is(&live, &format!("killed at {when:?}"));
        if (kills + 1).is_multiple_of(SERIES) {
            world.after_the_lease();
            world.setup.pgkeep(&["backup", "--wait", "0s"]);
            names = world.backups_are_whole();
        }
    };
    let parts = [".dump.zst", "unpublished-", ".globals.sql", ".meta"];
    for (kills, time) in moments(whole, MOMENTS).enumerate() {
        kill(kills, Ok(time));
    }
    for (kills, part) in parts.into_iter().enumerate() {
        kill(kills, Err(part));
    }

    world.two_days_later();
    world.setup.pgkeep(&["backup", "--wait", "0s"]);
    world.list_is_whole();
    assert_eq!(world.litter(), [""; 0]);
    assert_eq!(files(&world.work()), [PathBuf::new(); 0], "private files");
    report(
        row,
        [
            "spread over a run, and when its archive, its mark, its globals and its meta appear",
            "16",
            "live database as it was; every backup in the list is whole, none is lost; no client tool and no session stays",
            "takes the dead run's lock over when its lease is over, and succeeds; unfinished files are swept when they are a day old, private ones at once",
        ],
    );
}

#[test]
fn killed_at_any_time_the_parallel_engine_leaves_nothing_half_made() {
    to_a_folder("parallel", "`backup` to a folder, `parallel` engine");
}

#[test]
fn killed_at_any_time_the_pg_dump_engine_leaves_nothing_half_made() {
    to_a_folder("pg_dump", "`backup` to a folder, `pg_dump` engine");
}
