//! This machine: the files settings come from, hooks, and the logs.

use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use super::Scene;
use super::findings::Findings;
use crate::commands::{Log, log_path};
use crate::hint::Code;
use crate::settings::{DEFAULT_LOG_FILE, Notice, variable};

/// Where settings come from, and whether others can read what is secret in them.
pub(super) fn settings(scene: Scene<'_>, findings: &mut Findings) {
    findings.group("settings");
    let layers = &scene.context.settings.layers;
    let (env_file, config) = layers.files();
    let files: Vec<&Path> = env_file.into_iter().chain(config).collect();
    for notice in &layers.notices {
        if let Notice::Warning(message) = notice {
            findings.warn("left out", message.clone());
        }
    }
    let names: Vec<_> = files.iter().map(|path| path.display().to_string()).collect();
    let from = if names.is_empty() { "the environment alone".to_owned() } else { names.join(", ") };
    let database = layers.database.as_ref().map(|name| format!(", database {name}")).unwrap_or_default();
    findings.pass("read from", format!("{from}{database}"));
    for path in files {
        let Ok(metadata) = std::fs::metadata(path) else { continue };
        if metadata.mode() & 0o044 != 0 && layers.holds_secret(path) {
            findings
                .warn(
                    "secrets",
                    format!(
                        "{} holds one, and others can read it (mode {:03o})",
                        path.display(),
                        metadata.mode() & 0o777
                    ),
                )
                .hint(format!("chmod 600 {}", path.display()));
        }
    }
    hooks(scene, findings);
}

/// Commands that settings name must be there before the night they are needed.
fn hooks(scene: Scene<'_>, findings: &mut Findings) {
    let layers = &scene.context.settings.layers;
    for hook in variable::HOOKS {
        let Some(found) = layers.get(hook) else { continue };
        match crate::hooks::program_of(&found.text, scene.context.surroundings.variable("PATH")) {
            Ok(program) => {
                findings.pass(hook.key, format!("runs {}", program.display()));
            }
            Err(problem) => {
                findings.fail(hook.key, format!("{}: {problem}", found.origin)).hint("name it by its whole path");
            }
        }
    }
}

/// The logs of backups and restores.
pub(super) fn logs(scene: Scene<'_>, findings: &mut Findings) {
    findings.group("log");
    let context = scene.context;
    let found = context.settings.layers.get(&variable::LOG_FILE);
    let is_default = found.is_none();
    let file = found.map_or_else(|| DEFAULT_LOG_FILE.to_owned(), |found| found.text);
    if file == "none" {
        findings.skip("log file", "LOG_FILE=none writes none");
        return;
    }
    for log in [Log::Backups, Log::Restores] {
        let path = context.surroundings.directory.join(log_path(&file, log));
        match writable(&path, scene.args.dry_run) {
            Ok(()) => {
                findings.pass("log file", path.display().to_string());
            }
            Err(error) => {
                let message = format!("{} can't be written: {error}", path.display());
                let hint = format!("sudo touch {0} && sudo chown \"$USER\" {0}; or set LOG_FILE", path.display());
                if is_default && context.settings.remote.is_some() {
                    // In a container stderr is the log.
                    findings.skip("log file", message).hint(hint);
                } else {
                    findings.fail("log file", message).code(Code::PermissionDenied).hint(hint);
                }
                return;
            }
        }
    }
    let path = context.surroundings.directory.join(&file);
    let folder = path.parent().unwrap_or(Path::new("/"));
    if access(existing(folder).as_path(), Access::WRITE_OK).is_ok() {
        findings.pass("rotation", "daily, 30 kept");
    } else {
        findings
            .warn("rotation", format!("{} can't be written, so nothing rotates the log", folder.display()))
            .hint("install examples/logrotate.d/pgkeep as /etc/logrotate.d/pgkeep");
    }
}

/// Whether a run could append to this file; leaves nothing behind.
pub(super) fn writable(path: &Path, read_only: bool) -> std::io::Result<()> {
    if path.exists() {
        return std::fs::OpenOptions::new().append(true).open(path).map(drop);
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let nearest = existing(folder);
    access(nearest.as_path(), Access::WRITE_OK | Access::EXEC_OK)?;
    if !nearest.is_dir() {
        return Err(std::io::ErrorKind::NotADirectory.into());
    }
    if !read_only && nearest == folder {
        std::fs::OpenOptions::new().append(true).create_new(true).mode(0o640).open(path)?;
        std::fs::remove_file(path)?;
    }
    Ok(())
}

/// The nearest folder on the way up that is there.
pub(super) fn existing(path: &Path) -> PathBuf {
    path.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(Path::new("/")).to_owned()
}
