//! The plan set up on AWS, shown, tested and taken away again.

use std::collections::BTreeMap;

use aws_sdk_cloudwatch::types::{
    ComparisonOperator, Metric as AwsMetric, MetricAlarm, MetricDataQuery, MetricStat, StateValue,
    Statistic as AwsStatistic,
};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use serde::{Deserialize, Serialize};

use crate::alarm::{Alarm, AlarmKind, Comparison, Statistic};
use crate::cloudwatch::dimension;
use crate::dashboard::{self, MARK};
use crate::{CloudWatch, Measurement, Metric, MetricsSink, MonitoringPlan, Notice, Notifier, Sample, SnsTopic, aws};

/// What shows that a topic is ours.
const TAG: (&str, &str) = ("made-by", "pgkeep");
/// What shows that an alarm is.
const ALARM_MARK: &str = "Made by pgkeep";

/// Sets plans up.
#[derive(Debug, Clone)]
pub struct Installer {
    cloudwatch: aws_sdk_cloudwatch::Client,
    sns: aws_sdk_sns::Client,
}

/// A request that AWS refused or that did not reach it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to {doing}: {reason}")]
pub struct InstallError {
    /// What was tried, on what.
    pub doing: String,
    /// What AWS said.
    pub reason: String,
    /// The action that the policy lacks, if that is what it is: `cloudwatch:PutMetricAlarm`.
    pub missing_permission: Option<String>,
}

type Result<T, E = InstallError> = std::result::Result<T, E>;

/// Who is told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InstallRequest {
    /// This address is subscribed to the topic.
    pub email: Option<String>,
    /// This topic is used; without, one is made.
    pub topic_arn: Option<String>,
}

/// What was set up, to be remembered: `remove` takes away exactly what it says was made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installed {
    /// The topic that the alarms publish to.
    pub topic_arn: String,
    /// It was made, not given.
    pub made_topic: bool,
    /// The address that was subscribed to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_subscription: Option<String>,
    /// Alarms by name.
    pub alarms: Vec<String>,
    /// The dashboard's name.
    pub dashboard: String,
}

/// A subscription of the topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Subscription {
    /// `email`, `lambda`…
    pub protocol: String,
    /// The address.
    pub endpoint: String,
    /// It was confirmed. What is not within 48 hours vanishes.
    pub confirmed: bool,
}

/// An alarm of the plan as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AlarmShown {
    /// Its name.
    pub name: String,
    /// `CRITICAL`…
    pub severity: String,
    /// When it fires.
    pub condition: String,
    /// `OK`, `ALARM`, `INSUFFICIENT_DATA`; `None` if it is not there.
    pub state: Option<String>,
}

/// How it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shown {
    /// The plan's alarms.
    pub alarms: Vec<AlarmShown>,
    /// The dashboard is there.
    pub dashboard: bool,
    /// The topic.
    pub topic_arn: Option<String>,
    /// Who is subscribed to it.
    pub subscriptions: Vec<Subscription>,
}

/// What a test found: per step, what it is and why it failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tested {
    /// In the order in which they were made.
    pub steps: Vec<(String, Option<String>)>,
    /// Who is subscribed to the topic.
    pub subscriptions: Vec<Subscription>,
}

impl Tested {
    /// Everything worked and somebody is told.
    pub fn good(&self) -> bool {
        self.steps.iter().all(|(_, failure)| failure.is_none())
            && self.subscriptions.iter().any(|subscription| subscription.confirmed)
    }
}

impl Installer {
    /// With these clients.
    pub fn new(cloudwatch: aws_sdk_cloudwatch::Client, sns: aws_sdk_sns::Client) -> Self {
        Self { cloudwatch, sns }
    }

