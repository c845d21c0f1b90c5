//! What is kept, per destination and class.

use std::collections::BTreeMap;

use pgkeep_core::{BackupClass, ClassPolicy, Policy};

use super::layers::Layers;
use super::variable::{self, Variable};
use crate::failure::Result;

/// The name of the local directory as a destination.
pub(crate) const LOCAL: &str = "local";

/// What is kept without any setting: days and the fewest, in the bucket and in the local directory.
fn default_policy(class: BackupClass, local: bool) -> ClassPolicy {
    let (days, at_least) = match class {
        BackupClass::Daily => (if local { 7 } else { 30 }, 7),
        BackupClass::Weekly => (30, 4),
        BackupClass::Monthly => (365, 3),
        BackupClass::PreRestore => (7, 1),
    };
    ClassPolicy { days: Some(days), at_least, at_most: None }
}

/// Days, fewest and most of one class at one destination.
type Rule = [&'static Variable; 3];

fn rule(class: BackupClass, local: bool) -> Rule {
    use variable as v;
    match (class, local) {
        (BackupClass::Daily, false) => [&v::RETENTION_DAILY_DAYS, &v::RETENTION_DAILY_MIN, &v::RETENTION_DAILY_MAX],
        (BackupClass::Weekly, false) => [&v::RETENTION_WEEKLY_DAYS, &v::RETENTION_WEEKLY_MIN, &v::RETENTION_WEEKLY_MAX],
        (BackupClass::Monthly, false) => {
            [&v::RETENTION_MONTHLY_DAYS, &v::RETENTION_MONTHLY_MIN, &v::RETENTION_MONTHLY_MAX]
        }
        (BackupClass::PreRestore, false) => {
            [&v::RETENTION_PRE_RESTORE_DAYS, &v::RETENTION_PRE_RESTORE_MIN, &v::RETENTION_PRE_RESTORE_MAX]
        }
        (BackupClass::Daily, true) => {
            [&v::RETENTION_LOCAL_DAILY_DAYS, &v::RETENTION_LOCAL_DAILY_MIN, &v::RETENTION_LOCAL_DAILY_MAX]
        }
        (BackupClass::Weekly, true) => {
            [&v::RETENTION_LOCAL_WEEKLY_DAYS, &v::RETENTION_LOCAL_WEEKLY_MIN, &v::RETENTION_LOCAL_WEEKLY_MAX]
        }
        (BackupClass::Monthly, true) => {
            [&v::RETENTION_LOCAL_MONTHLY_DAYS, &v::RETENTION_LOCAL_MONTHLY_MIN, &v::RETENTION_LOCAL_MONTHLY_MAX]
        }
        (BackupClass::PreRestore, true) => [
            &v::RETENTION_LOCAL_PRE_RESTORE_DAYS,
            &v::RETENTION_LOCAL_PRE_RESTORE_MIN,
            &v::RETENTION_LOCAL_PRE_RESTORE_MAX,
        ],
    }
}

/// The policy as set.
pub(crate) fn policy(layers: &Layers) -> Result<Policy> {
    let mut policy = Policy::default();
    for local in [false, true] {
        let mut classes = BTreeMap::new();
        for class in BackupClass::ALL {
            let default = default_policy(class, local);
            let [days, at_least, at_most] = rule(class, local);
            let policy = ClassPolicy {
                days: layers.parsed(days, limit)?.unwrap_or(default.days),
                at_least: layers.parsed(at_least, fewest)?.unwrap_or(default.at_least),
                at_most: layers.parsed(at_most, limit)?.unwrap_or(default.at_most),
            };
            classes.insert(class, policy);
        }
        policy.destinations.insert(if local { LOCAL } else { "*" }.to_owned(), classes);
    }
    Ok(policy)
}

/// The default of one of retention's settings.
pub(crate) fn default_text(variable: &Variable) -> Option<String> {
    [false, true].into_iter().flat_map(|local| BackupClass::ALL.map(|class| (class, local))).find_map(
        |(class, local)| {
            let place = rule(class, local).iter().position(|candidate| candidate.name == variable.name)?;
            let policy = default_policy(class, local);
            match place {
                0 => policy.days.map(|days| days.to_string()),
                1 => Some(policy.at_least.to_string()),
                _ => policy.at_most.map(|most| most.to_string()),
            }
        },
    )
}

fn limit(text: &str) -> Result<Option<u32>, String> {
    if matches!(text, "forever" | "none" | "unlimited") {
        return Ok(None);
    }
    let number = text.trim_end_matches('d').parse().ok().filter(|number| *number > 0);
    number.map(Some).ok_or_else(|| "a number above 0, or forever".to_owned())
}

fn fewest(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| "a number".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_contract() {
        let policy = policy(&Layers::default()).unwrap();
        let days = |destination: &str| {
            let classes = &policy.destinations[destination];
            BackupClass::ALL.map(|class| (classes[&class].days.unwrap(), classes[&class].at_least))
        };
        assert_eq!(days("*"), [(30, 7), (30, 4), (365, 3), (7, 1)]);
        assert_eq!(days(LOCAL), [(7, 7), (30, 4), (365, 3), (7, 1)]);
    }

    #[test]
    fn values() {
        assert_eq!(limit("forever"), Ok(None));
        assert_eq!(limit("14"), Ok(Some(14)));
        assert!(limit("0").is_err(), "0 days would remove the backup that was just made");
    }
}
