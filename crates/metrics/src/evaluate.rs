//! CloudWatch's evaluation of an alarm, over any history: shows when an alarm fires and that it does not flap.
//!
//! The rules are those of the CloudWatch User Guide, "Alarm evaluation" and "Alarm evaluation window": windows slide; an
//! alarm is evaluated every minute, one that looks back more than a day once an hour.

use chrono::{DateTime, Duration, Utc};

use crate::{Alarm, Missing, Statistic};

/// A value that was sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Datapoint {
    /// When.
    pub at: DateTime<Utc>,
    /// What.
    pub value: f64,
}

/// An alarm's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AlarmState {
    /// Nothing is known yet.
    InsufficientData,
    /// All is well.
    Ok,
    /// It has fired.
    Alarm,
}

/// The states that `alarm` enters between `from` and `until`, each with when, for these values (in order of time). Its state
/// before `from` is [`AlarmState::InsufficientData`], as of an alarm that was just made.
pub fn evaluate(
    alarm: &Alarm,
    values: &[Datapoint],
    from: DateTime<Utc>,
    until: DateTime<Utc>,
) -> Vec<(DateTime<Utc>, AlarmState)> {
    let looks_back = i64::from(alarm.period_seconds) * i64::from(alarm.periods);
    let step = if looks_back > 86_400 { Duration::hours(1) } else { Duration::minutes(1) };
    let mut state = AlarmState::InsufficientData;
    let mut entered = Vec::new();
    let mut now = from;
    while now <= until {
        let next = state_at(alarm, values, now).unwrap_or(state);
        if next != state {
            entered.push((now, next));
            state = next;
        }
        now += step;
    }
    entered
}

/// The state at one evaluation; `None` keeps the one that was.
fn state_at(alarm: &Alarm, values: &[Datapoint], now: DateTime<Utc>) -> Option<AlarmState> {
    let period = Duration::seconds(i64::from(alarm.period_seconds));
    let begin = now - period * alarm.periods as i32;
    // What lies outside the window is not looked at: a long history costs no more than a short one.
    let first = values.partition_point(|value| value.at <= begin);
    let end = values.partition_point(|value| value.at <= now);
    let window = &values[first..end];
    let nothing = window.is_empty();
    let mut breaching = 0;
    let mut known = 0;
    for number in 0..alarm.periods as i32 {
        let (after, to) = (begin + period * number, begin + period * (number + 1));
        let low = window.partition_point(|value| value.at <= after);
        let high = window.partition_point(|value| value.at <= to);
        // FILL has nothing to fill where there is no value at all.
        let value = aggregate(alarm.statistic, &window[low..high]).or(alarm.fill.filter(|_| !nothing));
        match value {
            Some(value) => {
                known += 1;
                breaching += u32::from(alarm.comparison.breaches(value, alarm.threshold));
            }
            None if alarm.missing == Missing::Breaching => breaching += 1,
            None => {}
        }
    }
    match alarm.missing {
        Missing::Breaching => Some(if breaching == alarm.periods { AlarmState::Alarm } else { AlarmState::Ok }),
        Missing::Ignore if known == 0 => None,
        Missing::Ignore => Some(if breaching == known { AlarmState::Alarm } else { AlarmState::Ok }),
    }
}

