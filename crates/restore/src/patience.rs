//! How a run that is told to end does so, although a server may not answer.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::{Error, Restorer, Result};

/// How long what is not to be left half-way, and what tidies up, may take once the run is told to end. A server that has not
/// answered then may never do so.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for `work` to its end; once the run is told to end, no longer than [`PATIENCE`]. `None` if it was given up.
pub(crate) async fn to_its_end<T>(cancel: &CancellationToken, work: impl Future<Output = T>) -> Option<T> {
    let given_up = async {
        cancel.cancelled().await;
        tokio::time::sleep(PATIENCE).await;
    };
    tokio::select! {
        biased;
        result = work => Some(result),
        () = given_up => None,
    }
}

/// The error of what was given up.
pub(crate) fn no_answer(what: &str) -> pgkeep_dump::Error {
    pgkeep_dump::Error::Timeout { what: what.to_owned(), after: PATIENCE }
}

impl Restorer {
    /// Stops waiting for `work` when the run is told to end.
    pub(crate) async fn unless_cancelled<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            biased;
            result = work => result,
            () = self.cancel.cancelled() => Err(Error::Interrupted),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_not_to_be_left_half_way_is_given_up_only_after_the_run_was_told_to_end() {
        let cancel = CancellationToken::new();
        let slow = tokio::time::sleep(Duration::from_hours(1));
        assert_eq!(to_its_end(&cancel, slow).await, Some(()));
        cancel.cancel();
        let begun = tokio::time::Instant::now();
        assert_eq!(to_its_end(&cancel, tokio::time::sleep(PATIENCE / 2)).await, Some(()));
        assert_eq!(to_its_end(&cancel, std::future::pending::<()>()).await, None);
        assert_eq!(begun.elapsed(), PATIENCE + PATIENCE / 2);
    }
}
