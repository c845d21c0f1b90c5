//! Open directories, and what is done relative to them, following no link.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;

/// An open directory.
#[derive(Debug)]
pub(super) struct Dir(OwnedFd);

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Directory,
    /// Links, sockets, devices: nothing of ours.
    Other,
}

/// What the file system knows of a name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stat {
    pub(super) kind: Kind,
    pub(super) bytes: u64,
    pub(super) modified_ms: i64,
}

impl Dir {
    /// The root of a store, which may be reached by links.
    pub(super) fn root(path: &Path) -> rustix::io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(path, flags, Mode::empty()).map(Self)
    }

    /// The root of a store, made with its parents if need be.
    pub(super) fn make_root(path: &Path) -> rustix::io::Result<Self> {
        match Self::root(path) {
            Err(Errno::NOENT) => {}
            outcome => return outcome,
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Err(Errno::NOENT) };
        let parent = Self::make_root(parent)?;
        parent.make(name)?;
        Self::root(path)
    }

    /// A directory in this one.
    pub(super) fn enter(&self, name: &str) -> rustix::io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.0, name, flags, Mode::empty()).map(Self)
    }

    /// A directory in this one, made if need be.
    pub(super) fn enter_or_make(&self, name: &str) -> rustix::io::Result<Self> {
        match self.enter(name) {
            Err(Errno::NOENT) => {
                self.make(name)?;
                self.enter(name)
            }
            outcome => outcome,
        }
    }

    fn make(&self, name: impl rustix::path::Arg) -> rustix::io::Result<()> {
        match rustix::fs::mkdirat(&self.0, name, Mode::from_raw_mode(DIRECTORY_MODE)) {
            Ok(()) => self.sync(),
            // Somebody was faster.
            Err(Errno::EXIST) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// A new, empty file in this directory.
    pub(super) fn new_file(&self, name: &str) -> rustix::io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.0, name, flags, Mode::from_raw_mode(FILE_MODE)).map(File::from)
    }

    /// A file of this directory, for reading; never waits for the other end of a pipe.
    pub(super) fn open_file(&self, name: &str) -> rustix::io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        rustix::fs::openat(&self.0, name, flags, Mode::empty()).map(File::from)
    }

    /// Gives a file its name, replacing what has it.
    pub(super) fn rename(&self, from: &str, to: &str) -> rustix::io::Result<()> {
        rustix::fs::renameat(&self.0, from, &self.0, to)
    }

    /// Gives a file its name unless that is taken (`Errno::EXIST`): by a link, or where there are none, by a renaming that replaces nothing.
    pub(super) fn rename_new(&self, from: &str, to: &str) -> rustix::io::Result<()> {
        match rustix::fs::linkat(&self.0, from, &self.0, to, AtFlags::empty()) {
            Ok(()) => self.unlink(from),
            Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::MLINK) => {
                rustix::fs::renameat_with(&self.0, from, &self.0, to, rustix::fs::RenameFlags::NOREPLACE)
            }
            Err(error) => Err(error),
        }
    }

    /// Removes a file; succeeds if it is gone.
    pub(super) fn unlink(&self, name: &str) -> rustix::io::Result<()> {
        match rustix::fs::unlinkat(&self.0, name, AtFlags::empty()) {
            Err(Errno::NOENT) => Ok(()),
            outcome => outcome,
        }
    }

    /// Removes an empty directory.
    pub(super) fn remove_empty(&self, name: &str) -> rustix::io::Result<()> {
        rustix::fs::unlinkat(&self.0, name, AtFlags::REMOVEDIR)
    }

    /// Makes names given and taken in this directory durable.
    pub(super) fn sync(&self) -> rustix::io::Result<()> {
        match rustix::fs::fsync(&self.0) {
            // Some network file systems know no syncing of directories; they write names through.
            Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS | Errno::BADF) => Ok(()),
            outcome => outcome,
        }
    }

    /// What `name` is, if it is there.
    pub(super) fn stat(&self, name: &str) -> rustix::io::Result<Option<Stat>> {
        match rustix::fs::statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(Stat::from(&stat))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All names that are text; others are nothing of ours.
    pub(super) fn names(&self) -> rustix::io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(self.0.as_fd())? {
            match entry?.file_name().to_str() {
                Ok("." | "..") | Err(_) => {}
                Ok(name) => names.push(name.to_owned()),
            }
        }
        Ok(names)
    }
}

impl Stat {
    /// What the file system knows of an open file.
    pub(super) fn of(file: &File) -> rustix::io::Result<Self> {
        rustix::fs::fstat(file).map(|stat| Self::from(&stat))
    }
}

impl From<&rustix::fs::Stat> for Stat {
    fn from(stat: &rustix::fs::Stat) -> Self {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Directory,
            _ => Kind::Other,
        };
        let modified_ms = stat.st_mtime * 1000 + stat.st_mtime_nsec as i64 / 1_000_000;
        Self { kind, bytes: stat.st_size as u64, modified_ms }
    }
}
