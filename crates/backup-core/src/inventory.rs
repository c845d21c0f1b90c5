//! What an archive holds, as its meta says it: tables, large objects, sequences, schema.

use std::sync::Arc;

use pgkeep_archive::{PgText, Toc, TocEntry, copy_columns, schema_lines, sequence_set};
use sha2::{Digest, Sha256};

use crate::sequencer::Placed;
use crate::{DataBlock, EntryMeta, LargeObjectsMeta, SequenceMeta, Tally};

/// The tables of an archive, in archive order.
///
/// An entry that is no COPY text (of `pg_dump --inserts`) has no rows that could be counted, and an empty fingerprint.
pub(crate) fn entries(toc: &Toc, placed: &[Placed]) -> Vec<EntryMeta> {
    let tables = placed.iter().filter_map(|placed| Some((placed, toc.entry(placed.dump_id)?)));
    tables
        .filter(|(_, entry)| !entry.holds_large_objects())
        .map(|(placed, entry)| {
            let counted = entry.holds_copy_text();
            let tally = if counted { placed.tally } else { Tally::default() };
            EntryMeta {
                dump_id: placed.dump_id,
                schema: entry.namespace.as_ref().map(PgText::lossy).unwrap_or_default(),
                name: entry.tag.lossy(),
                rows: tally.rows,
                bytes: tally.bytes,
                fingerprint: if counted { tally.fingerprint() } else { String::new() },
                columns: copy_columns(entry).map(|list| String::from_utf8_lossy(list).into_owned()).unwrap_or_default(),
                frame: placed.frame,
                offset: placed.offset,
                plain_bytes: placed.plain_bytes,
            }
        })
        .collect()
}

/// The large objects of an archive: `tally` is the sum over all of them.
pub(crate) fn large_objects(toc: &Toc, placed: &[Placed], tally: Tally) -> LargeObjectsMeta {
    let holds = |placed: &&Placed| toc.entry(placed.dump_id).is_some_and(TocEntry::holds_large_objects);
    let blocks = placed.iter().filter(holds).map(|placed| DataBlock {
        dump_id: placed.dump_id,
        frame: placed.frame,
        offset: placed.offset,
        plain_bytes: placed.plain_bytes,
    });
    LargeObjectsMeta {
        count: tally.rows,
        bytes: tally.bytes,
        fingerprint: tally.fingerprint(),
        blocks: blocks.collect(),
    }
}

/// Where the sequences stand.
pub(crate) fn sequences(toc: &Toc) -> Vec<SequenceMeta> {
    let sets = toc.entries.iter().filter_map(sequence_set);
    sets.map(|set| SequenceMeta {
        schema: set.schema.lossy(),
        name: set.name.lossy(),
        last_value: set.last_value,
        is_called: set.is_called,
    })
    .collect()
}

/// The table of contents with only these entries marked as having data.
pub(crate) fn only_data_of(toc: &Toc, dump_ids: &[i32]) -> pgkeep_archive::Result<Arc<Toc>> {
    let raw = toc.with_data_of(|entry| dump_ids.contains(&entry.dump_id))?;
    Toc::parse(raw).map(Arc::new)
}

/// sha256 (hex) of the schema in a table of contents, the same for a database and for its faithful restore as dumped
/// by the same pg_dump with the same options: over [`pgkeep_archive::schema_lines`], each item as its five fields,
/// each with its length in eight bytes, little-endian, before it.
pub fn schema_sha256(toc: &Toc) -> String {
    let mut digest = Sha256::new();
    let mut field = |bytes: &[u8]| {
        digest.update((bytes.len() as u64).to_le_bytes());
        digest.update(bytes);
    };
    for item in schema_lines(toc) {
        field(item.desc.as_bytes());
        field(item.namespace.as_ref().map(AsRef::as_ref).unwrap_or_default());
        field(item.tag.as_ref());
        field(item.owner.as_ref().map(AsRef::as_ref).unwrap_or_default());
        field(&item.text);
    }
    hex::encode(digest.finalize())
}

/// A size for people, as `du -h` prints it: `45M`, `1.2G`; rounded up.
pub(crate) fn human_bytes(bytes: u64) -> String {
    let (mut size, mut unit) = (bytes as f64, 0);
    while size >= 1024.0 && unit < 5 {
        size /= 1024.0;
        unit += 1;
    }
    let unit_name = ["B", "K", "M", "G", "T", "P"][unit];
    if unit == 0 || size > 9.9 {
        format!("{:.0}{unit_name}", size.ceil())
    } else {
        format!("{:.1}{unit_name}", (size * 10.0).ceil() / 10.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_for_people() {
        for (bytes, text) in [
            (0, "0B"),
            (999, "999B"),
            (1024, "1.0K"),
            (1025, "1.1K"),
            (45 << 20, "45M"),
            ((45 << 20) + 1, "46M"),
            (1 << 40, "1.0T"),
        ] {
            assert_eq!(human_bytes(bytes), text, "{bytes}");
        }
    }
}
