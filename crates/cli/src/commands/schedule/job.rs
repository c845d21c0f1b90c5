//! The jobs of a schedule and the command line of each.

use std::path::{Path, PathBuf};
use std::time::Duration;

use pgkeep_core::BackupClass;
use pgkeep_core::schedule::CronExpression;

use crate::failure::{Failure, Result};

/// What a job does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Task {
    /// A backup of a class.
    Backup(BackupClass),
    /// Verifies the newest backup.
    Verify,
    /// Restores the newest backup as a test.
    Drill,
}

impl Task {
    /// Its word in comments and names of units.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Backup(class) => class.word(),
            Self::Verify => "verify",
            Self::Drill => "drill",
        }
    }

    /// The task by its word.
    pub(super) fn from_word(word: &str) -> Option<Self> {
        match word {
            "verify" => Some(Self::Verify),
            "drill" => Some(Self::Drill),
            word => BackupClass::from_word(word).map(Self::Backup),
        }
    }

    /// What it is, for people.
    pub(super) fn title(self) -> String {
        match self {
            Self::Backup(class) => format!("{class} backup"),
            Self::Verify => "verification of the newest backup".to_owned(),
            Self::Drill => "restore test of the newest backup".to_owned(),
        }
    }

    fn arguments(self) -> Vec<String> {
        match self {
            Self::Backup(class) => vec!["backup".to_owned(), format!("--{class}")],
            Self::Verify => vec!["verify".to_owned(), "--latest".to_owned()],
            Self::Drill => vec!["drill".to_owned(), "--monthly".to_owned()],
        }
    }
}

/// A task and its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Job {
    /// What.
    pub(super) task: Task,
    /// When, in UTC.
    pub(super) expression: CronExpression,
}

/// How every job is started: what the bare environment of a scheduler does not say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Launch {
    /// The program.
    pub(super) program: PathBuf,
    /// Where it starts, so that relative paths mean what they meant when it was set up.
    pub(super) directory: PathBuf,
    /// Settings that no file has, none of them secret: name and value.
    pub(super) variables: Vec<(String, String)>,
    /// `--env-file`, `--config`, `--database`, `--compression`.
    pub(super) options: Vec<(&'static str, String)>,
    /// What stderr is appended to; `None` leaves it to the scheduler.
    pub(super) log: Option<PathBuf>,
    /// Longest random delay.
    pub(super) jitter: Duration,
}

/// Who delays and who looks whether a job is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Own {
    /// The job sleeps itself.
    pub(super) jitter: bool,
    /// The job looks itself whether it is due.
    pub(super) guard: bool,
}

impl Launch {
    /// A job's program and arguments.
    pub(super) fn words(&self, job: &Job, own: Own) -> Vec<String> {
        let mut words = vec![text(&self.program)];
        words.extend(job.task.arguments());
        if matches!(job.task, Task::Backup(_)) {
            if own.jitter && !self.jitter.is_zero() {
                words.extend(["--jitter".to_owned(), format!("{}s", self.jitter.as_secs())]);
            }
            if own.guard {
                words.extend(["--if-due".to_owned(), job.expression.fields().to_owned()]);
            }
        }
        for (option, value) in &self.options {
            if *option != "--compression" || matches!(job.task, Task::Backup(_)) {
                words.extend([(*option).to_owned(), value.clone()]);
            }
        }
        words
    }

    /// A job as a line for /bin/sh.
    pub(super) fn shell(&self, job: &Job, own: Own) -> String {
        let assignments = self.variables.iter().map(|(name, value)| format!("{name}={}", shell_words::quote(value)));
        let command: Vec<_> = assignments.chain([shell_words::join(self.words(job, own))]).collect();
        let log = match &self.log {
            Some(log) => format!(" >>{} 2>&1", shell_words::quote(&text(log))),
            None => String::new(),
        };
        format!("cd {} && {}{log}", shell_words::quote(&text(&self.directory)), command.join(" "))
    }

    /// Where its settings come from, for people, and to tell schedules apart.
    pub(super) fn settings(&self) -> String {
        let files: Vec<_> = self
            .options
            .iter()
            .filter(|(option, _)| *option != "--compression")
            .map(|(option, value)| format!("{option} {value}"))
            .collect();
        if files.is_empty() { format!("settings of {}", self.directory.display()) } else { files.join(" ") }
    }

    /// Neither crontabs nor units can hold line breaks.
    pub(super) fn check(&self) -> Result<()> {
        let mut texts = vec![text(&self.program), text(&self.directory)];
        texts.extend(self.log.iter().map(|log| text(log)));
        texts.extend(self.variables.iter().map(|(_, value)| value.clone()));
        texts.extend(self.options.iter().map(|(_, value)| value.clone()));
        match texts.iter().find(|text| text.chars().any(char::is_control)) {
            Some(text) => Err(Failure::settings(format!("{text:?} can't be in a schedule: it has control characters"))),
            None => Ok(()),
        }
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn launch() -> Launch {
        Launch {
            program: PathBuf::from("/usr/local/bin/pgkeep"),
            directory: PathBuf::from("/srv/my app"),
            variables: vec![("PG_BINDIRS".to_owned(), "/opt/pg 17/bin".to_owned())],
            options: vec![("--env-file", "/etc/pgkeep/100%.env".to_owned()), ("--compression", "gzip:6".to_owned())],
            log: Some(PathBuf::from("/var/log/backups.log")),
            jitter: Duration::from_mins(5),
        }
    }

    pub(in super::super) fn job(word: &str, expression: &str) -> Job {
        Job { task: Task::from_word(word).unwrap(), expression: CronExpression::parse(expression).unwrap() }
    }

    #[test]
    fn a_line_for_the_shell() {
        let own = Own { jitter: true, guard: true };
        assert_eq!(
            launch().shell(&job("daily", "@daily"), own),
            "cd '/srv/my app' && PG_BINDIRS='/opt/pg 17/bin' /usr/local/bin/pgkeep backup --daily --jitter 300s \
             --if-due '0 0 * * *' --env-file '/etc/pgkeep/100%.env' --compression gzip:6 >>/var/log/backups.log 2>&1"
        );
        let own = Own { jitter: false, guard: false };
        assert_eq!(
            launch().words(&job("verify", "0 5 * * 6"), own),
            ["/usr/local/bin/pgkeep", "verify", "--latest", "--env-file", "/etc/pgkeep/100%.env"]
        );
    }

    #[test]
    fn no_line_breaks() {
        let launch = Launch { directory: PathBuf::from("/a\n* * * * * evil"), ..launch() };
        assert!(launch.check().is_err());
    }
}
