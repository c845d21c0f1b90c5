//! Folders for what only this process and its children may read, and for as long as they live.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use crate::{Error, Result};

const PREFIX: &str = "pgkeep-";
/// In each folder; its maker holds a lock on it, which ends with the maker however that ends.
const ALIVE: &str = "alive";
/// A folder this young may be one whose maker has not locked it yet.
const YOUNG: Duration = Duration::from_mins(1);

/// A folder of mode 0700 that goes when it is dropped.
///
/// What a killed process could not remove, the next one does: [`PrivateFolder::create`] sweeps the folders of its own
/// user whose makers are gone.
#[derive(Debug)]
pub struct PrivateFolder {
    // In this order: the lock is held until the folder is gone.
    folder: TempDir,
    _alive: File,
}

impl PrivateFolder {
    /// Makes one below `work`, which must exist.
    pub fn create(work: &Path) -> Result<Self> {
        sweep(work);
        let failed = |source| Error::io(format!("make a private folder in {}", work.display()), source);
        let folder = tempfile::Builder::new()
            .prefix(PREFIX)
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700))
            .tempdir_in(work)
            .map_err(failed)?;
        let alive = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(folder.path().join(ALIVE))
            .map_err(failed)?;
        alive.try_lock().map_err(|error| failed(error.into()))?;
        Ok(Self { folder, _alive: alive })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Removes what processes of this user left in `work` when they were killed. What cannot be removed stays.
fn sweep(work: &Path) {
    let own = rustix::process::geteuid().as_raw();
    for entry in std::fs::read_dir(work).into_iter().flatten().flatten() {
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        let Ok(metadata) = entry.metadata() else { continue };
        let young = metadata.modified().ok().and_then(|at| at.elapsed().ok()).is_none_or(|age| age < YOUNG);
        if !metadata.is_dir() || metadata.uid() != own || metadata.mode() & 0o077 != 0 || young {
            continue;
        }
        let Ok(alive) = File::open(entry.path().join(ALIVE)) else { continue };
        if alive.try_lock().is_ok() {
            tracing::debug!(folder = %entry.path().display(), "removing what a killed run left");
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aged(folder: &Path) {
        let long_ago = std::time::SystemTime::now() - 2 * YOUNG;
        File::open(folder).unwrap().set_modified(long_ago).unwrap();
    }

    #[test]
    fn what_a_killed_run_left_is_swept_and_what_lives_is_not() {
        let work = tempfile::tempdir().unwrap();
        let living = PrivateFolder::create(work.path()).unwrap();
        let killed = PrivateFolder::create(work.path()).unwrap();
        let left = killed.path().to_owned();
        std::fs::write(left.join("pgpass"), "secret").unwrap();
        // As after SIGKILL: the lock is gone, the folder is not.
        let PrivateFolder { folder, _alive: lock } = killed;
        let _ = folder.keep();
        drop(lock);
        let foreign = work.path().join("pgkeep-notes");
        std::fs::create_dir(&foreign).unwrap();
        for folder in [living.path(), &left, &foreign] {
            aged(folder);
        }

        let new = PrivateFolder::create(work.path()).unwrap();
        assert!(!left.exists());
        assert!(living.path().exists() && new.path().exists() && foreign.exists());
    }
}
