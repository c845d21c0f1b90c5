//! A user's set-up: a database's URL, a folder for backups, a log, and the programs run with them.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use pgkeep_testkit::{client_tools_path, program};
use tempfile::TempDir;

/// What a program was told by its environment, and where it keeps things.
pub(crate) struct Setup {
    folder: TempDir,
    variables: BTreeMap<String, OsString>,
}

impl Setup {
    /// A set-up for the database at `url` with local backups only.
    pub(crate) fn new(url: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("pgkeep-e2e-").tempdir().expect("a temporary folder");
        let mut setup = Self { folder, variables: BTreeMap::new() };
        setup.set("DATABASE_URL", url);
        setup.set("BACKUP_DIR", setup.backups());
        setup.set("LOG_FILE", setup.folder().join("backups.log"));
        setup.set("PG_BINDIRS", client_tools_path());
        // The whole suite runs with either engine.
        if let Some(engine) = std::env::var_os("PGKEEP_TEST_ENGINE") {
            setup.set("BACKUP_ENGINE", engine);
        }
        setup
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The local folder of backups.
    pub(crate) fn backups(&self) -> PathBuf {
        self.folder().join("backups")
    }

    pub(crate) fn set(&mut self, name: &str, value: impl Into<OsString>) {
        self.variables.insert(name.to_owned(), value.into());
    }

    /// The same with one variable otherwise.
    pub(crate) fn with(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.set(name, value);
        self
    }

    /// One of the programs with its arguments; nothing of this process's environment but PATH.
    pub(crate) fn command(&self, name: &str, arguments: &[&str]) -> Command {
        let mut command = self.stock(program(name));
        command.args(arguments);
        command
    }

    /// Any program in the same surroundings.
    pub(crate) fn stock(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(&self.variables)
            .current_dir(self.folder())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub(crate) fn start(&self, name: &str, arguments: &[&str]) -> Child {
        self.command(name, arguments).spawn().expect("the program can be run")
    }

    /// Runs to the end, whatever comes of it.
    pub(crate) fn run(&self, name: &str, arguments: &[&str]) -> Run {
        Run::of(&self.command(name, arguments).output().expect("the program can be run"))
    }

    /// Runs `pgkeep`, which must succeed.
    pub(crate) fn pgkeep(&self, arguments: &[&str]) -> Run {
        let run = self.run("pgkeep", arguments);
        assert_eq!(run.code, Some(0), "pgkeep {arguments:?}\n{run}");
        run
    }

    /// The files in the local folder, sorted, without folders of pgkeep's own.
    pub(crate) fn files(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.backups()) else { return Vec::new() };
        let mut files: Vec<String> = entries
            .flatten()
            .filter(|entry| entry.path().is_file())
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        files.sort();
        files
    }

    /// The one archive in the local folder.
    pub(crate) fn archive(&self) -> PathBuf {
        let metas: Vec<_> =
            self.files().into_iter().filter_map(|file| Some(file.strip_suffix(".meta")?.to_owned())).collect();
        assert_eq!(metas.len(), 1, "{metas:?}");
        self.backups().join(&metas[0])
    }

    /// Everything written so far, logs included, for looking for what must not be there.
    pub(crate) fn everything_written(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut found = Vec::new();
        let mut folders = vec![self.folder().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).expect("a folder can be listed").flatten() {
                let path = entry.path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let bytes = std::fs::read(&path).expect("a file can be read");
                    found.push((path, bytes));
                }
            }
        }
        found
    }
}

/// What a program did.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    pub(crate) fn of(output: &Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// It failed with this code, and its words hold these.
    pub(crate) fn failed_with(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{self}");
        for word in words {
            assert!(self.stderr.contains(word), "no {word:?} in\n{self}");
        }
        assert!(self.stderr.contains("hint:"), "no hint in\n{self}");
    }
}

impl std::fmt::Display for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "status {:?}\n--- stdout\n{}\n--- stderr\n{}", self.code, self.stdout, self.stderr)
    }
}
