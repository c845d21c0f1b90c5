//! systemd's timers: units in a folder, and the manager told of them.

use std::path::{Path, PathBuf};

use super::job::Task;
use super::process;
use super::units::{self, Unit};
use crate::failure::{Failure, Result};
use crate::hint::Code;
use crate::surroundings::Surroundings;

/// Every task a schedule may have.
const TASKS: [Task; 5] = [
    Task::Backup(pgkeep_core::BackupClass::Daily),
    Task::Backup(pgkeep_core::BackupClass::Weekly),
    Task::Backup(pgkeep_core::BackupClass::Monthly),
    Task::Verify,
    Task::Drill,
];

/// A manager of units: the system's, or a user's own.
#[derive(Debug)]
pub(super) struct Systemd {
    /// Where its units are.
    pub(super) folder: PathBuf,
    /// The user's own.
    pub(super) of_user: bool,
    systemctl: Option<PathBuf>,
}

/// Whether systemd is what manages this host.
pub(super) fn is_running() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

impl Systemd {
    /// The system's for root, else the user's own.
    pub(super) fn find(surroundings: &Surroundings) -> Result<Self> {
        let missing = |message| Failure::new(Code::SchedulerMissing, message);
        if !is_running() {
            return Err(missing("systemd does not manage this host"));
        }
        let systemctl = process::find(surroundings, "systemctl").ok_or_else(|| missing("there is no systemctl"))?;
        Ok(Self { systemctl: Some(systemctl), ..Self::unmanaged(surroundings, None) })
    }

    /// Units in a folder that no manager is told of: `folder`, else where they would be.
    pub(super) fn unmanaged(surroundings: &Surroundings, folder: Option<&Path>) -> Self {
        let of_user = surroundings.uid != 0 && folder.is_none();
        let folder = match folder {
            Some(folder) => surroundings.directory.join(folder),
            None if of_user => {
                let home = surroundings.home().unwrap_or_default();
                let config =
                    surroundings.variable("XDG_CONFIG_HOME").map_or_else(|| home.join(".config"), PathBuf::from);
                config.join("systemd/user")
            }
            None => PathBuf::from("/etc/systemd/system"),
        };
        Self { folder, of_user, systemctl: None }
    }

    /// The units of this schedule that are there.
    pub(super) fn read(&self, name: Option<&str>) -> Vec<Unit> {
        let files = TASKS.iter().flat_map(|task| {
            let stem = units::stem(name, *task);
            [format!("{stem}.service"), format!("{stem}.timer")]
        });
        files
            .filter_map(|file| {
                let text = std::fs::read_to_string(self.folder.join(&file)).ok()?;
                units::settings_of(&text)?;
                Some(Unit { file, text })
            })
            .collect()
    }

    /// Puts these units in place of those that are there, and starts their timers.
    pub(super) async fn install(&self, name: Option<&str>, units: &[Unit]) -> Result<()> {
        let old: Vec<_> =
            self.read(name).into_iter().filter(|old| units.iter().all(|unit| unit.file != old.file)).collect();
        self.take_out(&old).await?;
        let failed = |path: &Path, error| Failure::io(format_args!("write {}", path.display()), &error);
        std::fs::create_dir_all(&self.folder).map_err(|error| failed(&self.folder, error))?;
        for unit in units {
            let path = self.folder.join(&unit.file);
            std::fs::write(&path, &unit.text).map_err(|error| failed(&path, error))?;
        }
        self.tell(&["daemon-reload"]).await?;
        for unit in units.iter().filter(|unit| unit.file.ends_with(".timer")) {
            // A timer that runs already takes its new times only when it is started again.
            self.tell(&["enable", &unit.file]).await?;
            self.tell(&["restart", &unit.file]).await?;
        }
        Ok(())
    }

    /// Takes these units out.
    pub(super) async fn remove_if_any(&self, units: &[Unit]) -> Result<()> {
        if units.is_empty() {
            return Ok(());
        }
        self.take_out(units).await?;
        self.tell(&["daemon-reload"]).await
    }

    async fn take_out(&self, units: &[Unit]) -> Result<()> {
        for timer in units.iter().filter(|unit| unit.file.ends_with(".timer")) {
            self.tell(&["disable", "--now", &timer.file]).await?;
        }
        for unit in units {
            let path = self.folder.join(&unit.file);
            std::fs::remove_file(&path)
                .map_err(|error| Failure::io(format_args!("remove {}", path.display()), &error))?;
        }
        Ok(())
    }

    /// Whether a timer waits for its time; `None` where nobody can be asked.
    pub(super) async fn is_active(&self, timer: &str) -> Option<bool> {
        let mut arguments = if self.of_user { vec!["--user"] } else { Vec::new() };
        arguments.extend(["is-active", timer]);
        Some(process::run(self.systemctl.as_ref()?, arguments, None).await.ok()?.well())
    }

    async fn tell(&self, words: &[&str]) -> Result<()> {
        let Some(systemctl) = &self.systemctl else { return Ok(()) };
        let scope = if self.of_user { Some("--user") } else { None };
        let said = process::run(systemctl, scope.iter().chain(words), None).await?;
        if said.well() {
            return Ok(());
        }
        let message = format!("systemctl {} failed: {}", words.join(" "), said.complaint());
        Err(Failure::new(Code::SchedulerRefused, message))
    }
}
