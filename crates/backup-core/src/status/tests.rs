use chrono::TimeDelta;

use super::*;
use crate::fixture::{at, keeper, memory, meta, policy, store};
use crate::{BackupClass, Keeper, Meta};

/// A keeper with daily backups of the last `days` days, looked at `hours` after the newest.
async fn daily(days: i64, hours: i64) -> Keeper {
    let keeper = keeper(vec![memory("local", true, 0)], at(hours));
    for day in 0..days {
        store(&keeper.destinations[0], &meta(BackupClass::Daily, at(-24 * day), b"archive"), b"archive").await;
    }
    keeper
}

async fn status(keeper: &Keeper) -> Status {
    keeper.status(&Objectives::default(), &policy(30, 7)).await.expect("listed")
}

fn kinds(status: &Status, severity: Severity) -> Vec<ProblemKind> {
    status.problems.iter().filter(|problem| problem.severity == severity).map(|problem| problem.kind).collect()
}

async fn prove(keeper: &Keeper, kind: ProofKind, outcome: ProofOutcome, hours: i64) {
    let catalog = Catalog::load(keeper).await.expect("listed");
    let proof = Proof {
        kind,
        outcome,
        at: at(hours),
        seconds: 215.0,
        hostname: "test".to_owned(),
        destination: "local".to_owned(),
        findings: Vec::new(),
        tool_version: "test".to_owned(),
    };
    keeper.store_proof(&catalog.entries[0], &proof).await.expect("stored");
}

#[tokio::test]
async fn without_a_backup_that_is_what_is_wrong() {
    let status = status(&daily(0, 0).await).await;
    assert_eq!(kinds(&status, Severity::Critical), [ProblemKind::NoBackup]);
    assert!(status.newest.is_none() && status.classes.iter().all(|class| !class.overdue));
}

#[tokio::test]
async fn a_proven_backup_of_today_is_all_that_is_asked_for() {
    let keeper = daily(3, 12).await;
    prove(&keeper, ProofKind::Restore, ProofOutcome::Good, 1).await;
    let status = status(&keeper).await;
    assert_eq!(status.problems, []);
    let newest = status.newest.expect("there is one");
    assert_eq!((newest.id.as_str(), newest.age_seconds), ("daily_20251017_030001", 12 * 3_600));
    assert_eq!(status.last_restore.map(|proof| proof.seconds), Some(215.0));
    assert_eq!(status.restore_seconds, Some(215.0));
    // A weekly or monthly backup that never was is not overdue.
    let weekly = &status.classes[1];
    assert_eq!((weekly.class, weekly.backups, weekly.overdue), (BackupClass::Weekly, 0, false));
    assert_eq!(weekly.next_run.expect("scheduled").to_rfc3339(), "2025-10-19T02:00:00+00:00");
}

#[tokio::test]
async fn overdue_is_the_gap_of_the_schedule_and_its_grace() {
    for (hours, overdue) in [(25, false), (26, false), (27, true)] {
        let keeper = daily(1, hours).await;
        prove(&keeper, ProofKind::Deep, ProofOutcome::Good, 0).await;
        let status = status(&keeper).await;
        let expected: &[_] = if overdue { &[ProblemKind::Overdue, ProblemKind::ClassOverdue] } else { &[] };
        assert_eq!(kinds(&status, Severity::Critical), expected, "{hours}");
        assert_eq!(kinds(&status, Severity::Warning), [ProblemKind::RestoreTestMissing], "{hours}");
    }
}

#[tokio::test]
async fn unproven_is_never_or_too_long_ago() {
    let keeper = daily(40, 2).await;
    assert_eq!(kinds(&status(&keeper).await, Severity::Critical), [ProblemKind::Unproven]);
    prove(&keeper, ProofKind::Stored, ProofOutcome::Good, 1).await;
    assert_eq!(kinds(&status(&keeper).await, Severity::Critical), [ProblemKind::Unproven], "bytes are not content");
    prove(&keeper, ProofKind::Deep, ProofOutcome::Good, -24 * 31).await;
    assert_eq!(kinds(&status(&keeper).await, Severity::Critical), [ProblemKind::Unproven], "31 days ago");
    prove(&keeper, ProofKind::Deep, ProofOutcome::Good, 1).await;
    assert_eq!(kinds(&status(&keeper).await, Severity::Critical), []);
    prove(&keeper, ProofKind::Restore, ProofOutcome::Bad, 2).await;
    let failed = kinds(&status(&keeper).await, Severity::Critical);
    assert_eq!(failed, [ProblemKind::RestoreFailed, ProblemKind::Damaged], "the newest was found bad");
}

#[tokio::test]
async fn what_a_place_lacks_and_what_shrank_is_told() {
    let keeper = keeper(vec![memory("local", false, 0), memory("bucket", true, 1)], at(2));
    for (day, bytes) in [(0_i64, 10_usize), (1, 100), (2, 100), (3, 100)] {
        let archive = vec![b'x'; bytes];
        let meta: Meta = meta(BackupClass::Daily, at(-24 * day), &archive);
        store(&keeper.destinations[0], &meta, &archive).await;
        if day > 0 {
            store(&keeper.destinations[1], &meta, &archive).await;
        }
    }
    prove(&keeper, ProofKind::Restore, ProofOutcome::Good, 1).await;
    let status = status(&keeper).await;
    assert_eq!(kinds(&status, Severity::Critical), []);
    assert_eq!(kinds(&status, Severity::Warning), [ProblemKind::SizeDrop, ProblemKind::CopyMissing]);
    assert_eq!(status.classes[0].size_change_percent, Some(-90.0));
    assert_eq!(status.places[1].missing, ["daily_20251017_030001"]);
    assert_eq!((status.places[0].backups, status.places[0].stored_bytes), (4, 310));
}

#[tokio::test]
async fn a_measured_restore_grows_with_the_backup() {
    let keeper = keeper(vec![memory("local", true, 0)], at(2));
    store(&keeper.destinations[0], &meta(BackupClass::Daily, at(-24), &[0; 100]), &[0; 100]).await;
    prove(&keeper, ProofKind::Restore, ProofOutcome::Good, -23).await;
    store(&keeper.destinations[0], &meta(BackupClass::Daily, at(0), &[0; 200]), &[0; 200]).await;
    assert_eq!(status(&keeper).await.restore_seconds, Some(430.0));
    let objectives = Objectives { rto: Duration::from_mins(5), ..Objectives::default() };
    let status = keeper.status(&objectives, &policy(30, 7)).await.expect("listed");
    assert_eq!(kinds(&status, Severity::Warning), [ProblemKind::TooSlow]);
    assert_eq!(status.at - TimeDelta::hours(2), at(0));
}
