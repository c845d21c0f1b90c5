//! One self-contained page: nothing is fetched from anywhere, and whatever comes from a backup is escaped.

use std::fmt::Write as _;

use chrono::{DateTime, TimeDelta, Utc};
use pgkeep_core::{BackupClass, BackupState, ProofKind, ProofOutcome, Severity, Status};

use super::Server;
use super::calendar::calendar;
use super::chart::{Point, Unit, chart};
use super::screen::{Answer, Answers, span, time, title};
use crate::render::{age, ago, count, escape, short_size};

const STYLE: &str = include_str!("page.css");
/// Backups in the list.
const LISTED: usize = 60;
/// Days of backups in charts: what is kept longer would crowd the rest out.
const CHARTED: i64 = 92;

/// The page.
pub(super) fn page(status: &Status, server: &Server) -> String {
    let name = escape(&title(status, server));
    let mut html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\"/>\n\
         <title>{name}: backups</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
         <header><h1>{name}</h1><p>as of {}</p></header>\n",
        time(status.at)
    );
    answers(&mut html, status);
    problems(&mut html, status);
    charts(&mut html, status);
    days(&mut html, status);
    classes(&mut html, status);
    places(&mut html, status);
    kept(&mut html, status, server);
    backups(&mut html, status);
    let _ = writeln!(
        html,
        "<footer>Made by {}. No part of this page comes from elsewhere.</footer>",
        escape(crate::wire::TOOL_VERSION)
    );
    html.push_str("</body>\n</html>\n");
    html
}

fn answers(html: &mut String, status: &Status) {
    let answers = Answers::of(status);
    html.push_str("<div class=\"answers\">\n");
    for (question, Answer { word, why, severity }) in [
        ("Would I get my data back?", &answers.back),
        ("How old would it be?", &answers.old),
        ("How long would it take?", &answers.long),
    ] {
        let tone = match severity {
            None => "",
            Some(Severity::Critical) => " bad",
            Some(_) => " doubt",
        };
        let _ = writeln!(
            html,
            "<section class=\"answer{tone}\"><h2>{question}</h2><p class=\"word\">{}</p><p class=\"why\">{}</p></section>",
            escape(word),
            escape(why)
        );
    }
    html.push_str("</div>\n");
}

fn problems(html: &mut String, status: &Status) {
    if status.problems.is_empty() {
        html.push_str("<section class=\"fine\">Nothing is wrong.</section>\n");
        return;
    }
    html.push_str("<section><h2>What is wrong, and what to do</h2>\n<ul class=\"problems\">\n");
    for problem in &status.problems {
        let class = match problem.severity {
            Severity::Critical => "critical",
            Severity::Warning => "warning",
            Severity::Note => "note",
        };
        let _ = writeln!(
            html,
            "<li class=\"{class}\"><span class=\"tag\">{class}</span>{}<span class=\"advice\">→ {}</span></li>",
            escape(&problem.message),
            escape(&problem.advice)
        );
    }
    html.push_str("</ul></section>\n");
}

