//! `pgkeep schedule install`.

use chrono::Utc;
use serde_json::json;

use super::block::{self, Clock};
use super::daemon::{Daemon, Flavour};
use super::job::Job;
use super::systemd::{self, Systemd};
use super::units::{self, Manager, Unit};
use super::{Context, Done, Installed, document, name, next_words, plan, test};
use crate::args::{ScheduleInstallArgs, SchedulePlace};
use crate::failure::{Failure, Result};
use crate::hint::Code;
use crate::render::tables;
use crate::settings::variable;

/// Where the jobs go.
#[derive(Debug)]
enum Choice {
    Cron(Daemon, Clock),
    Systemd(Systemd),
}

pub(super) async fn run(context: &Context, args: &ScheduleInstallArgs) -> Result<Done> {
    let name = name(context, &args.place)?;
    let name = name.as_deref();
    let jobs = plan::jobs(context)?;
    let mut launch = plan::launch(context)?;
    // Wherever they go, they must not be in both places.
    let everywhere = SchedulePlace { cron: false, systemd: false, ..args.place.clone() };
    let installed = Installed::find(context, &everywhere, name).await?;
    refuse_another(&installed, &launch.settings())?;
    let choice = choose(context, args, &installed).await?;
    for (variable, typed) in [
        (&variable::SCHEDULE_DAILY, &args.daily),
        (&variable::SCHEDULE_WEEKLY, &args.weekly),
        (&variable::SCHEDULE_MONTHLY, &args.monthly),
    ] {
        if let Some(typed) = typed {
            context
                .reporter
                .info(format!("`status` and alarms go by the settings: put {}='{typed}' there too", variable.name));
        }
    }
    let now = Utc::now();
    match choice {
        Choice::Cron(daemon, clock) => {
            if let Some(log) = launch.log.take() {
                // A job whose words can't be written down would not start at all.
                let writable = match args.place.user.as_deref() {
                    None => can_append(&log, args.dry_run),
                    Some(user) => test::can_append(context, user, &log).await?,
                };
                if writable {
                    launch.log = Some(log);
                } else {
                    context.reporter.warn(format!(
                        "{} can't be written by {}: cron mails what the jobs say instead; set LOG_FILE",
                        log.display(),
                        args.place.user.as_deref().unwrap_or("this user")
                    ));
                }
            }
            let block = block::block(name, &launch, &jobs, &clock)?;
            let Some((crontab, before)) = &installed.crontab else {
                return Err(Failure::new(Code::SchedulerMissing, "there is no crontab program on this host"));
            };
            let after = block::with(before, name, &block)?;
            let changed = after != *before;
            if !args.dry_run {
                if changed {
                    crontab.write(&after).await?;
                }
                // Not twice.
                installed.systemd.remove_if_any(&installed.units).await?;
                warn_if_stopped(context, &daemon);
            }
            let place = format!("the crontab{}", of_user(args.place.user.as_deref()));
            Ok(done(args.dry_run, changed, &place, &block, &jobs, now)
                .with("scheduler", json!("cron"))
                .with("daemon", json!(daemon.flavour.name()))
                .with("zone", json!(daemon.zone.name))
                .with("guard", json!(matches!(clock, Clock::Guard(_)))))
        }
        Choice::Systemd(systemd) => {
            let manager = if systemd.of_user { Manager::User } else { Manager::System(args.place.user.as_deref()) };
            let units = units::units(name, &launch, &jobs, manager);
            let before = systemd.read(name);
            let changed = units.len() != before.len() || units.iter().any(|unit| !before.contains(unit));
            if !args.dry_run {
                // Also where nothing changed: somebody may have stopped a timer.
                systemd.install(name, &units).await?;
                if args.unit_dir.is_none()
                    && let Some((crontab, text)) = &installed.crontab
                    && let Some(without) = block::without(text, name)?
                {
                    crontab.write(&without).await?;
                    context.reporter.info("The block in the crontab was taken out: the timers take its place");
                }
                if systemd.of_user {
                    context.reporter.warn(
                        "A user's timers stop when the user logs out, unless root runs: loginctl enable-linger USER",
                    );
                }
            }
            let place = format!("{} as systemd timers", systemd.folder.display());
            Ok(done(args.dry_run, changed, &place, &texts(&units), &jobs, now).with("scheduler", json!("systemd")))
        }
    }
}

/// A schedule for other settings is not replaced by mistake.
fn refuse_another(installed: &Installed, settings: &str) -> Result<()> {
    let block = installed.block.as_deref().and_then(block::settings_of);
    let unit = installed.units.first().and_then(|unit| units::settings_of(&unit.text));
    match block.or(unit).filter(|found| *found != settings) {
        None => Ok(()),
        Some(found) => Err(Failure::settings(format!("there is a schedule with other settings already: {found}"))
            .hint(
                "--name NAME gives this one a name and keeps both; `pgkeep schedule remove` makes room for this one",
            )),
    }
}

