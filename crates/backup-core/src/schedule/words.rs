//! Expressions in words.

use super::CronExpression;
use super::field::{DAY, HOUR, MONTH, Set, WEEKDAY};

const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// Times of a day that are listed one by one.
const LISTED: u32 = 6;

impl CronExpression {
    /// What it stands for, without a zone: `at 02:00 on Sundays`, `every 2 hours from 00:00 to 22:00 every day`.
    pub fn words(&self) -> String {
        let days = self.day_words();
        let times = self.time_words();
        // What happens all day long needs no "every day".
        let words = if days.is_empty() && !times.starts_with("every") && !times.ends_with("every hour") {
            format!("{times} every day")
        } else {
            format!("{times} {days}")
        };
        let months = self.month_words();
        let words = words.trim_end();
        if months.is_empty() { words.to_owned() } else { format!("{words}, only in {months}") }
    }

    fn time_words(&self) -> String {
        let (minutes, hours) = (self.minutes, self.hours);
        if HOUR.is_full(hours) {
            return match (even_step(minutes, 60), minutes.at_least(0)) {
                (Some(1), _) => "every minute".to_owned(),
                (Some(step), Some(0)) => format!("every {step} minutes"),
                (_, Some(0)) if minutes.len() == 1 => "every hour".to_owned(),
                (_, Some(minute)) if minutes.len() == 1 => format!("at minute {minute} of every hour"),
                _ => format!("at minutes {} of every hour", numbers(minutes)),
            };
        }
        if minutes.len() * hours.len() <= LISTED {
            return format!("at {}", list(self.minutes_of_day().map(clock)));
        }
        let hours_named = numbers(hours);
        match (minutes.at_least(0), even_step(minutes, 60)) {
            (Some(minute), _) if minutes.len() == 1 => {
                let (first, last) = (hours.at_least(0).unwrap_or(0), hours.at_most(23).unwrap_or(0));
                match step(hours) {
                    Some(step) => {
                        let (first, last) = (clock(first * 60 + minute), clock(last * 60 + minute));
                        let every = if step == 1 { "every hour".to_owned() } else { format!("every {step} hours") };
                        format!("{every} from {first} to {last}")
                    }
                    None => format!("at minute {minute} of the hours {hours_named}"),
                }
            }
            (_, Some(1)) => format!("every minute of the hours {hours_named}"),
            (Some(0), Some(step)) => format!("every {step} minutes of the hours {hours_named}"),
            _ => format!("at minutes {} of the hours {hours_named}", numbers(minutes)),
        }
    }

    fn day_words(&self) -> String {
        let all_days = DAY.is_full(self.days);
        let all_weekdays = WEEKDAY.is_full(self.weekdays);
        let days = list(self.days.values().map(ordinal));
        let weekdays = weekday_words(self.weekdays);
        match (all_days, all_weekdays) {
            (true, true) => String::new(),
            (false, true) if self.both => format!("on the {days} of the month"),
            (true, false) if self.both => weekdays,
            (_, _) if self.both => format!("on the {days} of the month where it is one of: {}", names(self.weekdays)),
            // Either is enough, and one of them is every day.
            (true, _) | (_, true) => String::new(),
            (false, false) => format!("on the {days} of the month, and also {weekdays}"),
        }
    }

    fn month_words(&self) -> String {
        if MONTH.is_full(self.months) {
            return String::new();
        }
        list(self.months.values().map(|month| MONTHS[month as usize - 1].to_owned()))
    }
}

fn weekday_words(set: Set) -> String {
    let values: Vec<_> = set.values().collect();
    match (values.as_slice(), step(set)) {
        ([first, .., last], Some(1)) if values.len() > 2 => {
            format!("from {} to {}", WEEKDAYS[*first as usize], WEEKDAYS[*last as usize])
        }
        _ => format!("on {}", list(values.iter().map(|day| format!("{}s", WEEKDAYS[*day as usize])))),
    }
}

fn names(set: Set) -> String {
    list(set.values().map(|day| WEEKDAYS[day as usize].to_owned()))
}

fn numbers(set: Set) -> String {
    match (set.at_least(0), set.at_most(63), step(set)) {
        (Some(first), Some(last), Some(1)) if set.len() > 2 => format!("{first} to {last}"),
        _ => list(set.values().map(|value| value.to_string())),
    }
}

/// The step between a set's values, if it is the same between all of them.
fn step(set: Set) -> Option<u32> {
    let values: Vec<_> = set.values().collect();
    let mut steps = values.windows(2).map(|pair| pair[1] - pair[0]);
    let first = steps.next()?;
    steps.all(|step| step == first).then_some(first)
}

/// The same, if it goes on over the end of `size` values.
fn even_step(set: Set, size: u32) -> Option<u32> {
    step(set).filter(|step| step * set.len() == size)
}

fn clock(minute_of_day: u32) -> String {
    format!("{:02}:{:02}", minute_of_day / 60, minute_of_day % 60)
}

fn ordinal(day: u32) -> String {
    let ending = match (day % 10, day / 10) {
        (1, 0 | 2 | 3) => "st",
        (2, 0 | 2) => "nd",
        (3, 0 | 2) => "rd",
        _ => "th",
    };
    format!("{day}{ending}")
}

/// `a`, `a and b`, `a, b and c`.
fn list(items: impl Iterator<Item = String>) -> String {
    let mut items: Vec<_> = items.collect();
    match (items.pop(), items.is_empty()) {
        (None, _) => String::new(),
        (Some(last), true) => last,
        (Some(last), false) => format!("{} and {last}", items.join(", ")),
    }
}
