//! The five fields of an expression as sets of numbers.

use super::CronError;

/// What a field may hold.
#[derive(Debug)]
pub(super) struct Field {
    /// What it is called.
    name: &'static str,
    low: u32,
    high: u32,
    /// Names of its values, from `low` on.
    names: &'static [&'static str],
}

pub(super) const MINUTE: Field = Field { name: "minute", low: 0, high: 59, names: &[] };
pub(super) const HOUR: Field = Field { name: "hour", low: 0, high: 23, names: &[] };
pub(super) const DAY: Field = Field { name: "day of the month", low: 1, high: 31, names: &[] };
pub(super) const MONTH: Field = Field {
    name: "month",
    low: 1,
    high: 12,
    names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
};
/// 0 and 7 are both Sunday.
pub(super) const WEEKDAY: Field =
    Field { name: "weekday", low: 0, high: 7, names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"] };

/// A set of numbers below 64.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Set(u64);

impl Set {
    /// The same set with `value` in it.
    pub(super) fn with(self, value: u32) -> Self {
        Self(self.0 | 1 << value)
    }

    pub(super) fn contains(self, value: u32) -> bool {
        self.0 & (1 << value) != 0
    }

    pub(super) fn len(self) -> u32 {
        self.0.count_ones()
    }

    /// Its values, ascending.
    pub(super) fn values(self) -> impl DoubleEndedIterator<Item = u32> {
        (0..64).filter(move |value| self.contains(*value))
    }

    /// The smallest value not below `from`.
    pub(super) fn at_least(self, from: u32) -> Option<u32> {
        let rest = if from < 64 { self.0 >> from << from } else { 0 };
        (rest != 0).then(|| rest.trailing_zeros())
    }

    /// The greatest value not above `to`.
    pub(super) fn at_most(self, to: u32) -> Option<u32> {
        let rest = if to < 63 { self.0 & ((2 << to) - 1) } else { self.0 };
        rest.checked_ilog2()
    }
}

impl Field {
    /// The numbers that a field's text stands for.
    pub(super) fn parse(&self, text: &str) -> Result<Set, CronError> {
        let mut set = Set::default();
        for part in text.split(',') {
            let (range, step) = part.split_once('/').map_or((part, None), |(range, step)| (range, Some(step)));
            let (from, to) = match range.split_once('-') {
                Some((from, to)) => (self.value(from)?, self.value(to)?),
                None if range == "*" => (self.low, self.high),
                None if step.is_some() => {
                    return Err(CronError::StepOfOne { field: self.name, part: part.to_owned() });
                }
                None => (self.value(range)?, self.value(range)?),
            };
            if from > to {
                return Err(CronError::Backwards { field: self.name, range: range.to_owned() });
            }
            let step = step.map_or(Ok(1), |step| self.step(step))?;
            for value in (from..=to).step_by(step) {
                // Sunday's second number.
                set = set.with(if self.high == WEEKDAY.high { value % 7 } else { value });
            }
        }
        Ok(set)
    }

    /// Whether the set leaves nothing out.
    pub(super) fn is_full(&self, set: Set) -> bool {
        set.len() == self.size()
    }

    /// How many values it has.
    fn size(&self) -> u32 {
        if self.high == WEEKDAY.high { 7 } else { self.high - self.low + 1 }
    }

    fn value(&self, text: &str) -> Result<u32, CronError> {
        let lower = text.to_ascii_lowercase();
        if let Some(place) = self.names.iter().position(|name| *name == lower) {
            return Ok(self.low + place as u32);
        }
        let digits = !text.is_empty() && text.len() <= 9 && text.bytes().all(|byte| byte.is_ascii_digit());
        let value = digits.then(|| text.parse::<u32>().ok()).flatten();
        let value = value.ok_or_else(|| CronError::Value { field: self.name, text: text.to_owned() })?;
        if (self.low..=self.high).contains(&value) {
            Ok(value)
        } else {
            Err(CronError::Range { field: self.name, value, low: self.low, high: self.high })
        }
    }

    fn step(&self, text: &str) -> Result<usize, CronError> {
        let step = text.parse().ok().filter(|step| (1..=self.size()).contains(step));
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        step.filter(|_| digits).map(|step| step as usize).ok_or_else(|| CronError::Step {
            field: self.name,
            step: text.to_owned(),
            size: self.size(),
        })
    }
}
