//! When a run has to end before it is done.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{Error, Result};

/// Cancellation and deadline of one run.
#[derive(Debug, Clone)]
pub(crate) struct Stop {
    cancel: CancellationToken,
    limit: Option<(Instant, Duration)>,
}

impl Stop {
    /// A stop when `cancel` is cancelled or `limit` from now has passed.
    pub(crate) fn new(cancel: &CancellationToken, limit: Option<Duration>) -> Self {
        let limit = limit.and_then(|limit| Some((Instant::now().checked_add(limit)?, limit)));
        Self { cancel: cancel.clone(), limit }
    }

    /// Does `work`, and drops it where it stands when the run has to end.
    pub(crate) async fn until<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            biased;
            reason = self.reason() => Err(reason),
            done = work => done,
        }
    }

    async fn reason(&self) -> Error {
        let deadline = async {
            match self.limit {
                Some((at, limit)) => {
                    tokio::time::sleep_until(at).await;
                    limit
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Error::Interrupted,
            limit = deadline => Error::Timeout { seconds: limit.as_secs() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn ends_by_cancellation_or_deadline_and_else_when_done() {
        let cancel = CancellationToken::new();
        let stop = Stop::new(&cancel, Some(Duration::from_secs(7)));
        assert_eq!(stop.until(async { Ok(1) }).await.unwrap(), 1);
        let endless = || std::future::pending::<Result<()>>();
        assert!(matches!(stop.until(endless()).await, Err(Error::Timeout { seconds: 7 })));
        cancel.cancel();
        assert!(matches!(stop.until(endless()).await, Err(Error::Interrupted)));
    }
}
