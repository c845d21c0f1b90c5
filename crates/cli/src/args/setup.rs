//! `check` and `init`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Try for real every permission that backups need, and name the exact missing one.
///
/// Writes a few small objects of its own to each place for backups and removes them again. Exits with 5 if the first
/// thing that is wrong is the database's, 6 if it is a store's, 2 if it is a setting or a missing program.
#[derive(Debug, Default, Args)]
pub(crate) struct CheckArgs {
    /// Also what a restore needs: create, rename and drop a database, end sessions, extensions, owners
    #[arg(long)]
    pub(crate) restore: bool,
    /// Read only; write nothing anywhere
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Print each setting with where it came from, secrets left out; try nothing
    #[arg(long, conflicts_with_all = ["restore", "dry_run", "iam_policy"])]
    pub(crate) show_settings: bool,
    /// Print an AWS policy for this bucket and prefix [default: writer]
    #[arg(
        long,
        value_name = "writer|restorer|pruner|installer",
        value_enum,
        num_args = 0..=1,
        default_missing_value = "writer",
        hide_possible_values = true,
        conflicts_with_all = ["restore", "dry_run"]
    )]
    pub(crate) iam_policy: Option<PolicyRole>,
    #[command(flatten)]
    pub(crate) databases: DatabasesArgs,
}

/// Whose policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PolicyRole {
    /// Makes backups
    Writer,
    /// Restores them
    Restorer,
    /// Removes old ones
    Pruner,
    /// Sets up schedule, alarms and this check
    Installer,
}

/// Which databases of the config file, for commands that can take one after the other.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(crate) struct DatabasesArgs {
    /// Every [[database]] of the config file, one after the other
    #[arg(long = "all", alias = "all-databases")]
    pub(crate) all: bool,
}

/// Write a commented config file, by a few questions or from these flags.
///
/// The file is readable by its owner alone, and an existing one is never overwritten.
#[derive(Debug, Default, Args)]
pub(crate) struct InitArgs {
    /// postgresql://user:password@host:5432/name
    #[arg(long, value_name = "URL")]
    pub(crate) database_url: Option<String>,
    /// Where backups go: a bucket's name, or an s3://, gs://, az:// or file:// URL; none keeps them here only
    #[arg(long, value_name = "STORE")]
    pub(crate) store: Option<String>,
    /// The local directory for backups; none keeps no local copy
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<String>,
    /// Who hears of failures
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) email: Option<String>,
    /// The file to write [default: ./pgkeep.toml]
    #[arg(long, value_name = "FILE")]
    pub(crate) to: Option<PathBuf>,
    /// Put an existing file aside and write a new one
    #[arg(long)]
    pub(crate) force: bool,
}
