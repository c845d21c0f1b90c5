//! The marked block in a crontab. Everything outside of it stays byte for byte.

use std::fmt::Write as _;

use pgkeep_core::schedule::CronExpression;

use super::job::{Job, Launch, Own, Task};
use crate::failure::{Failure, Result};

/// Vixie cron's limit for a command (`MAX_COMMAND`).
const LONGEST_COMMAND: usize = 999;

/// How the times of the block come to be UTC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Clock {
    /// The daemon runs in UTC.
    Utc,
    /// The daemon honours `CRON_TZ`; what it was before is put back after the block.
    CronTz(String),
    /// Each backup looks every hour whether it is due, at these offsets of the daemon's zone from UTC, in minutes.
    Guard(Vec<i32>),
}

/// The block's first line, with the schedule's name.
pub(super) fn begin(name: Option<&str>) -> String {
    match name {
        Some(name) => format!("# >>> pgkeep schedule: {name} >>>\n"),
        None => "# >>> pgkeep schedule >>>\n".to_owned(),
    }
}

fn end(name: Option<&str>) -> String {
    begin(name).replace(">>>", "<<<")
}

/// The block of these jobs.
pub(super) fn block(name: Option<&str>, launch: &Launch, jobs: &[Job], clock: &Clock) -> Result<String> {
    let mut text = begin(name);
    text.push_str(&settings_line(launch));
    if let Clock::CronTz(_) = clock {
        text.push_str("CRON_TZ=UTC\n");
    }
    for job in jobs {
        let guard = matches!(clock, Clock::Guard(_)) && matches!(job.task, Task::Backup(_));
        let own = Own { jitter: true, guard };
        let command = launch.shell(job, own).replace('%', "\\%");
        if command.len() > LONGEST_COMMAND {
            let message = format!(
                "the {} job's command has {} characters, cron takes {LONGEST_COMMAND}",
                job.task.word(),
                command.len()
            );
            return Err(Failure::settings(message).hint("put the settings into a file and name it with --env-file"));
        }
        let times = match clock {
            Clock::Guard(offsets) if guard => format!("{} * * * *", guard_minutes(&job.expression, offsets)),
            _ => job.expression.fields().to_owned(),
        };
        text.push_str(&job_line(job));
        let _ = writeln!(text, "{times} {command}");
    }
    if let Clock::CronTz(before) = clock {
        let _ = writeln!(text, "CRON_TZ={before}");
    }
    text.push_str(&end(name));
    Ok(text)
}

fn settings_line(launch: &Launch) -> String {
    format!("# {}\n", launch.settings())
}

/// What the schedule in a block is for: its line of settings.
pub(super) fn settings_of(block: &str) -> Option<&str> {
    block.lines().nth(1)?.strip_prefix("# ")
}

fn job_line(job: &Job) -> String {
    format!("# {} \"{}\" UTC: {}\n", job.task.word(), job.expression, job.expression.words())
}

/// The minutes of every hour at which an expression in UTC may be due in a zone with these offsets.
fn guard_minutes(expression: &CronExpression, offsets: &[i32]) -> String {
    let minutes: std::collections::BTreeSet<_> = expression
        .minutes()
        .flat_map(|minute| offsets.iter().map(move |offset| (minute as i32 + offset).rem_euclid(60)))
        .collect();
    let minutes: Vec<_> = minutes.iter().map(ToString::to_string).collect();
    if minutes.len() == 60 { "*".to_owned() } else { minutes.join(",") }
}

/// A crontab around the block.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Split<'t> {
    /// What stands before the block; everything if there is none.
    pub(super) before: &'t [u8],
    /// The block, if there is one.
    pub(super) block: Option<&'t [u8]>,
    /// What stands after it.
    pub(super) after: &'t [u8],
}

