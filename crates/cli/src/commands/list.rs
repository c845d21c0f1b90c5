//! `pgkeep list`, and the drop-in's `--list-backups`.

use chrono::Utc;
use pgkeep_core::{Adoptable, Catalog, CatalogEntry, ProofOutcome};
use serde_json::{Value, json};

use super::{Context, Done};
use crate::args::ListArgs;
use crate::failure::Result;
use crate::invocation::Program;
use crate::render::{age, count, json as documents, short_size, tables};
use crate::wire::Access;

pub(super) async fn run(context: &Context, args: &ListArgs) -> Result<Done> {
    let keeper = context.keeper(Access::Read).await?;
    let catalog = Catalog::load(&keeper).await?;
    context.tell_of(&catalog);
    let entries: Vec<_> = catalog
        .own()
        .filter(|entry| args.class.is_none_or(|class| entry.meta.backup_type == class))
        .take(args.limit.unwrap_or(usize::MAX))
        .collect();
    let others = catalog.entries.len() - catalog.own().count();
    if others > 0 {
        context.reporter.info(format!("{others} backups of another database, taken over here, are not listed"));
    }
    let backups: Vec<Value> = entries.iter().map(|entry| documents::backup(entry)).collect();
    let adoptable = &catalog.adoptable;
    let text = if context.program == Program::RestoreDatabase {
        drop_in_list(&entries)
    } else {
        format!("{}{}", table(&entries), adoptable_table(adoptable))
    };
    if let Some(newest) = adoptable.first() {
        let of = count(adoptable.len() as u64, "archive");
        context.reporter.info(format!(
            "{of} without a meta of pgkeep, left alone and not listed as backups, {} the newest: `pgkeep adopt` makes \
             backups of them, restore takes them by path or URL",
            newest.key
        ));
    }
    if entries.is_empty() {
        let places: Vec<_> =
            keeper.destinations.iter().map(|destination| destination.storage.location().to_string()).collect();
        context.reporter.info(format!("no backups at {}", places.join(", ")));
    }
    Ok(Done::new(text, "backups", json!(backups)).with("adoptable", json!(adoptable)))
}

/// Date, time, size, name: the fourth field is the name, which runbooks cut out.
fn drop_in_list(entries: &[&CatalogEntry]) -> String {
    let line = |entry: &&CatalogEntry| {
        format!(
            "{}  {:>6}  {}  {}  {}\n",
            entry.meta.date.format("%Y-%m-%d %H:%M:%S"),
            short_size(entry.meta.stored.bytes),
            entry.meta.id,
            places(entry),
            proof(entry),
        )
    };
    entries.iter().map(line).collect()
}

fn table(entries: &[&CatalogEntry]) -> String {
    if entries.is_empty() {
        return String::new();
    }
    let now = Utc::now();
    let rows = entries.iter().map(|entry| {
        let meta = &entry.meta;
        [
            meta.id.to_string(),
            meta.snapshot_time.format("%Y-%m-%d %H:%M:%S").to_string(),
            age(meta.snapshot_time, now),
            short_size(meta.stored.bytes),
            meta.compression.clone(),
            places(entry),
            proof(entry),
        ]
    });
    tables::table(["NAME", "SNAPSHOT (UTC)", "AGE", "SIZE", "CODEC", "WHERE", "PROOF"], &[2, 3], rows)
}

/// What could become a backup; nothing where there is nothing.
fn adoptable_table(archives: &[Adoptable]) -> String {
    if archives.is_empty() {
        return String::new();
    }
    let rows = archives.iter().map(|archive| {
        let written = archive.modified.format("%Y-%m-%d %H:%M:%S").to_string();
        [archive.key.to_string(), written, short_size(archive.stored_bytes), archive.destination.clone()]
    });
    format!("\n{}", tables::table(["ADOPTABLE", "WRITTEN (UTC)", "SIZE", "WHERE"], &[2], rows))
}

/// The names of the places that have a copy; a copy that is not whole is marked.
pub(super) fn places(entry: &CatalogEntry) -> String {
    let place = |copy: &pgkeep_core::Copy| {
        let mark = if entry.good_at(copy.destination) { "" } else { "(damaged)" };
        format!("{}{mark}", copy.name)
    };
    entry.copies.iter().map(place).collect::<Vec<_>>().join(",")
}

/// The most thorough good proof and its day; or the newest bad one, if no copy is good.
fn proof(entry: &CatalogEntry) -> String {
    let bad = entry.proofs.iter().find(|proof| proof.outcome == ProofOutcome::Bad);
    if let Some(bad) = bad.filter(|_| !entry.good()) {
        return format!("{}:BAD", bad.kind.word());
    }
    let good = entry.proofs.iter().filter(|proof| proof.outcome == ProofOutcome::Good);
    let best = good.max_by_key(|proof| (proof.kind, proof.at));
    best.map_or_else(|| "-".to_owned(), |proof| format!("{}:{}", proof.kind.word(), proof.at.format("%Y-%m-%d")))
}
