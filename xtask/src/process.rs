//! Running other programs: each call says what it wants of the output and fails with what was run.

use std::ffi::OsStr;
use std::fmt;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// What went wrong, in words for the person who started the task.
#[derive(Debug)]
pub(crate) struct Failure(String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<T: Into<String>> From<T> for Failure {
    fn from(text: T) -> Self {
        Self(text.into())
    }
}

pub(crate) type Result<T = ()> = std::result::Result<T, Failure>;

/// The workspace's root directory.
pub(crate) fn workspace() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask).to_path_buf()
}

/// A command whose output is shown as it comes.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(workspace());
    command
}

/// Cargo, the one that runs this task.
pub(crate) fn cargo() -> Command {
    command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Runs to the end; any status but 0 is a failure.
pub(crate) fn run(command: &mut Command) -> Result {
    let status =
        command.stdin(Stdio::null()).status().map_err(|error| format!("cannot run {}: {error}", shown(command)))?;
    if status.success() { Ok(()) } else { Err(format!("{} failed: {status}", shown(command)).into()) }
}

/// Runs to the end and gives stdout back; what it said on stderr belongs to the failure.
pub(crate) fn capture(command: &mut Command) -> Result<String> {
    let output =
        command.stdin(Stdio::null()).output().map_err(|error| format!("cannot run {}: {error}", shown(command)))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
    } else {
        let said = String::from_utf8_lossy(&output.stderr);
        Err(format!("{} failed: {}\n{}", shown(command), output.status, said.trim_end()).into())
    }
}

/// Runs with `input` on stdin and all output kept for the failure.
pub(crate) fn feed(command: &mut Command, input: &str) -> Result<String> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot run {}: {error}", shown(command)))?;
    let stdin = child.stdin.take();
    let text = input.to_owned();
    let writer = std::thread::spawn(move || {
        // A child that ends early says why itself; the broken pipe adds nothing.
        if let Some(mut stdin) = stdin {
            let _ = stdin.write_all(text.as_bytes());
        }
    });
    let output = child.wait_with_output().map_err(|error| format!("cannot wait for {}: {error}", shown(command)))?;
    let _ = writer.join();
    let stdout = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
    if output.status.success() {
        return Ok(stdout);
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let mut said: Vec<&str> = stdout.lines().chain(stderr.lines()).collect();
    let first = said.len().saturating_sub(40);
    said.drain(..first);
    Err(format!("{} failed: {}\n{}", shown(command), output.status, said.join("\n")).into())
}

/// Whether it can be run and ends with status 0; its output is dropped.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Whether a program of this name is on the path.
pub(crate) fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Root's programs are not on everybody's path, yet that is where debootstrap and dockerd live.
    std::env::split_paths(&path)
        .chain(["/usr/local/sbin".into(), "/usr/sbin".into(), "/sbin".into()])
        .any(|directory: PathBuf| directory.join(program).is_file())
}

pub(crate) fn is_root() -> bool {
    capture(Command::new("id").arg("-u")).is_ok_and(|id| id == "0")
}

/// Seconds with one digit, for reports.
pub(crate) fn seconds(elapsed: Duration) -> String {
    format!("{:.1} s", elapsed.as_secs_f64())
}

fn shown(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        let argument = argument.to_string_lossy();
        text.push(' ');
        if argument.len() > 200 || argument.contains('\n') {
            text.push('…');
        } else {
            text.push_str(&argument);
        }
    }
    text
}
