//! From bytes to a [`Toc`], as they arrive.
//!
//! The layout is that of `ReadHead`, `ReadToc` and `_ReadExtraToc` in PostgreSQL's
//! src/bin/pg_dump/pg_backup_archiver.c and pg_backup_custom.c.

use std::collections::HashSet;
use std::ops::Range;

use bytes::Bytes;

use crate::input::{INT_BYTES, int_of};
use crate::toc::Index;
use crate::{DataOffset, Error, InnerCompression, PgText, Result, Section, Toc, TocEntry};

/// Longest text that is believed in a header or TOC. PostgreSQL itself cannot hold a value of more than 1 GiB, and
/// definitions are far shorter; a damaged length field must not make us wait for gigabytes.
const LONGEST_TEXT: usize = 256 << 20;

/// Offset of the compression field in every archive since 1.4.
pub(crate) const COMPRESSION_AT: usize = 11;

/// The first minor version of format 1 with …
pub(crate) mod since {
    /// … the oldest layout that is read here (PostgreSQL 9.0).
    pub(crate) const OLDEST: u8 = 12;
    /// … a table access method per entry (PostgreSQL 12).
    pub(crate) const ACCESS_METHOD: u8 = 14;
    /// … a compression algorithm in place of a gzip level (PostgreSQL 16).
    pub(crate) const ALGORITHM: u8 = 15;
    /// … a relkind per entry (PostgreSQL 17).
    pub(crate) const RELKIND: u8 = 16;
    /// … the newest layout that is read here (PostgreSQL 18).
    pub(crate) const NEWEST: u8 = 16;
}

impl Toc {
    /// Reads header and TOC from their bytes, which must end where the TOC ends.
    pub fn parse(raw: Bytes) -> Result<Self> {
        let mut parser = TocParser::default();
        match parser.advance(&raw)? {
            Some(end) if end == raw.len() => parser.finish(raw),
            Some(end) => Err(Error::damaged(end as u64, "the end of the table of contents")),
            None => Err(Error::damaged(raw.len() as u64, parser.expected())),
        }
    }
}

/// Where the first entry of a TOC stands, in bytes from the beginning of the archive.
pub(crate) fn first_entry(raw: &[u8]) -> Result<usize> {
    let mut cursor = Cursor { bytes: raw, at: 0 };
    match Header::read(&mut cursor) {
        Ok(_) => Ok(cursor.at),
        Err(Stop::Bad(error)) => Err(error),
        Err(Stop::Short { .. }) => Err(Error::damaged(raw.len() as u64, "the archive's header")),
    }
}

/// Finds the end of a TOC in a growing buffer, noting on the way where everything lies.
#[derive(Debug, Default)]
pub(crate) struct TocParser {
    header: Option<Header>,
    entries: Vec<EntryPlan>,
    ids: HashSet<i32>,
    /// Where the next header or entry begins.
    at: usize,
    /// It is no use trying again with fewer bytes.
    enough: usize,
}

impl TocParser {
    /// Reads on in `raw`, which begins at the archive's first byte and has grown since the last call. Gives the length of
    /// header and TOC once they are complete.
    pub(crate) fn advance(&mut self, raw: &[u8]) -> Result<Option<usize>> {
        if raw.len() < self.enough {
            return Ok(None);
        }
        match self.read(raw) {
            Ok(end) => Ok(Some(end)),
            Err(Stop::Short { enough }) => {
                self.enough = enough;
                Ok(None)
            }
            Err(Stop::Bad(error)) => Err(error),
        }
    }

    /// What would come next, for the error when nothing does.
    pub(crate) fn expected(&self) -> String {
        match &self.header {
            None => "the archive's header".to_owned(),
            Some(header) => format!("entry {} of {} in the table of contents", self.entries.len() + 1, header.count),
        }
    }

