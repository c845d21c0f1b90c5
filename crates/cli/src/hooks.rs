//! Commands of the user's own, before and after backups and restores: to stop an application, to anonymise, to apply
//! erasures again.
//!
//! A hook is one program with its arguments, no shell. Its environment is small and holds no secret: what is going on, and
//! how it went. Its output goes to the log with `--verbose`.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{Access, access};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use crate::commands::{Context, Done};
use crate::failure::{Failure, Result};
use crate::hint::Code;
use crate::reporter::Reporter;
use crate::settings::variable::{self, Variable};

const DEFAULT_TIMEOUT: Duration = Duration::from_mins(10);
/// How long a hook that was told to end may take to do so, and its output to arrive.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest line of a hook's output that is kept in one piece, in bytes.
const LINE_BYTES: u64 = 8 * 1024;
/// What a hook's environment holds of ours.
const PASSED_ON: [&str; 12] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "PGPASSFILE",
    "PGSERVICEFILE",
    "PGSERVICE",
];

/// When a hook runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// Before a backup; a failure stops it.
    BeforeBackup,
    /// After one, however it went; a failure is a warning.
    AfterBackup,
    /// Before a restore, after the question; a failure stops it.
    BeforeRestore,
    /// After one, however it went; a failure is a warning.
    AfterRestore,
}

impl Moment {
    fn variable(self) -> &'static Variable {
        match self {
            Self::BeforeBackup => &variable::HOOK_BEFORE_BACKUP,
            Self::AfterBackup => &variable::HOOK_AFTER_BACKUP,
            Self::BeforeRestore => &variable::HOOK_BEFORE_RESTORE,
            Self::AfterRestore => &variable::HOOK_AFTER_RESTORE,
        }
    }

    fn is_after(self) -> bool {
        matches!(self, Self::AfterBackup | Self::AfterRestore)
    }

    fn word(self) -> &'static str {
        match self {
            Self::BeforeBackup => "before_backup",
            Self::AfterBackup => "after_backup",
            Self::BeforeRestore => "before_restore",
            Self::AfterRestore => "after_restore",
        }
    }
}

impl Context {
    /// Runs the hook of a moment before; `Err` where it fails. `facts` are more variables of its environment.
    pub(crate) async fn hook_before(&self, moment: Moment, facts: &[(&str, String)]) -> Result<()> {
        self.hook(moment, facts).await
    }

    /// Runs the hook of a moment after, with how it went; its failure is a warning.
    pub(crate) async fn hook_after(&self, moment: Moment, facts: &[(&str, String)], result: &Result<Done>) {
        let failure = match result {
            Ok(done) => done.failure.as_ref(),
            Err(failure) => Some(failure),
        };
        let mut facts = facts.to_vec();
        facts.push(("PGKEEP_OUTCOME", if failure.is_some() { "failed" } else { "ok" }.to_owned()));
        facts.push(("PGKEEP_ERROR_CODE", failure.map(|failure| failure.code.text().to_owned()).unwrap_or_default()));
        if let Err(failure) = self.hook(moment, &facts).await {
            self.reporter.warn(failure.message);
        }
    }

