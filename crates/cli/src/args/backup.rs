//! `pgkeep backup`.

use clap::Args;
use pgkeep_core::BackupClass;

use super::DatabasesArgs;

/// Make a backup: dump, compress and store it everywhere at once, check it, remove old ones.
///
/// Every backup is full and self-contained. The archive is what pg_dump would have written, compressed outside: `zstd -d`
/// (or `gunzip`) and `pg_restore` are enough to bring it back without this program.
#[derive(Debug, Default, Args)]
pub(crate) struct BackupArgs {
    #[command(flatten)]
    pub(crate) class: ClassArgs,
    /// Print the plan, with names and what retention would remove; write nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Keep it in the local directory only
    #[arg(long)]
    pub(crate) no_upload: bool,
    /// Sessions that dump, and blocks compressed side by side [env: BACKUP_JOBS] [default: number of processors, at most 8]
    #[arg(short, long, value_name = "N")]
    pub(crate) jobs: Option<String>,
    /// zstd:1-19, gzip:1-9, lz4 or none [env: BACKUP_COMPRESSION] [default: zstd:1]
    #[arg(long, value_name = "CODEC")]
    pub(crate) compression: Option<String>,
    /// auto, parallel or pg_dump [env: BACKUP_ENGINE] [default: auto, which is parallel where it can be]
    #[arg(long, value_name = "ENGINE")]
    pub(crate) engine: Option<String>,
    /// When somebody waits for a table until the backup is made: wait or abort [env: BACKUP_ON_BLOCKED_DDL] [default: wait]
    #[arg(long, value_name = "WHAT")]
    pub(crate) on_blocked_ddl: Option<String>,
    /// Longest wait for another run to end, such as 30m [env: BACKUP_WAIT] [default: 6h, on a terminal 0]
    #[arg(long, value_name = "DURATION")]
    pub(crate) wait: Option<String>,
    /// Longest duration of the whole run [env: BACKUP_TIMEOUT]
    #[arg(long, value_name = "DURATION")]
    pub(crate) timeout: Option<String>,
    /// Sleep first, at random up to this long, so that many hosts do not start at once
    #[arg(long, value_name = "DURATION")]
    pub(crate) jitter: Option<String>,
    /// Start only if this class has no backup since the last time of this cron expression in UTC
    #[arg(long, value_name = "EXPRESSION")]
    pub(crate) if_due: Option<String>,
    /// Remove no old backups (for writers that may not delete)
    #[arg(long)]
    pub(crate) no_prune: bool,
    /// Go on although the prefix holds another database's backups
    #[arg(long)]
    pub(crate) take_over: bool,
    /// Put the roles' password hashes into the globals too [env: BACKUP_ROLE_PASSWORDS]
    #[arg(long)]
    pub(crate) role_passwords: bool,
    /// Encrypt to this public key (age1…), a file of them, or `passphrase` (repeatable) [env: BACKUP_ENCRYPT_TO]
    #[arg(long, value_name = "RECIPIENT")]
    pub(crate) encrypt_to: Vec<String>,
    #[command(flatten)]
    pub(crate) databases: DatabasesArgs,
    #[command(flatten)]
    pub(crate) selection: SelectionArgs,
}

/// The class of a backup.
#[derive(Debug, Clone, Copy, Default, Args)]
#[group(multiple = false)]
pub(crate) struct ClassArgs {
    /// A daily backup (the default)
    #[arg(long)]
    pub(crate) daily: bool,
    /// A weekly backup
    #[arg(long)]
    pub(crate) weekly: bool,
    /// A monthly backup
    #[arg(long)]
    pub(crate) monthly: bool,
}

impl ClassArgs {
    /// The class that was asked for.
    pub(crate) fn class(self) -> BackupClass {
        match self {
            Self { weekly: true, .. } => BackupClass::Weekly,
            Self { monthly: true, .. } => BackupClass::Monthly,
            _ => BackupClass::Daily,
        }
    }
}

/// What of the database is dumped; patterns as pg_dump reads them.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "A part of the database (as pg_dump)")]
pub(crate) struct SelectionArgs {
    /// Only tables that match
    #[arg(short, long, value_name = "PATTERN")]
    pub(crate) table: Vec<String>,
    /// Only schemas that match
    #[arg(short = 'n', long, value_name = "PATTERN")]
    pub(crate) schema: Vec<String>,
    /// Not the tables that match
    #[arg(short = 'T', long, value_name = "PATTERN")]
    pub(crate) exclude_table: Vec<String>,
    /// Not the schemas that match
    #[arg(short = 'N', long, value_name = "PATTERN")]
    pub(crate) exclude_schema: Vec<String>,
    /// Not the rows of tables that match
    #[arg(long, value_name = "PATTERN")]
    pub(crate) exclude_table_data: Vec<String>,
}

impl SelectionArgs {
    /// The same as pg_dump's arguments.
    pub(crate) fn pg_dump_arguments(&self) -> Vec<String> {
        [
            ("table", &self.table),
            ("schema", &self.schema),
            ("exclude-table", &self.exclude_table),
            ("exclude-schema", &self.exclude_schema),
            ("exclude-table-data", &self.exclude_table_data),
        ]
        .into_iter()
        .flat_map(|(option, patterns)| patterns.iter().map(move |pattern| format!("--{option}={pattern}")))
        .collect()
    }
}
