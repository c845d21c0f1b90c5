//! Pages of `pg_largeobject` made into large objects.

use bytes::{Buf, BytesMut};
use pgkeep_archive::BlockWriter;

use crate::{Error, Result};

/// What a COPY in binary begins with (PostgreSQL's documentation of COPY, "Binary Format"): signature, flags, no extension.
const HEADER: &[u8; 19] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// Bytes of a page: a quarter of a block, PostgreSQL's LOBLKSIZE, for blocks of 8 KiB.
pub(super) const PAGE_BYTES: u64 = 2048;
/// Bytes that are written before somebody takes them: a few pages may stand for terabytes of holes.
const WRITTEN_AT_ONCE: u64 = 4 << 20;
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// What one statement reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reading {
    /// All pages of some objects.
    Together(Vec<u32>),
    /// A stretch of one object: it takes several statements to get to its last page.
    InStretches { oid: u32, last_page: u32 },
}

/// What is read of large objects, in order, so that no statement brings more than `most_pages`. `last_pages` are as
/// [`super::statements::last_pages`] gives them; what has no page is not read.
pub(super) fn readings(oids: &[u32], last_pages: &[Option<u32>], most_pages: u32) -> Vec<Reading> {
    let mut readings = Vec::new();
    let (mut together, mut sum) = (Vec::new(), 0);
    for (&oid, last_page) in oids.iter().zip(last_pages) {
        let Some(last_page) = *last_page else { continue };
        let pages = u64::from(last_page) + 1;
        if sum + pages > u64::from(most_pages) && !together.is_empty() {
            readings.push(Reading::Together(std::mem::take(&mut together)));
            sum = 0;
        }
        if pages > u64::from(most_pages) {
            readings.push(Reading::InStretches { oid, last_page });
        } else {
            together.push(oid);
            sum += pages;
        }
    }
    if !together.is_empty() {
        readings.push(Reading::Together(together));
    }
    readings
}

/// Writes large objects from the rows `(oid, pageno, data)` of binary COPYs, ordered as `oids` and by page.
///
/// Pages that are missing, and what is missing at the end of a page before the last, are zeros (inv_read in inv_api.c).
/// An object without pages is empty.
#[derive(Debug)]
pub(super) struct PageReader<'o> {
    oids: &'o [u32],
    /// Bytes of a page.
    page_bytes: u64,
    buffer: BytesMut,
    header: bool,
    ended: bool,
    /// The object that is open: its place in `oids`, and its bytes so far.
    open: Option<(usize, u64)>,
    /// A page that is being written, and how many zeros still come before it.
    pending: Option<(Page, u64)>,
    /// The next object to begin.
    next: usize,
    /// Of the current COPY.
    rows: u64,
    /// The page that came last, of whatever object.
    last_page: Option<u32>,
}

/// A row of `pg_largeobject`.
#[derive(Debug)]
struct Page {
    oid: u32,
    number: u32,
    data: BytesMut,
}

impl<'o> PageReader<'o> {
    pub(super) fn new(oids: &'o [u32], page_bytes: u64) -> Self {
        Self {
            oids,
            page_bytes,
            buffer: BytesMut::new(),
            header: false,
            ended: false,
            open: None,
            pending: None,
            next: 0,
            rows: 0,
            last_page: None,
        }
    }

    /// Takes the next bytes of the COPY, for [`Self::advance`].
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Writes on, for a while: whether there is more to write. An object may be one hole of terabytes.
    pub(super) fn advance(&mut self, writer: &mut BlockWriter) -> Result<bool> {
        if !self.header {
            if self.buffer.len() < HEADER.len() {
                return Ok(false);
            }
            if !self.buffer.starts_with(HEADER) {
                return Err(odd());
            }
            self.buffer.advance(HEADER.len());
            self.header = true;
        }
        let mut room = WRITTEN_AT_ONCE;
        loop {
            if let Some((page, hole)) = self.pending.take() {
                let zeros = hole.min(room);
                for _ in 0..zeros / ZEROS.len() as u64 {
                    writer.large_object_slice(&ZEROS)?;
                }
                writer.large_object_slice(&ZEROS[..(zeros % ZEROS.len() as u64) as usize])?;
                room -= zeros;
                if zeros < hole {
                    self.pending = Some((page, hole - zeros));
                    return Ok(true);
                }
                writer.large_object_slice(&page.data)?;
                room = room.saturating_sub(page.data.len() as u64);
            }
            let Some(page) = self.row()? else { return Ok(false) };
            self.begin_page(page, writer)?;
            if room == 0 {
                return Ok(true);
            }
        }
    }

