//! Small objects of a store: metas, proofs, records, locks.

use bytes::Bytes;
use pgkeep_storage::{Error as StorageError, Key, Storage, StorageExt};

use crate::{Error, Result};

/// More than any object of this kind can sensibly have: the frame index of some 100 TB. Bounds what a hostile store can make us hold.
const LIMIT: u64 = 256 << 20;

/// Wraps a store's error with its place.
pub(crate) fn at(storage: &dyn Storage) -> impl Fn(StorageError) -> Error + Copy + '_ {
    move |source| Error::Storage { location: storage.location().to_string(), source }
}

/// A whole small object; `None` if there is none.
pub(crate) async fn get(storage: &dyn Storage, key: &Key) -> Result<Option<Bytes>> {
    match storage.read_all(key, LIMIT).await {
        Ok(object) => Ok(Some(object)),
        Err(StorageError::NotFound { .. }) => Ok(None),
        Err(error) => Err(at(storage)(error)),
    }
}

/// Stores a small object, replacing what is there.
pub(crate) async fn put(storage: &dyn Storage, key: &Key, object: Bytes) -> Result<()> {
    storage.put(key, object).await.map(drop).map_err(at(storage))
}
