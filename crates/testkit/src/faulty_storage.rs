//! A store that fails when told to.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{FutureExt as _, StreamExt as _};
use pgkeep_storage::{
    ByteStream, Created, Error, Key, Location, ObjectInfo, ObjectWriter, Result, Storage, Support, Unfinished,
    WriteOptions,
};

use crate::trouble::{After, Operation, Shared, StoreFault, Trouble};

/// A store around another one that counts its calls and lets one of them, or all from one on, meet [`Trouble`].
///
/// Its clones are the same store with the same counts; a process that dies takes all of them with it.
#[derive(Debug, Clone)]
pub struct FaultyStorage {
    inner: Arc<dyn Storage>,
    state: Shared,
}

impl FaultyStorage {
    /// Around `inner`, healthy until [`inject`](Self::inject) is called.
    pub fn new(inner: Arc<dyn Storage>) -> Self {
        Self { inner, state: Shared::new() }
    }

    /// Around another store, reached by the same process: calls are counted together, and if one dies, so does the other.
    pub fn beside(&self, inner: Arc<dyn Storage>) -> Self {
        Self { inner, state: self.state.clone() }
    }

    /// Lets a call meet trouble, counted from now.
    pub fn inject(&self, fault: StoreFault) {
        self.state.reset(Some(fault));
    }

    /// Lets the n-th call of an operation fail as a network does ([`Error::Unreachable`]), counted from 1 and from now.
    pub fn fail(&self, operation: Operation, nth: u64) {
        self.inject(StoreFault::once(operation, nth, Trouble::Fails));
    }

    /// Lets the n-th call of an operation and all after it fail, counted from 1 and from now.
    pub fn fail_from(&self, operation: Operation, nth: u64) {
        self.inject(StoreFault { lasting: true, ..StoreFault::once(operation, nth, Trouble::Fails) });
    }

    /// Makes it well again and counts from 0. The dead stay dead.
    pub fn heal(&self) {
        self.state.reset(None);
    }

    /// Lets every call give way to others as often as `pace` says each time.
    pub fn pace(&self, pace: impl FnMut() -> u32 + Send + 'static) {
        self.state.pace(Some(Box::new(pace)));
    }

    /// Whether the call that was to fail has been made: if not, there is no n-th call.
    pub fn has_failed(&self) -> bool {
        self.state.reached()
    }

    /// The object, or prefix, whose call met its trouble first.
    pub fn met_at(&self) -> Option<Key> {
        self.state.lock().met_at.clone()
    }

    /// Resolves when a call meets the trouble that was injected.
    pub async fn met(&self) {
        self.state.met().await;
    }

    /// Resolves when the process has died ([`Trouble::Dies`]): whoever waits for its answers then drops them.
    pub async fn died(&self) {
        self.state.died().await;
    }

    /// Bytes of objects that were read since the counts began.
    pub fn bytes_read(&self) -> u64 {
        self.state.lock().bytes_read
    }

    /// How often an operation was called since the counts began.
    pub fn calls(&self, operation: Operation) -> u64 {
        self.state.calls(Some(operation))
    }

    /// How many calls there were since the counts began.
    pub fn all_calls(&self) -> u64 {
        self.state.calls(None)
    }
}

#[async_trait]
impl Storage for FaultyStorage {
    fn location(&self) -> &Location {
        self.inner.location()
    }

    async fn write(&self, key: &Key, options: &WriteOptions) -> Result<Box<dyn ObjectWriter>> {
        let after = self.state.meet(Operation::Write, self.location(), key).await?;
        let inner = self.inner.write(key, options).await?;
        let writer = FaultyWriter {
            inner: Some(inner),
            state: self.state.clone(),
            location: self.location().clone(),
            key: key.clone(),
        };
        self.state.settle(after, Ok(Box::new(writer) as _)).await
    }

    async fn create(&self, key: &Key, bytes: Bytes) -> Result<Created> {
        let after = self.state.meet(Operation::Create, self.location(), key).await?;
        let created = self.inner.create(key, bytes).await;
        if matches!(created, Ok(Created::Created)) {
            self.state.lock().newest = Some(key.clone());
        }
        self.state.settle(after, created).await
    }

