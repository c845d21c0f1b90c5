//! What is measured, and who takes it.

use std::fmt::Debug;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use crate::Error;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub enum Metric {
    /// 1 for a backup run that succeeded, 0 for one that did not: exactly one per run.
    BackupSuccess,
    /// Stored bytes of the archive.
    BackupSize,
    /// How long the run took.
    BackupDuration,
    /// Plain bytes against the median of the last ones of the same kind ([`size_change`]).
    BackupSizeChange,
    /// How long ago the last restore test that succeeded was; without any, since when there are backups.
    RestoreTestAge,
    /// 1 for a restore or a restore test that succeeded, 0 for one that did not.
    RestoreSuccess,
    /// How long it took.
    RestoreDuration,
    /// Sent by `monitor test` only.
    MonitorTest,
}

/// What a number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Things.
    Count,
    /// Bytes.
    Bytes,
    /// Seconds.
    Seconds,
    /// Hundredths.
    Percent,
}

impl Metric {
    /// Those of backup and restore runs.
    pub const OF_RUNS: [Self; 7] = [
        Self::BackupSuccess,
        Self::BackupSize,
        Self::BackupDuration,
        Self::BackupSizeChange,
        Self::RestoreTestAge,
        Self::RestoreSuccess,
        Self::RestoreDuration,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::BackupSuccess => "BackupSuccess",
            Self::BackupSize => "BackupSize",
            Self::BackupDuration => "BackupDuration",
            Self::BackupSizeChange => "BackupSizeChange",
            Self::RestoreTestAge => "RestoreTestAge",
            Self::RestoreSuccess => "RestoreSuccess",
            Self::RestoreDuration => "RestoreDuration",
            Self::MonitorTest => "MonitorTest",
        }
    }

    /// Its unit.
    pub fn unit(self) -> Unit {
        match self {
            Self::BackupSuccess | Self::RestoreSuccess | Self::MonitorTest => Unit::Count,
            Self::BackupSize => Unit::Bytes,
            Self::BackupDuration | Self::RestoreTestAge | Self::RestoreDuration => Unit::Seconds,
            Self::BackupSizeChange => Unit::Percent,
        }
    }
}

/// One number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measurement {
    /// Of what.
    pub metric: Metric,
    /// In its unit.
    pub value: f64,
}

/// What one run has to say to those who count.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The database: the one dimension.
    pub database: String,
    /// When.
    pub at: DateTime<Utc>,
    /// What this run measured.
    pub measurements: Vec<Measurement>,
    /// How things stand now; `None` if that could not be found out.
    pub standing: Option<Standing>,
}

/// How things stand, as the catalog has it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Standing {
    /// Per class of backups that has a good one.
    pub classes: Vec<ClassStanding>,
    /// When the content of a backup was last proven, deep or by a restore.
    pub last_proof: Option<DateTime<Utc>>,
    /// When a backup was last restored and compared.
    pub last_restore_test: Option<DateTime<Utc>>,
    /// How each operation last ended.
    pub runs: Vec<RunStanding>,
}

/// The newest good backup of a class.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassStanding {
    /// `daily`, `weekly`…
    pub class: String,
    /// Good backups of it.
    pub backups: u64,
    /// When the newest was begun.
    pub last_success: DateTime<Utc>,
    /// Its stored bytes.
    pub stored_bytes: u64,
    /// Its plain bytes.
    pub plain_bytes: u64,
    /// How long it took, in seconds.
    pub duration_seconds: u64,
}

/// How an operation last ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunStanding {
    /// `backup`, `restore`…
    pub operation: String,
    /// When.
    pub at: DateTime<Utc>,
    /// Well or not.
    pub success: bool,
}

/// Takes samples. A failure is a warning in the run's report, never the run's failure.
#[async_trait]
pub trait MetricsSink: Debug + Send + Sync {
    /// Its name in logs: `CloudWatch`, `textfile`, `Pushgateway`.
    fn channel(&self) -> &str;

    /// Takes one sample, once; [`Patience::keep_trying`](crate::Patience::keep_trying) is for what fails.
    async fn send(&self, sample: &Sample) -> Result<(), Error>;
}

/// How `bytes` compares with the median of the last seven of `earlier` (newest first), in percent; `None` with fewer than three.
pub fn size_change(bytes: u64, earlier: impl IntoIterator<Item = u64>) -> Option<f64> {
    let mut last: Vec<u64> = earlier.into_iter().take(7).collect();
    if last.len() < 3 {
        return None;
    }
    last.sort_unstable();
    let (low, high) = (last[(last.len() - 1) / 2], last[last.len() / 2]);
    let median = f64::midpoint(low as f64, high as f64);
    (median > 0.0).then(|| (bytes as f64 / median - 1.0) * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_against_the_median_of_the_last_seven() {
        assert_eq!(size_change(50, [100, 100]), None, "too few to say");
        assert_eq!(size_change(50, [100, 90, 110]), Some(-50.0));
        assert_eq!(size_change(150, [100, 100, 100, 100]), Some(50.0));
        assert_eq!(size_change(30, [20, 40, 20, 40]), Some(0.0), "between the two in the middle");
        let long_ago = [100, 100, 100, 100, 100, 100, 100, 1, 1, 1, 1, 1, 1, 1, 1, 1];
        assert_eq!(size_change(100, long_ago), Some(0.0));
        assert_eq!(size_change(1, [0, 0, 0]), None);
        let one_odd = [1_000_000, 100, 101, 99, 100];
        assert_eq!(size_change(100, one_odd), Some(0.0));
    }
}
