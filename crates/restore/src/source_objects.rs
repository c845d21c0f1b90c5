//! Large objects of the source, by their pages: who may read all tables may read those, and each page says how old it is.

use pgkeep_core::{FingerprintKey, LargeObjectHasher, Tally};
use pgkeep_dump::Connection;
use tokio::task::JoinSet;

use crate::ages::{Ages, UNKNOWN};
use crate::error::Doing;
use crate::sessions::DataSettings;
use crate::{Error, Result};

/// Content of a page that is not the last: a quarter of the server's pages (LOBLKSIZE in large_object.h).
const PAGES_IN_A_BLOCK: usize = 4;

static ZEROS: [u8; 16 << 10] = [0; 16 << 10];

const DOING: &str = "reading the source's large objects";

/// What there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Objects {
    pub(crate) all: Tally,
    /// Those of which nothing was written since the backup's snapshot.
    pub(crate) untouched: Tally,
    /// How many were there at that snapshot, whatever was written to them since.
    pub(crate) existed: u64,
}

impl Objects {
    fn absorb(&mut self, other: Self) {
        self.all += other.all;
        self.untouched += other.untouched;
        self.existed += other.existed;
    }
}

/// Reads every large object with up to `jobs` sessions.
pub(crate) async fn objects(
    settings: &DataSettings,
    jobs: usize,
    key: FingerprintKey,
    ages: Option<&Ages>,
) -> Result<Objects> {
    let mut connection = settings.proof().await?;
    let sql = format!(
        "SELECT min(oid) FROM (SELECT oid, ntile({}) OVER (ORDER BY oid) AS share FROM pg_catalog.pg_largeobject_metadata) AS objects \
         GROUP BY share ORDER BY 1",
        jobs.max(1)
    );
    let firsts = connection.query(sql).await.doing(DOING)?;
    let firsts = firsts.iter().map(|row| row.get::<u32>(0)).collect::<Result<Vec<_>, _>>().doing(DOING)?;
    let row = connection.query_one("SELECT pg_catalog.current_setting('block_size')").await.doing(DOING)?;
    let page_bytes = row.get::<usize>(0).doing(DOING)? / PAGES_IN_A_BLOCK;
    let _ = connection.close().await;
    let mut tasks: JoinSet<Result<Objects>> = JoinSet::new();
    for (at, &first) in firsts.iter().enumerate() {
        let sql = statement(first, firsts.get(at + 1).copied(), ages);
        let mut connection = settings.proof().await?;
        tasks.spawn(async move {
            let objects = share(&mut connection, &sql, Reader::new(key, page_bytes)).await?;
            let _ = connection.close().await;
            Ok(objects)
        });
    }
    let mut total = Objects::default();
    while let Some(ended) = tasks.join_next().await {
        total.absorb(ended.map_err(|error| Error::Task(error.to_string()))??);
    }
    Ok(total)
}

/// Every page of the objects from `first` on and before `end`, in order: object, its age, page, its age, content.
fn statement(first: u32, end: Option<u32>, ages: Option<&Ages>) -> String {
    let age = |column: &str| ages.map_or_else(|| UNKNOWN.to_owned(), |ages| ages.sql(column));
    let end = end.map_or_else(String::new, |end| format!(" AND m.oid < {end}"));
    format!(
        "COPY (SELECT o.oid, o.age, p.pageno, p.age, pg_catalog.encode(p.data, 'hex') FROM (SELECT m.oid, {} AS age \
         FROM pg_catalog.pg_largeobject_metadata m WHERE m.oid >= {first}{end} ORDER BY m.oid) o LEFT JOIN LATERAL \
         (SELECT l.pageno, {} AS age, l.data FROM pg_catalog.pg_largeobject l WHERE l.loid = o.oid ORDER BY l.pageno) p ON true) TO STDOUT",
        age("m.xmin"),
        age("l.xmin")
    )
}

async fn share(connection: &mut Connection, sql: &str, mut reader: Reader) -> Result<Objects> {
    // By the index, which is in order.
    let by_index = "SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; \
                    SET max_parallel_workers_per_gather = 0; SET jit = off";
    connection.execute(by_index).await.doing(DOING)?;
    let mut copy = connection.copy_out(sql).await.doing(DOING)?;
    while let Some(bytes) = copy.next().await.doing(DOING)? {
        reader.update(&bytes)?;
    }
    reader.finish()
}

/// Puts pages together.
#[derive(Debug)]
struct Reader {
    key: FingerprintKey,
    page_bytes: usize,
    /// A line that has not ended yet.
    partial: Vec<u8>,
    current: Option<Object>,
    objects: Objects,
}

/// An object whose pages are coming.
#[derive(Debug)]
struct Object {
    oid: u32,
    bytes: usize,
    hasher: LargeObjectHasher,
    untouched: bool,
}

