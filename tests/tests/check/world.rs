//! A folder, an environment, and programs run in them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use pgkeep_testkit::{Ceph, client_tools_path, program};
use serde_json::Value;
use tempfile::TempDir;

pub(crate) struct World {
    folder: TempDir,
    variables: BTreeMap<String, OsString>,
}

/// What a run gave.
pub(crate) struct Gave {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl World {
    /// An empty folder, local backups below it, and the client tools of every major.
    pub(crate) fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("pgkeep-check-").tempdir().unwrap();
        let mut world = Self { folder, variables: BTreeMap::new() };
        world.set("PATH", std::env::var_os("PATH").unwrap_or_default());
        world.set("BACKUP_DIR", world.path("backups"));
        world.set("LOG_FILE", world.path("backups.log"));
        world.set("PG_BINDIRS", client_tools_path());
        world
    }

    /// The same for a database.
    pub(crate) fn of(url: &str) -> Self {
        Self::new().with("DATABASE_URL", url)
    }

    /// The same with a bucket on the Ceph that all tests share.
    pub(crate) fn with_bucket(mut self, bucket: &str) -> Self {
        for (name, value) in Ceph::shared().environment() {
            self.set(name, value);
        }
        self.with("AWS_S3_BACKUP_BUCKET", bucket)
    }

    pub(crate) fn set(&mut self, name: &str, value: impl Into<OsString>) {
        self.variables.insert(name.to_owned(), value.into());
    }

    pub(crate) fn with(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.set(name, value);
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.variables.remove(name);
        self
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// Every name in the folder.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder()).unwrap().flatten();
        let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .envs(&self.variables)
            .current_dir(self.folder())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub(crate) fn pgkeep(&self, arguments: &[&str]) -> Gave {
        let output = self.command(program("pgkeep")).args(arguments).output().unwrap();
        Gave {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// `check` with these arguments: its exit code and its document.
    pub(crate) fn check(&self, arguments: &[&str]) -> (i32, Document) {
        let mut all = vec!["check", "--output", "json"];
        all.extend_from_slice(arguments);
        let gave = self.pgkeep(&all);
        let document = serde_json::from_str(&gave.stdout).unwrap_or_else(|error| panic!("{error}\n{gave}"));
        (gave.code.unwrap(), Document(document))
    }
}

impl std::fmt::Display for Gave {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "status {:?}\n--- stdout\n{}\n--- stderr\n{}", self.code, self.stdout, self.stderr)
    }
}

/// What `check` says to programs.
#[derive(Debug)]
pub(crate) struct Document(pub(crate) Value);

impl Document {
    /// The findings of that name, as (state, message, missing).
    pub(crate) fn findings(&self, name: &str) -> Vec<(String, String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        self.0["checks"]
            .as_array()
            .unwrap_or_else(|| panic!("no checks in {}", self.0))
            .iter()
            .filter(|finding| finding["name"] == name)
            .map(|finding| (text(&finding["state"]), text(&finding["message"]), text(&finding["missing"])))
            .collect()
    }

    /// The only finding of that name.
    pub(crate) fn finding(&self, name: &str) -> (String, String, String) {
        let mut found = self.findings(name);
        assert_eq!(found.len(), 1, "{name} in {:#}", self.0);
        found.remove(0)
    }

    pub(crate) fn state(&self, name: &str) -> String {
        self.finding(name).0
    }

    /// Those that failed.
    pub(crate) fn failed(&self) -> Vec<String> {
        let checks = self.0["checks"].as_array().unwrap();
        let failed = checks.iter().filter(|finding| finding["state"] == "fail");
        failed.map(|finding| finding["name"].as_str().unwrap().to_owned()).collect()
    }
}
