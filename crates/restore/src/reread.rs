//! Reading tables back for the proof: side by side, big ones by ranges, for sums of parts add up to the sum of the whole.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use pgkeep_core::{FingerprintKey, RowHasher, Tally};
use pgkeep_dump::{Connection, quote_literal_bytes};
use tokio::task::JoinSet;

use crate::error::Doing;
use crate::sessions::DataSettings;
use crate::{Error, Result};

/// COPY text of a range, about.
const RANGE_BYTES: u64 = 32 << 20;

/// The first version with TID range scans: without them every range reads the whole table.
const TID_RANGES_SINCE: u32 = 140_000;

/// For ranges only: by their order on disk, and neither compiled nor handed to further processes (POSTGRES A4, A5).
const RANGED: &str =
    "SET enable_seqscan = off; SET enable_tidscan = on; SET jit = off; SET max_parallel_workers_per_gather = 0";
const NOT_RANGED: &str = "RESET enable_seqscan";

/// A table, or the root of a tree, with what it must hold.
#[derive(Debug, Clone)]
pub(crate) struct Unit {
    pub(crate) name: String,
    /// Reads all of it.
    pub(crate) sql: Vec<u8>,
    /// Read it range by range, if it is worth that; they tile the table.
    pub(crate) ranges: Vec<Vec<u8>>,
    pub(crate) expected: Tally,
    /// The columns' lists differ in the tree: only rows can be compared.
    pub(crate) rows_only: bool,
    /// The entries whose rows it holds.
    pub(crate) entries: Vec<i32>,
}

/// What is in the database now, or why it cannot be read.
pub(crate) type Reread = std::result::Result<Tally, Unread>;

/// SQLSTATE `insufficient_privilege`.
const INSUFFICIENT_PRIVILEGE: &str = "42501";

/// Why something cannot be read.
#[derive(Debug, Clone)]
pub(crate) struct Unread {
    pub(crate) why: String,
    /// The role may not: that says nothing about what is there.
    pub(crate) forbidden: bool,
}

/// Reads all units with up to `jobs` sessions, in their order.
pub(crate) async fn reread(
    settings: &DataSettings,
    jobs: usize,
    key: FingerprintKey,
    units: &[Unit],
) -> Result<Vec<Reread>> {
    let parts_of = |(unit, Unit { name, sql, ranges, .. }): (usize, &Unit)| {
        let ranged = !ranges.is_empty();
        let statements = if ranged { ranges.clone() } else { vec![sql.clone()] };
        let name = name.clone();
        statements.into_iter().map(move |sql| Part { unit, name: name.clone(), sql, ranged })
    };
    let parts: VecDeque<Part> = units.iter().enumerate().flat_map(parts_of).collect();
    let count = jobs.min(parts.len());
    let queue = Arc::new(Mutex::new(parts));
    let mut tasks: JoinSet<Result<Vec<(usize, Reread)>>> = JoinSet::new();
    for _ in 0..count {
        let reader = Reader { connection: settings.proof().await?, settings: settings.clone(), key, ranged: false };
        tasks.spawn(reader.run(Arc::clone(&queue)));
    }
    let mut found: Vec<Reread> = vec![Ok(Tally::default()); units.len()];
    while let Some(ended) = tasks.join_next().await {
        for (unit, part) in ended.map_err(|error| Error::Task(error.to_string()))?? {
            match (&mut found[unit], part) {
                (Ok(total), Ok(tally)) => *total += tally,
                (total, Err(why)) => *total = Err(why),
                (Err(_), Ok(_)) => {}
            }
        }
    }
    Ok(found)
}

/// One statement of a unit.
#[derive(Debug)]
struct Part {
    unit: usize,
    name: String,
    sql: Vec<u8>,
    ranged: bool,
}

/// A session that reads.
#[derive(Debug)]
struct Reader {
    connection: Connection,
    settings: DataSettings,
    key: FingerprintKey,
    /// It is set up for ranges.
    ranged: bool,
}

