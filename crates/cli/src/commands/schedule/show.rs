//! `pgkeep schedule show`: what is there, what it means, when each ran last.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use pgkeep_core::schedule::CronExpression;
use pgkeep_core::{BackupClass, Catalog, ProofKind};
use serde_json::{Value, json};

use super::daemon::Daemon;
use super::install::{of_user, texts, warn_if_stopped};
use super::job::{Job, Task};
use super::{Context, Done, Installed, document, name, next_words};
use crate::args::SchedulePlace;
use crate::failure::Result;
use crate::render::{ago, tables};
use crate::wire::Access;

pub(super) async fn run(context: &Context, place: &SchedulePlace) -> Result<Done> {
    let name = name(context, place)?;
    let installed = Installed::find(context, place, name.as_deref()).await?;
    let jobs = installed.jobs();
    if installed.is_nothing() {
        return Ok(Done::new("nothing is scheduled; `pgkeep schedule install` does that\n", "jobs", json!([])));
    }
    let now = Utc::now();
    let last = match last_runs(context).await {
        Ok(last) => last,
        Err(failure) => {
            context.reporter.warn(format!("when the jobs ran last can't be told: {}", failure.message));
            BTreeMap::new()
        }
    };
    let ran = |job: &Job| last.get(job.task.word());
    let rows = jobs.iter().map(|job| {
        [
            job.task.word().to_owned(),
            job.expression.to_string(),
            job.expression.words(),
            next_words(job, now),
            ran(job).map_or_else(|| "-".to_owned(), |(at, what)| format!("{} ({what})", ago(*at, now))),
        ]
    });
    let table = tables::table(["JOB", "EXPRESSION", "WHEN (UTC)", "NEXT (UTC)", "LAST"], &[], rows);
    let mut text = String::new();
    let mut schedulers = Vec::new();
    if let Some(block) = &installed.block {
        let _ = writeln!(text, "in the crontab{}:\n\n{block}", of_user(place.user.as_deref()));
        schedulers.push("cron");
        if let Some((crontab, _)) = &installed.crontab {
            let daemon = Daemon::find(crontab, &context.surroundings).await;
            warn_if_stopped(context, &daemon);
            warn_if_moved(context, &jobs, block, &daemon);
        }
    }
    if !installed.units.is_empty() {
        let _ = write!(text, "in {}:\n\n{}", installed.systemd.folder.display(), texts(&installed.units));
        schedulers.push("systemd");
        for timer in installed.units.iter().filter(|unit| unit.file.ends_with(".timer")) {
            if installed.systemd.is_active(&timer.file).await == Some(false) {
                context.reporter.warn(format!("{} is not active: systemctl enable --now {0}", timer.file));
            }
        }
    }
    text.push_str(&table);
    warn_if_otherwise_set(context, &jobs);
    let documents: Vec<_> = jobs
        .iter()
        .map(|job| {
            let mut document = document(job, now);
            document["last"] = ran(job).map_or(Value::Null, |(at, what)| json!({"at": at, "what": what}));
            document
        })
        .collect();
    Ok(Done::new(text.clone(), "jobs", json!(documents))
        .with("schedulers", json!(schedulers))
        .with("text", json!(installed.block)))
}

/// The newest backup of each class and the newest proofs: by the job's word, when, and what.
async fn last_runs(context: &Context) -> Result<BTreeMap<&'static str, (DateTime<Utc>, String)>> {
    let keeper = context.keeper(Access::Read).await?;
    let catalog = Catalog::load(&keeper).await?;
    let mut last: BTreeMap<&'static str, (DateTime<Utc>, String)> = BTreeMap::new();
    let mut tell = |word: &'static str, at: DateTime<Utc>, what: String| {
        let newer = last.get(word).is_none_or(|(known, _)| at > *known);
        if newer {
            last.insert(word, (at, what));
        }
    };
    for entry in catalog.own() {
        let meta = &entry.meta;
        if meta.backup_type != BackupClass::PreRestore {
            tell(meta.backup_type.word(), meta.date, meta.id.to_string());
        }
        for proof in &entry.proofs {
            match proof.kind {
                ProofKind::Restore => tell(Task::Drill.word(), proof.at, meta.id.to_string()),
                ProofKind::Deep => tell(Task::Verify.word(), proof.at, meta.id.to_string()),
                ProofKind::Quick | ProofKind::Stored => {}
            }
        }
    }
    Ok(last)
}

/// `status` and alarms go by the settings.
fn warn_if_otherwise_set(context: &Context, jobs: &[Job]) {
    for (class, set) in context.settings.schedule.jobs() {
        let installed = jobs.iter().find(|job| job.task == Task::Backup(class)).map(|job| &job.expression);
        let same = |found: &CronExpression| found.fields() == set.fields();
        if let Some(found) = installed.filter(|found| !same(found)) {
            context.reporter.warn(differs(class, &found.to_string(), &set.to_string()));
        }
    }
}

pub(super) fn differs(class: BackupClass, installed: &str, set: &str) -> String {
    format!(
        "the {class} job is scheduled for {installed:?}, but the settings, by which `status` and alarms judge, say {set:?}: \
         set BACKUP_SCHEDULE_{} to what is meant",
        class.word().to_uppercase()
    )
}

/// A crontab made for another zone than the daemon's.
fn warn_if_moved(context: &Context, jobs: &[Job], block: &str, daemon: &Daemon) {
    let in_utc = daemon.zone.is_utc() || block.contains("\nCRON_TZ=UTC\n") || block.contains(" --if-due ");
    if !in_utc && jobs.iter().any(|job| matches!(job.task, Task::Backup(_))) {
        context.reporter.warn(format!(
            "the jobs' times are UTC and {} runs in {}: run `pgkeep schedule install` again",
            daemon.flavour.name(),
            daemon.zone.name
        ));
    }
}
