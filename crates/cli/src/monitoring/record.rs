//! What is remembered between runs: what people were told, when a restore was last tested, what was installed.
//!
//! It lies beside the backups, at every destination that takes it, and the newest copy counts: in a container only the bucket
//! survives, on a host without a bucket only the directory, and when one of them is the trouble, the other still knows. What
//! can't be remembered is told again, which is the safe side.

use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use pgkeep_core::Keeper;
use pgkeep_metrics::{Installed, Watch};
use pgkeep_storage::{Key, Storage, StorageExt};
use serde::{Deserialize, Serialize};

use crate::failure::chain;

const KEY: &str = ".pgkeep/monitoring.json";
const MOST_BYTES: u64 = 1 << 20;
/// One place that does not answer must not hide what another knows.
const LONGEST_READ: Duration = Duration::from_secs(15);

/// What is remembered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Record {
    /// When it was written.
    pub(crate) written: DateTime<Utc>,
    /// What people were told.
    pub(crate) watch: Watch,
    /// When the first backup was made, as far as is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) first_backup: Option<DateTime<Utc>>,
    /// When a restore was last tested: its proof goes when its backup does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last_restore_test: Option<DateTime<Utc>>,
    /// What `monitor install` made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) installed: Option<Installed>,
    /// There may be one that could not be read: nothing is written over it.
    #[serde(skip)]
    pub(crate) unsure: bool,
}

/// What became of reading one copy.
enum Seen {
    Found(Box<Record>),
    NotThere,
    Unreadable,
}

impl Record {
    /// The newest copy; an empty one if there is none.
    pub(crate) async fn load(keeper: &Keeper) -> Self {
        let copies = keeper.destinations.iter().map(|destination| read(destination.storage.as_ref()));
        let copies = futures::future::join_all(copies).await;
        let unsure = copies.iter().any(|seen| matches!(seen, Seen::Unreadable));
        let found =
            copies.into_iter().filter_map(|seen| if let Seen::Found(record) = seen { Some(*record) } else { None });
        found.max_by_key(|record| record.written).unwrap_or_else(|| Self { unsure, ..Self::default() })
    }

    /// One that nothing is known of.
    pub(crate) fn unknown() -> Self {
        Self { unsure: true, ..Self::default() }
    }

    /// Writes it everywhere; says where that failed, one line each.
    pub(crate) async fn store(&mut self, keeper: &Keeper, now: DateTime<Utc>) -> Vec<String> {
        if self.unsure {
            return vec!["any place: what was there could not be read, and is not written over".to_owned()];
        }
        // Newer than what it replaces, whatever the clock says.
        self.written = now.max(self.written + chrono::Duration::milliseconds(1));
        let Ok(json) = serde_json::to_vec_pretty(self) else { return Vec::new() };
        let json = Bytes::from(json);
        let writes = keeper.destinations.iter().map(|destination| {
            let json = json.clone();
            async move {
                let key = Key::new(KEY).map_err(|error| chain(&error))?;
                let written = destination.storage.put(&key, json).await;
                written.map_err(|error| format!("{}: {}", destination.name, chain(&error)))
            }
        });
        futures::future::join_all(writes).await.into_iter().filter_map(Result::err).collect()
    }
}

async fn read(storage: &dyn Storage) -> Seen {
    let Ok(key) = Key::new(KEY) else { return Seen::Unreadable };
    match tokio::time::timeout(LONGEST_READ, storage.read_all(&key, MOST_BYTES)).await {
        Ok(Ok(json)) => serde_json::from_slice(&json).map_or(Seen::Unreadable, Seen::Found),
        Ok(Err(pgkeep_storage::Error::NotFound { .. })) => Seen::NotThere,
        Ok(Err(_)) | Err(_) => Seen::Unreadable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_or_newer_record_can_be_read() {
        assert_eq!(serde_json::from_str::<Record>("{}").unwrap(), Record::default());
        let mut record = Record { first_backup: Some(DateTime::UNIX_EPOCH), ..Record::default() };
        record.watch.hears("backup", Some("locked"), DateTime::UNIX_EPOCH);
        let mut json = serde_json::to_value(&record).unwrap();
        json["of_a_later_version"] = serde_json::json!(1);
        assert_eq!(serde_json::from_value::<Record>(json).unwrap(), record);
    }
}