    fn read(&mut self, raw: &[u8]) -> Result<usize, Stop> {
        if self.header.is_none() {
            let mut cursor = Cursor { bytes: raw, at: 0 };
            self.header = Some(Header::read(&mut cursor)?);
            self.at = cursor.at;
        }
        if let Some(header) = &self.header {
            while self.entries.len() < header.count as usize {
                let mut cursor = Cursor { bytes: raw, at: self.at };
                let entry = EntryPlan::read(&mut cursor, header.minor)?;
                if !self.ids.insert(entry.dump_id) {
                    return Err(cursor.bad(self.at, format!("a dump id other than {}, which is taken", entry.dump_id)));
                }
                self.at = cursor.at;
                self.entries.push(entry);
            }
        }
        Ok(self.at)
    }

    /// The TOC, from the very bytes that were read.
    pub(crate) fn finish(self, raw: Bytes) -> Result<Toc> {
        let Some(header) = self.header else {
            return Err(Error::damaged(0, "the archive's header"));
        };
        let text = |span: &Range<usize>| PgText(raw.slice(span.clone()));
        let maybe = |span: &Option<Range<usize>>| span.as_ref().map(text);
        let string = |span: &Option<Range<usize>>| maybe(span).unwrap_or_default().lossy();
        let entries = self
            .entries
            .into_iter()
            .map(|plan| TocEntry {
                dump_id: plan.dump_id,
                has_data: plan.has_data,
                catalog_oid: plan.catalog_oid,
                oid: plan.oid,
                tag: text(&plan.tag),
                desc: text(&plan.desc).lossy(),
                section: plan.section,
                definition: maybe(&plan.definition).unwrap_or_default(),
                drop: maybe(&plan.drop).unwrap_or_default(),
                copy: maybe(&plan.copy).unwrap_or_default(),
                namespace: maybe(&plan.namespace),
                tablespace: maybe(&plan.tablespace),
                access_method: maybe(&plan.access_method),
                relkind: plan.relkind,
                owner: maybe(&plan.owner),
                dependencies: plan.dependencies,
                offset: plan.offset,
                offset_position: plan.offset_position as u64,
            })
            .collect();
        Ok(Toc {
            format: (1, header.minor, header.revision),
            compression: header.compression,
            created: header.created,
            database: maybe(&header.database).unwrap_or_default(),
            server_version: string(&header.server_version),
            dump_version: string(&header.dump_version),
            entries,
            raw,
            index: Index::default(),
        })
    }
}

/// Why reading stopped.
enum Stop {
    /// The buffer ends; at least `enough` bytes of it are needed to get further.
    Short { enough: usize },
    /// The bytes are wrong.
    Bad(Error),
}

struct Cursor<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl Cursor<'_> {
    #[expect(clippy::unused_self, reason = "reads as the cursor's word")]
    fn bad(&self, at: usize, expected: impl Into<String>) -> Stop {
        Stop::Bad(Error::damaged(at as u64, expected))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Stop> {
        let bytes = self.bytes.get(self.at..).and_then(<[u8]>::first_chunk::<N>);
        let bytes = *bytes.ok_or(Stop::Short { enough: self.at + N })?;
        self.at += N;
        Ok(bytes)
    }

    fn byte(&mut self) -> Result<u8, Stop> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn int(&mut self) -> Result<i32, Stop> {
        let at = self.at;
        int_of(self.array::<INT_BYTES>()?).ok_or_else(|| self.bad(at, "an integer's sign byte, 0 or 1"))
    }

    /// A number that is never negative.
    fn natural(&mut self, what: &str) -> Result<u32, Stop> {
        let at = self.at;
        u32::try_from(self.int()?).map_err(|_| self.bad(at, what))
    }

    fn text(&mut self) -> Result<Option<Range<usize>>, Stop> {
        let at = self.at;
        let length = match self.int()? {
            -1 => return Ok(None),
            length => usize::try_from(length).ok().filter(|&length| length <= LONGEST_TEXT),
        };
        let length = length.ok_or_else(|| self.bad(at, format!("the length of a text, at most {LONGEST_TEXT}")))?;
        let span = self.at..self.at + length;
        if span.end > self.bytes.len() {
            return Err(Stop::Short { enough: span.end });
        }
        self.at = span.end;
        Ok(Some(span))
    }

    fn some_text(&mut self, what: &str) -> Result<Range<usize>, Stop> {
        let at = self.at;
        self.text()?.ok_or_else(|| self.bad(at, what))
    }

    /// A number that is written as text.
    fn number<T: std::str::FromStr>(&mut self, what: &str) -> Result<Option<T>, Stop> {
        let at = self.at;
        let Some(span) = self.text()? else {
            return Ok(None);
        };
        let number = std::str::from_utf8(&self.bytes[span]).ok().and_then(|text| text.parse().ok());
        number.map(Some).ok_or_else(|| self.bad(at, what))
    }

    fn oid(&mut self, what: &str) -> Result<u32, Stop> {
        let at = self.at;
        self.number(what)?.ok_or_else(|| self.bad(at, what))
    }
}

