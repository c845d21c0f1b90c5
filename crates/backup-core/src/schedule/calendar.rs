//! Expressions as systemd's calendar events (systemd.time(7)).

use super::CronExpression;
use super::field::{DAY, HOUR, MINUTE, MONTH, Set, WEEKDAY};

const WEEKDAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

impl CronExpression {
    /// The same times as values of `OnCalendar=`, in UTC: `Sun *-*-* 02:00:00 UTC`. There are two where either of the day
    /// fields is enough: systemd takes a weekday and a date as both.
    pub fn on_calendar(&self) -> Vec<String> {
        let all_days = DAY.is_full(self.days);
        let all_weekdays = WEEKDAY.is_full(self.weekdays);
        if self.both || all_days && all_weekdays {
            vec![self.event(!all_days, !all_weekdays)]
        } else if all_days || all_weekdays {
            vec![self.event(false, false)]
        } else {
            vec![self.event(true, false), self.event(false, true)]
        }
    }

    fn event(&self, by_day: bool, by_weekday: bool) -> String {
        let weekdays = if by_weekday { format!("{} ", weekdays(self.weekdays)) } else { String::new() };
        let months = if MONTH.is_full(self.months) { "*".to_owned() } else { numbers(self.months) };
        let days = if by_day { numbers(self.days) } else { "*".to_owned() };
        let hours = if HOUR.is_full(self.hours) { "*".to_owned() } else { numbers(self.hours) };
        let minutes = if MINUTE.is_full(self.minutes) { "*".to_owned() } else { numbers(self.minutes) };
        format!("{weekdays}*-{months}-{days} {hours}:{minutes}:00 UTC")
    }
}

/// `00`, `08..17`, `00,15,30,45`.
fn numbers(set: Set) -> String {
    let values: Vec<_> = set.values().collect();
    match values.as_slice() {
        [first, _, .., last] if *last - *first + 1 == set.len() => format!("{first:02}..{last:02}"),
        _ => values.iter().map(|value| format!("{value:02}")).collect::<Vec<_>>().join(","),
    }
}

/// From Monday on: systemd's week begins with it, and its ranges do not run over the week's end.
fn weekdays(set: Set) -> String {
    let from_monday = (1..=7).filter(|day| set.contains(day % 7)).map(|day| WEEKDAYS[day as usize - 1]);
    from_monday.collect::<Vec<_>>().join(",")
}
