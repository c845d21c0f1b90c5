//! What is overdue, unproven, damaged or missing, and what to do about it.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::{BackupState, ClassState, Objectives, PlaceState, Problem, ProblemKind, Severity, Status};
use crate::schedule::SCHEDULED;
use crate::{BackupClass, Catalog, ProofKind, ProofOutcome};

/// Backups of a class whose sizes are compared with the newest one's.
const COMPARED: usize = 7;
/// Fewer of them say nothing.
const FEWEST: usize = 3;
/// Percent that the newest backup may be smaller.
const DROP: f64 = -50.0;
/// How far clocks may differ before it is worth a word.
const CLOCKS_DIFFER: TimeDelta = TimeDelta::minutes(5);

/// How each class stands.
pub(super) fn classes(history: &[BackupState], objectives: &Objectives, now: DateTime<Utc>) -> Vec<ClassState> {
    let state = |class: BackupClass| {
        let all: Vec<&BackupState> = history.iter().filter(|backup| backup.class == class).collect();
        let newest = all.iter().find(|backup| backup.good).copied();
        let job = objectives.schedule.job(class);
        let due_by = job.zip(all.first()).and_then(|(job, _)| {
            let since = newest.map_or(DateTime::UNIX_EPOCH, |backup| backup.snapshot_at);
            since.checked_add_signed(delta(job.longest_gap() + objectives.grace))
        });
        ClassState {
            class,
            newest: newest.cloned(),
            backups: all.len() as u64,
            size_change_percent: newest.and_then(|newest| size_change(newest, &all)),
            schedule: job.map(ToString::to_string),
            next_run: job.and_then(|job| job.next_after(now)),
            due_by,
            overdue: due_by.is_some_and(|due| due < now),
        }
    };
    let scheduled = SCHEDULED.into_iter().map(state);
    scheduled.chain([state(BackupClass::PreRestore)].into_iter().filter(|class| class.backups > 0)).collect()
}

fn size_change(newest: &BackupState, class: &[&BackupState]) -> Option<f64> {
    let before = class.iter().filter(|backup| backup.good && backup.snapshot_at < newest.snapshot_at);
    let mut sizes: Vec<u64> = before.take(COMPARED).map(|backup| backup.plain_bytes).collect();
    sizes.sort_unstable();
    let median = *sizes.get(sizes.len() / 2)?;
    (sizes.len() >= FEWEST && median > 0).then(|| (newest.plain_bytes as f64 - median as f64) / median as f64 * 100.0)
}

fn delta(duration: Duration) -> TimeDelta {
    TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX)
}

/// What is wrong, worst first.
pub(super) fn problems(status: &Status, catalog: &Catalog) -> Vec<Problem> {
    let mut problems = Vec::new();
    unlisted(&status.places, &mut problems);
    overdue(status, &mut problems);
    proofs(status, &mut problems);
    damage(status, catalog, &mut problems);
    sizes(status, &mut problems);
    missing(&status.places, &mut problems);
    problems.sort_by_key(|problem| problem.severity);
    problems
}

fn unlisted(places: &[PlaceState], problems: &mut Vec<Problem>) {
    for place in places {
        let Some(reason) = &place.unreachable else { continue };
        problems.push(Problem::new(
            if place.required { Severity::Critical } else { Severity::Warning },
            ProblemKind::PlaceUnreachable,
            format!("{} ({}) could not be listed: {reason}", place.name, place.location),
            "what follows is told from the other places alone; check network, credentials and permissions",
        ));
    }
}

fn overdue(status: &Status, problems: &mut Vec<Problem>) {
    let Objectives { rpo, grace, schedule, .. } = &status.objectives;
    let make_one =
        "pgkeep backup; then see why the scheduled one was not made: the log, crontab -l, systemctl list-timers";
    let Some(newest) = &status.newest else {
        let (message, advice) = if status.history.is_empty() {
            ("there is no backup yet", "pgkeep backup")
        } else {
            ("there is no good backup: every copy is damaged or incomplete", make_one)
        };
        problems.push(Problem::new(Severity::Critical, ProblemKind::NoBackup, message, advice));
        return;
    };
    if newest.age_seconds > (*rpo + *grace).as_secs() {
        let message = format!(
            "the newest good backup, {}, is {} old: more than {} and {} of grace",
            newest.id,
            span(newest.age_seconds),
            span(rpo.as_secs()),
            span(grace.as_secs())
        );
        problems.push(Problem::new(Severity::Critical, ProblemKind::Overdue, message, make_one));
    }
    for class in status.classes.iter().filter(|class| class.overdue) {
        let (Some(due), Some(job)) = (class.due_by, &class.schedule) else { continue };
        let message = match &class.newest {
            Some(newest) => format!(
                "the {} backup is overdue: the newest, {}, is {} old, the next was due by {} (schedule {job})",
                class.class,
                newest.id,
                span(newest.age_seconds),
                due.format("%Y-%m-%d %H:%M UTC")
            ),
            None => format!("no {} backup is good", class.class),
        };
        let advice = format!("pgkeep backup --{}; then see why the scheduled one was not made", class.class);
        problems.push(Problem::new(Severity::Critical, ProblemKind::ClassOverdue, message, advice));
    }
    if let Some(gap) = schedule.longest_gap()
        && gap > *rpo + *grace
    {
        let message = format!(
            "the schedule leaves {} between two backups, the objective allows {}",
            span(gap.as_secs()),
            span(rpo.as_secs())
        );
        let advice = "schedule backups more often, or set BACKUP_RPO to what may really be lost";
        problems.push(Problem::new(Severity::Warning, ProblemKind::ScheduleTooSparse, message, advice));
    }
    if newest.snapshot_at > status.at + CLOCKS_DIFFER {
        let message = format!("{} is of {}, which is yet to come", newest.id, newest.snapshot_at.format("%F %T UTC"));
        let advice = "compare the clocks of this machine and of the database server";
        problems.push(Problem::new(Severity::Warning, ProblemKind::Clock, message, advice));
    }
}

