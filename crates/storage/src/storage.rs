//! What a store promises.

use std::fmt::Debug;
use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

use crate::{BucketFacts, Error, Key, Location, Result};

/// The bytes of an object, in order, in pieces of any size.
pub type ByteStream = BoxStream<'static, Result<Bytes>>;

/// A place for objects. Names are [`Key`]s; an object is visible whole or not at all.
///
/// Futures may be dropped at any point: what was visible stays, what was not finished stays invisible.
/// Every implementation passes `conformance::run`.
#[async_trait]
pub trait Storage: Debug + Send + Sync + 'static {
    /// Where this is, for people. Never holds a secret.
    fn location(&self) -> &Location;
    /// Begins an object. Nothing is visible at `key` until [`ObjectWriter::finish`] returns; an existing object is replaced then.
    async fn write(&self, key: &Key, options: &WriteOptions) -> Result<Box<dyn ObjectWriter>>;
    /// Stores a small object only where there is none. Losing the race is a value, not an error.
    ///
    /// Should an answer get lost on the way, the object found there counts as ours if it holds the very
    /// same bytes: callers that race must write different ones.
    async fn create(&self, key: &Key, bytes: Bytes) -> Result<Created>;
    /// Reads an object, or `range` of its bytes. A range that does not lie inside the object is
    /// [`Error::OutOfRange`], never a short answer; an object that is replaced meanwhile is [`Error::Changed`].
    async fn read(&self, key: &Key, range: Option<Range<u64>>) -> Result<ByteStream>;
    /// Size, time and the store's checksum of an object; [`Error::NotFound`] if there is none.
    async fn head(&self, key: &Key) -> Result<ObjectInfo>;
    /// Every object strictly below `prefix` (at a `/` boundary), in no particular order. A listing that
    /// could not be completed ends in an error. Names that are no [`Key`]s are somebody else's: left out.
    fn list(&self, prefix: &Key) -> BoxStream<'static, Result<ObjectInfo>>;
    /// Removes an object. Removing what is not there succeeds.
    async fn delete(&self, key: &Key) -> Result<()>;

    /// Whether [`create`](Self::create) is atomic here, as far as is known without asking.
    fn conditional_writes(&self) -> Support {
        Support::Unknown
    }

    /// Finds out whether [`create`](Self::create) is atomic here, with an object of its own below `scratch`.
    async fn probe_conditional_writes(&self, scratch: &Key) -> Result<Support> {
        let probe = scratch.join(&format!("probe-{:016x}", rand::random::<u64>()))?;
        let outcome = async {
            self.create(&probe, Bytes::from_static(b"first")).await?;
            self.create(&probe, Bytes::from_static(b"second")).await
        }
        .await;
        self.delete(&probe).await?;
        Ok(if outcome? == Created::Exists { Support::Yes } else { Support::No })
    }

    /// Objects that were begun before that moment (milliseconds since 1970-01-01 UTC) and neither finished nor given
    /// up: they take space, and money, unseen. `None`: the store has no way to tell.
    async fn unfinished(&self, _begun_before_ms: i64) -> Result<Option<Vec<Unfinished>>> {
        Ok(None)
    }

    /// Discards what [`unfinished`](Self::unfinished) told of. Discarding what is gone succeeds.
    async fn discard(&self, unfinished: &Unfinished) -> Result<()> {
        Err(Error::Invalid {
            location: self.location().clone(),
            reason: format!("{} cannot be discarded here", unfinished.key),
        })
    }

    /// Stores a small object the way large ones are stored, in parts where the store has them: what works here works
    /// for an archive.
    async fn probe_parts(&self, key: &Key, bytes: Bytes, options: &WriteOptions) -> Result<()> {
        let mut writer = self.write(key, options).await?;
        writer.write(bytes).await?;
        writer.finish().await.map(drop)
    }

    /// Begins an object in parts and gives it up.
    async fn probe_abort(&self, key: &Key) -> Result<()> {
        self.write(key, &WriteOptions::default()).await?.abort().await
    }

    /// What the bucket is set to; `None` where there is no such thing to ask for.
    async fn bucket_facts(&self) -> Option<BucketFacts> {
        None
    }

    /// Removes what a store that keeps versions still has of a deleted object, and the mark of its deletion; how many there were.
    async fn forget_versions(&self, _key: &Key) -> Result<u64> {
        Ok(0)
    }

    /// Whether an object can be read now, or lies in an archive tier.
    async fn readiness(&self, _key: &Key) -> Result<Readiness> {
        Ok(Readiness::Ready)
    }

    /// Asks for an object to be brought out of its archive tier, for so many days. That takes minutes to days;
    /// [`readiness`](Self::readiness) tells. Asking for what is on its way or there already succeeds.
    async fn thaw(&self, key: &Key, _tier: ThawTier, _days: u32) -> Result<()> {
        Err(Error::Invalid {
            location: self.location().clone(),
            reason: format!("{key} cannot be brought out of an archive tier here"),
        })
    }

    /// Bytes that can still be written here, where there is such a number.
    async fn free_bytes(&self) -> Result<Option<u64>> {
        Ok(None)
    }
}

/// An object being written. Dropped without [`finish`](Self::finish), it leaves nothing visible.
#[async_trait]
pub trait ObjectWriter: Debug + Send {
    /// Takes the next bytes; waits while too much is in flight.
    async fn write(&mut self, chunk: Bytes) -> Result<()>;
    /// Completes the object: durable and visible when this returns. Fails if any write did.
    async fn finish(self: Box<Self>) -> Result<ObjectInfo>;
    /// Gives it up and removes what was stored of it.
    async fn abort(self: Box<Self>) -> Result<()>;
}

/// Options of [`Storage::write`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WriteOptions {
    /// The store's storage class (`STANDARD_IA`); `None` is the store's default. Ignored by stores that have none.
    pub storage_class: Option<String>,
    /// An upper estimate of the object's size in bytes, to choose the part size by; 0 is unknown.
    pub expected_bytes: u64,
}

/// What [`Storage::create`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// The object is now there.
    Created,
    /// There was one already; it is untouched.
    Exists,
}

/// Whether a store can do something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// It can.
    Yes,
    /// It can't; there is a fallback with a weaker promise.
    No,
    /// Not known before it was tried.
    Unknown,
}

/// What a store knows of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its name.
    pub key: Key,
    /// Its size in bytes.
    pub bytes: u64,
    /// When it was last written, by the store's clock, in milliseconds since 1970-01-01 UTC.
    pub modified_ms: i64,
    /// The store's entity tag, where it has one.
    pub e_tag: Option<String>,
    /// Its storage class, where the store tells.
    pub storage_class: Option<String>,
}

/// Whether an object can be read now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// It can.
    Ready,
    /// It lies in an archive tier, of this storage class.
    Archived(String),
    /// It lies there, and was asked for.
    Thawing(String),
}

/// How soon an object is wanted out of an archive tier; sooner costs more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ThawTier {
    /// Within hours.
    #[default]
    Standard,
    /// Within half a day or two, for little.
    Bulk,
    /// Within minutes, where there is such a thing.
    Expedited,
}

impl ThawTier {
    /// Its word: `standard`, `bulk`, `expedited`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Bulk => "bulk",
            Self::Expedited => "expedited",
        }
    }
}

/// An object that was begun and never finished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfinished {
    /// What it was to become, as far as can be told; for a file, its temporary name.
    pub key: Key,
    /// When it was begun (or last written to), in milliseconds since 1970-01-01 UTC.
    pub begun_ms: i64,
    /// The store's handle of it; empty where the key says it all.
    pub upload: String,
}