    /// Sets the plan up. Doing it again changes nothing; what an earlier installation (`before`) made and this one does not
    /// use goes away.
    pub async fn install(
        &self,
        plan: &MonitoringPlan,
        request: &InstallRequest,
        before: Option<&Installed>,
    ) -> Result<Installed> {
        let flaws = plan.flaws();
        if !flaws.is_empty() {
            return Err(InstallError {
                doing: "set up monitoring".to_owned(),
                reason: flaws.join("; "),
                missing_permission: None,
            });
        }
        let (topic_arn, made_topic) = self.topic(plan, request, before).await?;
        let made_subscription = match &request.email {
            Some(email) => self.subscribe(&topic_arn, email, before).await?,
            None => before
                .filter(|before| before.topic_arn == topic_arn)
                .and_then(|before| before.made_subscription.clone()),
        };
        for alarm in &plan.alarms {
            self.put_alarm(plan, alarm, &topic_arn).await?;
        }
        let arns: Vec<_> =
            self.alarms(plan).await?.values().filter_map(|alarm| alarm.alarm_arn().map(str::to_owned)).collect();
        let body = plan.dashboard.body(&dashboard::in_order(&plan.alarms, &arns));
        self.cloudwatch
            .put_dashboard()
            .dashboard_name(&plan.dashboard.name)
            .dashboard_body(body.to_string())
            .send()
            .await
            .map_err(failed("put the dashboard", "cloudwatch:PutDashboard"))?;
        let installed = Installed {
            topic_arn,
            made_topic,
            made_subscription,
            alarms: plan.alarms.iter().map(|alarm| alarm.name.clone()).collect(),
            dashboard: plan.dashboard.name.clone(),
        };
        if let Some(before) = before {
            self.leave(before, &installed).await?;
        }
        Ok(installed)
    }

    /// The topic, and whether it was made by us.
    async fn topic(
        &self,
        plan: &MonitoringPlan,
        request: &InstallRequest,
        before: Option<&Installed>,
    ) -> Result<(String, bool)> {
        if let Some(arn) = &request.topic_arn {
            self.sns
                .get_topic_attributes()
                .topic_arn(arn)
                .send()
                .await
                .map_err(failed(&format!("find the topic {arn}"), "sns:GetTopicAttributes"))?;
            return Ok((arn.clone(), before.is_some_and(|before| before.made_topic && before.topic_arn == *arn)));
        }
        if let Some(before) = before.filter(|before| !before.made_topic)
            && self.sns.get_topic_attributes().topic_arn(&before.topic_arn).send().await.is_ok()
        {
            // Given once, and still there: it is not replaced by one of ours.
            return Ok((before.topic_arn.clone(), false));
        }
        let tag = aws_sdk_sns::types::Tag::builder().key(TAG.0).value(TAG.1).build();
        let made = self
            .sns
            .create_topic()
            .name(&plan.topic_name)
            .set_tags(tag.ok().map(|tag| vec![tag]))
            .send()
            .await
            .map_err(failed(&format!("create the topic {}", plan.topic_name), "sns:CreateTopic"))?;
        Ok((made.topic_arn().unwrap_or_default().to_owned(), true))
    }

    /// Subscribes an address that is not yet; `Some` if it was done by us, now or before.
    async fn subscribe(&self, topic_arn: &str, email: &str, before: Option<&Installed>) -> Result<Option<String>> {
        let known = self.subscriptions(topic_arn).await?;
        if known.iter().any(|subscription| subscription.endpoint == email && subscription.protocol == "email") {
            return Ok(before.and_then(|before| before.made_subscription.clone()).filter(|made| made == email));
        }
        self.sns
            .subscribe()
            .topic_arn(topic_arn)
            .protocol("email")
            .endpoint(email)
            .send()
            .await
            .map_err(failed(&format!("subscribe {email}"), "sns:Subscribe"))?;
        Ok(Some(email.to_owned()))
    }

