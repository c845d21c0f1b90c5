//! What a worker learns of a block while it has it: how many rows of which table, and their hashes.

use pgkeep_archive::{Block, Content};

use crate::{FingerprintKey, Tally};

/// What the whole rows in `block` add to each entry, in order of appearance. Parts of rows and large objects need
/// what came before them, so they are left to the sequencer.
pub(crate) fn tally(key: &FingerprintKey, block: &Block) -> Vec<(i32, Tally)> {
    let mut tallies: Vec<(i32, Tally)> = Vec::new();
    for segment in &block.segments {
        if segment.content != Content::Rows {
            continue;
        }
        let text = &block.bytes[segment.range.start as usize..segment.range.end as usize];
        match tallies.last_mut() {
            Some((dump_id, tally)) if *dump_id == segment.dump_id => tally.add_rows(key, text),
            _ => {
                let mut tally = Tally::default();
                tally.add_rows(key, text);
                tallies.push((segment.dump_id, tally));
            }
        }
    }
    tallies
}
