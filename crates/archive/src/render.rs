//! Header and TOC as other archives of the same content have them. No length ever changes.

use bytes::Bytes;

use crate::input::{INT_BYTES, int_bytes, int_of};
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

impl Toc {
    /// Header and TOC after which pg_restore makes these settings too, in every session it opens: it runs the SEARCHPATH
    /// entry verbatim (`_doSetFixedOutputState` in pg_backup_archiver.c). `None` if there is no such entry.
    pub fn with_settings(&self, statements: &str) -> Result<Option<Bytes>> {
        let Some(wanted) = self.entries.iter().position(|entry| entry.desc == "SEARCHPATH") else { return Ok(None) };
        let mut at = first_entry(&self.raw)?;
        if let Some(before) = wanted.checked_sub(1) {
            at = self.entries[before].offset_position as usize + NO_DATA.len();
        }
        // Dump id, whether it has data; tableoid, oid, tag, description; section; then the definition.
        at += 2 * INT_BYTES;
        for _ in 0..4 {
            at = text_end(&self.raw, at)?;
        }
        at += INT_BYTES;
        let end = text_end(&self.raw, at)?;
        let mut definition = self.entries[wanted].definition.0.to_vec();
        definition.extend_from_slice(statements.as_bytes());
        let length = i32::try_from(definition.len())
            .map_err(|_| Error::OutOfOrder { what: "settings longer than the format allows".to_owned() })?;
        Ok(Some([&self.raw[..at], &int_bytes(length), &definition, &self.raw[end..]].concat().into()))
    }
}

/// Where the text that begins at `at` ends.
fn text_end(raw: &[u8], at: usize) -> Result<usize> {
    let length = raw.get(at..at + INT_BYTES).and_then(|bytes| int_of(bytes.try_into().ok()?));
    let length = length.ok_or_else(|| Error::damaged(at as u64, "a text's length"))?;
    // -1 is NULL.
    Ok(at + INT_BYTES + usize::try_from(length).unwrap_or_default())
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
    fn settings_follow_the_search_path_and_nothing_else_changes() {
        for minor in since::OLDEST..=since::NEWEST {
            for first in [true, false] {
                let mut archive = SyntheticArchive::new(minor, InnerCompression::None);
                let search_path =
                    || TocEntry { definition: "SELECT 1;\n".into(), ..entry(3, "SEARCHPATH", "SEARCHPATH") };
                if first {
                    archive.entry(search_path());
                }
                archive.table(8, "t", "a", &[b"1\n"]);
                if !first {
                    archive.entry(search_path());
                }
                archive.table(9, "u", "a", &[b"2\n"]);
                let toc = Toc::parse(archive.toc_bytes().into()).unwrap();
                let set = Toc::parse(toc.with_settings("SET x = 1;\n").unwrap().unwrap()).unwrap();
                assert_eq!(set.entry(3).unwrap().definition.lossy(), "SELECT 1;\nSET x = 1;\n");
                for id in [8, 9] {
                    let moved = TocEntry { offset_position: 0, ..set.entry(id).unwrap().clone() };
                    assert_eq!(moved, TocEntry { offset_position: 0, ..toc.entry(id).unwrap().clone() });
                }
            }
        }
        let mut archive = SyntheticArchive::new(since::NEWEST, InnerCompression::None);
        archive.table(8, "t", "a", &[b"1\n"]);
        assert_eq!(Toc::parse(archive.toc_bytes().into()).unwrap().with_settings("").unwrap(), None);
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