/// Finds the block of this name.
pub(super) fn split<'t>(crontab: &'t [u8], name: Option<&str>) -> Result<Split<'t>> {
    let (begin, end) = (begin(name), end(name));
    let Some(start) = find_line(crontab, begin.as_bytes(), 0) else {
        return Ok(Split { before: crontab, block: None, after: b"" });
    };
    let broken = || {
        Failure::settings("the schedule's block in the crontab has no end, or two beginnings")
            .hint("take its lines out by hand with crontab -e, then run this again")
    };
    let close = find_line(crontab, end.as_bytes(), start).ok_or_else(broken)?;
    let stop = (close + end.len()).min(crontab.len());
    if find_line(crontab, begin.as_bytes(), start + begin.len()).is_some() {
        return Err(broken());
    }
    Ok(Split { before: &crontab[..start], block: Some(&crontab[start..stop]), after: &crontab[stop..] })
}

/// Where a line (with its line feed, which the last line may lack) begins, from `from` on.
fn find_line(text: &[u8], line: &[u8], from: usize) -> Option<usize> {
    let bare = &line[..line.len() - 1];
    let mut starts = (from..text.len()).filter(|at| *at == 0 || text[at - 1] == b'\n');
    starts.find(|at| text[*at..].starts_with(line) || &text[*at..] == bare)
}

/// The crontab with this block, at the place where one was, else at its end.
pub(super) fn with(crontab: &[u8], name: Option<&str>, block: &str) -> Result<Vec<u8>> {
    let found = split(crontab, name)?;
    let mut text = found.before.to_vec();
    // cron itself refuses a crontab whose last line has no end.
    if found.block.is_none() && text.last().is_some_and(|last| *last != b'\n') {
        text.push(b'\n');
    }
    text.extend_from_slice(block.as_bytes());
    text.extend_from_slice(found.after);
    Ok(text)
}

/// The crontab without the block; `None` if it has none.
pub(super) fn without(crontab: &[u8], name: Option<&str>) -> Result<Option<Vec<u8>>> {
    let found = split(crontab, name)?;
    Ok(found.block.map(|_| [found.before, found.after].concat()))
}

/// A job as it stands in a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// The job, by its comment.
    pub(super) job: Job,
    /// Its line for the shell.
    pub(super) command: String,
}

