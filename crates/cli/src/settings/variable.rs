//! Every setting, once: its environment variable, its key in the config file, what it means.

/// A setting that has an environment variable.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Variable {
    /// The environment variable.
    pub(crate) name: &'static str,
    /// The key in `pgkeep.toml`, dotted where it is in a table; empty if it has none.
    pub(crate) key: &'static str,
    /// What it means, with its default; one sentence.
    pub(crate) about: &'static str,
    /// How its value may be handled.
    pub(crate) care: Care,
}

/// How a value may be handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Care {
    /// It may be shown.
    Plain,
    /// It is never shown.
    Secret,
    /// It names programs, or files that name programs: never taken from an env-file.
    Programs,
}

macro_rules! variables {
    ($( $care:ident $constant:ident $name:literal $key:literal $about:literal; )*) => {
        $( #[doc = $about] pub(crate) const $constant: Variable =
            Variable { name: $name, key: $key, about: $about, care: Care::$care }; )*
        /// Every setting.
        pub(crate) const ALL: &[&Variable] = &[$( &$constant ),*];
    };
}

variables! {
    Secret DATABASE_URL "DATABASE_URL" "database_url"
        "The database: postgresql://user:password@host:5432/name, with any libpq parameter; PG* variables and .pgpass fill what it leaves out.";
    Plain PGDUMP_OPTIONS "PGDUMP_OPTIONS" "pgdump_options"
        "Options of pg_dump that select or shape the dump; --format, --jobs and --compress are translated.";
    Programs PG_BINDIRS "PG_BINDIRS" "pg_bindirs"
        "Folders with pg_dump, pg_restore and pg_dumpall, separated by colons, looked into before the usual places.";
    Plain SOURCE_NAME "BACKUP_SOURCE_NAME" "source_name"
        "The source's name in its repository; the database's name by default.";

    Plain BUCKET "AWS_S3_BACKUP_BUCKET" "bucket"
        "The S3 bucket for backups.";
    Secret STORE "BACKUP_STORE" "store"
        "Instead of the bucket: an s3://, gs://, az:// or file:// URL.";
    Plain PREFIX "BACKUP_PREFIX" "prefix"
        "Where in the bucket; database-backups by default.";
    Plain BACKUP_DIR "BACKUP_DIR" "backup_dir"
        "The local directory for backups; /var/backups/pgkeep by default, none keeps no local copy.";
    Plain LOCAL_REQUIRED "BACKUP_LOCAL_REQUIRED" "local_required"
        "Whether a run fails when the local copy does, beside a bucket; false by default.";
    Plain STORAGE_CLASS "BACKUP_STORAGE_CLASS" "storage_class"
        "Storage class of archives: auto (on AWS by class of backup, elsewhere the store's default), none, or one for all.";
    Plain STORAGE_CLASS_DAILY "BACKUP_STORAGE_CLASS_DAILY" "storage_classes.daily"
        "Storage class of daily archives; STANDARD_IA on AWS.";
    Plain STORAGE_CLASS_WEEKLY "BACKUP_STORAGE_CLASS_WEEKLY" "storage_classes.weekly"
        "Storage class of weekly archives; STANDARD_IA on AWS.";
    Plain STORAGE_CLASS_MONTHLY "BACKUP_STORAGE_CLASS_MONTHLY" "storage_classes.monthly"
        "Storage class of monthly archives; GLACIER on AWS.";
    Plain STORAGE_CLASS_PRE_RESTORE "BACKUP_STORAGE_CLASS_PRE_RESTORE" "storage_classes.pre-restore"
        "Storage class of pre-restore archives; STANDARD on AWS.";
    Plain SSE "BACKUP_SSE" "sse"
        "Server-side encryption: auto (AES256 on AWS), none, AES256 or aws:kms.";
    Plain KMS_KEY_ID "BACKUP_KMS_KEY_ID" "kms_key_id"
        "The KMS key, for aws:kms.";
    Plain S3_ADDRESSING "BACKUP_S3_ADDRESSING" "s3_addressing"
        "How S3 buckets are addressed: auto (virtual on AWS, path with an endpoint), path or virtual.";

    Plain COMPRESSION "BACKUP_COMPRESSION" "compression"
        "zstd:1-19, gzip:1-9, lz4 or none; zstd:1 by default, the drop-in backup-database gzip:6.";
    Plain JOBS "BACKUP_JOBS" "jobs"
        "Sessions that dump, blocks compressed and lanes restored side by side; the number of processors, at most 8, by default.";
    Plain ENGINE "BACKUP_ENGINE" "engine"
        "auto (parallel, where it can be), parallel or pg_dump.";
    Plain ON_BLOCKED_DDL "BACKUP_ON_BLOCKED_DDL" "on_blocked_ddl"
        "What the parallel engine does when somebody waits for a table until the backup is made: wait (the log names them), or abort; wait by default.";
    Plain WAIT "BACKUP_WAIT" "wait"
        "Longest wait for another run to end; 6h by default, on a terminal and for the backup before a restore 0.";
    Plain LOCK_WAIT_TIMEOUT "BACKUP_LOCK_WAIT_TIMEOUT" "lock_wait_timeout"
        "Longest wait of the dump for a table's lock; 30s by default.";
    Plain TIMEOUT "BACKUP_TIMEOUT" "timeout"
        "Longest duration of a backup; no limit by default.";
    Plain ROLE_PASSWORDS "BACKUP_ROLE_PASSWORDS" "role_passwords"
        "Whether the roles' password hashes are in the globals; by default only where backups are encrypted.";
    Plain PRUNE "BACKUP_PRUNE" "prune"
        "Whether a backup removes old ones after it; true by default.";
    Plain USE_PIGZ "USE_PIGZ" ""
        "Accepted and always true in effect: compression uses every processor.";
    Plain ENCRYPT_TO "BACKUP_ENCRYPT_TO" "encrypt_to"
        "Whom backups are encrypted to: public keys of age (age1…) or files of them, separated by commas, or passphrase; not encrypted by default.";
    Plain IDENTITY_FILE "BACKUP_IDENTITY_FILE" "identity_file"
        "Files with secret keys that open encrypted backups, separated by colons; not needed to make backups.";
    Secret PASSPHRASE "BACKUP_PASSPHRASE" ""
        "The passphrase, where backups are encrypted to one; it is asked for on a terminal.";
    Plain PASSPHRASE_FILE "BACKUP_PASSPHRASE_FILE" "passphrase_file"
        "A file whose first line is the passphrase.";

    Plain RPO "BACKUP_RPO" "objectives.rpo"
        "How old the newest backup may be, which is the work that may be lost; 24h by default.";
    Plain RTO "BACKUP_RTO" "objectives.rto"
        "How long a restore may take; 2h by default.";
    Plain GRACE "BACKUP_GRACE" "objectives.grace"
        "How much later than that, or than its schedule, a backup may be done before status calls it overdue; 2h by default.";
    Plain PROOF_AGE "BACKUP_PROOF_AGE" "objectives.proof_age"
        "How long ago the last proof and the last restore that was tried out may be; 30d by default.";
    Secret DRILL_SERVER "BACKUP_DRILL_SERVER" "drill.server"
        "The server drills restore to, a connection string as DATABASE_URL; the live database's by default.";
    Plain DRILL_QUERIES "BACKUP_DRILL_QUERIES" "drill.queries"
        "Queries, one on a line, asked in the restored database; an error, no row, NULL or false fails the drill.";
    Plain DRILL_RESULTS "BACKUP_DRILL_RESULTS" "drill.results"
        "The folder for reports of drills; test-results by default.";

    Plain NOTIFICATION_EMAIL "NOTIFICATION_EMAIL" "notification_email"
        "Who hears of failures, addresses separated by commas: by NOTIFICATION_SMTP_URL if it is set, else by the SNS topic.";
    Secret NOTIFICATION_SMTP_URL "NOTIFICATION_SMTP_URL" ""
        "The mail server: smtps://user:password@host, or smtp://user:password@host:587 (with a password always encrypted).";
    Plain NOTIFICATION_FROM "NOTIFICATION_FROM" "notification_from"
        "The sender of mail; pgkeep@ this machine's name by default.";
    Secret NOTIFICATION_WEBHOOK_URL "NOTIFICATION_WEBHOOK_URL" ""
        "A webhook that hears of failures, as Slack has them: JSON with a text.";
    Plain NOTIFICATION_SNS_TOPIC "NOTIFICATION_SNS_TOPIC" "notification_sns_topic"
        "The ARN of an SNS topic that hears of failures; the one that pgkeep monitor install made by default.";
    Secret BACKUP_PING_URL "BACKUP_PING_URL" ""
        "The ping URL of a dead-man service, which hears of each backup's beginning and end (healthchecks.io and the like).";
    Plain CLOUDWATCH_NAMESPACE "CLOUDWATCH_NAMESPACE" "cloudwatch_namespace"
        "The CloudWatch namespace metrics are sent to; with a bucket on AWS PgKeep/Backups by default, else, or with none, no metrics are sent.";
    Plain PROMETHEUS_TEXTFILE_DIR "PROMETHEUS_TEXTFILE_DIR" "prometheus_textfile_dir"
        "The directory of node_exporter's textfile collector, which gets one file per database.";
    Secret PUSHGATEWAY_URL "PUSHGATEWAY_URL" ""
        "A Prometheus Pushgateway, which gets one group per database.";

    Plain SCHEDULE_DAILY "BACKUP_SCHEDULE_DAILY" "schedule.daily"
        "When daily backups are made, a cron expression in UTC; 0 3 * * * by default, none makes none.";
    Plain SCHEDULE_WEEKLY "BACKUP_SCHEDULE_WEEKLY" "schedule.weekly"
        "When weekly backups are made, a cron expression in UTC; 0 2 * * 0 by default, none makes none.";
    Plain SCHEDULE_MONTHLY "BACKUP_SCHEDULE_MONTHLY" "schedule.monthly"
        "When monthly backups are made, a cron expression in UTC; 0 1 1 * * by default, none makes none.";
    Plain SCHEDULE_VERIFY "BACKUP_SCHEDULE_VERIFY" "schedule.verify"
        "When the newest backup is verified, a cron expression in UTC; never by default.";
    Plain SCHEDULE_DRILL "BACKUP_SCHEDULE_DRILL" "schedule.drill"
        "When the newest backup is restored as a test, a cron expression in UTC; never by default.";
    Plain SCHEDULE_JITTER "BACKUP_SCHEDULE_JITTER" "schedule.jitter"
        "Longest random delay of scheduled backups, under an hour; 5m by default.";
    Programs HOOK_BEFORE_BACKUP "BACKUP_HOOK_BEFORE_BACKUP" "hooks.before_backup"
        "A command before each backup; if it fails there is none.";
    Programs HOOK_AFTER_BACKUP "BACKUP_HOOK_AFTER_BACKUP" "hooks.after_backup"
        "A command after each backup, however it went (PGKEEP_OUTCOME); its failure is a warning.";
    Programs HOOK_BEFORE_RESTORE "BACKUP_HOOK_BEFORE_RESTORE" "hooks.before_restore"
        "A command before each restore, after the question; if it fails nothing is restored.";
    Programs HOOK_AFTER_RESTORE "BACKUP_HOOK_AFTER_RESTORE" "hooks.after_restore"
        "A command after each restore, however it went, to anonymise or to apply erasures again; its failure is a warning.";
    Plain HOOK_TIMEOUT "BACKUP_HOOK_TIMEOUT" "hooks.timeout"
        "Longest duration of such a command; 10m by default.";

    Plain LOG_FILE "LOG_FILE" "log_file"
        "The log; /var/log/backups.log by default, restores in restores.log beside it, none writes none.";
    Plain CONFIG "PGKEEP_CONFIG" ""
        "The config file, as --config.";

    Plain RETENTION_DAILY_DAYS "BACKUP_RETENTION_DAILY_DAYS" "retention.daily.days"
        "Days a daily backup is kept in the bucket; 30 by default, forever is no limit.";
    Plain RETENTION_DAILY_MIN "BACKUP_RETENTION_DAILY_MIN" "retention.daily.min"
        "Never fewer daily backups in the bucket than this; 7 by default.";
    Plain RETENTION_DAILY_MAX "BACKUP_RETENTION_DAILY_MAX" "retention.daily.max"
        "Never more daily backups in the bucket than this; no limit by default.";
    Plain RETENTION_WEEKLY_DAYS "BACKUP_RETENTION_WEEKLY_DAYS" "retention.weekly.days"
        "Days a weekly backup is kept in the bucket; 30 by default.";
    Plain RETENTION_WEEKLY_MIN "BACKUP_RETENTION_WEEKLY_MIN" "retention.weekly.min"
        "Never fewer weekly backups in the bucket than this; 4 by default.";
    Plain RETENTION_WEEKLY_MAX "BACKUP_RETENTION_WEEKLY_MAX" "retention.weekly.max"
        "Never more weekly backups in the bucket than this; no limit by default.";
    Plain RETENTION_MONTHLY_DAYS "BACKUP_RETENTION_MONTHLY_DAYS" "retention.monthly.days"
        "Days a monthly backup is kept in the bucket; 365 by default.";
    Plain RETENTION_MONTHLY_MIN "BACKUP_RETENTION_MONTHLY_MIN" "retention.monthly.min"
        "Never fewer monthly backups in the bucket than this; 3 by default.";
    Plain RETENTION_MONTHLY_MAX "BACKUP_RETENTION_MONTHLY_MAX" "retention.monthly.max"
        "Never more monthly backups in the bucket than this; no limit by default.";
    Plain RETENTION_PRE_RESTORE_DAYS "BACKUP_RETENTION_PRE_RESTORE_DAYS" "retention.pre-restore.days"
        "Days a pre-restore backup is kept in the bucket; 7 by default.";
    Plain RETENTION_PRE_RESTORE_MIN "BACKUP_RETENTION_PRE_RESTORE_MIN" "retention.pre-restore.min"
        "Never fewer pre-restore backups in the bucket than this; 1 by default.";
    Plain RETENTION_PRE_RESTORE_MAX "BACKUP_RETENTION_PRE_RESTORE_MAX" "retention.pre-restore.max"
        "Never more pre-restore backups in the bucket than this; no limit by default.";
    Plain RETENTION_LOCAL_DAILY_DAYS "BACKUP_RETENTION_LOCAL_DAILY_DAYS" "retention.local.daily.days"
        "Days a daily backup is kept in the local directory; 7 by default.";
    Plain RETENTION_LOCAL_DAILY_MIN "BACKUP_RETENTION_LOCAL_DAILY_MIN" "retention.local.daily.min"
        "Never fewer daily backups in the local directory than this; 7 by default.";
    Plain RETENTION_LOCAL_DAILY_MAX "BACKUP_RETENTION_LOCAL_DAILY_MAX" "retention.local.daily.max"
        "Never more daily backups in the local directory than this; no limit by default.";
    Plain RETENTION_LOCAL_WEEKLY_DAYS "BACKUP_RETENTION_LOCAL_WEEKLY_DAYS" "retention.local.weekly.days"
        "Days a weekly backup is kept in the local directory; 30 by default.";
    Plain RETENTION_LOCAL_WEEKLY_MIN "BACKUP_RETENTION_LOCAL_WEEKLY_MIN" "retention.local.weekly.min"
        "Never fewer weekly backups in the local directory than this; 4 by default.";
    Plain RETENTION_LOCAL_WEEKLY_MAX "BACKUP_RETENTION_LOCAL_WEEKLY_MAX" "retention.local.weekly.max"
        "Never more weekly backups in the local directory than this; no limit by default.";
    Plain RETENTION_LOCAL_MONTHLY_DAYS "BACKUP_RETENTION_LOCAL_MONTHLY_DAYS" "retention.local.monthly.days"
        "Days a monthly backup is kept in the local directory; 365 by default.";
    Plain RETENTION_LOCAL_MONTHLY_MIN "BACKUP_RETENTION_LOCAL_MONTHLY_MIN" "retention.local.monthly.min"
        "Never fewer monthly backups in the local directory than this; 3 by default.";
    Plain RETENTION_LOCAL_MONTHLY_MAX "BACKUP_RETENTION_LOCAL_MONTHLY_MAX" "retention.local.monthly.max"
        "Never more monthly backups in the local directory than this; no limit by default.";
    Plain RETENTION_LOCAL_PRE_RESTORE_DAYS "BACKUP_RETENTION_LOCAL_PRE_RESTORE_DAYS" "retention.local.pre-restore.days"
        "Days a pre-restore backup is kept in the local directory; 7 by default.";
    Plain RETENTION_LOCAL_PRE_RESTORE_MIN "BACKUP_RETENTION_LOCAL_PRE_RESTORE_MIN" "retention.local.pre-restore.min"
        "Never fewer pre-restore backups in the local directory than this; 1 by default.";
    Plain RETENTION_LOCAL_PRE_RESTORE_MAX "BACKUP_RETENTION_LOCAL_PRE_RESTORE_MAX" "retention.local.pre-restore.max"
        "Never more pre-restore backups in the local directory than this; no limit by default.";

    Plain AWS_REGION "AWS_REGION" "aws.region"
        "The AWS region; by default the profile's, else the instance's, else us-east-1.";
    Plain AWS_DEFAULT_REGION "AWS_DEFAULT_REGION" ""
        "The AWS region where AWS_REGION is not set.";
    Plain AWS_PROFILE "AWS_PROFILE" "aws.profile"
        "The profile of the AWS config and credentials files.";
    Plain AWS_ENDPOINT_URL_S3 "AWS_ENDPOINT_URL_S3" ""
        "The S3 endpoint, before AWS_ENDPOINT_URL.";
    Plain AWS_ENDPOINT_URL "AWS_ENDPOINT_URL" "aws.endpoint_url"
        "The endpoint of an S3-compatible store.";
    Plain AWS_ENDPOINT_URL_CLOUDWATCH "AWS_ENDPOINT_URL_CLOUDWATCH" ""
        "The CloudWatch endpoint, before AWS_ENDPOINT_URL.";
    Plain AWS_ENDPOINT_URL_SNS "AWS_ENDPOINT_URL_SNS" ""
        "The SNS endpoint, before AWS_ENDPOINT_URL.";
    Plain AWS_ALLOW_HTTP "AWS_ALLOW_HTTP" "aws.allow_http"
        "Whether an endpoint may be http; by default an http endpoint that was set is taken at its word.";
    Plain AWS_ACCELERATE "AWS_S3_USE_ACCELERATE_ENDPOINT" "aws.accelerate"
        "Whether AWS Transfer Acceleration is used; false by default.";
    Secret AWS_ACCESS_KEY_ID "AWS_ACCESS_KEY_ID" ""
        "AWS access key.";
    Secret AWS_SECRET_ACCESS_KEY "AWS_SECRET_ACCESS_KEY" ""
        "AWS secret key.";
    Secret AWS_SESSION_TOKEN "AWS_SESSION_TOKEN" ""
        "AWS session token.";
    Programs AWS_CONFIG_FILE "AWS_CONFIG_FILE" ""
        "The AWS config file (it can name a credential process).";
    Programs AWS_SHARED_CREDENTIALS_FILE "AWS_SHARED_CREDENTIALS_FILE" ""
        "The AWS credentials file (it can name a credential process).";

    Secret GOOGLE_SERVICE_ACCOUNT_KEY "GOOGLE_SERVICE_ACCOUNT_KEY" ""
        "The JSON text of a Google service account's key.";
    Plain GOOGLE_APPLICATION_CREDENTIALS "GOOGLE_APPLICATION_CREDENTIALS" "gcs.application_credentials"
        "A file of Google application credentials; without, the instance's own identity is used.";
    Plain GOOGLE_ENDPOINT_URL "GOOGLE_ENDPOINT_URL" "gcs.endpoint_url"
        "Another server than Google's.";
    Plain AZURE_STORAGE_ACCOUNT_NAME "AZURE_STORAGE_ACCOUNT_NAME" "azure.account"
        "The Azure storage account.";
    Secret AZURE_STORAGE_ACCOUNT_KEY "AZURE_STORAGE_ACCOUNT_KEY" ""
        "The key of the Azure storage account.";
    Secret AZURE_STORAGE_SAS_KEY "AZURE_STORAGE_SAS_KEY" ""
        "A shared access signature; without key or signature, the managed identity is used.";
    Plain AZURE_ENDPOINT_URL "AZURE_ENDPOINT_URL" "azure.endpoint_url"
        "Another server than Microsoft's.";
}