fn proofs(status: &Status, problems: &mut Vec<Problem>) {
    if status.newest.is_none() {
        return;
    }
    let limit = status.objectives.proof_age.as_secs();
    let message = match &status.last_proof {
        None => Some("no backup was ever proven: nobody knows whether they can be restored".to_owned()),
        Some(proof) if proof.age_seconds > limit => Some(format!(
            "the last proof is {} old: a {} of {}",
            span(proof.age_seconds),
            verification(proof.kind),
            proof.backup
        )),
        Some(_) => None,
    };
    if let Some(message) = message {
        let advice = "pgkeep drill --restore-only tries a restore out beside the live database; pgkeep verify --latest needs no server";
        problems.push(Problem::new(Severity::Critical, ProblemKind::Unproven, message, advice));
    }
    let restores = status.history.iter().flat_map(|backup| &backup.proofs);
    let last = restores.filter(|proof| proof.kind == ProofKind::Restore).max_by_key(|proof| proof.at);
    match last {
        Some(failed) if failed.outcome == ProofOutcome::Bad => {
            let why = failed.findings.first().map_or_else(String::new, |finding| format!(": {finding}"));
            let message =
                format!("the last restore, of {}, {} ago, failed{why}", failed.backup, span(failed.age_seconds));
            let advice = format!(
                "pgkeep verify {} tells what is damaged; pgkeep drill --restore-only tries the newest",
                failed.backup
            );
            problems.push(Problem::new(Severity::Critical, ProblemKind::RestoreFailed, message, advice));
        }
        Some(restore) if restore.age_seconds <= limit => {}
        last => {
            let message = match last {
                Some(restore) => format!("the last restore was tried out {} ago", span(restore.age_seconds)),
                None => "no restore was ever tried out, so nobody knows how long it takes".to_owned(),
            };
            let advice = "pgkeep drill --monthly";
            problems.push(Problem::new(Severity::Warning, ProblemKind::RestoreTestMissing, message, advice));
        }
    }
    let rto = status.objectives.rto.as_secs_f64();
    if let Some(seconds) = status.restore_seconds.filter(|seconds| *seconds > rto) {
        let message = format!(
            "a restore takes {}, the objective allows {}",
            span(seconds as u64),
            span(status.objectives.rto.as_secs())
        );
        let advice = "restore with more --jobs, to faster disks or from a nearer copy; or set BACKUP_RTO to what is really needed";
        problems.push(Problem::new(Severity::Warning, ProblemKind::TooSlow, message, advice));
    }
}

fn verification(kind: ProofKind) -> &'static str {
    if kind == ProofKind::Restore { "restore" } else { "deep verification" }
}

fn damage(status: &Status, catalog: &Catalog, problems: &mut Vec<Problem>) {
    let newest = status.newest.as_ref().map(|newest| newest.snapshot_at);
    for entry in catalog.own() {
        let bad: Vec<&str> = entry
            .copies
            .iter()
            .filter(|copy| !entry.good_at(copy.destination))
            .map(|copy| copy.name.as_str())
            .collect();
        if bad.is_empty() {
            continue;
        }
        let id = &entry.meta.id;
        // Older ones are not what a restore would take.
        let severity = match (entry.good(), newest) {
            (false, Some(newest)) if entry.meta.snapshot_time > newest => Severity::Critical,
            _ => Severity::Warning,
        };
        let rest = if entry.good() { "another copy is good" } else { "no copy is good" };
        problems.push(Problem::new(
            severity,
            ProblemKind::Damaged,
            format!("{id} at {} is damaged or incomplete; {rest}", bad.join(", ")),
            format!("pgkeep show {id} tells what was found; pgkeep verify {id} looks again"),
        ));
    }
    for unreadable in &catalog.unreadable {
        problems.push(Problem::new(
            Severity::Warning,
            ProblemKind::Unreadable,
            format!("{} at {} can't be read: {}", unreadable.key, unreadable.destination, unreadable.reason),
            "what it describes does not count as a backup; see whether a copy elsewhere is whole",
        ));
    }
}

fn sizes(status: &Status, problems: &mut Vec<Problem>) {
    for class in &status.classes {
        let (Some(change), Some(newest)) = (class.size_change_percent, &class.newest) else { continue };
        if class.class != BackupClass::PreRestore && change < DROP {
            problems.push(Problem::new(
                Severity::Warning,
                ProblemKind::SizeDrop,
                format!("{} is {:.0} % smaller than the backups before it", newest.id, -change),
                format!("see whether data was lost: pgkeep show {}", newest.id),
            ));
        }
    }
}

fn missing(places: &[PlaceState], problems: &mut Vec<Problem>) {
    for place in places.iter().filter(|place| !place.missing.is_empty()) {
        let count = place.missing.len();
        problems.push(Problem::new(
            Severity::Warning,
            ProblemKind::CopyMissing,
            format!(
                "{} lacks {count} backup{} it should have: {}{}",
                place.name,
                if count == 1 { "" } else { "s" },
                place.missing.iter().take(3).cloned().collect::<Vec<_>>().join(", "),
                if count > 3 { ", …" } else { "" }
            ),
            "the next backup copies what is missing: pgkeep backup",
        ));
    }
}

/// `18 h`, `3 d`, `40 min`, `12 s`.
fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}
