//! `pgkeep monitor`, and the drop-in `setup-backup-monitoring`.

use std::fmt::Write as _;
use std::time::Duration;

use chrono::Utc;
use pgkeep_core::Keeper;
use pgkeep_metrics::{
    InstallError, InstallRequest, Installer, MonitoringOptions, MonitoringPlan, Notice, Patience, Sample, Shown,
    Subscription,
};
use serde_json::json;

use super::{Context, Done};
use crate::args::{MonitorAction, MonitorArgs, MonitorInstallArgs};
use crate::failure::{Failure, Result};
use crate::hint::Code;
use crate::monitoring::{Channels, DEFAULT_NAMESPACE, Record, mail_route, mail_route_words, namespace, topic};
use crate::render::tables;
use crate::settings::{duration, variable};
use crate::wire::Access;

/// Between two backups, without a schedule of one's own.
const DAILY: Duration = Duration::from_hours(24);

pub(super) async fn run(context: &Context, args: &MonitorArgs) -> Result<Done> {
    match &args.action {
        MonitorAction::Install(args) => install(context, args).await,
        MonitorAction::Show => show(context).await,
        MonitorAction::Test => test(context).await,
        MonitorAction::Remove => remove(context).await,
    }
}

async fn install(context: &Context, args: &MonitorInstallArgs) -> Result<Done> {
    let typed = |text: &str, flag: &str| {
        duration(text).map_err(|wanted| Failure::settings(format!("{flag}: {text:?} is not {wanted}")))
    };
    let every = args.every.as_deref().map(|every| typed(every, "--every")).transpose()?;
    let grace = args.grace.as_deref().map(|grace| typed(grace, "--grace")).transpose()?;
    let plan = context.monitoring_plan(every, grace).await?;
    for warning in &plan.warnings {
        context.reporter.warn(warning);
    }
    let flaws = plan.flaws();
    if !flaws.is_empty() {
        return Err(Failure::settings(format!("this can't be set up: {}", flaws.join("; "))));
    }
    let layers = &context.settings.layers;
    let request = InstallRequest {
        email: args.email.clone().or_else(|| layers.text(&variable::NOTIFICATION_EMAIL)),
        topic_arn: args.sns_topic.clone().or_else(|| layers.text(&variable::NOTIFICATION_SNS_TOPIC)),
    };
    if args.dry_run {
        let text = format!("{}\nnothing was made (--dry-run)\n", plan_text(&plan, &request));
        return Ok(Done::new(text, "plan", json!(plan)).with("dry_run", json!(true)));
    }
    let (keeper, mut record) = context.remembered().await?;
    let installed = context.installer().await.install(&plan, &request, record.installed.as_ref()).await?;
    context.reporter.info(format!("Monitoring of {} is set up: {} alarms", plan.database, installed.alarms.len()));
    record.installed = Some(installed.clone());
    remember(context, &keeper, &mut record).await;
    if namespace(&context.settings).is_none() {
        context.reporter.warn(format!(
            "backups send no metrics to CloudWatch yet, so that the alarms will fire: set CLOUDWATCH_NAMESPACE={}",
            plan.namespace
        ));
    }
    let mut text = plan_text(&plan, &request);
    let _ = writeln!(text, "\nTopic: {}", installed.topic_arn);
    if let Some(email) = &installed.made_subscription {
        let _ = writeln!(
            text,
            "{email} gets a message with a link to confirm; unconfirmed it hears of nothing, and after 48 hours it is \
             forgotten. Then: pgkeep monitor test"
        );
    }
    Ok(Done::new(text, "installed", json!(installed))
        .with("plan", json!(plan))
        .with("dashboard_url", json!(plan.dashboard.url()))
        .with("monthly_cost_usd_cents", json!(plan.cost().cents())))
}