    /// Takes the row at the beginning of the buffer, if all of it is there.
    fn row(&mut self) -> Result<Option<Page>> {
        let mut rest = &self.buffer[..];
        if self.ended {
            return if rest.is_empty() { Ok(None) } else { Err(odd()) };
        }
        let Ok(fields) = rest.try_get_i16() else { return Ok(None) };
        if fields == -1 {
            self.ended = true;
            self.buffer.advance(2);
            return self.row();
        }
        if fields != 3 {
            return Err(odd());
        }
        let (Some(oid), Some(number)) = (integer(&mut rest)?, integer(&mut rest)?) else { return Ok(None) };
        let Ok(length) = rest.try_get_i32() else { return Ok(None) };
        let length = usize::try_from(length).map_err(|_| odd())?;
        if rest.len() < length {
            return Ok(None);
        }
        self.buffer.advance(self.buffer.len() - rest.len());
        self.rows += 1;
        self.last_page = Some(number);
        Ok(Some(Page { oid, number, data: self.buffer.split_to(length) }))
    }

    /// Opens the page's object if need be, and finds how many zeros come before the page.
    fn begin_page(&mut self, page: Page, writer: &mut BlockWriter) -> Result<()> {
        if self.open.is_none_or(|(place, _)| self.oids[place] != page.oid) {
            self.close(writer)?;
            let empty = self.oids[self.next..].iter().position(|wanted| *wanted == page.oid).ok_or_else(odd)?;
            for _ in 0..empty {
                self.begin(writer)?;
                self.close(writer)?;
            }
            self.begin(writer)?;
        }
        let Some((_, written)) = &mut self.open else { return Err(odd()) };
        let begins = u64::from(page.number) * self.page_bytes;
        let hole = begins.checked_sub(*written).ok_or_else(odd)?;
        *written = begins + page.data.len() as u64;
        self.pending = Some((page, hole));
        Ok(())
    }

    fn begin(&mut self, writer: &mut BlockWriter) -> Result<()> {
        writer.start_large_object(self.oids[self.next])?;
        self.open = Some((self.next, 0));
        self.next += 1;
        Ok(())
    }

    fn close(&mut self, writer: &mut BlockWriter) -> Result<()> {
        if self.open.take().is_some() {
            writer.finish_large_object()?;
        }
        Ok(())
    }

    /// A COPY has ended, and all of it was written: how many pages there were. Another one may follow.
    pub(super) fn end_copy(&mut self) -> Result<u64> {
        if !self.ended || !self.buffer.is_empty() || self.pending.is_some() {
            return Err(odd());
        }
        (self.header, self.ended) = (false, false);
        Ok(std::mem::take(&mut self.rows))
    }

    /// The number of the page that came last.
    pub(super) fn last_page(&self) -> Option<u32> {
        self.last_page
    }

    /// Ends the last object and writes the empty ones behind it.
    pub(super) fn finish(mut self, writer: &mut BlockWriter) -> Result<()> {
        if self.header || !self.buffer.is_empty() {
            return Err(odd());
        }
        self.close(writer)?;
        while self.next < self.oids.len() {
            self.begin(writer)?;
            self.close(writer)?;
        }
        Ok(())
    }
}

/// A field of four bytes; `None` if it is not there yet.
fn integer(rest: &mut &[u8]) -> Result<Option<u32>> {
    if rest.len() < 8 {
        return Ok(None);
    }
    if rest.get_i32() != 4 {
        return Err(odd());
    }
    Ok(Some(rest.get_u32()))
}

fn odd() -> Error {
    Error::Statement { problem: "the pages of large objects do not come as they were asked for" }
}

#[cfg(test)]
mod tests {
    use pgkeep_archive::{Content, synthetic_entry};

    use super::*;

    fn copy(rows: &[(u32, u32, &[u8])]) -> Vec<u8> {
        let mut bytes = HEADER.to_vec();
        for (oid, page, data) in rows {
            bytes.extend(3_i16.to_be_bytes());
            for number in [oid, page] {
                bytes.extend(4_i32.to_be_bytes());
                bytes.extend(number.to_be_bytes());
            }
            bytes.extend((data.len() as i32).to_be_bytes());
            bytes.extend_from_slice(data);
        }
        bytes.extend((-1_i16).to_be_bytes());
        bytes
    }

    type Objects = Vec<(u32, Vec<u8>)>;

