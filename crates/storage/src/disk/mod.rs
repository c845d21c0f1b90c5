//! Objects as files of a local directory: atomic, durable, private.
//!
//! Object `a/b` is the file `a/b` below the root. It is written beside its place under a hidden temporary name,
//! synced, renamed (or, for a creation, linked) into place, and the directory is synced too; so a crash at
//! any point leaves the old object, or the new one, and at most a temporary file that
//! [`Storage::unfinished`] finds. Files are 0600 in directories 0700, whatever the umask allows beyond that.
//!
//! Every path is walked from the root, directory by directory, following no symbolic link: a key leads
//! nowhere else, even if somebody else can write below the root. The root itself may be a link.

mod dir;
mod reader;
mod writer;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use rustix::io::Errno;

use self::dir::{Dir, Kind, Stat};
use self::writer::DiskWriter;
use crate::classify::io_error;
use crate::{
    ByteStream, Created, Error, Key, Location, ObjectInfo, ObjectWriter, Result, Storage, Support, Unfinished,
    WriteOptions,
};

/// Between a hidden dot, the object's name, and a random number: the mark of temporary names.
const PARTIAL: &str = ".partial-";
/// Directories that file systems put there by themselves, and that hold no objects of ours.
const FOREIGN_DIRECTORIES: [&str; 3] = ["lost+found", ".snapshot", ".zfs"];

/// A local directory as a store.
#[derive(Debug, Clone)]
pub struct DiskStorage {
    place: Arc<Place>,
}

/// Root and its name; what every blocking operation needs.
#[derive(Debug)]
struct Place {
    root: PathBuf,
    location: Location,
}

impl DiskStorage {
    /// The store in directory `root`, an absolute path; it is made when the first object is written.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self> {
        let root = root.into();
        let location = Location::new(format!("file://{}", root.display()));
        if !root.is_absolute() {
            return Err(Error::Invalid { location, reason: "the path of a local store must be absolute".to_owned() });
        }
        Ok(Self { place: Arc::new(Place { root, location }) })
    }

    /// The root directory.
    pub fn root(&self) -> &Path {
        &self.place.root
    }

    /// The store that begins at `prefix` within this one.
    pub fn below(&self, prefix: &Key) -> Result<Self> {
        if prefix.is_root() { Ok(self.clone()) } else { Self::open(self.place.root.join(prefix.as_str())) }
    }

    /// Runs `work` where blocking is allowed and names its error.
    async fn blocking<T: Send + 'static>(
        &self,
        doing: String,
        work: impl FnOnce(&Place) -> std::io::Result<T> + Send + 'static,
    ) -> Result<T> {
        let place = Arc::clone(&self.place);
        run_blocking(move || work(&place).map_err(|error| place.error(&doing, &error))).await
    }
}

/// Runs `work` on a thread that may block.
async fn run_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(failed) => match failed.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is going down, and this task with it.
            Err(_) => std::future::pending().await,
        },
    }
}

#[async_trait]
impl Storage for DiskStorage {
    fn location(&self) -> &Location {
        &self.place.location
    }

    async fn write(&self, key: &Key, _options: &WriteOptions) -> Result<Box<dyn ObjectWriter>> {
        Ok(Box::new(DiskWriter::begin(Arc::clone(&self.place), key.clone()).await?))
    }

    async fn create(&self, key: &Key, bytes: Bytes) -> Result<Created> {
        let mut writer = DiskWriter::begin(Arc::clone(&self.place), key.clone()).await?;
        writer.write(bytes).await?;
        writer.link().await
    }

    async fn read(&self, key: &Key, range: Option<Range<u64>>) -> Result<ByteStream> {
        reader::open(Arc::clone(&self.place), key.clone(), range).await
    }

    async fn head(&self, key: &Key) -> Result<ObjectInfo> {
        let wanted = key.clone();
        let found = self.blocking(format!("look up {key}"), move |place| place.info(&wanted)).await?;
        found.ok_or_else(|| self.place.not_found(key))
    }

    fn list(&self, prefix: &Key) -> BoxStream<'static, Result<ObjectInfo>> {
        self.walk(prefix.clone(), |key, stat| (!is_partial(key.name())).then(|| object_info(key, stat)))
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        let key = key.clone();
        self.blocking(format!("delete {key}"), move |place| place.remove(&key)).await
    }

    fn conditional_writes(&self) -> Support {
        Support::Yes
    }

    async fn unfinished(&self, begun_before_ms: i64) -> Result<Option<Vec<Unfinished>>> {
        let found = self.walk(Key::root(), move |key, stat| {
            let (begun_ms, upload) = (stat.modified_ms, String::new());
            (is_partial(key.name()) && begun_ms < begun_before_ms).then_some(Unfinished { key, begun_ms, upload })
        });
        found.try_collect().await.map(Some)
    }

    async fn discard(&self, unfinished: &Unfinished) -> Result<()> {
        if !is_partial(unfinished.key.name()) {
            let reason = format!("{} is no unfinished object", unfinished.key);
            return Err(Error::Invalid { location: self.location().clone(), reason });
        }
        self.delete(&unfinished.key).await
    }

    async fn free_bytes(&self) -> Result<Option<u64>> {
        self.blocking("tell the free space".to_owned(), |place| Ok(Some(place.free_bytes()?))).await
    }
}

