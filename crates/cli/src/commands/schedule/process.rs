//! The programs that schedule things, and what they say.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::failure::{Failure, Result};
use crate::surroundings::Surroundings;

/// Looked into after PATH: `sudo` and cron make it short.
const USUAL: [&str; 4] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// What a program said.
#[derive(Debug)]
pub(super) struct Said {
    /// Its exit code; `None` if a signal ended it.
    pub(super) code: Option<i32>,
    /// stdout, byte for byte.
    pub(super) stdout: Vec<u8>,
    /// stderr.
    pub(super) stderr: String,
}

impl Said {
    /// It did what it should.
    pub(super) fn well(&self) -> bool {
        self.code == Some(0)
    }

    /// All of stderr as one line.
    pub(super) fn complaint(&self) -> String {
        self.stderr.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// The last line of stderr, else of stdout.
    pub(super) fn last_line(&self) -> String {
        let stdout = String::from_utf8_lossy(&self.stdout);
        let mut lines = self.stderr.lines().rev().chain(stdout.lines().rev()).map(str::trim);
        lines.find(|line| !line.is_empty()).unwrap_or("nothing was said").to_owned()
    }
}

/// Where a program is.
pub(super) fn find(surroundings: &Surroundings, name: &str) -> Option<PathBuf> {
    let path = surroundings.variable("PATH").unwrap_or_default();
    let folders = std::env::split_paths(path).chain(USUAL.map(PathBuf::from));
    folders.map(|folder| folder.join(name)).find(|program| program.is_absolute() && is_program(program))
}

/// Whether a file can be run.
pub(super) fn is_program(path: &Path) -> bool {
    path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
}

/// Runs a program to its end, with `input` on stdin.
pub(super) async fn run(
    program: &Path,
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    input: Option<&[u8]>,
) -> Result<Said> {
    let mut command = Command::new(program);
    command.args(arguments);
    finish(command, input).await
}

/// Runs a command to its end.
pub(super) async fn finish(mut command: Command, input: Option<&[u8]>) -> Result<Said> {
    let name = command.as_std().get_program().to_string_lossy().into_owned();
    let failed = |error: std::io::Error| Failure::io(format_args!("run {name}"), &error);
    let stdin = if input.is_some() { Stdio::piped() } else { Stdio::null() };
    let mut child = command
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
        // One that does not read to the end says why by its status.
        let _ = stdin.write_all(input).await;
    }
    let output = child.wait_with_output().await.map_err(failed)?;
    Ok(Said {
        code: output.status.code(),
        stdout: output.stdout,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}
