//! What a bucket is set to that changes what storing and deleting mean in it.
//!
//! The answers are those of S3's GetBucketVersioning, GetBucketLifecycleConfiguration, GetObjectLockConfiguration and
//! GetBucketEncryption (Amazon S3 API Reference).

use crate::Result;
use crate::classify::between;

/// What a bucket is set to. Each can be refused by itself.
#[derive(Debug)]
pub struct BucketFacts {
    /// Whether versions are kept: then a deletion only marks.
    pub versioned: Result<bool>,
    /// Rules that expire or move objects by age.
    pub lifecycle: Result<Vec<LifecycleRule>>,
    /// What Object Lock holds new objects by (`GOVERNANCE, 30 days`; empty without a default), where it is on.
    pub object_lock: Result<Option<String>>,
    /// How objects are encrypted that do not ask for it (`AES256`, `aws:kms`).
    pub encryption: Result<Option<String>>,
}

/// One rule of a bucket that is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LifecycleRule {
    /// Its name.
    pub id: String,
    /// The beginning of the keys it is for; empty is every key.
    pub prefix: String,
    /// It is only for objects with certain tags or sizes.
    pub narrowed: bool,
    /// When objects are deleted: `after 30 days`, `on 2027-01-01`.
    pub expires: Option<String>,
    /// To which storage class objects are moved, and when.
    pub moves: Vec<(String, String)>,
    /// Versions that were replaced or deleted are removed.
    pub removes_old_versions: bool,
    /// Unfinished uploads are removed.
    pub aborts_uploads: bool,
}

impl LifecycleRule {
    /// Whether it can concern a key below `prefix` (without a slash at its end).
    pub fn touches(&self, prefix: &str) -> bool {
        let below = if prefix.is_empty() { String::new() } else { format!("{}/", prefix.trim_end_matches('/')) };
        below.starts_with(&self.prefix) || self.prefix.starts_with(&below)
    }
}

/// `<Status>Enabled</Status>`; a bucket where versions were switched off again keeps those it has.
pub(crate) fn versioned(answer: &str) -> bool {
    between(answer, "<Status>", "</Status>").is_some_and(|status| status == "Enabled")
}

pub(crate) fn lifecycle(answer: &str) -> Vec<LifecycleRule> {
    answer
        .split("<Rule>")
        .skip(1)
        .filter_map(|rest| rest.split("</Rule>").next())
        .filter(|rule| between(rule, "<Status>", "</Status>").is_some_and(|status| status == "Enabled"))
        .map(|rule| LifecycleRule {
            id: between(rule, "<ID>", "</ID>").unwrap_or_default(),
            prefix: between(rule, "<Prefix>", "</Prefix>").unwrap_or_default(),
            narrowed: rule.contains("<Tag>") || rule.contains("<ObjectSize"),
            expires: between(rule, "<Expiration>", "</Expiration>").and_then(|expiration| when(&expiration)),
            moves: rule
                .split("<Transition>")
                .skip(1)
                .filter_map(|rest| rest.split("</Transition>").next())
                .filter_map(|element| Some((between(element, "<StorageClass>", "</StorageClass>")?, when(element)?)))
                .collect(),
            removes_old_versions: rule.contains("<NoncurrentVersionExpiration>"),
            aborts_uploads: rule.contains("<AbortIncompleteMultipartUpload>"),
        })
        .collect()
}

fn when(element: &str) -> Option<String> {
    if let Some(days) = between(element, "<Days>", "</Days>") {
        return Some(format!("after {days} days"));
    }
    let date = between(element, "<Date>", "</Date>")?;
    Some(format!("on {}", date.split('T').next().unwrap_or_default()))
}

pub(crate) fn object_lock(answer: &str) -> Option<String> {
    between(answer, "<ObjectLockEnabled>", "</ObjectLockEnabled>").filter(|enabled| enabled == "Enabled")?;
    let span = ["Days", "Years"].iter().find_map(|unit| {
        let number = between(answer, &format!("<{unit}>"), &format!("</{unit}>"))?;
        Some(format!("{number} {}", unit.to_lowercase()))
    });
    let mode = between(answer, "<Mode>", "</Mode>");
    Some([mode, span].into_iter().flatten().collect::<Vec<_>>().join(", "))
}

pub(crate) fn encryption(answer: &str) -> Option<String> {
    between(answer, "<SSEAlgorithm>", "</SSEAlgorithm>")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        assert!(versioned("<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"));
        assert!(!versioned("<VersioningConfiguration><Status>Suspended</Status></VersioningConfiguration>"));
        assert!(!versioned("<VersioningConfiguration/>"));
    }

    #[test]
    fn rules() {
        let answer = "<LifecycleConfiguration><Rule><ID>old</ID><Filter><Prefix>database-backups/daily/</Prefix></Filter>\
                      <Status>Enabled</Status><Expiration><Days>14</Days></Expiration>\
                      <Transition><Days>3</Days><StorageClass>GLACIER</StorageClass></Transition></Rule>\
                      <Rule><ID>off</ID><Status>Disabled</Status><Expiration><Days>1</Days></Expiration></Rule>\
                      <Rule><ID>tidy</ID><Filter/><Status>Enabled</Status>\
                      <AbortIncompleteMultipartUpload><DaysAfterInitiation>7</DaysAfterInitiation></AbortIncompleteMultipartUpload>\
                      <NoncurrentVersionExpiration><NoncurrentDays>9</NoncurrentDays></NoncurrentVersionExpiration></Rule></LifecycleConfiguration>";
        let rules = lifecycle(answer);
        assert_eq!(rules.len(), 2, "what is switched off does nothing");
        assert_eq!(rules[0].expires.as_deref(), Some("after 14 days"));
        assert_eq!(rules[0].moves, [("GLACIER".to_owned(), "after 3 days".to_owned())]);
        assert!(rules[0].touches("database-backups") && rules[0].touches("database-backups/daily"));
        assert!(!rules[0].touches("database-backups/weekly") && !rules[0].touches("database-backups-2"));
        assert!(rules[1].touches("anything") && rules[1].aborts_uploads && rules[1].removes_old_versions);
        assert_eq!(rules[1].expires, None);
    }

    #[test]
    fn locks_and_encryption() {
        let locked = "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention>\
                      <Mode>GOVERNANCE</Mode><Days>30</Days></DefaultRetention></Rule></ObjectLockConfiguration>";
        assert_eq!(object_lock(locked).as_deref(), Some("GOVERNANCE, 30 days"));
        let on = "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled></ObjectLockConfiguration>";
        assert_eq!(object_lock(on).as_deref(), Some(""));
        assert_eq!(object_lock("<ObjectLockConfiguration/>"), None);
        assert_eq!(encryption("<Rule><SSEAlgorithm>aws:kms</SSEAlgorithm></Rule>").as_deref(), Some("aws:kms"));
    }
}
