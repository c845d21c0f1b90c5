//! SIGKILL at every stage of everything that changes something: of pgkeep alone, and of pgkeep with all that it has started.
//! After each, the live database and the backups are what they were or what was promised, and the next run clears up.
//!
//! Stages are recognised from outside: by what the program says, by what appears in the store, by the requests it makes; for
//! the rest, moments are spread over the time that a whole run takes.

#![expect(clippy::unwrap_used, reason = "what a test relies on and does not get fails it")]

mod backup;
mod bucket;
mod drill;
mod eyes;
mod files;
mod found;
mod gate;
mod in_place;
mod lock;
mod prune;
mod restore;
mod schedule;
#[expect(dead_code, reason = "the end-to-end tests need more of it")]
#[path = "../end_to_end/setup.rs"]
mod setup;
mod swap;
mod tables;
mod victim;
mod world;