    /// What the objects hold, and how many pages there were.
    fn objects(oids: &[u32], streams: &[&[u8]], piece: usize) -> Result<(Objects, u64)> {
        let mut entry = synthetic_entry(7, "BLOBS", "BLOBS");
        entry.has_data = true;
        let mut writer = BlockWriter::stretch(1 << 20, [&entry], true);
        let mut reader = PageReader::new(oids, 4);
        let mut rows = 0;
        for stream in streams {
            for piece in stream.chunks(piece) {
                reader.push(piece);
                while reader.advance(&mut writer)? {}
            }
            rows += reader.end_copy()?;
        }
        reader.finish(&mut writer)?;
        writer.finish_stretch()?;
        let mut found: Vec<(u32, Vec<u8>)> = Vec::new();
        while let Some(block) = writer.take() {
            for segment in block.segments {
                let Content::LargeObject { oid, .. } = segment.content else { panic!("{segment:?}") };
                let bytes = &block.bytes[segment.range.start as usize..segment.range.end as usize];
                match found.last_mut() {
                    Some((last, content)) if *last == oid => content.extend_from_slice(bytes),
                    _ => found.push((oid, bytes.to_vec())),
                }
            }
        }
        Ok((found, rows))
    }

    #[test]
    fn holes_and_short_pages_are_zeros_and_missing_objects_empty() {
        let pages: [(u32, u32, &[u8]); 5] =
            [(3, 0, b"abcd"), (3, 1, b"e"), (3, 3, b"f"), (5, 2, b"xy"), (3_000_000_001, 0, b"z")];
        // In one COPY, and with an object that goes on in the next one, and the one after.
        let [one, first, second] = [&pages[..], &pages[..2], &pages[2..]].map(copy);
        let none = copy(&[]);
        for (streams, piece) in [
            (&[&one[..]][..], 1),
            (&[&one], 7),
            (&[&one], 1000),
            (&[&first, &none, &second], 5),
            (&[&first, &second], 1000),
        ] {
            let (found, rows) = objects(&[1, 3, 4, 5, 3_000_000_001, 3_000_000_002], streams, piece).unwrap();
            assert_eq!(rows, 5);
            let expected: [(u32, &[u8]); 6] = [
                (1, b""),
                (3, b"abcde\0\0\0\0\0\0\0f"),
                (4, b""),
                (5, b"\0\0\0\0\0\0\0\0xy"),
                (3_000_000_001, b"z"),
                (3_000_000_002, b""),
            ];
            assert_eq!(found, expected.map(|(oid, content)| (oid, content.to_vec())));
        }
    }

    #[test]
    fn a_few_pages_with_holes_between_them_are_handed_over_bit_by_bit() {
        let mut entry = synthetic_entry(7, "BLOBS", "BLOBS");
        entry.has_data = true;
        let mut writer = BlockWriter::stretch(1 << 20, [&entry], true);
        let mut reader = PageReader::new(&[3], PAGE_BYTES);
        // A byte in every mebibyte: 100 pages, 100 MiB.
        let pages: Vec<(u32, u32, &[u8])> = (0..100).map(|number| (3, number * 512, b"x".as_slice())).collect();
        reader.push(&copy(&pages));
        let mut all = 0;
        loop {
            let goes_on = reader.advance(&mut writer).unwrap();
            let mut taken = 0;
            while let Some(block) = writer.take() {
                taken += block.bytes.len() as u64;
            }
            assert!(taken <= WRITTEN_AT_ONCE + (2 << 20), "{taken}");
            all += taken;
            if !goes_on {
                break;
            }
        }
        assert!(all >= 98 << 20, "{all}");
    }

    #[test]
    fn what_was_not_asked_for_is_refused() {
        assert!(objects(&[3], &[&copy(&[(4, 0, b"a")])], 100).is_err());
        assert!(objects(&[3], &[&copy(&[(3, 1, b"a"), (3, 0, b"b")])], 100).is_err());
        let whole = copy(&[(3, 0, b"a")]);
        assert!(objects(&[3], &[&whole[..whole.len() - 1]], 100).is_err());
        assert!(objects(&[3], &[&[&whole[..], b"x"].concat()], 100).is_err());
        assert!(objects(&[3], &[&whole, &whole], 100).is_err(), "a page that came twice");
    }

    #[test]
    fn no_statement_reads_more_pages_than_it_may() {
        let oids = [1, 2, 3, 4, 5, 6, 7];
        let last_pages = [Some(0), None, Some(3), Some(10), Some(5), Some(9), Some(i32::MAX as u32)];
        let together = |oids: &[u32]| Reading::Together(oids.to_vec());
        assert_eq!(
            readings(&oids, &last_pages, 10),
            [
                together(&[1, 3]),
                Reading::InStretches { oid: 4, last_page: 10 },
                together(&[5]),
                together(&[6]),
                Reading::InStretches { oid: 7, last_page: i32::MAX as u32 },
            ]
        );
        assert_eq!(readings(&oids[..3], &last_pages, 10), [together(&[1, 3])]);
        assert_eq!(readings(&[2], &[None], 10), []);
    }
}
