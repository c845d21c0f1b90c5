//! Whose turn it is in the stream.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// The tasks that are not done yet, numbered in archive order.
#[derive(Debug, Default)]
pub(super) struct Turns {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    open: BTreeSet<u64>,
}

/// The place of one task; dropped when its last block is on its way.
#[derive(Debug)]
pub(super) struct Turn {
    turns: Arc<Turns>,
    number: u64,
}

impl Turns {
    /// The next place.
    pub(super) fn take(turns: &Arc<Self>) -> Turn {
        let mut state = turns.state();
        let number = state.next;
        state.next += 1;
        state.open.insert(number);
        Turn { turns: Arc::clone(turns), number }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// What waits until every earlier task is done. Whose blocks are taken next need not wait for any other task's.
    pub(super) fn comes(&self) -> impl Future<Output = ()> + Send + use<> {
        let (turns, number) = (Arc::clone(&self.turns), self.number);
        async move {
            loop {
                let changed = turns.changed.notified();
                if turns.state().open.first().is_none_or(|first| *first >= number) {
                    return;
                }
                changed.await;
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.turns.state().open.remove(&self.number);
        self.turns.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn a_turn_comes_when_all_before_it_are_done() {
        let turns = Arc::new(Turns::default());
        let [first, second, third] = std::array::from_fn(|_| Turns::take(&turns));
        assert!(first.comes().now_or_never().is_some());
        let comes = third.comes();
        let mut comes = std::pin::pin!(comes);
        assert!(comes.as_mut().now_or_never().is_none());
        drop(second);
        assert!(comes.as_mut().now_or_never().is_none());
        drop(first);
        assert!(comes.as_mut().now_or_never().is_some());
    }
}
