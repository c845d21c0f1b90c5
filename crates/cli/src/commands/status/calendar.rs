//! The last months day by day: what was backed up, what was proven, what was missed.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use chrono::{Datelike, Days, NaiveDate};
use pgkeep_core::{BackupClass, BackupState, ProofKind, ProofOutcome, ProofState, Status};

use super::screen::span;
use crate::render::{escape, short_size};

/// Weeks that are shown, the present one last.
const WEEKS: u64 = 18;
const CELL: f64 = 14.0;
const PITCH: f64 = 17.5;
const LEFT: f64 = 32.0;
const TOP: f64 = 18.0;

/// One day.
#[derive(Debug, Default)]
struct Day<'s> {
    backups: Vec<&'s BackupState>,
    proofs: Vec<&'s ProofState>,
}

/// The calendar as SVG.
pub(super) fn calendar(status: &Status) -> String {
    let days = days(status);
    let today = status.at.date_naive();
    let monday = today - Days::new(today.weekday().num_days_from_monday().into());
    let first = monday.checked_sub_days(Days::new(7 * (WEEKS - 1))).unwrap_or(monday);
    let oldest_daily = status
        .history
        .iter()
        .filter(|backup| backup.class == BackupClass::Daily)
        .map(|backup| backup.snapshot_at.date_naive())
        .min();
    let daily = status.objectives.schedule.longest_gap().is_some_and(|gap| gap.as_secs() <= 86_400);

    let width = LEFT + WEEKS as f64 * PITCH + 4.0;
    let height = TOP + 7.0 * PITCH;
    let mut svg = format!(
        "<svg class=\"calendar\" viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"Backups and proofs day by day\">\n"
    );
    for (row, name) in [(0, "Mon"), (2, "Wed"), (4, "Fri"), (6, "Sun")] {
        let y = TOP + f64::from(row) * PITCH + 11.0;
        let _ = writeln!(svg, "<text x=\"{}\" y=\"{y}\" text-anchor=\"end\">{name}</text>", LEFT - 6.0);
    }
    let mut month = 0;
    for week in 0..WEEKS {
        let x = LEFT + week as f64 * PITCH;
        let begins = first + Days::new(7 * week);
        if begins.month() != month {
            month = begins.month();
            // A month that is nearly over would stand on the next one's name.
            if week > 0 || begins.day() <= 15 {
                let _ = writeln!(svg, "<text x=\"{x}\" y=\"{}\">{}</text>", TOP - 6.0, begins.format("%b"));
            }
        }
        for row in 0..7 {
            let date = begins + Days::new(row);
            if date > today {
                break;
            }
            let y = TOP + row as f64 * PITCH;
            let day = days.get(&date);
            let expected = daily && date < today && oldest_daily.is_some_and(|oldest| date > oldest);
            let (class, title) = describe(date, day, expected);
            let _ = write!(
                svg,
                "<g><title>{}</title><rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{CELL}\" height=\"{CELL}\" rx=\"3\"/>",
                escape(&title)
            );
            if let Some(mark) = day.and_then(proof_mark) {
                let (cx, cy) = (x + CELL / 2.0, y + CELL / 2.0);
                let _ = write!(svg, "<circle class=\"{mark}\" cx=\"{cx}\" cy=\"{cy}\" r=\"3.4\"/>");
            }
            svg.push_str("</g>\n");
        }
    }
    svg.push_str("</svg>\n");
    svg
}

fn days(status: &Status) -> BTreeMap<NaiveDate, Day<'_>> {
    let mut days: BTreeMap<NaiveDate, Day<'_>> = BTreeMap::new();
    for backup in &status.history {
        days.entry(backup.snapshot_at.date_naive()).or_default().backups.push(backup);
        for proof in &backup.proofs {
            days.entry(proof.at.date_naive()).or_default().proofs.push(proof);
        }
    }
    days
}

fn describe(date: NaiveDate, day: Option<&Day<'_>>, expected: bool) -> (&'static str, String) {
    let none = Day::default();
    let day = day.unwrap_or(&none);
    let mut lines = vec![date.format("%a %-d %B %Y").to_string()];
    for backup in &day.backups {
        let damaged = if backup.good { "" } else { ", DAMAGED" };
        lines.push(format!(
            "{} ({}, made in {}{damaged})",
            backup.id,
            short_size(backup.stored_bytes),
            span(backup.duration_seconds as f64)
        ));
    }
    for proof in &day.proofs {
        let outcome = if proof.outcome == ProofOutcome::Good { "good" } else { "BAD" };
        lines.push(format!("{} of {}: {outcome} ({})", proof.kind.word(), proof.backup, span(proof.seconds)));
    }
    let scheduled = |backup: &&&BackupState| backup.class != BackupClass::PreRestore;
    let class = match (day.backups.iter().filter(scheduled).count(), day.backups.iter().any(|backup| !backup.good)) {
        (_, true) => "day bad",
        (0, _) if expected => {
            lines.push("no backup".to_owned());
            "day missed"
        }
        (0, _) if day.backups.is_empty() => "day none",
        (0 | 1, _) => "day good",
        _ => "day several",
    };
    (class, lines.join("\n"))
}

fn proof_mark(day: &Day<'_>) -> Option<&'static str> {
    if day.proofs.iter().any(|proof| proof.outcome == ProofOutcome::Bad) {
        return Some("proof-bad");
    }
    match day.proofs.iter().map(|proof| proof.kind).max()? {
        ProofKind::Restore => Some("proof-restore"),
        ProofKind::Deep => Some("proof-deep"),
        _ => None,
    }
}
