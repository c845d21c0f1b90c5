//! Workers, the order of their tasks, and the verdict on all of them.

use std::sync::Arc;
use std::time::Duration;

use pgkeep_archive::Toc;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::copying::{Ran, Work, copy};
use super::leader::{Duty, Leader};
use super::schedule::Schedule;
use super::statements::{COPYING, Locking};
use super::turns::Turns;
use super::{Notes, OnBlockedDdl};
use crate::dumps::UnderWay;
use crate::{
    CancelToken, ConnectSettings, Connection, DumpOutcome, DumpStream, Error, Result, SessionSettings, StreamSegment,
    quote_literal,
};

/// Blocks of one task that may wait: more than a range has, as a rule, so that its reader need not wait for anybody.
const BLOCKS_WAITING: usize = 6;
/// How long is waited for statements to be cancelled.
const CANCEL_LIMIT: Duration = Duration::from_secs(3);

/// What workers need to know.
#[derive(Debug)]
pub(super) struct Crew {
    /// Pinned to the leader's host.
    pub(super) settings: ConnectSettings,
    /// The archive's encoding.
    pub(super) encoding: Option<String>,
    pub(super) jobs: usize,
    pub(super) block_bytes: usize,
    pub(super) on_blocked_ddl: OnBlockedDdl,
    pub(super) under_way: UnderWay,
}

/// Gives tasks out in archive order, each with its place in the stream.
#[derive(Debug)]
pub(crate) struct Dispatcher {
    schedule: Mutex<Schedule>,
    segments: mpsc::Sender<StreamSegment>,
    turns: Arc<Turns>,
}

impl Dispatcher {
    /// The next task, once there is room for another one; `None` when there is none left.
    pub(super) async fn next(&self) -> Result<Option<Work>> {
        let mut schedule = self.schedule.lock().await;
        let place = self.segments.reserve().await.map_err(|_| Error::Interrupted)?;
        let Some(task) = schedule.next() else { return Ok(None) };
        let (blocks, receiver) = mpsc::channel(BLOCKS_WAITING);
        place.send(StreamSegment { blocks: receiver });
        Ok(Some(Work { task, blocks, turn: Turns::take(&self.turns) }))
    }
}

impl Crew {
    /// Sends the workers out; what they yield comes out of the stream.
    pub(super) fn set_out(
        self,
        leader: Leader,
        toc: Arc<Toc>,
        schedule: Schedule,
        outcome: DumpOutcome,
        cancel: CancellationToken,
    ) -> DumpStream {
        let (sender, segments) = mpsc::channel(1);
        let (notes, receiver) = Notes::channel();
        let dispatcher =
            Arc::new(Dispatcher { schedule: Mutex::new(schedule), segments: sender, turns: Arc::default() });
        let outcome = tokio::spawn(async move {
            let worked = self.work(leader, dispatcher, notes, &cancel).await;
            drop(self.under_way);
            worked.map(|()| outcome)
        });
        DumpStream { toc, engine: "parallel", segments, notes: receiver, outcome }
    }

    /// Success takes all of it: every task done to its end by somebody, and the leader in its transaction after that (law 2).
    async fn work(
        &self,
        leader: Leader,
        dispatcher: Arc<Dispatcher>,
        notes: Notes,
        cancel: &CancellationToken,
    ) -> Result<()> {
        let workers = tokio::select! {
            () = cancel.cancelled() => return Err(Error::Interrupted),
            workers = self.connect(&leader.snapshot, &notes) => workers?,
        };
        let mut running: Vec<CancelToken> = workers.iter().map(Connection::cancel_token).collect();
        running.push(leader.connection.cancel_token());

        let pids = workers.iter().map(Connection::backend_pid).collect();
        let mut tasks = JoinSet::new();
        let (hand, handed) = mpsc::unbounded_channel();
        let alone = workers.is_empty().then(|| Arc::clone(&dispatcher));
        for connection in workers {
            let worker = Worker { connection, block_bytes: self.block_bytes };
            tasks.spawn(worker.run(Arc::clone(&dispatcher), hand.clone()));
        }
        drop((hand, dispatcher));
        let (block_bytes, on_blocked_ddl) = (self.block_bytes, self.on_blocked_ddl);
        tasks.spawn(leader.hold(Duty { handed, alone, workers: pids, block_bytes, on_blocked_ddl, notes }));

        loop {
            let ended = tokio::select! {
                biased;
                () = cancel.cancelled() => Some(Err(Error::Interrupted)),
                ended = tasks.join_next() => ended.map(crate::engine::joined),
            };
            match ended {
                None => return Ok(()),
                Some(Ok(())) => {}
                Some(Err(error)) => return Err(give_up(tasks, error, running).await),
            }
        }
    }