#[derive(Debug)]
struct Header {
    minor: u8,
    revision: u8,
    compression: InnerCompression,
    created: (i32, u32, u32, u32, u32, u32),
    database: Option<Range<usize>>,
    server_version: Option<Range<usize>>,
    dump_version: Option<Range<usize>>,
    count: u32,
}

impl Header {
    fn read(cursor: &mut Cursor<'_>) -> Result<Self, Stop> {
        let known = cursor.bytes.len().min(5);
        if cursor.bytes[..known] != b"PGDMP"[..known] {
            return Err(cursor.bad(0, "PGDMP, the beginning of a custom-format archive"));
        }
        cursor.array::<5>()?;
        let unsupported = |what: String| Stop::Bad(Error::Unsupported { what });
        let [major, minor, revision] = cursor.array()?;
        if major != 1 || !(since::OLDEST..=since::NEWEST).contains(&minor) {
            return Err(unsupported(format!("archive format {major}.{minor}")));
        }
        let [int_bytes, offset_bytes, format] = cursor.array()?;
        if int_bytes != 4 {
            return Err(unsupported(format!("an integer size of {int_bytes} bytes")));
        }
        if offset_bytes != 8 {
            return Err(unsupported(format!("an offset size of {offset_bytes} bytes")));
        }
        if format != 1 {
            return Err(unsupported(format!("an archive of kind {format} (1 is custom, 3 tar, 5 directory)")));
        }
        let at = cursor.at;
        let compression = if minor >= since::ALGORITHM {
            match cursor.byte()? {
                0 => InnerCompression::None,
                1 => InnerCompression::Gzip,
                2 => InnerCompression::Lz4,
                3 => InnerCompression::Zstd,
                _ => return Err(cursor.bad(at, "a compression algorithm, 0 to 3")),
            }
        } else {
            match cursor.int()? {
                0 => InnerCompression::None,
                -1..=9 => InnerCompression::Gzip,
                _ => return Err(cursor.bad(at, "a compression level, -1 to 9")),
            }
        };
        Ok(Self {
            minor,
            revision,
            compression,
            created: created(cursor)?,
            database: cursor.text()?,
            server_version: cursor.text()?,
            dump_version: cursor.text()?,
            count: cursor.natural("the number of entries")?,
        })
    }
}

/// The seven integers of C's `struct tm`, from seconds to "is daylight saving time".
fn created(cursor: &mut Cursor<'_>) -> Result<(i32, u32, u32, u32, u32, u32), Stop> {
    let second = cursor.natural("the second of the dump's time")?;
    let minute = cursor.natural("the minute of the dump's time")?;
    let hour = cursor.natural("the hour of the dump's time")?;
    let day = cursor.natural("the day of the dump's time")?;
    let month = cursor.natural("the month of the dump's time")?;
    let year = cursor.int()?;
    cursor.int()?;
    Ok((year.saturating_add(1900), month.saturating_add(1), day, hour, minute, second))
}

