//! The real programs against real servers: what the user types, what is stored, what comes back.

mod archive_tier;
mod bucket;
mod drill;
mod encryption;
mod faults;
mod keeping;
mod keys;
mod memory;
mod monitoring;
mod procedures;
mod recovery;
mod round_trip;
mod secrets;
mod setup;
mod status;
mod surroundings;
mod swap;
mod taken_over;