    async fn put_alarm(&self, plan: &MonitoringPlan, alarm: &Alarm, topic_arn: &str) -> Result<()> {
        let statistic = alarm.statistic.word();
        let mut request = self
            .cloudwatch
            .put_metric_alarm()
            .alarm_name(&alarm.name)
            .alarm_description(&alarm.description)
            .actions_enabled(true)
            .alarm_actions(topic_arn)
            .ok_actions(topic_arn)
            .evaluation_periods(alarm.periods as i32)
            .datapoints_to_alarm(alarm.periods as i32)
            .threshold(alarm.threshold)
            .comparison_operator(match alarm.comparison {
                Comparison::LessThan => ComparisonOperator::LessThanThreshold,
                Comparison::GreaterThan => ComparisonOperator::GreaterThanThreshold,
            })
            .treat_missing_data(alarm.missing.word());
        request = if let Some(expression) = alarm.expression() {
            let metric = AwsMetric::builder()
                .namespace(&plan.namespace)
                .metric_name(alarm.metric.name())
                .dimensions(dimension(&plan.database))
                .build();
            let stat = MetricStat::builder().metric(metric).period(alarm.period_seconds as i32).stat(statistic).build();
            request.metrics(MetricDataQuery::builder().id("m").metric_stat(stat).return_data(false).build()).metrics(
                MetricDataQuery::builder()
                    .id("e")
                    .expression(expression)
                    .label(alarm.metric.name())
                    .return_data(true)
                    .build(),
            )
        } else {
            request
                .namespace(&plan.namespace)
                .metric_name(alarm.metric.name())
                .dimensions(dimension(&plan.database))
                .period(alarm.period_seconds as i32)
                .statistic(match alarm.statistic {
                    Statistic::Sum => AwsStatistic::Sum,
                    Statistic::Minimum => AwsStatistic::Minimum,
                    Statistic::Maximum => AwsStatistic::Maximum,
                })
        };
        request.send().await.map_err(failed(&format!("put the alarm {}", alarm.name), "cloudwatch:PutMetricAlarm"))?;
        Ok(())
    }

    /// The plan's alarms that are there, by name.
    async fn alarms(&self, plan: &MonitoringPlan) -> Result<BTreeMap<String, MetricAlarm>> {
        let names: Vec<_> = plan.alarms.iter().map(|alarm| alarm.name.clone()).collect();
        let found = self
            .cloudwatch
            .describe_alarms()
            .set_alarm_names(Some(names))
            .send()
            .await
            .map_err(failed("describe the alarms", "cloudwatch:DescribeAlarms"))?;
        let named = |alarm: &MetricAlarm| Some((alarm.alarm_name()?.to_owned(), alarm.clone()));
        Ok(found.metric_alarms().iter().filter_map(named).collect())
    }

    async fn subscriptions(&self, topic_arn: &str) -> Result<Vec<Subscription>> {
        Ok(self.subscriptions_with_arns(topic_arn).await?.into_iter().map(|(subscription, _)| subscription).collect())
    }

    async fn subscriptions_with_arns(&self, topic_arn: &str) -> Result<Vec<(Subscription, String)>> {
        let mut subscriptions = Vec::new();
        let mut token = None;
        loop {
            let page = self
                .sns
                .list_subscriptions_by_topic()
                .topic_arn(topic_arn)
                .set_next_token(token)
                .send()
                .await
                .map_err(failed(
                &format!("list who is subscribed to {topic_arn}"),
                "sns:ListSubscriptionsByTopic",
            ))?;
            for found in page.subscriptions() {
                let arn = found.subscription_arn().unwrap_or_default();
                let subscription = Subscription {
                    protocol: found.protocol().unwrap_or_default().to_owned(),
                    endpoint: found.endpoint().unwrap_or_default().to_owned(),
                    // Else it says PendingConfirmation or Deleted.
                    confirmed: arn.starts_with("arn:"),
                };
                subscriptions.push((subscription, arn.to_owned()));
            }
            token = page.next_token().filter(|token| !token.is_empty()).map(str::to_owned);
            if token.is_none() {
                return Ok(subscriptions);
            }
        }
    }

    /// The dashboard of this name, if it is there and ours.
    async fn has_dashboard(&self, name: &str) -> Result<bool> {
        match self.cloudwatch.get_dashboard().dashboard_name(name).send().await {
            Ok(found) => Ok(found.dashboard_body().is_some_and(|body| body.contains(MARK))),
            Err(error) if gone(&error) => Ok(false),
            Err(error) => Err(failed("get the dashboard", "cloudwatch:GetDashboard")(error)),
        }
    }

