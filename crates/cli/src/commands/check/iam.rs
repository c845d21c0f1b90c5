//! `pgkeep check --iam-policy`: what AWS lets each role of a set-up do, for this bucket and prefix and nothing else.

use serde_json::{Value, json};
use url::Url;

use crate::args::PolicyRole;
use crate::commands::{Context, Done};
use crate::failure::{Failure, Result};
use crate::hint::Code;
use crate::settings::{Sse, variable};

/// The namespace of metrics, without any setting.
const DEFAULT_NAMESPACE: &str = "PgKeep/Backups";

/// What the statements are about.
#[derive(Debug, Clone)]
struct Scope {
    partition: &'static str,
    region: String,
    bucket: String,
    prefix: String,
    namespace: String,
    /// The ARN of the topic that hears of failures; without, those of this region.
    topic: Option<String>,
    key: Key,
}

/// How objects are encrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Key {
    /// By S3 itself: no permission is needed.
    None,
    /// By this KMS key.
    Named(String),
    /// By the bucket's default, which may be a KMS key.
    Buckets,
}

pub(super) fn run(context: &Context, role: PolicyRole) -> Result<Done> {
    let remote = context.settings.remote.as_ref().filter(|remote| remote.url.scheme() == "s3");
    let Some(remote) = remote else {
        return Err(Failure::new(Code::DestinationMissing, "an IAM policy is for an S3 bucket, and none is set")
            .hint("set AWS_S3_BACKUP_BUCKET, or BACKUP_STORE to an s3:// URL"));
    };
    let scope = Scope::of(context, &remote.url);
    if role == PolicyRole::Writer && context.settings.prune {
        context
            .reporter
            .info("Backups remove old ones after them: attach the pruner's policy too, or set BACKUP_PRUNE=false");
    }
    if role == PolicyRole::Restorer {
        context.reporter.info("A restore in place of the live database makes a snapshot before it, which this policy allows below pre-restore/ only");
    }
    let policy = scope.policy(role);
    let text = serde_json::to_string_pretty(&policy).map(|text| format!("{text}\n")).unwrap_or_default();
    Ok(Done::new(text, "policy", policy))
}

