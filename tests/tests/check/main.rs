//! `check`, `init`, several databases and hooks, against real servers.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod database;
mod hooks;
mod init;
mod several;
mod store;
mod world;
