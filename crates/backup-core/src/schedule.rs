//! When backups are due: cron expressions and the schedule made of them. Pure: no clock, no file, no zone of the host.
//!
//! Expressions mean what Vixie cron makes of them (crontab(5), `entry.c` and `cron.c` of ISC cron), evaluated in UTC unless
//! a zone is given. What only some cron daemons accept is refused, so that an accepted expression means the same everywhere.

mod calendar;
mod error;
mod expression;
mod field;
mod gap;
#[cfg(test)]
mod tests;
mod words;
mod zone;

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;

pub use error::CronError;
pub use expression::CronExpression;

use crate::BackupClass;

/// How much later than scheduled a backup may be done before it counts as missing.
pub const GRACE: Duration = Duration::from_hours(2);

/// The classes that are made on a schedule.
pub const SCHEDULED: [BackupClass; 3] = [BackupClass::Daily, BackupClass::Weekly, BackupClass::Monthly];

/// When a backup of this class is made unless set otherwise, in UTC; `None` for pre-restore snapshots.
pub fn default_expression(class: BackupClass) -> Option<&'static str> {
    match class {
        BackupClass::Daily => Some("0 3 * * *"),
        BackupClass::Weekly => Some("0 2 * * 0"),
        BackupClass::Monthly => Some("0 1 1 * *"),
        BackupClass::PreRestore => None,
    }
}

/// When a backup of each class is made, in UTC. A class without an expression is not scheduled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Schedule {
    jobs: BTreeMap<BackupClass, CronExpression>,
}

/// One run to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct ScheduledRun {
    /// When it is due.
    pub at: DateTime<Utc>,
    /// Of which class.
    pub class: BackupClass,
}

impl Default for Schedule {
    /// Daily at 03:00, weekly on Sunday at 02:00, monthly on the 1st at 01:00.
    fn default() -> Self {
        let job = |class| {
            let text = default_expression(class)?;
            Some((class, CronExpression::parse(text).expect("the defaults are expressions")))
        };
        Self { jobs: SCHEDULED.into_iter().filter_map(job).collect() }
    }
}

impl Schedule {
    /// A schedule of these jobs; the last one of a class counts.
    pub fn new(jobs: impl IntoIterator<Item = (BackupClass, CronExpression)>) -> Self {
        Self { jobs: jobs.into_iter().collect() }
    }

    /// Whether nothing is scheduled.
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// The scheduled classes, each with its expression.
    pub fn jobs(&self) -> impl Iterator<Item = (BackupClass, &CronExpression)> {
        self.jobs.iter().map(|(class, expression)| (*class, expression))
    }

    /// When backups of this class are made.
    pub fn job(&self, class: BackupClass) -> Option<&CronExpression> {
        self.jobs.get(&class)
    }

    /// The longest time without a run of any class, by the calendar alone (no grace, no duration of the run); `None` where
    /// nothing is scheduled.
    pub fn longest_gap(&self) -> Option<Duration> {
        gap::longest(&self.jobs.values().collect::<Vec<_>>())
    }

    /// The next `count` runs after `after`, in order.
    pub fn next_runs(&self, after: DateTime<Utc>, count: usize) -> Vec<ScheduledRun> {
        let mut runs: Vec<_> = self
            .jobs()
            .flat_map(|(class, expression)| {
                expression.runs_after(after).take(count).map(move |at| ScheduledRun { at, class })
            })
            .collect();
        runs.sort_unstable();
        runs.truncate(count);
        runs
    }

    /// The time at which a backup of `class` should have been begun and was not: the newest scheduled time up to `now`, if
    /// the last backup was begun before it (or there is none).
    pub fn due(
        &self,
        class: BackupClass,
        last_begun: Option<DateTime<Utc>>,
        now: DateTime<Utc>,
    ) -> Option<DateTime<Utc>> {
        let scheduled = self.job(class)?.latest_at(now)?;
        last_begun.is_none_or(|begun| begun < scheduled).then_some(scheduled)
    }
}