    async fn hook(&self, moment: Moment, facts: &[(&str, String)]) -> Result<()> {
        let Some(found) = self.settings.layers.get(moment.variable()) else { return Ok(()) };
        let name = moment.word();
        let refused = |problem: String| Failure::new(Code::HookFailed, format!("hook {name} can't be run: {problem}"));
        let words = shell_words::split(&found.text).map_err(|error| refused(error.to_string()))?;
        let program = program_of(&found.text, self.surroundings.variable("PATH")).map_err(refused)?;
        let limit = self.settings.layers.duration(&variable::HOOK_TIMEOUT)?.unwrap_or(DEFAULT_TIMEOUT);

        let mut command = Command::new(&program);
        command.args(words.iter().skip(1)).env_clear().current_dir(&self.surroundings.directory);
        for passed in PASSED_ON {
            if let Some(value) = self.surroundings.variable(passed) {
                command.env(passed, value);
            }
        }
        command.env("PGKEEP_EVENT", name).env("PGKEEP_HOST", &self.surroundings.host);
        if let Some(database) = &self.settings.layers.database {
            command.env("PGKEEP_NAME", database);
        }
        command.envs(facts.iter().map(|(name, value)| (*name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).kill_on_drop(true);
        self.reporter.info(format!("Running hook {name}: {}", program.display()));
        // What comes after a run that was told to end is what puts things right again.
        let cancel = if moment.is_after() { CancellationToken::new() } else { self.cancel.clone() };
        self.follow(name, command, limit, &cancel).await
    }

    /// Runs it to its end, to the time limit, or to the end of the run.
    async fn follow(
        &self,
        name: &'static str,
        mut command: Command,
        limit: Duration,
        cancel: &CancellationToken,
    ) -> Result<()> {
        let failed = |why: String| Failure::new(Code::HookFailed, format!("hook {name} failed: {why}"));
        let mut child = command.spawn().map_err(|error| failed(error.to_string()))?;
        let group = child.id().and_then(|id| Pid::from_raw(id as i32));
        let heard = [
            child.stdout.take().map(|stream| tokio::spawn(hear(stream, name, Arc::clone(&self.reporter)))),
            child.stderr.take().map(|stream| tokio::spawn(hear(stream, name, Arc::clone(&self.reporter)))),
        ];
        let ended: Result<ExitStatus, Failure> = tokio::select! {
            status = child.wait() => status.map_err(|error| failed(error.to_string())),
            () = tokio::time::sleep(limit) => Err(failed(format!("it took longer than {} seconds", limit.as_secs()))),
            () = cancel.cancelled() => Err(Failure::new(Code::Interrupted, "interrupted")),
        };
        if ended.is_err() {
            for signal in [Signal::TERM, Signal::KILL] {
                if let Some(group) = group {
                    let _ = kill_process_group(group, signal);
                }
                if tokio::time::timeout(PATIENCE, child.wait()).await.is_ok() {
                    break;
                }
            }
        }
        // Something it left running may hold its output open: it is not waited for.
        let mut last = String::new();
        for hearing in heard.into_iter().flatten() {
            if let Ok(Ok(Some(line))) = tokio::time::timeout(PATIENCE, hearing).await {
                last = line;
            }
        }
        match ended? {
            status if status.success() => Ok(()),
            status if last.is_empty() => Err(failed(status.to_string())),
            status => Err(failed(format!("{status}: {last}"))),
        }
    }
}

/// Tells each line; gives the last.
async fn hear(stream: impl AsyncRead + Unpin, name: &str, reporter: Arc<Reporter>) -> Option<String> {
    let mut reader = BufReader::new(stream);
    let mut last = None;
    loop {
        let mut line = Vec::new();
        match (&mut reader).take(LINE_BYTES).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return last,
            Ok(_) => {
                let text = String::from_utf8_lossy(&line).trim().to_owned();
                if !text.is_empty() {
                    reporter.detail(format!("{name}: {text}"));
                    last = Some(text);
                }
            }
        }
    }
}

/// The program that a command line names, looked for in `path` unless it has a slash; `Err` says what is wrong with it.
pub(crate) fn program_of(line: &str, path: Option<&str>) -> Result<PathBuf, String> {
    let words = shell_words::split(line).map_err(|error| format!("it can't be split into words: {error}"))?;
    let Some(name) = words.first().filter(|name| !name.is_empty()) else {
        return Err("it names no program".to_owned());
    };
    let runnable = |path: &Path| path.is_file() && access(path, Access::EXEC_OK).is_ok();
    if name.contains('/') {
        let program = PathBuf::from(name);
        return match (program.is_file(), runnable(&program)) {
            (_, true) => Ok(program),
            (true, false) => Err(format!("{name} is not executable")),
            (false, false) => Err(format!("there is no {name}")),
        };
    }
    let folders = path.map(|path| std::env::split_paths(path).collect::<Vec<_>>()).unwrap_or_default();
    folders
        .iter()
        .map(|folder| folder.join(name))
        .find(|program| runnable(program))
        .ok_or_else(|| format!("there is no {name} in PATH"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found() {
        let path = Some("/nowhere:/usr/bin:/bin");
        assert!(program_of("sh -c 'exit 0'", path).unwrap().ends_with("sh"));
        assert!(program_of("/bin/sh", None).is_ok());
        assert_eq!(program_of("/etc/passwd", path).unwrap_err(), "/etc/passwd is not executable");
        assert_eq!(program_of("/nowhere/x y", path).unwrap_err(), "there is no /nowhere/x");
        assert_eq!(program_of("pgkeep-no-such", path).unwrap_err(), "there is no pgkeep-no-such in PATH");
        assert!(program_of("", path).is_err() && program_of("'open", path).is_err());
    }
}
