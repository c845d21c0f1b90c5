//! Which transactions a snapshot sees, so that a later look at the database can tell what was there already.

use serde::{Deserialize, Serialize};

use crate::{Connection, Error, Result};

/// A snapshot that is not later than the dump's own: what it sees, the dump holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotFacts {
    /// As `txid_current_snapshot()` writes it: `xmin:xmax:running,running`.
    pub transactions: String,
    /// The timeline that these transactions are numbered on, where the role may ask. After a failover the numbers of
    /// transactions that were lost are given again.
    pub timeline: Option<u32>,
}

/// The numbers in [`SnapshotFacts::transactions`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transactions {
    /// Whatever is numbered below had ended.
    pub all_ended_below: u64,
    /// Whatever is numbered from here on had not begun.
    pub none_from: u64,
    /// Of those between, the ones that are known to have been running. A standby does not tell, and of subtransactions nobody does.
    pub running: Vec<u64>,
}

impl SnapshotFacts {
    /// Reads the snapshot of a session's open transaction, or of this very moment where there is none.
    pub async fn read(connection: &mut Connection, timeline: Option<u32>) -> Result<Self> {
        let row = connection.query_one("SELECT pg_catalog.txid_current_snapshot()").await?;
        Ok(Self { transactions: row.text(0).unwrap_or_default(), timeline })
    }

    /// The numbers; `None` if they can't be understood.
    pub fn parse(&self) -> Option<Transactions> {
        let mut parts = self.transactions.splitn(3, ':');
        let mut number = || parts.next()?.parse().ok();
        let (all_ended_below, none_from) = (number()?, number()?);
        let running = parts.next()?.split(',').filter(|text| !text.is_empty()).map(|text| text.parse().ok());
        let running = running.collect::<Option<Vec<u64>>>()?;
        (all_ended_below <= none_from).then_some(Transactions { all_ended_below, none_from, running })
    }
}

impl Transactions {
    /// Whether all there is to know of the snapshot is known: two of these that are equal see the same.
    pub fn is_exact(&self) -> bool {
        self.all_ended_below == self.none_from || !self.running.is_empty()
    }
}

/// The timeline a server is on; `None` where it does not tell, which would end an open transaction.
pub async fn server_timeline(connection: &mut Connection) -> Result<Option<u32>> {
    let ask = async {
        let standby = connection.query_one("SELECT pg_catalog.pg_is_in_recovery()").await?.is_true(0);
        let sql = if standby {
            "SELECT timeline_id FROM pg_catalog.pg_control_checkpoint()"
        } else {
            "SELECT ('x' || pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8))\
             ::pg_catalog.bit(32)::pg_catalog.int8"
        };
        connection.query_one(sql).await?.get(0).map(Some)
    };
    match ask.await {
        Err(error @ Error::Server(_)) => {
            tracing::debug!(%error, "the timeline is not to be had");
            Ok(None)
        }
        timeline => timeline,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_are_read_as_the_server_writes_them() {
        let parse = |text: &str| SnapshotFacts { transactions: text.to_owned(), timeline: Some(1) }.parse();
        let snapshot = |all_ended_below, none_from, running: &[u64]| {
            Some(Transactions { all_ended_below, none_from, running: running.to_vec() })
        };
        assert_eq!(parse("730:730:"), snapshot(730, 730, &[]));
        assert_eq!(parse("730:5000000001:730,733"), snapshot(730, 5_000_000_001, &[730, 733]));
        for text in ["", "730", "730:735", "735:730:", "a:b:", "1:2:x"] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert!(parse("730:730:").unwrap().is_exact() && parse("1:3:1").unwrap().is_exact());
        assert!(!parse("1:3:").unwrap().is_exact(), "a standby's");
    }
}
