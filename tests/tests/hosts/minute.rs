//! Two jobs of one host begin in the same second: an entry in two crontabs, or a timer beside a crontab.

use crate::eyes::whole_backups;
use crate::found::report;
use crate::host::{Shared, ended, name_of_backup};

const PAIRS: usize = 4;

#[test]
fn two_jobs_in_the_same_second_make_two_whole_backups() {
    let shared = Shared::new("same_second");
    let host = shared.host("alpha");
    let mut made = Vec::new();
    for _ in 0..PAIRS {
        let pair = [(); 2].map(|()| host.start(&["backup", "--wait", "2m", "--output", "json"]));
        for run in pair.map(ended) {
            assert_eq!(run.code, Some(0), "{run}");
            made.push(name_of_backup(&run));
        }
    }
    made.sort();
    let whole = whole_backups(shared.store());
    assert_eq!(whole, made, "none is lost, and none has another's name");
    host.pgkeep(&["verify", "--all", "--stored"]);
    report(
        "two cron jobs of one host in the same second",
        ["4 pairs", "one waits for the other; both make a backup of their own, each is whole in folder and bucket"],
    );
}

#[test]
fn of_two_jobs_that_do_not_wait_one_makes_a_backup_and_the_other_says_why_not() {
    let shared = Shared::new("no_wait");
    let host = shared.host("alpha");
    let mut made = Vec::new();
    for _ in 0..PAIRS {
        let pair = [(); 2].map(|()| host.start(&["backup", "--wait", "0s", "--output", "json"]));
        let runs = pair.map(ended);
        // The second may come when the first is done.
        let good: Vec<_> = runs.iter().filter(|run| run.code == Some(0)).collect();
        assert!(!good.is_empty(), "{} {}", runs[0], runs[1]);
        for run in runs.iter().filter(|run| run.code != Some(0)) {
            assert_eq!(run.code, Some(7), "{run}");
            assert!(run.stderr.contains("alpha (process "), "{run}");
        }
        made.extend(good.into_iter().map(name_of_backup));
    }
    made.sort();
    assert_eq!(whole_backups(shared.store()), made);
    report(
        "two cron jobs of one host in the same second that do not wait",
        ["4 pairs", "at least one makes a backup; whoever does not ends with exit 7, which names the holder"],
    );
}
