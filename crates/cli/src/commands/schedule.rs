//! `pgkeep schedule`, and the drop-in `setup-backup-cron`.

mod block;
mod crontab;
mod daemon;
mod install;
mod job;
mod plan;
mod process;
mod remove;
mod show;
mod systemd;
mod test;
mod units;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::{Context, Done};
use crate::args::{ScheduleAction, ScheduleArgs, SchedulePlace};
use crate::failure::{Failure, Result};
use crontab::Crontab;
use job::{Job, Task};
use systemd::Systemd;
use units::Unit;

pub(super) async fn run(context: &Context, args: &ScheduleArgs) -> Result<Done> {
    match &args.action {
        ScheduleAction::Install(args) => install::run(context, args).await,
        ScheduleAction::Show(place) => show::run(context, place).await,
        ScheduleAction::Test(place) => test::run(context, place).await,
        ScheduleAction::Remove(args) => remove::run(context, args).await,
    }
}

/// The schedule's name, by which several of one user are told apart.
fn name(context: &Context, place: &SchedulePlace) -> Result<Option<String>> {
    let name = place.name.clone().or_else(|| context.globals.database.clone());
    let sound = |name: &String| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
    match name.as_ref().filter(|name| !sound(name)) {
        Some(name) => Err(Failure::settings(format!("{name:?} is no name for a schedule"))
            .hint("letters, digits, - and _: --name NAME")),
        None => Ok(name),
    }
}

/// What is there of a schedule, in the crontab and as units.
#[derive(Debug)]
struct Installed {
    /// The crontab and its text, where there is such a program.
    crontab: Option<(Crontab, Vec<u8>)>,
    /// The block in it.
    block: Option<String>,
    /// Where units are.
    systemd: Systemd,
    /// The units there.
    units: Vec<Unit>,
}

impl Installed {
    /// Looks at both, or at the one that was asked for.
    async fn find(context: &Context, place: &SchedulePlace, name: Option<&str>) -> Result<Self> {
        let surroundings = &context.surroundings;
        let crontab = Crontab::find(surroundings, place.user.as_deref()).filter(|_| !place.systemd);
        let crontab = match crontab {
            Some(crontab) => match crontab.read().await {
                Ok(text) => Some((crontab, text)),
                // Somebody who may not have a crontab can have timers.
                Err(failure) if !place.cron && systemd::is_running() => {
                    context.reporter.detail(failure.message);
                    None
                }
                Err(failure) => return Err(failure),
            },
            None => None,
        };
        let block = match &crontab {
            Some((_, text)) => block::split(text, name)?.block.map(|block| String::from_utf8_lossy(block).into_owned()),
            None => None,
        };
        let systemd = Systemd::find(surroundings).unwrap_or_else(|_| Systemd::unmanaged(surroundings, None));
        let units = if place.cron { Vec::new() } else { systemd.read(name) };
        Ok(Self { crontab, block, systemd, units })
    }

    /// The jobs that are there.
    fn jobs(&self) -> Vec<Job> {
        let timers = self.units.iter().filter_map(|unit| units::job_of(&unit.text));
        let entries = self.block.as_deref().map(block::entries).unwrap_or_default();
        entries.into_iter().map(|entry| entry.job).chain(timers).collect()
    }

    fn is_nothing(&self) -> bool {
        self.block.is_none() && self.units.is_empty()
    }
}

/// The next times of a job, in UTC.
fn next_times(job: &Job, now: DateTime<Utc>) -> Vec<DateTime<Utc>> {
    job.expression.runs_after(now).take(3).collect()
}

fn next_words(job: &Job, now: DateTime<Utc>) -> String {
    let times = next_times(job, now).into_iter().map(|at| at.format("%a %Y-%m-%d %H:%M").to_string());
    times.collect::<Vec<_>>().join(", ")
}

fn document(job: &Job, now: DateTime<Utc>) -> Value {
    let class = match job.task {
        Task::Backup(class) => Some(class),
        Task::Verify | Task::Drill => None,
    };
    json!({
        "job": job.task.word(),
        "class": class,
        "expression": job.expression,
        "words": job.expression.words(),
        "next": next_times(job, now),
    })
}