    /// How the plan stands; `installed` is what was remembered.
    pub async fn show(&self, plan: &MonitoringPlan, installed: Option<&Installed>) -> Result<Shown> {
        let there = self.alarms(plan).await?;
        let shown = |alarm: &Alarm| AlarmShown {
            name: alarm.name.clone(),
            severity: alarm.severity.word().to_owned(),
            condition: alarm.condition(),
            state: there
                .get(&alarm.name)
                .map(|found| found.state_value().map_or_else(String::new, |state| state.as_str().to_owned())),
        };
        let topic_arn = match installed {
            Some(installed) => Some(installed.topic_arn.clone()),
            // The record is lost: the alarms know it.
            None => there.values().find_map(|alarm| alarm.alarm_actions().first().cloned()),
        };
        let subscriptions = match &topic_arn {
            Some(arn) => self.subscriptions(arn).await?,
            None => Vec::new(),
        };
        Ok(Shown {
            alarms: plan.alarms.iter().map(shown).collect(),
            dashboard: self.has_dashboard(&plan.dashboard.name).await?,
            topic_arn,
            subscriptions,
        })
    }

    /// Sends a metric, sets an alarm off and back, publishes a message, and asks who is subscribed.
    pub async fn test(
        &self,
        plan: &MonitoringPlan,
        topic_arn: &str,
        notice: &Notice,
        sample: Sample,
    ) -> Result<Tested> {
        let mut steps = Vec::new();
        let sink = CloudWatch::new(self.cloudwatch.clone(), &plan.namespace);
        let measurements = vec![Measurement { metric: Metric::MonitorTest, value: 1.0 }];
        let sent = sink.send(&Sample { measurements, ..sample }).await;
        steps.push((format!("metric MonitorTest in {}", plan.namespace), sent.err().map(|error| error.reason)));
        let (name, raised) = self.raise(plan).await;
        steps.push((format!("alarm {name} set off and back"), raised.err().map(|error| error.to_string())));
        let published = SnsTopic::new(self.sns.clone(), topic_arn).notify(notice).await;
        steps.push((format!("message to {topic_arn}"), published.err().map(|error| error.reason)));
        Ok(Tested { steps, subscriptions: self.subscriptions(topic_arn).await? })
    }

    /// Sets an alarm off, sees that it is, and sets it back to what it was: one whose missing values are ignored would stay.
    async fn raise(&self, plan: &MonitoringPlan) -> (String, Result<()>) {
        let Some(alarm) = plan.alarms.iter().max_by_key(|alarm| alarm.kind == AlarmKind::BackupFailure) else {
            return (String::new(), Ok(()));
        };
        let outcome = async {
            let state = async || {
                let found = self.alarms(plan).await?;
                let state = found.get(&alarm.name).and_then(|found| found.state_value().cloned());
                state.ok_or_else(|| InstallError {
                    doing: format!("find the alarm {}", alarm.name),
                    reason: "it is not there".to_owned(),
                    missing_permission: None,
                })
            };
            let before = state().await?;
            self.set_state(&alarm.name, StateValue::Alarm).await?;
            let raised = state().await;
            self.set_state(&alarm.name, before).await?;
            match raised? {
                StateValue::Alarm => Ok(()),
                other => Err(InstallError {
                    doing: format!("set off the alarm {}", alarm.name),
                    reason: format!("its state is {}", other.as_str()),
                    missing_permission: None,
                }),
            }
        };
        (alarm.name.clone(), outcome.await)
    }

    async fn set_state(&self, name: &str, state: StateValue) -> Result<()> {
        self.cloudwatch
            .set_alarm_state()
            .alarm_name(name)
            .state_value(state)
            .state_reason("pgkeep monitor test: nothing is wrong")
            .send()
            .await
            .map_err(failed(&format!("set the state of the alarm {name}"), "cloudwatch:SetAlarmState"))?;
        Ok(())
    }

    /// Takes away what was made, and nothing else; says what. Without a record, what bears our mark and the plan's names.
    pub async fn remove(&self, plan: &MonitoringPlan, installed: Option<&Installed>) -> Result<Vec<String>> {
        let found;
        let installed = if let Some(installed) = installed {
            installed
        } else {
            found = self.find(plan).await?;
            &found
        };
        self.leave(installed, &Installed::default()).await
    }

