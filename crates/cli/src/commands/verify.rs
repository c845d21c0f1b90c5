//! `pgkeep verify`: each copy of each backup, each with a proof.

use std::time::Instant;

use pgkeep_core::{BackupSource, Catalog, CatalogEntry, Verified, VerifyDepth, VerifyReport};
use pgkeep_metrics::{Event, Observer, Stage};
use serde_json::{Value, json};

use super::pick::{Backup, Chosen};
use super::{Context, Done};
use crate::args::VerifyArgs;
use crate::failure::{Failure, Result};
use crate::hint::Code;
use crate::render::{count, elapsed, size, tables};
use crate::wire::Access;

pub(super) async fn run(context: &Context, args: &VerifyArgs) -> Result<Done> {
    let depth = args.depth.depth();
    let mut rows = Vec::new();
    let mut reports = Vec::new();
    let (mut copies, mut damaged, mut failures) = (0_u64, Vec::new(), Vec::new());
    for chosen in chosen(context, args).await? {
        let name = match &chosen.backup {
            Backup::Catalogued(entry) => entry.meta.id.to_string(),
            Backup::Foreign(source) => source.key.to_string(),
        };
        let opened = if depth == VerifyDepth::Deep { chosen.with_keys(context).await } else { Ok(chosen) };
        let Chosen { keeper, backup } = match opened {
            Ok(chosen) => chosen,
            Err(failure) if failure.code == Code::Interrupted => return Err(failure),
            Err(failure) => {
                reports.push(json!({"id": name, "error": failure.message}));
                rows.push([name.clone(), String::new(), word(depth).to_owned(), "unknown".to_owned(), String::new()]);
                failures.push(failure.context(format!("{name} could not be verified")));
                continue;
            }
        };
        let entry = match backup {
            Backup::Catalogued(entry) => entry,
            Backup::Foreign(source) => {
                let (row, report) = match verify_foreign(context, &source).await {
                    Ok(report) => ("good", report),
                    Err(failure) if failure.code == Code::Interrupted => return Err(failure),
                    Err(failure) => {
                        let report =
                            json!({"id": source.key.as_str(), "destination": source.place, "error": failure.message});
                        let damage = failure.code.exit() == Code::Damaged.exit();
                        failures.push(failure.context(format!("{} could not be verified", source.key)));
                        (if damage { "DAMAGED" } else { "unknown" }, report)
                    }
                };
                let (key, place) = (source.key.to_string(), source.place.clone());
                rows.push([key, place, "deep".to_owned(), row.to_owned(), String::new()]);
                reports.push(report);
                continue;
            }
        };
        let begun = Instant::now();
        let Verified { reports: looked_at, unknown } = keeper.verify_copies(&entry, depth).await?;
        if !args.all && !looked_at.is_empty() && looked_at.iter().all(|report| report.archived) {
            context.reporter.warn(format!(
                "{} lies in an archive tier: only presence and size were verified; fetch it from there to verify it {}",
                entry.meta.id,
                word(depth)
            ));
        }
        for report in looked_at {
            told(context, &report, begun);
            let result = if report.findings.is_empty() { "good" } else { "DAMAGED" };
            let what = match report.depth {
                _ if report.archived => "presence and size (it lies in an archive tier)".to_owned(),
                VerifyDepth::Quick => "presence and size".to_owned(),
                VerifyDepth::Stored => size(report.stored_bytes),
                VerifyDepth::Deep => format!("{}, {}", count(report.tables, "table"), count(report.rows, "row")),
            };
            let depth = word(report.depth).to_owned();
            rows.push([report.id.clone(), report.destination.clone(), depth, result.to_owned(), what]);
            copies += 1;
            if !report.findings.is_empty() {
                damaged.push(format!("{} at {}", report.id, report.destination));
            }
            reports.push(json!(report));
        }
        for (destination, error) in unknown {
            let (id, failure) = (entry.meta.id.to_string(), Failure::from(error));
            reports.push(json!({"id": id, "destination": destination, "error": failure.message}));
            failures.push(failure.context(format!("{id} at {destination} could not be verified")));
            rows.push([id, destination, word(depth).to_owned(), "unknown".to_owned(), String::new()]);
        }
    }
    let failure = if damaged.is_empty() {
        first(failures)
    } else {
        let of = count(copies, "copy");
        Some(Failure::new(Code::Damaged, format!("{} of {of} damaged: {}", damaged.len(), damaged.join(", "))))
    };
    let text = if rows.is_empty() {
        String::new()
    } else {
        tables::table(["NAME", "WHERE", "DEPTH", "RESULT", "CHECKED"], &[], rows)
    };
    Ok(Done { failure, ..Done::new(text, "verified", Value::Array(reports)) })
}