impl Scope {
    fn of(context: &Context, url: &Url) -> Self {
        let layers = &context.settings.layers;
        let region = layers.text(&variable::AWS_REGION).or_else(|| layers.text(&variable::AWS_DEFAULT_REGION));
        let region = region.unwrap_or_else(|| "us-east-1".to_owned());
        Self {
            partition: partition(&region),
            region,
            bucket: url.host_str().unwrap_or_default().to_owned(),
            prefix: url.path().trim_matches('/').to_owned(),
            namespace: layers
                .text(&variable::CLOUDWATCH_NAMESPACE)
                .filter(|namespace| namespace != "none")
                .unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned()),
            topic: variable::by_name("NOTIFICATION_SNS_TOPIC").and_then(|topic| layers.text(topic)),
            key: match &context.settings.sse {
                Sse::Kms(key) => Key::Named(key.clone()),
                Sse::Off => Key::Buckets,
                Sse::Auto | Sse::Aes256 => Key::None,
            },
        }
    }

    fn policy(&self, role: PolicyRole) -> Value {
        let objects = ["*"];
        let locks = [".pgkeep/*"];
        let mut statements = match role {
            PolicyRole::Writer => vec![
                self.listing("ListBackups"),
                self.on_objects(
                    "WriteBackups",
                    &["s3:PutObject", "s3:GetObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"],
                    &objects,
                ),
                self.on_objects("ReleaseLocks", &["s3:DeleteObject"], &locks),
                self.metrics(),
                self.topic(&["sns:Publish"]),
            ],
            PolicyRole::Restorer => vec![
                self.listing("ListBackups"),
                self.on_objects("ReadBackups", &["s3:GetObject", "s3:RestoreObject"], &objects),
                self.on_objects(
                    "WriteSnapshotsAndProofs",
                    &["s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"],
                    &["pre-restore/*", "*.proofs/*", ".pgkeep/*"],
                ),
                self.on_objects("ReleaseLocks", &["s3:DeleteObject"], &locks),
                self.metrics(),
                self.topic(&["sns:Publish"]),
            ],
            PolicyRole::Pruner => vec![
                self.listing("ListBackups"),
                self.on_objects(
                    "RemoveBackups",
                    &["s3:GetObject", "s3:DeleteObject", "s3:AbortMultipartUpload"],
                    &objects,
                ),
                self.on_objects("TakeLocks", &["s3:PutObject"], &locks),
                self.topic(&["sns:Publish"]),
            ],
            PolicyRole::Installer => vec![
                self.listing("ListBackups"),
                self.on_bucket(
                    "LookAtTheBucket",
                    &[
                        "s3:GetBucketLocation",
                        "s3:GetBucketVersioning",
                        "s3:GetLifecycleConfiguration",
                        "s3:GetBucketObjectLockConfiguration",
                        "s3:GetEncryptionConfiguration",
                        "s3:ListBucketVersions",
                    ],
                ),
                self.on_objects(
                    "TryForReal",
                    &[
                        "s3:PutObject",
                        "s3:GetObject",
                        "s3:DeleteObject",
                        "s3:DeleteObjectVersion",
                        "s3:AbortMultipartUpload",
                        "s3:ListMultipartUploadParts",
                    ],
                    &[".pgkeep/*", "daily/check-*"],
                ),
                self.metrics(),
                self.topic(&[
                    "sns:CreateTopic",
                    "sns:DeleteTopic",
                    "sns:GetTopicAttributes",
                    "sns:SetTopicAttributes",
                    "sns:TagResource",
                    "sns:Subscribe",
                    "sns:Unsubscribe",
                    "sns:ListSubscriptionsByTopic",
                    "sns:ListTagsForResource",
                    "sns:Publish",
                ]),
                // Knows no resource; finds a topic again whose record is lost.
                statement("FindTopics", &["sns:ListTopics"], &["*".to_owned()], None),
                statement(
                    "AlarmsAndDashboard",
                    &[
                        "cloudwatch:PutMetricAlarm",
                        "cloudwatch:DescribeAlarms",
                        "cloudwatch:DeleteAlarms",
                        "cloudwatch:SetAlarmState",
                        "cloudwatch:PutDashboard",
                        "cloudwatch:GetDashboard",
                        "cloudwatch:DeleteDashboards",
                        "cloudwatch:TagResource",
                    ],
                    &["*".to_owned()],
                    None,
                ),
            ],
        };
        statements.extend(self.key_use());
        json!({"Version": "2012-10-17", "Statement": statements})
    }

    fn bucket_arn(&self) -> String {
        format!("arn:{}:s3:::{}", self.partition, self.bucket)
    }

    /// Listing what is below the prefix. "If exists", because looking up an object that is not there asks for the same
    /// permission without a prefix, and is answered with 403 instead of 404 if that is denied.
    fn listing(&self, id: &str) -> Value {
        let condition = (!self.prefix.is_empty())
            .then(|| json!({"StringLikeIfExists": {"s3:prefix": [self.prefix.clone(), format!("{}/*", self.prefix)]}}));
        statement(id, &["s3:ListBucket", "s3:ListBucketMultipartUploads"], &[self.bucket_arn()], condition)
    }

    fn on_bucket(&self, id: &str, actions: &[&str]) -> Value {
        statement(id, actions, &[self.bucket_arn()], None)
    }

    fn on_objects(&self, id: &str, actions: &[&str], patterns: &[&str]) -> Value {
        let below = if self.prefix.is_empty() { String::new() } else { format!("{}/", self.prefix) };
        let resources: Vec<_> =
            patterns.iter().map(|pattern| format!("{}/{below}{pattern}", self.bucket_arn())).collect();
        statement(id, actions, &resources, None)
    }

    fn key_use(&self) -> Option<Value> {
        let (resource, condition) = match &self.key {
            Key::None => return None,
            Key::Named(key) if key.starts_with("arn:") => (key.clone(), None),
            // An alias is not the key itself, and policies only know keys.
            Key::Named(key) if key.starts_with("alias/") => (
                format!("arn:{}:kms:{}:*:key/*", self.partition, self.region),
                Some(json!({"StringEquals": {"kms:RequestAlias": key}})),
            ),
            Key::Named(key) => (format!("arn:{}:kms:{}:*:key/{key}", self.partition, self.region), None),
            Key::Buckets => (
                format!("arn:{}:kms:{}:*:key/*", self.partition, self.region),
                Some(json!({"StringEquals": {"kms:ViaService": format!("s3.{}.amazonaws.com", self.region)}})),
            ),
        };
        Some(statement("UseTheKey", &["kms:GenerateDataKey", "kms:Decrypt"], &[resource], condition))
    }

    /// PutMetricData knows no resource: the namespace confines it.
    fn metrics(&self) -> Value {
        let condition = json!({"StringEquals": {"cloudwatch:namespace": self.namespace}});
        statement("SendMetrics", &["cloudwatch:PutMetricData"], &["*".to_owned()], Some(condition))
    }

    fn topic(&self, actions: &[&str]) -> Value {
        let every = || format!("arn:{}:sns:{}:*:*", self.partition, self.region);
        let topic = self.topic.clone().unwrap_or_else(every);
        statement("Topic", actions, &[topic], None)
    }
}

