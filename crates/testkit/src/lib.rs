//! What pgkeep's tests need and nothing else does: real servers in containers, databases that are hard to
//! back up, client tools and stores that fail on purpose. Unpublished.
//!
//! - [`PostgresServer`] is a PostgreSQL of some major in a container; [`PostgresServer::shared`] gives every
//!   test of a process the same one, and [`ScratchDatabase`] a database of its own in it.
//! - [`Ceph`] is a real S3 server, likewise shared; [`Moto`] has archive tiers.
//! - [`nasty`] fills a database with everything that is hard to dump and restore, [`saas`] with the sample
//!   of a business, as big as asked for.
//! - [`dump_text`] and [`contents`] are the oracles: what PostgreSQL's own tools say a database is.
//! - [`client_tools`] finds the client tools of each major on this machine, [`program`] pgkeep's own binaries,
//!   and [`FaultyTools`] makes a `pg_dump` that dies, dawdles or warns.
//! - [`SchedulerHost`] is a host of its own with PostgreSQL, cron daemons and pgkeep's programs.
//! - [`Aws`] is CloudWatch and SNS, [`MailServer`] a mail server, [`Receiver`] takes webhooks and pings: all on loopback.
//! - [`FaultyStorage`] fails the n-th call of an operation; [`CountingRelay`] counts the bytes between client and server.
//!
//! Everything panics with a message where it cannot do what it says: a test that cannot run must fail.
//! Calls block and may be made from tests with and without a runtime.
//! `cargo xtask images` makes the images, unpacks the client tools and installs what `python/` needs.

#![expect(clippy::missing_panics_doc, reason = "see above: everything panics")]

mod ceph;
mod container;
mod counting_relay;
mod database;
mod faulty_storage;
mod faulty_tools;
mod moto;
pub mod nasty;
mod oracle;
mod postgres;
mod programs;
pub mod saas;
mod scheduler;
mod services;

pub use ceph::Ceph;
pub use counting_relay::CountingRelay;
pub use database::ScratchDatabase;
pub use faulty_storage::{FaultyStorage, Operation};
pub use faulty_tools::{Fault, FaultyTools};
pub use moto::Moto;
pub use oracle::{LargeObjects, TableContents, contents, dump_text, dump_text_sorted, large_objects, schema_text};
pub use postgres::{MAJORS, PostgresOptions, PostgresServer};
pub use programs::{client_tools, client_tools_path, program, python_program};
pub use scheduler::{CronDaemon, SchedulerHost};
pub use services::{Aws, MailServer, Receiver, Request};

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU32, Ordering};

/// A name nothing else on this machine uses: `label_<process>_<number>`.
pub fn unique(label: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!("{label}_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// For URLs: every byte but the unreserved ones as `%XX`.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_url_cannot_hold_is_percent_encoded() {
        assert_eq!(percent_encoded("a/b@c d%ü"), "a%2Fb%40c%20d%25%C3%BC");
    }
}