/// Commands of the user's own.
pub(crate) const HOOKS: [&Variable; 4] =
    [&HOOK_BEFORE_BACKUP, &HOOK_AFTER_BACKUP, &HOOK_BEFORE_RESTORE, &HOOK_AFTER_RESTORE];

/// The setting with this environment variable.
pub(crate) fn by_name(name: &str) -> Option<&'static Variable> {
    ALL.iter().copied().find(|variable| variable.name == name)
}

/// The setting with this key in the config file.
pub(crate) fn by_key(key: &str) -> Option<&'static Variable> {
    ALL.iter().copied().find(|variable| !variable.key.is_empty() && variable.key == key)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fmt::Write;

    use super::*;

    #[test]
    fn names_and_keys_are_unique() {
        let names: BTreeSet<_> = ALL.iter().map(|variable| variable.name).collect();
        assert_eq!(names.len(), ALL.len());
        let keys: Vec<_> = ALL.iter().map(|variable| variable.key).filter(|key| !key.is_empty()).collect();
        assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), keys.len());
    }

    /// The table of docs/SETTINGS.md.
    fn document() -> String {
        let mut text = String::from("| variable | key in pgkeep.toml | meaning |\n| --- | --- | --- |\n");
        for Variable { name, key, about, care } in ALL {
            let key = if key.is_empty() { String::new() } else { format!("`{key}`") };
            let care = if *care == Care::Programs { " Not from an env-file." } else { "" };
            writeln!(text, "| `{name}` | {key} | {about}{care} |").unwrap();
        }
        text
    }

    #[test]
    fn the_document_has_every_setting() {
        crate::hint::check_document("docs/SETTINGS.md", &document());
    }
}
