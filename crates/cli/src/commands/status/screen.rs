//! The screen.

use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use pgkeep_core::{BackupState, ClassState, ProofKind, Severity, Status};

use super::Server;
use crate::render::{age, ago, count, short_size, tables};

/// How a word is coloured.
#[derive(Debug, Clone, Copy)]
enum Tone {
    Good,
    Doubt,
    Bad,
    Head,
}

/// Text with or without colours.
#[derive(Debug, Clone, Copy)]
struct Pen {
    colors: bool,
}

impl Pen {
    fn paint(self, tone: Tone, text: &str) -> String {
        let color = match tone {
            Tone::Good => "1;32",
            Tone::Doubt => "1;33",
            Tone::Bad => "1;31",
            Tone::Head => "1",
        };
        if self.colors { format!("\x1b[{color}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// The three answers: a word, what stands behind it, how good it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answers {
    /// Would I get my data back?
    pub(super) back: Answer,
    /// How old would it be?
    pub(super) old: Answer,
    /// How long would it take?
    pub(super) long: Answer,
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    /// In a word or two.
    pub(super) word: String,
    /// Why.
    pub(super) why: String,
    /// How good that is.
    pub(super) severity: Option<Severity>,
}

impl Answers {
    pub(super) fn of(status: &Status) -> Self {
        Self { back: back(status), old: old(status), long: long(status) }
    }
}

fn answer(word: &str, why: String, severity: Option<Severity>) -> Answer {
    Answer { word: word.to_owned(), why, severity }
}

fn back(status: &Status) -> Answer {
    use pgkeep_core::ProblemKind as K;
    if status.newest.is_none() {
        return answer("NO", "there is no good backup".to_owned(), Some(Severity::Critical));
    }
    let failed = |kind| status.problems.iter().any(|problem| problem.kind == kind);
    if failed(K::RestoreFailed) {
        return answer("DOUBTFUL", "the last restore that was tried out failed".to_owned(), Some(Severity::Critical));
    }
    // A restore says more than a verification that is newer.
    let limit = status.objectives.proof_age.as_secs();
    let restore = status.last_restore.as_ref().filter(|proof| proof.age_seconds <= limit);
    match restore.or(status.last_proof.as_ref()) {
        None => answer("UNPROVEN", "no backup was ever verified or restored".to_owned(), Some(Severity::Critical)),
        Some(proof) => {
            let how =
                if proof.kind == ProofKind::Restore { "restored and compared" } else { "verified to the last row" };
            let why = format!("{how}: {}, {}", proof.backup, ago(proof.at, status.at));
            if failed(K::Unproven) {
                answer("UNPROVEN", format!("too long ago {why}"), Some(Severity::Critical))
            } else if proof.kind == ProofKind::Restore || status.last_restore.is_some() {
                answer("YES", why, None)
            } else {
                answer("PROBABLY", format!("{why}; never restored"), Some(Severity::Warning))
            }
        }
    }
}

fn old(status: &Status) -> Answer {
    let Some(newest) = &status.newest else {
        return answer("-", String::new(), Some(Severity::Critical));
    };
    let objective = status.objectives.rpo;
    let late = status.problems.iter().any(|problem| problem.kind == pgkeep_core::ProblemKind::Overdue);
    let severity = if late { Some(Severity::Critical) } else { None };
    let why = format!("{} of {}; allowed: {}", newest.id, time(newest.snapshot_at), span(objective.as_secs_f64()));
    answer(&age(newest.snapshot_at, status.at), why, severity)
}

fn long(status: &Status) -> Answer {
    let allowed = span(status.objectives.rto.as_secs_f64());
    let (Some(seconds), Some(measured)) = (status.restore_seconds, &status.last_restore) else {
        return answer("UNKNOWN", format!("never measured; allowed: {allowed}"), Some(Severity::Warning));
    };
    let severity = (seconds > status.objectives.rto.as_secs_f64()).then_some(Severity::Warning);
    let why = format!("measured {} with {}; allowed: {allowed}", ago(measured.at, status.at), measured.backup);
    answer(&span(seconds), why, severity)
}

/// The whole screen.
pub(super) fn screen(status: &Status, server: &Server, colors: bool) -> String {
    let pen = Pen { colors };
    let mut text = String::new();
    let _ = writeln!(text, "{}  {}\n", pen.paint(Tone::Head, &title(status, server)), time(status.at));

    let answers = Answers::of(status);
    let questions = [
        ("Would I get my data back?", &answers.back),
        ("How old would it be?", &answers.old),
        ("How long would it take?", &answers.long),
    ];
    let width = questions.iter().map(|(_, answer)| answer.word.len()).max().unwrap_or(0);
    for (question, Answer { word, why, severity }) in questions {
        let tone = match severity {
            None => Tone::Good,
            Some(Severity::Critical) => Tone::Bad,
            Some(_) => Tone::Doubt,
        };
        let line = format!("{question:27} {}  {why}", pen.paint(tone, &format!("{word:width$}")));
        let _ = writeln!(text, "{}", line.trim_end());
    }

    let _ = writeln!(text, "\n{}", pen.paint(Tone::Head, "Backups"));
    let rows = status.classes.iter().map(|class| row(class, status.at));
    text.push_str(&tables::table(
        ["CLASS", "KEPT", "NEWEST", "AGE", "SIZE", "CHANGE", "DUE BY", "NEXT RUN (UTC)"],
        &[1, 3, 4, 5],
        rows,
    ));

    let _ = writeln!(text, "\n{}", pen.paint(Tone::Head, "Places"));
    let places = status.places.iter().map(|place| {
        let state = match (&place.unreachable, place.missing.len()) {
            (Some(_), _) => "COULD NOT BE LISTED".to_owned(),
            (None, 0) if place.damaged > 0 => format!("{} damaged", place.damaged),
            (None, 0) => "complete".to_owned(),
            (None, missing) => format!("{missing} missing"),
        };
        [
            place.name.clone(),
            count(place.backups, "backup"),
            short_size(place.stored_bytes),
            state,
            place.location.clone(),
        ]
    });
    text.push_str(&tables::table(["PLACE", "KEPT", "SIZE", "STATE", "WHERE"], &[2], places));

    if !server.kept.is_empty() {
        let _ = writeln!(text, "\n{}", pen.paint(Tone::Head, "Old databases kept from restores"));
        let rows = server.kept.iter().map(|kept| {
            [kept.name.clone(), age(kept.replaced_at, status.at), kept.bytes.map_or_else(|| "?".to_owned(), short_size)]
        });
        text.push_str(&tables::table(["DATABASE", "AGE", "SIZE"], &[1, 2], rows));
    }

    if status.problems.is_empty() {
        let _ = writeln!(text, "\n{}", pen.paint(Tone::Good, "Nothing is wrong."));
        return text;
    }
    let _ = writeln!(text, "\n{}", pen.paint(Tone::Head, "What is wrong, and what to do"));
    for problem in &status.problems {
        let (word, tone) = match problem.severity {
            Severity::Critical => ("critical", Tone::Bad),
            Severity::Warning => ("warning ", Tone::Doubt),
            Severity::Note => ("note    ", Tone::Head),
        };
        let _ = writeln!(text, "{}  {}", pen.paint(tone, word), problem.message);
        let _ = writeln!(text, "          → {}", problem.advice);
    }
    text
}

/// Whose backups they are.
pub(super) fn title(status: &Status, server: &Server) -> String {
    match (&status.source, &server.database) {
        (Some(source), _) => {
            // A socket's port may not be known.
            format!("{} ({})", source.name, source.identity.server.trim_end_matches(':'))
        }
        (None, Some(database)) => database.clone(),
        (None, None) => "pgkeep".to_owned(),
    }
}

fn row(class: &ClassState, now: DateTime<Utc>) -> [String; 8] {
    let newest = class.newest.as_ref();
    let of = |value: &dyn Fn(&BackupState) -> String| newest.map_or_else(|| "-".to_owned(), value);
    let due = match class.due_by {
        Some(_) if class.overdue => "OVERDUE".to_owned(),
        Some(due) => due.format("%m-%d %H:%M").to_string(),
        None => "-".to_owned(),
    };
    [
        class.class.to_string(),
        class.backups.to_string(),
        newest.map_or_else(|| "none yet".to_owned(), |backup| backup.id.clone()),
        of(&|backup| age(backup.snapshot_at, now)),
        of(&|backup| short_size(backup.stored_bytes)),
        class.size_change_percent.map_or_else(|| "-".to_owned(), |change| format!("{change:+.0} %")),
        due,
        class.next_run.map_or_else(|| "-".to_owned(), |next| next.format("%a %m-%d %H:%M").to_string()),
    ]
}

/// A moment.
pub(super) fn time(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M UTC").to_string()
}

/// A duration in the unit people think of it in.
pub(super) fn span(seconds: f64) -> String {
    match seconds {
        ..10.0 if seconds.fract() >= 0.05 => format!("{seconds:.1} s"),
        ..120.0 => format!("{seconds:.0} s"),
        ..7_200.0 => format!("{:.0} min", seconds / 60.0),
        ..172_800.0 => format!("{:.0} h", seconds / 3_600.0),
        _ => format!("{:.0} d", seconds / 86_400.0),
    }
}
