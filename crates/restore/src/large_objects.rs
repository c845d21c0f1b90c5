//! Contents of large objects: gathered into bounded statements, written by whichever lane is free; read back for the proof.

use std::fmt::Write as _;

use bytes::Bytes;
use pgkeep_core::{FingerprintKey, LargeObjectHasher, Tally};
use pgkeep_dump::Connection;
use tokio::task::JoinSet;

use crate::error::Doing;
use crate::sessions::DataSettings;
use crate::{Error, Result};

/// A statement is sent once it has this much content; it never has twice as much. A long object is cut at multiples of
/// this, and so at the bounds of the server's pages (LOBLKSIZE): several sessions may write to it, and no two to one page.
const BATCH_BYTES: usize = 256 << 10;
/// Statements are also sent after this many objects.
const BATCH_OBJECTS: usize = 1000;
/// Bytes read of one object at once.
const READ_BYTES: u64 = 256 << 10;
/// Objects read at once.
const READ_OBJECTS: usize = 32;

/// Contents for one statement.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    parts: Vec<Part>,
    bytes: usize,
}

/// A part of an object, at its place.
#[derive(Debug)]
struct Part {
    oid: u32,
    offset: u64,
    content: Vec<Bytes>,
}

impl Batch {
    /// The statement that writes them. `decode` and not a bytea literal: it means the same whatever
    /// `standard_conforming_strings` says.
    pub(crate) fn statement(&self) -> String {
        let mut sql = String::with_capacity(2 * self.bytes + 64 * self.parts.len() + 256);
        sql.push_str(
            "SELECT pg_catalog.lo_put(part.oid, part.at, pg_catalog.decode(part.content, 'hex')) FROM (VALUES ",
        );
        for (number, part) in self.parts.iter().enumerate() {
            let comma = if number == 0 { "" } else { ", " };
            let _ = write!(sql, "{comma}({}::pg_catalog.oid, {}::bigint, '", part.oid, part.offset);
            for bytes in &part.content {
                sql.push_str(&hex::encode(bytes));
            }
            sql.push_str("')");
        }
        sql.push_str(") AS part (oid, at, content)");
        sql
    }
}

/// Gathers contents as they come, and tallies them.
#[derive(Debug)]
pub(crate) struct LargeObjects {
    key: FingerprintKey,
    tally: Tally,
    current: Option<(u32, u64, LargeObjectHasher)>,
    batch: Batch,
}

impl LargeObjects {
    /// Nothing yet.
    pub(crate) fn new(key: FingerprintKey) -> Self {
        Self { key, tally: Tally::default(), current: None, batch: Batch::default() }
    }

    /// An object begins.
    pub(crate) fn start(&mut self, oid: u32) {
        self.current = Some((oid, 0, LargeObjectHasher::new(&self.key, oid)));
    }

    /// Takes the next of `content`; a batch, once there is enough for one. Whatever it leaves is to be given again.
    pub(crate) fn content(&mut self, content: &mut Bytes) -> Option<Batch> {
        let Some((oid, offset, hasher)) = &mut self.current else {
            content.clear();
            return None;
        };
        let room = BATCH_BYTES - (*offset % BATCH_BYTES as u64) as usize;
        let bytes = content.split_to(content.len().min(room));
        if bytes.is_empty() {
            return None;
        }
        hasher.update(&bytes);
        self.batch.bytes += bytes.len();
        let at = *offset;
        *offset += bytes.len() as u64;
        let cut = offset.is_multiple_of(BATCH_BYTES as u64);
        match self.batch.parts.last_mut().filter(|part| part.oid == *oid) {
            Some(part) => part.content.push(bytes),
            None => self.batch.parts.push(Part { oid: *oid, offset: at, content: vec![bytes] }),
        }
        if cut { self.full() } else { None }
    }

    /// The object ends; a batch, once there is enough for one.
    pub(crate) fn end(&mut self) -> Option<Batch> {
        if let Some((_, _, hasher)) = self.current.take() {
            self.tally += hasher.finish();
        }
        self.full()
    }

    fn full(&mut self) -> Option<Batch> {
        let full = self.batch.bytes >= BATCH_BYTES || self.batch.parts.len() >= BATCH_OBJECTS;
        full.then(|| std::mem::take(&mut self.batch))
    }

    /// The last batch, if there is one, and the tally of all objects.
    pub(crate) fn finish(self) -> (Option<Batch>, Tally) {
        (Some(self.batch).filter(|batch| !batch.parts.is_empty()), self.tally)
    }
}

