//! Large objects from a server that says anything.

use pgkeep_archive::BlockWriter;

use super::large_objects::PageReader;
use crate::Result;

/// Writes what comes out of binary COPYs of `pg_largeobject`, no more than so many bytes of it; the bytes of the blocks.
pub(crate) fn pages(copies: &[&[u8]], oids: &[u32], limit: u64) -> Result<u64> {
    let mut writer = BlockWriter::stretch(1 << 16, [], true);
    let mut reader = PageReader::new(oids, 2048);
    let mut written = 0;
    let mut taken = |writer: &mut BlockWriter| {
        written += std::iter::from_fn(|| writer.take()).map(|block| block.bytes.len() as u64).sum::<u64>();
        written
    };
    for copy in copies {
        for piece in copy.chunks(100) {
            reader.push(piece);
            while reader.advance(&mut writer)? {
                if taken(&mut writer) > limit {
                    return Ok(limit);
                }
            }
        }
        reader.end_copy()?;
    }
    reader.finish(&mut writer)?;
    Ok(taken(&mut writer))
}