fn statement(id: &str, actions: &[&str], resources: &[String], condition: Option<Value>) -> Value {
    let mut statement = json!({"Sid": id, "Effect": "Allow", "Action": actions, "Resource": resources});
    if let (Some(condition), Value::Object(fields)) = (condition, &mut statement) {
        fields.insert("Condition".to_owned(), condition);
    }
    statement
}

fn partition(region: &str) -> &'static str {
    match region {
        _ if region.starts_with("cn-") => "aws-cn",
        _ if region.starts_with("us-gov-") => "aws-us-gov",
        _ => "aws",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(key: Key) -> Scope {
        Scope {
            partition: "aws",
            region: "eu-west-1".to_owned(),
            bucket: "b".to_owned(),
            prefix: "database-backups".to_owned(),
            namespace: DEFAULT_NAMESPACE.to_owned(),
            topic: None,
            key,
        }
    }

    fn actions(policy: &Value) -> Vec<String> {
        let statements = policy["Statement"].as_array().unwrap();
        let actions = statements.iter().flat_map(|statement| statement["Action"].as_array().unwrap());
        actions.map(|action| action.as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn a_writer_may_write_and_not_delete_backups() {
        let policy = scope(Key::None).policy(PolicyRole::Writer);
        for needed in ["s3:PutObject", "s3:AbortMultipartUpload", "s3:ListBucketMultipartUploads", "sns:Publish"] {
            assert!(actions(&policy).iter().any(|action| action == needed), "{needed}");
        }
        assert!(!actions(&policy).iter().any(|action| action.starts_with("kms:")));
        for statement in policy["Statement"].as_array().unwrap() {
            if statement["Action"].as_array().unwrap().contains(&json!("s3:DeleteObject")) {
                assert_eq!(statement["Resource"], json!(["arn:aws:s3:::b/database-backups/.pgkeep/*"]));
            }
            if statement["Action"] == json!(["cloudwatch:PutMetricData"]) {
                assert_eq!(statement["Condition"]["StringEquals"]["cloudwatch:namespace"], DEFAULT_NAMESPACE);
            }
        }
    }

    #[test]
    fn keys_and_tiers() {
        let policy = scope(Key::Named("1234-abcd".to_owned())).policy(PolicyRole::Restorer);
        assert!(actions(&policy).contains(&"s3:RestoreObject".to_owned()));
        assert!(actions(&policy).contains(&"kms:Decrypt".to_owned()));
        assert!(policy.to_string().contains("arn:aws:kms:eu-west-1:*:key/1234-abcd"));
        assert!(scope(Key::Buckets).policy(PolicyRole::Pruner).to_string().contains("kms:ViaService"));
        assert_eq!(
            (partition("cn-north-1"), partition("us-gov-west-1"), partition("eu-west-1")),
            ("aws-cn", "aws-us-gov", "aws")
        );
    }
}