/// The failure to end with: damage outranks what could not be looked at.
fn first(mut failures: Vec<Failure>) -> Option<Failure> {
    let damage = failures.iter().position(|failure| failure.code.exit() == Code::Damaged.exit());
    let others = failures.len().saturating_sub(1);
    let mut failure = (!failures.is_empty()).then(|| failures.swap_remove(damage.unwrap_or(0)))?;
    if others > 0 {
        failure.message = format!("{} (and {others} more)", failure.message);
    }
    Some(failure)
}

async fn chosen(context: &Context, args: &VerifyArgs) -> Result<Vec<Chosen>> {
    if !args.all {
        let typed: Vec<Option<&str>> =
            if args.latest { vec![None] } else { args.backup.iter().map(|name| Some(name.as_str())).collect() };
        let mut chosen = Vec::new();
        for typed in typed {
            chosen.push(context.choose(typed, None, None, Access::Write).await?);
        }
        return Ok(chosen);
    }
    let keeper = context.keeper(Access::Write).await?;
    let catalog = Catalog::load(&keeper).await?;
    context.tell_of(&catalog);
    if catalog.own().next().is_none() {
        return Err(Failure::new(Code::NothingMatched, "there are no backups to verify"));
    }
    let chosen = |entry: &CatalogEntry| Chosen { keeper: keeper.clone(), backup: Backup::Catalogued(entry.clone()) };
    Ok(catalog.own().map(chosen).collect())
}

/// A foreign archive has nothing to be compared with: it is read to its end.
async fn verify_foreign(context: &Context, source: &BackupSource) -> Result<Value> {
    let begun = Instant::now();
    let subject = source.key.to_string();
    context.reporter.notice(&Event::StageStarted { stage: Stage::Verify, subject: subject.clone() });
    let toc = source.toc().await?;
    let mut archive = source.open(context.settings.jobs).await?;
    let mut plain_bytes = 0_u64;
    while let Some(piece) = archive.next().await? {
        plain_bytes += piece.len() as u64;
        let progress =
            Event::Progress { stage: Stage::Verify, plain_bytes, total_bytes: None, items: 0, total_items: None };
        context.reporter.notice(&progress);
    }
    context.reporter.notice(&Event::StageFinished { stage: Stage::Verify, elapsed: begun.elapsed() });
    context.reporter.info(format!(
        "Backup integrity verified successfully: {subject}, {} entries, {} read to its end ({})",
        toc.entries.len(),
        size(plain_bytes),
        elapsed(begun.elapsed())
    ));
    Ok(json!({"id": subject, "destination": source.place, "depth": "deep", "findings": [], "plain_bytes": plain_bytes}))
}

fn told(context: &Context, report: &VerifyReport, begun: Instant) {
    let VerifyReport { id, destination, findings, .. } = report;
    if findings.is_empty() {
        context.reporter.info(format!(
            "Backup integrity verified successfully: {id} at {destination}, {} ({})",
            word(report.depth),
            elapsed(begun.elapsed())
        ));
    } else {
        for finding in findings {
            context
                .reporter
                .caution(format!("{id} at {destination} is damaged: {}: {}", finding.subject, finding.problem));
        }
    }
}

fn word(depth: VerifyDepth) -> &'static str {
    match depth {
        VerifyDepth::Quick => "quick",
        VerifyDepth::Stored => "stored",
        VerifyDepth::Deep => "deep",
    }
}
