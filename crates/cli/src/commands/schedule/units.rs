//! The text of systemd's units.

use std::fmt::Write as _;

use super::job::{Job, Launch, Own, Task};

/// One unit: its file's name and text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unit {
    /// Such as `pgkeep-daily.timer`.
    pub(super) file: String,
    /// What is in it.
    pub(super) text: String,
}

/// A job's units' name without its ending: `pgkeep-daily`, `pgkeep-shop-daily`.
pub(super) fn stem(name: Option<&str>, task: Task) -> String {
    match name {
        Some(name) => format!("pgkeep-{name}-{}", task.word()),
        None => format!("pgkeep-{}", task.word()),
    }
}

/// The line that says what a unit is for, to tell schedules apart.
pub(super) fn settings_of(text: &str) -> Option<&str> {
    text.lines().next()?.strip_prefix("# Written by pgkeep schedule: ")
}

/// Whose manager the units are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manager<'u> {
    /// The system's; jobs run as this user, else as root.
    System(Option<&'u str>),
    /// A user's own, which can't close off parts of the host.
    User,
}

/// Service and timer of every job.
pub(super) fn units(name: Option<&str>, launch: &Launch, jobs: &[Job], manager: Manager<'_>) -> Vec<Unit> {
    jobs.iter().flat_map(|job| [service(name, launch, job, manager), timer(name, launch, job)]).collect()
}

fn service(name: Option<&str>, launch: &Launch, job: &Job, manager: Manager<'_>) -> Unit {
    let own = Own { jitter: false, guard: false };
    let command: Vec<_> = launch.words(job, own).iter().map(|word| quoted(word)).collect();
    let mut text = format!("# Written by pgkeep schedule: {}\n", launch.settings());
    let _ = writeln!(text, "[Unit]\nDescription=pgkeep: {}", title(name, job));
    if let Manager::System(_) = manager {
        text.push_str("Wants=network-online.target\nAfter=network-online.target postgresql.service\n");
    }
    text.push_str("\n[Service]\nType=oneshot\n");
    if let Manager::System(Some(user)) = manager {
        let _ = writeln!(text, "User={user}");
    }
    let directory = launch.directory.to_string_lossy().replace('%', "%%");
    let _ = writeln!(text, "WorkingDirectory={directory}");
    for (variable, value) in &launch.variables {
        let _ = writeln!(text, "Environment={}", quoted(&format!("{variable}={value}")).replace("$$", "$"));
    }
    let _ = writeln!(text, "ExecStart={}", command.join(" "));
    text.push_str(POLITE);
    if let Manager::System(_) = manager {
        text.push_str(CLOSED);
    }
    Unit { file: format!("{}.service", stem(name, job.task)), text }
}

/// Others come first, and an end is an orderly one.
const POLITE: &str = "\
UMask=0077
Nice=10
IOSchedulingClass=best-effort
IOSchedulingPriority=7
KillMode=mixed
TimeoutStopSec=2min
";

/// What no backup needs of the host. Where it writes is the user's choice, so only what none writes to is closed; a socket
/// of PostgreSQL may be in /tmp.
const CLOSED: &str = "\
NoNewPrivileges=yes
ProtectSystem=full
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
SystemCallArchitectures=native
";

fn timer(name: Option<&str>, launch: &Launch, job: &Job) -> Unit {
    let mut text = format!("# Written by pgkeep schedule: {}\n", launch.settings());
    let _ =
        writeln!(text, "[Unit]\nDescription=pgkeep: {}, {} UTC\n\n[Timer]", title(name, job), job.expression.words());
    for event in job.expression.on_calendar() {
        let _ = writeln!(text, "OnCalendar={event}");
    }
    let _ = writeln!(
        text,
        "AccuracySec=1s\nRandomizedDelaySec={}\nPersistent=true\n\n[Install]\nWantedBy=timers.target",
        launch.jitter.as_secs()
    );
    let _ = writeln!(text, "\n# {} \"{}\" UTC", job.task.word(), job.expression);
    Unit { file: format!("{}.timer", stem(name, job.task)), text }
}

/// The job in a timer's text.
pub(super) fn job_of(text: &str) -> Option<Job> {
    let (word, rest) = text.lines().last()?.strip_prefix("# ")?.split_once(" \"")?;
    let (expression, _) = rest.split_once("\" UTC")?;
    Some(Job { task: Task::from_word(word)?, expression: expression.parse().ok()? })
}