/// The jobs of a block.
pub(super) fn entries(block: &str) -> Vec<Entry> {
    let lines: Vec<_> = block.lines().collect();
    let entry = |pair: &[&str]| {
        let (word, rest) = pair[0].strip_prefix("# ")?.split_once(" \"")?;
        let (expression, _) = rest.split_once("\" UTC")?;
        let job = Job { task: Task::from_word(word)?, expression: CronExpression::parse(expression).ok()? };
        let mut fields = pair[1].splitn(6, ' ');
        let command = fields.nth(5)?.replace("\\%", "%");
        Some(Entry { job, command })
    };
    lines.windows(2).filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::super::job::tests::{job, launch};
    use super::*;

    fn jobs() -> Vec<Job> {
        vec![job("daily", "0 3 * * *"), job("weekly", "@weekly"), job("verify", "30 4 * * 6")]
    }

    #[test]
    fn in_utc() {
        let text = block(None, &launch(), &jobs(), &Clock::Utc).unwrap();
        assert_eq!(
            text,
            "# >>> pgkeep schedule >>>\n\
             # --env-file /etc/pgkeep/100%.env\n\
             # daily \"0 3 * * *\" UTC: at 03:00 every day\n\
             0 3 * * * cd '/srv/my app' && PG_BINDIRS='/opt/pg 17/bin' /usr/local/bin/pgkeep backup --daily --jitter 300s \
             --env-file '/etc/pgkeep/100\\%.env' --compression gzip:6 >>/var/log/backups.log 2>&1\n\
             # weekly \"@weekly\" UTC: at 00:00 on Sundays\n\
             0 0 * * 0 cd '/srv/my app' && PG_BINDIRS='/opt/pg 17/bin' /usr/local/bin/pgkeep backup --weekly --jitter 300s \
             --env-file '/etc/pgkeep/100\\%.env' --compression gzip:6 >>/var/log/backups.log 2>&1\n\
             # verify \"30 4 * * 6\" UTC: at 04:30 on Saturdays\n\
             30 4 * * 6 cd '/srv/my app' && PG_BINDIRS='/opt/pg 17/bin' /usr/local/bin/pgkeep verify --latest \
             --env-file '/etc/pgkeep/100\\%.env' >>/var/log/backups.log 2>&1\n\
             # <<< pgkeep schedule <<<\n"
        );
        let found = entries(&text);
        assert_eq!(found.iter().map(|entry| entry.job.clone()).collect::<Vec<_>>(), jobs());
        assert_eq!(found[0].command, launch().shell(&jobs()[0], Own { jitter: true, guard: false }));
        assert_eq!(settings_of(&text), Some("--env-file /etc/pgkeep/100%.env"));
    }

    #[test]
    fn elsewhere() {
        let text = block(None, &launch(), &jobs(), &Clock::CronTz("Europe/Berlin".to_owned())).unwrap();
        assert!(text.contains("\nCRON_TZ=UTC\n# daily"), "{text}");
        assert!(text.ends_with("\nCRON_TZ=Europe/Berlin\n# <<< pgkeep schedule <<<\n"), "{text}");
        let text = block(None, &launch(), &jobs(), &Clock::Guard(vec![60, 120])).unwrap();
        assert!(text.contains("\n0 * * * * cd"), "{text}");
        assert!(text.contains(" --if-due '0 3 * * *' "), "{text}");
        // Others than backups have no guard: an hour more or less does not matter for them.
        assert!(text.contains("\n30 4 * * 6 cd"), "{text}");
        assert_eq!(entries(&text).len(), 3);
        assert_eq!(guard_minutes(&jobs()[0].expression, &[330]), "30");
        assert_eq!(guard_minutes(&jobs()[0].expression, &[630, 660]), "0,30");
        assert_eq!(guard_minutes(&jobs()[0].expression, &[-210]), "30");
    }

    #[test]
    fn foreign_lines_stay_byte_for_byte() {
        let text = block(None, &launch(), &jobs(), &Clock::Utc).unwrap();
        let other = block(Some("crm"), &launch(), &jobs(), &Clock::Utc).unwrap();
        for foreign in [&b""[..], b"MAILTO=ops\n\n# caf\xe9 \t \n5 4 * * * true\n", b"\n\n", other.as_bytes()] {
            let installed = with(foreign, None, &text).unwrap();
            assert_eq!(with(&installed, None, &text).unwrap(), installed, "again is the same");
            assert_eq!(without(&installed, None).unwrap().unwrap(), foreign);
            // What was added after the block stays too, and the block stays where it is.
            let added = [&installed, &b"1 2 3 4 5 more\n"[..]].concat();
            let shorter = block(None, &launch(), &jobs()[..1], &Clock::Utc).unwrap();
            let changed = with(&added, None, &shorter).unwrap();
            assert_eq!(changed, [foreign, shorter.as_bytes(), b"1 2 3 4 5 more\n"].concat());
        }
        assert_eq!(without(b"5 4 * * * true\n", None).unwrap(), None);
        assert_eq!(without(text.trim_end().as_bytes(), None).unwrap(), Some(Vec::new()));
    }

    #[test]
    fn a_block_that_was_torn_is_left_alone() {
        let text = block(None, &launch(), &jobs(), &Clock::Utc).unwrap();
        let torn = text.replace("# <<< pgkeep schedule <<<\n", "");
        assert!(with(torn.as_bytes(), None, &text).is_err());
        assert!(without([torn, text].concat().as_bytes(), None).is_err());
    }

    #[test]
    fn too_long_for_cron() {
        let launch = Launch { variables: vec![("X".to_owned(), "y".repeat(1000))], ..launch() };
        assert!(block(None, &launch, &jobs(), &Clock::Utc).is_err());
    }
}