impl DiskStorage {
    /// What `keep` makes of every file below `prefix`, directory by directory.
    fn walk<T: Send + 'static>(
        &self,
        prefix: Key,
        keep: impl Fn(Key, Stat) -> Option<T> + Send + Sync + 'static,
    ) -> BoxStream<'static, Result<T>> {
        let storage = self.clone();
        let keep = Arc::new(keep);
        let pending = vec![prefix];
        stream::try_unfold(pending, move |mut pending| {
            let storage = storage.clone();
            let keep = Arc::clone(&keep);
            async move {
                let Some(directory) = pending.pop() else { return Ok(None) };
                let doing = format!("list {directory}").trim_end().to_owned();
                let (kept, below) =
                    storage.blocking(doing, move |place| place.read_directory(&directory, keep.as_ref())).await?;
                pending.extend(below);
                Ok(Some((stream::iter(kept.into_iter().map(Ok)), pending)))
            }
        })
        .try_flatten()
        .boxed()
    }
}

impl Place {
    fn error(&self, doing: &str, error: &std::io::Error) -> Error {
        io_error(doing, &self.location, error, || self.free_bytes().ok())
    }

    fn not_found(&self, key: &Key) -> Error {
        Error::NotFound { key: key.to_string(), location: self.location.clone() }
    }

    /// The directory that holds `key`, if it is there.
    fn holder(&self, key: &Key) -> std::io::Result<Option<Dir>> {
        self.directory(&key.parent().unwrap_or_else(Key::root))
    }

    /// The directory `key`, if it is there.
    fn directory(&self, key: &Key) -> std::io::Result<Option<Dir>> {
        let walked = key.segments().try_fold(Dir::root(&self.root), |dir, name| dir.map(|dir| dir.enter(name)));
        match walked.and_then(std::convert::identity) {
            Ok(dir) => Ok(Some(dir)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The directory that holds `key`, made if need be.
    fn make_holder(&self, key: &Key) -> std::io::Result<Dir> {
        let mut dir = Dir::make_root(&self.root)?;
        for name in key.parent().unwrap_or_else(Key::root).segments() {
            dir = dir.enter_or_make(name)?;
        }
        Ok(dir)
    }

    fn info(&self, key: &Key) -> std::io::Result<Option<ObjectInfo>> {
        let Some(dir) = self.holder(key)? else { return Ok(None) };
        let Some(stat) = dir.stat(key.name())? else { return Ok(None) };
        if stat.kind != Kind::File || is_partial(key.name()) {
            return Ok(None);
        }
        Ok(Some(object_info(key.clone(), stat)))
    }

    /// Removes the file and the directories that become empty by it.
    fn remove(&self, key: &Key) -> std::io::Result<()> {
        let Some(dir) = self.holder(key)? else { return Ok(()) };
        if dir.stat(key.name())?.is_none_or(|stat| stat.kind == Kind::Directory) {
            return Ok(());
        }
        dir.unlink(key.name())?;
        dir.sync()?;
        self.remove_emptied(key);
        Ok(())
    }

    /// Removes the directories above `key` that hold nothing any more; those that stay do no harm.
    fn remove_emptied(&self, key: &Key) {
        let mut emptied = key.parent();
        while let Some(key) = emptied.filter(|key| !key.is_root()) {
            let Ok(Some(dir)) = self.holder(&key) else { break };
            if dir.remove_empty(key.name()).is_err() {
                break;
            }
            emptied = key.parent();
        }
    }

    fn read_directory<T>(
        &self,
        key: &Key,
        keep: &impl Fn(Key, Stat) -> Option<T>,
    ) -> std::io::Result<(Vec<T>, Vec<Key>)> {
        let (mut kept, mut below) = (Vec::new(), Vec::new());
        let Some(dir) = self.directory(key)? else { return Ok((kept, below)) };
        for name in dir.names()? {
            let Ok(child) = key.join(&name) else { continue };
            // Gone since the directory was read: as if it had gone before.
            let Some(stat) = dir.stat(&name)? else { continue };
            match stat.kind {
                Kind::Directory if FOREIGN_DIRECTORIES.contains(&name.as_str()) => {}
                Kind::Directory => below.push(child),
                Kind::File => kept.extend(keep(child, stat)),
                Kind::Other => {}
            }
        }
        Ok((kept, below))
    }

    /// Free space of the file system that holds the root, or will hold it.
    fn free_bytes(&self) -> std::io::Result<u64> {
        let mut path = self.root.as_path();
        loop {
            match rustix::fs::statvfs(path) {
                Ok(stat) => return Ok(stat.f_bavail.saturating_mul(stat.f_frsize)),
                Err(Errno::NOENT) => path = path.parent().ok_or(Errno::NOENT)?,
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn object_info(key: Key, stat: Stat) -> ObjectInfo {
    ObjectInfo { key, bytes: stat.bytes, modified_ms: stat.modified_ms, e_tag: None, storage_class: None }
}

/// The temporary name of an object's file; as much of the name as fits is kept for people to see.
fn partial_name(name: &str) -> String {
    let mut end = name.len().min(255 - 1 - PARTIAL.len() - 16);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    format!(".{}{PARTIAL}{:016x}", &name[..end], rand::random::<u64>())
}

/// Whether that is a temporary name.
fn is_partial(name: &str) -> bool {
    let Some(rest) = name.strip_prefix('.') else { return false };
    rest.rsplit_once(PARTIAL)
        .is_some_and(|(_, number)| number.len() == 16 && number.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temporary_names() {
        assert!(is_partial(&partial_name("daily.dump")));
        assert!(is_partial(&partial_name(&"ü".repeat(127))));
        assert!(partial_name(&"ü".repeat(127)).len() <= 255);
        for name in ["a", ".a", ".pgkeep", ".a.partial-", ".a.partial-0123", "a.partial-0123456789abcdef"] {
            assert!(!is_partial(name), "{name}");
        }
    }

    #[test]
    fn a_relative_root_is_refused() {
        assert!(DiskStorage::open("backups").is_err());
    }
}
