//! `pgkeep restore` and `pgkeep rollback`.

use chrono::{DateTime, Utc};
use clap::{ArgGroup, Args};
use pgkeep_core::BackupClass;
use pgkeep_storage::ThawTier;

use super::IdentityArgs;

/// Restore a backup: into a new database beside the live one, proven, then swapped in by rename.
///
/// The live database is untouched until the new one is complete and proven, and is kept afterwards as
/// <name>_before_<stamp>; `pgkeep rollback` brings it back.
#[derive(Debug, Default, Args)]
#[command(group = ArgGroup::new("which").required(true).args(["backup", "latest", "before"]))]
pub(crate) struct RestoreArgs {
    /// A name (with or without extension, or its unique beginning), a path, or a URL
    #[arg(value_name = "NAME|PATH|URL")]
    pub(crate) backup: Option<String>,
    /// The newest backup of this database
    #[arg(long)]
    pub(crate) latest: bool,
    /// Of this class only: daily, weekly, monthly or pre-restore
    #[arg(long = "type", value_name = "CLASS", requires = "latest", value_parser = class)]
    pub(crate) class: Option<BackupClass>,
    /// The newest backup whose snapshot is not after TIME (RFC 3339, or 2025-10-17 [03:00] in UTC); this is no WAL replay
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) before: Option<DateTime<Utc>>,
    /// Restore into this database instead
    #[arg(long, value_name = "NAME")]
    pub(crate) target_db: Option<String>,
    /// Only this table, with what it needs (repeatable)
    #[arg(long, value_name = "SCHEMA.NAME")]
    pub(crate) table: Vec<String>,
    /// Into the existing database itself, for servers where none can be created
    #[arg(long, conflicts_with = "target_db")]
    pub(crate) in_place: bool,
    /// Lanes side by side [env: BACKUP_JOBS]
    #[arg(short, long, value_name = "N")]
    pub(crate) jobs: Option<String>,
    /// Don't ask
    #[arg(short, long, visible_alias = "force")]
    pub(crate) yes: bool,
    /// Replace the database named by --target-db although it holds something
    #[arg(long, requires = "target_db")]
    pub(crate) replace_target: bool,
    /// Print the plan, change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// No backup of the live database before it is replaced
    #[arg(long)]
    pub(crate) skip_snapshot: bool,
    /// Create the backup's roles that are missing here
    #[arg(long)]
    pub(crate) roles: bool,
    /// Go on where the source broke its own rules, or the proof finds differences; they are reported
    #[arg(long)]
    pub(crate) accept_differences: bool,
    /// Leave ownership out
    #[arg(long)]
    pub(crate) no_owner: bool,
    /// Leave grants out
    #[arg(long)]
    pub(crate) no_acl: bool,
    /// Longest wait of the pre-restore backup for another run to end, such as 30m [env: BACKUP_WAIT] [default: 0]
    #[arg(long, value_name = "DURATION")]
    pub(crate) wait: Option<String>,
    #[command(flatten)]
    pub(crate) keys: IdentityArgs,
    /// Bring the backup out of its archive tier first, and wait for it: standard, bulk or expedited
    #[arg(long, value_name = "TIER", num_args = 0..=1, default_missing_value = "standard", value_parser = thaw_tier)]
    pub(crate) thaw: Option<ThawTier>,
}

/// Undo a restore: exchange the database with the one kept from before it.
#[derive(Debug, Args)]
pub(crate) struct RollbackArgs {
    /// The database [default: the one of DATABASE_URL]
    #[arg(long, value_name = "NAME")]
    pub(crate) target_db: Option<String>,
    /// The kept database to bring back [default: the newest]
    #[arg(long, value_name = "NAME")]
    pub(crate) to: Option<String>,
    /// Don't ask
    #[arg(short, long, visible_alias = "force")]
    pub(crate) yes: bool,
    /// Print the plan, change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// A class by its word.
pub(crate) fn class(text: &str) -> Result<BackupClass, String> {
    BackupClass::from_word(text).ok_or_else(|| "expected daily, weekly, monthly or pre-restore".to_owned())
}

/// How soon something is wanted out of an archive tier.
pub(super) fn thaw_tier(text: &str) -> Result<ThawTier, String> {
    [ThawTier::Standard, ThawTier::Bulk, ThawTier::Expedited]
        .into_iter()
        .find(|tier| tier.word() == text)
        .ok_or_else(|| "expected standard, bulk or expedited; a backup's name goes before --thaw".to_owned())
}

/// A time as people type it: RFC 3339, or a date with or without a time of day, in UTC.
pub(crate) fn time(text: &str) -> Result<DateTime<Utc>, String> {
    use chrono::{NaiveDate, NaiveDateTime};
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(time.to_utc());
    }
    let text = text.trim_end_matches(" UTC").replace('T', " ");
    for format in ["%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M"] {
        if let Ok(time) = NaiveDateTime::parse_from_str(&text, format) {
            return Ok(time.and_utc());
        }
    }
    NaiveDate::parse_from_str(&text, "%Y-%m-%d")
        .ok()
        .and_then(|date| date.and_hms_opt(0, 0, 0))
        .map(|time| time.and_utc())
        .ok_or_else(|| "expected a time such as 2025-10-17T03:00:00Z or 2025-10-17 03:00 (UTC)".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_as_people_type_them() {
        for text in ["2025-10-17T03:00:00Z", "2025-10-17T05:00:00+02:00", "2025-10-17 03:00", "2025-10-17T03:00:00"] {
            assert_eq!(time(text).unwrap().to_rfc3339(), "2025-10-17T03:00:00+00:00", "{text}");
        }
        assert_eq!(time("2025-10-17").unwrap().to_rfc3339(), "2025-10-17T00:00:00+00:00");
        assert!(time("yesterday").is_err());
    }
}
