//! Who hears of failures, and who takes metrics.

use std::time::Duration;

use chrono::Utc;
use pgkeep_metrics::{CloudWatch, Error, Measurement, Metric, MetricsSink, Sample, Textfile};

use super::Scene;
use super::findings::{Finding, Findings};
use crate::hint::Code;
use crate::monitoring::{Channels, MailRoute, Record, mail_route, mail_route_words, namespace, topic};
use crate::settings::variable;
use crate::wire::Access;

/// How a message is tried: not by a check, which nobody wants to hear of.
const TRY: &str = "set; `pgkeep monitor test` sends a message";

/// Longest time for a channel to answer.
const LONGEST_TRY: Duration = Duration::from_secs(15);

/// Channels as far as they can be tried without waking anybody.
pub(super) async fn check(scene: Scene<'_>, findings: &mut Findings) {
    findings.group("messages");
    let context = scene.context;
    let settings = &context.settings;
    let record = match context.keeper(Access::Read).await {
        Ok(keeper) => Record::load(&keeper).await,
        Err(_) => Record::default(),
    };
    let channels = Channels::of(context, &record).await;
    for flaw in &channels.flaws {
        findings.fail("settings", flaw.clone());
    }
    if let Some(route) = mail_route(settings, &record) {
        let words = mail_route_words(settings, &route);
        match route {
            MailRoute::Smtp | MailRoute::Topic(_) => findings.skip("NOTIFICATION_EMAIL", words),
            MailRoute::Nobody => findings.warn("NOTIFICATION_EMAIL", words),
        };
    } else if channels.notifiers.is_empty() {
        findings.warn("failures", "nobody hears when a backup fails").hint(
            "set NOTIFICATION_EMAIL and NOTIFICATION_SMTP_URL, or NOTIFICATION_WEBHOOK_URL, or NOTIFICATION_SNS_TOPIC",
        );
    }
    for notifier in &channels.notifiers {
        let shown = topic(settings, &record).filter(|_| notifier.channel() == pgkeep_metrics::SnsTopic::CHANNEL);
        let which = shown.map(|arn| format!("{arn} is ")).unwrap_or_default();
        let reached = async {
            tokio::select! {
                reached = tokio::time::timeout(LONGEST_TRY, notifier.reach()) => {
                    let late = || Some(Err(Error::passing(notifier.channel(), "it does not answer in time")));
                    reached.unwrap_or_else(|_| late())
                }
                () = context.cancel.cancelled() => None,
            }
        };
        match if scene.args.dry_run { None } else { reached.await } {
            None => findings.skip(notifier.channel(), format!("{which}{TRY}")),
            Some(Ok(())) => findings.pass(notifier.channel(), "the server was reached and lets us in"),
            Some(Err(error)) => findings
                .fail(notifier.channel(), error.reason)
                .hint("see NOTIFICATION_SMTP_URL: server, port, user, password")
                .code(Code::MonitoringFailed),
        };
    }
    if Channels::dead_man(settings).dead_man.is_some() {
        findings.skip("ping", "set; every backup tells when it begins and ends");
    }
    metrics(scene, findings, topic(settings, &record).as_deref()).await;
    if let Some(directory) = settings.layers.text(&variable::PROMETHEUS_TEXTFILE_DIR) {
        let path = Textfile::new(context.surroundings.directory.join(directory)).path(&context.database_name());
        match super::machine::writable(&path, scene.args.dry_run) {
            Ok(()) => findings.pass("textfile", path.display().to_string()),
            Err(error) => findings
                .fail("textfile", format!("{} can't be written: {error}", path.display()))
                .code(Code::PermissionDenied),
        };
    }
}

/// A metric of its own, which no alarm looks at.
async fn metrics(scene: Scene<'_>, findings: &mut Findings, topic: Option<&str>) {
    const NAME: &str = "CloudWatch";
    let context = scene.context;
    let Some((namespace, was_asked_for)) = namespace(&context.settings) else { return };
    if scene.args.dry_run {
        findings.skip(NAME, format!("{namespace}: --dry-run sends no metric"));
        return;
    }
    let clients = context.aws_clients(topic).await;
    let sample = Sample {
        database: context.database_name(),
        at: Utc::now(),
        measurements: vec![Measurement { metric: Metric::MonitorTest, value: 1.0 }],
        standing: None,
    };
    match CloudWatch::new(clients.cloudwatch, &namespace).send(&sample).await {
        Ok(()) => {
            findings.pass(NAME, format!("metric MonitorTest sent to {namespace}"));
        }
        Err(error) if was_asked_for => refused(findings.fail(NAME, format!("{namespace}: {}", error.reason)), &error),
        Err(error) => refused(findings.warn(NAME, format!("no metrics are sent: {}", error.reason)), &error),
    }
}

fn refused(finding: &mut Finding, error: &Error) {
    finding.code(Code::MonitoringFailed);
    if error.denied {
        finding
            .missing("cloudwatch:PutMetricData")
            .hint("pgkeep check --iam-policy writer; or CLOUDWATCH_NAMESPACE=none");
    }
}