impl Reader {
    async fn run(mut self, queue: Arc<Mutex<VecDeque<Part>>>) -> Result<Vec<(usize, Reread)>> {
        let mut done = Vec::new();
        loop {
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some(part) = next else { break };
            let found = match self.read(&part).await {
                Ok(hasher) => hasher
                    .finish()
                    .map_err(|_| Unread { why: "the last row does not end".to_owned(), forbidden: false }),
                Err(pgkeep_dump::Error::Server(error)) if !error.is_fatal() => {
                    // Nobody needs to know where a refused COPY leaves its session.
                    self.connection = self.settings.proof().await?;
                    self.ranged = false;
                    let forbidden = error.sqlstate == INSUFFICIENT_PRIVILEGE;
                    Err(Unread { why: error.message, forbidden })
                }
                Err(error) => return Err(error).doing(format!("reading table {} for the proof", part.name)),
            };
            done.push((part.unit, found));
        }
        let _ = self.connection.close().await;
        Ok(done)
    }

    async fn read(&mut self, part: &Part) -> std::result::Result<RowHasher, pgkeep_dump::Error> {
        if self.ranged != part.ranged {
            self.connection.execute(if part.ranged { RANGED } else { NOT_RANGED }).await?;
            self.ranged = part.ranged;
        }
        read(&mut self.connection, &part.sql, RowHasher::new(self.key), RowHasher::update).await
    }
}

/// Feeds a COPY's text to a hasher.
pub(crate) async fn read<H>(
    connection: &mut Connection,
    sql: &[u8],
    mut hasher: H,
    update: impl Fn(&mut H, &[u8]),
) -> std::result::Result<H, pgkeep_dump::Error> {
    let mut copy = connection.copy_out(sql).await?;
    while let Some(bytes) = copy.next().await? {
        update(&mut hasher, &bytes);
    }
    Ok(hasher)
}

/// Statements that read a plain heap table range by range, tiling it from its first page to wherever it ends (POSTGRES
/// A5); none if it is not worth it, or not one. `table` is its name for SQL, `columns` its list.
pub(crate) async fn ranges(
    connection: &mut Connection,
    table: &[u8],
    columns: &[u8],
    bytes: u64,
) -> std::result::Result<Vec<Vec<u8>>, pgkeep_dump::Error> {
    if bytes < 2 * RANGE_BYTES || connection.server_version() < TID_RANGES_SINCE {
        return Ok(Vec::new());
    }
    let sql = [
        b"SELECT pg_catalog.pg_relation_size(c.oid) / pg_catalog.current_setting('block_size')::integer \
          FROM pg_catalog.pg_class c JOIN pg_catalog.pg_am a ON a.oid = c.relam \
          WHERE c.relkind = 'r' AND a.amname = 'heap' AND c.oid = ",
        &quote_literal_bytes(table)[..],
        b"::pg_catalog.regclass",
    ];
    let pages = connection.query(sql.concat()).await?;
    let Some(pages) = pages.first().map(|row| row.get::<u64>(0)).transpose()? else { return Ok(Vec::new()) };
    Ok(tiles(pages, bytes.div_ceil(RANGE_BYTES))
        .into_iter()
        .map(|(from, to)| {
            let mut sql = [b"COPY (SELECT ", columns, b" FROM ONLY ", table].concat();
            sql.extend(format!(" WHERE ctid >= '({from},0)'").into_bytes());
            if let Some(to) = to {
                sql.extend(format!(" AND ctid < '({to},0)'").into_bytes());
            }
            sql.extend(b") TO STDOUT");
            sql
        })
        .collect())
}

/// About `count` ranges of pages, the last without end.
fn tiles(pages: u64, count: u64) -> Vec<(u64, Option<u64>)> {
    let step = pages.div_ceil(count.max(1)).max(1);
    let starts: Vec<u64> = (0..pages.max(1)).step_by(usize::try_from(step).unwrap_or(usize::MAX)).collect();
    starts.iter().enumerate().map(|(at, &from)| (from, starts.get(at + 1).copied())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_tile_the_table() {
        assert_eq!(tiles(10, 3), [(0, Some(4)), (4, Some(8)), (8, None)]);
        assert_eq!(tiles(0, 3), [(0, None)]);
        for (pages, count) in [(1, 1), (7, 7), (113, 40), (5, 9), (1 << 20, 17)] {
            let tiles = tiles(pages, count);
            assert_eq!((tiles[0].0, tiles.last().unwrap().1), (0, None));
            assert!(tiles.windows(2).all(|pair| pair[0].1 == Some(pair[1].0)));
            assert!(tiles.len() as u64 <= count.min(pages));
        }
    }
}