fn charts(html: &mut String, status: &Status) {
    let since = status.at - TimeDelta::days(CHARTED);
    let charted = |backup: &&BackupState| backup.class != BackupClass::PreRestore && backup.snapshot_at > since;
    let made = || status.history.iter().filter(charted);
    let point = |backup: &BackupState, value| Point {
        at: backup.snapshot_at,
        value,
        label: backup.id.clone(),
        mark: match backup.class {
            BackupClass::Weekly => "weekly",
            BackupClass::Monthly => "monthly",
            _ => "daily",
        },
    };
    let sizes: Vec<_> = made().map(|backup| point(backup, backup.stored_bytes as f64)).collect();
    let durations: Vec<_> = made().map(|backup| point(backup, backup.duration_seconds as f64)).collect();
    let proofs = status.history.iter().flat_map(|backup| &backup.proofs);
    let restores: Vec<_> = proofs
        .filter(|proof| proof.kind == ProofKind::Restore && proof.outcome == ProofOutcome::Good)
        .map(|proof| Point { at: proof.at, value: proof.seconds, label: proof.backup.clone(), mark: "restore" })
        .collect();
    let rto = status.objectives.rto.as_secs_f64();
    html.push_str("<div class=\"charts\">\n");
    for (title, unit, points, limit) in [
        ("Stored size", Unit::Bytes, sizes, None),
        ("Time to back up", Unit::Seconds, durations, None),
        ("Time to restore, as measured", Unit::Seconds, restores, Some(rto)),
    ] {
        let _ = write!(html, "<section><h2>{title}</h2>\n{}", chart(title, unit, &points, limit));
        let words =
            [("daily", "daily"), ("weekly", "weekly"), ("monthly", "monthly"), ("restore", "restores tried out")];
        html.push_str("<ul class=\"legend\">");
        for (mark, word) in words.into_iter().filter(|(mark, _)| points.iter().any(|point| point.mark == *mark)) {
            let _ = write!(
                html,
                "<li><svg viewBox=\"0 0 14 14\" aria-hidden=\"true\"><circle class=\"{mark}\" cx=\"7\" cy=\"7\" r=\"4\"/></svg>{word}</li>"
            );
        }
        html.push_str("</ul></section>\n");
    }
    html.push_str("</div>\n");
}

fn days(html: &mut String, status: &Status) {
    let _ = writeln!(html, "<section><h2>Backups and proofs day by day</h2>\n{}", calendar(status));
    html.push_str("<ul class=\"legend\">\n");
    let cell = |class: &str| format!("<rect class=\"{class}\" x=\"1\" y=\"1\" width=\"12\" height=\"12\" rx=\"3\"/>");
    let mark = |class: &str| format!("{}<circle class=\"{class}\" cx=\"7\" cy=\"7\" r=\"3.4\"/>", cell("none"));
    for (picture, word) in [
        (cell("good"), "one backup"),
        (cell("several"), "several"),
        (cell("missed"), "none, though one was due"),
        (cell("bad"), "damaged"),
        (mark("proof-restore"), "restored and compared"),
        (mark("proof-deep"), "verified to the last row"),
        (mark("proof-bad"), "proof failed"),
    ] {
        let _ = writeln!(html, "<li><svg viewBox=\"0 0 14 14\" aria-hidden=\"true\">{picture}</svg>{word}</li>");
    }
    html.push_str("</ul></section>\n");
}

fn classes(html: &mut String, status: &Status) {
    html.push_str("<section><h2>Classes</h2>\n<div class=\"scroll\"><table>\n<thead><tr><th>Class</th><th class=\"number\">Kept</th><th>Newest</th><th class=\"number\">Age</th><th class=\"number\">Size</th><th class=\"number\">Change</th><th>Due by</th><th>Next run</th></tr></thead>\n<tbody>\n");
    for class in &status.classes {
        let newest = class.newest.as_ref();
        let due = match class.due_by {
            Some(due) if class.overdue => format!("<span class=\"bad-text\">overdue since {}</span>", time(due)),
            Some(due) => time(due),
            None => "–".to_owned(),
        };
        let _ = writeln!(
            html,
            "<tr><td>{}</td><td class=\"number\">{}</td><td>{}</td><td class=\"number\">{}</td><td class=\"number\">{}</td><td class=\"number\">{}</td><td>{due}</td><td>{}</td></tr>",
            class.class,
            class.backups,
            newest.map_or_else(|| "none yet".to_owned(), |backup| escape(&backup.id)),
            newest.map_or_else(|| "–".to_owned(), |backup| age(backup.snapshot_at, status.at)),
            newest.map_or_else(|| "–".to_owned(), |backup| short_size(backup.stored_bytes)),
            class.size_change_percent.map_or_else(|| "–".to_owned(), |change| format!("{change:+.0} %")),
            class.next_run.map_or_else(|| "–".to_owned(), time),
        );
    }
    html.push_str("</tbody></table></div></section>\n");
}

