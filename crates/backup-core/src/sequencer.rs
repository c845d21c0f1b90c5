//! Where frames come together in archive order: digests, the frame index, and where each entry lies.

use std::collections::HashMap;

use bytes::Bytes;
use pgkeep_archive::{Block, Content, Error as ArchiveError, Segment, Toc};
use sha2::{Digest, Sha256};

use crate::plain::PlainDigested;
use crate::{FingerprintKey, FrameIndex, LargeObjectHasher, PlainDigest, RowHasher, StoredDigest, Tally};

/// One block and what became of it.
#[derive(Debug)]
pub(crate) struct Frame {
    /// The plain block.
    pub(crate) block: Block,
    /// The frame that holds it.
    pub(crate) stored: Bytes,
    /// What [`crate::tap::tally`] found in it.
    pub(crate) tallies: Vec<(i32, Tally)>,
}

/// Where an entry's data block lies, and what its rows add up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Placed {
    /// The entry.
    pub(crate) dump_id: i32,
    /// The frame in which its data block begins.
    pub(crate) frame: u64,
    /// Where in that frame's plain bytes.
    pub(crate) offset: u64,
    /// Bytes of its data block in the plain archive.
    pub(crate) plain_bytes: u64,
    /// Its rows.
    pub(crate) tally: Tally,
}

/// All that is known of an archive once it has gone through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sequenced {
    pub(crate) plain: PlainDigest,
    pub(crate) stored: StoredDigest,
    pub(crate) frames: FrameIndex,
    /// Every data entry, in archive order.
    pub(crate) placed: Vec<Placed>,
    /// All large objects together: how many, their bytes, the sum of their hashes.
    pub(crate) large_objects: Tally,
}

/// Takes frames in order, on one thread that may block.
///
/// Refuses a stream that is not whole: every entry with data has exactly one block, in the order of the table of
/// contents, one after another without a gap, from the end of the table of contents to the end of the archive (law 2).
#[derive(Debug)]
pub(crate) struct Sequencer {
    key: FingerprintKey,
    /// Frames are not digested: they are encrypted before they are stored.
    sealed: bool,
    plain: PlainDigested,
    plain_bytes: u64,
    stored: Sha256,
    stored_bytes: u64,
    frames: FrameIndex,
    /// Data entries to come, the next one last.
    due: Vec<i32>,
    placed: Vec<Placed>,
    /// Where the current entry, the last of `placed`, begins in the archive.
    open: Option<u64>,
    position: HashMap<i32, usize>,
    /// Where the next data block has to begin.
    next_block: u64,
    row: Option<RowHasher>,
    large_object: Option<(u32, u64, LargeObjectHasher)>,
    large_objects: Tally,
}

impl Sequencer {
    /// A sequencer at the beginning of the archive of `toc`. `sealed` says that frames are encrypted before they are stored,
    /// and need no digest.
    pub(crate) fn new(key: FingerprintKey, toc: &Toc, sealed: bool) -> Self {
        let mut due: Vec<i32> = toc.data_entries().map(|entry| entry.dump_id).collect();
        due.reverse();
        Self {
            key,
            sealed,
            plain: PlainDigested::default(),
            plain_bytes: 0,
            stored: Sha256::new(),
            stored_bytes: 0,
            frames: FrameIndex::default(),
            due,
            placed: Vec::new(),
            open: None,
            position: HashMap::new(),
            next_block: toc.raw.len() as u64,
            row: None,
            large_object: None,
            large_objects: Tally::default(),
        }
    }

    /// Takes the next frame.
    pub(crate) fn absorb(&mut self, frame: &Frame) -> Result<(), ArchiveError> {
        let Frame { block, stored, tallies } = frame;
        let begun = self.open.and(self.placed.last()).map(|placed| placed.dump_id);
        let entry = begun.or(block.begins.first().map(|&(dump_id, _)| dump_id)).unwrap_or(0);
        self.bounds(block)?;
        for (dump_id, tally) in tallies {
            self.tally(*dump_id, *tally)?;
        }
        for segment in &block.segments {
            let bytes = &block.bytes[segment.range.start as usize..segment.range.end as usize];
            self.payload(segment, bytes)?;
        }
        self.frames.stored.push(stored.len() as u64);
        self.frames.plain.push(block.bytes.len() as u64);
        self.frames.entry.push(entry);
        self.frames.aligned.push(u8::from(block.row_aligned()));
        self.plain.update(&block.bytes);
        self.plain_bytes += block.bytes.len() as u64;
        if !self.sealed {
            self.stored.update(stored);
        }
        self.stored_bytes += stored.len() as u64;
        Ok(())
    }

