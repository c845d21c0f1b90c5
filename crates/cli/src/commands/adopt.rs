//! `pgkeep adopt`: a meta for a foreign archive that lies in one of the destinations.

use std::sync::Arc;

use pgkeep_core::AdoptOptions;
use pgkeep_storage::Key;

use super::{Context, Done};
use crate::args::AdoptArgs;
use crate::failure::{Failure, Result};
use crate::hint::Code;
use crate::render::{count, json as documents, size};
use crate::wire::Access;

pub(super) async fn run(context: &Context, args: &AdoptArgs) -> Result<Done> {
    let keeper = context.keeper(Access::Write).await?;
    let (destination, key) = place(context, &keeper, &args.archive)?;
    let options = AdoptOptions { class: args.class, source_name: context.settings.source_name.clone() };
    let meta = keeper.adopt(destination, &key, &options).await?;
    let rows: u64 = meta.entries.iter().map(|table| table.rows).sum();
    context.reporter.info(format!(
        "Adopted {}: database {}, {}, {}, {}",
        meta.id,
        meta.database.name,
        count(meta.entries.len() as u64, "table"),
        count(rows, "row"),
        size(meta.stored.bytes)
    ));
    Ok(Done::new(format!("{}\n", meta.id), "backup", documents::meta(&Arc::unwrap_or_clone(meta))))
}

/// Which destination an archive lies in, and its key there.
fn place(context: &Context, keeper: &pgkeep_core::Keeper, typed: &str) -> Result<(usize, Key)> {
    let location = if typed.contains("://") {
        typed.to_owned()
    } else {
        let path = context.surroundings.directory.join(typed);
        let path = std::fs::canonicalize(&path).map_err(|error| {
            Failure::new(Code::NothingMatched, format!("{} can't be opened: {error}", path.display()))
        })?;
        format!("file://{}", path.display())
    };
    for (index, destination) in keeper.destinations.iter().enumerate() {
        let root = destination.storage.location().to_string();
        if let Some(key) = location.strip_prefix(&root).and_then(|rest| rest.strip_prefix('/')) {
            return Ok((index, Key::new(key)?));
        }
    }
    let places: Vec<_> =
        keeper.destinations.iter().map(|destination| destination.storage.location().to_string()).collect();
    Err(Failure::new(Code::NothingMatched, format!("{typed} lies in none of {}", places.join(", ")))
        .hint("copy it there first; `pgkeep restore` takes it where it is"))
}