fn plan_text(plan: &MonitoringPlan, request: &InstallRequest) -> String {
    let rows =
        plan.alarms.iter().map(|alarm| [alarm.name.clone(), alarm.severity.word().to_owned(), alarm.condition()]);
    let mut text = tables::table(["ALARM", "SEVERITY", "WHEN"], &[], rows);
    let topic = request.topic_arn.clone().unwrap_or_else(|| format!("{} (made here)", plan.topic_name));
    let mut facts = vec![("messages by", topic)];
    facts.extend(request.email.clone().map(|email| ("to", email)));
    facts.push(("dashboard", plan.dashboard.url()));
    facts.push(("cost", plan.cost().to_string()));
    text.push('\n');
    text.push_str(&tables::facts(facts));
    text
}

async fn show(context: &Context) -> Result<Done> {
    let plan = context.monitoring_plan(None, None).await?;
    let (_, record) = context.remembered().await?;
    let channels = Channels::of(context, &record).await;
    let mut lines: Vec<String> =
        channels.notifiers.iter().map(|channel| format!("{} is told", channel.channel())).collect();
    lines.extend(channels.sinks.iter().map(|(sink, _)| format!("{} gets metrics", sink.channel())));
    if Channels::dead_man(&context.settings).dead_man.is_some() {
        lines.push("ping hears of each backup's beginning and end".to_owned());
    }
    lines.extend(mail_route(&context.settings, &record).map(|route| mail_route_words(&context.settings, &route)));
    for flaw in &channels.flaws {
        context.reporter.warn(flaw);
    }
    if lines.is_empty() {
        lines.push("nobody is told: no channel is set".to_owned());
    }
    let mut text = lines.join("\n") + "\n";
    let mut done = Done::default().with("channels", json!(lines));
    // Without anything on AWS there is nothing to ask there.
    if record.installed.is_some() || namespace(&context.settings).is_some() {
        let shown = context.installer().await.show(&plan, record.installed.as_ref()).await?;
        text.push('\n');
        text.push_str(&shown_text(&plan, &shown));
        done = done.with("aws", json!(shown));
    }
    Ok(Done { text, ..done })
}

fn shown_text(plan: &MonitoringPlan, shown: &Shown) -> String {
    let rows = shown.alarms.iter().map(|alarm| {
        let state = alarm.state.clone().unwrap_or_else(|| "not there".to_owned());
        [alarm.name.clone(), alarm.severity.clone(), state, alarm.condition.clone()]
    });
    let mut text = tables::table(["ALARM", "SEVERITY", "STATE", "WHEN"], &[], rows);
    let url = if shown.dashboard { plan.dashboard.url() } else { "not there".to_owned() };
    let mut facts = vec![("dashboard", url)];
    facts.push(("topic", shown.topic_arn.clone().unwrap_or_else(|| "none".to_owned())));
    text.push('\n');
    text.push_str(&tables::facts(facts));
    text.push_str(&subscriptions_text(&shown.subscriptions));
    text
}

fn subscriptions_text(subscriptions: &[Subscription]) -> String {
    subscriptions.iter().fold(String::new(), |mut text, subscription| {
        let state = if subscription.confirmed { "confirmed" } else { "not confirmed (vanishes after 48 hours)" };
        let _ = writeln!(text, "{} {}: {state}", subscription.protocol, subscription.endpoint);
        text
    })
}

