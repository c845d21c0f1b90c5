//! What is set up on CloudWatch for one database.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::alarm::{Alarm, AlarmKind, AlarmSeverity, Comparison, Missing, Statistic};
use crate::{Dashboard, Metric};

/// Between two schedules' runs there may be this much more.
const DEFAULT_GRACE: Duration = Duration::from_hours(2);
/// The period of the failure alarm; CloudWatch looks back 7 days at most.
const HOUR: u32 = 3_600;
const MOST_HOURS: u64 = 168;
/// A backup that takes longer than this is slow.
pub(crate) const SLOW_SECONDS: f64 = 1_800.0;
/// A restore test older than this is too old.
pub(crate) const OLD_TEST_SECONDS: f64 = 2_592_000.0;

/// What a plan is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MonitoringOptions {
    /// The namespace of the metrics.
    pub namespace: String,
    /// The database: the metrics' one dimension.
    pub database: String,
    /// The longest time between two backups by the schedule.
    pub longest_gap: Duration,
    /// How much later than that one may be done.
    pub grace: Duration,
    /// The region, for the dashboard.
    pub region: String,
}

impl MonitoringOptions {
    /// Daily backups, two hours of grace, in us-east-1.
    pub fn new(namespace: impl Into<String>, database: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            database: database.into(),
            longest_gap: Duration::from_hours(24),
            grace: DEFAULT_GRACE,
            region: "us-east-1".to_owned(),
        }
    }
}

/// What is set up: names, alarms, a dashboard.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MonitoringPlan {
    /// The namespace of the metrics.
    pub namespace: String,
    /// The database.
    pub database: String,
    /// The region.
    pub region: String,
    /// The topic's name, where one is made.
    pub topic_name: String,
    /// The alarms.
    pub alarms: Vec<Alarm>,
    /// The dashboard.
    pub dashboard: Dashboard,
    /// What can't be as asked for, one line each.
    pub warnings: Vec<String>,
}

impl MonitoringPlan {
    /// The plan. The same options always give the same plan: installing it twice changes nothing.
    pub fn new(options: &MonitoringOptions) -> Self {
        let MonitoringOptions { namespace, database, region, .. } = options;
        let mut warnings = Vec::new();
        let hours = (options.longest_gap + options.grace).as_secs().div_ceil(u64::from(HOUR)).max(1);
        let mut alarms = Vec::new();
        if hours <= MOST_HOURS {
            alarms.push(failure(options, hours as u32));
        } else {
            warnings.push(format!(
                "no alarm for missing backups: {hours} hours between two of them are more than the 7 days that CloudWatch looks \
                 back; let a dead-man service miss them (BACKUP_PING_URL), or back up weekly at least"
            ));
        }
        alarms.extend([size(options), duration(options), restore_test(options)]);
        Self {
            namespace: namespace.clone(),
            database: database.clone(),
            region: region.clone(),
            topic_name: format!("{}-alerts", stem(namespace, database)),
            dashboard: Dashboard::new(&stem(namespace, database), namespace, database, region),
            alarms,
            warnings,
        }
    }

    /// What CloudWatch would refuse; empty for every plan that is made here.
    pub fn flaws(&self) -> Vec<String> {
        let mut flaws: Vec<String> = self.alarms.iter().flat_map(Alarm::flaws).collect();
        flaws.extend(namespace_flaw(&self.namespace));
        if self.topic_name.len() > 256 {
            flaws.push("a topic's name has at most 256 characters".to_owned());
        }
        flaws.extend(self.dashboard.flaws());
        flaws
    }

    /// What it costs a month, at most.
    pub fn cost(&self) -> Cost {
        Cost { metrics: Metric::OF_RUNS.len() as u32, alarms: self.alarms.len() as u32, dashboards: 1 }
    }
}

/// What AWS bills for it, by its list prices in us-east-1 (2025): 0.30 USD a metric, 0.10 USD an alarm, 3 USD a dashboard. Ten
/// metrics, ten alarms and three dashboards of an account are free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Cost {
    /// Metrics of its own.
    pub metrics: u32,
    /// Alarms, each over one metric.
    pub alarms: u32,
    /// Dashboards.
    pub dashboards: u32,
}

