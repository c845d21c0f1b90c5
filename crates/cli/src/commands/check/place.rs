//! Which place it is that refuses, and the permission that is missing there, in the place's own words.

use pgkeep_storage::{Error, ErrorKind};
use url::Url;

use super::Scene;
use super::findings::Finding;
use crate::settings::Sse;

/// Who asks which store, for naming what is missing.
#[derive(Debug, Clone)]
pub(super) struct Place {
    scheme: String,
    bucket: String,
    prefix: String,
    /// The KMS key, where objects are encrypted by one.
    kms_key: Option<String>,
}

/// What is tried, by the permission it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    List,
    Put,
    Get,
    Delete,
    Abort,
    ListUploads,
    DeleteVersions,
    /// Reading a setting of the bucket, by its IAM action.
    Setting(&'static str),
}

impl Place {
    /// The place that a URL names.
    pub(super) fn of(scene: Scene<'_>, url: &Url) -> Self {
        let kms_key = match &scene.settings.sse {
            Sse::Kms(key) => Some(key.clone()),
            _ => None,
        };
        Self {
            scheme: url.scheme().to_owned(),
            bucket: url.host_str().unwrap_or_default().to_owned(),
            prefix: url.path().trim_matches('/').to_owned(),
            kms_key,
        }
    }

    /// What every key is below.
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The permission that `act` takes here, in the words of the place's own rules.
    pub(super) fn permission(&self, act: Act) -> String {
        match self.scheme.as_str() {
            "s3" => {
                let objects = format!(
                    "arn:aws:s3:::{}/{}*",
                    self.bucket,
                    if self.prefix.is_empty() { String::new() } else { format!("{}/", self.prefix) }
                );
                let bucket = format!("arn:aws:s3:::{}", self.bucket);
                match act {
                    Act::List => format!("s3:ListBucket on {bucket}"),
                    Act::Put => format!("s3:PutObject on {objects}"),
                    Act::Get => format!("s3:GetObject on {objects}"),
                    Act::Delete => format!("s3:DeleteObject on {objects}"),
                    Act::Abort => format!("s3:AbortMultipartUpload on {objects}"),
                    Act::ListUploads => format!("s3:ListBucketMultipartUploads on {bucket}"),
                    Act::DeleteVersions => {
                        format!("s3:ListBucketVersions on {bucket} and s3:DeleteObjectVersion on {objects}")
                    }
                    Act::Setting(action) => format!("{action} on {bucket}"),
                }
            }
            "gs" => {
                let verb = match act {
                    Act::List | Act::ListUploads => "list",
                    Act::Put => "create",
                    Act::Get | Act::Setting(_) => "get",
                    Act::Delete | Act::Abort | Act::DeleteVersions => "delete",
                };
                format!("storage.objects.{verb} on bucket {} (roles/storage.objectUser has all of them)", self.bucket)
            }
            "az" => format!("role Storage Blob Data Contributor on container {}", self.bucket),
            _ => "write and read for this user (chmod, chown)".to_owned(),
        }
    }

    /// A local directory.
    pub(super) fn directory() -> Self {
        Self { scheme: "file".to_owned(), bucket: String::new(), prefix: String::new(), kms_key: None }
    }

    /// The KMS key, where objects are encrypted by one.
    pub(super) fn kms_key(&self) -> Option<&str> {
        self.kms_key.as_deref()
    }

    /// Tells of an error, and of the permission where it is one that is missing.
    pub(super) fn blame(&self, finding: &mut Finding, act: Act, error: &Error) {
        let Some(permission) = self.denied(act, error) else { return };
        finding.missing(permission);
        finding.hint(match self.scheme.as_str() {
            "s3" => "`pgkeep check --iam-policy` prints a policy that has it; a bucket policy or an organisation's rule can deny it too",
            _ => "grant it to the identity that runs this",
        });
    }

    /// The missing permission: the store's own word for it where it gives one.
    pub(super) fn denied(&self, act: Act, error: &Error) -> Option<String> {
        if error.kind() != ErrorKind::Denied || error.code().is_some_and(is_about_keys) {
            return None;
        }
        let text = error.cause().map(|cause| cause.text.clone()).unwrap_or_default();
        if let Some((_, rest)) = text.split_once("not authorized to perform: ") {
            let action = rest.split_whitespace().next().unwrap_or_default();
            return Some(match (&self.kms_key, action.starts_with("kms:")) {
                (Some(key), true) => format!("{action} on KMS key {key}"),
                (None, true) => format!("{action} on the bucket's KMS key"),
                _ => self.permission(if error.to_string().contains("look up") { Act::Get } else { act }),
            });
        }
        // After a write the object is looked at.
        Some(self.permission(if error.to_string().contains("refused to look up") { Act::Get } else { act }))
    }
}

/// A refusal of who we are, not of what we may.
pub(super) fn is_about_keys(code: &str) -> bool {
    matches!(
        code,
        "InvalidAccessKeyId"
            | "SignatureDoesNotMatch"
            | "ExpiredToken"
            | "InvalidToken"
            | "TokenRefreshRequired"
            | "RequestTimeTooSkewed"
    )
}
