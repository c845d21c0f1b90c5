//! The real programs against real servers: what the user types, what is stored, what comes back.

mod bucket;
mod faults;
mod keeping;
mod keys;
mod memory;
mod round_trip;
mod secrets;
mod setup;
mod surroundings;
mod swap;