impl Cost {
    /// US cents a month without anything free.
    pub fn cents(self) -> u32 {
        self.metrics * 30 + self.alarms * 10 + self.dashboards * 300
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dollars = |cents: u32| format!("{}.{:02} USD", cents / 100, cents % 100);
        write!(
            f,
            "at most {} a month ({} metrics {}, {} alarms {}, {} dashboard {}; list prices of us-east-1); nothing while the \
             account stays within 10 metrics, 10 alarms and 3 dashboards",
            dollars(self.cents()),
            self.metrics,
            dollars(self.metrics * 30),
            self.alarms,
            dollars(self.alarms * 10),
            self.dashboards,
            dollars(self.dashboards * 300),
        )
    }
}

fn alarm(options: &MonitoringOptions, kind: AlarmKind, severity: AlarmSeverity, says: &str) -> Alarm {
    Alarm {
        kind,
        name: format!("{}-{}", stem(&options.namespace, &options.database), kind.word()),
        description: format!("{}: {says} Made by pgkeep monitor install.", severity.word()),
        severity,
        metric: Metric::BackupSuccess,
        statistic: Statistic::Sum,
        fill: None,
        period_seconds: HOUR,
        periods: 1,
        comparison: Comparison::LessThan,
        threshold: 1.0,
        missing: Missing::Ignore,
    }
}

/// No success in each of the last hours; a run that was never started is the same as one that failed.
fn failure(options: &MonitoringOptions, hours: u32) -> Alarm {
    let says =
        format!("no backup of {} has succeeded for {hours} hours. See pgkeep status and the log.", options.database);
    Alarm {
        fill: Some(0.0),
        periods: hours,
        missing: Missing::Breaching,
        ..alarm(options, AlarmKind::BackupFailure, AlarmSeverity::Critical, &says)
    }
}

/// CloudWatch can't compare with last week: the program does, and sends what it found.
fn size(options: &MonitoringOptions) -> Alarm {
    let says = format!(
        "the last backup of {} is less than half as big as those before it. Is all the data there?",
        options.database
    );
    Alarm {
        metric: Metric::BackupSizeChange,
        statistic: Statistic::Minimum,
        threshold: -50.0,
        ..alarm(options, AlarmKind::SizeAnomaly, AlarmSeverity::High, &says)
    }
}

fn duration(options: &MonitoringOptions) -> Alarm {
    let says = format!("the last backup of {} took more than 30 minutes.", options.database);
    Alarm {
        metric: Metric::BackupDuration,
        statistic: Statistic::Maximum,
        comparison: Comparison::GreaterThan,
        threshold: SLOW_SECONDS,
        ..alarm(options, AlarmKind::DurationHigh, AlarmSeverity::Medium, &says)
    }
}

/// CloudWatch can't look back 30 days: every backup says how old the last test is.
fn restore_test(options: &MonitoringOptions) -> Alarm {
    let says = format!("no restore of {} was tested for 30 days. Run pgkeep drill.", options.database);
    Alarm {
        metric: Metric::RestoreTestAge,
        statistic: Statistic::Maximum,
        comparison: Comparison::GreaterThan,
        threshold: OLD_TEST_SECONDS,
        ..alarm(options, AlarmKind::RestoreTestMissing, AlarmSeverity::Low, &says)
    }
}

/// `PgKeep-Backups-app`: the beginning of every name.
fn stem(namespace: &str, database: &str) -> String {
    let namespace = plain_name(&namespace.replace('/', "-"));
    format!("{namespace}-{}", plain_name(database))
}

