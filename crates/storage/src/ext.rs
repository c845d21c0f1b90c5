//! Conveniences over [`Storage`] that need no more than its promises.

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::{StreamExt, TryStreamExt};

use crate::{Error, Key, ObjectInfo, Result, Storage, WriteOptions};

/// How many small requests run side by side.
const SIDE_BY_SIDE: usize = 8;

/// Conveniences for every [`Storage`].
#[async_trait]
pub trait StorageExt: Storage {
    /// Whether there is such an object.
    async fn exists(&self, key: &Key) -> Result<bool> {
        match self.head(key).await {
            Ok(_) => Ok(true),
            Err(Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// A whole small object; [`Error::TooLarge`] if it has more than `limit_bytes`.
    async fn read_all(&self, key: &Key, limit_bytes: u64) -> Result<Bytes> {
        let mut pieces = self.read(key, None).await?;
        let mut whole: Option<Bytes> = None;
        let mut joined = BytesMut::new();
        while let Some(piece) = pieces.try_next().await? {
            let held = whole.as_ref().map_or(0, Bytes::len) + joined.len();
            if (held + piece.len()) as u64 > limit_bytes {
                return Err(Error::TooLarge {
                    key: key.to_string(),
                    location: self.location().clone(),
                    limit_bytes,
                    reason: "was to be read at once".to_owned(),
                });
            }
            match whole.take() {
                None if joined.is_empty() => whole = Some(piece),
                first => {
                    joined.extend_from_slice(&first.unwrap_or_default());
                    joined.extend_from_slice(&piece);
                }
            }
        }
        Ok(whole.unwrap_or_else(|| joined.freeze()))
    }

    /// Writes a whole object at once, replacing what is there.
    async fn put(&self, key: &Key, bytes: Bytes) -> Result<ObjectInfo> {
        let options = WriteOptions { expected_bytes: bytes.len() as u64, ..WriteOptions::default() };
        let mut writer = self.write(key, &options).await?;
        if let Err(error) = writer.write(bytes).await {
            let _ = writer.abort().await;
            return Err(error);
        }
        writer.finish().await
    }

    /// The whole listing, sorted by key.
    async fn list_all(&self, prefix: &Key) -> Result<Vec<ObjectInfo>> {
        let mut all: Vec<ObjectInfo> = self.list(prefix).try_collect().await?;
        all.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(all)
    }

    /// Removes objects side by side, one request each: stores' bulk requests are not universal. Answers in the order of `keys`.
    async fn delete_many(&self, keys: &[Key]) -> Vec<Result<()>> {
        let requests: Vec<_> = keys.iter().map(|key| self.delete(key)).collect();
        futures::stream::iter(requests).buffered(SIDE_BY_SIDE).collect().await
    }

    /// Discards everything that was begun before that moment (milliseconds since 1970-01-01 UTC) and never finished;
    /// says how many there were. Where the store can't tell, none.
    async fn sweep_unfinished(&self, begun_before_ms: i64) -> Result<u64> {
        let found = self.unfinished(begun_before_ms).await?.unwrap_or_default();
        for unfinished in &found {
            self.discard(unfinished).await?;
        }
        Ok(found.len() as u64)
    }
}

impl<S: Storage + ?Sized> StorageExt for S {}
