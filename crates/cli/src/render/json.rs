//! The JSON document: one per run, versioned, also on failure.

use chrono::{DateTime, SecondsFormat, Utc};
use pgkeep_core::{CatalogEntry, Proof, PruneReport, ReplicateReport, RetentionPlan, SweepPlan};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::failure::Failure;

/// The version of the document. It grows when a key changes its meaning or goes; new keys may come at any time.
pub(crate) const VERSION: u32 = 1;

/// How it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Well.
    Ok,
    /// Well, with warnings.
    Warnings,
    /// Not.
    Failed,
}

impl Outcome {
    /// The word.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warnings => "warnings",
            Self::Failed => "failed",
        }
    }
}

/// The document of a run, its keys in this order.
#[derive(Debug, Serialize)]
pub(crate) struct Document<'d> {
    version: u32,
    command: &'d str,
    outcome: &'static str,
    tool_version: &'static str,
    started_at: String,
    elapsed_seconds: f64,
    #[serde(flatten)]
    fields: Map<String, Value>,
    warnings: &'d [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Fault<'d>>,
}

/// What went wrong.
#[derive(Debug, Serialize)]
struct Fault<'d> {
    code: &'static str,
    exit: u8,
    message: &'d str,
    hint: Option<&'d str>,
}

impl<'d> Document<'d> {
    /// The document of a run that is over.
    pub(crate) fn new(
        command: &'d str,
        outcome: Outcome,
        begun: DateTime<Utc>,
        warnings: &'d [String],
        fields: Map<String, Value>,
        failure: Option<&'d Failure>,
    ) -> Self {
        Self {
            version: VERSION,
            command,
            outcome: outcome.word(),
            tool_version: env!("CARGO_PKG_VERSION"),
            started_at: time(begun),
            elapsed_seconds: (Utc::now() - begun).as_seconds_f64(),
            fields,
            warnings,
            error: failure.map(|failure| Fault {
                code: failure.code.text(),
                exit: failure.exit().code(),
                message: &failure.message,
                hint: failure.hint.as_deref(),
            }),
        }
    }

    /// As text, with a line feed at its end.
    pub(crate) fn text(&self) -> String {
        serde_json::to_string_pretty(self).map(|text| format!("{text}\n")).unwrap_or_default()
    }
}

/// A time as RFC 3339 in UTC, to the second.
pub(crate) fn time(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// One backup, without the parts of its meta that only the program reads.
pub(crate) fn backup(entry: &CatalogEntry) -> Value {
    let mut value = meta(&entry.meta);
    if let Value::Object(fields) = &mut value {
        fields.insert("copies".to_owned(), json!(entry.copies));
        fields.insert("proofs".to_owned(), Value::Array(entry.proofs.iter().map(proof).collect()));
        fields.insert("good".to_owned(), json!(entry.good()));
        fields.insert("proven".to_owned(), json!(entry.proven()));
    }
    value
}

/// One backup's meta, without the parts that only the program reads.
pub(crate) fn meta(meta: &pgkeep_core::Meta) -> Value {
    let (tables, rows) = (meta.entries.len(), meta.entries.iter().map(|entry| entry.rows).sum::<u64>());
    json!({
        "id": meta.id,
        "class": meta.backup_type,
        "file": meta.backup_file,
        "begun_at": time(meta.date),
        "snapshot_at": time(meta.snapshot_time),
        "source": meta.source,
        "database": meta.database,
        "hostname": meta.hostname,
        "engine": meta.engine,
        "compression": meta.compression,
        "stored_bytes": meta.stored.bytes,
        "stored_sha256": meta.stored.sha256,
        "plain_bytes": meta.plain.bytes,
        "plain_blake3": meta.plain.blake3,
        "duration_seconds": meta.duration_seconds,
        "tables": tables,
        "rows": rows,
        "large_objects": meta.large_objects.count,
        "selection": meta.selection,
        "whole": meta.is_whole(),
        "encrypted_to": meta.encryption.as_ref().map(|encryption| &encryption.recipients),
        "sealed": meta.is_sealed(),
        "extensions": meta.extensions.iter().map(|(name, version)| json!({"name": name, "version": version})).collect::<Vec<_>>(),
        "warnings": meta.warnings,
        "tool_version": meta.tool_version,
    })
}

/// Retention's plan for each destination.
pub(crate) fn plans(plans: &[(String, RetentionPlan)]) -> Value {
    let plan = |(destination, plan): &(String, RetentionPlan)| json!({"destination": destination, "decisions": plan.decisions});
    Value::Array(plans.iter().map(plan).collect())
}

/// What would be swept at each destination.
pub(crate) fn sweeps(plans: &[SweepPlan]) -> Value {
    let plan = |plan: &SweepPlan| json!({"destination": plan.destination, "leftovers": plan.leftovers});
    Value::Array(plans.iter().filter(|plan| !plan.is_empty()).map(plan).collect())
}

/// What a prune did.
pub(crate) fn prune(report: &PruneReport) -> Value {
    json!({
        "removed": report.removed,
        "freed_bytes": report.freed_bytes,
        "swept": report.swept,
        "plans": plans(&report.plans),
    })
}

/// Copies that were made good.
pub(crate) fn replicated(report: &ReplicateReport) -> Value {
    let copy = |(id, destination): &(String, String)| json!({"id": id, "destination": destination});
    Value::Array(report.copied.iter().map(copy).collect())
}

fn proof(proof: &Proof) -> Value {
    json!({
        "kind": proof.kind,
        "outcome": proof.outcome,
        "at": time(proof.at),
        "seconds": proof.seconds,
        "destination": proof.destination,
        "findings": proof.findings,
    })
}