fn places(html: &mut String, status: &Status) {
    html.push_str("<section><h2>Places</h2>\n<div class=\"scroll\"><table>\n<thead><tr><th>Place</th><th class=\"number\">Kept</th><th class=\"number\">Size</th><th>State</th><th>Where</th></tr></thead>\n<tbody>\n");
    for place in &status.places {
        let state = match (&place.unreachable, place.missing.as_slice()) {
            (Some(reason), _) => format!("<span class=\"bad-text\">could not be listed: {}</span>", escape(reason)),
            (None, []) if place.damaged > 0 => format!("<span class=\"bad-text\">{} damaged</span>", place.damaged),
            (None, []) => "<span class=\"good-text\">complete</span>".to_owned(),
            (None, missing) => {
                format!("<span class=\"doubt-text\">{} missing</span>", count(missing.len() as u64, "backup"))
            }
        };
        let _ = writeln!(
            html,
            "<tr><td>{}</td><td class=\"number\">{}</td><td class=\"number\">{}</td><td class=\"wide\">{state}</td><td class=\"wide\"><code>{}</code></td></tr>",
            escape(&place.name),
            place.backups,
            short_size(place.stored_bytes),
            escape(&place.location)
        );
    }
    html.push_str("</tbody></table></div></section>\n");
}

fn kept(html: &mut String, status: &Status, server: &Server) {
    if server.kept.is_empty() {
        return;
    }
    html.push_str("<section><h2>Old databases kept from restores</h2>\n<div class=\"scroll\"><table>\n<thead><tr><th>Database</th><th>Replaced</th><th class=\"number\">Size</th></tr></thead>\n<tbody>\n");
    for kept in &server.kept {
        let _ = writeln!(
            html,
            "<tr><td>{}</td><td>{}</td><td class=\"number\">{}</td></tr>",
            escape(&kept.name),
            ago(kept.replaced_at, status.at),
            kept.bytes.map_or_else(|| "–".to_owned(), short_size)
        );
    }
    html.push_str("</tbody></table></div></section>\n");
}

fn backups(html: &mut String, status: &Status) {
    if status.history.is_empty() {
        return;
    }
    let shown = status.history.len().min(LISTED);
    let _ = writeln!(
        html,
        "<section><details><summary>{}{}</summary>\n<div class=\"scroll\"><table>\n<thead><tr><th>Name</th><th>Snapshot</th><th class=\"number\">Size</th><th class=\"number\">Made in</th><th>Places</th><th>Last proof</th></tr></thead>\n<tbody>",
        count(status.history.len() as u64, "backup"),
        if shown < status.history.len() { format!(", the newest {shown}") } else { String::new() }
    );
    for backup in status.history.iter().take(LISTED) {
        let _ = writeln!(
            html,
            "<tr><td>{}</td><td>{}</td><td class=\"number\">{}</td><td class=\"number\">{}</td><td>{}</td><td>{}</td></tr>",
            escape(&backup.id),
            time(backup.snapshot_at),
            short_size(backup.stored_bytes),
            span(backup.duration_seconds as f64),
            escape(&backup.places.join(", ")),
            proof(backup, status.at)
        );
    }
    html.push_str("</tbody></table></div></details></section>\n");
}

fn proof(backup: &BackupState, now: DateTime<Utc>) -> String {
    match backup.proofs.first() {
        None if backup.good => "–".to_owned(),
        None => "<span class=\"bad-text\">incomplete</span>".to_owned(),
        Some(proof) if proof.outcome == ProofOutcome::Good => {
            format!("<span class=\"good-text\">{}</span>, {}", proof.kind.word(), ago(proof.at, now))
        }
        Some(proof) => {
            let finding = proof.findings.first().map_or("", String::as_str);
            format!("<span class=\"bad-text\">{} FAILED</span> {}", proof.kind.word(), escape(finding))
        }
    }
}
