//! A cron expression and the times it stands for.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, Datelike, Days, Months, NaiveDate, NaiveDateTime, TimeDelta, Timelike, Utc};
use serde::{Serialize, Serializer};

use super::field::{DAY, HOUR, MINUTE, MONTH, Set, WEEKDAY};
use super::{CronError, gap};

/// After how many days the calendar repeats, weekdays included: 400 years.
pub(super) const CYCLE_DAYS: u32 = 146_097;

/// Five fields: minute, hour, day of the month, month, weekday (0 and 7 are Sunday), each a list of numbers, names,
/// ranges, `*`, the latter two with `/step`; or `@hourly`, `@daily`, `@midnight`, `@weekly`, `@monthly`, `@yearly`.
///
/// As with Vixie cron, a day has to match both day fields where one of them begins with `*`, else either of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CronExpression {
    text: String,
    /// The same as five fields.
    fields: String,
    pub(super) minutes: Set,
    pub(super) hours: Set,
    pub(super) days: Set,
    pub(super) months: Set,
    pub(super) weekdays: Set,
    /// A day has to match both day fields, not either.
    pub(super) both: bool,
}

impl CronExpression {
    /// Understands an expression; fields may be separated by any white space.
    pub fn parse(text: &str) -> Result<Self, CronError> {
        let words: Vec<_> = text.split_whitespace().collect();
        let fields: Vec<&str> = match words.as_slice() {
            [word] if word.starts_with('@') => match *word {
                "@hourly" => "0 * * * *",
                "@daily" | "@midnight" => "0 0 * * *",
                "@weekly" => "0 0 * * 0",
                "@monthly" => "0 0 1 * *",
                "@yearly" | "@annually" => "0 0 1 1 *",
                _ => return Err(CronError::Word { word: (*word).to_owned() }),
            }
            .split(' ')
            .collect(),
            _ => words.clone(),
        };
        let [minute, hour, day, month, weekday] = fields[..] else {
            return Err(CronError::Fields { found: fields.len() });
        };
        let expression = Self {
            text: words.join(" "),
            fields: fields.join(" "),
            minutes: MINUTE.parse(minute)?,
            hours: HOUR.parse(hour)?,
            days: DAY.parse(day)?,
            months: MONTH.parse(month)?,
            weekdays: WEEKDAY.parse(weekday)?,
            both: day.starts_with('*') || weekday.starts_with('*'),
        };
        let epoch = DateTime::UNIX_EPOCH;
        expression.next_after(epoch).map(|_| expression).ok_or(CronError::Never)
    }

    /// It as five fields, also where it was written as an `@word`, which not every cron daemon knows.
    pub fn fields(&self) -> &str {
        &self.fields
    }

    /// The minutes of an hour at which it may run, ascending.
    pub fn minutes(&self) -> impl Iterator<Item = u32> {
        self.minutes.values()
    }

    /// The first time after `after`, a full minute. `None` only at the end of the calendar.
    pub fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.next_naive(after.naive_utc()).map(|next| next.and_utc())
    }

    /// The last time before `before`, a full minute. `None` only at the beginning of the calendar.
    pub fn previous_before(&self, before: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let before = before.naive_utc();
        let minute = before.hour() * 60 + before.minute();
        // A minute that has begun was before.
        let begun = before.second() > 0 || before.nanosecond() > 0;
        let mut below = if begun { Some(minute) } else { minute.checked_sub(1) };
        let mut date = before.date();
        let first = date.checked_sub_days(Days::new(u64::from(CYCLE_DAYS))).unwrap_or(NaiveDate::MIN);
        while date > first {
            if self.months.contains(date.month()) {
                let minute = below.filter(|_| self.runs_on(date)).and_then(|below| self.minute_at_most(below));
                if let Some(minute) = minute {
                    return Some(at(date, minute).and_utc());
                }
                date = date.pred_opt()?;
            } else {
                date = date.with_day(1)?.pred_opt()?;
            }
            below = Some(LAST_MINUTE);
        }
        None
    }

    /// The last time not after `at`.
    pub fn latest_at(&self, at: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.previous_before(at.checked_add_signed(TimeDelta::nanoseconds(1))?)
    }

    /// All times after `after`, in order.
    pub fn runs_after(&self, after: DateTime<Utc>) -> impl Iterator<Item = DateTime<Utc>> {
        std::iter::successors(self.next_after(after), |last| self.next_after(*last))
    }

    /// The longest time between two successive times, over the whole calendar.
    pub fn longest_gap(&self) -> Duration {
        gap::longest(&[self]).expect("one that never runs is not parsed")
    }

    /// The first time after `after` on a clock that knows no zone.
    pub(super) fn next_naive(&self, after: NaiveDateTime) -> Option<NaiveDateTime> {
        let mut from = after.hour() * 60 + after.minute() + 1;
        let mut date = after.date();
        let last = date.checked_add_days(Days::new(u64::from(CYCLE_DAYS))).unwrap_or(NaiveDate::MAX);
        while date < last {
            if self.months.contains(date.month()) {
                let minute = self.runs_on(date).then(|| self.minute_at_least(from)).flatten();
                if let Some(minute) = minute {
                    return Some(at(date, minute));
                }
                date = date.succ_opt()?;
            } else {
                date = date.with_day(1)?.checked_add_months(Months::new(1))?;
            }
            from = 0;
        }
        None
    }

    /// Whether it runs on this day at all.
    pub(super) fn runs_on(&self, date: NaiveDate) -> bool {
        self.matches_day(date.month(), date.day(), date.weekday().num_days_from_sunday())
    }

    pub(super) fn matches_day(&self, month: u32, day: u32, weekday: u32) -> bool {
        let (day, weekday) = (self.days.contains(day), self.weekdays.contains(weekday));
        self.months.contains(month) && if self.both { day && weekday } else { day || weekday }
    }

    /// Its minutes of a day, ascending.
    pub(super) fn minutes_of_day(&self) -> impl Iterator<Item = u32> {
        self.hours.values().flat_map(|hour| self.minutes.values().map(move |minute| hour * 60 + minute))
    }

    fn minute_at_least(&self, from: u32) -> Option<u32> {
        let hour = self.hours.at_least(from / 60)?;
        let from = if hour == from / 60 { from % 60 } else { 0 };
        match self.minutes.at_least(from) {
            Some(minute) => Some(hour * 60 + minute),
            None => Some(self.hours.at_least(hour + 1)? * 60 + self.minutes.at_least(0)?),
        }
    }

    fn minute_at_most(&self, to: u32) -> Option<u32> {
        let hour = self.hours.at_most(to / 60)?;
        let to = if hour == to / 60 { to % 60 } else { 59 };
        match self.minutes.at_most(to) {
            Some(minute) => Some(hour * 60 + minute),
            None => Some(self.hours.at_most(hour.checked_sub(1)?)? * 60 + self.minutes.at_most(59)?),
        }
    }
}

const LAST_MINUTE: u32 = 24 * 60 - 1;

fn at(date: NaiveDate, minute_of_day: u32) -> NaiveDateTime {
    date.and_hms_opt(minute_of_day / 60, minute_of_day % 60, 0).expect("a minute of a day")
}

impl FromStr for CronExpression {
    type Err = CronError;

    fn from_str(text: &str) -> Result<Self, CronError> {
        Self::parse(text)
    }
}

/// As it was written, with single spaces.
impl fmt::Display for CronExpression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for CronExpression {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}
