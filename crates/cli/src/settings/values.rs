//! Values of settings from text. Errors name the setting and where it came from.

use std::time::Duration;

use super::layers::{Found, Layers};
use super::variable::{Care, Variable};
use crate::failure::{Failure, Result};

impl Layers {
    /// A setting read by `parse`, whose error completes "… is not …".
    pub(crate) fn parsed<T>(
        &self,
        variable: &'static Variable,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>> {
        self.get(variable)
            .map(|found| parse(&found.text).map_err(|wanted| wrong(variable, &found, &wanted)))
            .transpose()
    }

    /// A setting as text.
    pub(crate) fn text(&self, variable: &'static Variable) -> Option<String> {
        self.get(variable).map(|found| found.text)
    }

    /// A setting that is true or false.
    pub(crate) fn truth(&self, variable: &'static Variable) -> Result<Option<bool>> {
        self.parsed(variable, truth)
    }

    /// A setting that is a duration.
    pub(crate) fn duration(&self, variable: &'static Variable) -> Result<Option<Duration>> {
        self.parsed(variable, duration)
    }
}

/// What is said of a value that can't be used.
pub(crate) fn wrong(variable: &Variable, found: &Found, wanted: &str) -> Failure {
    let value = if variable.care == Care::Secret { "its value".to_owned() } else { format!("{:?}", found.text) };
    Failure::settings(format!("{}: {value} is not {wanted}", found.origin))
}

fn truth(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => Err("true or false".to_owned()),
    }
}

/// A duration as people type it: `90s`, `30m`, `6h`, `1h30m`, `2d`, or seconds without a unit.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "a duration such as 90s, 30m, 6h or 1h30m".to_owned();
    let text = text.trim().replace(' ', "");
    if let Ok(seconds) = text.parse() {
        return Ok(Duration::from_secs(seconds));
    }
    let mut total = 0_u64;
    let mut number = String::new();
    for character in text.chars() {
        if character.is_ascii_digit() {
            number.push(character);
            continue;
        }
        let unit = match character {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            _ => return Err(wrong()),
        };
        let count: u64 = number.parse().map_err(|_| wrong())?;
        total = count.checked_mul(unit).and_then(|seconds| total.checked_add(seconds)).ok_or_else(wrong)?;
        number.clear();
    }
    if number.is_empty() && !text.is_empty() { Ok(Duration::from_secs(total)) } else { Err(wrong()) }
}

/// A number of jobs.
pub(crate) fn jobs(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|jobs| (1..=256).contains(jobs)).ok_or_else(|| "a number from 1 to 256".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_people_type_them() {
        for (text, seconds) in
            [("0", 0), ("90", 90), ("90s", 90), ("30m", 1_800), ("6h", 21_600), ("1h30m", 5_400), ("2d", 172_800)]
        {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "h", "6x", "6h3", "-1s", "99999999999999999999d"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn truths() {
        assert_eq!(truth("TRUE"), Ok(true));
        assert_eq!(truth("off"), Ok(false));
        assert!(truth("maybe").is_err());
    }
}
