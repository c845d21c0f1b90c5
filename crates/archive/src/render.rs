//! Header and TOC as other archives of the same content have them. No length ever changes.

use bytes::Bytes;

use crate::input::{INT_BYTES, int_bytes};
use crate::parse::{COMPRESSION_AT, first_entry, since};
use crate::{Error, Result, Toc, TocEntry};

/// An entry's offset field: flag 1, "position not set", as pg_dump writes to a pipe.
const NOT_SET: [u8; 9] = [1, 0, 0, 0, 0, 0, 0, 0, 0];

/// Flag 2, "position set", before the position.
const SET: [u8; 9] = [2, 0, 0, 0, 0, 0, 0, 0, 0];

/// Flag 3, "no data".
const NO_DATA: [u8; 9] = [3, 0, 0, 0, 0, 0, 0, 0, 0];

impl Toc {
    /// Header and TOC with inner compression set to none and every data offset to "not set", of the same length as
    /// [`Toc::raw`]: the beginning of the archives that [`crate::BlockWriter`] writes.
    pub fn plain(&self) -> Bytes {
        let mut raw = self.raw.to_vec();
        let length = if self.format.1 >= since::ALGORITHM { 1 } else { 5 };
        raw[COMPRESSION_AT..COMPRESSION_AT + length].fill(0);
        for entry in self.data_entries() {
            write_offset(&mut raw, entry, NOT_SET);
        }
        raw.into()
    }

    /// Header and TOC in which only the entries that `keep` wants have data, of the same length as [`Toc::raw`]: the
    /// beginning of an archive without the data blocks of the others. pg_restore takes those as having nothing to load.
    pub fn with_data_of(&self, keep: impl Fn(&TocEntry) -> bool) -> Result<Bytes> {
        let mut raw = self.raw.to_vec();
        let mut at = first_entry(&raw)?;
        for entry in &self.entries {
            if entry.has_data && !keep(entry) {
                // The entry begins with its dump id; whether it has data comes next.
                raw[at + INT_BYTES..at + 2 * INT_BYTES].copy_from_slice(&int_bytes(0));
                write_offset(&mut raw, entry, NO_DATA);
            }
            at = entry.offset_position as usize + NO_DATA.len();
        }
        Ok(raw.into())
    }
}

/// Header and TOC with the positions of data blocks filled in: dump id, and offset of the block's first byte from the
/// beginning of the archive. `pg_restore --jobs` and `--table` can then seek in a plain archive file.
///
/// Fails if `raw` is not a header and TOC, or if a dump id has no data.
pub fn patch_offsets(raw: &[u8], offsets: &[(i32, u64)]) -> Result<Vec<u8>> {
    let toc = Toc::parse(Bytes::copy_from_slice(raw))?;
    let mut patched = raw.to_vec();
    for &(dump_id, offset) in offsets {
        let entry = toc.entry(dump_id).filter(|entry| entry.has_data);
        let entry = entry.ok_or_else(|| Error::OutOfOrder { what: format!("entry {dump_id} has no data block") })?;
        let mut field = SET;
        field[1..].copy_from_slice(&offset.to_le_bytes());
        write_offset(&mut patched, entry, field);
    }
    Ok(patched)
}

fn write_offset(raw: &mut [u8], entry: &TocEntry, field: [u8; 9]) {
    let at = entry.offset_position as usize;
    raw[at..at + field.len()].copy_from_slice(&field);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synthetic::{SyntheticArchive, entry};
    use crate::{DataOffset, InnerCompression};

    #[test]
    fn offsets_and_compression_are_set_and_unset_in_place() {
        for minor in since::OLDEST..=since::NEWEST {
            let mut archive = SyntheticArchive::new(minor, InnerCompression::Gzip);
            archive.entry(entry(7, "TABLE", "t")).table(8, "t", "a", &[b"1\n"]).table(9, "u", "a", &[b"2\n"]);
            let raw = archive.toc_bytes();
            let toc = Toc::parse(raw.clone().into()).unwrap();
            let patched = patch_offsets(&raw, &[(8, 1 << 40), (9, 77)]).unwrap();
            assert_eq!(patched.len(), raw.len());

            let patched = Toc::parse(patched.into()).unwrap();
            assert_eq!(patched.entry(7).unwrap().offset, DataOffset::NoData);
            assert_eq!(patched.entry(8).unwrap().offset, DataOffset::At(1 << 40));
            assert_eq!(patched.entry(9).unwrap().offset, DataOffset::At(77));
            assert_eq!(patched.compression, InnerCompression::Gzip);

            let plain = Toc::parse(patched.plain()).unwrap();
            assert_eq!(plain.compression, InnerCompression::None);
            assert_eq!(plain.entries, toc.entries);
            assert!(patch_offsets(&raw, &[(7, 1)]).is_err());
            assert!(patch_offsets(&raw, &[(70, 1)]).is_err());
        }
    }

    #[test]
    fn data_is_taken_from_all_entries_but_the_kept_ones() {
        for minor in since::OLDEST..=since::NEWEST {
            let mut archive = SyntheticArchive::new(minor, InnerCompression::None);
            archive.table(8, "t", "a", &[b"1\n"]).entry(entry(7, "TABLE", "t")).table(9, "u", "a", &[b"2\n"]);
            archive.large_objects(10, &[(1, b"x")]);
            let toc = Toc::parse(archive.toc_bytes().into()).unwrap();
            let reduced = toc.with_data_of(|entry| entry.dump_id == 9).unwrap();
            assert_eq!(reduced.len(), toc.raw.len());
            let reduced = Toc::parse(reduced).unwrap();
            assert_eq!(reduced.data_entries().map(|entry| entry.dump_id).collect::<Vec<_>>(), [9]);
            let all = reduced.with_data_of(|_| true).unwrap();
            assert_eq!(all, reduced.raw);
            let names = |toc: &Toc| toc.entries.iter().map(|entry| entry.tag.lossy()).collect::<Vec<_>>();
            assert_eq!(names(&reduced), names(&toc));
        }
    }
}