async fn test(context: &Context) -> Result<Done> {
    let plan = context.monitoring_plan(None, None).await?;
    let (_, record) = context.remembered().await?;
    let notice = Notice::test(&plan.database);
    let channels = Channels::of(context, &record).await;
    let mut steps: Vec<(String, Option<String>)> =
        channels.flaws.iter().map(|flaw| ("settings".to_owned(), Some(flaw.clone()))).collect();
    let topic = topic(&context.settings, &record);
    for notifier in &channels.notifiers {
        // The topic's own test says more.
        if topic.is_some() && notifier.channel() == pgkeep_metrics::SnsTopic::CHANNEL {
            continue;
        }
        let told = Patience::default().keep_trying(notifier.channel(), || notifier.notify(&notice)).await;
        steps.push((format!("message by {}", notifier.channel()), told.err().map(|error| error.reason)));
    }
    let mut subscriptions = Vec::new();
    let mut nobody = false;
    if let Some(arn) = &topic {
        let sample =
            Sample { database: plan.database.clone(), at: Utc::now(), measurements: Vec::new(), standing: None };
        let tested = context.installer().await.test(&plan, arn, &notice, sample).await?;
        nobody = !tested.subscriptions.iter().any(|subscription| subscription.confirmed);
        steps.extend(tested.steps);
        subscriptions = tested.subscriptions;
    }
    if steps.is_empty() {
        return Err(Failure::new(Code::NobodyHears, "there is nothing to test: no channel is set, no topic was made")
            .hint("pgkeep monitor install, or set NOTIFICATION_WEBHOOK_URL or NOTIFICATION_SMTP_URL"));
    }
    let rows = steps.iter().map(|(what, failure)| {
        [what.clone(), failure.as_ref().map_or_else(|| "ok".to_owned(), |why| format!("FAILED: {why}"))]
    });
    let text = tables::table(["WHAT", "RESULT"], &[], rows) + &subscriptions_text(&subscriptions);
    let failed: Vec<_> =
        steps.iter().filter_map(|(what, failure)| Some(format!("{what}: {}", failure.as_ref()?))).collect();
    let failure = if !failed.is_empty() {
        Some(Failure::new(Code::MonitoringFailed, failed.join("; ")))
    } else if nobody {
        let arn = topic.unwrap_or_default();
        Some(Failure::new(Code::NobodyHears, format!("nobody who is subscribed to {arn} has confirmed")))
    } else {
        None
    };
    let steps: Vec<_> = steps.iter().map(|(what, failure)| json!({ "what": what, "failure": failure })).collect();
    Ok(Done { failure, ..Done::new(text, "steps", json!(steps)).with("subscriptions", json!(subscriptions)) })
}

async fn remove(context: &Context) -> Result<Done> {
    let plan = context.monitoring_plan(None, None).await?;
    let (keeper, mut record) = context.remembered().await?;
    let removed = context.installer().await.remove(&plan, record.installed.as_ref()).await?;
    if record.installed.take().is_some() {
        remember(context, &keeper, &mut record).await;
    }
    let mut text = removed.iter().fold(String::new(), |text, what| text + "removed " + what + "\n");
    if removed.is_empty() {
        text.push_str("there was nothing to remove\n");
    }
    Ok(Done::new(text, "removed", json!(removed)))
}

/// That it can't be remembered is a warning: names and marks find it again.
async fn remember(context: &Context, keeper: &Keeper, record: &mut Record) {
    for failure in record.store(keeper, Utc::now()).await {
        context.reporter.warn(format!("what was set up is not remembered at {failure}"));
    }
}

impl Context {
    /// The plan for this database.
    async fn monitoring_plan(&self, every: Option<Duration>, grace: Option<Duration>) -> Result<MonitoringPlan> {
        self.settings.database_url()?;
        let name = self.settings.layers.text(&variable::CLOUDWATCH_NAMESPACE).filter(|name| name != "none");
        let mut options =
            MonitoringOptions::new(name.unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned()), self.database_name());
        options.longest_gap = every.or_else(|| self.settings.schedule.longest_gap()).unwrap_or(DAILY);
        options.grace = grace.unwrap_or(options.grace);
        options.region = self.aws_region().await;
        Ok(MonitoringPlan::new(&options))
    }

    /// The repository and what is remembered there.
    async fn remembered(&self) -> Result<(Keeper, Record)> {
        let keeper = self.keeper(Access::Write).await?;
        let record = Record::load(&keeper).await;
        Ok((keeper, record))
    }

    async fn installer(&self) -> Installer {
        let clients = self.aws_clients(None).await;
        Installer::new(clients.cloudwatch, clients.sns)
    }
}

impl From<InstallError> for Failure {
    fn from(error: InstallError) -> Self {
        let failure = Self::new(Code::MonitoringFailed, error.to_string());
        match error.missing_permission {
            Some(action) => failure.hint(format!("the policy of whoever installs must allow {action}")),
            None => failure,
        }
    }
}
