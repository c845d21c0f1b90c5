//! Contents of large objects, written on one session in bounded pieces; reading them back for the proof.

use std::fmt::Write as _;

use bytes::Bytes;
use pgkeep_core::{FingerprintKey, LargeObjectHasher, Tally};
use pgkeep_dump::Connection;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::error::Doing;
use crate::sessions::DataSettings;
use crate::{Error, Result};

/// Content bytes of one statement, at most: twice that as hexadecimal text.
const BATCH_BYTES: usize = 512 << 10;
/// Statements are also sent after this many objects.
const BATCH_OBJECTS: usize = 1000;
/// Bytes read of one object at once.
const READ_BYTES: u64 = 256 << 10;
/// Objects read at once.
const READ_OBJECTS: usize = 32;

#[derive(Debug)]
enum Part {
    Started(u32),
    Content(Bytes),
    Finished,
}

/// The reader's end of the large objects' lane.
#[derive(Debug)]
pub(crate) struct LargeObjectLane {
    parts: mpsc::Sender<Part>,
    task: JoinHandle<Result<Tally>>,
}

impl LargeObjectLane {
    /// Opens a session for them.
    pub(crate) async fn open(settings: &DataSettings, key: FingerprintKey) -> Result<Self> {
        let connection = settings.load().await?;
        let (parts, receiver) = mpsc::channel(8);
        let task = tokio::spawn(Writer { connection, key, batch: String::new(), bytes: 0, objects: 0 }.run(receiver));
        Ok(Self { parts, task })
    }

    /// An object begins.
    pub(crate) async fn start(&self, oid: u32) {
        self.send(Part::Started(oid)).await;
    }

    /// Content of it.
    pub(crate) async fn content(&self, bytes: Bytes) {
        self.send(Part::Content(bytes)).await;
    }

    /// It ends.
    pub(crate) async fn end(&self) {
        self.send(Part::Finished).await;
    }

    async fn send(&self, part: Part) {
        // A writer that has failed listens no more; `finish` says why.
        let _ = self.parts.send(part).await;
    }

    /// Writes what is left; the tally of all objects.
    pub(crate) async fn finish(self) -> Result<Tally> {
        drop(self.parts);
        self.task.await.map_err(|error| Error::Task(error.to_string()))?
    }
}

#[derive(Debug)]
struct Writer {
    connection: Connection,
    key: FingerprintKey,
    batch: String,
    bytes: usize,
    objects: usize,
}

impl Writer {
    async fn run(mut self, mut parts: mpsc::Receiver<Part>) -> Result<Tally> {
        let mut tally = Tally::default();
        let mut current: Option<(u32, u64, LargeObjectHasher)> = None;
        while let Some(part) = parts.recv().await {
            match part {
                Part::Started(oid) => current = Some((oid, 0, LargeObjectHasher::new(&self.key, oid))),
                Part::Content(bytes) => {
                    let Some((oid, offset, hasher)) = &mut current else { continue };
                    hasher.update(&bytes);
                    for piece in bytes.chunks(BATCH_BYTES) {
                        self.put(*oid, *offset, piece).await?;
                        *offset += piece.len() as u64;
                    }
                }
                Part::Finished => {
                    if let Some((_, _, hasher)) = current.take() {
                        tally += hasher.finish();
                    }
                }
            }
        }
        self.flush().await?;
        let _ = self.connection.close().await;
        Ok(tally)
    }

    async fn put(&mut self, oid: u32, offset: u64, content: &[u8]) -> Result<()> {
        // `decode` and not a bytea literal: it means the same whatever standard_conforming_strings says.
        let _ = write!(
            self.batch,
            "SELECT pg_catalog.lo_put({oid}, {offset}, pg_catalog.decode('{}', 'hex'));",
            hex::encode(content)
        );
        self.bytes += content.len();
        self.objects += 1;
        if self.bytes >= BATCH_BYTES || self.objects >= BATCH_OBJECTS { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<()> {
        if !self.batch.is_empty() {
            self.connection.execute(&self.batch).await.doing("writing large objects")?;
            self.batch.clear();
            self.bytes = 0;
            self.objects = 0;
        }
        Ok(())
    }
}

/// Reads every large object of the database; the tally of all of them.
pub(crate) async fn tally(connection: &mut Connection, key: &FingerprintKey) -> Result<Tally, pgkeep_dump::Error> {
    let mut total = Tally::default();
    let mut last: Option<u32> = None;
    loop {
        let after = last.map_or_else(String::new, |oid| format!("WHERE oid > {oid}"));
        let objects = connection
            .query(format!(
                "SELECT oid, pg_catalog.encode(pg_catalog.lo_get(oid, 0, {READ_BYTES}), 'hex') \
                 FROM (SELECT oid FROM pg_catalog.pg_largeobject_metadata {after} ORDER BY oid LIMIT {READ_OBJECTS}) AS batch \
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
            last = Some(oid);
        }
    }
}

/// What the server's own `encode(…, 'hex')` gave.
fn decode(text: Option<&Bytes>) -> Vec<u8> {
    text.and_then(|text| hex::decode(text).ok()).unwrap_or_default()
}