    /// Opens and closes the entries that begin and end in `block`.
    fn bounds(&mut self, block: &Block) -> Result<(), ArchiveError> {
        let mut begins = block.begins.iter();
        let mut ends = block.ends.iter();
        loop {
            if self.open.is_none() {
                let Some(&(dump_id, offset)) = begins.next() else { break };
                self.begin(dump_id, offset)?;
            } else {
                let Some(&(dump_id, offset)) = ends.next() else { break };
                self.end(dump_id, self.plain_bytes + u64::from(offset))?;
            }
        }
        match (begins.next(), ends.next()) {
            (None, None) => Ok(()),
            (Some(&(dump_id, at)), _) => Err(self.unexpected(at, format!("the end of another entry before {dump_id}"))),
            (_, Some(&(dump_id, at))) => Err(self.unexpected(at, format!("the beginning of entry {dump_id} first"))),
        }
    }

    fn begin(&mut self, dump_id: i32, offset: u32) -> Result<(), ArchiveError> {
        let at = self.plain_bytes + u64::from(offset);
        let due = self.due.pop();
        if due != Some(dump_id) || at != self.next_block {
            let due = due.map_or_else(|| "the end of the archive".to_owned(), |due| format!("the data of entry {due}"));
            return Err(self.unexpected(offset, format!("{due} at byte {}, not entry {dump_id}", self.next_block)));
        }
        self.position.insert(dump_id, self.placed.len());
        self.placed.push(Placed {
            dump_id,
            frame: self.frames.stored.len() as u64,
            offset: u64::from(offset),
            plain_bytes: 0,
            tally: Tally::default(),
        });
        self.open = Some(at);
        Ok(())
    }

    fn end(&mut self, dump_id: i32, at: u64) -> Result<(), ArchiveError> {
        match (self.placed.last_mut(), self.open.take()) {
            (Some(placed), Some(begun)) if placed.dump_id == dump_id && at > begun => {
                placed.plain_bytes = at - begun;
                self.next_block = at;
                Ok(())
            }
            _ => Err(ArchiveError::Damaged { offset: at, expected: format!("another entry to end than {dump_id}") }),
        }
    }

    fn payload(&mut self, segment: &Segment, bytes: &[u8]) -> Result<(), ArchiveError> {
        match segment.content {
            Content::Rows => {}
            Content::RowPart { first, last } => {
                if first != self.row.is_none() {
                    return Err(self.unexpected(segment.range.start, "the next part of a row"));
                }
                let key = self.key;
                let row = self.row.get_or_insert_with(|| RowHasher::new(key));
                row.update(bytes);
                if last && let Some(row) = self.row.take() {
                    let tally = row.finish().map_err(|_| self.unexpected(segment.range.end, "the end of a row"))?;
                    self.tally(segment.dump_id, tally)?;
                }
            }
            Content::LargeObject { oid, offset, last } => {
                let begin = || (oid, 0, LargeObjectHasher::new(&self.key, oid));
                let (object, at, mut hasher) = self.large_object.take().unwrap_or_else(begin);
                if (object, at) != (oid, offset) {
                    return Err(self.unexpected(segment.range.start, format!("byte {at} of large object {object}")));
                }
                hasher.update(bytes);
                if last {
                    self.large_objects += hasher.finish();
                } else {
                    self.large_object = Some((oid, offset + bytes.len() as u64, hasher));
                }
            }
        }
        Ok(())
    }

    fn tally(&mut self, dump_id: i32, tally: Tally) -> Result<(), ArchiveError> {
        let placed = self.position.get(&dump_id).and_then(|&position| self.placed.get_mut(position));
        let placed = placed.ok_or_else(|| ArchiveError::Damaged {
            offset: self.plain_bytes,
            expected: format!("the data block of entry {dump_id} to have begun"),
        })?;
        placed.tally += tally;
        Ok(())
    }

    fn unexpected(&self, offset: u32, expected: impl Into<String>) -> ArchiveError {
        ArchiveError::Damaged { offset: self.plain_bytes + u64::from(offset), expected: expected.into() }
    }

