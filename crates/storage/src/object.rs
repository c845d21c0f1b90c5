//! [`Storage`] over any store of the `object_store` crate.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use object_store::Error as Theirs;
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions,
    PutOptions,
};

use crate::bucket;
use crate::classify::{Facts, store_error};
use crate::download;
use crate::upload::Upload;
use crate::{
    BucketFacts, ByteStream, Created, DiskStorage, Error, ErrorKind, Key, Location, ObjectInfo, ObjectWriter,
    PartRules, Readiness, Result, Storage, StorageExt, Support, ThawTier, Unfinished, WriteOptions,
};

/// How often a creation whose answer was lost, or that met another, is tried.
const CREATE_ATTEMPTS: u32 = 6;
/// The pause before the second attempt; it doubles.
const CREATE_PAUSE: Duration = Duration::from_millis(100);

/// A store of the `object_store` crate, or what lies below a prefix of one, as a [`Storage`].
#[derive(Clone)]
pub struct ObjectStorage {
    pub(crate) inner: Arc<Inner>,
}

/// The store, and all that is known of it.
pub(crate) struct Inner {
    pub(crate) clients: Clients,
    pub(crate) location: Location,
    pub(crate) prefix: Path,
    pub(crate) transfer: Transfer,
    pub(crate) conditional: Arc<AtomicU8>,
    pub(crate) uploads: Option<Arc<dyn UnfinishedUploads>>,
}

/// One store, reached with more or less patience.
#[derive(Clone)]
pub(crate) struct Clients {
    /// For bulk data: hours of work hang on each request, so it retries long.
    pub(crate) patient: Arc<dyn ObjectStore>,
    /// For small requests: somebody may be waiting at a terminal.
    pub(crate) quick: Arc<dyn ObjectStore>,
    /// For creations: never retries by itself, since a repeated one may meet its own object.
    pub(crate) once: Arc<dyn ObjectStore>,
}

/// How large objects are moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    /// How objects are cut for writing.
    pub part_rules: PartRules,
    /// How much one request reads, in bytes.
    pub read_bytes: u64,
    /// How many such requests run side by side, ahead of the reader.
    pub reads_in_flight: usize,
    /// How long a part that is being stored or read is tried again without any success.
    pub patience: Duration,
}

/// What `object_store` does not offer: uploads that were begun and never finished, settings, versions, archive tiers.
#[async_trait]
pub(crate) trait UnfinishedUploads: Send + Sync {
    /// Those below `prefix`, with full keys.
    async fn list(&self, prefix: &Path) -> object_store::Result<Vec<Unfinished>>;
    /// Asks for an object to be brought out of its archive tier for so many days.
    async fn thaw(&self, path: &Path, tier: ThawTier, days: u32) -> object_store::Result<()>;
    /// Removes one.
    async fn abort(&self, path: &Path, upload: &str) -> object_store::Result<()>;
    /// The XML of one of the bucket's settings: `versioning`.
    async fn setting(&self, name: &str) -> object_store::Result<String>;
    /// The versions of the object at `path`, deletion marks among them.
    async fn versions(&self, path: &Path) -> object_store::Result<Vec<String>>;
    /// Removes one for good.
    async fn delete_version(&self, path: &Path, version: &str) -> object_store::Result<()>;
}

impl Default for Transfer {
    /// Any S3 server's part rules, three reads of 16 MiB, ten minutes of patience.
    fn default() -> Self {
        Self {
            part_rules: PartRules::S3_COMPATIBLE,
            read_bytes: 16 * 1024 * 1024,
            reads_in_flight: 3,
            patience: Duration::from_mins(10),
        }
    }
}

impl Clients {
    pub(crate) fn same(store: Arc<dyn ObjectStore>) -> Self {
        Self { patient: Arc::clone(&store), quick: Arc::clone(&store), once: store }
    }
}

impl ObjectStorage {
    /// Any store of the `object_store` crate; keys are relative to `prefix`.
    pub fn new(store: Arc<dyn ObjectStore>, prefix: &Key, location: Location, transfer: Transfer) -> Self {
        Self::assemble(Clients::same(store), prefix, location, transfer)
    }

    pub(crate) fn assemble(clients: Clients, prefix: &Key, location: Location, transfer: Transfer) -> Self {
        let prefix = parse(prefix);
        let conditional = Arc::new(AtomicU8::new(Support::Unknown as u8));
        let inner = Inner { clients, location, prefix, transfer, conditional, uploads: None };
        Self { inner: Arc::new(inner) }
    }

