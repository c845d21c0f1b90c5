//! Lanes: sessions that load side by side.
//!
//! The reader of the archive opens one ordered queue of pieces per table. A small table is offered to one lane, which
//! loads it with one COPY, so that its rows come back in the very order in which they were; meanwhile the reader goes on
//! to the next table, and another lane. A big one is offered to several lanes: each runs a COPY of its own and pulls the
//! next piece in order, which keeps the table's order but for the pieces that were under way together (POSTGRES A13). So
//! the archive can be read from its beginning to its end, and no table is left over for one lane in the end. What is in
//! flight is bounded by one budget of pieces.

use std::sync::Arc;

use bytes::Bytes;
use pgkeep_core::FingerprintKey;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::lane::{Lane, Work};
use crate::large_objects::Batch;
use crate::sessions::DataSettings;
use crate::table_load::{Outcome, Piece, TableLoad};
use crate::{Error, Result};

/// Parts of a long row that wait between reader and lane.
const ROW_PARTS: usize = 4;

/// A table is worth one more lane for so many bytes of COPY text. Some of it is always under way with every lane, and comes
/// out of order by that much: in a smaller table it would be too large a part.
const LANE_BYTES: u64 = 64 << 20;

/// A table that is to be loaded.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    /// Its entry.
    pub(crate) dump_id: i32,
    /// Its name, for people.
    pub(crate) name: String,
    /// `COPY … FROM stdin`.
    pub(crate) statement: Vec<u8>,
    /// Bytes of its text, where they are known beforehand.
    pub(crate) bytes: Option<u64>,
    /// Several lanes may load it.
    pub(crate) divisible: bool,
}

/// The reader's end of one table.
#[derive(Debug)]
pub(crate) struct TableFeed {
    load: Arc<TableLoad>,
    pieces: mpsc::UnboundedSender<Piece>,
    row: Option<mpsc::Sender<Bytes>>,
    divisible: bool,
    /// Bytes that it has, as far as that is known.
    bytes: u64,
    /// Bytes that were handed over.
    sent: u64,
    /// To how many lanes it was offered.
    offered: usize,
}

/// The lanes.
#[derive(Debug)]
pub(crate) struct Lanes {
    count: usize,
    offers: mpsc::UnboundedSender<Work>,
    budget: Arc<Semaphore>,
    loads: Vec<Arc<TableLoad>>,
    tasks: JoinSet<Result<()>>,
    /// A lane gave up for good, or the run is cancelled.
    stop: CancellationToken,
}

impl Lanes {
    /// Opens `count` sessions.
    pub(crate) async fn open(
        settings: &DataSettings,
        count: usize,
        key: FingerprintKey,
        cancel: &CancellationToken,
    ) -> Result<Self> {
        let count = count.max(1);
        let (offers, taken) = mpsc::unbounded_channel();
        let taken = Arc::new(tokio::sync::Mutex::new(taken));
        let stop = cancel.child_token();
        let mut tasks = JoinSet::new();
        for _ in 0..count {
            let lane = Lane { connection: settings.load().await?, settings: settings.clone(), key };
            let (taken, stop) = (Arc::clone(&taken), stop.clone());
            tasks.spawn(async move {
                let result = lane.run(taken, &stop).await;
                if result.is_err() {
                    stop.cancel();
                }
                result
            });
        }
        Ok(Self { count, offers, budget: Arc::new(Semaphore::new(2 * count + 2)), loads: Vec::new(), tasks, stop })
    }

    /// Begins a table.
    pub(crate) fn begin(&mut self, table: Table) -> TableFeed {
        let Table { dump_id, name, statement, bytes, divisible } = table;
        let (load, pieces) = TableLoad::new(dump_id, name, statement);
        let load = Arc::new(load);
        self.loads.push(Arc::clone(&load));
        TableFeed { load, pieces, row: None, divisible, bytes: bytes.unwrap_or_default(), sent: 0, offered: 0 }
    }

    /// Hands over whole rows; waits while too much is in flight.
    pub(crate) async fn rows(&mut self, feed: &mut TableFeed, rows: Vec<Bytes>) -> Result<()> {
        let permit = self.permit().await?;
        feed.sent += rows.iter().map(|part| part.len() as u64).sum::<u64>();
        self.offer(feed);
        // Nobody listens only when every lane has ended, which `stop` says.
        let _ = feed.pieces.send(Piece::Rows(rows, permit));
        Ok(())
    }

    /// Hands over a part of a long row.
    pub(crate) async fn row_part(&mut self, feed: &mut TableFeed, bytes: Bytes, last: bool) -> Result<()> {
        feed.sent += bytes.len() as u64;
        if feed.row.is_none() {
            let permit = self.permit().await?;
            let (sender, receiver) = mpsc::channel(ROW_PARTS);
            self.offer(feed);
            let _ = feed.pieces.send(Piece::Row(receiver, permit));
            feed.row = Some(sender);
        }
        if let Some(row) = &feed.row {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Err(Error::Interrupted),
                _ = row.send(bytes) => {}
            }
        }
        if last {
            feed.row = None;
        }
        Ok(())
    }

    /// Ends a table, with the rows that were too few for a piece.
    pub(crate) async fn end(&mut self, mut feed: TableFeed, rest: Option<Vec<Bytes>>) -> Result<()> {
        match rest {
            Some(rows) => self.rows(&mut feed, rows).await,
            None => Ok(()),
        }
    }

    /// Hands over contents of large objects; waits while too much is in flight.
    pub(crate) async fn large_objects(&mut self, batch: Batch) -> Result<()> {
        let permit = self.permit().await?;
        let _ = self.offers.send(Work::LargeObjects(batch, permit));
        Ok(())
    }

    /// Waits for every lane and returns what became of every table, in the order of beginning.
    pub(crate) async fn finish(self) -> Result<Vec<Outcome>> {
        let Self { offers, loads, mut tasks, stop, .. } = self;
        drop(offers);
        let mut failure = None;
        while let Some(ended) = tasks.join_next().await {
            let result = ended.map_err(|error| Error::Task(error.to_string())).and_then(|result| result);
            match result {
                // A lane that was stopped because of another's failure is not the cause.
                Err(error) if matches!(failure, None | Some(Error::Interrupted)) => failure = Some(error),
                Ok(()) | Err(_) => {}
            }
        }
        if let Some(error) = failure {
            return Err(error);
        }
        if stop.is_cancelled() {
            return Err(Error::Interrupted);
        }
        Ok(loads.iter().map(|load| load.outcome()).collect())
    }

    /// Gives up: the sessions are cut off, and why a lane had failed is told, if one had.
    pub(crate) async fn abandon(self) -> Option<Error> {
        self.stop.cancel();
        match self.finish().await {
            Err(Error::Interrupted) | Ok(_) => None,
            Err(error) => Some(error),
        }
    }

    async fn permit(&self) -> Result<OwnedSemaphorePermit> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(Error::Interrupted),
            permit = Arc::clone(&self.budget).acquire_owned() => permit.map_err(|error| Error::Task(error.to_string())),
        }
    }

    /// To as many lanes as its size is worth, as far as that is known. A lane that comes when all is taken goes on to what
    /// is next.
    fn offer(&self, feed: &mut TableFeed) {
        let worth = usize::try_from(1 + feed.bytes.max(feed.sent) / LANE_BYTES).unwrap_or(usize::MAX);
        let lanes = if feed.divisible { worth.min(self.count) } else { 1 };
        while feed.offered < lanes {
            feed.offered += 1;
            let _ = self.offers.send(Work::Table(Arc::clone(&feed.load)));
        }
    }
}
