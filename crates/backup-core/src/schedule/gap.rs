//! The longest time without a run, exactly, by walking the 400 years after which the calendar repeats.

use std::collections::BTreeMap;
use std::time::Duration;

use super::CronExpression;
use super::expression::CYCLE_DAYS;

const MINUTES_OF_DAY: u32 = 24 * 60;

/// The runs of one day, in minutes.
#[derive(Debug, Clone, Copy)]
struct Runs {
    first: u32,
    last: u32,
    widest: u32,
}

impl Runs {
    fn of<'a>(expressions: impl Iterator<Item = &'a CronExpression>) -> Self {
        let mut minutes: Vec<_> = expressions.flat_map(CronExpression::minutes_of_day).collect();
        minutes.sort_unstable();
        let widest = minutes.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0);
        Self { first: minutes[0], last: minutes[minutes.len() - 1], widest }
    }
}

/// The longest gap between successive runs of any of these (fewer than 32); `None` without expressions.
pub(super) fn longest(expressions: &[&CronExpression]) -> Option<Duration> {
    let mut by_matches = BTreeMap::new();
    let (mut first, mut last) = (None, 0);
    let mut longest = 0;
    for (number, day) in days().enumerate() {
        let matches = expressions.iter().enumerate().fold(0_u32, |matches, (place, expression)| {
            matches | (u32::from(expression.matches_day(day.month, day.day, day.weekday)) << place)
        });
        if matches == 0 {
            continue;
        }
        let runs = *by_matches.entry(matches).or_insert_with(|| {
            let matching = expressions.iter().enumerate().filter(|(place, _)| matches & (1 << place) != 0);
            Runs::of(matching.map(|(_, expression)| *expression))
        });
        let midnight = number as u32 * MINUTES_OF_DAY;
        if first.is_some() {
            longest = longest.max(midnight + runs.first - last);
        }
        first = first.or(Some(midnight + runs.first));
        last = midnight + runs.last;
        longest = longest.max(runs.widest);
    }
    // The next 400 years begin as these.
    let longest = longest.max(CYCLE_DAYS * MINUTES_OF_DAY + first? - last);
    Some(Duration::from_mins(u64::from(longest)))
}

#[derive(Debug, Clone, Copy)]
struct Date {
    year: u32,
    month: u32,
    day: u32,
    /// From Sunday, which is 0.
    weekday: u32,
}

/// The days of 400 years from 2000-01-01, a Saturday.
fn days() -> impl Iterator<Item = Date> {
    let first = Date { year: 2000, month: 1, day: 1, weekday: 6 };
    std::iter::successors(Some(first), |day| Some(day.next())).take(CYCLE_DAYS as usize)
}

impl Date {
    fn next(self) -> Self {
        let weekday = if self.weekday == 6 { 0 } else { self.weekday + 1 };
        if self.day < self.days_of_month() {
            Self { day: self.day + 1, weekday, ..self }
        } else if self.month < 12 {
            Self { month: self.month + 1, day: 1, weekday, ..self }
        } else {
            Self { year: self.year + 1, month: 1, day: 1, weekday }
        }
    }

    fn days_of_month(self) -> u32 {
        match self.month {
            4 | 6 | 9 | 11 => 30,
            2 if self.year.is_multiple_of(4) && (!self.year.is_multiple_of(100) || self.year.is_multiple_of(400)) => 29,
            2 => 28,
            _ => 31,
        }
    }
}
