//! A folder, an environment, and programs run in them, watched.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use pgkeep_testkit::{client_tools_path, program};
use tempfile::TempDir;

pub(crate) struct World {
    folder: TempDir,
    variables: BTreeMap<String, OsString>,
}

/// What a run gave.
#[derive(Debug)]
pub(crate) struct Gave {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    /// Most memory that it held at a time, in KiB.
    pub(crate) peak_kib: u64,
}

impl World {
    /// An empty folder with local backups below it.
    pub(crate) fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("pgkeep-security-").tempdir().unwrap();
        let mut world = Self { folder, variables: BTreeMap::new() };
        world.set("PATH", std::env::var_os("PATH").unwrap_or_default());
        world.set("BACKUP_DIR", world.path("backups"));
        world.set("LOG_FILE", world.path("backups.log"));
        world.set("TMPDIR", world.folder().to_owned());
        world.set("PG_BINDIRS", client_tools_path());
        world
    }

    /// The same for a database.
    pub(crate) fn of(url: &str) -> Self {
        Self::new().with("DATABASE_URL", url)
    }

    pub(crate) fn set(&mut self, name: &str, value: impl Into<OsString>) {
        self.variables.insert(name.to_owned(), value.into());
    }

    pub(crate) fn with(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.set(name, value);
        self
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    /// `pgkeep`, as the shell runs it after `before` (`umask 000`, `ulimit -v 1000000`).
    pub(crate) fn start_after(&self, before: &str, arguments: &[&str]) -> Child {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{before}; exec \"$0\" \"$@\"")]).arg(program("pgkeep")).args(arguments);
        command
            .env_clear()
            .envs(&self.variables)
            .current_dir(self.folder())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// The same to its end, its memory watched.
    pub(crate) fn run_after(&self, before: &str, arguments: &[&str]) -> Gave {
        let child = self.start_after(before, arguments);
        let id = child.id();
        let ended = std::thread::spawn(move || child.wait_with_output().unwrap());
        let mut peak_kib = 0;
        while !ended.is_finished() {
            let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let found = line.and_then(|value| value.trim().trim_end_matches(" kB").parse().ok());
            peak_kib = peak_kib.max(found.unwrap_or(0));
            std::thread::sleep(Duration::from_millis(2));
        }
        let output = ended.join().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Gave { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr), peak_kib }
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Gave {
        self.run_after(":", arguments)
    }

    /// Runs it, and it must succeed.
    pub(crate) fn pgkeep(&self, arguments: &[&str]) -> Gave {
        let gave = self.run(arguments);
        assert_eq!(gave.code, Some(0), "pgkeep {arguments:?}\n{gave:?}");
        gave
    }

    /// Every file and folder below the folder, by its path from there.
    pub(crate) fn everything(&self) -> Vec<(String, std::fs::Metadata)> {
        let mut found = Vec::new();
        let mut folders = vec![self.folder().to_owned()];
        while let Some(folder) = folders.pop() {
            for path in std::fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path()) {
                let metadata = std::fs::symlink_metadata(&path).unwrap();
                if metadata.is_dir() {
                    folders.push(path.clone());
                }
                found.push((path.strip_prefix(self.folder()).unwrap().to_string_lossy().into_owned(), metadata));
            }
        }
        found.sort_by(|one, other| one.0.cmp(&other.0));
        found
    }

    /// The meta of the only backup in the local folder.
    pub(crate) fn meta(&self) -> PathBuf {
        let mut metas: Vec<PathBuf> = std::fs::read_dir(self.path("backups"))
            .unwrap()
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "meta"))
            .collect();
        assert_eq!(metas.len(), 1, "{metas:?}");
        metas.remove(0)
    }

    /// Changes that meta as whoever may write it can: its own digest is made to fit.
    pub(crate) fn forge_meta(&self, change: impl FnOnce(&mut serde_json::Value)) {
        let path = self.meta();
        let mut meta: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        // Metas of before there was one are read without it.
        meta.as_object_mut().unwrap().remove("self_sha256");
        change(&mut meta);
        std::fs::write(path, serde_json::to_vec(&meta).unwrap()).unwrap();
    }
}

/// An archive of these pieces behind each other, each of them so many times: zstd frames, as anybody's tool writes them.
pub(crate) fn compressed<'p>(pieces: impl IntoIterator<Item = (&'p [u8], usize)>) -> Vec<u8> {
    let codec = pgkeep_compress::Compression::ZSTD.codec();
    let mut archive = Vec::new();
    for (piece, times) in pieces {
        let mut frame = Vec::new();
        codec.encode(piece, &mut frame).unwrap();
        archive.extend(frame.repeat(times));
    }
    archive
}
