//! Expressions on the clocks of other zones, whose hours may be skipped or repeated.

use chrono::{DateTime, MappedLocalTime, NaiveDateTime, TimeDelta, TimeZone};

use super::CronExpression;
use super::field::HOUR;

/// More than any zone has ever turned its clocks by: Samoa skipped a day.
const WIDEST_TURN: TimeDelta = TimeDelta::hours(26);

impl CronExpression {
    /// The first time after `after`, by the clock of its zone.
    ///
    /// Where clocks are turned: a time that does not exist is due at the first moment that does, once; a time that comes
    /// twice is due the first time only. So one run a day stays one run a day. An expression for every hour follows the
    /// clock instead: it has nothing due in an hour that does not exist, and runs in both hours that have the same name.
    pub fn next_after_in<Z: TimeZone>(&self, after: &DateTime<Z>) -> Option<DateTime<Z>> {
        let zone = after.timezone();
        let mut local = after.naive_local().checked_sub_signed(WIDEST_TURN)?;
        let mut best: Option<DateTime<Z>> = None;
        loop {
            let Some(next) = self.next_naive(local) else { return best };
            local = next;
            let settled =
                best.as_ref().is_some_and(|best| local.signed_duration_since(best.naive_local()) > WIDEST_TURN);
            if settled {
                return best;
            }
            for at in self.moments(&zone, local) {
                if at > *after && best.as_ref().is_none_or(|best| at < *best) {
                    best = Some(at);
                }
            }
        }
    }

    /// When a time of the clock is due.
    fn moments<Z: TimeZone>(&self, zone: &Z, local: NaiveDateTime) -> impl Iterator<Item = DateTime<Z>> {
        let hourly = HOUR.is_full(self.hours);
        let (first, second) = match zone.from_local_datetime(&local) {
            MappedLocalTime::Single(at) => (Some(at), None),
            MappedLocalTime::Ambiguous(first, second) => (Some(first), hourly.then_some(second)),
            MappedLocalTime::None if hourly => (None, None),
            MappedLocalTime::None => (first_after_skipped(zone, local), None),
        };
        first.into_iter().chain(second)
    }
}

fn first_after_skipped<Z: TimeZone>(zone: &Z, skipped: NaiveDateTime) -> Option<DateTime<Z>> {
    let minutes = WIDEST_TURN.num_minutes();
    (1..=minutes).find_map(|minute| {
        zone.from_local_datetime(&skipped.checked_add_signed(TimeDelta::minutes(minute))?).earliest()
    })
}
