//! Which cron daemon this host has, whether it runs, and in which zone.

use std::collections::BTreeSet;
use std::path::Path;

use chrono::{TimeDelta, Utc};
use tokio::process::Command;

use super::crontab::Crontab;
use super::process;
use crate::surroundings::Surroundings;

/// What the daemon makes of a crontab.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flavour {
    /// Red Hat's: honours `CRON_TZ`.
    Cronie,
    /// BusyBox's.
    Busybox,
    /// systemd-cron: systemd itself reads crontabs.
    SystemdCron,
    /// Vixie's, as in Debian and Ubuntu, and all others: one zone, the host's.
    Vixie,
}

impl Flavour {
    /// Its name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Cronie => "cronie",
            Self::Busybox => "BusyBox crond",
            Self::SystemdCron => "systemd-cron",
            Self::Vixie => "cron",
        }
    }
}

/// The cron daemon.
#[derive(Debug, Clone)]
pub(super) struct Daemon {
    /// Which.
    pub(super) flavour: Flavour,
    /// Whether it runs; `None` if that can't be seen.
    pub(super) running: Option<bool>,
    /// The zone its times are in.
    pub(super) zone: Zone,
}

/// A zone's name and its offsets from UTC over a year.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Zone {
    /// Such as `Europe/Berlin`.
    pub(super) name: String,
    /// Offsets from UTC in minutes, ascending.
    pub(super) offsets: Vec<i32>,
}

impl Zone {
    /// Whether it is UTC all year.
    pub(super) fn is_utc(&self) -> bool {
        self.offsets == [0]
    }
}

const GENERATORS: [&str; 2] = [
    "/usr/lib/systemd/system-generators/systemd-crontab-generator",
    "/lib/systemd/system-generators/systemd-crontab-generator",
];
/// What cron daemons are called as processes.
const DAEMONS: [&str; 4] = ["cron", "crond", "fcron", "bcron-sched"];

impl Daemon {
    /// Looks at this host.
    pub(super) async fn find(crontab: &Crontab, surroundings: &Surroundings) -> Self {
        let flavour = flavour(crontab).await;
        let process = Process::find();
        let running = match flavour {
            Flavour::SystemdCron => Some(super::systemd::is_running()),
            _ => process.running,
        };
        Self { flavour, running, zone: zone_of(surroundings, process.zone).await }
    }
}

async fn flavour(crontab: &Crontab) -> Flavour {
    let real = std::fs::canonicalize(&crontab.program).unwrap_or_else(|_| crontab.program.clone());
    if real.file_name().is_some_and(|name| name == "busybox") {
        return Flavour::Busybox;
    }
    if GENERATORS.iter().any(|generator| Path::new(generator).exists()) {
        return Flavour::SystemdCron;
    }
    // The others take it for a wrong option, say how to use them and do nothing.
    match process::run(&crontab.program, ["-V"], None).await {
        Ok(said) if said.stderr.contains("cronie") || String::from_utf8_lossy(&said.stdout).contains("cronie") => {
            Flavour::Cronie
        }
        _ => Flavour::Vixie,
    }
}

/// A daemon's process as far as it can be seen.
#[derive(Debug, Default)]
struct Process {
    running: Option<bool>,
    /// Its TZ, where that is set.
    zone: Option<String>,
}

impl Process {
    fn find() -> Self {
        let name = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/comm")).ok();
        // Others' processes may be hidden.
        let Some(entries) = name(1).and_then(|_| std::fs::read_dir("/proc").ok()) else { return Self::default() };
        let mut pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let found = pids.find(|pid| name(*pid).is_some_and(|name| DAEMONS.contains(&name.trim_end())));
        let environment = found.and_then(|pid| std::fs::read(format!("/proc/{pid}/environ")).ok()).unwrap_or_default();
        let zone = environment
            .split(|byte| *byte == 0)
            .find_map(|variable| variable.strip_prefix(b"TZ="))
            .map(|zone| String::from_utf8_lossy(zone).into_owned());
        Self { running: Some(found.is_some()), zone: zone.filter(|zone| !zone.is_empty()) }
    }
}

/// The zone named, else the host's.
async fn zone_of(surroundings: &Surroundings, named: Option<String>) -> Zone {
    let mut offsets = BTreeSet::new();
    // Twice a quarter, so that no daylight saving time is missed.
    for half_quarter in 0..9 {
        let at = Utc::now() + TimeDelta::days(half_quarter * 46);
        offsets.extend(offset(surroundings, named.as_deref(), at.timestamp()).await);
    }
    let name = named.or_else(|| {
        let link = std::fs::read_link("/etc/localtime").ok()?;
        let (_, name) = link.to_str()?.split_once("zoneinfo/")?;
        Some(name.to_owned())
    });
    let unknown = if offsets.is_empty() || offsets.iter().eq([&0]) { "UTC" } else { "local time" };
    if offsets.is_empty() {
        offsets.insert(0);
    }
    Zone { name: name.unwrap_or_else(|| unknown.to_owned()), offsets: offsets.into_iter().collect() }
}

/// The offset from UTC in minutes at a time, as the system's `date` has it: this process's own TZ is not the daemon's.
async fn offset(surroundings: &Surroundings, zone: Option<&str>, timestamp: i64) -> Option<i32> {
    let mut date = Command::new(process::find(surroundings, "date")?);
    date.env_clear().args(["-d", &format!("@{timestamp}"), "+%z"]);
    if let Some(zone) = zone {
        date.env("TZ", zone);
    }
    let said = process::finish(date, None).await.ok().filter(process::Said::well)?;
    minutes(String::from_utf8_lossy(&said.stdout).trim())
}

/// `+0530` in minutes.
fn minutes(text: &str) -> Option<i32> {
    let (sign, digits) = match text.split_at_checked(1)? {
        ("+", digits) => (1, digits),
        ("-", digits) => (-1, digits),
        _ => return None,
    };
    let number: i32 = digits.parse().ok().filter(|_| digits.len() == 4)?;
    Some(sign * (number / 100 * 60 + number % 100))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_as_date_prints_them() {
        assert_eq!(minutes("+0000"), Some(0));
        assert_eq!(minutes("+0530"), Some(330));
        assert_eq!(minutes("-0330"), Some(-210));
        assert_eq!(minutes("UTC"), None);
        assert_eq!(minutes(""), None);
    }
}