    async fn read(&self, key: &Key, range: Option<Range<u64>>) -> Result<ByteStream> {
        let after = self.state.meet(Operation::Read, self.location(), key).await?;
        let stream = self.inner.read(key, range).await;
        let stream = self.state.settle(after, stream).await?;
        let reading = Reading { state: self.state.clone(), location: self.location().clone(), key: key.clone() };
        Ok(reading.through(stream))
    }

    async fn head(&self, key: &Key) -> Result<ObjectInfo> {
        let after = self.state.meet(Operation::Head, self.location(), key).await?;
        let garbled = matches!(after, After::Partly(Trouble::Garbled, _));
        let info = self.inner.head(key).await;
        let info = info.map(|info| ObjectInfo { bytes: info.bytes + u64::from(garbled), ..info });
        self.state.settle(after, info).await
    }

    fn list(&self, prefix: &Key) -> BoxStream<'static, Result<ObjectInfo>> {
        let (inner, state, prefix) = (Arc::clone(&self.inner), self.state.clone(), prefix.clone());
        let listed = async move {
            let end = |error: Error| stream::iter([Err(error)]);
            match state.meet(Operation::List, inner.location(), &prefix).await {
                Ok(After::Nothing) => inner.list(&prefix),
                Ok(After::Lost(error)) => inner.list(&prefix).chain(end(error)).boxed(),
                Ok(After::Partly(Trouble::Short, _)) => {
                    let newest = state.lock().newest.clone();
                    let seen = move |info: &ObjectInfo| newest.as_ref() != Some(&info.key);
                    inner
                        .list(&prefix)
                        .filter(move |info| std::future::ready(info.as_ref().map_or(true, &seen)))
                        .boxed()
                }
                Ok(After::Death) => state
                    .settle(After::Death, Ok(stream::empty().boxed()))
                    .await
                    .unwrap_or_else(|_| stream::empty().boxed()),
                Ok(After::Partly(_, error)) | Err(error) => inner.list(&prefix).take(1).chain(end(error)).boxed(),
            }
        };
        listed.flatten_stream().boxed()
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        let after = self.state.meet(Operation::Delete, self.location(), key).await?;
        let deleted = self.inner.delete(key).await;
        self.state.settle(after, deleted).await
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

/// An object that is being read.
struct Reading {
    state: Shared,
    location: Location,
    key: Key,
}

/// What is left of a stream.
enum Rest {
    Open(ByteStream),
    Broken(Error),
    Ended,
}

impl Reading {
    fn through(self, stream: ByteStream) -> ByteStream {
        stream::unfold((Rest::Open(stream), self), async |(rest, reading)| {
            let (item, rest) = reading.next(rest).await?;
            Some((item, (rest, reading)))
        })
        .boxed()
    }

    async fn next(&self, rest: Rest) -> Option<(Result<Bytes>, Rest)> {
        let mut stream = match rest {
            Rest::Open(stream) => stream,
            Rest::Broken(error) => return Some((Err(error), Rest::Ended)),
            Rest::Ended => return None,
        };
        let bytes = match stream.next().await? {
            Ok(bytes) => bytes,
            Err(error) => return Some((Err(error), Rest::Ended)),
        };
        let half = bytes.slice(..bytes.len() / 2);
        let (bytes, rest) = match self.state.meet(Operation::ReadChunk, &self.location, &self.key).await {
            Ok(After::Nothing) => (bytes, Rest::Open(stream)),
            Ok(After::Partly(Trouble::Short, _)) => (half, Rest::Ended),
            Ok(After::Partly(Trouble::Half, error)) => (half, Rest::Broken(error)),
            Ok(After::Partly(..)) => {
                let mut garbled = bytes.to_vec();
                let middle = garbled.len() / 2;
                if let Some(byte) = garbled.get_mut(middle) {
                    *byte ^= 1;
                }
                (garbled.into(), Rest::Open(stream))
            }
            Ok(after @ After::Death) => (self.state.settle(after, Ok(bytes)).await.ok()?, Rest::Ended),
            Ok(After::Lost(error)) | Err(error) => return Some((Err(error), Rest::Ended)),
        };
        self.state.lock().bytes_read += bytes.len() as u64;
        Some((Ok(bytes), rest))
    }
}

#[derive(Debug)]
struct FaultyWriter {
    /// `None` once it was finished or given up.
    inner: Option<Box<dyn ObjectWriter>>,
    state: Shared,
    location: Location,
    key: Key,
}

impl FaultyWriter {
    fn take(&mut self) -> Box<dyn ObjectWriter> {
        self.inner.take().expect("it is finished or given up once")
    }
}

#[async_trait]
impl ObjectWriter for FaultyWriter {
    async fn write(&mut self, chunk: Bytes) -> Result<()> {
        let after = self.state.meet(Operation::WriteChunk, &self.location, &self.key).await?;
        let inner = self.inner.as_mut().expect("it is neither finished nor given up");
        let half = matches!(after, After::Partly(Trouble::Half, _));
        let written = inner.write(if half { chunk.slice(..chunk.len() / 2) } else { chunk }).await;
        self.state.settle(after, written).await
    }

