//! Which outcome of a run is worth a notice.

use std::collections::BTreeMap;

use chrono::{DateTime, Duration, Utc};
use serde::{Deserialize, Serialize};

/// Between two notices of the same trouble: a day, and daily runs do not end at the same minute.
const REMINDER: Duration = Duration::hours(20);

/// What is remembered of each operation (`backup`, `restore`…) between runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Watch {
    /// By operation.
    pub operations: BTreeMap<String, Watched>,
}

/// What is remembered of one operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watched {
    /// When it last ran.
    pub at: DateTime<Utc>,
    /// The code of what it fails with; `None` when it is well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing: Option<String>,
    /// Since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<DateTime<Utc>>,
    /// When people were last told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told: Option<DateTime<Utc>>,
    /// Failed runs since then.
    #[serde(default)]
    pub failures: u32,
}

/// What people are to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// It failed, or fails for another reason than before.
    Failed,
    /// It still fails.
    Reminder {
        /// Since when.
        since: DateTime<Utc>,
        /// How often.
        failures: u32,
    },
    /// It is well again.
    Recovered {
        /// Since when it had failed.
        since: DateTime<Utc>,
        /// How often.
        failures: u32,
    },
}

impl Watch {
    /// Takes note of a run's outcome, the code of its failure or `None`, and says what people are to be told.
    ///
    /// A failure at once; the same again, and what can't be told apart from it, no sooner than a day after the last notice;
    /// another one at once; then that it is well again. A clock that was set back counts as a day.
    pub fn hears(&mut self, operation: &str, failure: Option<&str>, now: DateTime<Utc>) -> Option<Told> {
        let before = self.operations.remove(operation);
        let (after, told) = match (failure, before) {
            (None, Some(Watched { failing: Some(_), since, failures, .. })) => {
                let since = since.unwrap_or(now);
                (Watched { at: now, ..Watched::well(now) }, Some(Told::Recovered { since, failures }))
            }
            (None, _) => (Watched::well(now), None),
            (Some(code), Some(Watched { failing: Some(known), since, told, failures, .. })) => {
                let since = since.unwrap_or(now);
                let failures = failures.saturating_add(1);
                let last = told.unwrap_or(since);
                let due = now - last >= REMINDER || last > now;
                let news = if known != code {
                    Some(Told::Failed)
                } else if due {
                    Some(Told::Reminder { since, failures })
                } else {
                    None
                };
                let told = if news.is_some() { Some(now) } else { told };
                (Watched { at: now, failing: Some(code.to_owned()), since: Some(since), told, failures }, news)
            }
            (Some(code), _) => {
                let watched =
                    Watched { at: now, failing: Some(code.to_owned()), since: Some(now), told: Some(now), failures: 1 };
                (watched, Some(Told::Failed))
            }
        };
        self.operations.insert(operation.to_owned(), after);
        told
    }

    /// Takes back that people were told, for nobody was: the next run tries again.
    pub fn was_not_told(&mut self, operation: &str) {
        if let Some(watched) = self.operations.get_mut(operation) {
            watched.told = Some(DateTime::UNIX_EPOCH);
        }
    }
}

impl Watched {
    fn well(at: DateTime<Utc>) -> Self {
        Self { at, failing: None, since: None, told: None, failures: 0 }
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeZone;

    use super::*;

    fn at(hour: i64) -> DateTime<Utc> {
        Utc.with_ymd_and_hms(2025, 10, 17, 3, 0, 0).unwrap() + Duration::hours(hour)
    }

    #[test]
    fn a_failure_at_once_then_a_reminder_a_day_then_recovered() {
        let mut watch = Watch::default();
        assert_eq!(watch.hears("backup", None, at(0)), None);
        assert_eq!(watch.hears("backup", Some("locked"), at(1)), Some(Told::Failed));
        for hour in [2, 8, 20] {
            assert_eq!(watch.hears("backup", Some("locked"), at(hour)), None, "{hour}");
        }
        assert_eq!(watch.hears("backup", Some("locked"), at(25)), Some(Told::Reminder { since: at(1), failures: 5 }));
        assert_eq!(watch.hears("backup", Some("locked"), at(44)), None);
        assert_eq!(watch.hears("backup", Some("disk_full"), at(44)), Some(Told::Failed), "other news");
        assert_eq!(watch.hears("backup", None, at(49)), Some(Told::Recovered { since: at(1), failures: 7 }));
        assert_eq!(watch.hears("backup", None, at(50)), None);
        assert_eq!(watch.hears("backup", Some("locked"), at(51)), Some(Told::Failed));
    }

    #[test]
    fn daily_runs_are_reminded_of_daily() {
        let mut watch = Watch::default();
        // Random delays: each run a little earlier or later than a day after the one before.
        let told = (0..5).filter(|day| watch.hears("backup", Some("locked"), at(day * 24 - day % 2)).is_some()).count();
        assert_eq!(told, 5);
    }

    #[test]
    fn operations_are_watched_apart() {
        let mut watch = Watch::default();
        assert_eq!(watch.hears("backup", Some("locked"), at(0)), Some(Told::Failed));
        assert_eq!(watch.hears("verify", None, at(1)), None);
        assert_eq!(watch.hears("verify", Some("damaged"), at(2)), Some(Told::Failed));
        let json = serde_json::to_string(&watch).unwrap();
        assert_eq!(serde_json::from_str::<Watch>(&json).unwrap(), watch);
    }

    #[test]
    fn what_nobody_was_told_is_told_by_the_next_run() {
        let mut watch = Watch::default();
        watch.hears("backup", Some("locked"), at(0));
        watch.was_not_told("backup");
        assert!(matches!(watch.hears("backup", Some("locked"), at(1)), Some(Told::Reminder { failures: 2, .. })));
    }
}
