//! What the second pass may take of the server: memory and processes for building indexes and checking constraints.
//!
//! Settings of its own sessions and nothing else: what a server or database is set to would outlive a crash.

use std::fmt::Write as _;

use pgkeep_dump::{ConnectSettings, Connection, SessionSettings};

use crate::Result;
use crate::error::Doing;

/// All sessions together get as much as the server's own cache has, for whoever set that knew its memory; at least this…
const LEAST_TOGETHER: u64 = 256 << 20;
/// …and at most this…
const MOST_TOGETHER: u64 = 4 << 30;
/// …of which no session gets more than this: sorting and hashing gain little beyond.
const MOST_EACH: u64 = 1 << 30;

/// Settings of one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Allowance {
    /// `maintenance_work_mem` in bytes: sorts of indexes, and the hash join that checks a foreign key.
    memory: u64,
    /// `max_parallel_maintenance_workers`; `None` leaves it.
    workers: Option<usize>,
}

impl Allowance {
    /// Asks the server, for `jobs` sessions.
    pub(crate) async fn of(connect: &ConnectSettings, jobs: usize) -> Result<Self> {
        let asking = async {
            let mut connection = Connection::connect(connect, SessionSettings::Admin).await?;
            let row = connection
                .query_one(
                    "SELECT pg_catalog.pg_size_bytes(pg_catalog.current_setting('shared_buffers')), \
                     pg_catalog.pg_size_bytes(pg_catalog.current_setting('maintenance_work_mem'))",
                )
                .await?;
            let _ = connection.close().await;
            Ok(Self::new(row.get(0)?, row.get(1)?, jobs))
        };
        let asked: pgkeep_dump::Result<Self> = asking.await;
        asked.doing("asking the server for its memory settings")
    }

    /// For a server with so much cache, whose sessions have so much memory for maintenance of themselves.
    fn new(cache: u64, own: u64, jobs: usize) -> Self {
        let jobs = jobs.max(1);
        let each = (cache.clamp(LEAST_TOGETHER, MOST_TOGETHER) / jobs as u64).min(MOST_EACH);
        // A lone big index at the end is built by as many processes as there were sessions.
        Self { memory: each.max(own), workers: (jobs > 1).then(|| jobs - 1) }
    }

    /// As statements.
    pub(crate) fn statements(self) -> String {
        let mut statements = format!("SET maintenance_work_mem = '{}kB';\n", self.memory >> 10);
        if let Some(workers) = self.workers {
            let _ = writeln!(statements, "SET max_parallel_maintenance_workers = {workers};");
        }
        statements
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_follows_the_servers_own_cache_and_is_shared_by_the_jobs() {
        let memory =
            |cache_mib: u64, own_mib: u64, jobs| Allowance::new(cache_mib << 20, own_mib << 20, jobs).memory >> 20;
        assert_eq!(memory(128, 64, 4), 64);
        assert_eq!(memory(128, 64, 2), 128);
        assert_eq!(memory(2048, 64, 4), 512);
        assert_eq!(memory(64 << 10, 64, 2), 1024);
        assert_eq!(memory(64 << 10, 64, 16), 256);
        // What an administrator gave is never taken away.
        assert_eq!(memory(128, 2048, 4), 2048);
    }

    #[test]
    fn settings_are_those_of_sessions_only() {
        assert_eq!(
            Allowance::new(1 << 30, 64 << 20, 4).statements(),
            "SET maintenance_work_mem = '262144kB';\nSET max_parallel_maintenance_workers = 3;\n"
        );
        assert_eq!(Allowance::new(1 << 30, 64 << 20, 1).statements(), "SET maintenance_work_mem = '1048576kB';\n");
    }
}