    async fn finish(mut self: Box<Self>) -> Result<ObjectInfo> {
        let after = match self.state.meet(Operation::Finish, &self.location, &self.key).await {
            Ok(after @ (After::Nothing | After::Lost(_) | After::Death)) => after,
            Ok(After::Partly(_, error)) | Err(error) => {
                // A store that fails to complete an upload has not made it visible.
                let _ = self.take().abort().await;
                return Err(error);
            }
        };
        let finished = self.take().finish().await;
        if finished.is_ok() {
            self.state.lock().newest = Some(self.key.clone());
        }
        self.state.settle(after, finished).await
    }

    async fn abort(mut self: Box<Self>) -> Result<()> {
        let after = match self.state.meet(Operation::Abort, &self.location, &self.key).await {
            Ok(after) => after,
            Err(error) => {
                // What was stored of it stays where it is.
                std::mem::forget(self.take());
                return Err(error);
            }
        };
        let aborted = self.take().abort().await;
        self.state.settle(after, aborted).await
    }
}

impl Drop for FaultyWriter {
    /// The dead do not clean up.
    fn drop(&mut self) {
        if self.state.is_dead() {
            std::mem::forget(self.inner.take());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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

    #[tokio::test(start_paused = true)]
    async fn trouble_is_what_it_says() {
        let inner: Arc<dyn Storage> = Arc::new(ObjectStorage::memory());
        let faulty = FaultyStorage::new(Arc::clone(&inner));
        let meets = |operation, trouble| faulty.inject(StoreFault::once(operation, 1, trouble));
        meets(Operation::Create, Trouble::AnswerLost);
        faulty.create(&key("a"), "four".into()).await.expect_err("its answer is lost");
        assert!(inner.exists(&key("a")).await.expect("it answers"));
        meets(Operation::Finish, Trouble::AnswerLost);
        faulty.put(&key("b"), "b".into()).await.expect_err("its answer is lost");
        assert!(inner.exists(&key("b")).await.expect("it answers"));
        meets(Operation::List, Trouble::Short);
        let listed = faulty.list_all(&Key::root()).await.expect("no failure is told");
        assert_eq!(listed.iter().map(|info| info.key.as_str()).collect::<Vec<_>>(), ["a"]);
        for (trouble, read) in [(Trouble::Short, "fo"), (Trouble::Garbled, "fotr")] {
            meets(Operation::ReadChunk, trouble);
            assert_eq!(faulty.read_all(&key("a"), 10).await.expect("no failure is told"), read);
        }
        meets(Operation::ReadChunk, Trouble::Half);
        faulty.read_all(&key("a"), 10).await.expect_err("it breaks off");
        meets(Operation::Head, Trouble::Garbled);
        assert_eq!(faulty.head(&key("a")).await.expect("no failure is told").bytes, 5);
        meets(Operation::Head, Trouble::Late(Duration::from_secs(9)));
        let begun = tokio::time::Instant::now();
        faulty.head(&key("a")).await.expect("late");
        assert_eq!(begun.elapsed().as_secs(), 9);
        meets(Operation::Delete, Trouble::DiesAfter);
        let doomed = key("a");
        tokio::select! {
            _ = faulty.delete(&doomed) => panic!("it is dead"),
            () = faulty.died() => {}
        }
        assert!(!inner.exists(&key("a")).await.expect("it answers"));
        faulty.heal();
        let silence = tokio::time::timeout(Duration::from_secs(9), faulty.head(&key("b"))).await;
        assert!(silence.is_err(), "the dead do not answer");
    }
}