/// Takes cron unless systemd was asked for or is better.
async fn choose(context: &Context, args: &ScheduleInstallArgs, installed: &Installed) -> Result<Choice> {
    let SchedulePlace { cron, systemd, .. } = args.place;
    let (reporter, surroundings) = (&context.reporter, &context.surroundings);
    if let Some(folder) = &args.unit_dir {
        return Ok(Choice::Systemd(Systemd::unmanaged(surroundings, Some(folder))));
    }
    if systemd {
        return match Systemd::find(surroundings) {
            Err(_) if args.dry_run => Ok(Choice::Systemd(Systemd::unmanaged(surroundings, None))),
            found => found.map(Choice::Systemd),
        };
    }
    let Some((crontab, text)) = &installed.crontab else {
        if !cron && systemd::is_running() {
            reporter.info("There is no crontab for this user: systemd's timers are used");
            return Systemd::find(surroundings).map(Choice::Systemd);
        }
        return Err(Failure::new(Code::SchedulerMissing, "there is no crontab program on this host"));
    };
    let daemon = Daemon::find(crontab, surroundings).await;
    let zone = &daemon.zone;
    let found = block::split(text, super::name(context, &args.place)?.as_deref())?;
    let set_before = last_cron_tz(found.before);
    if daemon.flavour == Flavour::Cronie && (!zone.is_utc() || set_before.is_some()) && !zone.name.contains(' ') {
        reporter.info(format!("cronie runs in {} and honours CRON_TZ: the jobs' times are UTC by that", zone.name));
        let before = set_before.unwrap_or_else(|| zone.name.clone());
        return Ok(Choice::Cron(daemon, Clock::CronTz(before)));
    }
    if zone.is_utc() {
        return Ok(Choice::Cron(daemon, Clock::Utc));
    }
    let why = format!("{} runs in {} and knows no other zone", daemon.flavour.name(), zone.name);
    if !cron && surroundings.uid == 0 && systemd::is_running() {
        reporter.info(format!("{why}: systemd's timers, which know UTC, are used instead"));
        return Systemd::find(surroundings).map(Choice::Systemd);
    }
    reporter.info(format!("{why}: each backup's job looks every hour whether it is due in UTC (--if-due)"));
    let offsets = zone.offsets.clone();
    Ok(Choice::Cron(daemon, Clock::Guard(offsets)))
}

/// What `CRON_TZ` is after these lines.
fn last_cron_tz(crontab: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(crontab);
    let value = |line: &str| {
        let (name, value) = line.trim_start().split_once('=')?;
        (name.trim_end() == "CRON_TZ").then(|| value.trim().trim_matches(['"', '\'']).to_owned())
    };
    text.lines().rev().find_map(value)
}

/// Whether the jobs' shell can append to the log; its folder is made if need be.
fn can_append(log: &std::path::Path, dry_run: bool) -> bool {
    match log.parent() {
        Some(folder) if !folder.exists() => dry_run || std::fs::create_dir_all(folder).is_ok(),
        _ => plan::can_append(log),
    }
}

pub(super) fn warn_if_stopped(context: &Context, daemon: &Daemon) {
    if daemon.running == Some(false) {
        context.reporter.warn(format!(
            "no {} daemon is running: nothing will start until it does (systemctl enable --now cron, or crond; in a \
             container, start it with the container)",
            daemon.flavour.name()
        ));
    }
}

pub(super) fn of_user(user: Option<&str>) -> String {
    user.map_or_else(String::new, |user| format!(" of {user}"))
}

/// Units one after the other, for people.
pub(super) fn texts(units: &[Unit]) -> String {
    units.iter().fold(String::new(), |text, unit| text + "==> " + &unit.file + " <==\n" + &unit.text + "\n")
}

fn done(dry_run: bool, changed: bool, place: &str, text: &str, jobs: &[Job], now: chrono::DateTime<Utc>) -> Done {
    let rows = jobs.iter().map(|job| {
        [job.task.word().to_owned(), job.expression.to_string(), job.expression.words(), next_words(job, now)]
    });
    let table = tables::table(["JOB", "EXPRESSION", "WHEN (UTC)", "NEXT (UTC)"], &[], rows);
    let what = match (dry_run, changed) {
        (true, true) => format!("{text}\n{table}\nnothing was written (--dry-run): this would go into {place}\n"),
        (true, false) => format!("{text}\n{table}\n{place} has this already\n"),
        (false, true) => format!("{table}\ninstalled in {place}; `pgkeep schedule test` runs each job's checks\n"),
        (false, false) => format!("{table}\n{place} had this already\n"),
    };
    let jobs: Vec<_> = jobs.iter().map(|job| document(job, now)).collect();
    Done::new(what, "jobs", json!(jobs))
        .with("text", json!(text))
        .with("changed", json!(changed))
        .with("dry_run", json!(dry_run))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_zone_that_a_crontab_sets() {
        assert_eq!(last_cron_tz(b"MAILTO=x\nCRON_TZ = \"Asia/Tokyo\"\n0 0 * * * x\n").as_deref(), Some("Asia/Tokyo"));
        assert_eq!(last_cron_tz(b"#CRON_TZ=UTC\nTZ=UTC\n"), None);
    }
}
