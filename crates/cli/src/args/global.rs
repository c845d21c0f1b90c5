//! Options that every command takes.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Options that every command takes.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct GlobalArgs {
    /// Config file [default: ./pgkeep.toml, else /etc/pgkeep/pgkeep.toml, where there is one]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// File of environment variables, read instead of ./.env
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) env_file: Option<PathBuf>,
    /// Which [[database]] of the config file
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) database: Option<String>,
    /// What stdout gets: text for people, or one JSON document, also on failure
    #[arg(
        long,
        global = true,
        value_name = "human|json",
        value_enum,
        default_value_t,
        hide_possible_values = true,
        hide_default_value = true
    )]
    pub(crate) output: OutputFormat,
    /// Tell the details too
    #[arg(short, long, global = true)]
    pub(crate) verbose: bool,
    /// Tell warnings and errors only
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Colours: auto is on a terminal, unless NO_COLOR is set
    #[arg(
        long,
        global = true,
        value_name = "auto|always|never",
        value_enum,
        default_value_t,
        hide_possible_values = true,
        hide_default_value = true
    )]
    pub(crate) color: ColorChoice,
    /// No progress bar (there is one only on a terminal)
    #[arg(long, global = true)]
    pub(crate) no_progress: bool,
    /// Exit with 8 if there were warnings
    #[arg(long, global = true)]
    pub(crate) strict: bool,
}

/// What stdout gets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// Text for people
    #[default]
    Human,
    /// One versioned JSON document
    Json,
}

/// When colours are used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorChoice {
    /// On a terminal, unless NO_COLOR is set
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}
