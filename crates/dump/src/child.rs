//! The supervision of one child: its stderr read to the end, its exit awaited, its end polite.

use std::process::ExitStatus;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt;
use tokio::process::{ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;

use crate::messages::{StderrLog, warnings};
use crate::{ChildError, Error, PrivateFolder, Result, Tool};

/// How long a child may take to end after SIGTERM.
const POLITE_LIMIT: Duration = Duration::from_secs(5);
/// How long the rest of stderr is waited for after the child's end: somebody else can hold its other end.
const STDERR_LIMIT: Duration = Duration::from_secs(2);
/// What a pipe is enlarged to, in bytes, where the system lets us: fewer switches between the child and us.
pub(crate) const PIPE_BYTES: usize = 1 << 20;

/// A running client tool.
///
/// Dropping it kills its process group at once; [`Child::end`] asks first. Either way it is reaped, and its private files
/// are removed when it is gone.
#[derive(Debug)]
pub(crate) struct Child {
    process: tokio::process::Child,
    tool: Tool,
    log: Arc<Mutex<StderrLog>>,
    stderr: JoinHandle<()>,
    /// Removed last, when the process is gone.
    _private: PrivateFolder,
}

/// How a child ended.
#[derive(Debug, Clone)]
pub(crate) struct Ended {
    tool: Tool,
    status: ExitStatus,
    log: StderrLog,
}

impl Child {
    /// Starts `command`; its stderr is read from now on. Standard output and input are as the command says.
    pub(crate) fn spawn(mut command: Command, tool: Tool, private: PrivateFolder) -> Result<Self> {
        command.stderr(std::process::Stdio::piped());
        let mut process = command.spawn().map_err(|source| {
            Error::io(format!("start {}", command.as_std().get_program().to_string_lossy()), source)
        })?;
        let log = Arc::new(Mutex::new(StderrLog::default()));
        let pipe = process.stderr.take();
        let stderr = tokio::spawn(read_stderr(pipe, Arc::clone(&log)));
        Ok(Self { process, tool, log, stderr, _private: private })
    }

    /// Its standard output, once.
    pub(crate) fn stdout(&mut self) -> Result<ChildStdout> {
        self.stdout_of(PIPE_BYTES)
    }

    /// Its standard output, once, by a pipe that holds about so many bytes.
    pub(crate) fn stdout_of(&mut self, pipe_bytes: usize) -> Result<ChildStdout> {
        let stdout = self.process.stdout.take().ok_or(Error::Statement { problem: "the child's output is taken" })?;
        // Not granted where the user's share of pipe memory is used up: slower, nothing else.
        let _ = rustix::pipe::fcntl_setpipe_size(&stdout, pipe_bytes);
        Ok(stdout)
    }

    /// Whether it has exited.
    pub(crate) fn has_ended(&mut self) -> Result<bool> {
        let status = self.process.try_wait();
        Ok(status.map_err(|source| Error::io(format!("wait for {}", self.tool.name()), source))?.is_some())
    }

    /// What it has warned of so far.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let mut log = lock(&self.log).clone();
        log.finish();
        warnings(self.tool.name(), &log)
    }

    /// Its standard input, once.
    pub(crate) fn stdin(&mut self) -> Result<ChildStdin> {
        let stdin = self.process.stdin.take().ok_or(Error::Statement { problem: "the child's input is taken" })?;
        let _ = rustix::pipe::fcntl_setpipe_size(&stdin, PIPE_BYTES);
        Ok(stdin)
    }

    /// Waits for its own end. Safe to drop and call again.
    pub(crate) async fn wait(&mut self) -> Result<Ended> {
        let status =
            self.process.wait().await.map_err(|source| Error::io(format!("wait for {}", self.tool.name()), source))?;
        // A pipe that a grandchild holds open must not hold us.
        if !self.stderr.is_finished() {
            let _ = tokio::time::timeout(STDERR_LIMIT, &mut self.stderr).await;
        }
        let mut log = lock(&self.log).clone();
        log.finish();
        Ok(Ended { tool: self.tool, status, log })
    }

    /// Ends it: SIGTERM to its process group, SIGKILL if it takes longer than five seconds; reaped when this returns.
    pub(crate) async fn end(mut self) -> Result<Ended> {
        self.signal(Signal::TERM);
        if let Ok(ended) = tokio::time::timeout(POLITE_LIMIT, self.wait()).await {
            return ended;
        }
        tracing::warn!(program = self.tool.name(), "child does not end on SIGTERM and is killed");
        self.signal(Signal::KILL);
        self.wait().await
    }

    /// Signals the whole group while the leader is not reaped, so that the number cannot be anybody else's.
    fn signal(&self, signal: Signal) {
        let group = self.process.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        if let Some(group) = group {
            // ESRCH: it has just ended.
            let _ = kill_process_group(group, signal);
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // tokio's kill_on_drop reaps the leader afterwards.
        self.signal(Signal::KILL);
        self.stderr.abort();
    }
}

impl Ended {
    /// Exit status 0 gives the warnings, one line each; anything else is the error.
    pub(crate) fn success(&self) -> Result<Vec<String>> {
        if self.status.success() { Ok(warnings(self.tool.name(), &self.log)) } else { Err(self.error()) }
    }

    /// The error that this end means.
    pub(crate) fn error(&self) -> Error {
        Error::Child(Box::new(ChildError::new(self.tool.name(), self.status.code(), self.signal(), &self.log)))
    }

    pub(crate) fn exit_code(&self) -> Option<i32> {
        self.status.code()
    }

    pub(crate) fn signal(&self) -> Option<i32> {
        std::os::unix::process::ExitStatusExt::signal(&self.status)
    }

    pub(crate) fn log(&self) -> &StderrLog {
        &self.log
    }
}

async fn read_stderr(pipe: Option<ChildStderr>, log: Arc<Mutex<StderrLog>>) {
    let Some(mut pipe) = pipe else { return };
    let mut buffer = vec![0; 8 << 10];
    loop {
        match pipe.read(&mut buffer).await {
            Ok(0) => break,
            Ok(length) => lock(&log).push(&buffer[..length]),
            Err(error) => {
                tracing::debug!(%error, "child's stderr cannot be read");
                break;
            }
        }
    }
}

fn lock(log: &Mutex<StderrLog>) -> MutexGuard<'_, StderrLog> {
    // A panic while a line was being added loses that line only.
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;
    use std::time::Instant;

    use super::*;

    fn shell(script: &str) -> Child {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]).stdin(Stdio::null()).stdout(Stdio::null()).process_group(0).kill_on_drop(true);
        Child::spawn(command, Tool::PgDump, PrivateFolder::create(&std::env::temp_dir()).unwrap()).unwrap()
    }

    /// Whether any process of the group is left (zombies, which init will reap, aside).
    fn group_lives(group: Pid) -> bool {
        std::fs::read_dir("/proc").unwrap().flatten().any(|entry| {
            let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { return false };
            let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
            fields.first() != Some(&"Z") && fields.get(2) == Some(&group.as_raw_nonzero().to_string().as_str())
        })
    }

    fn group_of(child: &Child) -> Pid {
        Pid::from_raw(child.process.id().unwrap().cast_signed()).unwrap()
    }

    async fn group_is_gone(group: Pid) -> bool {
        for _ in 0..100 {
            if !group_lives(group) {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        false
    }

    #[tokio::test]
    async fn success_has_warnings_and_failure_its_words() {
        let ended = shell("echo 'pg_dump: warning: beware' >&2").wait().await.unwrap();
        assert_eq!(ended.success().unwrap(), ["beware"]);
        let ended = shell("echo 'pg_dump: error: no space' >&2; exit 3").wait().await.unwrap();
        assert_eq!(ended.success().unwrap_err().to_string(), "pg_dump failed with exit status 3: no space");
        let ended = shell("kill -9 $$").wait().await.unwrap();
        assert_eq!(ended.success().unwrap_err().to_string(), "pg_dump was killed by signal 9");
    }

    #[tokio::test]
    async fn a_polite_child_ends_by_sigterm_with_its_whole_group() {
        let child = shell("sleep 600 & sleep 600; true");
        let group = group_of(&child);
        let begun = Instant::now();
        let ended = child.end().await.unwrap();
        assert_eq!(ended.signal(), Some(15));
        assert!(begun.elapsed() < POLITE_LIMIT);
        assert!(group_is_gone(group).await);
    }

    #[tokio::test]
    async fn a_deaf_child_is_killed() {
        let child = shell("trap '' TERM; echo deaf >&2; while :; do sleep 1; done");
        let group = group_of(&child);
        // It must have set its trap before it is asked.
        while lock(&child.log).lines().next().is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let ended = child.end().await.unwrap();
        assert_eq!(ended.signal(), Some(9));
        assert!(group_is_gone(group).await);
    }

    #[tokio::test]
    async fn dropping_leaves_no_orphan() {
        let child = shell("sleep 600 & sleep 600; true");
        let group = group_of(&child);
        drop(child);
        assert!(group_is_gone(group).await);
    }

    #[tokio::test]
    async fn a_grandchild_that_holds_stderr_does_not_hold_us() {
        let begun = Instant::now();
        let mut child = shell("sleep 6 & echo 'pg_dump: warning: left one behind' >&2");
        let ended = child.wait().await.unwrap();
        assert_eq!(ended.success().unwrap(), ["left one behind"]);
        assert!(begun.elapsed() < Duration::from_secs(20));
        // The leader is reaped, so the group is not signalled any more: the sleep ends by itself.
    }

    #[tokio::test]
    async fn what_cannot_be_started_is_named() {
        let error = Child::spawn(
            Command::new("/nowhere/pg_dump"),
            Tool::PgDump,
            PrivateFolder::create(&std::env::temp_dir()).unwrap(),
        )
        .unwrap_err();
        assert_eq!(error.to_string(), "cannot start /nowhere/pg_dump");
    }
}
