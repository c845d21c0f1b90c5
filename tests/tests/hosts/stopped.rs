//! A host that is stopped in the middle of a backup holds the lock, and what it has made so far is its own.

use std::time::Duration;

use crate::eyes::whole_backups;
use crate::found::report;
use crate::gate::{Gate, Side};
use crate::host::{Shared, document, ended, eventually, name_of_backup, signal};
use pgkeep_testkit::Ceph;

#[test]
fn a_stopped_holders_lock_is_respected_and_it_goes_on_where_it_stood() {
    const TIMES: usize = 3;
    let shared = Shared::new("stopped");
    let (mut alpha, beta) = (shared.host("alpha"), shared.host("beta"));
    let gate = Gate::before(&Ceph::shared().endpoint());
    beta.backup(&[]);
    for n in 0..TIMES {
        alpha.setup.set("AWS_ENDPOINT_URL", gate.url());
        // The lock is its second writing request at the latest; from then on it is anywhere.
        gate.stop_at(4 + n, Side::Before);
        let holder = alpha.start(&["backup", "--output", "json"]);
        eventually("alpha is at work", || gate.reached().is_some());
        signal(&holder, "-STOP");
        gate.release();
        // Some time within the lease.
        let refused = beta.run(&["backup", "--wait", "2s", "--output", "json"]);
        assert_eq!(refused.code, Some(7), "{refused}");
        assert!(refused.stderr.contains("alpha (process "), "{refused}");
        let refused = beta.run(&["prune", "--wait", "0s", "--output", "json"]);
        assert_eq!(document(&refused)["error"]["code"], "locked", "{refused}");
        signal(&holder, "-CONT");
        let made = ended(holder);
        assert_eq!(made.code, Some(0), "{made}");
        assert!(whole_backups(shared.store()).contains(&name_of_backup(&made)));
    }
    beta.backup(&["--wait", "0s"]);
    report(
        "two hosts' backups, one of them stopped (SIGSTOP) in the middle",
        [
            "3 times",
            "the other one is refused with exit 7, which names the holder; the stopped one goes on and its backup is whole",
        ],
    );
}

/// `unlock` is for people who know better; when they do not, nothing is lost either.
#[test]
fn what_another_host_is_making_survives_unlock_and_prune() {
    let shared = Shared::new("in_progress");
    let (mut alpha, mut beta) = (shared.host("alpha"), shared.host("beta"));
    beta.setup.set("BACKUP_RETENTION_DAILY_MIN", "0");
    beta.setup.set("BACKUP_RETENTION_DAILY_MAX", "1");
    let gate = Gate::before(&Ceph::shared().endpoint());
    let first = beta.backup(&[]);
    alpha.setup.set("AWS_ENDPOINT_URL", gate.url());
    // Its archive, globals and mark are visible then, and its meta is on its way.
    let mut nth = 1;
    let holder = loop {
        gate.stop_at(nth, Side::Before);
        let holder = alpha.start(&["backup", "--output", "json"]);
        eventually("alpha is at work", || gate.reached().is_some());
        if gate.reached().is_some_and(|request| request.contains(".meta ")) {
            break holder;
        }
        gate.release();
        let made = ended(holder);
        assert_eq!(made.code, Some(0), "{made}");
        nth += 1;
    };
    let unpublished = |keys: &[String]| keys.iter().any(|key| key.contains(".pgkeep/unpublished-"));
    assert!(unpublished(&shared.keys()));
    let before = whole_backups(shared.store());
    assert!(beta.run(&["prune", "--wait", "0s"]).code == Some(7));
    beta.pgkeep(&["unlock", "--yes"]);
    beta.pgkeep(&["prune", "--wait", "0s"]);
    assert!(unpublished(&shared.keys()), "nothing of it is swept");
    gate.release();
    let made = ended(holder);
    let after = whole_backups(shared.store());
    assert_eq!(made.code, Some(0), "{made}");
    assert!(after.contains(&name_of_backup(&made)), "{before:?} {after:?}, first {first}");
    assert_eq!(crate::eyes::litter(&shared.keys()), [""; 0]);
    report(
        "a backup before its meta, and another host's `unlock` and `prune`",
        ["once", "nothing of the backup in progress is removed; it is completed and whole"],
    );
    let _ = Duration::ZERO;
}
