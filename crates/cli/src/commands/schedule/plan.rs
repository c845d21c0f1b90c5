//! What is to be scheduled and how it is started.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::job::{Job, Launch, Task};
use super::{Context, process};
use crate::failure::{Failure, Result};
use crate::invocation::Program;
use crate::settings::variable::{self, Care};
use crate::settings::{DEFAULT_LOG_FILE, DROP_IN_COMPRESSION, Origin, optional_expression};

const DEFAULT_JITTER: Duration = Duration::from_mins(5);
/// Jobs that look every hour whether they are due must not sleep into the next hour.
const LONGEST_JITTER: Duration = Duration::from_mins(59);

/// The jobs as set.
pub(super) fn jobs(context: &Context) -> Result<Vec<Job>> {
    let layers = &context.settings.layers;
    let backups = context.settings.schedule.jobs();
    let backups = backups.map(|(class, expression)| Job { task: Task::Backup(class), expression: expression.clone() });
    let mut jobs: Vec<_> = backups.collect();
    for (task, variable) in [(Task::Verify, &variable::SCHEDULE_VERIFY), (Task::Drill, &variable::SCHEDULE_DRILL)] {
        jobs.extend(optional_expression(layers, variable)?.map(|expression| Job { task, expression }));
    }
    if jobs.is_empty() {
        return Err(Failure::settings("nothing is to be scheduled: every time is none"));
    }
    Ok(jobs)
}

/// How jobs are started so that they see the settings that this run sees.
pub(super) fn launch(context: &Context) -> Result<Launch> {
    let layers = &context.settings.layers;
    let jitter = layers.duration(&variable::SCHEDULE_JITTER)?.unwrap_or(DEFAULT_JITTER);
    if jitter > LONGEST_JITTER {
        return Err(Failure::settings("the random delay is an hour or longer").hint("--jitter 59m is the longest"));
    }
    let directory = context.surroundings.directory.clone();
    let (env_file, config) = layers.files();
    let mut options = Vec::new();
    for (option, file) in [("--env-file", env_file), ("--config", config)] {
        options.extend(file.map(|file| (option, directory.join(file).to_string_lossy().into_owned())));
    }
    options.extend(context.globals.database.clone().map(|database| ("--database", database)));
    let log = log(context);
    if context.program == Program::SetupBackupCron && context.settings.compression.is_none() {
        options.push(("--compression", DROP_IN_COMPRESSION.to_owned()));
    }
    let variables = variables(context)?;
    let launch = Launch { program: program(context)?, directory, variables, options, log, jitter };
    launch.check()?;
    Ok(launch)
}

/// `pgkeep` beside the program that runs; by the name on PATH where that is the same, so that an upgrade is followed.
fn program(context: &Context) -> Result<PathBuf> {
    let own = std::env::current_exe().map_err(|error| Failure::io("find this program", &error))?;
    let beside = own.with_file_name(Program::Pgkeep.name());
    let same = |path: &PathBuf| std::fs::canonicalize(path).ok() == std::fs::canonicalize(&beside).ok();
    let program = process::find(&context.surroundings, Program::Pgkeep.name()).filter(same).unwrap_or(beside);
    if !process::is_program(&program) {
        return Err(Failure::settings(format!("there is no {} for the jobs to run", program.display()))
            .hint("install pgkeep and the drop-ins into one folder"));
    }
    if context.surroundings.uid == 0 && can_be_replaced(&program) {
        context.reporter.warn(format!(
            "{} can be replaced by others than root, and root's jobs would run what they put there; install it in \
             /usr/local/bin",
            program.display()
        ));
    }
    Ok(program)
}

/// Whether somebody other than root owns, or anybody may write, the program or its folder.
fn can_be_replaced(program: &Path) -> bool {
    let open =
        |path: &Path| std::fs::metadata(path).is_ok_and(|metadata| metadata.uid() != 0 || metadata.mode() & 0o022 != 0);
    open(program) || program.parent().is_some_and(open)
}

/// Settings that only the environment has. A crontab is no place for secrets.
fn variables(context: &Context) -> Result<Vec<(String, String)>> {
    let layers = &context.settings.layers;
    let mut secret = Vec::new();
    let mut plain = Vec::new();
    for variable in variable::ALL.iter().filter(|known| known.name != variable::CONFIG.name) {
        let Some(found) = layers.get(variable) else { continue };
        match found.origin {
            Origin::Environment(name) if variable.care == Care::Secret => secret.push(name.to_owned()),
            Origin::Environment(name) => plain.push((name.to_owned(), found.text)),
            _ => {}
        }
    }
    let libpq = context.surroundings.variables.iter().filter(|(name, value)| {
        name.starts_with("PG") && !name.starts_with("PGKEEP_") && *name != "PGDATA" && !value.is_empty()
    });
    for (name, value) in libpq.filter(|(name, _)| variable::by_name(name).is_none()) {
        if name == "PGPASSWORD" {
            secret.push(name.clone());
        } else {
            plain.push((name.clone(), value.clone()));
        }
    }
    if !secret.is_empty() {
        let message = format!(
            "{} {} only in this environment, which scheduled jobs do not have",
            secret.join(", "),
            if secret.len() == 1 { "is" } else { "are" }
        );
        return Err(Failure::settings(message)
            .hint("write NAME='value' lines into a file that only you can read (chmod 600) and pass --env-file FILE"));
    }
    Ok(plain)
}

/// The log that the jobs' words are appended to, where it can be written.
fn log(context: &Context) -> Option<PathBuf> {
    let found = context.settings.layers.text(&variable::LOG_FILE).unwrap_or_else(|| DEFAULT_LOG_FILE.to_owned());
    (found != "none").then(|| context.surroundings.directory.join(found))
}

/// Whether the shell of a job could append to this file.
pub(super) fn can_append(log: &Path) -> bool {
    use rustix::fs::{Access, access};
    match log.parent() {
        _ if log.exists() => access(log, Access::WRITE_OK).is_ok(),
        Some(folder) => access(folder, Access::WRITE_OK | Access::EXEC_OK).is_ok(),
        None => false,
    }
}
