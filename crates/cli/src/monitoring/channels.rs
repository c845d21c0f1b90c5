//! Channels as set.

use pgkeep_metrics::{
    CloudWatch, DeadMan, Error, Mail, MetricsSink, Notifier, Ping, Pushgateway, SnsTopic, Textfile, Webhook,
};
use secrecy::SecretString;

use super::Record;
use crate::commands::Context;
use crate::settings::{Settings, variable};

/// The namespace of metrics, without any setting.
pub(crate) const DEFAULT_NAMESPACE: &str = "PgKeep/Backups";

/// Who is told, and who counts.
#[derive(Debug, Default)]
pub(crate) struct Channels {
    /// Who is told of failures.
    pub(crate) notifiers: Vec<Box<dyn Notifier>>,
    /// Who takes metrics, and whether somebody asked for it by name.
    pub(crate) sinks: Vec<(Box<dyn MetricsSink>, bool)>,
    /// Who misses the run that never comes.
    pub(crate) dead_man: Option<Box<dyn DeadMan>>,
    /// What is set and can't be used, one line each.
    pub(crate) flaws: Vec<String>,
}

/// How `NOTIFICATION_EMAIL` is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum MailRoute {
    /// By our own mail server.
    Smtp,
    /// By this topic, to which the address must be subscribed.
    Topic(String),
    /// Not at all.
    Nobody,
}

/// How `NOTIFICATION_EMAIL` is reached; `None` if it is not set.
pub(crate) fn mail_route(settings: &Settings, record: &Record) -> Option<MailRoute> {
    let layers = &settings.layers;
    layers.get(&variable::NOTIFICATION_EMAIL)?;
    if layers.get(&variable::NOTIFICATION_SMTP_URL).is_some() {
        return Some(MailRoute::Smtp);
    }
    Some(topic(settings, record).map_or(MailRoute::Nobody, MailRoute::Topic))
}

/// The route in one line, for people.
pub(crate) fn mail_route_words(settings: &Settings, route: &MailRoute) -> String {
    let address = settings.layers.text(&variable::NOTIFICATION_EMAIL).unwrap_or_default();
    match route {
        MailRoute::Smtp => format!("{address} hears of failures by mail"),
        MailRoute::Topic(arn) => format!("{address} hears of failures by the topic {arn}, once it has confirmed"),
        MailRoute::Nobody => format!(
            "{address} hears of nothing: there is neither NOTIFICATION_SMTP_URL nor a topic (pgkeep monitor install makes one)"
        ),
    }
}

/// The topic that is published to: the one set, else the one installed.
pub(crate) fn topic(settings: &Settings, record: &Record) -> Option<String> {
    let installed = || record.installed.as_ref().map(|installed| installed.topic_arn.clone());
    settings.layers.text(&variable::NOTIFICATION_SNS_TOPIC).or_else(installed)
}

/// The namespace for metrics and whether it was set; `None` if none are sent. On AWS they are unless told otherwise.
pub(crate) fn namespace(settings: &Settings) -> Option<(String, bool)> {
    match settings.layers.text(&variable::CLOUDWATCH_NAMESPACE) {
        Some(none) if none == "none" => None,
        Some(namespace) => Some((namespace, true)),
        None => settings.on_aws().then(|| (DEFAULT_NAMESPACE.to_owned(), false)),
    }
}

/// Whether any channel is set, without looking at the record.
pub(crate) fn any(settings: &Settings) -> bool {
    use variable as v;
    let set = |variable| settings.layers.get(variable).is_some();
    namespace(settings).is_some()
        || [
            &v::NOTIFICATION_EMAIL,
            &v::NOTIFICATION_WEBHOOK_URL,
            &v::NOTIFICATION_SNS_TOPIC,
            &v::PROMETHEUS_TEXTFILE_DIR,
            &v::PUSHGATEWAY_URL,
        ]
        .into_iter()
        .any(set)
}

impl Channels {
    /// Every channel that is set, or was installed.
    pub(crate) async fn of(context: &Context, record: &Record) -> Self {
        let settings = &context.settings;
        let layers = &settings.layers;
        let secret = |variable| layers.text(variable).map(SecretString::from);
        let mut channels = Self::default();
        if let Some(url) = secret(&variable::NOTIFICATION_WEBHOOK_URL) {
            channels.add(&variable::NOTIFICATION_WEBHOOK_URL, Webhook::new(&url), |all, webhook| {
                all.notifiers.push(Box::new(webhook));
            });
        }
        if let (Some(url), Some(to)) =
            (secret(&variable::NOTIFICATION_SMTP_URL), layers.text(&variable::NOTIFICATION_EMAIL))
        {
            let host = &context.surroundings.host;
            let from = layers.text(&variable::NOTIFICATION_FROM).unwrap_or_else(|| format!("pgkeep <pgkeep@{host}>"));
            channels.add(&variable::NOTIFICATION_SMTP_URL, Mail::new(&url, &from, &to, host), |all, mail| {
                all.notifiers.push(Box::new(mail));
            });
        }
        let topic = topic(settings, record);
        let namespace = namespace(settings);
        if topic.is_some() || namespace.is_some() {
            let aws = context.aws_clients(topic.as_deref()).await;
            if let Some(arn) = topic {
                channels.notifiers.push(Box::new(SnsTopic::new(aws.sns, arn)));
            }
            if let Some((namespace, was_set)) = namespace {
                channels.sinks.push((Box::new(CloudWatch::new(aws.cloudwatch, namespace)), was_set));
            }
        }
        if let Some(directory) = layers.text(&variable::PROMETHEUS_TEXTFILE_DIR) {
            let directory = context.surroundings.directory.join(directory);
            channels.sinks.push((Box::new(Textfile::new(directory)), true));
        }
        if let Some(url) = secret(&variable::PUSHGATEWAY_URL) {
            channels.add(&variable::PUSHGATEWAY_URL, Pushgateway::new(&url), |all, gateway| {
                all.sinks.push((Box::new(gateway), true));
            });
        }
        channels
    }

    /// The dead-man service, which needs no record.
    pub(crate) fn dead_man(settings: &Settings) -> Self {
        let mut channels = Self::default();
        if let Some(url) = settings.layers.text(&variable::BACKUP_PING_URL) {
            channels.add(&variable::BACKUP_PING_URL, Ping::new(&SecretString::from(url)), |all, ping| {
                all.dead_man = Some(Box::new(ping));
            });
        }
        channels
    }

    fn add<C>(&mut self, variable: &variable::Variable, channel: Result<C, Error>, put: impl FnOnce(&mut Self, C)) {
        match channel {
            Ok(channel) => put(self, channel),
            Err(error) => self.flaws.push(format!("{} can't be used: {}", variable.name, error.reason)),
        }
    }
}
