//! What a bucket is set to that changes what storing and deleting mean in it.

use pgkeep_storage::{BucketFacts, Error, ErrorKind, LifecycleRule, Storage};

use super::findings::Findings;
use super::place::{Act, Place};
use crate::failure::Failure;

/// Tells of versions, rules and locks; whether deleted objects may leave versions behind.
pub(super) async fn check(findings: &mut Findings, place: &Place, storage: &dyn Storage) -> bool {
    let Some(BucketFacts { versioned, lifecycle, object_lock, encryption }) = storage.bucket_facts().await else {
        return false;
    };
    let is_versioned = match &versioned {
        Ok(false) => {
            findings.pass("versioning", "off: what is deleted is gone");
            false
        }
        Ok(true) => {
            findings
                .warn("versioning", "on: deletions only mark, and old versions go on taking space and money")
                .hint("add a lifecycle rule that removes noncurrent versions after some days; they are also a second chance after a mistaken deletion");
            true
        }
        Err(error) => {
            refused(findings, place, "versioning", "s3:GetBucketVersioning", error);
            // Who knows: what is deleted is looked for.
            true
        }
    };
    match lifecycle {
        Ok(rules) => self::lifecycle(findings, place, &rules, matches!(versioned, Ok(true))),
        Err(error) => refused(findings, place, "lifecycle rules", "s3:GetLifecycleConfiguration", &error),
    }
    match object_lock {
        Ok(None) => {
            findings.pass("Object Lock", "off");
        }
        Ok(Some(retention)) if retention.is_empty() => {
            findings.warn("Object Lock", "on, without a default: objects can be held against deletion one by one");
        }
        Ok(Some(retention)) => {
            findings
                .warn("Object Lock", format!("holds every new object ({retention}): retention cannot remove backups before"))
                .hint("keep backups at least as long (BACKUP_RETENTION_…_DAYS), and expect locks and this check's own objects to stay too");
        }
        Err(error) => refused(findings, place, "Object Lock", "s3:GetBucketObjectLockConfiguration", &error),
    }
    match encryption {
        Ok(Some(scheme)) => {
            findings.pass("bucket's encryption", format!("{scheme} by default"));
        }
        Ok(None) => {
            findings.pass("bucket's encryption", "no default");
        }
        Err(error) => refused(findings, place, "bucket's encryption", "s3:GetEncryptionConfiguration", &error),
    }
    is_versioned
}

/// That it may not look is no fault of the set-up.
fn refused(findings: &mut Findings, place: &Place, name: &str, action: &'static str, error: &Error) {
    let message = Failure::of_store(error).message;
    match error.kind() {
        ErrorKind::Denied => {
            findings
                .skip(name, format!("could not look: {message}"))
                .missing(place.permission(Act::Setting(action)))
                .hint(
                    "backups do not need it; look at the bucket's settings yourself, or run this once as the installer",
                );
        }
        ErrorKind::Unsupported => {
            findings.skip(name, "the store knows no such setting");
        }
        _ => {
            findings.skip(name, format!("could not look: {message}"));
        }
    }
}

fn lifecycle(findings: &mut Findings, place: &Place, rules: &[LifecycleRule], is_versioned: bool) {
    let ours: Vec<_> = rules.iter().filter(|rule| rule.touches(place.prefix())).collect();
    let mut harmless = true;
    for rule in &ours {
        let narrowed = if rule.narrowed { " (only those with certain tags or sizes)" } else { "" };
        let name = if rule.id.is_empty() { "a rule without a name".to_owned() } else { format!("rule {}", rule.id) };
        let keys =
            if rule.prefix.is_empty() { "every object".to_owned() } else { format!("objects below {}", rule.prefix) };
        if let Some(when) = &rule.expires {
            harmless = false;
            findings
                .warn("lifecycle rules", format!("{name} deletes {keys}{narrowed} {when}, whatever retention keeps"))
                .hint("take our prefix out of the rule; retention is pgkeep's (BACKUP_RETENTION_…), which never removes the newest good backup");
        }
        for (class, when) in &rule.moves {
            harmless = false;
            findings
                .warn("lifecycle rules", format!("{name} moves {keys}{narrowed} to {class} {when}, metas and locks too"))
                .hint("choose storage classes by BACKUP_STORAGE_CLASS_… instead: small objects must stay readable at once");
        }
    }
    if harmless {
        findings.pass("lifecycle rules", "none deletes or moves our objects");
    }
    if !ours.iter().any(|rule| rule.aborts_uploads) {
        findings.pass("unfinished uploads", "no rule of the bucket's own removes them; prune does");
    }
    if is_versioned && !ours.iter().any(|rule| rule.removes_old_versions) {
        findings.warn("old versions", "no lifecycle rule removes them");
    }
}
