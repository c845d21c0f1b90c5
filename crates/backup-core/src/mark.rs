//! Marks: what proves that objects without a meta are ours to remove.
//!
//! Archives of the same names lie where the shell scripts put them, without metas. So a name proves nothing. Whoever is about
//! to make objects visible that have no meta yet, or to take a meta away from some, first puts a mark below `.pgkeep/`
//! which names them and their sizes, and removes it when the backup is whole, or gone. What a run that died in between left is
//! found by its mark (see `sweep`); nothing else ever is.

use bytes::Bytes;
use futures::TryStreamExt;
use pgkeep_storage::{Created, Key, ObjectInfo, Storage};
use serde::{Deserialize, Serialize};

use crate::{BackupId, Error, Result, objects};

/// How the keys of marks begin; the backup's name and a random number follow.
const PREFIX: &str = ".pgkeep/unpublished-";

/// What a mark says: these objects, of these sizes, are of a backup that has no meta yet, or no longer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark {
    /// The backup's name.
    pub(crate) id: BackupId,
    /// The machine that put the mark.
    pub(crate) hostname: String,
    /// The archive's key; its meta has this one with `.meta`.
    pub(crate) archive: String,
    /// All objects but proofs, the archive among them.
    pub(crate) objects: Vec<Marked>,
}

/// One object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Marked {
    /// Its key.
    pub(crate) key: String,
    /// Its size in bytes.
    pub(crate) bytes: u64,
}

impl Mark {
    pub(crate) fn new(id: &BackupId, hostname: &str, archive: &Key, objects: &[(&Key, u64)]) -> Self {
        let marked = |&(key, bytes): &(&Key, u64)| Marked { key: key.to_string(), bytes };
        Self {
            id: id.clone(),
            hostname: hostname.to_owned(),
            archive: archive.to_string(),
            objects: objects.iter().map(marked).collect(),
        }
    }

    /// Puts the mark; gives its key.
    pub(crate) async fn put(&self, storage: &dyn Storage) -> Result<Key> {
        let json = Bytes::from(serde_json::to_vec_pretty(self).map_err(|error| Error::Task(error.to_string()))?);
        loop {
            let key = Key::new(format!("{PREFIX}{}-{:016x}", self.id, rand::random::<u64>()))?;
            if storage.create(&key, json.clone()).await.map_err(objects::at(storage))? == Created::Created {
                return Ok(key);
            }
        }
    }

    /// Removes a mark whose objects have a meta, or are gone. If that fails, it is swept later: it then says nothing that matters.
    pub(crate) async fn take_away(storage: &dyn Storage, mark: &Key) {
        if let Err(error) = storage.delete(mark).await {
            tracing::debug!(location = %storage.location(), %mark, %error, "a mark stays behind");
        }
    }

    /// The marks among listed objects. One that can't be understood proves nothing, and stays.
    pub(crate) async fn read_all(storage: &dyn Storage, listed: &[ObjectInfo]) -> Result<Vec<(ObjectInfo, Self)>> {
        let mut marks = Vec::new();
        for object in listed.iter().filter(|object| object.key.as_str().starts_with(PREFIX)) {
            let Some(json) = objects::get(storage, &object.key).await? else { continue };
            match serde_json::from_slice(&json) {
                Ok(mark) => marks.push((object.clone(), mark)),
                Err(error) => {
                    tracing::debug!(location = %storage.location(), mark = %object.key, %error, "not understood");
                }
            }
        }
        Ok(marks)
    }

    /// Whether a mark says that the object at `key`, of this size, is of backup `id` and ours to write again.
    pub(crate) async fn covers(storage: &dyn Storage, id: &BackupId, key: &Key, bytes: u64) -> Result<bool> {
        let folder = Key::new(".pgkeep")?;
        let listed: Vec<ObjectInfo> = storage.list(&folder).try_collect().await.map_err(objects::at(storage))?;
        let marks = Self::read_all(storage, &listed).await?;
        let says = |mark: &Self| mark.objects.iter().any(|marked| marked.key == key.as_str() && marked.bytes == bytes);
        Ok(marks.iter().any(|(_, mark)| mark.id == *id && says(mark)))
    }

    /// The name of the backup that the mark at this key is about.
    pub(crate) fn backup_of(key: &str) -> Option<&str> {
        Some(key.strip_prefix(PREFIX)?.rsplit_once('-')?.0)
    }
}
