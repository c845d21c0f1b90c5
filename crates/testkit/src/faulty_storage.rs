//! A store that fails when told to.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use pgkeep_storage::{
    ByteStream, Cause, Created, Error, Key, Location, ObjectInfo, ObjectWriter, Result, Storage, Support, Unfinished,
    WriteOptions,
};

/// The calls a store can get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operation {
    /// [`Storage::write`]
    Write,
    /// [`ObjectWriter::write`]
    WriteChunk,
    /// [`ObjectWriter::finish`]
    Finish,
    /// [`ObjectWriter::abort`]
    Abort,
    /// [`Storage::create`]
    Create,
    /// [`Storage::read`]
    Read,
    /// One item of a stream that [`Storage::read`] gave
    ReadChunk,
    /// [`Storage::head`]
    Head,
    /// [`Storage::list`]; its stream then ends with the error after one item
    List,
    /// [`Storage::delete`]
    Delete,
}

impl Operation {
    /// All of them, for tests that let each fail in turn.
    pub const ALL: [Self; 10] = [
        Self::Write,
        Self::WriteChunk,
        Self::Finish,
        Self::Abort,
        Self::Create,
        Self::Read,
        Self::ReadChunk,
        Self::Head,
        Self::List,
        Self::Delete,
    ];
}

#[derive(Debug, Default)]
struct State {
    calls: HashMap<Operation, u64>,
    bytes_read: u64,
    /// Fails the n-th call (from 1) of the operation, and if `after` every later one.
    fault: Option<(Operation, u64, bool)>,
    reached: bool,
}

impl State {
    fn count(&mut self, operation: Operation) -> bool {
        let calls = self.calls.entry(operation).or_default();
        *calls += 1;
        let fails =
            matches!(self.fault, Some((at, nth, after)) if at == operation && (*calls == nth || after && *calls > nth));
        self.reached |= fails;
        fails
    }
}

/// A store around another one that counts its calls and fails one of them, or from one on all, as a network does:
/// [`Error::Unreachable`].
#[derive(Debug, Clone)]
pub struct FaultyStorage {
    inner: Arc<dyn Storage>,
    state: Shared,
}

impl FaultyStorage {
    /// Around `inner`, healthy until [`fail`](Self::fail) is called.
    pub fn new(inner: Arc<dyn Storage>) -> Self {
        Self { inner, state: Shared::default() }
    }

    /// Lets the n-th call of an operation fail, counted from 1 and from now.
    pub fn fail(&self, operation: Operation, nth: u64) {
        self.state.reset(Some((operation, nth, false)));
    }

    /// Lets the n-th call of an operation and all after it fail, counted from 1 and from now.
    pub fn fail_from(&self, operation: Operation, nth: u64) {
        self.state.reset(Some((operation, nth, true)));
    }

    /// Makes it well again and counts from 0.
    pub fn heal(&self) {
        self.state.reset(None);
    }

    /// Whether the call that was to fail has been made: if not, there is no n-th call.
    pub fn has_failed(&self) -> bool {
        self.state.lock().reached
    }

    /// Bytes of objects that were read since [`fail`](Self::fail) or [`heal`](Self::heal).
    pub fn bytes_read(&self) -> u64 {
        self.state.lock().bytes_read
    }

    /// How often an operation was called since [`fail`](Self::fail) or [`heal`](Self::heal).
    pub fn calls(&self, operation: Operation) -> u64 {
        self.state.lock().calls.get(&operation).copied().unwrap_or_default()
    }
}

#[derive(Debug, Clone, Default)]
struct Shared(Arc<Mutex<State>>);

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reset(&self, fault: Option<(Operation, u64, bool)>) {
        *self.lock() = State { fault, ..State::default() };
    }

    /// Counts the call, and fails it if it is its turn.
    fn call(&self, operation: Operation, location: &Location, key: &Key) -> Result<()> {
        if !self.lock().count(operation) {
            return Ok(());
        }
        Err(Error::Unreachable {
            doing: format!("{operation:?} {key}"),
            location: location.clone(),
            source: Box::new(Cause { text: "a fault was injected".into(), code: None, status: None }),
        })
    }
}

#[async_trait]
impl Storage for FaultyStorage {
    fn location(&self) -> &Location {
        self.inner.location()
    }

    async fn write(&self, key: &Key, options: &WriteOptions) -> Result<Box<dyn ObjectWriter>> {
        self.state.call(Operation::Write, self.location(), key)?;
        Ok(Box::new(FaultyWriter {
            inner: self.inner.write(key, options).await?,
            state: self.state.clone(),
            location: self.location().clone(),
            key: key.clone(),
        }))
    }

