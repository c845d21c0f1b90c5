//! Classes and names of backups.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// The class of a backup decides its name, how long it is kept and its storage class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BackupClass {
    /// Every day.
    Daily,
    /// Every week.
    Weekly,
    /// Every month.
    Monthly,
    /// Before a restore.
    PreRestore,
}

impl BackupClass {
    /// Every class.
    pub const ALL: [Self; 4] = [Self::Daily, Self::Weekly, Self::Monthly, Self::PreRestore];

    /// The class's word in names, folders and metas: `daily`, `weekly`, `monthly`, `pre-restore`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Daily => "daily",
            Self::Weekly => "weekly",
            Self::Monthly => "monthly",
            Self::PreRestore => "pre-restore",
        }
    }

    /// The class by its word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.word() == word)
    }

    /// The storage class of its archives in a bucket, by default (COMMANDS: retention table).
    pub fn default_storage_class(self) -> &'static str {
        match self {
            Self::Daily | Self::Weekly => "STANDARD_IA",
            Self::Monthly => "GLACIER",
            Self::PreRestore => "STANDARD",
        }
    }
}

impl fmt::Display for BackupClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// The name of a backup, without extension, unique in its source: `daily_20251017_030001`, `daily_20251017_030001_2`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BackupId(String);

impl BackupId {
    /// The name of a backup of `class` begun at `at`: daily and pre-restore `%Y%m%d_%H%M%S`, weekly `%G_W%V_%H%M%S`,
    /// monthly `%Y_%m_%H%M%S`, in UTC; `attempt` from 2 on is appended.
    pub fn new(class: BackupClass, at: DateTime<Utc>, attempt: u32) -> Self {
        let stamp = Self::stamp(class, at);
        match attempt {
            0 | 1 => Self(format!("{class}_{stamp}")),
            n => Self(format!("{class}_{stamp}_{n}")),
        }
    }

    /// The time part of the name (the meta's `timestamp`).
    pub fn stamp(class: BackupClass, at: DateTime<Utc>) -> String {
        match class {
            BackupClass::Daily | BackupClass::PreRestore => at.format("%Y%m%d_%H%M%S"),
            BackupClass::Weekly => at.format("%G_W%V_%H%M%S"),
            BackupClass::Monthly => at.format("%Y_%m_%H%M%S"),
        }
        .to_string()
    }

    /// A name as read from a meta or typed; `None` if it is not a name of ours.
    pub fn parse(text: &str) -> Option<Self> {
        let id = Self(text.to_owned());
        (id.class().is_some() && !text.contains(['/', '\\']) && !text.chars().any(char::is_control)).then_some(id)
    }

    /// The class its name says.
    pub fn class(&self) -> Option<BackupClass> {
        let (word, _) = self.0.split_once('_')?;
        BackupClass::from_word(word)
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BackupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn storage_classes_of_the_contract() {
        use BackupClass::{Daily, Monthly, PreRestore, Weekly};
        let classes = [Daily, Weekly, Monthly, PreRestore].map(BackupClass::default_storage_class);
        assert_eq!(classes, ["STANDARD_IA", "STANDARD_IA", "GLACIER", "STANDARD"]);
    }
}
