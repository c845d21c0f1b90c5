//! `pgkeep monitor`.

use clap::{Args, Subcommand};

/// Set up alarms, a dashboard and messages for this database; show, test or remove them.
///
/// Backups send metrics and notices by themselves, to whatever is set: NOTIFICATION_WEBHOOK_URL, NOTIFICATION_SMTP_URL,
/// NOTIFICATION_SNS_TOPIC, BACKUP_PING_URL, CLOUDWATCH_NAMESPACE, PROMETHEUS_TEXTFILE_DIR, PUSHGATEWAY_URL.
#[derive(Debug, Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct MonitorArgs {
    #[command(subcommand)]
    pub(crate) action: MonitorAction,
}

/// What is done.
#[derive(Debug, Subcommand)]
pub(crate) enum MonitorAction {
    /// Make a topic, a subscription, four alarms and a dashboard on AWS; again: nothing changes
    Install(MonitorInstallArgs),
    /// Show what is set up and how it stands
    Show,
    /// Send a metric, set an alarm off and back, send a message by every channel, and say who has confirmed
    Test,
    /// Remove exactly what install made
    Remove,
}

/// Options of `monitor install`.
#[derive(Debug, Default, Args)]
pub(crate) struct MonitorInstallArgs {
    /// Subscribe this address to the topic [env: NOTIFICATION_EMAIL]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) email: Option<String>,
    /// Use this topic; make none [env: NOTIFICATION_SNS_TOPIC]
    #[arg(long, value_name = "ARN")]
    pub(crate) sns_topic: Option<String>,
    /// Longest time between two backups [default: by the schedule]
    #[arg(long, value_name = "DURATION")]
    pub(crate) every: Option<String>,
    /// How much later than that a backup may be done [default: 2h]
    #[arg(long, value_name = "DURATION")]
    pub(crate) grace: Option<String>,
    /// Print what would be made, make nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}
