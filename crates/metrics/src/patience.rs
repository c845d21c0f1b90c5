//! Trying again, for a bounded time.

use std::time::Duration;

use crate::Error;

/// How often and how long a channel that is down is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Attempts in all.
    pub attempts: u32,
    /// The pause after the first one; each further one is twice as long.
    pub pause: Duration,
    /// Longest time for everything together.
    pub limit: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { attempts: 4, pause: Duration::from_millis(500), limit: Duration::from_secs(20) }
    }
}

impl Patience {
    /// Does `attempt` until it succeeds, until its error is not worth another one, or until patience ends; then the last error.
    pub async fn keep_trying<F>(&self, channel: &str, mut attempt: impl FnMut() -> F) -> Result<(), Error>
    where
        F: Future<Output = Result<(), Error>>,
    {
        let mut last = None;
        let work = async {
            let mut pause = self.pause;
            for number in 1..=self.attempts.max(1) {
                match attempt().await {
                    Ok(()) => return Ok(()),
                    Err(error) if !error.retryable || number >= self.attempts => return Err(error),
                    Err(error) => last = Some(error),
                }
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
            Ok(())
        };
        match tokio::time::timeout(self.limit, work).await {
            Ok(outcome) => outcome,
            Err(_) => {
                Err(last
                    .unwrap_or_else(|| Error::passing(channel, format!("no answer within {} s", self.limit.as_secs()))))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    const QUICK: Patience = Patience { attempts: 3, pause: Duration::from_millis(1), limit: Duration::from_mins(1) };

    async fn attempts(failures: u32, retryable: bool) -> (u32, bool) {
        let made = AtomicU32::new(0);
        let outcome = QUICK
            .keep_trying("toy", || async {
                if made.fetch_add(1, Ordering::SeqCst) < failures {
                    Err(Error { retryable, ..Error::permanent("toy", "down") })
                } else {
                    Ok(())
                }
            })
            .await;
        (made.load(Ordering::SeqCst), outcome.is_ok())
    }

    #[tokio::test]
    async fn what_may_pass_is_tried_again_and_not_for_ever() {
        assert_eq!(attempts(0, true).await, (1, true));
        assert_eq!(attempts(2, true).await, (3, true));
        assert_eq!(attempts(9, true).await, (3, false));
        assert_eq!(attempts(9, false).await, (1, false));
    }

    #[tokio::test]
    async fn one_that_never_answers_is_given_up() {
        let patience = Patience { limit: Duration::from_millis(20), ..QUICK };
        let error = patience.keep_trying("toy", std::future::pending).await.unwrap_err();
        assert!(error.reason.contains("no answer"), "{error}");
    }
}