    /// What of the plan bears our mark.
    async fn find(&self, plan: &MonitoringPlan) -> Result<Installed> {
        let there = self.alarms(plan).await?;
        let marked = |alarm: &&MetricAlarm| alarm.alarm_description().is_some_and(|text| text.contains(ALARM_MARK));
        let alarms: Vec<_> =
            there.values().filter(marked).filter_map(|alarm| alarm.alarm_name().map(str::to_owned)).collect();
        let mut topic_arn = String::new();
        let mut token = None;
        loop {
            let page = self
                .sns
                .list_topics()
                .set_next_token(token)
                .send()
                .await
                .map_err(failed("list the topics", "sns:ListTopics"))?;
            let named = page.topics().iter().filter_map(|topic| topic.topic_arn());
            for arn in named.filter(|arn| arn.rsplit(':').next() == Some(&plan.topic_name)) {
                let tags = self.sns.list_tags_for_resource().resource_arn(arn).send().await;
                let tags = tags.map_err(failed("list the topic's tags", "sns:ListTagsForResource"))?;
                if tags.tags().iter().any(|tag| (tag.key(), tag.value()) == TAG) {
                    arn.clone_into(&mut topic_arn);
                }
            }
            token = page.next_token().filter(|token| !token.is_empty()).map(str::to_owned);
            if token.is_none() {
                break;
            }
        }
        let made_topic = !topic_arn.is_empty();
        Ok(Installed { topic_arn, made_topic, made_subscription: None, alarms, dashboard: plan.dashboard.name.clone() })
    }

    /// Takes away what `before` made and `now` has no use for.
    async fn leave(&self, before: &Installed, now: &Installed) -> Result<Vec<String>> {
        let mut removed = Vec::new();
        let alarms: Vec<_> = before.alarms.iter().filter(|name| !now.alarms.contains(name)).cloned().collect();
        if !alarms.is_empty() {
            let request = self.cloudwatch.delete_alarms().set_alarm_names(Some(alarms.clone())).send().await;
            if let Err(error) = request
                && !gone(&error)
            {
                return Err(failed("delete the alarms", "cloudwatch:DeleteAlarms")(error));
            }
            removed.extend(alarms.into_iter().map(|name| format!("alarm {name}")));
        }
        if before.dashboard != now.dashboard && self.has_dashboard(&before.dashboard).await? {
            self.cloudwatch
                .delete_dashboards()
                .dashboard_names(&before.dashboard)
                .send()
                .await
                .map_err(failed("delete the dashboard", "cloudwatch:DeleteDashboards"))?;
            removed.push(format!("dashboard {}", before.dashboard));
        }
        let same_topic = before.topic_arn == now.topic_arn;
        if before.made_topic && !same_topic {
            // Its subscriptions go with it.
            self.sns
                .delete_topic()
                .topic_arn(&before.topic_arn)
                .send()
                .await
                .map_err(failed("delete the topic", "sns:DeleteTopic"))?;
            removed.push(format!("topic {}", before.topic_arn));
        } else if let Some(email) = &before.made_subscription
            && !(same_topic && now.made_subscription.as_ref() == Some(email))
        {
            for (subscription, arn) in self.subscriptions_with_arns(&before.topic_arn).await? {
                if subscription.endpoint == *email && subscription.confirmed {
                    self.sns
                        .unsubscribe()
                        .subscription_arn(arn)
                        .send()
                        .await
                        .map_err(failed(&format!("unsubscribe {email}"), "sns:Unsubscribe"))?;
                    removed.push(format!("subscription of {email}"));
                }
            }
        }
        Ok(removed)
    }
}

/// What was asked for is not there.
fn gone<E>(error: &SdkError<E, HttpResponse>) -> bool
where
    E: ProvideErrorMetadata,
{
    matches!(
        error.code(),
        Some(
            "ResourceNotFound"
                | "ResourceNotFoundException"
                | "DashboardNotFoundError"
                | "NotFound"
                | "NotFoundException"
        )
    )
}

fn failed<E>(doing: &str, action: &str) -> impl FnOnce(SdkError<E, HttpResponse>) -> InstallError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let (doing, action) = (doing.to_owned(), action.to_owned());
    move |error| {
        let denied = error.code().is_some_and(aws::is_denied);
        InstallError { doing, reason: aws::reason(&error), missing_permission: denied.then_some(action) }
    }
}