    /// As many sessions as there are jobs. If the server has no room for them, as many as it has, less one: its place is for
    /// whoever reads roles and tablespaces meanwhile, and for others.
    async fn connect(&self, snapshot: &str, notes: &Notes) -> Result<Vec<Connection>> {
        let connecting = (0..self.jobs).map(|_| self.connect_one(snapshot));
        let mut workers = Vec::with_capacity(self.jobs);
        let mut refused = None;
        for connected in futures::future::join_all(connecting).await {
            match connected {
                Ok(connection) => workers.push(connection),
                Err(error) if error.sqlstate() == Some("53300") => refused = Some(error),
                Err(error) => return Err(error),
            }
        }
        if let Some(error) = refused {
            if let Some(connection) = workers.pop() {
                connection.leave().await?;
            }
            let cause = error.server_error().map(|error| error.message.clone()).unwrap_or_default();
            notes.tell(format!("{} of {} sessions copy: {cause}", workers.len().max(1), self.jobs));
        }
        Ok(workers)
    }

    async fn connect_one(&self, snapshot: &str) -> Result<Connection> {
        let mut connection = Connection::connect(&self.settings, SessionSettings::Dump).await?;
        connection.execute(COPYING).await?;
        if let Some(encoding) = &self.encoding {
            connection.set_client_encoding(encoding).await?;
        }
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        // Fails on any other server than the leader's, and when the leader is no longer there.
        connection
            .execute(format!("SET TRANSACTION SNAPSHOT {}", quote_literal(snapshot)))
            .await
            .map_err(without_snapshot)?;
        Ok(connection)
    }
}

/// What it means that there is no such snapshot: `undefined_object` by PostgreSQL 17 and 18, `invalid_parameter_value` by 15.
fn without_snapshot(error: Error) -> Error {
    match error.sqlstate() {
        Some("42704" | "22023") => Error::Changed {
            what: "its snapshot is not there: the session that holds it was lost, or another server was reached"
                .to_owned(),
        },
        _ => error,
    }
}

struct Worker {
    connection: Connection,
    block_bytes: usize,
}

impl Worker {
    async fn run(mut self, dispatcher: Arc<Dispatcher>, leader: mpsc::UnboundedSender<Work>) -> Result<()> {
        while let Some(work) = dispatcher.next().await? {
            match copy(&mut self.connection, &work, Locking::Briefly, self.block_bytes).await? {
                Ran::Done => {}
                // Gone only if it has failed, which is told there.
                Ran::Locked(_) => drop(leader.send(work)),
            }
        }
        self.connection.execute("COMMIT").await?;
        self.connection.close().await
    }
}

/// Ends every session and gives the reason: the first error that is not a consequence of another's.
async fn give_up(mut tasks: JoinSet<Result<()>>, first: Error, running: Vec<CancelToken>) -> Error {
    tasks.abort_all();
    let mut reason = first;
    while let Some(ended) = tasks.join_next().await {
        if let (Error::Interrupted, Ok(Err(error))) = (&reason, ended) {
            reason = error;
        }
    }
    // Closed connections end a statement only when it has something to say.
    let cancelling = running.iter().map(|token| async {
        let _ = tokio::time::timeout(CANCEL_LIMIT, token.cancel()).await;
    });
    futures::future::join_all(cancelling).await;
    reason
}
