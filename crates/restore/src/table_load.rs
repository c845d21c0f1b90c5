//! One table being loaded: its queue of pieces, and what comes of it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use pgkeep_core::{FingerprintKey, RowHasher, Tally};
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};

/// So many pieces may a lane take more than the slowest one of the table. What was sent waits in buffers of the network
/// that hold many: without this a lane whose server process gets little of the processor falls far behind in order.
const LEAD: u64 = 2;

/// What a lane takes from a table's queue.
#[derive(Debug)]
pub(crate) enum Piece {
    /// Whole rows, in parts that need not end at rows.
    Rows(Vec<Bytes>, OwnedSemaphorePermit),
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
    pub(crate) statement: Vec<u8>,
    queue: tokio::sync::Mutex<mpsc::UnboundedReceiver<Piece>>,
    /// Pieces that each lane has taken; one that takes no more is beyond counting.
    taken: watch::Sender<Vec<u64>>,
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
    /// Why the server did not take it. What other lanes had sent of it may be in the table.
    pub(crate) failure: Option<pgkeep_dump::Error>,
}

impl TableLoad {
    /// A table, and where its pieces are put.
    pub(crate) fn new(dump_id: i32, name: String, statement: Vec<u8>) -> (Self, mpsc::UnboundedSender<Piece>) {
        let (pieces, queue) = mpsc::unbounded_channel();
        let queue = tokio::sync::Mutex::new(queue);
        (Self { dump_id, name, statement, queue, taken: watch::Sender::default(), state: Mutex::default() }, pieces)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more lane takes pieces.
    pub(crate) fn join(&self) -> Seat<'_> {
        let mut number = 0;
        self.taken.send_modify(|taken| {
            number = taken.len();
            taken.push(least(taken).unwrap_or_default());
        });
        Seat { load: self, number }
    }

    async fn next(&self) -> Option<Piece> {
        self.queue.lock().await.recv().await
    }

    /// The server took so many rows.
    pub(crate) fn taken(&self, rows: u64) {
        self.state().rows += rows;
    }

    /// So much was read from the archive.
    pub(crate) fn read(&self, tally: Tally) {
        self.state().tally += tally;
    }

    /// The server refuses it.
    pub(crate) fn fail(&self, error: pgkeep_dump::Error) {
        // Which lane fails first is chance; what follows from the first failure says nothing new.
        self.state().failure.get_or_insert(error);
    }

    /// Whether some lane was refused.
    pub(crate) fn failed(&self) -> bool {
        self.state().failure.is_some()
    }

    /// What became of it.
    pub(crate) fn outcome(&self) -> Outcome {
        let mut state = self.state();
        Outcome {
            dump_id: self.dump_id,
            name: self.name.clone(),
            rows: state.rows,
            tally: state.tally,
            failure: state.failure.take(),
        }
    }

    /// Takes what is left of a table that was refused, so that the reader can go on; it is still tallied.
    pub(crate) async fn drain(&self, key: FingerprintKey) {
        while let Some(piece) = self.next().await {
            self.waste(piece, key).await;
        }
    }

    /// Tallies a piece that is not sent.
    pub(crate) async fn waste(&self, piece: Piece, key: FingerprintKey) {
        let mut hasher = RowHasher::new(key);
        match piece {
            Piece::Rows(parts, _permit) => {
                for part in &parts {
                    hasher.update(part);
                }
            }
            Piece::Row(mut parts, _permit) => {
                while let Some(part) = parts.recv().await {
                    hasher.update(&part);
                }
            }
        }
        // The reader closes a row only at its line feed, or when all is being given up.
        if let Ok(tally) = hasher.finish() {
            self.read(tally);
        }
    }
}

/// A lane's place at a table, until it is dropped.
#[derive(Debug)]
pub(crate) struct Seat<'l> {
    load: &'l TableLoad,
    number: usize,
}

impl Seat<'_> {
    /// The next piece in order, once the other lanes have taken theirs; `None` once there are no more.
    pub(crate) async fn next(&self) -> Option<Piece> {
        let in_turn = |taken: &Vec<u64>| taken[self.number] <= least(taken).unwrap_or_default() + LEAD;
        // The sender is there as long as the table.
        let _ = self.load.taken.subscribe().wait_for(in_turn).await;
        let piece = self.load.next().await;
        self.load.taken.send_modify(|taken| taken[self.number] += 1);
        piece
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.load.taken.send_modify(|taken| taken[self.number] = u64::MAX);
    }
}

/// What the slowest of those has taken that still take.
fn least(taken: &[u64]) -> Option<u64> {
    taken.iter().copied().filter(|&count| count < u64::MAX).min()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test]
    async fn no_lane_is_far_ahead_of_one_that_still_takes() {
        let (load, pieces) = TableLoad::new(1, "t".into(), Vec::new());
        let budget = Arc::new(Semaphore::new(100));
        for _ in 0..20 {
            let permit = Arc::clone(&budget).acquire_owned().await.unwrap();
            pieces.send(Piece::Rows(vec![Bytes::from_static(b"a\n")], permit)).unwrap();
        }
        let soon = Duration::from_millis(20);
        let (fast, slow) = (load.join(), load.join());
        for _ in 0..=LEAD {
            assert!(fast.next().await.is_some());
        }
        assert!(tokio::time::timeout(soon, fast.next()).await.is_err());
        assert!(slow.next().await.is_some());
        assert!(fast.next().await.is_some());
        assert!(tokio::time::timeout(soon, fast.next()).await.is_err());
        drop(slow);
        let late = load.join();
        assert!(late.next().await.is_some());
        drop((late, pieces));
        for _ in 0..20 - LEAD - 4 {
            assert!(fast.next().await.is_some());
        }
        assert!(fast.next().await.is_none());
    }
}
