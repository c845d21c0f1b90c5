//! What happened, told to whoever listens.
//!
//! - An [`Observer`] hears every [`Event`] of a run as it happens: it cannot fail and must not block.
//! - A [`Notifier`] carries a [`Notice`] to people: `Webhook`, `Mail`, `SnsTopic`. [`Watch`] decides which outcome of a run
//!   is worth one: a failure at once, then a reminder a day, then that it is well again.
//! - A [`MetricsSink`] takes a [`Sample`] of a run: `CloudWatch`, [`Textfile`], `Pushgateway`.
//! - A [`DeadMan`] hears that a run began and how it ended, and misses the one that never came: `Ping`.
//!
//! Whatever fails here is a warning, tried again for a bounded time ([`Patience`]), never a failed backup.
//!
//! [`MonitoringPlan`] is what is set up on CloudWatch, as values: alarms, dashboard, names, cost. [`evaluate`] runs an
//! alarm over a history as CloudWatch does, so that it can be shown when each fires; the `Installer` sets the plan up.
//!
//! Everything that needs a client of its own is behind a feature: `http`, `smtp`, `sns`, `cloudwatch`.

mod alarm;
#[cfg(feature = "aws")]
mod aws;
#[cfg(any(feature = "aws", feature = "http", feature = "smtp"))]
mod chain;
#[cfg(feature = "cloudwatch")]
mod cloudwatch;
mod dashboard;
mod deadman;
mod evaluate;
mod event;
#[cfg(feature = "http")]
mod http;
#[cfg(all(feature = "cloudwatch", feature = "sns"))]
mod install;
#[cfg(feature = "smtp")]
mod mail;
mod metric;
mod notice;
mod patience;
#[cfg(feature = "http")]
mod ping;
mod plan;
mod prometheus;
#[cfg(feature = "http")]
mod pushgateway;
#[cfg(feature = "sns")]
mod sns;
mod textfile;
mod watch;
#[cfg(feature = "http")]
mod webhook;

pub use alarm::{Alarm, AlarmKind, AlarmSeverity, Comparison, Missing, Statistic};
#[cfg(feature = "cloudwatch")]
pub use cloudwatch::CloudWatch;
pub use dashboard::{Dashboard, dashboard_flaws};
pub use deadman::{DeadMan, RunId, Signal};
pub use evaluate::{AlarmState, Datapoint, evaluate};
pub use event::{Discard, Event, Observer, Stage};
#[cfg(all(feature = "cloudwatch", feature = "sns"))]
pub use install::{AlarmShown, InstallError, InstallRequest, Installed, Installer, Shown, Subscription, Tested};
#[cfg(feature = "smtp")]
pub use mail::Mail;
pub use metric::{ClassStanding, Measurement, Metric, MetricsSink, RunStanding, Sample, Standing, Unit, size_change};
pub use notice::{Error, Notice, Notifier, Severity};
pub use patience::Patience;
#[cfg(feature = "http")]
pub use ping::Ping;
pub use plan::{Cost, MonitoringOptions, MonitoringPlan};
#[cfg(feature = "http")]
pub use pushgateway::Pushgateway;
#[cfg(feature = "sns")]
pub use sns::SnsTopic;
pub use textfile::Textfile;
pub use watch::{Told, Watch, Watched};
#[cfg(feature = "http")]
pub use webhook::Webhook;
