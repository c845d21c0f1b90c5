//! Lanes: sessions that load tables side by side.
//!
//! The reader of the archive opens one ordered queue of pieces per table. A table is offered to one lane, which loads it
//! with one COPY, so that its rows come back in the very order in which they were; meanwhile the reader goes on to the
//! next table, and another lane. What is in flight is bounded by one budget of pieces.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use pgkeep_core::{FingerprintKey, RowHasher, Tally};
use pgkeep_dump::{Connection, CopyIn};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::sessions::DataSettings;
use crate::{Error, Result};

/// Parts of a long row that wait between reader and lane.
const ROW_PARTS: usize = 4;

/// What a lane takes from a table's queue.
#[derive(Debug)]
pub(crate) enum Piece {
    /// Whole rows.
    Rows(Bytes, OwnedSemaphorePermit),
    /// One row longer than a piece, part by part.
    Row(mpsc::Receiver<Bytes>, OwnedSemaphorePermit),
}

/// A table being loaded.
#[derive(Debug)]
pub(crate) struct TableLoad {
    /// Its entry.
    pub(crate) dump_id: i32,
    /// Its name, for people.
    pub(crate) name: String,
    /// `COPY … FROM stdin`.
    statement: Vec<u8>,
    queue: tokio::sync::Mutex<mpsc::UnboundedReceiver<Piece>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By the tags of the COPYs.
    rows: u64,
    /// Of what was sent.
    tally: Tally,
    failure: Option<pgkeep_dump::Error>,
}

/// What became of a table.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Its entry.
    pub(crate) dump_id: i32,
    /// Its name.
    pub(crate) name: String,
    /// Rows by the tags of the COPYs.
    pub(crate) rows: u64,
    /// Rows, bytes and fingerprint of what was read from the archive.
    pub(crate) tally: Tally,
    /// Why the server did not take it.
    pub(crate) failure: Option<pgkeep_dump::Error>,
}

impl TableLoad {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn next(&self) -> Option<Piece> {
        self.queue.lock().await.recv().await
    }

    fn fail(&self, error: pgkeep_dump::Error) {
        // Which lane fails first is chance; what follows from the first failure says nothing new.
        self.state().failure.get_or_insert(error);
    }

    fn failed(&self) -> bool {
        self.state().failure.is_some()
    }

    fn outcome(&self) -> Outcome {
        let mut state = self.state();
        Outcome {
            dump_id: self.dump_id,
            name: self.name.clone(),
            rows: state.rows,
            tally: state.tally,
            failure: state.failure.take(),
        }
    }
}

/// The reader's end of one table.
#[derive(Debug)]
pub(crate) struct TableFeed {
    load: Arc<TableLoad>,
    pieces: mpsc::UnboundedSender<Piece>,
    row: Option<mpsc::Sender<Bytes>>,
    offered: bool,
}

/// The lanes.
#[derive(Debug)]
pub(crate) struct Lanes {
    offers: mpsc::UnboundedSender<Arc<TableLoad>>,
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
        Ok(Self { offers, budget: Arc::new(Semaphore::new(2 * count + 2)), loads: Vec::new(), tasks, stop })
    }

    /// Begins a table.
    pub(crate) fn begin(&mut self, dump_id: i32, name: String, statement: Vec<u8>) -> TableFeed {
        let (pieces, queue) = mpsc::unbounded_channel();
        let load = Arc::new(TableLoad {
            dump_id,
            name,
            statement,
            queue: tokio::sync::Mutex::new(queue),
            state: Mutex::default(),
        });
        self.loads.push(Arc::clone(&load));
        TableFeed { load, pieces, row: None, offered: false }
    }

    /// Hands over whole rows; waits while too much is in flight.
    pub(crate) async fn rows(&mut self, feed: &mut TableFeed, rows: Bytes) -> Result<()> {
        let permit = self.permit().await?;
        self.offer(feed);
        // Nobody listens only when every lane has ended, which `stop` says.
        let _ = feed.pieces.send(Piece::Rows(rows, permit));
        Ok(())
    }

    /// Hands over a part of a long row.
    pub(crate) async fn row_part(&mut self, feed: &mut TableFeed, bytes: Bytes, last: bool) -> Result<()> {
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
    pub(crate) async fn end(&mut self, mut feed: TableFeed, rest: Option<Bytes>) -> Result<()> {
        if let Some(rows) = rest {
            let permit = self.permit().await?;
            self.offer(&mut feed);
            let _ = feed.pieces.send(Piece::Rows(rows, permit));
        }
        Ok(())
    }

    /// Waits for every lane and returns what became of every table since the last call, in the order of beginning.
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

    fn offer(&self, feed: &mut TableFeed) {
        if !feed.offered {
            feed.offered = true;
            let _ = self.offers.send(Arc::clone(&feed.load));
        }
    }
}

