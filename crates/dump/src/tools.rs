//! The installed client tools.

use std::path::{Path, PathBuf};

use crate::{ConnectSettings, Result};

/// A client program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    /// `pg_dump`
    PgDump,
    /// `pg_restore`
    PgRestore,
    /// `pg_dumpall`
    PgDumpall,
}

/// One major version's client tools.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientTools {
    /// Their major version.
    pub major: u32,
    /// What `pg_dump --version` prints: `pg_dump (PostgreSQL) 17.11`.
    pub version: String,
    /// The folder they are in.
    pub folder: PathBuf,
}

impl ClientTools {
    /// Every set of tools in `folders` and in the usual places of distributions, each once, smallest major first.
    pub async fn discover(_folders: &[PathBuf]) -> Result<Vec<Self>> {
        unimplemented!()
    }
    /// The smallest major that is not older than `major`; the error names the package to install.
    pub fn choose(_installed: &[Self], _major: u32) -> Result<&Self> {
        unimplemented!()
    }
    /// The path of one tool.
    pub fn path(&self, _tool: Tool) -> PathBuf {
        unimplemented!()
    }
    /// A command with the canonical session settings and the secrets in a private file, never in argv;
    /// the file lives as long as the returned guard.
    pub fn command(&self, _tool: Tool, _settings: Option<&ConnectSettings>, _work: &Path) -> Result<(tokio::process::Command, tempfile::TempDir)> {
        unimplemented!()
    }
}
