//! What can happen to a call of a store, and when.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pgkeep_storage::{Cause, Error, Key, Location, Result};
use tokio::sync::watch;

/// The calls a store can get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operation {
    /// [`Storage::write`](pgkeep_storage::Storage::write)
    Write,
    /// [`ObjectWriter::write`](pgkeep_storage::ObjectWriter::write)
    WriteChunk,
    /// [`ObjectWriter::finish`](pgkeep_storage::ObjectWriter::finish)
    Finish,
    /// [`ObjectWriter::abort`](pgkeep_storage::ObjectWriter::abort)
    Abort,
    /// [`Storage::create`](pgkeep_storage::Storage::create)
    Create,
    /// [`Storage::read`](pgkeep_storage::Storage::read)
    Read,
    /// One item of a stream that [`Storage::read`](pgkeep_storage::Storage::read) gave
    ReadChunk,
    /// [`Storage::head`](pgkeep_storage::Storage::head)
    Head,
    /// [`Storage::list`](pgkeep_storage::Storage::list); its stream then ends with the error after one item
    List,
    /// [`Storage::delete`](pgkeep_storage::Storage::delete)
    Delete,
}

impl Operation {
    /// All of them, for tests that let each fail in turn.
    pub const ALL: [Self; 10] = [
        Self::Write,
        Self::WriteChunk,
        Self::Finish,
        Self::Abort,
        Self::Create,
        Self::Read,
        Self::ReadChunk,
        Self::Head,
        Self::List,
        Self::Delete,
    ];
}

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Trouble {
    /// It fails without any effect. A listing has told one object by then.
    Fails,
    /// It has its effect, and its answer is lost: a failure.
    AnswerLost,
    /// Half of a chunk is written or read, then it fails.
    Half,
    /// A stream ends after half a chunk as if that were all; a listing leaves out what was stored last. No failure is told.
    Short,
    /// A bit of a chunk that is read is flipped; the size that is looked up is wrong. No failure is told.
    Garbled,
    /// It waits so long, and is done then.
    Late(Duration),
    /// It never ends, and has no effect.
    Hangs,
    /// The process behind this handle is dead: neither this call nor any after it has an effect or an answer.
    Dies,
    /// It has its effect, and then the process is dead.
    DiesAfter,
}

/// Which call meets which trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreFault {
    /// The operation; any, if `None`.
    pub operation: Option<Operation>,
    /// Which call of it, counted from 1 and from the moment it is injected.
    pub nth: u64,
    /// What happens to it.
    pub trouble: Trouble,
    /// Whether it happens to all later ones, too.
    pub lasting: bool,
    /// Whether failures are of the kind that does not pass: permission was denied. Else the store was not reached.
    pub permanent: bool,
}

impl StoreFault {
    /// The n-th call of an operation meets trouble, and it alone.
    pub fn once(operation: Operation, nth: u64, trouble: Trouble) -> Self {
        Self { operation: Some(operation), nth, trouble, lasting: false, permanent: false }
    }
}

/// How often each call gives way to others.
pub(crate) type Pace = Box<dyn FnMut() -> u32 + Send>;

#[derive(Default)]
pub(crate) struct State {
    calls: HashMap<Operation, u64>,
    all_calls: u64,
    pub(crate) bytes_read: u64,
    fault: Option<StoreFault>,
    reached: bool,
    /// The object whose call met its trouble first.
    pub(crate) met_at: Option<Key>,
    pace: Option<Pace>,
    /// What was stored last.
    pub(crate) newest: Option<Key>,
}

impl State {
    fn count(&mut self, operation: Operation) -> Option<StoreFault> {
        self.all_calls += 1;
        let calls = self.calls.entry(operation).or_default();
        *calls += 1;
        let fault = self.fault?;
        let number = match fault.operation {
            None => self.all_calls,
            Some(wanted) if wanted == operation => *calls,
            Some(_) => return None,
        };
        let met = number == fault.nth || fault.lasting && number > fault.nth;
        self.reached |= met;
        met.then_some(fault)
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("fault", &self.fault).field("reached", &self.reached).finish_non_exhaustive()
    }
}

