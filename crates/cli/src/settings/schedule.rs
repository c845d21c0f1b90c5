//! When backups are made.

use pgkeep_core::BackupClass;
use pgkeep_core::schedule::{CronExpression, SCHEDULED, Schedule, default_expression};

use super::layers::Layers;
use super::variable::{self, Variable};
use crate::failure::Result;

fn variable_of(class: BackupClass) -> &'static Variable {
    match class {
        BackupClass::Weekly => &variable::SCHEDULE_WEEKLY,
        BackupClass::Monthly => &variable::SCHEDULE_MONTHLY,
        BackupClass::Daily | BackupClass::PreRestore => &variable::SCHEDULE_DAILY,
    }
}

/// The schedule as set.
pub(crate) fn schedule(layers: &Layers) -> Result<Schedule> {
    let mut jobs = Vec::new();
    for class in SCHEDULED {
        let expression = match layers.parsed(variable_of(class), expression)? {
            Some(expression) => expression,
            None => default_expression(class).and_then(|text| CronExpression::parse(text).ok()),
        };
        jobs.extend(expression.map(|expression| (class, expression)));
    }
    Ok(Schedule::new(jobs))
}

/// An expression that is there only if it was set.
pub(crate) fn optional_expression(layers: &Layers, variable: &'static Variable) -> Result<Option<CronExpression>> {
    Ok(layers.parsed(variable, expression)?.flatten())
}

fn expression(text: &str) -> Result<Option<CronExpression>, String> {
    if matches!(text, "none" | "never" | "off") {
        return Ok(None);
    }
    CronExpression::parse(text).map(Some).map_err(|error| format!("a cron expression: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        assert_eq!(schedule(&Layers::default()).unwrap(), Schedule::default());
        assert_eq!(expression("none"), Ok(None));
        assert_eq!(expression("0 */6 * * *").unwrap().unwrap().to_string(), "0 */6 * * *");
        assert_eq!(expression("0 25 * * *").unwrap_err(), "a cron expression: 25 is no hour: 0 to 23");
    }
}
