//! Alarms as values, and the rules that CloudWatch has for them.

use serde::Serialize;

use crate::Metric;

/// CloudWatch's own limit on periods × evaluations.
const LONGEST_SECONDS: u32 = 604_800;
/// The same for periods of less than an hour.
const LONGEST_SECONDS_OF_SHORT_PERIODS: u32 = 86_400;

/// Which alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AlarmKind {
    /// No backup succeeded for too long.
    BackupFailure,
    /// A backup is much smaller than those before it.
    SizeAnomaly,
    /// A backup takes too long.
    DurationHigh,
    /// No restore was tested for too long.
    RestoreTestMissing,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AlarmSeverity {
    /// At once.
    Critical,
    /// Today.
    High,
    /// This week.
    Medium,
    /// When there is time.
    Low,
}

/// How the values of a period become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Statistic {
    /// Added up.
    Sum,
    /// The least.
    Minimum,
    /// The most.
    Maximum,
}

/// How a value is compared with the threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Comparison {
    /// Below it.
    LessThan,
    /// Above it.
    GreaterThan,
}

/// What a period without values is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Missing {
    /// As bad as a value beyond the threshold.
    Breaching,
    /// No reason to change the state.
    Ignore,
}

/// An alarm.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Alarm {
    /// Which one.
    pub kind: AlarmKind,
    /// Its name.
    pub name: String,
    /// What it means and what to do, for whoever gets the message.
    pub description: String,
    /// How bad it is.
    pub severity: AlarmSeverity,
    /// What it watches.
    pub metric: Metric,
    /// How the values of a period become one.
    pub statistic: Statistic,
    /// What `FILL` puts where a period has no value; `None` watches the metric itself.
    pub fill: Option<f64>,
    /// The period in seconds.
    pub period_seconds: u32,
    /// Periods that are looked at; all of them must be beyond the threshold.
    pub periods: u32,
    /// How a value is compared.
    pub comparison: Comparison,
    /// With what.
    pub threshold: f64,
    /// What a period without values is.
    pub missing: Missing,
}

impl AlarmKind {
    /// The word in names.
    pub fn word(self) -> &'static str {
        match self {
            Self::BackupFailure => "backup-failure",
            Self::SizeAnomaly => "size-anomaly",
            Self::DurationHigh => "duration-high",
            Self::RestoreTestMissing => "restore-test-missing",
        }
    }
}

impl AlarmSeverity {
    /// The word for people.
    pub fn word(self) -> &'static str {
        match self {
            Self::Critical => "CRITICAL",
            Self::High => "HIGH",
            Self::Medium => "MEDIUM",
            Self::Low => "LOW",
        }
    }
}

impl Statistic {
    /// CloudWatch's word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Sum => "Sum",
            Self::Minimum => "Minimum",
            Self::Maximum => "Maximum",
        }
    }
}

impl Comparison {
    /// CloudWatch's word.
    pub fn word(self) -> &'static str {
        match self {
            Self::LessThan => "LessThanThreshold",
            Self::GreaterThan => "GreaterThanThreshold",
        }
    }

    /// Whether `value` is beyond `threshold`.
    pub fn breaches(self, value: f64, threshold: f64) -> bool {
        match self {
            Self::LessThan => value < threshold,
            Self::GreaterThan => value > threshold,
        }
    }
}

impl Missing {
    /// CloudWatch's word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Breaching => "breaching",
            Self::Ignore => "ignore",
        }
    }
}

impl Alarm {
    /// The metric-math expression over the metric, which is called `m`.
    pub fn expression(&self) -> Option<String> {
        self.fill.map(|value| format!("FILL(m, {value})"))
    }

    /// The condition for people: `FILL(Sum(BackupSuccess), 0) < 1 in 26 of 26 periods of 3600 s, missing is breaching`.
    pub fn condition(&self) -> String {
        let measured = format!("{}({})", self.statistic.word(), self.metric.name());
        let measured = self.fill.map_or(measured.clone(), |value| format!("FILL({measured}, {value})"));
        let sign = if self.comparison == Comparison::LessThan { '<' } else { '>' };
        format!(
            "{measured} {sign} {} in {n} of {n} periods of {} s, missing: {}",
            self.threshold,
            self.period_seconds,
            self.missing.word(),
            n = self.periods
        )
    }

    /// What CloudWatch would refuse; stand-ins for it accept much that it does not.
    pub fn flaws(&self) -> Vec<String> {
        let mut flaws = Vec::new();
        let mut check = |sound: bool, flaw: &str| {
            if !sound {
                flaws.push(format!("{}: {flaw}", self.name));
            }
        };
        check((1..=255).contains(&self.name.chars().count()), "a name has 1 to 255 characters");
        check(self.name.is_ascii(), "a name has no other than ASCII characters");
        check(self.description.chars().count() <= 1_024, "a description has at most 1,024 characters");
        check(
            matches!(self.period_seconds, 10 | 20 | 30)
                || (self.period_seconds > 0 && self.period_seconds.is_multiple_of(60)),
            "a period has 10, 20, 30 seconds or whole minutes",
        );
        check(self.periods >= 1, "one period at least is evaluated");
        let seconds = self.period_seconds.saturating_mul(self.periods);
        let longest = if self.period_seconds < 3_600 { LONGEST_SECONDS_OF_SHORT_PERIODS } else { LONGEST_SECONDS };
        check(
            seconds <= longest,
            "periods × evaluations are too long: 7 days at most, 1 day for periods under an hour",
        );
        check(self.threshold.is_finite(), "a threshold is a number");
        check(self.fill.is_none_or(f64::is_finite), "what is filled in is a number");
        flaws
    }
}