/// A service's command as a line for /bin/sh.
pub(super) fn shell_of(text: &str) -> Option<String> {
    let values = |key: &'static str| text.lines().filter_map(move |line| line.strip_prefix(key));
    let words = |line: &str| -> Option<Vec<String>> {
        let words = shell_words::split(line).ok()?;
        Some(words.into_iter().map(|word| word.replace("%%", "%").replace("$$", "$")).collect())
    };
    let directory = values("WorkingDirectory=").next()?.replace("%%", "%");
    let mut parts = vec![format!("cd {} &&", shell_words::quote(&directory))];
    for assignment in values("Environment=") {
        let assignment = words(assignment)?.pop()?;
        let (name, value) = assignment.split_once('=')?;
        parts.push(format!("{name}={}", shell_words::quote(value)));
    }
    parts.push(shell_words::join(words(values("ExecStart=").next()?)?));
    Some(parts.join(" "))
}

fn title(name: Option<&str>, job: &Job) -> String {
    match name {
        Some(name) => format!("{} of {name}", job.task.title()),
        None => job.task.title(),
    }
}

/// A word of a command line as systemd.service(5) reads it.
fn quoted(word: &str) -> String {
    let escaped = word.replace('\\', "\\\\").replace('%', "%%").replace('$', "$$");
    let plain = !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "-_./:@+,=%".contains(c));
    if plain { escaped } else { format!("\"{}\"", escaped.replace('"', "\\\"")) }
}

#[cfg(test)]
mod tests {
    use super::super::job::tests::{job, launch};
    use super::*;

    #[test]
    fn a_service_and_a_timer() {
        let units = units(Some("shop"), &launch(), &[job("weekly", "0 2 * * 0")], Manager::System(Some("postgres")));
        let [service, timer] = &units[..] else { panic!("{units:?}") };
        assert_eq!(
            (service.file.as_str(), timer.file.as_str()),
            ("pgkeep-shop-weekly.service", "pgkeep-shop-weekly.timer")
        );
        for line in [
            "User=postgres",
            "WorkingDirectory=/srv/my app",
            "Environment=\"PG_BINDIRS=/opt/pg 17/bin\"",
            "ExecStart=/usr/local/bin/pgkeep backup --weekly --env-file /etc/pgkeep/100%%.env --compression gzip:6",
        ] {
            assert!(service.text.lines().any(|found| found == line), "{line}\n{}", service.text);
        }
        for line in ["OnCalendar=Sun *-*-* 02:00:00 UTC", "Persistent=true", "RandomizedDelaySec=300"] {
            assert!(timer.text.lines().any(|found| found == line), "{line}\n{}", timer.text);
        }
        assert_eq!(job_of(&timer.text), Some(job("weekly", "0 2 * * 0")));
        let own = Own { jitter: false, guard: false };
        let launch = Launch { log: None, ..launch() };
        assert_eq!(shell_of(&service.text), Some(launch.shell(&job("weekly", "0 2 * * 0"), own)));
        assert_eq!(settings_of(&timer.text), Some("--env-file /etc/pgkeep/100%.env"));
    }

    #[test]
    fn words_are_quoted_for_systemd() {
        assert_eq!(quoted("a b"), "\"a b\"");
        assert_eq!(quoted("50%$x"), "\"50%%$$x\"");
        assert_eq!(quoted("a\"b"), "\"a\\\"b\"");
        assert_eq!(quoted("/usr/bin/x"), "/usr/bin/x");
    }

    /// `examples/systemd` holds what `schedule install --systemd` writes; PGKEEP_UPDATE_DOCS=1 writes it anew.
    #[test]
    fn the_examples_are_what_is_installed() {
        let launch = Launch {
            directory: "/".into(),
            variables: Vec::new(),
            options: vec![("--env-file", "/etc/pgkeep/env".to_owned())],
            ..launch()
        };
        let jobs: Vec<_> = pgkeep_core::schedule::Schedule::default()
            .jobs()
            .map(|(class, expression)| Job { task: Task::Backup(class), expression: expression.clone() })
            .collect();
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/systemd");
        for unit in units(None, &launch, &jobs, Manager::System(Some("postgres"))) {
            let path = folder.join(&unit.file);
            if std::env::var_os("PGKEEP_UPDATE_DOCS").is_some() {
                std::fs::create_dir_all(&folder).unwrap();
                std::fs::write(&path, &unit.text).unwrap();
            }
            let found = std::fs::read_to_string(&path).unwrap_or_default();
            assert_eq!(found, unit.text, "{}: run this test with PGKEEP_UPDATE_DOCS=1", path.display());
        }
    }
}
