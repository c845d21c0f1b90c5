//! What a restore tells, in the procedures' lines.

use std::sync::Arc;

use chrono::Utc;
use pgkeep_core::BackupSource;
use pgkeep_metrics::{Event, Observer, Stage};
use pgkeep_restore::{RestorePlan, RestoreReport};

use crate::commands::Context;
use crate::commands::pick::Chosen;
use crate::log::Level;
use crate::render::{ago, count, elapsed, short_size, size};
use crate::reporter::Reporter;

/// Which backup, how old, how well proven.
pub(super) fn backup(context: &Context, chosen: &Chosen, source: &BackupSource) {
    let reporter = &context.reporter;
    reporter.banner(Level::Info, "Backup Information:");
    reporter.info(format!("File: {}", source.key.name()));
    reporter.info(format!("Read From: {}", source.place));
    let Some(entry) = chosen.entry() else {
        reporter.info("It has no meta: it is counted while it is loaded, and there is nothing to compare it with");
        return;
    };
    let meta = source.meta.as_ref().unwrap_or(&entry.meta);
    let rows: u64 = meta.entries.iter().map(|table| table.rows).sum();
    reporter.info(format!("Size: {}", short_size(meta.stored.bytes)));
    reporter.info(format!("Date: {}", meta.date.format("%Y-%m-%d %H:%M:%S")));
    reporter.info(format!(
        "Snapshot: {} ({})",
        meta.snapshot_time.format("%Y-%m-%d %H:%M:%S UTC"),
        ago(meta.snapshot_time, Utc::now())
    ));
    reporter.info(format!(
        "Database: {} at {}, {}, {}",
        meta.database.name,
        meta.database.server,
        count(meta.entries.len() as u64, "table"),
        count(rows, "row")
    ));
    match entry.proofs.first() {
        Some(proof) => reporter.info(format!(
            "Last Proof: {} {}, {}",
            proof.kind.word(),
            if proof.findings.is_empty() { "good" } else { "BAD" },
            ago(proof.at, Utc::now())
        )),
        None => reporter.info("Last Proof: none yet"),
    }
    if entry.good() {
        reporter
            .info("Backup integrity verified: present and whole by size; every byte is checked while it is restored");
    } else {
        reporter.warn("Backup integrity: no copy is known to be good");
    }
}

/// The plan, line by line.
pub(super) fn plan(context: &Context, plan: &RestorePlan) {
    for (label, value) in plan.lines() {
        if !matches!(label, "warning" | "backup" | "read from") {
            context.reporter.info(format!("Plan: {label}: {value}"));
        }
    }
}

/// What is about to happen to what is there now.
pub(super) fn warning(context: &Context, plan: &RestorePlan) {
    let reporter = &context.reporter;
    if !plan.touches_existing() {
        reporter.info(format!("Target Database: {} (it will be created; nothing else is touched)", plan.database));
        return;
    }
    reporter.banner(Level::Warn, "WARNING: DATABASE RESTORE OPERATION");
    if plan.tables.is_empty() {
        reporter.caution("This will REPLACE the current database with backup data!");
    } else {
        reporter.caution("This will ADD tables to the current database!");
    }
    reporter.caution(format!("Target Database: {} at {}", plan.database, plan.server));
    if let Some(kept) = &plan.kept_as {
        reporter.caution(format!("What is there now is kept as {kept}"));
    }
}

/// Tells a restore stage by stage.
#[derive(Debug)]
pub(super) struct Narrator(pub(super) Arc<Reporter>);

impl Observer for Narrator {
    fn notice(&self, event: &Event) {
        if let Event::StageFinished { stage, elapsed: took } = event
            && let Some(done) = done(*stage)
        {
            self.0.info(format!("{done} ({})", elapsed(*took)));
        }
        self.0.notice(event);
    }
}

fn done(stage: Stage) -> Option<&'static str> {
    Some(match stage {
        Stage::Verify => "Whole backup verified",
        Stage::PreData => "Schema created",
        Stage::Data => "Rows loaded",
        Stage::PostData => "Indexes and constraints created",
        Stage::Analyze => "Statistics collected",
        Stage::Proof => "Compared with the backup",
        Stage::Swap => "Names exchanged",
        _ => return None,
    })
}

/// What came of it.
pub(super) fn report(context: &Context, report: &RestoreReport) {
    let reporter = &context.reporter;
    for warning in &report.warnings {
        reporter.warn(warning);
    }
    reporter.info(format!("Database restore complete ({})", elapsed(report.times.total)));
    let proof = &report.proof;
    if proof.differences.is_empty() {
        reporter.info(format!(
            "Database queries successful: {}, {}, {}, {} compared, all equal",
            count(proof.tables, "table"),
            count(proof.rows, "row"),
            count(proof.sequences, "sequence"),
            count(proof.large_objects, "large object")
        ));
    }
    for difference in &proof.differences {
        reporter.warn(format!("differs from the backup: {difference}"));
    }
    for rendering in &proof.renderings {
        reporter.info(format!("The same, written differently by this server: {rendering}"));
    }
    for line in proof.unprovable.iter().filter(|line| !report.warnings.iter().any(|warning| warning.contains(*line))) {
        reporter.info(format!("Not comparable: {line}"));
    }
    reporter.info(format!("Restored database size: {}", size(report.restored_bytes)));
    reporter.banner(Level::Info, "Restore Complete");
    if let Some(kept) = &report.kept_as {
        reporter.info(format!("The old database is kept as {kept}. To go back: pgkeep rollback"));
        if let Some(statement) = report.drop_statement() {
            reporter.info(format!("When it is no longer needed: {statement}"));
        }
    }
}