/// A name of letters, digits, `-` and `_`, at most 80 of them. What can't be in it is `_`; a digest keeps such names apart.
pub(crate) fn plain_name(name: &str) -> String {
    let plain: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') { c } else { '_' })
        .take(80)
        .collect();
    if plain == name && !name.is_empty() {
        return plain;
    }
    // FNV-1a, 32 bits: for names, not against anybody.
    let digest =
        name.bytes().fold(0x811c_9dc5_u32, |digest, byte| (digest ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    format!("{plain}-{digest:08x}")
}

/// A database's name as a dimension may have it: printable ASCII, not blank, no colon first. Others have the form they have
/// in names of alarms.
pub(crate) fn dimension_value(database: &str) -> String {
    let fits = database.chars().all(|c| matches!(c, ' '..='~')) && !database.trim().is_empty();
    if fits && !database.starts_with(':') && database.len() <= 1_024 {
        database.to_owned()
    } else {
        plain_name(database)
    }
}

fn namespace_flaw(namespace: &str) -> Option<String> {
    let sound = (1..=255).contains(&namespace.len())
        && namespace.chars().all(|c| c.is_ascii_alphanumeric() || "._-/#: ".contains(c))
        && !namespace.starts_with([':', ' '])
        && !namespace.trim().is_empty();
    let flaw = if sound && namespace.starts_with("AWS/") {
        "begins with AWS/, which is Amazon's own"
    } else if sound {
        return None;
    } else {
        "is not 1 to 255 letters, digits, . _ - / # and colons"
    };
    Some(format!("the namespace {namespace:?} {flaw}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_cloudwatch_refuses_are_written_otherwise() {
        for name in ["app", "a b/c.d", "shop:1"] {
            assert_eq!(dimension_value(name), name);
        }
        for name in ["müller", ":app", "", " ", "a\tb", &"x".repeat(1_025)] {
            let value = dimension_value(name);
            assert!(value.is_ascii() && !value.is_empty() && value.len() < 100, "{value}");
        }
        assert_ne!(dimension_value("müller"), dimension_value("mäller"));
    }

    #[test]
    fn every_plan_is_one_that_cloudwatch_takes() {
        let long = "x".repeat(300);
        for database in ["app", "a b/c.d", "müller", "", long.as_str()] {
            for namespace in ["PgKeep/Backups", "WhatsAppSaaS/Backups"] {
                for hours in [1, 6, 24, 72, 166] {
                    let options = MonitoringOptions {
                        longest_gap: Duration::from_hours(hours),
                        ..MonitoringOptions::new(namespace, if database.is_empty() { "_" } else { database })
                    };
                    let plan = MonitoringPlan::new(&options);
                    assert_eq!(plan.flaws(), Vec::<String>::new(), "{options:?}");
                    assert_eq!((plan.alarms.len(), plan.warnings.len()), (4, 0));
                }
            }
        }
    }

    #[test]
    fn the_failure_alarm() {
        let plan = MonitoringPlan::new(&MonitoringOptions::new("PgKeep/Backups", "app"));
        let alarm = &plan.alarms[0];
        assert_eq!(alarm.name, "PgKeep-Backups-app-backup-failure");
        assert_eq!(alarm.expression().as_deref(), Some("FILL(m, 0)"));
        assert_eq!(
            alarm.condition(),
            "FILL(Sum(BackupSuccess), 0) < 1 in 26 of 26 periods of 3600 s, missing: breaching"
        );
        assert_eq!(plan.alarms[1].expression(), None);
    }

    #[test]
    fn what_cloudwatch_can_not_look_back_to_is_said() {
        let options = MonitoringOptions {
            longest_gap: Duration::from_hours(168),
            ..MonitoringOptions::new("PgKeep/Backups", "app")
        };
        let plan = MonitoringPlan::new(&options);
        assert_eq!(plan.alarms.len(), 3);
        assert!(plan.warnings[0].contains("7 days"), "{:?}", plan.warnings);
    }

    #[test]
    fn flaws_are_found() {
        let mut plan = MonitoringPlan::new(&MonitoringOptions::new("AWS/RDS", "app"));
        plan.alarms[0].periods = 169;
        plan.alarms[1].period_seconds = 90;
        plan.alarms[2].period_seconds = 1_800;
        plan.alarms[2].periods = 49;
        plan.alarms[3].threshold = f64::NAN;
        assert_eq!(plan.flaws().len(), 5, "{:?}", plan.flaws());
    }

    #[test]
    fn names_that_would_be_the_same_are_not() {
        assert_eq!(plain_name("app_1-x"), "app_1-x");
        assert_ne!(plain_name("a.b"), plain_name("a/b"));
        assert_ne!(plain_name("a.b"), "a_b");
    }

    #[test]
    fn the_cost() {
        let cost = MonitoringPlan::new(&MonitoringOptions::new("PgKeep/Backups", "app")).cost();
        assert_eq!(cost.cents(), 550);
        assert!(
            cost.to_string().starts_with("at most 5.50 USD a month (7 metrics 2.10 USD, 4 alarms 0.40 USD"),
            "{cost}"
        );
    }
}
