//! `list`, `show`, `verify` and the housekeeping commands.

use std::path::PathBuf;

use clap::{ArgGroup, Args};
use clap_complete::Shell;
use pgkeep_core::{BackupClass, VerifyDepth};

use super::DatabasesArgs;
use super::restore::class;

/// List the backups of this database, newest first.
#[derive(Debug, Default, Args)]
pub(crate) struct ListArgs {
    /// Of this class only: daily, weekly, monthly or pre-restore
    #[arg(long = "type", value_name = "CLASS", value_parser = class)]
    pub(crate) class: Option<BackupClass>,
    /// No more than N
    #[arg(short = 'n', long, value_name = "N")]
    pub(crate) limit: Option<usize>,
    #[command(flatten)]
    pub(crate) databases: DatabasesArgs,
}

/// Show one backup: what it is, its copies, its proofs, its biggest tables.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("which").required(true).args(["backup", "latest"]))]
pub(crate) struct ShowArgs {
    /// A name, with or without extension, or its unique beginning
    #[arg(value_name = "NAME")]
    pub(crate) backup: Option<String>,
    /// The newest backup
    #[arg(long)]
    pub(crate) latest: bool,
    /// Every table, not only the biggest
    #[arg(long)]
    pub(crate) tables: bool,
    #[command(flatten)]
    pub(crate) keys: IdentityArgs,
}

/// Verify stored backups and write a proof of it beside each copy.
#[derive(Debug, Default, Args)]
#[command(group = ArgGroup::new("which").required(true).multiple(false).args(["backup", "all", "latest"]))]
pub(crate) struct VerifyArgs {
    /// Names, paths or URLs
    #[arg(value_name = "NAME|PATH|URL")]
    pub(crate) backup: Vec<String>,
    /// Every backup
    #[arg(long)]
    pub(crate) all: bool,
    /// The newest backup
    #[arg(long)]
    pub(crate) latest: bool,
    #[command(flatten)]
    pub(crate) depth: DepthArgs,
    #[command(flatten)]
    pub(crate) keys: IdentityArgs,
    /// Every [[database]] of the config file, one after the other
    #[arg(long)]
    pub(crate) all_databases: bool,
}

/// How deep a verification goes.
#[derive(Debug, Clone, Copy, Default, Args)]
#[group(multiple = false)]
pub(crate) struct DepthArgs {
    /// Present, size, and the store's own checksum; downloads nothing
    #[arg(long)]
    quick: bool,
    /// Read every stored byte and compare digests
    #[arg(long)]
    stored: bool,
    /// Decompress, parse to the end, recount rows and fingerprints (the default)
    #[arg(long)]
    deep: bool,
}

impl DepthArgs {
    /// The depth that was asked for.
    pub(crate) fn depth(self) -> VerifyDepth {
        match self {
            Self { quick: true, .. } => VerifyDepth::Quick,
            Self { stored: true, .. } => VerifyDepth::Stored,
            _ => VerifyDepth::Deep,
        }
    }
}

/// Remove what retention no longer keeps, and what failed runs left behind.
///
/// The newest good backup and the newest proven one always stay.
#[derive(Debug, Args)]
pub(crate) struct PruneArgs {
    /// Print the plan with its reasons, remove nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Longest wait for another run to end, such as 30m [env: BACKUP_WAIT]
    #[arg(long, value_name = "DURATION")]
    pub(crate) wait: Option<String>,
    #[command(flatten)]
    pub(crate) databases: DatabasesArgs,
}

/// Give a foreign archive (pg_dump -Fc, plain or compressed) a meta, so that it counts as a backup.
///
/// The archive lies in the local directory or the bucket already; it is read to its end and not touched.
#[derive(Debug, Args)]
pub(crate) struct AdoptArgs {
    /// Path or URL of the archive
    #[arg(value_name = "PATH|URL")]
    pub(crate) archive: String,
    /// Its class: daily, weekly or monthly [default: by its file name, else daily]
    #[arg(long = "type", value_name = "CLASS", value_parser = class)]
    pub(crate) class: Option<BackupClass>,
}

/// Write a backup, or tables of it, as a plain archive for pg_restore to a file or stdout.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("which").required(true).args(["backup", "latest"]))]
pub(crate) struct ExportArgs {
    /// A name, a path, or a URL
    #[arg(value_name = "NAME|PATH|URL")]
    pub(crate) backup: Option<String>,
    /// The newest backup
    #[arg(long)]
    pub(crate) latest: bool,
    /// Only the data of this table; the table of contents stays whole (repeatable)
    #[arg(long, value_name = "SCHEMA.NAME")]
    pub(crate) table: Vec<String>,
    /// The file to write; - is stdout
    #[arg(long, value_name = "FILE", default_value = "-")]
    pub(crate) to: PathBuf,
    #[command(flatten)]
    pub(crate) keys: IdentityArgs,
}

/// Break the lock of a run that is gone. Explains before it does.
#[derive(Debug, Args)]
pub(crate) struct UnlockArgs {
    /// Don't ask
    #[arg(short, long)]
    pub(crate) yes: bool,
}

/// See it work: a throw-away server and a sample database, backed up, lost, restored and proven.
///
/// Needs PostgreSQL's server binaries; no Docker, no bucket, no network. Leaves nothing behind.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Size of the sample database; 1 is about 200 MB
    #[arg(long, value_name = "N", default_value_t = 1.0)]
    pub(crate) scale: f64,
    /// Leave the server running and the files in place
    #[arg(long)]
    pub(crate) keep: bool,
    /// Where initdb and postgres are [default: the newest version found]
    #[arg(long, value_name = "DIR")]
    pub(crate) bin_dir: Option<PathBuf>,
}

/// Make a key for encrypted backups: the public half encrypts (BACKUP_ENCRYPT_TO), the secret half opens.
///
/// The file is one of age's: `age -d -i FILE` opens what was encrypted to it.
#[derive(Debug, Args)]
pub(crate) struct KeygenArgs {
    /// The file to write, readable by you alone; never overwritten [default: stdout]
    #[arg(short = 'o', long, value_name = "FILE")]
    pub(crate) to: Option<PathBuf>,
}

/// Keys of encrypted backups.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct IdentityArgs {
    /// A file with a secret key of encrypted backups, as `pgkeep keygen` and `age-keygen` write it (repeatable) [env: BACKUP_IDENTITY_FILE]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) identity: Vec<PathBuf>,
}

/// Print shell completions.
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    pub(crate) shell: Shell,
}

/// Write the man pages.
#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// The folder to write them to [default: pgkeep's own page to stdout]
    #[arg(value_name = "DIR")]
    pub(crate) folder: Option<PathBuf>,
}
