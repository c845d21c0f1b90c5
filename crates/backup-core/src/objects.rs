//! Small objects of a store: metas, proofs, records, locks.

use bytes::Bytes;
use pgkeep_storage::{Created, Error as StorageError, Key, Storage, StorageExt};

use crate::{Error, Result};

/// More than any object of this kind can sensibly have: the frame index of some 100 TB. Bounds what a hostile store can make us hold.
pub(crate) const LIMIT: u64 = 256 << 20;

/// Wraps a store's error with its place.
pub(crate) fn at(storage: &dyn Storage) -> impl Fn(StorageError) -> Error + Copy + '_ {
    move |source| Error::Storage { location: storage.location().to_string(), source }
}

/// What is said of an object that is larger than that: it is none of ours, whatever its name is, and as good as damaged.
pub(crate) fn too_large(storage: &dyn Storage, key: &Key) -> Error {
    Error::Meta { object: format!("{}/{key}", storage.location()), reason: "it is larger than any of ours".to_owned() }
}

/// A whole small object; `None` if there is none. [`Error::Meta`] if it is too large.
pub(crate) async fn get(storage: &dyn Storage, key: &Key) -> Result<Option<Bytes>> {
    match storage.read_all(key, LIMIT).await {
        Ok(object) => Ok(Some(object)),
        Err(StorageError::NotFound { .. }) => Ok(None),
        Err(StorageError::TooLarge { .. }) => Err(too_large(storage, key)),
        Err(error) => Err(at(storage)(error)),
    }
}

/// Stores a small object, replacing what is there.
pub(crate) async fn put(storage: &dyn Storage, key: &Key, object: Bytes) -> Result<()> {
    storage.put(key, object).await.map(drop).map_err(at(storage))
}

/// Creates a small object that nobody else would write the same; `false` if there is another one. When the store can't say
/// whether it created it, it is asked what is there.
pub(crate) async fn create(storage: &dyn Storage, key: &Key, object: Bytes) -> Result<bool> {
    let created = storage.create(key, object.clone()).await;
    if matches!(created, Ok(Created::Created)) {
        return Ok(true);
    }
    match (created, get(storage, key).await) {
        (_, Ok(Some(found))) if found == object => Ok(true),
        (Ok(_), found) => found.map(|_| false),
        (Err(error), _) => Err(at(storage)(error)),
    }
}
