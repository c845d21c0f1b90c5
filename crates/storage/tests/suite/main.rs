//! The store's promises, kept by every implementation that needs no server of its own.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod disk;
mod fan_out;
mod memory;
mod s3;
mod s3_server;
