//! `pgkeep verify`: each copy of each backup, each with a proof.

use std::time::Instant;

use pgkeep_core::{BackupSource, Catalog, CatalogEntry, VerifyDepth, VerifyReport};
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
    let (mut copies, mut damaged) = (0_u64, Vec::new());
    for Chosen { keeper, backup } in chosen(context, args).await? {
        let Backup::Catalogued(entry) = backup else {
            let Backup::Foreign(source) = backup else { continue };
            reports.push(verify_foreign(context, &source).await?);
            rows.push([
                source.key.to_string(),
                source.place.clone(),
                "deep".to_owned(),
                "good".to_owned(),
                String::new(),
            ]);
            continue;
        };
        let begun = Instant::now();
        for report in keeper.verify(&entry, depth).await? {
            told(context, &report, begun);
            let result = if report.findings.is_empty() { "good" } else { "DAMAGED" };
            let what = match depth {
                VerifyDepth::Quick => "presence and size".to_owned(),
                VerifyDepth::Stored => size(report.stored_bytes),
                VerifyDepth::Deep => format!("{}, {}", count(report.tables, "table"), count(report.rows, "row")),
            };
            rows.push([report.id.clone(), report.destination.clone(), word(depth).to_owned(), result.to_owned(), what]);
            copies += 1;
            if !report.findings.is_empty() {
                damaged.push(format!("{} at {}", report.id, report.destination));
            }
            reports.push(json!(report));
        }
    }
    let failure = (!damaged.is_empty()).then(|| {
        let of = count(copies, "copy");
        Failure::new(Code::Damaged, format!("{} of {of} damaged: {}", damaged.len(), damaged.join(", ")))
    });
    let text = if rows.is_empty() {
        String::new()
    } else {
        tables::table(["NAME", "WHERE", "DEPTH", "RESULT", "CHECKED"], &[], rows)
    };
    Ok(Done { failure, ..Done::new(text, "verified", Value::Array(reports)) })
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
