//! One stream into several stores.

use async_trait::async_trait;
use bytes::Bytes;
use pgkeep_storage::{
    DiskStorage, Error, FanOut, Key, Location, ObjectInfo, ObjectStorage, ObjectWriter, Result, Storage, StorageExt,
    WriteOptions,
};

/// Takes that many writes, then none.
#[derive(Debug)]
struct Failing(usize);

#[async_trait]
impl ObjectWriter for Failing {
    async fn write(&mut self, _chunk: Bytes) -> Result<()> {
        match self.0.checked_sub(1) {
            Some(left) => self.0 = left,
            None => return Err(failure()),
        }
        Ok(())
    }
    async fn finish(self: Box<Self>) -> Result<ObjectInfo> {
        Err(failure())
    }
    async fn abort(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

fn failure() -> Error {
    Error::NotFound { key: "sink".to_owned(), location: Location::new("nowhere") }
}

#[tokio::test]
async fn a_failing_sink_does_not_stop_the_others() {
    let directory = tempfile::tempdir().unwrap();
    let disk = DiskStorage::open(directory.path()).unwrap();
    let memory = ObjectStorage::memory();
    let key = Key::new("a").unwrap();
    let options = WriteOptions::default();
    let mut sinks = FanOut::new(vec![
        disk.write(&key, &options).await,
        Ok(Box::new(Failing(1))),
        Err(failure()),
        memory.write(&key, &options).await,
        Ok(Box::new(Failing(9))),
    ]);
    assert_eq!(sinks.alive(), 4);
    assert_eq!(sinks.write("one ".into()).await, 4);
    assert_eq!(sinks.write("two ".into()).await, 3);
    assert!(sinks.failure(1).is_some() && sinks.failure(0).is_none() && sinks.failure(99).is_none());
    assert_eq!(sinks.write("three".into()).await, 3);
    let outcomes = sinks.finish().await;
    assert_eq!(outcomes.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, false, true, false]);
    assert_eq!(disk.read_all(&key, 100).await.unwrap(), "one two three");
    assert_eq!(memory.read_all(&key, 100).await.unwrap(), "one two three");
}

#[tokio::test]
async fn giving_up_leaves_nothing_anywhere() {
    let directory = tempfile::tempdir().unwrap();
    let disk = DiskStorage::open(directory.path()).unwrap();
    let memory = ObjectStorage::memory();
    let key = Key::new("a").unwrap();
    let options = WriteOptions::default();
    let mut sinks =
        FanOut::new(vec![disk.write(&key, &options).await, memory.write(&key, &options).await, Err(failure())]);
    sinks.write("never seen".into()).await;
    assert!(sinks.abort().await.into_iter().all(|outcome| outcome.is_ok()));
    assert!(!disk.exists(&key).await.unwrap());
    assert!(!memory.exists(&key).await.unwrap());
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}