/// What is left to happen to a call that was let through.
#[derive(Debug)]
pub(crate) enum After {
    /// Nothing.
    Nothing,
    /// Its answer is lost.
    Lost(Error),
    /// The process dies.
    Death,
    /// What only some operations know: half, short or garbled; and the error to fail with.
    Partly(Trouble, Error),
}

/// The state that a store shares with its writers and streams.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    state: Arc<Mutex<State>>,
    met: watch::Sender<bool>,
    dead: watch::Sender<bool>,
}

impl Shared {
    pub(crate) fn new() -> Self {
        Self { state: Arc::default(), met: watch::Sender::new(false), dead: watch::Sender::new(false) }
    }

    pub(crate) fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn reset(&self, fault: Option<StoreFault>) {
        let mut state = self.lock();
        *state = State { fault, pace: state.pace.take(), newest: state.newest.take(), ..State::default() };
        self.met.send_replace(false);
    }

    pub(crate) fn pace(&self, pace: Option<Pace>) {
        self.lock().pace = pace;
    }

    pub(crate) fn reached(&self) -> bool {
        self.lock().reached
    }

    pub(crate) fn calls(&self, operation: Option<Operation>) -> u64 {
        let state = self.lock();
        operation.map_or(state.all_calls, |operation| state.calls.get(&operation).copied().unwrap_or_default())
    }

    pub(crate) fn is_dead(&self) -> bool {
        *self.dead.borrow()
    }

    /// Resolves when a call meets its trouble.
    pub(crate) async fn met(&self) {
        // The sender lives as long as this.
        let _ = self.met.subscribe().wait_for(|met| *met).await;
    }

    /// Resolves when the process is dead.
    pub(crate) async fn died(&self) {
        let _ = self.dead.subscribe().wait_for(|dead| *dead).await;
    }

    async fn die(&self) -> ! {
        self.dead.send_replace(true);
        std::future::pending().await
    }

    /// Counts a call, and lets happen to it what is to happen before its effect.
    pub(crate) async fn meet(&self, operation: Operation, location: &Location, key: &Key) -> Result<After> {
        if self.is_dead() {
            std::future::pending::<()>().await;
        }
        let (fault, pace) = {
            let mut state = self.lock();
            let fault = state.count(operation);
            if fault.is_some() {
                state.met_at.get_or_insert_with(|| key.clone());
            }
            (fault, state.pace.as_mut().map(|pace| pace()))
        };
        for _ in 0..pace.unwrap_or_default() {
            tokio::task::yield_now().await;
        }
        let Some(fault) = fault else { return Ok(After::Nothing) };
        self.met.send_replace(true);
        let error = error(operation, fault.permanent, location, key);
        match fault.trouble {
            Trouble::Fails => Err(error),
            Trouble::AnswerLost => Ok(After::Lost(error)),
            Trouble::Late(wait) => {
                tokio::time::sleep(wait).await;
                Ok(After::Nothing)
            }
            Trouble::Hangs => std::future::pending().await,
            Trouble::Dies => self.die().await,
            Trouble::DiesAfter => Ok(After::Death),
            trouble @ (Trouble::Half | Trouble::Short | Trouble::Garbled) => Ok(After::Partly(trouble, error)),
        }
    }

    /// Lets happen to a call what is to happen after its effect. Halves of what has none are failures.
    pub(crate) async fn settle<T>(&self, after: After, outcome: Result<T>) -> Result<T> {
        match after {
            After::Nothing => outcome,
            After::Lost(error) | After::Partly(Trouble::Half, error) => outcome.and(Err(error)),
            After::Partly(..) => outcome,
            After::Death => self.die().await,
        }
    }
}

fn error(operation: Operation, permanent: bool, location: &Location, key: &Key) -> Error {
    let (doing, location) = (format!("{operation:?} {key}"), location.clone());
    let source = Box::new(Cause { text: "a fault was injected".into(), code: None, status: None });
    if permanent { Error::Denied { doing, location, source } } else { Error::Unreachable { doing, location, source } }
}
