//! From settings to the libraries' objects. The only place that names vendors.

mod aws;
mod stores;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pgkeep_core::{BackupClass, Destination, Keeper, Layout, SystemClock};
use pgkeep_dump::{ClientTools, ConnectSettings, DumpOptions, GlobalsPasswords, PgDumpEngine, Selection};
use pgkeep_restore::Restorer;
use pgkeep_storage::{DiskStorage, Storage};
use secrecy::ExposeSecret;

use crate::commands::Context;
use crate::failure::{Failure, Result};
use crate::hint::Code;
use crate::settings::{LOCAL, LocalDirectory, StorageClasses};

/// The name of the bucket as a destination.
pub(crate) const BUCKET: &str = "bucket";
/// This program's name and version, in metas.
pub(crate) const TOOL_VERSION: &str = concat!("pgkeep ", env!("CARGO_PKG_VERSION"));

/// What a command does with the stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// It reads.
    Read,
    /// It writes too.
    Write,
    /// It writes, to the local directory only.
    WriteLocal,
}

impl Context {
    /// The repository as set.
    pub(crate) async fn keeper(&self, access: Access) -> Result<Keeper> {
        Ok(self.keeper_of(self.destinations(access).await?))
    }

    /// A repository at these destinations.
    pub(crate) fn keeper_of(&self, destinations: Vec<Destination>) -> Keeper {
        Keeper {
            destinations,
            clock: Arc::new(SystemClock),
            observer: Arc::clone(&self.reporter) as _,
            cancel: self.cancel.clone(),
            host: self.surroundings.host.clone(),
            tool_version: TOOL_VERSION.to_owned(),
        }
    }

    async fn destinations(&self, access: Access) -> Result<Vec<Destination>> {
        let settings = &self.settings;
        let remote = settings.remote.as_ref().filter(|_| access != Access::WriteLocal);
        let mut destinations = Vec::new();
        if let Some(local) = &settings.local {
            destinations.extend(self.local(local, access, remote.is_some())?);
        }
        if let Some(remote) = remote {
            let storage = self.store(&remote.url).await?;
            let is_directory = remote.url.scheme() == "file";
            destinations.push(Destination {
                name: BUCKET.to_owned(),
                storage,
                layout: if is_directory { Layout::Flat } else { Layout::ByClass },
                required: true,
                storage_classes: if is_directory { BTreeMap::new() } else { self.storage_classes() },
                rank: 1,
            });
        }
        if destinations.is_empty() {
            let message = if access == Access::WriteLocal {
                "--no-upload leaves no place for the backup: BACKUP_DIR is none"
            } else {
                "there is no place for backups: no bucket is set, and BACKUP_DIR is none"
            };
            return Err(Failure::new(Code::DestinationMissing, message));
        }
        Ok(destinations)
    }

    /// The local directory; `None` where it is only a default that can't be used, and there is a bucket.
    fn local(&self, local: &LocalDirectory, access: Access, beside_remote: bool) -> Result<Option<Destination>> {
        let path = &local.path;
        let usable = if access == Access::Read {
            path.is_dir() || (!path.exists() && !beside_remote)
        } else {
            match private_folder(path).and_then(|()| Ok(rustix::fs::access(path, rustix::fs::Access::WRITE_OK)?)) {
                Ok(()) => true,
                Err(error) if beside_remote => {
                    let message = format!(
                        "no local copy: {} can't be written ({error}); BACKUP_DIR=none says that none is wanted",
                        path.display()
                    );
                    if local.is_default {
                        self.reporter.info(message);
                    } else {
                        self.reporter.warn(message);
                    }
                    false
                }
                Err(error) => {
                    let failure = Failure::io(format_args!("create backup directory {}", path.display()), &error);
                    return Err(if failure.code == Code::Unexpected {
                        Failure::new(Code::PermissionDenied, failure.message)
                    } else {
                        failure
                    });
                }
            }
        };
        if !usable {
            return Ok(None);
        }
        Ok(Some(Destination {
            name: LOCAL.to_owned(),
            storage: Arc::new(DiskStorage::open(path)?),
            layout: Layout::Flat,
            required: local.required || !beside_remote,
            storage_classes: BTreeMap::new(),
            rank: 0,
        }))
    }

