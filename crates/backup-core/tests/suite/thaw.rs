//! Waiting for an archive tier, with a store that tells what it was told to tell, and a clock that runs ahead.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use pgkeep_core::{BackupSource, ErrorKind, Keeper, Layout, ThawOptions};
use pgkeep_storage::{
    ByteStream, Cause, Created, Error, Key, Location, ObjectInfo, ObjectStorage, ObjectWriter, Readiness, Result,
    Storage, ThawTier, WriteOptions,
};

/// What is told next; the last thing for ever.
#[derive(Debug)]
struct Tier {
    memory: ObjectStorage,
    tells: Mutex<VecDeque<Option<Readiness>>>,
    asked: Mutex<Vec<(ThawTier, u32)>>,
}

impl Tier {
    fn telling(tells: impl IntoIterator<Item = Option<Readiness>>) -> Arc<Self> {
        let tells = Mutex::new(tells.into_iter().collect());
        Arc::new(Self { memory: ObjectStorage::memory(), tells, asked: Mutex::default() })
    }
}

#[async_trait]
impl Storage for Tier {
    fn location(&self) -> &Location {
        self.memory.location()
    }
    async fn write(&self, key: &Key, options: &WriteOptions) -> Result<Box<dyn ObjectWriter>> {
        self.memory.write(key, options).await
    }
    async fn create(&self, key: &Key, bytes: Bytes) -> Result<Created> {
        self.memory.create(key, bytes).await
    }
    async fn read(&self, key: &Key, range: Option<Range<u64>>) -> Result<ByteStream> {
        self.memory.read(key, range).await
    }
    async fn head(&self, key: &Key) -> Result<ObjectInfo> {
        self.memory.head(key).await
    }
    fn list(&self, prefix: &Key) -> BoxStream<'static, Result<ObjectInfo>> {
        self.memory.list(prefix)
    }
    async fn delete(&self, key: &Key) -> Result<()> {
        self.memory.delete(key).await
    }
    async fn readiness(&self, _: &Key) -> Result<Readiness> {
        let mut tells = self.tells.lock().unwrap();
        let next = if tells.len() > 1 { tells.pop_front() } else { tells.front().cloned() };
        next.flatten().ok_or_else(|| Error::Unreachable {
            doing: "look up".to_owned(),
            location: self.location().clone(),
            source: Box::new(Cause::new("flaky")),
        })
    }
    async fn thaw(&self, _: &Key, tier: ThawTier, days: u32) -> Result<()> {
        self.asked.lock().unwrap().push((tier, days));
        Ok(())
    }
}

fn archived() -> Readiness {
    Readiness::Archived("GLACIER".to_owned())
}

fn thawing() -> Readiness {
    Readiness::Thawing("GLACIER".to_owned())
}

fn keeper(tier: &Arc<Tier>) -> (Keeper, BackupSource) {
    let storage = Arc::clone(tier) as Arc<dyn Storage>;
    let source = BackupSource::foreign(Arc::clone(&storage), Key::new("monthly.dump").unwrap());
    (Keeper::of(storage, Layout::Flat, "test"), source)
}

#[tokio::test(start_paused = true)]
async fn what_is_archived_is_asked_for_once_and_waited_for() {
    for (tells, asked, waits) in [
        (vec![Some(Readiness::Ready)], 0, 0),
        (vec![Some(archived()), Some(thawing()), Some(thawing()), Some(Readiness::Ready)], 1, 2),
        (vec![Some(archived()), Some(archived()), Some(thawing()), Some(Readiness::Ready)], 1, 2),
        (vec![Some(thawing()), None, Some(thawing()), Some(Readiness::Ready)], 0, 1),
    ] {
        let tier = Tier::telling(tells.clone());
        let (keeper, source) = keeper(&tier);
        let mut heard = Vec::new();
        keeper.thaw(&source, &ThawOptions::new(ThawTier::Bulk), |waited| heard.push(waited)).await.unwrap();
        assert_eq!(heard.len(), waits, "{tells:?}");
        assert!(heard.iter().all(|waited| *waited >= Duration::from_mins(1)), "{heard:?}");
        assert_eq!(*tier.asked.lock().unwrap(), vec![(ThawTier::Bulk, 3); asked], "{tells:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn waiting_can_be_ended() {
    let tier = Tier::telling([Some(thawing())]);
    let (keeper, source) = keeper(&tier);
    let cancel = keeper.cancel.clone();
    let mut asked = 0;
    let options = ThawOptions::new(ThawTier::Standard);
    let ended = keeper.thaw(&source, &options, |_| {
        asked += 1;
        if asked == 3 {
            cancel.cancel();
        }
    });
    assert_eq!(ended.await.unwrap_err().kind(), ErrorKind::Interrupted);
    assert_eq!(asked, 3);
}
