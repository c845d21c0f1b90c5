//! Backups of archives made by hand, in memory: what is stored, what is refused, what is left behind.

mod backup;
mod fake;
mod reading;
mod world;
