//! The text of a config file: what was answered, and what else can be set, as comments.

use std::fmt::Write as _;

use crate::settings::DEFAULT_BACKUP_DIR;

/// What was answered.
#[derive(Default)]
pub(super) struct Sample {
    /// The connection string, with its password.
    pub(super) database_url: Option<String>,
    /// A bucket's name or a store's URL.
    pub(super) store: Option<String>,
    /// The local directory, or `none`.
    pub(super) dir: Option<String>,
    /// Who hears of failures.
    pub(super) email: Option<String>,
}

impl Sample {
    /// The whole file.
    pub(super) fn text(&self) -> String {
        let mut text = String::from(
            "# pgkeep: where the database is, and where its backups go.\n\
             # A flag, the environment and an env-file go before this file. `pgkeep check --show-settings` tells what holds.\n\
             # Lines that begin with # are examples or defaults.\n\n",
        );
        text.push_str("# The database. Special characters of a password are percent-encoded.\n");
        match &self.database_url {
            Some(url) => line(&mut text, "database_url", url),
            None => {
                text.push_str(
                    "# It comes from DATABASE_URL.\n# database_url = \"postgresql://user:password@host:5432/name\"\n",
                );
            }
        }
        text.push_str("\n# Where backups go, off this machine: a bucket, or any s3://, gs://, az:// or file:// URL.\n");
        match self.store.as_deref().filter(|store| *store != "none") {
            Some(store) if store.contains("://") => line(&mut text, "store", store),
            Some(bucket) => line(&mut text, "bucket", bucket),
            None => text.push_str("# bucket = \"my-company-backups\"\n"),
        }
        text.push_str("\n# Where a copy is kept on this machine; \"none\" keeps none.\n");
        match &self.dir {
            Some(dir) => line(&mut text, "backup_dir", dir),
            None => {
                let _ = writeln!(text, "# backup_dir = {}", quoted(DEFAULT_BACKUP_DIR));
            }
        }
        text.push_str("\n# Who hears of failures.\n");
        match &self.email {
            Some(email) => line(&mut text, "notification_email", email),
            None => text.push_str("# notification_email = \"ops@example.org\"\n"),
        }
        text.push_str(REST);
        text
    }
}

fn line(text: &mut String, key: &str, value: &str) {
    let _ = writeln!(text, "{key} = {}", quoted(value));
}

/// As TOML has it.
fn quoted(value: &str) -> String {
    toml::Value::String(value.to_owned()).to_string()
}

/// What else can be set; every line without its # is right.
const REST: &str = r#"
# How archives are compressed, and how much is done side by side.
# compression = "zstd:1"
# jobs = 4

# The log; restores go to restores.log beside it.
# log_file = "/var/log/backups.log"

# How long a run waits for another one, and how long it may take itself.
# wait = "6h"
# timeout = "12h"

# How long backups are kept in the bucket. The newest good one and the newest proven one always stay.
# [retention.daily]
# days = 30
# min = 7
# [retention.monthly]
# days = 365

# How long in the local directory.
# [retention.local.daily]
# days = 7

# Commands before and after; one that fails before stops the run.
# [hooks]
# before_backup = "/usr/local/bin/quiet-hours --begin"
# after_restore = "/usr/local/bin/apply-erasures"
# timeout = "10m"

# [aws]
# region = "us-east-1"
# profile = "backup"
# endpoint_url = "https://s3.example.com"

# More places for backups, each with its own keys where they differ.
# [[destination]]
# name = "offsite"
# store = "s3://other-bucket/backups"
# required = false
# aws.region = "eu-central-1"

# Several databases instead of one, each below its own prefix; `pgkeep backup --all` takes one after the other.
# [[database]]
# name = "shop"
# database_url = "postgresql://backup@db1.example.org/shop"
# [[database]]
# name = "crm"
# database_url = "postgresql://backup@db2.example.org/crm"
"#;

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::settings::config_file::ConfigFile;

    fn parse(text: &str) -> ConfigFile {
        ConfigFile::parse(Path::new("pgkeep.toml"), text).unwrap()
    }

    #[test]
    fn every_commented_line_is_right_too() {
        let text = Sample::default().text();
        let uncommented: Vec<_> = text
            .lines()
            .map(|line| match line.strip_prefix("# ") {
                Some(setting) if setting.contains(" = ") || setting.starts_with('[') => setting,
                _ => line,
            })
            .collect();
        let file = parse(&uncommented.join("\n"));
        assert_eq!(file.database_names().collect::<Vec<_>>(), ["shop", "crm"]);
        let values = file.values(Some("shop")).unwrap();
        assert_eq!(values["hooks.timeout"], "10m");
        assert_eq!(values["retention.daily.days"], "30");
    }

    #[test]
    fn answers_come_back_as_they_were() {
        let url = "postgresql://u:p%40\"'\\#ss@h/d";
        let sample = Sample {
            database_url: Some(url.to_owned()),
            store: Some("s3://b/x".to_owned()),
            dir: Some("/srv/it's \"here\"".to_owned()),
            email: Some("ops@example.org".to_owned()),
        };
        let values = parse(&sample.text()).values(None).unwrap();
        assert_eq!(values["database_url"], url);
        assert_eq!(values["store"], "s3://b/x");
        assert_eq!(values["backup_dir"], "/srv/it's \"here\"");
        assert_eq!(values["notification_email"], "ops@example.org");
        let bucket = Sample { store: Some("my-bucket".to_owned()), ..Sample::default() };
        assert_eq!(parse(&bucket.text()).values(None).unwrap()["bucket"], "my-bucket");
    }
}
