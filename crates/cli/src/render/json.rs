//! The JSON document: one per run, versioned, also on failure.

use chrono::{DateTime, SecondsFormat, Utc};
use pgkeep_core::{CatalogEntry, Proof};
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

/// The document of a run.
pub(crate) fn document(
    command: &str,
    outcome: Outcome,
    begun: DateTime<Utc>,
    warnings: &[String],
    fields: Map<String, Value>,
    failure: Option<&Failure>,
) -> Value {
    let mut document = Map::new();
    document.insert("version".to_owned(), json!(VERSION));
    document.insert("command".to_owned(), json!(command));
    document.insert("outcome".to_owned(), json!(outcome.word()));
    document.insert("tool_version".to_owned(), json!(env!("CARGO_PKG_VERSION")));
    document.insert("started_at".to_owned(), json!(time(begun)));
    document.insert("elapsed_seconds".to_owned(), json!((Utc::now() - begun).as_seconds_f64()));
    document.extend(fields);
    document.insert("warnings".to_owned(), json!(warnings));
    if let Some(failure) = failure {
        let error = json!({
            "code": failure.code.text(),
            "message": failure.message,
            "hint": failure.hint,
            "exit": failure.exit().code(),
        });
        document.insert("error".to_owned(), error);
    }
    Value::Object(document)
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
        "plain_sha256": meta.plain.sha256,
        "duration_seconds": meta.duration_seconds,
        "tables": tables,
        "rows": rows,
        "large_objects": meta.large_objects.count,
        "selection": meta.selection,
        "extensions": meta.extensions.iter().map(|(name, version)| json!({"name": name, "version": version})).collect::<Vec<_>>(),
        "warnings": meta.warnings,
        "tool_version": meta.tool_version,
    })
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