type Offers = Arc<tokio::sync::Mutex<mpsc::UnboundedReceiver<Arc<TableLoad>>>>;

#[derive(Debug)]
struct Lane {
    connection: Connection,
    settings: DataSettings,
    key: FingerprintKey,
}

impl Lane {
    async fn run(mut self, offers: Offers, stop: &CancellationToken) -> Result<()> {
        loop {
            let work = async {
                let Some(load) = offers.lock().await.recv().await else { return Ok(false) };
                self.load(&load).await.map(|()| true)
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return Err(Error::Interrupted),
                more = work => if !more? { break },
            }
        }
        let _ = self.connection.close().await;
        Ok(())
    }

    /// Takes pieces of a table until there are no more. An error is one of the session; a refusal by the server is the
    /// table's own.
    async fn load(&mut self, load: &TableLoad) -> Result<()> {
        let Some(first) = load.next().await else { return Ok(()) };
        if load.failed() {
            return drain(load, Some(first), self.key).await;
        }
        let outcome = copy(&mut self.connection, load, first, self.key).await;
        let Err(error) = outcome else { return Ok(()) };
        if error.server_error().is_none_or(pgkeep_dump::ServerError::is_fatal) {
            return Err(Error::Table { table: load.name.clone(), source: Box::new(error) });
        }
        load.fail(error);
        // Where a refused COPY leaves its session is not worth knowing.
        self.connection = self.settings.load().await?;
        drain(load, None, self.key).await
    }
}

/// One COPY from its first piece to the end of the queue.
async fn copy(
    connection: &mut Connection,
    load: &TableLoad,
    first: Piece,
    key: FingerprintKey,
) -> Result<(), pgkeep_dump::Error> {
    let mut piece = Some(first);
    let mut copy = match connection.copy_in(&load.statement).await {
        Ok(copy) => copy,
        Err(error) => {
            drain_piece(load, piece.take(), key).await;
            return Err(error);
        }
    };
    while let Some(taken) = piece.take() {
        send(&mut copy, load, taken, key).await?;
        if load.failed() {
            return copy.abort("another lane failed").await;
        }
        piece = load.next().await;
    }
    let rows = copy.finish().await?;
    load.state().rows += rows;
    Ok(())
}

async fn send(
    copy: &mut CopyIn<'_>,
    load: &TableLoad,
    piece: Piece,
    key: FingerprintKey,
) -> Result<(), pgkeep_dump::Error> {
    match piece {
        Piece::Rows(bytes, _permit) => {
            let sent = copy.send(bytes.clone()).await;
            let mut tally = Tally::default();
            tally.add_rows(&key, &bytes);
            load.state().tally += tally;
            sent
        }
        Piece::Row(mut parts, _permit) => {
            let mut hasher = RowHasher::new(key);
            let mut outcome = Ok(());
            while let Some(bytes) = parts.recv().await {
                hasher.update(&bytes);
                if outcome.is_ok() {
                    outcome = copy.send(bytes).await;
                }
            }
            // The reader closes a row only at its line feed, or when all is being given up.
            if let Ok(tally) = hasher.finish() {
                load.state().tally += tally;
            }
            outcome
        }
    }
}

/// Takes what is left of a table that has failed, so that the reader can go on; it is still tallied.
async fn drain(load: &TableLoad, first: Option<Piece>, key: FingerprintKey) -> Result<()> {
    drain_piece(load, first, key).await;
    while let Some(piece) = load.next().await {
        drain_piece(load, Some(piece), key).await;
    }
    Ok(())
}

async fn drain_piece(load: &TableLoad, piece: Option<Piece>, key: FingerprintKey) {
    let mut hasher = RowHasher::new(key);
    match piece {
        Some(Piece::Rows(bytes, _permit)) => hasher.update(&bytes),
        Some(Piece::Row(mut parts, _permit)) => {
            while let Some(bytes) = parts.recv().await {
                hasher.update(&bytes);
            }
        }
        None => {}
    }
    if let Ok(tally) = hasher.finish() {
        load.state().tally += tally;
    }
}
