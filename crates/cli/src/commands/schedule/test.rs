//! `pgkeep schedule test`: each job's checks as the scheduler would run it, with nothing of this environment.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tokio::process::Command;

use super::daemon::Daemon;
use super::install::warn_if_stopped;
use super::job::{Own, Task};
use super::{Context, Done, Installed, block, name, plan, process, units};
use crate::args::SchedulePlace;
use crate::failure::{Failure, Result};
use crate::hint::Code;
use crate::render::tables;

/// What crond gives its jobs (crontab(5)).
const CRON_PATH: &str = "/usr/bin:/bin";
/// What systemd gives its services (systemd.exec(5)).
const SYSTEMD_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// One job as it would be started.
#[derive(Debug)]
struct Trial {
    task: Task,
    /// Its line for the shell.
    command: String,
    path: &'static str,
}

/// How that went.
#[derive(Debug)]
struct Verdict {
    task: Task,
    code: Option<i32>,
    /// What was wrong.
    problem: Option<String>,
}

pub(super) async fn run(context: &Context, place: &SchedulePlace) -> Result<Done> {
    let name = name(context, place)?;
    let installed = Installed::find(context, place, name.as_deref()).await?;
    let trials = trials(context, &installed)?;
    if installed.is_nothing() {
        context.reporter.info("Nothing is scheduled yet: the jobs that would be are tested");
    }
    let mut stopped = None;
    if let (Some(_), Some((crontab, _))) = (&installed.block, &installed.crontab) {
        let daemon = Daemon::find(crontab, &context.surroundings).await;
        warn_if_stopped(context, &daemon);
        stopped = (daemon.running == Some(false)).then_some(daemon.flavour.name());
    }
    let mut verdicts = Vec::new();
    for trial in &trials {
        context.reporter.info(format!("Testing the {} job in the scheduler's bare environment", trial.task.word()));
        verdicts.push(verdict(context, place.user.as_deref(), trial).await?);
    }
    let rows = verdicts.iter().map(|verdict| {
        let result = if verdict.problem.is_none() { "ok" } else { "FAILED" };
        [verdict.task.word().to_owned(), result.to_owned(), verdict.problem.clone().unwrap_or_default()]
    });
    let text = tables::table(["JOB", "RESULT", "WHY"], &[], rows);
    let documents: Vec<Value> = verdicts
        .iter()
        .map(|verdict| {
            json!({
                "job": verdict.task.word(),
                "passed": verdict.problem.is_none(),
                "exit": verdict.code,
                "problem": verdict.problem,
            })
        })
        .collect();
    let mut done = Done::new(text, "tests", json!(documents)).with("installed", json!(!installed.is_nothing()));
    let failed: Vec<_> = verdicts.iter().filter(|verdict| verdict.problem.is_some()).collect();
    done.failure = match (failed.first(), stopped) {
        (Some(first), _) => {
            let words: Vec<_> = failed.iter().map(|verdict| verdict.task.word()).collect();
            let problem = first.problem.as_deref().unwrap_or_default();
            Some(Failure::new(
                Code::JobFailed,
                format!("as the scheduler runs it, {} fails: {problem}", words.join(", ")),
            ))
        }
        (None, Some(daemon)) => Some(Failure::new(Code::SchedulerStopped, format!("no {daemon} daemon is running"))),
        (None, None) => None,
    };
    Ok(done)
}

/// The jobs that are there, else those that would be.
fn trials(context: &Context, installed: &Installed) -> Result<Vec<Trial>> {
    let mut trials: Vec<_> = installed
        .block
        .as_deref()
        .map(block::entries)
        .unwrap_or_default()
        .into_iter()
        .map(|entry| Trial { task: entry.job.task, command: entry.command, path: CRON_PATH })
        .collect();
    for timer in installed.units.iter().filter(|unit| unit.file.ends_with(".timer")) {
        let service = timer.file.replace(".timer", ".service");
        let service = installed.units.iter().find(|unit| unit.file == service);
        if let (Some(job), Some(service)) = (units::job_of(&timer.text), service) {
            let command = units::shell_of(&service.text).unwrap_or_default();
            trials.push(Trial { task: job.task, command, path: SYSTEMD_PATH });
        }
    }
    if installed.is_nothing() {
        let launch = plan::launch(context)?;
        let own = Own { jitter: false, guard: false };
        for job in plan::jobs(context)? {
            trials.push(Trial { task: job.task, command: launch.shell(&job, own), path: CRON_PATH });
        }
    }
    Ok(trials)
}

