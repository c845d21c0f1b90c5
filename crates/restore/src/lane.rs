//! A lane: one session that loads whatever is next.

use std::sync::Arc;

use pgkeep_core::{FingerprintKey, RowHasher};
use pgkeep_dump::{Connection, CopyIn};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_util::sync::CancellationToken;

use crate::error::Doing;
use crate::large_objects::Batch;
use crate::sessions::DataSettings;
use crate::table_load::{Piece, Seat, TableLoad};
use crate::{Error, Result};

/// What is offered to the lanes.
#[derive(Debug)]
pub(crate) enum Work {
    /// A table; whoever takes it loads pieces of it until there are no more.
    Table(Arc<TableLoad>),
    /// Contents of large objects.
    LargeObjects(Batch, OwnedSemaphorePermit),
}

/// What is offered, in order, to all lanes.
pub(crate) type Offers = Arc<tokio::sync::Mutex<mpsc::UnboundedReceiver<Work>>>;

/// One session.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) connection: Connection,
    pub(crate) settings: DataSettings,
    pub(crate) key: FingerprintKey,
}

impl Lane {
    /// Works until nothing more will be offered. An error is one of the session, or of large objects; a table that the
    /// server refuses is its own.
    pub(crate) async fn run(mut self, offers: Offers, stop: &CancellationToken) -> Result<()> {
        loop {
            let work = async {
                let offered = offers.lock().await.recv().await;
                match offered {
                    None => return Ok::<_, Error>(false),
                    Some(Work::Table(load)) => self.load(&load).await?,
                    Some(Work::LargeObjects(batch, _permit)) => {
                        self.connection.execute(batch.statement()).await.doing("writing large objects")?;
                    }
                }
                Ok(true)
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

    /// Takes pieces of a table until there are no more.
    async fn load(&mut self, load: &TableLoad) -> Result<()> {
        let seat = load.join();
        let Some(first) = seat.next().await else { return Ok(()) };
        if load.failed() {
            load.waste(first, self.key).await;
            load.drain(self.key).await;
            return Ok(());
        }
        let outcome = copy(&mut self.connection, load, &seat, first, self.key).await;
        drop(seat);
        let Err(error) = outcome else { return Ok(()) };
        if error.server_error().is_none_or(pgkeep_dump::ServerError::is_fatal) {
            return Err(Error::Table { table: load.name.clone(), source: Box::new(error) });
        }
        load.fail(error);
        // Where a refused COPY leaves its session is not worth knowing.
        self.connection = self.settings.load().await?;
        load.drain(self.key).await;
        Ok(())
    }
}

/// One COPY from its first piece to the end of the queue, or until another lane of the table is refused.
async fn copy(
    connection: &mut Connection,
    load: &TableLoad,
    seat: &Seat<'_>,
    first: Piece,
    key: FingerprintKey,
) -> Result<(), pgkeep_dump::Error> {
    let mut copy = match connection.copy_in(&load.statement).await {
        Ok(copy) => copy,
        Err(error) => {
            load.waste(first, key).await;
            return Err(error);
        }
    };
    let mut piece = Some(first);
    while let Some(taken) = piece {
        send(&mut copy, load, taken, key).await?;
        if load.failed() {
            copy.abort("another lane failed").await?;
            load.drain(key).await;
            return Ok(());
        }
        piece = seat.next().await;
    }
    load.taken(copy.finish().await?);
    Ok(())
}

/// Sends a piece, and tallies all of it even where it is refused midway.
async fn send(
    copy: &mut CopyIn<'_>,
    load: &TableLoad,
    piece: Piece,
    key: FingerprintKey,
) -> Result<(), pgkeep_dump::Error> {
    let mut hasher = RowHasher::new(key);
    let mut outcome = Ok(());
    match piece {
        Piece::Rows(parts, _permit) => {
            // The server works on what it has while its rows are hashed.
            for part in &parts {
                if outcome.is_ok() {
                    outcome = copy.send(part.clone()).await;
                }
            }
            for part in &parts {
                hasher.update(part);
            }
        }
        Piece::Row(mut parts, _permit) => {
            while let Some(part) = parts.recv().await {
                hasher.update(&part);
                if outcome.is_ok() {
                    outcome = copy.send(part).await;
                }
            }
        }
    }
    // The reader closes a row only at its line feed, or when all is being given up.
    if let Ok(tally) = hasher.finish() {
        load.read(tally);
    }
    outcome
}
