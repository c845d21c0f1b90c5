//! Time that a test moves: what passes of the runtime's (paused) time passes here too.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use chrono::{DateTime, TimeDelta, Utc};
use pgkeep_core::Clock;
use tokio::time::Instant;

/// The true time.
#[derive(Debug, Clone)]
pub(crate) struct Time {
    began: Instant,
    at_ms: Arc<AtomicI64>,
}

impl Time {
    /// It is `at` now.
    pub(crate) fn new(at: DateTime<Utc>) -> Self {
        Self { began: Instant::now(), at_ms: Arc::new(AtomicI64::new(at.timestamp_millis())) }
    }

    pub(crate) fn now(&self) -> DateTime<Utc> {
        let ms = self.at_ms.load(Ordering::SeqCst) + self.began.elapsed().as_millis() as i64;
        DateTime::from_timestamp_millis(ms).expect("in range")
    }

    /// Lets time pass that nobody waits for.
    pub(crate) fn pass(&self, time: TimeDelta) {
        self.at_ms.fetch_add(time.num_milliseconds(), Ordering::SeqCst);
    }
}

/// A clock that may be wrong.
#[derive(Debug, Clone)]
pub(crate) struct SkewedClock {
    time: Time,
    skew_ms: Arc<AtomicI64>,
}

impl SkewedClock {
    pub(crate) fn new(time: &Time) -> Self {
        Self { time: time.clone(), skew_ms: Arc::default() }
    }

    pub(crate) fn skew(&self) -> TimeDelta {
        TimeDelta::milliseconds(self.skew_ms.load(Ordering::SeqCst))
    }

    /// From now on it is so far ahead.
    pub(crate) fn set_skew(&self, skew: TimeDelta) {
        self.skew_ms.store(skew.num_milliseconds(), Ordering::SeqCst);
    }
}

impl Clock for SkewedClock {
    fn now(&self) -> DateTime<Utc> {
        self.time.now() + self.skew()
    }
}
