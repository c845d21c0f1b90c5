//! Whether a scheduled run has anything to do, and its random delay.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use pgkeep_core::schedule::{CronExpression, Schedule};
use pgkeep_core::{BackupClass, Catalog, Lock};

use super::Context;
use crate::args::BackupArgs;
use crate::failure::{Failure, Result};
use crate::hint::Code;
use crate::settings::duration;
use crate::wire::Access;

/// A class that has no backup yet is made at its scheduled time, not when the schedule is set up. The guard looks every
/// hour: one look, and one more in case that failed.
const FIRST_TIME: TimeDelta = TimeDelta::minutes(90);

/// Waits for the random delay; `false` if there is nothing to do.
pub(super) async fn is_wanted(context: &Context, args: &BackupArgs, class: BackupClass) -> Result<bool> {
    let jitter = match &args.jitter {
        None => Duration::ZERO,
        Some(text) => {
            duration(text).map_err(|wanted| Failure::settings(format!("--jitter: {text:?} is not {wanted}")))?
        }
    };
    let schedule = match &args.if_due {
        None => None,
        Some(text) => {
            let expression = CronExpression::parse(text)
                .map_err(|error| Failure::settings(format!("--if-due: {text:?} is no cron expression: {error}")))?;
            Some(Schedule::new([(class, expression)]))
        }
    };
    // What a dry run shows does not depend on the time.
    if args.dry_run {
        return Ok(true);
    }
    if let Some(schedule) = &schedule
        && !is_due(context, schedule, class).await?
    {
        return Ok(false);
    }
    let delay = random_below(jitter);
    if delay.is_zero() {
        return Ok(true);
    }
    context.reporter.info(format!("Starting in {} s (--jitter)", delay.as_secs()));
    tokio::select! {
        () = tokio::time::sleep(delay) => {}
        () = context.cancel.cancelled() => return Err(Failure::new(Code::Interrupted, "interrupted")),
    }
    match &schedule {
        // Somebody may have made it meanwhile.
        Some(schedule) => is_due(context, schedule, class).await,
        None => Ok(true),
    }
}

async fn is_due(context: &Context, schedule: &Schedule, class: BackupClass) -> Result<bool> {
    let reporter = &context.reporter;
    let keeper = context.keeper(Access::Read).await?;
    let catalog = Catalog::load(&keeper).await?;
    let last =
        catalog.own().filter(|entry| entry.meta.backup_type == class && entry.good()).map(|entry| entry.meta.date);
    let last = last.max();
    let Some(scheduled) = due(schedule, class, last, Utc::now()) else {
        reporter.detail(format!("No {class} backup is due"));
        return Ok(false);
    };
    let now = Utc::now();
    if let Some(lock) = Lock::inspect(&keeper).await?.iter().find(|lock| !lock.released && lock.expires > now) {
        reporter.info(format!("A {class} backup is due, but {} holds the lock: looking again next time", lock.holder));
        return Ok(false);
    }
    reporter.info(format!("A {class} backup is due since {}", scheduled.format("%Y-%m-%d %H:%M UTC")));
    Ok(true)
}

/// Since when a backup is due.
fn due(
    schedule: &Schedule,
    class: BackupClass,
    last: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Option<DateTime<Utc>> {
    schedule.due(class, last, now).filter(|scheduled| last.is_some() || now - *scheduled < FIRST_TIME)
}

/// A random duration of whole seconds below `limit`. The standard library's seed is random enough to spread hosts.
fn random_below(limit: Duration) -> Duration {
    let random = RandomState::new().hash_one(std::process::id());
    Duration::from_secs(random.checked_rem(limit.as_secs()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use chrono::TimeZone;

    use super::*;

    #[test]
    fn a_first_backup_waits_for_its_time_and_a_late_one_does_not() {
        let schedule = Schedule::default();
        let at = |day, hour, minute| Utc.with_ymd_and_hms(2025, 10, day, hour, minute, 0).unwrap();
        let due = |last, now| due(&schedule, BackupClass::Daily, last, now);
        assert_eq!(due(None, at(17, 14, 0)), None);
        assert_eq!(due(None, at(17, 3, 0)), Some(at(17, 3, 0)));
        assert_eq!(due(None, at(17, 4, 0)), Some(at(17, 3, 0)));
        assert_eq!(due(Some(at(16, 3, 5)), at(17, 14, 0)), Some(at(17, 3, 0)));
        assert_eq!(due(Some(at(17, 3, 5)), at(17, 14, 0)), None);
    }

    #[test]
    fn a_delay_is_below_its_limit() {
        assert_eq!(random_below(Duration::ZERO), Duration::ZERO);
        assert_eq!(random_below(Duration::from_secs(1)), Duration::ZERO);
        for _ in 0..100 {
            assert!(random_below(Duration::from_secs(7)) < Duration::from_secs(7));
        }
    }
}