/// An entry with its texts as places in the buffer.
#[derive(Debug)]
struct EntryPlan {
    dump_id: i32,
    has_data: bool,
    catalog_oid: u32,
    oid: u32,
    tag: Range<usize>,
    desc: Range<usize>,
    section: Section,
    definition: Option<Range<usize>>,
    drop: Option<Range<usize>>,
    copy: Option<Range<usize>>,
    namespace: Option<Range<usize>>,
    tablespace: Option<Range<usize>>,
    access_method: Option<Range<usize>>,
    relkind: Option<char>,
    owner: Option<Range<usize>>,
    dependencies: Vec<i32>,
    offset: DataOffset,
    offset_position: usize,
}

impl EntryPlan {
    fn read(cursor: &mut Cursor<'_>, minor: u8) -> Result<Self, Stop> {
        let at = cursor.at;
        let dump_id = cursor.int()?;
        if dump_id <= 0 {
            return Err(cursor.bad(at, "a dump id, 1 or greater"));
        }
        let at = cursor.at;
        let has_data = match cursor.int()? {
            0 => false,
            1 => true,
            _ => return Err(cursor.bad(at, "whether the entry has data, 0 or 1")),
        };
        let catalog_oid = cursor.oid("the catalog's OID in digits")?;
        let oid = cursor.oid("the object's OID in digits")?;
        let tag = cursor.some_text("the entry's name")?;
        let desc = cursor.some_text("the entry's type")?;
        let at = cursor.at;
        let section = match cursor.int()? {
            1 => Section::None,
            2 => Section::PreData,
            3 => Section::Data,
            4 => Section::PostData,
            _ => return Err(cursor.bad(at, "a section, 1 to 4")),
        };
        let definition = cursor.text()?;
        let drop = cursor.text()?;
        let copy = cursor.text()?;
        let namespace = cursor.text()?;
        let tablespace = cursor.text()?;
        let access_method = if minor >= since::ACCESS_METHOD { cursor.text()? } else { None };
        let relkind = if minor >= since::RELKIND { relkind(cursor)? } else { None };
        let owner = cursor.text()?;
        let at = cursor.at;
        let with_oids = cursor.text()?;
        if with_oids.is_some_and(|span| cursor.bytes[span] == *b"true") {
            return Err(Stop::Bad(Error::Unsupported { what: format!("a table WITH OIDS (byte {at})") }));
        }
        let mut dependencies = Vec::new();
        while let Some(dependency) = cursor.number("a dump id in digits")? {
            dependencies.push(dependency);
        }
        let offset_position = cursor.at;
        let offset = offset(cursor, has_data)?;
        Ok(Self {
            dump_id,
            has_data,
            catalog_oid,
            oid,
            tag,
            desc,
            section,
            definition,
            drop,
            copy,
            namespace,
            tablespace,
            access_method,
            relkind,
            owner,
            dependencies,
            offset,
            offset_position,
        })
    }
}

fn relkind(cursor: &mut Cursor<'_>) -> Result<Option<char>, Stop> {
    let at = cursor.at;
    match u8::try_from(cursor.int()?) {
        Ok(0) => Ok(None),
        Ok(kind) if kind.is_ascii_alphabetic() => Ok(Some(char::from(kind))),
        _ => Err(cursor.bad(at, "a relkind, a letter or 0")),
    }
}

fn offset(cursor: &mut Cursor<'_>, has_data: bool) -> Result<DataOffset, Stop> {
    let at = cursor.at;
    let [flag, offset @ ..] = cursor.array::<9>()?;
    match (flag, has_data) {
        (1, true) => Ok(DataOffset::NotSet),
        (2, true) => Ok(DataOffset::At(u64::from_le_bytes(offset))),
        (3, false) => Ok(DataOffset::NoData),
        _ => Err(cursor.bad(at, "an offset's flag that agrees with whether the entry has data")),
    }
}
