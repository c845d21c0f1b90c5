//! The command line of pgkeep: parse, wire, call the libraries, print, exit.
//!
//! - `args`: what was typed; `settings`: what it means, by precedence, each value with where it came from.
//! - `wire`: the only place that names vendors: from a URL to a store, with its credentials.
//! - `commands`: one file per command. Each returns a value; nothing prints but `run` and `reporter`.
//! - `hooks`: commands of the user's own before and after backups and restores.
//! - `reporter`, `log`, `progress`: what happens, told once each to the log file and to stderr.
//! - `monitoring`: who hears of runs, and what they are told.
//! - `failure`, `hint`, `exit`, `classify`: every way to fail, with a stable code, an exit code and what to do next.
//!
//! [`run`] is all there is to call; the binaries in `bins/` do just that.

mod args;
mod classify;
mod commands;
mod exit;
mod failure;
mod hint;
mod hooks;
mod invocation;
mod log;
mod monitoring;
mod progress;
mod render;
mod reporter;
mod run;
mod settings;
mod signals;
mod surroundings;
mod wire;

pub use invocation::Program;
pub use run::run;
pub use surroundings::Surroundings;
