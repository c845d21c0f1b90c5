//! One archive into several stores at once.

use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use pgkeep_storage::{Key, ObjectWriter, WriteOptions};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{Destination, Error, Result, objects};

/// Frames that wait for a store while it is writing another.
const WAITING: usize = 2;
/// How long a store may take to give up an object before it is left alone with it.
const ABORT_LIMIT: Duration = Duration::from_secs(10);

/// Where an archive is written to.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// Index into the keeper's destinations.
    pub(crate) index: usize,
    pub(crate) destination: Destination,
    /// The archive's key there.
    pub(crate) key: Key,
    pub(crate) options: WriteOptions,
}

/// A writer that took a whole archive, and where.
pub(crate) type Written = (Target, Box<dyn ObjectWriter>);

/// An object being written, and where.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) target: Target,
    state: State,
}

#[derive(Debug)]
enum State {
    Open { frames: mpsc::Sender<Bytes>, task: JoinHandle<Result<Option<Box<dyn ObjectWriter>>>> },
    Written(Box<dyn ObjectWriter>),
    Failed(Error),
}

/// The lanes of one archive. Each has a task of its own, so a slow store delays the others only when it is full; one
/// that fails is set aside while the others go on. Dropped, they give up what they have not finished.
#[derive(Debug)]
pub(crate) struct Lanes {
    all: Vec<Lane>,
    ended: CancellationToken,
    _guard: DropGuard,
}

impl Lanes {
    /// Begins the object at every target.
    pub(crate) async fn open(targets: Vec<Target>) -> Self {
        let ended = CancellationToken::new();
        let all = join_all(targets.into_iter().map(|target| Lane::open(target, ended.clone()))).await;
        Self { all, _guard: ended.clone().drop_guard(), ended }
    }

    /// Hands the next bytes to every store that still goes on; waits while one of them is full.
    /// An error once none is left.
    pub(crate) async fn send(&mut self, chunk: &Bytes) -> Result<()> {
        join_all(self.all.iter_mut().map(|lane| lane.send(chunk.clone()))).await;
        self.any_left()
    }

    /// Waits until every store has taken all bytes.
    pub(crate) async fn close(&mut self) -> Result<()> {
        join_all(self.all.iter_mut().map(Lane::close)).await;
        self.any_left()
    }

    /// Gives every object up.
    pub(crate) async fn abort(mut self) {
        self.ended.cancel();
        join_all(self.all.iter_mut().map(Lane::abort)).await;
    }

    /// The writers of the stores that took everything, and why each other one did not.
    pub(crate) fn into_writers(self) -> (Vec<Written>, Vec<(Target, Error)>) {
        let (mut written, mut failed) = (Vec::new(), Vec::new());
        for Lane { target, state } in self.all {
            match state {
                State::Written(writer) => written.push((target, writer)),
                State::Failed(error) => failed.push((target, error)),
                State::Open { .. } => failed.push((target, Error::Task("a store was not waited for".to_owned()))),
            }
        }
        (written, failed)
    }

    fn any_left(&mut self) -> Result<()> {
        if self.all.iter().any(|lane| !matches!(lane.state, State::Failed(_))) {
            return Ok(());
        }
        let worst = self.all.iter().position(|lane| lane.target.destination.required).unwrap_or(0);
        if self.all.is_empty() {
            return Err(Error::Usage("there is no destination".to_owned()));
        }
        let lane = self.all.swap_remove(worst);
        let State::Failed(source) = lane.state else { return Ok(()) };
        Err(Error::Destination {
            destination: lane.target.destination.name,
            copies: Vec::new(),
            source: Box::new(source),
        })
    }
}

impl Lane {
    async fn open(target: Target, ended: CancellationToken) -> Self {
        let storage = target.destination.storage.clone();
        let state = match storage.write(&target.key, &target.options).await {
            Err(error) => State::Failed(objects::at(storage.as_ref())(error)),
            Ok(writer) => {
                let (sender, frames) = mpsc::channel(WAITING);
                let task = tokio::spawn(async move {
                    write_all(writer, frames, ended).await.map_err(objects::at(storage.as_ref()))
                });
                State::Open { frames: sender, task }
            }
        };
        Self { target, state }
    }

    async fn send(&mut self, chunk: Bytes) {
        if let State::Open { frames, .. } = &self.state
            && frames.send(chunk).await.is_err()
        {
            // The task has ended before its time; it knows why.
            self.close().await;
        }
    }

    async fn close(&mut self) {
        let placeholder = State::Failed(Error::Task("a store's task did not answer".to_owned()));
        self.state = match std::mem::replace(&mut self.state, placeholder) {
            State::Open { frames, task } => {
                drop(frames);
                match task.await {
                    Ok(Ok(Some(writer))) => State::Written(writer),
                    Ok(Ok(None)) => State::Failed(Error::Interrupted),
                    Ok(Err(error)) => State::Failed(error),
                    Err(error) => State::Failed(Error::Task(error.to_string())),
                }
            }
            other => other,
        };
    }

    async fn abort(&mut self) {
        self.close().await;
        let done = State::Failed(Error::Interrupted);
        if let State::Written(writer) = std::mem::replace(&mut self.state, done) {
            give_up(writer).await;
        }
    }
}

/// Writes what comes until the sender is gone. Ended, it gives the object up by itself: nobody may be there to do it.
async fn write_all(
    mut writer: Box<dyn ObjectWriter>,
    mut frames: mpsc::Receiver<Bytes>,
    ended: CancellationToken,
) -> pgkeep_storage::Result<Option<Box<dyn ObjectWriter>>> {
    let writing = async {
        while let Some(frame) = frames.recv().await {
            writer.write(frame).await?;
        }
        Ok(())
    };
    let outcome = tokio::select! {
        biased;
        () = ended.cancelled() => None,
        outcome = writing => Some(outcome),
    };
    match outcome {
        Some(Ok(())) => Ok(Some(writer)),
        Some(Err(error)) => {
            give_up(writer).await;
            Err(error)
        }
        None => {
            give_up(writer).await;
            Ok(None)
        }
    }
}

/// Gives an object up, best effort: what can't be removed now is swept later.
pub(crate) async fn give_up(writer: Box<dyn ObjectWriter>) {
    let _ = tokio::time::timeout(ABORT_LIMIT, writer.abort()).await;
}
