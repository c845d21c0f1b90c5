//! Names that nobody else takes, on stores where a creation may replace what is there (law 5).
//!
//! Where the store looks at conditions, the lock is one and a name has one run. Elsewhere two runs may hold the lock in the same
//! second, and would give their backups the same name: one's globals or archive would lie under the other's meta. So each puts
//! an object of a key of its own, `.pgkeep/name-<backup>-<random>`, and then looks for others about the same name. Of two who
//! do that at once at least one sees the other (a store lists what was written before), and whoever sees another one
//! leaves the name to nobody and tries again later.

use std::sync::Arc;

use bytes::Bytes;
use chrono::TimeDelta;
use futures::TryStreamExt;
use pgkeep_storage::{Key, ObjectInfo, Storage, Support};

use crate::{BackupId, Destination, Result, objects};

/// How the keys begin; the backup's name and a random number follow.
const PREFIX: &str = ".pgkeep/name-";
/// No run takes so long; what is older was left by one that died.
const ABANDONED: TimeDelta = TimeDelta::days(7);

/// A name that is one run's, until it is given back.
#[derive(Debug, Default)]
pub(crate) struct Reserved(Vec<(Arc<dyn Storage>, Key)>);

impl Reserved {
    /// Reserves a name at every destination where that is needed; `None` if another run is about to take it too. A
    /// destination whose store fails is passed over: writing there will fail as well.
    pub(crate) async fn take(destinations: &[Destination], id: &BackupId) -> Option<Self> {
        let mut reserved = Self::default();
        for destination in destinations {
            if destination.storage.conditional_writes() == Support::Yes {
                continue;
            }
            match reserved.at(&destination.storage, id).await {
                Ok(true) => {}
                Ok(false) => {
                    reserved.give_back().await;
                    return None;
                }
                Err(error) => {
                    tracing::debug!(destination = destination.name, %error, "the backup's name could not be reserved");
                }
            }
        }
        Some(reserved)
    }

    async fn at(&mut self, storage: &Arc<dyn Storage>, id: &BackupId) -> Result<bool> {
        let about = format!("{PREFIX}{id}-");
        let ours = Key::new(format!("{about}{:016x}", rand::random::<u64>()))?;
        objects::put(storage.as_ref(), &ours, Bytes::from_static(b"{}")).await?;
        self.0.push((Arc::clone(storage), ours.clone()));
        let folder = Key::new(".pgkeep")?;
        let at = objects::at(storage.as_ref());
        let listed: Vec<ObjectInfo> = storage.list(&folder).try_collect().await.map_err(at)?;
        let now = listed.iter().find(|object| object.key == ours).map(|object| object.modified_ms);
        let (mut alone, limit) = (true, now.map(|now| now - ABANDONED.num_milliseconds()));
        for object in listed.iter().filter(|object| object.key.as_str().starts_with(PREFIX) && object.key != ours) {
            if limit.is_some_and(|limit| object.modified_ms < limit) {
                let _ = storage.delete(&object.key).await;
            } else if object.key.as_str().starts_with(&about) {
                alone = false;
            }
        }
        Ok(alone)
    }

    /// Whether no destination needed it.
    pub(crate) fn is_nowhere(&self) -> bool {
        self.0.is_empty()
    }

    /// Gives it back. What can't be removed is swept by a later run.
    pub(crate) async fn give_back(self) {
        for (storage, key) in self.0 {
            if let Err(error) = storage.delete(&key).await {
                tracing::debug!(location = %storage.location(), %key, %error, "a reserved name stays behind");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use async_trait::async_trait;
    use chrono::Utc;
    use futures::stream::BoxStream;
    use pgkeep_storage::{ByteStream, Created, Location, ObjectStorage, ObjectWriter, StorageExt, WriteOptions};

    use super::*;
    use crate::BackupClass;
    use crate::fixture::{keys, memory};

    /// A store that does not look at conditions.
    #[derive(Debug)]
    struct Unconditional(ObjectStorage);

    #[async_trait]
    impl Storage for Unconditional {
        fn location(&self) -> &Location {
            self.0.location()
        }

        async fn write(&self, key: &Key, options: &WriteOptions) -> pgkeep_storage::Result<Box<dyn ObjectWriter>> {
            self.0.write(key, options).await
        }

        async fn create(&self, key: &Key, bytes: Bytes) -> pgkeep_storage::Result<Created> {
            self.0.put(key, bytes).await.map(|_| Created::Created)
        }

        async fn read(&self, key: &Key, range: Option<Range<u64>>) -> pgkeep_storage::Result<ByteStream> {
            self.0.read(key, range).await
        }

        async fn head(&self, key: &Key) -> pgkeep_storage::Result<ObjectInfo> {
            self.0.head(key).await
        }

        fn list(&self, prefix: &Key) -> BoxStream<'static, pgkeep_storage::Result<ObjectInfo>> {
            self.0.list(prefix)
        }

        async fn delete(&self, key: &Key) -> pgkeep_storage::Result<()> {
            self.0.delete(key).await
        }

        fn conditional_writes(&self) -> Support {
            Support::No
        }
    }

    fn id(attempt: u32) -> BackupId {
        BackupId::new(BackupClass::Daily, Utc::now(), attempt)
    }

    #[tokio::test]
    async fn a_name_is_reserved_once_and_free_again_when_it_is_given_back() {
        let storage = Arc::new(Unconditional(ObjectStorage::memory()));
        let place = [Destination { storage, ..memory("bucket", true, 1) }];
        let (name, other) = (id(1), id(2));
        let reserved = Reserved::take(&place, &name).await.expect("nobody else is there");
        assert!(Reserved::take(&place, &name).await.is_none());
        Reserved::take(&place, &other).await.expect("another name").give_back().await;
        assert_eq!(keys(&place[0]).await.len(), 1, "whoever got none leaves nothing");
        reserved.give_back().await;
        Reserved::take(&place, &name).await.expect("free again").give_back().await;
        assert_eq!(keys(&place[0]).await, [""; 0]);
    }

    #[tokio::test]
    async fn of_many_at_once_one_at_most_gets_a_name() {
        let storage = Arc::new(Unconditional(ObjectStorage::memory()));
        let place = [Destination { storage, ..memory("bucket", true, 1) }];
        for attempt in 1..50 {
            let name = id(attempt);
            let tries = futures::future::join_all((0..4).map(|_| Reserved::take(&place, &name))).await;
            assert!(tries.iter().flatten().count() <= 1, "{tries:?}");
        }
    }

    #[tokio::test]
    async fn where_the_store_looks_at_conditions_nothing_is_needed() {
        let place = [memory("local", true, 0)];
        let name = id(1);
        let both = (Reserved::take(&place, &name).await, Reserved::take(&place, &name).await);
        assert!(both.0.is_some() && both.1.is_some());
        assert_eq!(keys(&place[0]).await, [""; 0]);
    }
}