    #[cfg(feature = "aws")]
    pub(crate) fn with_unfinished(mut self, uploads: Arc<dyn UnfinishedUploads>) -> Self {
        let inner = Arc::get_mut(&mut self.inner).expect("only called while it is assembled");
        inner.uploads = Some(uploads);
        self
    }

    /// A store in memory, for tests and previews; gone with its last clone.
    pub fn memory() -> Self {
        let store = Arc::new(object_store::memory::InMemory::new());
        let transfer = Transfer { part_rules: PartRules::S3, ..Transfer::default() };
        let storage = Self::new(store, &Key::root(), Location::new("memory"), transfer);
        storage.inner.learn(Support::Yes);
        storage
    }

    /// The local directory `root`, an absolute path.
    pub fn local(root: impl Into<PathBuf>) -> Result<DiskStorage> {
        DiskStorage::open(root)
    }

    /// The store that begins at `prefix` within this one.
    pub fn below(&self, prefix: &Key) -> Result<Self> {
        let whole = Key::root().join(self.inner.prefix.as_ref()).unwrap_or_else(|_| Key::root());
        let joined = if prefix.is_root() { whole } else { whole.join(prefix.as_str())? };
        let location = format!("{}/{prefix}", self.inner.location).trim_end_matches('/').to_owned();
        let inner = Inner {
            clients: self.inner.clients.clone(),
            location: Location::new(location),
            prefix: parse(&joined),
            transfer: self.inner.transfer.clone(),
            conditional: Arc::clone(&self.inner.conditional),
            uploads: self.inner.uploads.clone(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// How large objects are moved here.
    pub fn transfer(&self) -> &Transfer {
        &self.inner.transfer
    }

    /// Where nothing can be created conditionally: look, then write.
    async fn create_unless_seen(&self, key: &Key, bytes: Bytes) -> Result<Created> {
        if self.exists(key).await? {
            return Ok(Created::Exists);
        }
        let inner = &self.inner;
        let stored = inner.clients.quick.put(&inner.path(key)?, bytes.into()).await;
        stored.map_err(|error| inner.error("create", key, &error))?;
        Ok(Created::Created)
    }

    async fn begin_parts(&self, key: &Key, options: &WriteOptions) -> Result<Box<dyn MultipartUpload>> {
        let inner = &self.inner;
        let mut attributes = Attributes::new();
        if let Some(class) = &options.storage_class {
            attributes.insert(Attribute::StorageClass, class.clone().into());
        }
        let options = PutMultipartOptions { attributes, ..PutMultipartOptions::default() };
        let begun = inner.clients.quick.put_multipart_opts(&inner.path(key)?, options).await;
        begun.map_err(|error| inner.error("begin in parts", key, &error))
    }

    async fn holds(&self, key: &Key, bytes: &Bytes) -> Result<bool> {
        match self.read_all(key, bytes.len() as u64).await {
            Ok(found) => Ok(found == bytes),
            Err(Error::TooLarge { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

#[async_trait]
impl Storage for ObjectStorage {
    fn location(&self) -> &Location {
        &self.inner.location
    }

    async fn write(&self, key: &Key, options: &WriteOptions) -> Result<Box<dyn ObjectWriter>> {
        Ok(Box::new(Upload::new(Arc::clone(&self.inner), key.clone(), options)?))
    }

    async fn create(&self, key: &Key, bytes: Bytes) -> Result<Created> {
        if self.inner.support() == Support::No {
            return self.create_unless_seen(key, bytes).await;
        }
        let path = self.inner.path(key)?;
        let mut answer_lost = false;
        let mut attempt = 0;
        loop {
            attempt += 1;
            let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
            let Err(error) = self.inner.clients.once.put_opts(&path, bytes.clone().into(), options).await else {
                return Ok(Created::Created);
            };
            let facts = Facts::of(&error);
            let ours = || self.inner.error("create", key, &error);
            match &error {
                Theirs::AlreadyExists { .. } | Theirs::Precondition { .. } | Theirs::NotModified { .. } => {
                    let found = if answer_lost { self.holds(key, &bytes).await } else { self.exists(key).await };
                    match (found, answer_lost) {
                        (Ok(true), true) => return Ok(Created::Created),
                        (Ok(true), false) | (Ok(false), true) => return Ok(Created::Exists),
                        // 409: another creation or a deletion is under way; soon we shall know.
                        (Ok(false), false) | (Err(Error::NotFound { .. }), _) if attempt < CREATE_ATTEMPTS => {}
                        (Ok(false), false) | (Err(Error::NotFound { .. }), _) => return Err(ours()),
                        (Err(error), _) => return Err(error),
                    }
                }
                _ if ours().kind() == ErrorKind::Unsupported => {
                    tracing::warn!(location = %self.inner.location, "conditional writes are not supported; looking before writing instead");
                    self.inner.learn(Support::No);
                    return self.create_unless_seen(key, bytes).await;
                }
                _ if facts.is_passing() && attempt < CREATE_ATTEMPTS => answer_lost = true,
                _ => return Err(ours()),
            }
            tokio::time::sleep(CREATE_PAUSE * 2u32.pow(attempt - 1)).await;
        }
    }

    async fn read(&self, key: &Key, range: Option<Range<u64>>) -> Result<ByteStream> {
        download::open(Arc::clone(&self.inner), key.clone(), range).await
    }

    async fn head(&self, key: &Key) -> Result<ObjectInfo> {
        self.inner.head(key).await
    }

    fn list(&self, prefix: &Key) -> BoxStream<'static, Result<ObjectInfo>> {
        let inner = Arc::clone(&self.inner);
        let wanted = prefix.clone();
        let path = match inner.path(prefix) {
            Ok(path) => path,
            Err(error) => return stream::once(async { Err(error) }).boxed(),
        };
        let found = inner.clients.quick.list(Some(&path));
        found
            .filter_map(move |found| {
                let answer = match found {
                    Ok(meta) => inner.relative(&meta.location).map(|key| Ok(info(key, meta))),
                    Err(error) => Some(Err(inner.error("list", &wanted, &error))),
                };
                std::future::ready(answer)
            })
            .boxed()
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        let inner = &self.inner;
        match inner.clients.quick.delete(&inner.path(key)?).await {
            Ok(()) => Ok(()),
            Err(error) => match inner.error("delete", key, &error) {
                Error::NotFound { .. } => Ok(()),
                error => Err(error),
            },
        }
    }

    fn conditional_writes(&self) -> Support {
        self.inner.support()
    }

    async fn probe_conditional_writes(&self, scratch: &Key) -> Result<Support> {
        let probe = scratch.join(&format!("probe-{:016x}", rand::random::<u64>()))?;
        self.create(&probe, Bytes::from_static(b"first")).await?;
        let second = match self.inner.support() {
            Support::No => Ok(Support::No),
            _ => self.create(&probe, Bytes::from_static(b"second")).await.map(|created| match created {
                Created::Exists => Support::Yes,
                // Taken without a word, and written over.
                Created::Created => Support::No,
            }),
        };
        self.delete(&probe).await?;
        let support = second?;
        self.inner.learn(support);
        Ok(support)
    }

    async fn unfinished(&self, begun_before_ms: i64) -> Result<Option<Vec<Unfinished>>> {
        let inner = &self.inner;
        let Some(uploads) = &inner.uploads else { return Ok(None) };
        let found = match uploads
            .list(&inner.prefix)
            .await
            .map_err(|error| inner.error("list unfinished uploads", &Key::root(), &error))
        {
            Ok(found) => found,
            Err(Error::Unsupported { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let ours = found.into_iter().filter(|upload| upload.begun_ms < begun_before_ms).filter_map(|upload| {
            let key = inner.relative(&parse(&upload.key))?;
            Some(Unfinished { key, ..upload })
        });
        Ok(Some(ours.collect()))
    }

    async fn readiness(&self, key: &Key) -> Result<Readiness> {
        let inner = &self.inner;
        let options = object_store::GetOptions { head: true, ..Default::default() };
        let found = inner.clients.quick.get_opts(&inner.path(key)?, options).await;
        let found = found.map_err(|error| inner.error("look up", key, &error))?;
        let class = found.extensions.get::<StorageClass>().map(|class| class.0.as_str());
        Ok(readiness(class, &found.extensions.get::<Thaw>().cloned().unwrap_or_default()))
    }

    async fn thaw(&self, key: &Key, tier: ThawTier, days: u32) -> Result<()> {
        let inner = &self.inner;
        let Some(requests) = &inner.uploads else {
            let reason = format!("{key} cannot be brought out of an archive tier here");
            return Err(Error::Invalid { location: inner.location.clone(), reason });
        };
        match requests.thaw(&inner.path(key)?, tier, days).await {
            Ok(()) => Ok(()),
            Err(error) if Facts::of(&error).code() == "RestoreAlreadyInProgress" => Ok(()),
            Err(error) => Err(inner.error("thaw", key, &error)),
        }
    }

    async fn discard(&self, unfinished: &Unfinished) -> Result<()> {
        let inner = &self.inner;
        let Some(uploads) = &inner.uploads else {
            let reason = format!("the upload of {} cannot be discarded here", unfinished.key);
            return Err(Error::Invalid { location: inner.location.clone(), reason });
        };
        match uploads.abort(&inner.path(&unfinished.key)?, &unfinished.upload).await {
            Ok(()) => Ok(()),
            Err(error) if Facts::of(&error).code() == "NoSuchUpload" => Ok(()),
            Err(error) => Err(inner.error("discard the upload of", &unfinished.key, &error)),
        }
    }

    async fn probe_parts(&self, key: &Key, bytes: Bytes, options: &WriteOptions) -> Result<()> {
        let mut upload = self.begin_parts(key, options).await?;
        let stored = async {
            upload.put_part(bytes.into()).await?;
            upload.complete().await
        };
        let stored = stored.await;
        match stored {
            Ok(_) => Ok(()),
            Err(error) => {
                let _ = upload.abort().await;
                Err(self.inner.error("write in parts", key, &error))
            }
        }
    }

    async fn probe_abort(&self, key: &Key) -> Result<()> {
        let mut upload = self.begin_parts(key, &WriteOptions::default()).await?;
        upload.abort().await.map_err(|error| self.inner.error("give up", key, &error))
    }

    async fn bucket_facts(&self) -> Option<BucketFacts> {
        let inner = &self.inner;
        let uploads = inner.uploads.as_ref()?.as_ref();
        Some(BucketFacts {
            versioned: inner.setting(uploads, "versioning", bucket::versioned).await,
            lifecycle: inner.setting(uploads, "lifecycle", bucket::lifecycle).await,
            object_lock: inner.setting(uploads, "object-lock", bucket::object_lock).await,
            encryption: inner.setting(uploads, "encryption", bucket::encryption).await,
        })
    }

    async fn forget_versions(&self, key: &Key) -> Result<u64> {
        let inner = &self.inner;
        let Some(uploads) = &inner.uploads else { return Ok(0) };
        let path = inner.path(key)?;
        let failed = |error| inner.error("remove the versions of", key, &error);
        let versions = uploads.versions(&path).await.map_err(failed)?;
        for version in &versions {
            uploads.delete_version(&path, version).await.map_err(failed)?;
        }
        Ok(versions.len() as u64)
    }
}

/// Storage classes out of which an object has to be brought before it can be read.
const ARCHIVE_TIERS: [&str; 2] = ["GLACIER", "DEEP_ARCHIVE"];

/// What an answer told of an archive tier; rides in its extensions.
#[derive(Debug, Clone, Default)]
pub(crate) struct Thaw {
    /// `ongoing-request="false", expiry-date="…"`.
    pub(crate) restore: Option<String>,
    /// `ARCHIVE_ACCESS` and the like, of objects that were moved there for lack of use.
    pub(crate) archive_status: Option<String>,
}

/// What the headers of an object say (Amazon S3 API Reference, HeadObject).
fn readiness(storage_class: Option<&str>, thaw: &Thaw) -> Readiness {
    let archived = storage_class.filter(|class| ARCHIVE_TIERS.contains(class));
    let Some(tier) = archived.or(thaw.archive_status.as_deref()) else { return Readiness::Ready };
    match thaw.restore.as_deref() {
        Some(restore) if restore.contains("ongoing-request=\"true\"") => Readiness::Thawing(tier.to_owned()),
        Some(restore) if restore.contains("ongoing-request=\"false\"") => Readiness::Ready,
        _ => Readiness::Archived(tier.to_owned()),
    }
}

impl Inner {
    /// One of the bucket's settings, read by `parse`; a bucket that has none of the kind is read as an empty answer.
    async fn setting<T>(
        &self,
        uploads: &dyn UnfinishedUploads,
        name: &str,
        parse: impl FnOnce(&str) -> T,
    ) -> Result<T> {
        match uploads.setting(name).await {
            Ok(answer) => Ok(parse(&answer)),
            Err(error) => match self.error(&format!("tell its {name} setting"), &Key::root(), &error) {
                Error::NotFound { .. } => Ok(parse("")),
                error
                    if error.cause().is_some_and(|cause| cause.status == Some(404))
                        && error.kind() != ErrorKind::NoStore =>
                {
                    Ok(parse(""))
                }
                error => Err(error),
            },
        }
    }

    pub(crate) fn error(&self, verb: &str, key: &Key, error: &object_store::Error) -> Error {
        store_error(verb, key, &self.location, error)
    }

    /// The full path of `key`.
    pub(crate) fn path(&self, key: &Key) -> Result<Path> {
        let whole = if self.prefix.is_root() || key.is_root() {
            format!("{}{key}", self.prefix)
        } else {
            format!("{}/{key}", self.prefix)
        };
        Path::parse(&whole).map_err(|_| Error::InvalidKey { text: whole, reason: "the store takes no such name" })
    }

    /// The key of what lies at `path`; `None` if it is not below the prefix, or no key.
    fn relative(&self, path: &Path) -> Option<Key> {
        let rest = match self.prefix.as_ref() {
            "" => path.as_ref(),
            prefix => path.as_ref().strip_prefix(prefix)?.strip_prefix('/')?,
        };
        let key = Key::new(rest).ok();
        if key.is_none() {
            tracing::debug!(location = %self.location, name = rest, "not a name of ours; left out");
        }
        key
    }

    pub(crate) async fn head(&self, key: &Key) -> Result<ObjectInfo> {
        let options = object_store::GetOptions { head: true, ..Default::default() };
        match self.clients.quick.get_opts(&self.path(key)?, options).await {
            Ok(found) => {
                let storage_class = found.extensions.get::<StorageClass>().map(|class| class.0.clone());
                Ok(ObjectInfo { storage_class, ..info(key.clone(), found.meta) })
            }
            Err(error) => Err(self.error("look up", key, &error)),
        }
    }

    fn support(&self) -> Support {
        match self.conditional.load(Ordering::Relaxed) {
            known if known == Support::Yes as u8 => Support::Yes,
            known if known == Support::No as u8 => Support::No,
            _ => Support::Unknown,
        }
    }

    pub(crate) fn learn(&self, support: Support) {
        self.conditional.store(support as u8, Ordering::Relaxed);
    }
}

/// The storage class an answer told of; rides in the answer's extensions.
#[derive(Debug, Clone)]
pub(crate) struct StorageClass(pub(crate) String);

fn info(key: Key, meta: ObjectMeta) -> ObjectInfo {
    let modified_ms = meta.last_modified.timestamp_millis();
    ObjectInfo { key, bytes: meta.size, modified_ms, e_tag: meta.e_tag, storage_class: None }
}

fn parse(key: &Key) -> Path {
    Path::parse(key.as_str()).expect("a key has no segment that a path refuses")
}

impl fmt::Debug for ObjectStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectStorage").field("location", &self.inner.location.as_str()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_tell_whether_an_object_can_be_read() {
        let told = |class: Option<&str>, restore: Option<&str>, status: Option<&str>| {
            let thaw = Thaw { restore: restore.map(str::to_owned), archive_status: status.map(str::to_owned) };
            readiness(class, &thaw)
        };
        let done = Some(r#"ongoing-request="false", expiry-date="Fri, 21 Dec 2012 00:00:00 GMT""#);
        let ongoing = Some(r#"ongoing-request="true""#);
        for ready in [None, Some("STANDARD_IA"), Some("GLACIER_IR"), Some("INTELLIGENT_TIERING")] {
            assert_eq!(told(ready, None, None), Readiness::Ready);
        }
        assert_eq!(told(Some("GLACIER"), None, None), Readiness::Archived("GLACIER".to_owned()));
        assert_eq!(told(Some("DEEP_ARCHIVE"), ongoing, None), Readiness::Thawing("DEEP_ARCHIVE".to_owned()));
        assert_eq!(told(Some("GLACIER"), done, None), Readiness::Ready);
        let asleep = told(Some("INTELLIGENT_TIERING"), None, Some("ARCHIVE_ACCESS"));
        assert_eq!(asleep, Readiness::Archived("ARCHIVE_ACCESS".to_owned()));
    }
}