    async fn create(&self, key: &Key, bytes: Bytes) -> Result<Created> {
        self.state.call(Operation::Create, self.location(), key)?;
        self.inner.create(key, bytes).await
    }

    async fn read(&self, key: &Key, range: Option<Range<u64>>) -> Result<ByteStream> {
        self.state.call(Operation::Read, self.location(), key)?;
        let stream = self.inner.read(key, range).await?;
        let (state, location, key) = (self.state.clone(), self.location().clone(), key.clone());
        Ok(stream
            .map(move |chunk| {
                let bytes = chunk?;
                state.call(Operation::ReadChunk, &location, &key)?;
                state.lock().bytes_read += bytes.len() as u64;
                Ok(bytes)
            })
            .boxed())
    }

    async fn head(&self, key: &Key) -> Result<ObjectInfo> {
        self.state.call(Operation::Head, self.location(), key)?;
        self.inner.head(key).await
    }

    fn list(&self, prefix: &Key) -> BoxStream<'static, Result<ObjectInfo>> {
        let listed = self.inner.list(prefix);
        match self.state.call(Operation::List, self.location(), prefix) {
            Ok(()) => listed,
            Err(error) => listed.take(1).chain(futures::stream::iter([Err(error)])).boxed(),
        }
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.state.call(Operation::Delete, self.location(), key)?;
        self.inner.delete(key).await
    }

    fn conditional_writes(&self) -> Support {
        self.inner.conditional_writes()
    }

    async fn probe_conditional_writes(&self, scratch: &Key) -> Result<Support> {
        self.inner.probe_conditional_writes(scratch).await
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
struct FaultyWriter {
    inner: Box<dyn ObjectWriter>,
    state: Shared,
    location: Location,
    key: Key,
}

#[async_trait]
impl ObjectWriter for FaultyWriter {
    async fn write(&mut self, chunk: Bytes) -> Result<()> {
        self.state.call(Operation::WriteChunk, &self.location, &self.key)?;
        self.inner.write(chunk).await
    }

    async fn finish(self: Box<Self>) -> Result<ObjectInfo> {
        if let Err(error) = self.state.call(Operation::Finish, &self.location, &self.key) {
            // A store that fails to complete an upload has not made it visible.
            let _ = self.inner.abort().await;
            return Err(error);
        }
        self.inner.finish().await
    }

    async fn abort(self: Box<Self>) -> Result<()> {
        self.state.call(Operation::Abort, &self.location, &self.key)?;
        self.inner.abort().await
    }
}

#[cfg(test)]
mod tests {
    use pgkeep_storage::{ObjectStorage, StorageExt as _};

    use super::*;

    fn key(text: &str) -> Key {
        Key::new(text).expect("a key")
    }

    #[tokio::test]
    async fn each_operation_fails_when_it_is_told_to_and_leaves_nothing_visible() {
        let inner: Arc<dyn Storage> = Arc::new(ObjectStorage::memory());
        let faulty = FaultyStorage::new(Arc::clone(&inner));
        faulty.fail(Operation::Finish, 2);
        faulty.put(&key("a"), "a".into()).await.expect("the first is well");
        assert!(faulty.put(&key("b"), "b".into()).await.is_err() && faulty.has_failed());
        assert!(!inner.exists(&key("b")).await.expect("it answers"));
        faulty.put(&key("c"), "c".into()).await.expect("the third is well");

        for operation in [Operation::Write, Operation::WriteChunk] {
            faulty.fail_from(operation, 1);
            assert!(faulty.put(&key("d"), "d".into()).await.is_err(), "{operation:?}");
            assert!(faulty.put(&key("d"), "d".into()).await.is_err(), "{operation:?}");
            assert!(!inner.exists(&key("d")).await.expect("it answers"));
        }
        for operation in [Operation::Read, Operation::ReadChunk] {
            faulty.fail(operation, 1);
            assert!(faulty.read_all(&key("a"), 10).await.is_err(), "{operation:?}");
            assert_eq!(faulty.read_all(&key("a"), 10).await.expect("well again"), "a");
        }
        faulty.fail(Operation::List, 1);
        assert!(faulty.list_all(&Key::root()).await.is_err());
        faulty.fail(Operation::Head, 1);
        assert!(faulty.head(&key("a")).await.is_err());
        faulty.fail(Operation::Create, 1);
        assert!(faulty.create(&key("e"), "e".into()).await.is_err());
        faulty.fail(Operation::Delete, 1);
        assert!(faulty.delete(&key("a")).await.is_err());
        faulty.heal();
        assert_eq!(faulty.list_all(&Key::root()).await.expect("well again").len(), 2);
        assert_eq!((faulty.calls(Operation::List), faulty.has_failed()), (1, false));
    }
}