    /// Ends the archive.
    pub(crate) fn finish(self) -> Result<Sequenced, ArchiveError> {
        let missing = if self.open.is_some() {
            self.placed.last().map(|placed| format!("the rest of entry {}", placed.dump_id))
        } else if self.row.is_some() || self.large_object.is_some() {
            Some("the rest of a row or large object".to_owned())
        } else if let Some(due) = self.due.last() {
            Some(format!("the data of entry {due}"))
        } else if self.plain_bytes != self.next_block {
            Some(format!("the end of the archive at byte {}", self.next_block))
        } else {
            None
        };
        if let Some(expected) = missing {
            return Err(ArchiveError::Damaged { offset: self.plain_bytes, expected });
        }
        Ok(Sequenced {
            plain: self.plain.finish(),
            stored: StoredDigest { bytes: self.stored_bytes, sha256: hex::encode(self.stored.finalize()) },
            frames: self.frames,
            placed: self.placed,
            large_objects: self.large_objects,
        })
    }
}

#[cfg(test)]
mod tests {
    use pgkeep_archive::{BlockWriter, Decoder, InnerCompression, SyntheticArchive};
    use proptest::prelude::*;

    use super::*;
    use crate::tap::tally;

    const KEY: FingerprintKey = FingerprintKey([3; 32]);

    /// What the stream of blocks of `archive`, cut at about `target` bytes, adds up to.
    fn sequenced(archive: &SyntheticArchive, target: usize) -> Sequenced {
        let (mut decoder, mut writer) = (Decoder::new(), BlockWriter::new(target));
        let mut blocks = Vec::new();
        decoder.push(&archive.bytes());
        while let Some(event) = decoder.next_event().unwrap() {
            writer.event(&event).unwrap();
            blocks.extend(std::iter::from_fn(|| writer.take()));
        }
        writer.finish().unwrap();
        blocks.extend(std::iter::from_fn(|| writer.take()));
        let mut sequencer = Sequencer::new(KEY, decoder.toc().unwrap(), false);
        for block in blocks {
            let (tallies, stored) = (tally(&KEY, &block), block.bytes.clone());
            sequencer.absorb(&Frame { block, stored, tallies }).unwrap();
        }
        sequencer.finish().unwrap()
    }

    fn row() -> impl Strategy<Value = Vec<u8>> {
        let byte = any::<u8>().prop_map(|byte| if byte == b'\n' { b'n' } else { byte });
        let bytes =
            prop_oneof![9 => prop::collection::vec(byte.clone(), 0..40), 1 => prop::collection::vec(byte, 0..3000)];
        bytes.prop_map(|mut row| {
            row.push(b'\n');
            row
        })
    }

    #[test]
    fn an_archive_without_data_is_its_table_of_contents() {
        let archive = SyntheticArchive::new(16, InnerCompression::None);
        let found = sequenced(&archive, 100);
        assert_eq!(found.plain.bytes, archive.toc_bytes().len() as u64);
        assert_eq!((found.placed.len(), found.large_objects), (0, Tally::default()));
        assert!(found.frames.entry.iter().all(|&entry| entry == 0));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn workers_and_sequencer_count_what_one_hasher_counts(
            tables in prop::collection::vec(prop::collection::vec(row(), 0..60), 1..5),
            objects in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..3000), 0..4),
            target in 1_usize..6000,
            cut in 1_usize..500,
        ) {
            let mut archive = SyntheticArchive::new(16, InnerCompression::None);
            for (id, rows) in (1..).zip(&tables) {
                let rows: Vec<&[u8]> = rows.iter().map(Vec::as_slice).collect();
                archive.table(id, "t", "a", &rows);
            }
            let numbered: Vec<(u32, &[u8])> = (1..).zip(objects.iter().map(Vec::as_slice)).collect();
            archive.large_objects(100, &numbered);
            let found = sequenced(&archive, target);

            for (rows, placed) in tables.iter().zip(&found.placed) {
                let mut hasher = RowHasher::new(KEY);
                for piece in rows.concat().chunks(cut) {
                    hasher.update(piece);
                }
                prop_assert_eq!(placed.tally, hasher.finish().unwrap());
                let mut one_by_one = Tally::default();
                for row in rows {
                    one_by_one.add_rows(&KEY, row);
                }
                prop_assert_eq!(placed.tally, one_by_one);
            }
            let mut all = Tally::default();
            for (oid, content) in numbered {
                let mut hasher = LargeObjectHasher::new(&KEY, oid);
                for piece in content.chunks(cut) {
                    hasher.update(piece);
                }
                all += hasher.finish();
            }
            prop_assert_eq!(found.large_objects, all);

            // Entries tile the archive, and each begins where the index says.
            let offsets: Vec<u64> = found.frames.plain_offsets();
            let mut at = archive.toc_bytes().len() as u64;
            for placed in &found.placed {
                prop_assert_eq!(offsets[placed.frame as usize] + placed.offset, at);
                at += placed.plain_bytes;
            }
            prop_assert_eq!(at, found.plain.bytes);
        }
    }
}
