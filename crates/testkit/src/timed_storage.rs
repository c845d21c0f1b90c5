//! A store with a clock of its own.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use pgkeep_storage::{
    ByteStream, Created, Key, Location, ObjectInfo, ObjectWriter, Result, Storage, Support, Unfinished, WriteOptions,
};

/// A store around another one that says of its objects when they were written by a clock that the test sets. What it
/// was not told of was written when the other store says.
#[derive(Clone)]
pub struct TimedStorage {
    inner: Arc<dyn Storage>,
    location: Location,
    clock: Arc<dyn Fn() -> i64 + Send + Sync>,
    written_ms: Arc<Mutex<HashMap<Key, i64>>>,
}

impl TimedStorage {
    /// Around `inner`, said to be at `location`; `clock` tells milliseconds since 1970-01-01 UTC.
    pub fn new(inner: Arc<dyn Storage>, location: Location, clock: impl Fn() -> i64 + Send + Sync + 'static) -> Self {
        Self { inner, location, clock: Arc::new(clock), written_ms: Arc::default() }
    }

    /// Says when an object was written.
    pub fn set_written(&self, key: &Key, written_ms: i64) {
        self.times().insert(key.clone(), written_ms);
    }

    fn times(&self) -> std::sync::MutexGuard<'_, HashMap<Key, i64>> {
        self.written_ms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn written_now(&self, key: &Key) {
        let now = (self.clock)();
        self.times().insert(key.clone(), now);
    }

    fn timed(&self, info: ObjectInfo) -> ObjectInfo {
        let modified_ms = self.times().get(&info.key).copied().unwrap_or(info.modified_ms);
        ObjectInfo { modified_ms, ..info }
    }
}

impl fmt::Debug for TimedStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimedStorage").field("location", &self.location).finish_non_exhaustive()
    }
}

#[async_trait]
impl Storage for TimedStorage {
    fn location(&self) -> &Location {
        &self.location
    }

    async fn write(&self, key: &Key, options: &WriteOptions) -> Result<Box<dyn ObjectWriter>> {
        let inner = self.inner.write(key, options).await?;
        Ok(Box::new(TimedWriter { inner, storage: self.clone(), key: key.clone() }))
    }

    async fn create(&self, key: &Key, bytes: Bytes) -> Result<Created> {
        let created = self.inner.create(key, bytes).await?;
        if created == Created::Created {
            self.written_now(key);
        }
        Ok(created)
    }

    async fn read(&self, key: &Key, range: Option<Range<u64>>) -> Result<ByteStream> {
        self.inner.read(key, range).await
    }

    async fn head(&self, key: &Key) -> Result<ObjectInfo> {
        Ok(self.timed(self.inner.head(key).await?))
    }

    fn list(&self, prefix: &Key) -> BoxStream<'static, Result<ObjectInfo>> {
        let storage = self.clone();
        self.inner.list(prefix).map(move |info| info.map(|info| storage.timed(info))).boxed()
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.inner.delete(key).await
    }

    fn conditional_writes(&self) -> Support {
        self.inner.conditional_writes()
    }

    async fn unfinished(&self, begun_before_ms: i64) -> Result<Option<Vec<Unfinished>>> {
        self.inner.unfinished(begun_before_ms).await
    }

    async fn discard(&self, unfinished: &Unfinished) -> Result<()> {
        self.inner.discard(unfinished).await
    }

    async fn free_bytes(&self) -> Result<Option<u64>> {
        self.inner.free_bytes().await
    }
}

#[derive(Debug)]
struct TimedWriter {
    inner: Box<dyn ObjectWriter>,
    storage: TimedStorage,
    key: Key,
}

#[async_trait]
impl ObjectWriter for TimedWriter {
    async fn write(&mut self, chunk: Bytes) -> Result<()> {
        self.inner.write(chunk).await
    }

    async fn finish(self: Box<Self>) -> Result<ObjectInfo> {
        let info = self.inner.finish().await?;
        self.storage.written_now(&self.key);
        Ok(self.storage.timed(info))
    }

    async fn abort(self: Box<Self>) -> Result<()> {
        self.inner.abort().await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use pgkeep_storage::{ObjectStorage, StorageExt as _};

    use super::*;

    #[tokio::test]
    async fn its_clock_is_the_tests() {
        let now = Arc::new(AtomicI64::new(1));
        let clock = Arc::clone(&now);
        let memory = Arc::new(ObjectStorage::memory());
        let storage = TimedStorage::new(memory, Location::new("memory://timed"), move || clock.load(Ordering::SeqCst));
        let key = |text: &str| Key::new(text).expect("a key");
        storage.put(&key("a"), "a".into()).await.expect("stored");
        now.store(2, Ordering::SeqCst);
        storage.create(&key("b"), "b".into()).await.expect("stored");
        now.store(3, Ordering::SeqCst);
        storage.create(&key("b"), "c".into()).await.expect("there already");
        storage.set_written(&key("a"), 7);
        let times: Vec<_> =
            storage.list_all(&Key::root()).await.expect("listed").iter().map(|o| o.modified_ms).collect();
        assert_eq!(times, [7, 2]);
        assert_eq!(storage.head(&key("b")).await.expect("there").modified_ms, 2);
    }
}