async fn verdict(context: &Context, user: Option<&str>, trial: &Trial) -> Result<Verdict> {
    let (command, log) = split_log(&trial.command);
    // A backup's plan connects, finds the client tools and reads every store; the others at least start.
    let check = if matches!(trial.task, Task::Backup(_)) { "--dry-run --quiet" } else { "--help" };
    let mut script = format!("{command} {check}");
    if let Some(log) = log {
        script = format!("{{ : >>{log}; }} && {script}");
    }
    let said = process::finish(bare(context, user, trial.path, &script)?, None).await?;
    let problem = (!said.well()).then(|| reason(&said));
    Ok(Verdict { task: trial.task, code: said.code, problem })
}

/// Whether this user's jobs can append to a log, which need not be there yet.
pub(super) async fn can_append(context: &Context, user: &str, log: &Path) -> Result<bool> {
    let quoted = |path: &Path| shell_words::quote(&path.to_string_lossy()).into_owned();
    let folder = quoted(log.parent().unwrap_or(Path::new("/")));
    let script = format!("[ -w {0} ] || {{ [ ! -e {0} ] && [ -w {folder} ]; }}", quoted(log));
    Ok(process::finish(bare(context, Some(user), CRON_PATH, &script)?, None).await?.well())
}

/// A job's line without what it appends its words to, and that.
fn split_log(command: &str) -> (&str, Option<&str>) {
    match command.strip_suffix(" 2>&1").and_then(|rest| rest.rsplit_once(" >>")) {
        Some((command, log)) => (command, Some(log)),
        None => (command, None),
    }
}

/// The first error in a program's words, with its hint, without time and level.
fn reason(said: &process::Said) -> String {
    let lines: Vec<_> = said.stderr.lines().filter_map(|line| line.split_once("[ERROR] ")).collect();
    match lines.iter().map(|(_, message)| *message).collect::<Vec<_>>().join("; ") {
        none if none.is_empty() => said.last_line(),
        messages => messages,
    }
}

/// /bin/sh with what the scheduler gives its jobs and nothing else.
fn bare(context: &Context, user: Option<&str>, path: &str, script: &str) -> Result<Command> {
    let surroundings = &context.surroundings;
    let (mut command, name, home) = if let Some(user) = user {
        let runuser = process::find(surroundings, "runuser").ok_or_else(|| {
            Failure::new(Code::Usage, "there is no runuser to test another user's jobs with")
                .hint("run it as that user")
        })?;
        let mut command = Command::new(runuser);
        command.args(["-u", user, "--", "/bin/sh", "-c", script]);
        (command, user.to_owned(), home_of(user)?)
    } else {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        let name = surroundings.variable("LOGNAME").or(surroundings.variable("USER")).unwrap_or("root");
        (command, name.to_owned(), surroundings.home().unwrap_or_else(|| PathBuf::from("/")))
    };
    command
        .env_clear()
        .envs([("PATH", path), ("SHELL", "/bin/sh"), ("LOGNAME", name.as_str()), ("USER", name.as_str())])
        .env("HOME", &home)
        .current_dir(if home.is_dir() { &home } else { Path::new("/") });
    Ok(command)
}

fn home_of(user: &str) -> Result<PathBuf> {
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let found = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == user).then(|| fields.nth(4)).flatten()
    });
    found.map(PathBuf::from).ok_or_else(|| Failure::settings(format!("there is no user {user} on this host")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_told_from_the_command() {
        assert_eq!(split_log("cd / && x y >>'/a b' 2>&1"), ("cd / && x y", Some("'/a b'")));
        assert_eq!(split_log("cd / && x y"), ("cd / && x y", None));
    }
}
