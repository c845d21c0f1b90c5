//! Pages of `pg_largeobject` made into large objects.

use bytes::{Buf, BytesMut};
use pgkeep_archive::BlockWriter;

use crate::{Error, Result};

/// What a COPY in binary begins with (PostgreSQL's documentation of COPY, "Binary Format"): signature, flags, no extension.
const HEADER: &[u8; 19] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// Bytes of a hole that are written before somebody takes them.
const ZEROS_AT_ONCE: u64 = 4 << 20;
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// Writes large objects from the rows `(oid, pageno, data)` of a binary COPY, ordered as `oids` and by page.
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
    rows: u64,
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
        let buffer = BytesMut::new();
        Self { oids, page_bytes, buffer, header: false, ended: false, open: None, pending: None, next: 0, rows: 0 }
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
        loop {
            if let Some((page, hole)) = self.pending.take() {
                let zeros = hole.min(ZEROS_AT_ONCE);
                for _ in 0..zeros / ZEROS.len() as u64 {
                    writer.large_object_slice(&ZEROS)?;
                }
                writer.large_object_slice(&ZEROS[..(zeros % ZEROS.len() as u64) as usize])?;
                if zeros < hole {
                    self.pending = Some((page, hole - zeros));
                    return Ok(true);
                }
                writer.large_object_slice(&page.data)?;
            }
            let Some(page) = self.row()? else { return Ok(false) };
            self.begin_page(page, writer)?;
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

    /// Ends the last object and writes the empty ones behind it; how many pages there were.
    pub(super) fn finish(mut self, writer: &mut BlockWriter) -> Result<u64> {
        if !self.ended || !self.buffer.is_empty() || self.pending.is_some() {
            return Err(odd());
        }
        self.close(writer)?;
        while self.next < self.oids.len() {
            self.begin(writer)?;
            self.close(writer)?;
        }
        Ok(self.rows)
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
    fn objects(oids: &[u32], stream: &[u8], piece: usize) -> Result<(Objects, u64)> {
        let mut entry = synthetic_entry(7, "BLOBS", "BLOBS");
        entry.has_data = true;
        let mut writer = BlockWriter::stretch(1 << 20, [&entry], true);
        let mut reader = PageReader::new(oids, 4);
        for piece in stream.chunks(piece) {
            reader.push(piece);
            while reader.advance(&mut writer)? {}
        }
        let rows = reader.finish(&mut writer)?;
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
        let stream = copy(&[(3, 0, b"abcd"), (3, 1, b"e"), (3, 3, b"f"), (5, 2, b"xy"), (3_000_000_001, 0, b"z")]);
        for piece in [1, 7, 1000] {
            let (found, rows) = objects(&[1, 3, 4, 5, 3_000_000_001, 3_000_000_002], &stream, piece).unwrap();
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
    fn what_was_not_asked_for_is_refused() {
        assert!(objects(&[3], &copy(&[(4, 0, b"a")]), 100).is_err());
        assert!(objects(&[3], &copy(&[(3, 1, b"a"), (3, 0, b"b")]), 100).is_err());
        let whole = copy(&[(3, 0, b"a")]);
        assert!(objects(&[3], &whole[..whole.len() - 1], 100).is_err());
        assert!(objects(&[3], &[&whole[..], b"x"].concat(), 100).is_err());
    }
}
