//! What a process was started with, as a value, so that tests make their own.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// What a process was started with.
#[derive(Clone)]
pub struct Surroundings {
    /// Environment variables (those that are not UTF-8 are left out).
    pub variables: BTreeMap<String, String>,
    /// The working directory.
    pub directory: PathBuf,
    /// The user's number.
    pub uid: u32,
    /// The machine's name.
    pub host: String,
    /// Whether somebody can answer on stdin.
    pub stdin_is_terminal: bool,
    /// Whether somebody reads stdout.
    pub stdout_is_terminal: bool,
    /// Whether somebody reads stderr.
    pub stderr_is_terminal: bool,
    /// Device and inode of stderr, to recognise the log file.
    pub stderr_file: Option<(u64, u64)>,
}

impl Surroundings {
    /// Those of this process.
    pub fn of_this_process() -> Self {
        let uname = rustix::system::uname();
        Self {
            variables: std::env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
                .collect(),
            directory: std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/")),
            uid: rustix::process::geteuid().as_raw(),
            host: uname.nodename().to_string_lossy().into_owned(),
            stdin_is_terminal: std::io::stdin().is_terminal(),
            stdout_is_terminal: std::io::stdout().is_terminal(),
            stderr_is_terminal: std::io::stderr().is_terminal(),
            stderr_file: std::fs::metadata("/dev/stderr").ok().map(|metadata| (metadata.dev(), metadata.ino())),
        }
    }

    /// A variable that is set and not empty.
    pub(crate) fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The user's home directory.
    pub(crate) fn home(&self) -> Option<PathBuf> {
        self.variable("HOME").map(PathBuf::from)
    }
}

// Variables hold secrets.
impl std::fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Surroundings")
            .field("directory", &self.directory)
            .field("uid", &self.uid)
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}
