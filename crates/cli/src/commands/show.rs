//! `pgkeep show`: one backup in detail.

use std::fmt::Write;
use std::sync::Arc;

use chrono::Utc;
use pgkeep_core::{Catalog, CatalogEntry, EntryMeta, ProofOutcome};
use serde_json::json;

use super::list::places;
use super::pick::pick_of;
use super::{Context, Done};
use crate::args::ShowArgs;
use crate::failure::Result;
use crate::render::{ago, count, json as documents, size, tables};
use crate::wire::Access;

/// Tables that are shown without `--tables`.
const BIGGEST: usize = 10;

pub(super) async fn run(context: &Context, args: &ShowArgs) -> Result<Done> {
    let keeper = context.keeper(Access::Read).await?;
    let catalog = Catalog::load(&keeper).await?;
    context.tell_of(&catalog);
    let entry = &mut catalog.pick(&pick_of(args.backup.as_deref(), None, None))?.clone();
    if entry.meta.is_sealed() && context.has_identities() {
        let recipients = entry.meta.encryption.as_ref().map(|encryption| encryption.recipients.clone());
        let identities = context.identities(&recipients.unwrap_or_default()).await?;
        entry.meta = Arc::new(entry.meta.unseal(&identities)?);
    }
    keeper.look_up_classes(entry).await;
    let entry = &*entry;
    let mut biggest: Vec<&EntryMeta> = entry.meta.entries.iter().collect();
    biggest.sort_by_key(|table| std::cmp::Reverse(table.bytes));
    if !args.tables {
        biggest.truncate(BIGGEST);
    }
    let rows = biggest
        .iter()
        .map(|table| [format!("{}.{}", table.schema, table.name), table.rows.to_string(), size(table.bytes)]);
    let mut text = tables::facts(facts(&keeper, entry));
    if !biggest.is_empty() {
        text.push('\n');
        text.push_str(&tables::table(["TABLE", "ROWS", "DATA"], &[1, 2], rows));
    }
    let hidden = entry.meta.entries.len() - biggest.len();
    if hidden > 0 {
        let _ = writeln!(text, "and {hidden} more (--tables)");
    }
    let tables: Vec<_> = biggest
        .iter()
        .map(|table| json!({"schema": table.schema, "name": table.name, "rows": table.rows, "bytes": table.bytes, "fingerprint": table.fingerprint}))
        .collect();
    Ok(Done::new(text, "backup", documents::backup(entry)).with("biggest_tables", json!(tables)))
}

/// Label and value of what there is to know.
pub(super) fn facts(keeper: &pgkeep_core::Keeper, entry: &CatalogEntry) -> Vec<(&'static str, String)> {
    let meta = &entry.meta;
    let rows: u64 = meta.entries.iter().map(|table| table.rows).sum();
    let mut facts = vec![
        ("name", meta.id.to_string()),
        ("file", meta.backup_file.clone()),
        ("class", meta.backup_type.to_string()),
        (
            "snapshot",
            format!("{} ({})", meta.snapshot_time.format("%Y-%m-%d %H:%M:%S UTC"), ago(meta.snapshot_time, Utc::now())),
        ),
        (
            "database",
            format!("{} at {} ({})", meta.database.name, meta.database.server, size(meta.database.size_bytes)),
        ),
        ("server", format!("PostgreSQL {}, {}", meta.database.server_version, meta.database.encoding)),
        (
            "made",
            format!(
                "on {} in {} s by {}, engine {}",
                meta.hostname, meta.duration_seconds, meta.tool_version, meta.engine
            ),
        ),
        ("pg_dump", meta.pg_dump_version.clone()),
        (
            "content",
            if meta.is_sealed() {
                "encrypted; with --identity FILE it is shown".to_owned()
            } else {
                format!(
                    "{}, {}, {}",
                    count(meta.entries.len() as u64, "table"),
                    count(rows, "row"),
                    count(meta.large_objects.count, "large object")
                )
            },
        ),
        ("stored", format!("{} as {}, sha256 {}", size(meta.stored.bytes), meta.compression, meta.stored.sha256)),
        ("plain", format!("{}, BLAKE3 {}", size(meta.plain.bytes), meta.plain.blake3)),
        ("needs", format!("pg_restore {} or newer", meta.lowest_pg_restore)),
    ];
    if let Some(encryption) = &meta.encryption {
        facts.push(("encrypted", format!("to {}", encryption.recipients.join(", "))));
    }
    if !meta.selection.is_empty() {
        facts.push(("selection", meta.selection.join(" ")));
    }
    if !meta.extensions.is_empty() {
        let extensions: Vec<_> = meta.extensions.iter().map(|(name, version)| format!("{name} {version}")).collect();
        facts.push(("extensions", extensions.join(", ")));
    }
    for copy in &entry.copies {
        let location =
            keeper.destinations.get(copy.destination).map(|destination| destination.storage.location().to_string());
        let class = copy.storage_class.as_ref().map(|class| format!(" ({class})")).unwrap_or_default();
        facts.push(("copy", format!("{}: {}/{}{class}", copy.name, location.unwrap_or_default(), copy.key)));
    }
    if entry.copies.iter().any(|copy| !entry.good_at(copy.destination)) {
        facts.push(("damage", places(entry)));
    }
    for proof in &entry.proofs {
        let outcome = if proof.outcome == ProofOutcome::Good { "good" } else { "BAD" };
        let findings =
            if proof.findings.is_empty() { String::new() } else { format!(": {}", proof.findings.join("; ")) };
        facts.push((
            "proof",
            format!(
                "{} {outcome}, {} at {}{findings}",
                proof.kind.word(),
                proof.at.format("%Y-%m-%d %H:%M:%S UTC"),
                proof.destination
            ),
        ));
    }
    facts.extend(meta.warnings.iter().map(|warning| ("warning", warning.clone())));
    facts
}
