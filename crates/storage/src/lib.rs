//! Named objects that appear whole or not at all: local disk, S3, GCS, Azure, memory.
//!
//! [`Storage`] is the promise; [`ObjectStorage`] keeps it over any `object_store` store.

use std::fmt::Debug;
use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

/// The bytes of an object, in order.
pub type ByteStream = BoxStream<'static, Result<Bytes>>;

/// A place for objects. Names are [`Key`]s; an object is visible whole or not at all.
#[async_trait]
pub trait Storage: Debug + Send + Sync + 'static {
    /// Where this is, for people. Never holds a secret.
    fn location(&self) -> &Location;
    /// Begins an object. Nothing is visible at `key` until [`ObjectWriter::finish`] returns; an existing object is replaced then.
    async fn write(&self, key: &Key, options: &WriteOptions) -> Result<Box<dyn ObjectWriter>>;
    /// Stores a small object only where there is none. Losing the race is a value, not an error.
    async fn create(&self, key: &Key, bytes: Bytes) -> Result<Created>;
    /// Reads an object, or `range` of its bytes.
    async fn read(&self, key: &Key, range: Option<Range<u64>>) -> Result<ByteStream>;
    /// Size, time and the store's checksum of an object; `Error::NotFound` if there is none.
    async fn head(&self, key: &Key) -> Result<ObjectInfo>;
    /// Every object whose key begins with `prefix` (at a `/` boundary), in no particular order.
    fn list(&self, prefix: &Key) -> BoxStream<'static, Result<ObjectInfo>>;
    /// Removes an object. Removing what is not there succeeds.
    async fn delete(&self, key: &Key) -> Result<()>;
}

/// An object being written. Dropped without [`finish`](Self::finish), it leaves nothing visible.
#[async_trait]
pub trait ObjectWriter: Debug + Send {
    /// Takes the next bytes; waits while too much is in flight.
    async fn write(&mut self, chunk: Bytes) -> Result<()>;
    /// Completes the object: durable and visible when this returns.
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

/// Name of an object: non-empty segments joined by `/`; the empty key is the root of a store (as a prefix only).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);

/// Where a store is: a URL for people, without any secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location(String);

/// What can go wrong in a store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no such object.
    #[error("{key} is not there")]
    NotFound {
        /// The object's key.
        key: String,
    },
}

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Key {
    /// A key from text; refuses empty segments, `.` and `..`, control characters and backslashes.
    pub fn new(text: impl Into<String>) -> Result<Self> {
        Ok(Self(text.into()))
    }
    /// The root of a store, a prefix of every key.
    pub fn root() -> Self {
        Self(String::new())
    }
    /// The key below this one.
    pub fn join(&self, rest: &str) -> Result<Self> {
        if self.0.is_empty() { Self::new(rest) } else { Self::new(format!("{}/{rest}", self.0)) }
    }
    /// The key's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
    /// The last segment.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl Location {
    /// A location from a URL that holds no secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
    /// The location's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
