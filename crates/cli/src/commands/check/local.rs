//! The local directory: there, ours, closed to others, with room, and written to for real.

use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pgkeep_core::{Catalog, Keeper, Layout};
use pgkeep_storage::{DiskStorage, Storage};
use rustix::fs::{Access, access};

use super::findings::Findings;
use super::machine::existing;
use super::{Scene, store};
use crate::failure::Failure;
use crate::hint::Code;
use crate::render::size;
use crate::settings::LocalDirectory;

pub(super) async fn check(scene: Scene<'_>, findings: &mut Findings) {
    let settings = &scene.context.settings;
    let Some(local) = &settings.local else {
        findings.group("local directory");
        findings.skip("directory", "BACKUP_DIR=none keeps no local copy");
        return;
    };
    findings.group(format!("local directory {}", local.path.display()));
    directory(scene, findings, local).await;
}

/// A directory for backups, be it the local one or one that a `file://` URL names.
pub(super) async fn directory(scene: Scene<'_>, findings: &mut Findings, local: &LocalDirectory) {
    if let Err(problem) = usable(&local.path) {
        unusable(scene, findings, local, &problem);
        return;
    }
    if local.path.is_dir() {
        owner_and_mode(findings, &local.path);
    }
    let storage: Arc<dyn Storage> = match DiskStorage::open(&local.path) {
        Ok(storage) => Arc::new(storage),
        Err(error) => {
            findings.failed("directory", error);
            return;
        }
    };
    if scene.args.dry_run {
        findings.skip("write", "not tried (--dry-run)");
    } else {
        match Folders::make(&local.path) {
            Ok(folders) => {
                store::disk(findings, storage.as_ref()).await;
                folders.remove();
            }
            Err(error) => {
                let problem = Failure::io(format_args!("make {}", local.path.display()), &error).message;
                unusable(scene, findings, local, &problem);
                return;
            }
        }
    }
    room(scene, findings, &local.path, storage).await;
}

fn usable(path: &Path) -> Result<(), String> {
    let nearest = existing(path);
    let words = |error: rustix::io::Errno| std::io::Error::from(error).to_string();
    if !nearest.is_dir() {
        return Err(format!("{} is no directory", nearest.display()));
    }
    access(nearest.as_path(), Access::WRITE_OK | Access::EXEC_OK | Access::READ_OK)
        .map_err(|error| format!("{} can't be written: {}", nearest.display(), words(error)))
}

/// Beside a bucket a default directory that is not there is no fault (containers).
fn unusable(scene: Scene<'_>, findings: &mut Findings, local: &LocalDirectory, problem: &str) {
    let hint = format!(
        "sudo install -d -o \"$USER\" -m 750 {}; or BACKUP_DIR=none",
        shell_words::quote(&local.path.display().to_string())
    );
    if local.required {
        findings.fail("directory", problem).code(Code::PermissionDenied).hint(hint);
    } else if local.is_default && scene.context.settings.remote.is_some() {
        findings.skip("directory", format!("{problem}: no local copy will be kept")).hint(hint);
    } else {
        findings.warn("directory", format!("{problem}: no local copy will be kept")).hint(hint);
    }
}

fn owner_and_mode(findings: &mut Findings, path: &Path) {
    let Ok(metadata) = std::fs::metadata(path) else { return };
    let (mode, owner, own) = (metadata.mode() & 0o777, metadata.uid(), rustix::process::geteuid().as_raw());
    let shown = path.display();
    if owner != own && owner != 0 {
        findings
            .warn("owner", format!("user {owner}, who can take away or replace backups; this runs as user {own}"))
            .hint(format!("sudo chown \"$USER\" {shown}"));
    } else {
        findings.pass("owner", format!("user {owner}"));
    }
    if mode & 0o022 != 0 {
        findings
            .warn("mode", format!("{mode:03o}: others can put backups there, or take them away"))
            .hint(format!("chmod 750 {shown}"));
    } else if mode & 0o007 != 0 {
        findings.warn("mode", format!("{mode:03o}: everybody can look into it")).hint(format!("chmod 750 {shown}"));
    } else {
        findings.pass("mode", format!("{mode:03o}"));
    }
}

/// Folders that were made for a trial, outermost first.
struct Folders(Vec<PathBuf>);

impl Folders {
    fn make(path: &Path) -> std::io::Result<Self> {
        let mut missing: Vec<PathBuf> =
            path.ancestors().take_while(|ancestor| !ancestor.exists()).map(Path::to_owned).collect();
        missing.reverse();
        let mut made = Self(Vec::new());
        for folder in missing {
            if let Err(error) = std::fs::DirBuilder::new().mode(0o700).create(&folder) {
                made.remove();
                return Err(error);
            }
            made.0.push(folder);
        }
        Ok(made)
    }

    fn remove(self) {
        for folder in self.0.iter().rev() {
            let _ = std::fs::remove_dir(folder);
        }
    }
}

/// Room for the next backup: 1.2 times the last one, as a run looks at it too.
async fn room(scene: Scene<'_>, findings: &mut Findings, path: &Path, storage: Arc<dyn Storage>) {
    let free = match rustix::fs::statvfs(existing(path).as_path()) {
        Ok(found) => found.f_bavail * found.f_frsize,
        Err(error) => {
            findings.warn("free space", format!("unknown: {}", std::io::Error::from(error)));
            return;
        }
    };
    let keeper = Keeper::of(storage, Layout::Flat, scene.context.surroundings.host.clone());
    let catalog = Catalog::load(&keeper).await.ok();
    let last = catalog.as_ref().and_then(|catalog| catalog.own().next()).map(|entry| entry.meta.stored.bytes);
    match last {
        Some(last) if free < last + last / 5 => {
            findings
                .warn(
                    "free space",
                    format!("{} free; a copy like the last backup needs {}", size(free), size(last + last / 5)),
                )
                .hint("free some, or keep fewer local copies (BACKUP_RETENTION_LOCAL_DAILY_DAYS)");
        }
        Some(last) => {
            findings.pass("free space", format!("{} free, {} times the last backup", size(free), free / last.max(1)));
        }
        None => {
            findings.pass("free space", format!("{} free", size(free)));
        }
    }
}