fn aggregate(statistic: Statistic, values: &[Datapoint]) -> Option<f64> {
    let values = values.iter().map(|value| value.value);
    match statistic {
        Statistic::Sum => values.reduce(|sum, value| sum + value),
        Statistic::Minimum => values.reduce(f64::min),
        Statistic::Maximum => values.reduce(f64::max),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration as Span;

    use chrono::{Datelike, TimeZone, Weekday};

    use super::*;
    use crate::{AlarmKind, MonitoringOptions, MonitoringPlan};

    const DAYS: i64 = 120;

    fn begin() -> DateTime<Utc> {
        Utc.with_ymd_and_hms(2025, 10, 1, 0, 0, 0).unwrap()
    }

    fn alarm(kind: AlarmKind, gap: Span) -> Alarm {
        let options = MonitoringOptions { longest_gap: gap, ..MonitoringOptions::new("PgKeep/Backups", "app") };
        let plan = MonitoringPlan::new(&options);
        plan.alarms.into_iter().find(|alarm| alarm.kind == kind).unwrap()
    }

    /// Runs at 03:00, a while later each (jitter and duration together: up to 90 minutes, never twice the same).
    fn runs(success: impl Fn(i64, DateTime<Utc>) -> Option<f64>) -> Vec<Datapoint> {
        (0..DAYS)
            .filter_map(|day| {
                let at = begin() + Duration::days(day) + Duration::hours(3) + Duration::minutes(day * 37 % 91);
                Some(Datapoint { at, value: success(day, at)? })
            })
            .collect()
    }

    /// The states after the first success: an alarm made before it may fire until then.
    fn states(alarm: &Alarm, values: &[Datapoint]) -> Vec<(DateTime<Utc>, AlarmState)> {
        evaluate(alarm, values, values[0].at + Duration::minutes(5), begin() + Duration::days(DAYS))
    }

    fn day(at: DateTime<Utc>) -> i64 {
        (at - begin()).num_days()
    }

    #[test]
    fn daily_backups_that_succeed_never_raise_it() {
        let alarm = alarm(AlarmKind::BackupFailure, Span::from_hours(24));
        assert_eq!((alarm.periods, alarm.period_seconds), (26, 3_600));
        let states = states(&alarm, &runs(|_, _| Some(1.0)));
        assert_eq!(states.iter().map(|(_, state)| *state).collect::<Vec<_>>(), [AlarmState::Ok]);
    }

    #[test]
    fn a_missing_or_failing_day_raises_it_once_and_the_next_success_ends_it() {
        let alarm = alarm(AlarmKind::BackupFailure, Span::from_hours(24));
        for bad in [None, Some(0.0)] {
            let states = states(&alarm, &runs(|day, _| if day == 40 { bad } else { Some(1.0) }));
            let found: Vec<_> = states.iter().map(|(at, state)| (day(*at), *state)).collect();
            assert_eq!(found, [(0, AlarmState::Ok), (40, AlarmState::Alarm), (41, AlarmState::Ok)], "{bad:?}");
        }
    }

    #[test]
    fn backups_that_stop_for_good_raise_it_and_it_stays() {
        let alarm = alarm(AlarmKind::BackupFailure, Span::from_hours(24));
        for bad in [None, Some(0.0)] {
            let states = states(&alarm, &runs(|day, _| if day >= 40 { bad } else { Some(1.0) }));
            assert_eq!(states.len(), 2);
            let (at, state) = states[1];
            assert_eq!((day(at), state), (40, AlarmState::Alarm), "within a day and the grace");
        }
    }

    #[test]
    fn a_late_run_within_the_grace_is_no_alarm_beyond_it_is_one() {
        let alarm = alarm(AlarmKind::BackupFailure, Span::from_hours(24));
        let late = |by: i64| {
            let mut values: Vec<_> =
                (0..30).map(|day| Datapoint { at: begin() + Duration::hours(day * 24 + 3), value: 1.0 }).collect();
            values[20].at += Duration::minutes(by);
            states(&alarm, &values).iter().filter(|(at, state)| *state == AlarmState::Alarm && day(*at) < 30).count()
        };
        assert_eq!(late(0), 0);
        assert_eq!(late(115), 0);
        assert_eq!(late(240), 1);
    }

    #[test]
    fn weekday_only_backups_need_the_weekend_s_gap() {
        let weekdays = runs(|_, at| (!matches!(at.weekday(), Weekday::Sat | Weekday::Sun)).then_some(1.0));
        let right = alarm(AlarmKind::BackupFailure, Span::from_hours(72));
        assert!(states(&right, &weekdays).iter().all(|(_, state)| *state == AlarmState::Ok));
        let wrong = alarm(AlarmKind::BackupFailure, Span::from_hours(24));
        assert!(states(&wrong, &weekdays).iter().any(|(_, state)| *state == AlarmState::Alarm), "shows that it can");
        let friday_fails = runs(|day, at| {
            (!matches!(at.weekday(), Weekday::Sat | Weekday::Sun)).then_some(f64::from(u8::from(day != 50)))
        });
        // Day 50 is a Thursday: Friday's success comes in time.
        assert!(states(&right, &friday_fails).iter().all(|(_, state)| *state == AlarmState::Ok));
    }

    #[test]
    fn six_hourly_backups_are_missed_within_hours() {
        let alarm = alarm(AlarmKind::BackupFailure, Span::from_hours(6));
        assert_eq!(alarm.periods, 8);
        let values: Vec<_> = (0..100)
            .filter(|number| *number != 50)
            .map(|number| Datapoint { at: begin() + Duration::hours(number * 6), value: 1.0 })
            .collect();
        let states = evaluate(&alarm, &values, begin(), begin() + Duration::hours(99 * 6));
        let raised: Vec<_> = states.iter().filter(|(_, state)| *state == AlarmState::Alarm).collect();
        assert_eq!(raised.len(), 1);
        let missed = begin() + Duration::hours(50 * 6);
        assert_eq!((raised[0].0 - missed).num_hours(), 2);
    }

    #[test]
    fn an_alarm_over_nothing_at_all_fires() {
        let alarm = alarm(AlarmKind::BackupFailure, Span::from_hours(24));
        let states = evaluate(&alarm, &[], begin(), begin() + Duration::days(3));
        assert_eq!(states, [(begin(), AlarmState::Alarm)]);
    }

    #[test]
    fn a_shrunken_backup_is_an_anomaly_until_the_next_sound_one() {
        let alarm = alarm(AlarmKind::SizeAnomaly, Span::from_hours(24));
        let sizes = |day: i64| if day == 30 { 40 } else { 100 + day as u64 };
        let values = runs(|day, _| crate::size_change(sizes(day), (0..day).rev().map(sizes)));
        let found: Vec<_> = states(&alarm, &values).iter().map(|(at, state)| (day(*at), *state)).collect();
        assert_eq!(found, [(3, AlarmState::Ok), (30, AlarmState::Alarm), (31, AlarmState::Ok)]);
    }

    #[test]
    fn a_database_that_was_cut_down_for_good_is_news_only_for_a_while() {
        let alarm = alarm(AlarmKind::SizeAnomaly, Span::from_hours(24));
        let sizes = |day: i64| if day >= 30 { 40 } else { 100 };
        let values = runs(|day, _| crate::size_change(sizes(day), (0..day).rev().map(sizes)));
        let found: Vec<_> = states(&alarm, &values).iter().map(|(at, state)| (day(*at), *state)).collect();
        assert_eq!(found, [(3, AlarmState::Ok), (30, AlarmState::Alarm), (34, AlarmState::Ok)]);
    }

    #[test]
    fn growth_and_ordinary_change_are_no_anomaly() {
        let alarm = alarm(AlarmKind::SizeAnomaly, Span::from_hours(24));
        let sizes = |day: i64| (100.0 * 1.05_f64.powi(day as i32)) as u64 * if day % 7 == 0 { 6 } else { 10 };
        let values = runs(|day, _| crate::size_change(sizes(day), (0..day).rev().map(sizes)));
        assert!(states(&alarm, &values).iter().all(|(_, state)| *state == AlarmState::Ok));
    }

    #[test]
    fn a_slow_backup_raises_the_duration_alarm_and_a_quick_one_ends_it() {
        let alarm = alarm(AlarmKind::DurationHigh, Span::from_hours(24));
        let values = runs(|day, _| Some(if day == 12 { 1_801.0 } else { 1_800.0 }));
        let found: Vec<_> = states(&alarm, &values).iter().map(|(at, state)| (day(*at), *state)).collect();
        assert_eq!(found, [(0, AlarmState::Ok), (12, AlarmState::Alarm), (13, AlarmState::Ok)]);
    }

    #[test]
    fn a_restore_test_that_is_a_month_old_is_missed() {
        let alarm = alarm(AlarmKind::RestoreTestMissing, Span::from_hours(24));
        // Tested on days 0, 30 (in time) and 75 (late).
        let tested = [0, 30, 75];
        let values = runs(|day, _| {
            let last = tested.iter().filter(|test| **test <= day).max()?;
            Some((day - last) as f64 * 86_400.0)
        });
        let found: Vec<_> = states(&alarm, &values).iter().map(|(at, state)| (day(*at), *state)).collect();
        assert_eq!(
            found,
            [(0, AlarmState::Ok), (61, AlarmState::Alarm), (75, AlarmState::Ok), (106, AlarmState::Alarm)]
        );
    }
}
