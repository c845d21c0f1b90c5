//! SIGINT and SIGTERM: the first asks the run to end politely, the second ends it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::failure::{Failure, Result};
use crate::hint::Code;
use crate::reporter::Reporter;

const NONE: u8 = 0;
const INTERRUPT: u8 = 1;
const TERMINATE: u8 = 2;

/// What was heard.
#[derive(Debug, Clone)]
pub(crate) struct Signals {
    first: Arc<AtomicU8>,
    /// Ends the run politely.
    pub(crate) cancel: CancellationToken,
    /// Ends it at once.
    forced: CancellationToken,
}

impl Signals {
    /// Listens from now on.
    pub(crate) fn listen(reporter: Arc<Reporter>) -> Result<Self> {
        let failed = |error| Failure::io("listen for signals", &error);
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let signals = Self {
            first: Arc::new(AtomicU8::new(NONE)),
            cancel: CancellationToken::new(),
            forced: CancellationToken::new(),
        };
        let heard = signals.clone();
        tokio::spawn(async move {
            loop {
                let which = tokio::select! {
                    _ = interrupt.recv() => INTERRUPT,
                    _ = terminate.recv() => TERMINATE,
                };
                if heard.first.compare_exchange(NONE, which, Ordering::SeqCst, Ordering::SeqCst).is_err() {
                    heard.forced.cancel();
                    break;
                }
                heard.cancel.cancel();
                reporter.clear();
                reporter.caution(match which {
                    INTERRUPT => "Interrupted: cleaning up; once more ends it at once",
                    _ => "Terminated: cleaning up; once more ends it at once",
                });
            }
        });
        Ok(signals)
    }

    /// Resolves at the second signal.
    pub(crate) async fn forced(&self) {
        self.forced.cancelled().await;
    }

    /// The failure of a run that was ended by a signal.
    pub(crate) fn failure(&self) -> Failure {
        match self.first.load(Ordering::SeqCst) {
            TERMINATE => Failure::new(Code::Terminated, "terminated"),
            _ => Failure::new(Code::Interrupted, "interrupted"),
        }
    }

    /// An interruption named after the signal that caused it. What it has to say beyond that it still says.
    pub(crate) fn rename(&self, failure: Failure) -> Failure {
        match (failure.code, &failure.hint) {
            (Code::Interrupted, None) => self.failure(),
            (Code::Interrupted, Some(_)) => Failure { code: self.failure().code, ..failure },
            _ => failure,
        }
    }
}
