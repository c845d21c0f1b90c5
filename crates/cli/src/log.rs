//! The log file: `[2025-10-17 03:00:01] [INFO] message`, in UTC, rotated daily, 30 kept.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use chrono::{DateTime, NaiveDate, Utc};

/// Rotated files that are kept.
const KEPT: usize = 30;

/// How much a line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// For `--verbose`.
    Debug,
    /// What happens.
    Info,
    /// What is not as it should be.
    Warn,
    /// What failed.
    Error,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warn => "WARN",
            Self::Error => "ERROR",
        })
    }
}

/// A line as in the log file, without its line feed; a message of several lines becomes one.
pub(crate) fn line(at: DateTime<Utc>, level: Level, message: &str) -> String {
    let message: Vec<_> = message.lines().map(str::trim_end).collect();
    format!("[{}] [{level}] {}", at.format("%Y-%m-%d %H:%M:%S"), message.join(" "))
}

/// An open log file.
#[derive(Debug)]
pub(crate) struct LogFile {
    file: File,
}

impl LogFile {
    /// Opens `path` for appending; yesterday's file is put aside first, if its directory lets us.
    pub(crate) fn open(path: &Path, now: DateTime<Utc>) -> io::Result<Self> {
        if let Some(directory) = path.parent()
            && !directory.as_os_str().is_empty()
            && !directory.exists()
        {
            std::fs::create_dir_all(directory)?;
        }
        rotate(path, now.date_naive());
        let file = OpenOptions::new().append(true).create(true).mode(0o640).open(path)?;
        Ok(Self { file })
    }

    /// Whether this file is the one with this device and inode.
    pub(crate) fn is(path: &Path, device_and_inode: Option<(u64, u64)>) -> bool {
        std::fs::metadata(path).is_ok_and(|metadata| Some((metadata.dev(), metadata.ino())) == device_and_inode)
    }

    /// Appends one line, in one write, so that lines of several processes do not mix.
    pub(crate) fn write(&mut self, line: &str) -> io::Result<()> {
        self.file.write_all(format!("{line}\n").as_bytes())
    }
}

/// Puts yesterday's file aside as `<name>-<day>` and removes the oldest such files. Best effort: a log cannot fail a run.
fn rotate(path: &Path, today: NaiveDate) {
    let Ok(metadata) = std::fs::metadata(path) else { return };
    let Ok(modified) = metadata.modified() else { return };
    let day = DateTime::<Utc>::from(modified).date_naive();
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let writable = rustix::fs::access(directory, rustix::fs::Access::WRITE_OK).is_ok();
    if !metadata.is_file() || metadata.len() == 0 || day >= today || !writable {
        return;
    }
    let aside = rotated(path, day);
    // A link cannot replace what another process has just put aside, a rename could.
    if std::fs::hard_link(path, &aside).is_ok() {
        let _ = std::fs::remove_file(path);
    }
    let mut old = rotated_files(path, directory);
    old.sort_unstable();
    for file in old.iter().rev().skip(KEPT) {
        let _ = std::fs::remove_file(file);
    }
}

fn rotated(path: &Path, day: NaiveDate) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!("-{}", day.format("%Y%m%d")));
    PathBuf::from(name)
}

fn rotated_files(path: &Path, directory: &Path) -> Vec<PathBuf> {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return Vec::new() };
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    entries
        .filter_map(Result::ok)
        .filter(|entry| {
            entry
                .file_name()
                .to_str()
                .and_then(|found| found.strip_prefix(name)?.strip_prefix('-'))
                .is_some_and(|day| day.len() == 8 && NaiveDate::parse_from_str(day, "%Y%m%d").is_ok())
        })
        .map(|entry| entry.path())
        .collect()
}

#[cfg(test)]
mod tests {
    use chrono::TimeZone;

    use super::*;

    #[test]
    fn a_line() {
        let at = Utc.with_ymd_and_hms(2025, 10, 17, 3, 0, 1).unwrap();
        assert_eq!(line(at, Level::Info, "Backup Complete"), "[2025-10-17 03:00:01] [INFO] Backup Complete");
        assert_eq!(line(at, Level::Warn, "one\ntwo"), "[2025-10-17 03:00:01] [WARN] one two");
    }

    #[test]
    fn is_rotated_daily_and_thirty_are_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("backups.log");
        for day in 0..40 {
            let now = Utc::now() + chrono::Duration::days(day);
            LogFile::open(&path, now).unwrap().write("line").unwrap();
            let file = File::options().append(true).open(&path).unwrap();
            file.set_modified(now.into()).unwrap();
        }
        let files = rotated_files(&path, directory.path());
        assert_eq!(files.len(), KEPT);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "line\n");
    }

    #[test]
    fn goes_on_in_the_same_file_on_the_same_day() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new/backups.log");
        for _ in 0..2 {
            LogFile::open(&path, Utc::now()).unwrap().write("line").unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "line\nline\n");
    }
}