/// Reads every large object of the database with up to `jobs` sessions; the tally of all of them.
pub(crate) async fn tally(settings: &DataSettings, jobs: usize, key: FingerprintKey) -> Result<Tally> {
    let doing = "reading large objects for the proof";
    let mut connection = settings.proof().await?;
    let firsts = connection
        .query(format!(
            "SELECT min(oid) FROM (SELECT oid, ntile({}) OVER (ORDER BY oid) AS share FROM pg_catalog.pg_largeobject_metadata) AS objects \
             GROUP BY share ORDER BY 1",
            jobs.max(1)
        ))
        .await
        .doing(doing)?;
    let firsts = firsts.iter().map(|row| row.get::<u32>(0)).collect::<Result<Vec<_>, _>>().doing(doing)?;
    let _ = connection.close().await;
    let mut tasks: JoinSet<Result<Tally>> = JoinSet::new();
    for (at, &first) in firsts.iter().enumerate() {
        let end = firsts.get(at + 1).copied();
        let mut connection = settings.proof().await?;
        tasks.spawn(async move {
            let tally = tally_from(&mut connection, &key, first, end).await.doing(doing)?;
            let _ = connection.close().await;
            Ok(tally)
        });
    }
    let mut total = Tally::default();
    while let Some(ended) = tasks.join_next().await {
        total += ended.map_err(|error| Error::Task(error.to_string()))??;
    }
    Ok(total)
}

/// Those from `first` on, and before `end`.
async fn tally_from(
    connection: &mut Connection,
    key: &FingerprintKey,
    first: u32,
    end: Option<u32>,
) -> Result<Tally, pgkeep_dump::Error> {
    let mut total = Tally::default();
    let before = end.map_or_else(String::new, |end| format!(" AND oid < {end}"));
    let mut after = format!(">= {first}");
    loop {
        let objects = connection
            .query(format!(
                "SELECT oid, pg_catalog.encode(pg_catalog.lo_get(oid, 0, {READ_BYTES}), 'hex') FROM \
                 (SELECT oid FROM pg_catalog.pg_largeobject_metadata WHERE oid {after}{before} ORDER BY oid LIMIT {READ_OBJECTS}) AS batch \
                 ORDER BY oid"
            ))
            .await?;
        if objects.is_empty() {
            return Ok(total);
        }
        for object in &objects {
            let oid: u32 = object.get(0)?;
            let mut hasher = LargeObjectHasher::new(key, oid);
            let mut content = decode(object.bytes(1));
            let mut offset = 0;
            loop {
                hasher.update(&content);
                offset += content.len() as u64;
                if (content.len() as u64) < READ_BYTES {
                    break;
                }
                let rows = connection
                    .query(format!("SELECT pg_catalog.encode(pg_catalog.lo_get({oid}, {offset}, {READ_BYTES}), 'hex')"))
                    .await?;
                content = decode(rows.first().and_then(|row| row.bytes(0)));
            }
            total += hasher.finish();
            after = format!("> {oid}");
        }
    }
}

/// What the server's own `encode(…, 'hex')` gave.
fn decode(text: Option<&Bytes>) -> Vec<u8> {
    text.and_then(|text| hex::decode(text).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_are_cut_at_pages_and_nothing_is_lost() {
        let key = FingerprintKey([7; 32]);
        let objects: Vec<(u32, Vec<u8>)> =
            [0, 1, 2047, BATCH_BYTES, BATCH_BYTES + 1, 3 * BATCH_BYTES + 77, 5, 100_000, 200_000]
                .iter()
                .zip(10..)
                .map(|(&length, oid)| (oid, (0..length).map(|at| (at * 31 + oid as usize) as u8).collect()))
                .collect();
        for step in [1000, 16 << 10, 1 << 20] {
            let mut gathered = LargeObjects::new(key);
            let mut batches = Vec::new();
            let mut expected = Tally::default();
            for (oid, content) in &objects {
                gathered.start(*oid);
                for piece in content.chunks(step) {
                    let mut piece = Bytes::copy_from_slice(piece);
                    while !piece.is_empty() {
                        batches.extend(gathered.content(&mut piece));
                    }
                }
                batches.extend(gathered.end());
                let mut hasher = LargeObjectHasher::new(&key, *oid);
                hasher.update(content);
                expected += hasher.finish();
            }
            let (last, tally) = gathered.finish();
            batches.extend(last);
            assert_eq!(tally, expected);
            assert!(batches.iter().all(|batch| batch.bytes < 2 * BATCH_BYTES && !batch.parts.is_empty()));
            for (oid, content) in &objects {
                let mut found = Vec::new();
                for part in batches.iter().flat_map(|batch| &batch.parts).filter(|part| part.oid == *oid) {
                    assert_eq!(part.offset, found.len() as u64);
                    assert!(part.offset.is_multiple_of(BATCH_BYTES as u64));
                    found.extend(part.content.concat());
                }
                assert!(&found == content, "{oid}");
            }
        }
    }

    #[test]
    fn many_objects_are_one_statement() {
        let mut gathered = LargeObjects::new(FingerprintKey([7; 32]));
        for oid in [1, 3_000_000_001] {
            gathered.start(oid);
            assert!(gathered.content(&mut Bytes::from_static(b"ab")).is_none());
            assert!(gathered.end().is_none());
        }
        let statement = gathered.finish().0.unwrap().statement();
        assert!(statement.contains(
            "(VALUES (1::pg_catalog.oid, 0::bigint, '6162'), (3000000001::pg_catalog.oid, 0::bigint, '6162'))"
        ));
    }
}
