//! Notes about what is under way, so that the next run can tell what happened to an interrupted one.
//!
//! There are two. The database under construction carries one as its comment (which database it is for, which backup it
//! comes from); the exchange of names replaces it by the database's own comment in the same transaction, so it cannot
//! outlive its meaning. The other is an object in the repository, written before names are exchanged or a database is
//! emptied, and removed when the run has told its end: it holds the databases' OIDs, which say whether an exchange
//! was committed.

use chrono::{DateTime, Utc};
use futures::TryStreamExt as _;
use pgkeep_storage::{Created, Key, Storage, StorageExt as _};
use serde::{Deserialize, Serialize};

/// Where notes are kept in a repository.
const FOLDER: &str = ".pgkeep/restore";
/// A note is never longer.
const NOTE_BYTES: u64 = 64 << 10;
/// What the comment of a database under construction begins with.
const COMMENT: &str = "pgkeep: being restored, not complete; ";

/// What the note in a comment says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Construction {
    /// The database it is to become.
    pub(crate) database: String,
    /// The backup.
    pub(crate) backup: String,
    /// When it was begun.
    pub(crate) begun: DateTime<Utc>,
}

impl Construction {
    /// The comment.
    pub(crate) fn comment(&self) -> String {
        format!("{COMMENT}{}", serde_json::to_string(self).unwrap_or_default())
    }

    /// Read back from a comment, if it is ours.
    pub(crate) fn read(comment: &str) -> Option<Self> {
        serde_json::from_str(comment.strip_prefix(COMMENT)?).ok()
    }
}

/// What was about to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Act {
    /// An exchange of names after a restore.
    Swap,
    /// An exchange of names back.
    Rollback,
    /// A database is emptied and filled again.
    InPlace,
}

/// A note in the repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Note {
    pub(crate) act: Act,
    /// `host:port`, as it was connected to.
    pub(crate) server: String,
    /// The live database.
    pub(crate) database: String,
    pub(crate) begun: DateTime<Utc>,
    /// The backup's name; of a rollback, the kept database's.
    pub(crate) backup: String,
    /// The live database's OID before.
    pub(crate) live_oid: Option<u32>,
    /// The OID of the one that takes its name.
    pub(crate) new_oid: Option<u32>,
    /// The name under which the replaced one is kept.
    pub(crate) kept_as: Option<String>,
    /// The pre-restore snapshot.
    pub(crate) snapshot: Option<String>,
}

/// Stores a note; `None` where there is no repository, or it would not take it (a warning then says so).
pub(crate) async fn write(storage: Option<&dyn Storage>, note: &Note, warnings: &mut Vec<String>) -> Option<Key> {
    let storage = storage?;
    match store(storage, note).await {
        Ok(key) => Some(key),
        Err(error) => {
            warnings.push(format!(
                "no note about this restore could be left in the repository: {}",
                crate::error::one_line(&error)
            ));
            None
        }
    }
}

async fn store(storage: &dyn Storage, note: &Note) -> Result<Key, pgkeep_storage::Error> {
    let json = serde_json::to_vec_pretty(note).unwrap_or_default();
    let stamp = crate::names::stamp(note.begun);
    for attempt in 1..=100 {
        let key = Key::new(format!("{FOLDER}/{stamp}_{attempt}.json"))?;
        if storage.create(&key, json.clone().into()).await? == Created::Created {
            return Ok(key);
        }
    }
    Key::new(format!("{FOLDER}/{stamp}.json"))
}

/// Removes a note; best effort, for a note that stays only repeats what has been said.
pub(crate) async fn clear(storage: Option<&dyn Storage>, key: Option<&Key>) {
    if let (Some(storage), Some(key)) = (storage, key)
        && let Err(error) = storage.delete(key).await
    {
        tracing::debug!(%error, %key, "note stays");
    }
}

/// Every note about this database of this server, oldest first, and what could not be read: that never stands in the way
/// of a restore.
pub(crate) async fn read(
    storage: Option<&dyn Storage>,
    server: &str,
    database: &str,
) -> (Vec<(Key, Note)>, Vec<String>) {
    let (mut notes, mut warnings) = (Vec::new(), Vec::new());
    let Some(storage) = storage else { return (notes, warnings) };
    let mut unread = |what: &str, error: &pgkeep_storage::Error| {
        let reason = crate::error::one_line(error);
        warnings.push(format!("what an earlier restore may have left cannot be told, {what} cannot be read: {reason}"));
    };
    let listed = match Key::new(FOLDER) {
        Ok(folder) => storage.list(&folder).try_collect::<Vec<_>>().await,
        Err(error) => Err(error),
    };
    match listed {
        Ok(objects) => {
            for object in objects {
                match storage.read_all(&object.key, NOTE_BYTES).await {
                    // A note of a later version, or half of one, is nobody's to act upon.
                    Ok(bytes) => match serde_json::from_slice::<Note>(&bytes) {
                        Ok(note) if note.server == server && note.database == database => {
                            notes.push((object.key, note));
                        }
                        _ => {}
                    },
                    // Another run has told it meanwhile.
                    Err(pgkeep_storage::Error::NotFound { .. }) => {}
                    Err(error) => unread(object.key.as_str(), &error),
                }
            }
        }
        Err(error) => unread("its notes", &error),
    }
    notes.sort_by_key(|(_, note)| note.begun);
    (notes, warnings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_of_ours_is_known_again_and_no_other() {
        let construction = Construction {
            database: "app \"x\"".into(),
            backup: "daily_20251017_030001".into(),
            begun: DateTime::from_timestamp(1_760_670_001, 0).unwrap(),
        };
        assert_eq!(Construction::read(&construction.comment()), Some(construction));
        assert_eq!(Construction::read("the shop's database"), None);
        assert_eq!(Construction::read(&format!("{COMMENT}{{")), None);
    }
}