impl Reader {
    fn new(key: FingerprintKey, page_bytes: usize) -> Self {
        Self { key, page_bytes, partial: Vec::new(), current: None, objects: Objects::default() }
    }

    fn update(&mut self, mut text: &[u8]) -> Result<()> {
        while let Some(end) = memchr::memchr(b'\n', text) {
            let (line, rest) = (&text[..end], &text[end + 1..]);
            if self.partial.is_empty() {
                self.line(line)?;
            } else {
                self.partial.extend_from_slice(line);
                let line = std::mem::take(&mut self.partial);
                self.line(&line)?;
            }
            text = rest;
        }
        self.partial.extend_from_slice(text);
        Ok(())
    }

    fn line(&mut self, line: &[u8]) -> Result<()> {
        let broken = || Error::Task("the server's large objects do not come in order".to_owned());
        let fields: Vec<&[u8]> = line.split(|&byte| byte == b'\t').collect();
        let [oid, age, page, page_age, content] = fields[..] else { return Err(broken()) };
        let number = |text: &[u8]| std::str::from_utf8(text).ok()?.parse::<u32>().ok();
        let oid = number(oid).ok_or_else(broken)?;
        if self.current.as_ref().is_none_or(|object| object.oid != oid) {
            if self.current.as_ref().is_some_and(|object| object.oid > oid) {
                return Err(broken());
            }
            self.close();
            let existed = age == b"0";
            self.objects.existed += u64::from(existed);
            let hasher = LargeObjectHasher::new(&self.key, oid);
            self.current = Some(Object { oid, bytes: 0, hasher, untouched: existed });
        }
        let (page_bytes, Some(object)) = (self.page_bytes, &mut self.current) else { return Ok(()) };
        // An object without content has no page.
        if page == b"\\N" {
            return Ok(());
        }
        let begin = number(page).ok_or_else(broken)? as usize * page_bytes;
        let content = hex::decode(content).map_err(|_| broken())?;
        // Pages that are not there, and what is missing of short ones, are zeros.
        let hole = begin.checked_sub(object.bytes).ok_or_else(broken)?;
        let mut left = hole;
        while left > 0 {
            let some = left.min(ZEROS.len());
            object.hasher.update(&ZEROS[..some]);
            left -= some;
        }
        object.hasher.update(&content);
        object.bytes = begin + content.len();
        object.untouched &= page_age == b"0";
        Ok(())
    }

    fn close(&mut self) {
        if let Some(object) = self.current.take() {
            let tally = object.hasher.finish();
            self.objects.all += tally;
            if object.untouched {
                self.objects.untouched += tally;
            }
        }
    }

    fn finish(mut self) -> Result<Objects> {
        if !self.partial.is_empty() {
            return Err(Error::Task("the server's last large object does not end".to_owned()));
        }
        self.close();
        Ok(self.objects)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: FingerprintKey = FingerprintKey([7; 32]);

    fn tally(oid: u32, content: &[u8]) -> Tally {
        let mut hasher = LargeObjectHasher::new(&KEY, oid);
        hasher.update(content);
        hasher.finish()
    }

    fn read(text: &[u8], size: usize) -> Result<Objects> {
        let mut reader = Reader::new(KEY, 4);
        for piece in text.chunks(size) {
            reader.update(piece)?;
        }
        reader.finish()
    }

    #[test]
    fn pages_holes_and_short_pages_are_put_together() {
        let text = b"5\t0\t0\t0\t61626364\n5\t0\t1\t0\t65\n7\t0\t\\N\t\\N\t\\N\n3000000001\t0\t0\t0\t61\n3000000001\t0\t3\t2\t62\n4000000000\t2\t0\t2\t63\n";
        let untouched = [tally(5, b"abcde"), tally(7, b"")];
        let touched = [tally(3_000_000_001, b"a\0\0\0\0\0\0\0\0\0\0\0b"), tally(4_000_000_000, b"c")];
        let mut expected = Objects { existed: 3, ..Objects::default() };
        untouched.into_iter().for_each(|tally| expected.untouched += tally);
        untouched.into_iter().chain(touched).for_each(|tally| expected.all += tally);
        for size in [1, 3, 1000] {
            assert_eq!(read(text, size).unwrap(), expected, "{size}");
        }
        assert_eq!(read(b"", 1).unwrap(), Objects::default());
    }

    #[test]
    fn what_is_out_of_order_or_cut_off_is_an_error() {
        for text in [
            "5\t0\t1\t0\t61\n5\t0\t0\t0\t61\n",
            "5\t0\t0\t0\t61\n4\t0\t0\t0\t61\n",
            "5\t0\t0\t0\t61",
            "5\t0\n",
            "5\t0\t0\t0\tx\n",
        ] {
            assert!(read(text.as_bytes(), 100).is_err(), "{text}");
        }
    }
}
