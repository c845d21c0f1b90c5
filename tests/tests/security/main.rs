//! What docs/SECURITY.md claims: files that only their owner reads, secrets that are nowhere, and backups, repositories
//! and servers of somebody who means harm.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

mod crash;
mod hostile_archive;
mod hostile_names;
mod hostile_repository;
mod hostile_server;
mod modes;
mod secrets;
mod world;
