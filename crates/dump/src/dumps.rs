//! Dumps that an engine has under way, and the places they take on the server.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::{Error, Result};

/// How long is waited before a connection is asked for again.
const PAUSE: Duration = Duration::from_secs(1);
/// How often it is asked for when no dump of ours takes the places.
const TRIES: usize = 60;

/// How many dumps of an engine and its clones are under way.
#[derive(Debug, Clone, Default)]
pub(crate) struct Dumps(Arc<AtomicUsize>);

/// One of them, until it is dropped.
#[derive(Debug)]
pub(crate) struct UnderWay(Dumps);

impl Dumps {
    /// One more.
    pub(crate) fn begin(&self) -> UnderWay {
        self.0.fetch_add(1, Ordering::SeqCst);
        UnderWay(self.clone())
    }

    fn are_under_way(&self) -> bool {
        self.0.load(Ordering::SeqCst) > 0
    }

    /// Waits for a place on the server, if `refused` says that there was none: as long as a dump of ours may hold it, and a
    /// minute beyond. Whether it is worth another try.
    pub(crate) async fn wait_for_a_place(
        &self,
        refused: &Error,
        tries: &mut usize,
        cancel: &CancellationToken,
    ) -> Result<bool> {
        if !is_for_want_of_connections(refused) || *tries == TRIES {
            return Ok(false);
        }
        if self.are_under_way() {
            *tries = 0;
        } else {
            *tries += 1;
        }
        tracing::info!(%refused, "a connection is asked for again");
        tokio::select! {
            () = cancel.cancelled() => Err(Error::Interrupted),
            () = tokio::time::sleep(PAUSE) => Ok(true),
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn is_for_want_of_connections(error: &Error) -> bool {
    match error {
        // Who asks has had a session there a moment ago: what has changed since are the places.
        Error::Child(error) => error.is_for_want_of_connections() || error.is_no_connection_without_a_reason(),
        error => error.sqlstate() == Some("53300"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ServerError;

    #[tokio::test(start_paused = true)]
    async fn a_place_is_waited_for_while_a_dump_may_hold_it() {
        let refused = |sqlstate: &str| Error::Refused {
            server: "db".to_owned(),
            source: Box::new(ServerError { sqlstate: sqlstate.to_owned(), ..ServerError::default() }),
        };
        let (dumps, cancel, mut tries) = (Dumps::default(), CancellationToken::new(), 0);
        assert!(!dumps.wait_for_a_place(&refused("28P01"), &mut tries, &cancel).await.unwrap());

        let under_way = dumps.clone().begin();
        for _ in 0..10 * TRIES {
            assert!(dumps.wait_for_a_place(&refused("53300"), &mut tries, &cancel).await.unwrap());
        }
        drop(under_way);
        for _ in 0..TRIES {
            assert!(dumps.wait_for_a_place(&refused("53300"), &mut tries, &cancel).await.unwrap());
        }
        assert!(!dumps.wait_for_a_place(&refused("53300"), &mut tries, &cancel).await.unwrap());

        cancel.cancel();
        tries = 0;
        let waited = dumps.wait_for_a_place(&refused("53300"), &mut tries, &cancel).await;
        assert!(matches!(waited, Err(Error::Interrupted)));
    }
}