    fn storage_classes(&self) -> BTreeMap<BackupClass, String> {
        let settings = &self.settings;
        let general = |class: BackupClass| match &settings.storage_classes {
            StorageClasses::Auto if settings.on_aws() => Some(class.default_storage_class().to_owned()),
            StorageClasses::Auto | StorageClasses::Off => None,
            StorageClasses::All(name) => Some(name.clone()),
        };
        let mut classes: BTreeMap<_, _> =
            BackupClass::ALL.into_iter().filter_map(|class| Some((class, general(class)?))).collect();
        for (class, name) in &settings.storage_class_of {
            if name == "none" {
                classes.remove(class);
            } else {
                classes.insert(*class, name.clone());
            }
        }
        classes
    }

    /// The store a URL names.
    pub(crate) async fn store(&self, url: &url::Url) -> Result<Arc<dyn Storage>> {
        stores::open(url, &self.settings).await
    }

    /// The connection as set, by libpq's rules.
    pub(crate) fn connect_settings(&self) -> Result<ConnectSettings> {
        let (url, origin) = self.settings.database_url()?;
        let mut environment = self.settings.layers.with_prefix("PG");
        for name in ["LOGNAME", "USER"] {
            if let Some(value) = self.surroundings.variable(name) {
                environment.insert(name.to_owned(), value.to_owned());
            }
        }
        let parsed = ConnectSettings::parse(url.expose_secret(), &environment, self.surroundings.home());
        let settings = parsed.map_err(|error| Failure::from(error).context(format!("{origin} can't be used")))?;
        for parameter in settings.ignored() {
            self.reporter.info(format!("{parameter} in the connection string is left out: only ORMs know it"));
        }
        for notice in settings.notices() {
            self.reporter.warn(notice);
        }
        Ok(settings)
    }

    /// The installed client tools.
    pub(crate) async fn client_tools(&self) -> Result<Vec<ClientTools>> {
        let path = self
            .surroundings
            .variable("PATH")
            .map(|path| std::env::split_paths(path).collect::<Vec<_>>())
            .unwrap_or_default();
        let folders: Vec<PathBuf> = self.settings.tool_folders.iter().cloned().chain(path).collect();
        Ok(ClientTools::discover(&folders).await?)
    }

    /// The engine that dumps the database of `settings`.
    pub(crate) async fn engine(&self, settings: ConnectSettings, selection: Selection) -> Result<PgDumpEngine> {
        let options = DumpOptions { selection, lock_wait: self.settings.lock_wait, ..DumpOptions::default() };
        let passwords =
            if self.settings.role_passwords { GlobalsPasswords::IfPermitted } else { GlobalsPasswords::Never };
        let engine = PgDumpEngine::new(settings, self.client_tools().await?, options);
        Ok(engine.with_globals_passwords(passwords).with_work_folder(self.work_folder()))
    }

    /// What restores to the server of `settings`.
    pub(crate) async fn restorer(
        &self,
        settings: ConnectSettings,
        journal: Option<Arc<dyn Storage>>,
    ) -> Result<Restorer> {
        Ok(Restorer {
            settings,
            tools: self.client_tools().await?,
            observer: Arc::clone(&self.reporter) as _,
            cancel: self.cancel.clone(),
            clock: Arc::new(SystemClock),
            work: self.work_folder(),
            journal,
        })
    }

    /// Where private temporary files go.
    fn work_folder(&self) -> PathBuf {
        self.surroundings.variable("TMPDIR").map_or_else(|| PathBuf::from("/tmp"), PathBuf::from)
    }
}

/// Makes a folder that only this user can look into, where there is none; one that is there stays as it is.
fn private_folder(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}
