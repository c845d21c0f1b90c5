//! What the world does to a run: disks fill up, servers and buckets go away and come back, systemd loses patience, hosts are
//! set up oddly.

#![expect(clippy::unwrap_used, reason = "what a test relies on and does not get fails it")]

mod bucket;
mod disks;
mod ground;
mod host;
mod processes;
mod server;
#[expect(dead_code, reason = "the end-to-end tests need more of it")]
#[path = "../end_to_end/setup.rs"]
mod setup;
mod table;
