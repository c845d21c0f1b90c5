//! From settings to the libraries' objects. The only place that names vendors.

mod aws;
mod keys;
mod monitoring;
mod stores;

pub(crate) use keys::encrypts_nothing;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pgkeep_core::{BackupClass, Destination, Identities, Keeper, Layout, SystemClock};
use pgkeep_dump::{
    ClientTools, ConnectSettings, Dump, DumpOptions, GlobalsPasswords, OnBlockedDdl, ParallelEngine, PgDumpEngine,
    Selection,
};
use pgkeep_restore::Restorer;
use pgkeep_storage::{DiskStorage, Storage};
use secrecy::{ExposeSecret, SecretString};

use crate::commands::Context;
use crate::failure::{Failure, Result};
use crate::hint::Code;
use crate::settings::{ExtraDestination, LOCAL, LocalDirectory, Origin, Settings, Sse, StorageClasses, variable};

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
            identities: Identities::default(),
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
                storage_classes: if is_directory { BTreeMap::new() } else { Self::storage_classes(settings) },
                rank: 1,
            });
        }
        if access != Access::WriteLocal {
            for (extra, rank) in settings.extra.iter().zip(2..) {
                destinations.extend(self.extra(extra, rank).await?);
            }
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

    /// One of the other places; `None` where it can't be opened and need not be.
    async fn extra(&self, extra: &ExtraDestination, rank: u8) -> Result<Option<Destination>> {
        let Some(remote) = &extra.settings.remote else { return Ok(None) };
        let is_directory = remote.url.scheme() == "file";
        let storage = match stores::open(&remote.url, &extra.settings).await {
            Ok(storage) => storage,
            Err(failure) if !extra.required => {
                self.reporter.warn(format!("no copy at {}: {}", extra.name, failure.message));
                return Ok(None);
            }
            Err(failure) => return Err(failure.context(format_args!("destination {}", extra.name))),
        };
        Ok(Some(Destination {
            name: extra.name.clone(),
            storage,
            layout: if is_directory { Layout::Flat } else { Layout::ByClass },
            required: extra.required,
            storage_classes: if is_directory { BTreeMap::new() } else { Self::storage_classes(&extra.settings) },
            rank,
        }))
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

    /// The storage class of each class of backups that has one.
    pub(crate) fn storage_classes(settings: &Settings) -> BTreeMap<BackupClass, String> {
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

    /// The same, without asking the server to encrypt.
    pub(crate) async fn store_without_encryption(url: &url::Url, settings: &Settings) -> Result<Arc<dyn Storage>> {
        stores::open_with(url, settings, &Sse::Off).await
    }

    /// The store a URL names, by the settings of one place for backups.
    pub(crate) async fn store_of(url: &url::Url, settings: &Settings) -> Result<Arc<dyn Storage>> {
        stores::open(url, settings).await
    }

    /// The connection as set, by libpq's rules.
    pub(crate) fn connect_settings(&self) -> Result<ConnectSettings> {
        let settings = self.parsed_connection()?;
        for parameter in settings.ignored() {
            self.reporter.info(format!("{parameter} in the connection string is left out: only ORMs know it"));
        }
        for notice in settings.notices() {
            self.reporter.warn(notice);
        }
        Ok(settings)
    }

    /// The same without a word.
    pub(crate) fn parsed_connection(&self) -> Result<ConnectSettings> {
        let (url, origin) = self.settings.database_url()?;
        self.connection(&url, &origin)
    }

    /// The server that drills restore to, if another one than the live database's is set.
    pub(crate) fn drill_server(&self) -> Result<Option<ConnectSettings>> {
        let Some(found) = self.settings.layers.get(&variable::DRILL_SERVER) else { return Ok(None) };
        self.connection(&SecretString::from(found.text), &found.origin).map(Some)
    }

    fn connection(&self, url: &SecretString, origin: &Origin) -> Result<ConnectSettings> {
        let mut environment = self.settings.layers.with_prefix("PG");
        for name in ["LOGNAME", "USER"] {
            if let Some(value) = self.surroundings.variable(name) {
                environment.insert(name.to_owned(), value.to_owned());
            }
        }
        let parsed = ConnectSettings::parse(url.expose_secret(), &environment, self.surroundings.home());
        parsed.map_err(|error| Failure::from(error).context(format!("{origin} can't be used")))
    }

    /// The installed client tools.
    pub(crate) async fn client_tools(&self) -> Result<Vec<ClientTools>> {
        self.client_tools_and(&[]).await
    }

    /// The installed client tools, those in `folders` among them.
    pub(crate) async fn client_tools_and(&self, folders: &[PathBuf]) -> Result<Vec<ClientTools>> {
        let path = self
            .surroundings
            .variable("PATH")
            .map(|path| std::env::split_paths(path).collect::<Vec<_>>())
            .unwrap_or_default();
        let folders: Vec<PathBuf> = folders.iter().chain(&self.settings.tool_folders).cloned().chain(path).collect();
        Ok(ClientTools::discover(&folders).await?)
    }

    /// The engine that dumps the database of `settings`, with so many sessions if it can.
    pub(crate) async fn engine(
        &self,
        settings: ConnectSettings,
        selection: Selection,
        jobs: usize,
    ) -> Result<Box<dyn Dump>> {
        let chosen = |variable, values: [&str; 3]| match self.settings.layers.get(variable) {
            Some(found) if !values.contains(&found.text.as_str()) => {
                let values = values.iter().filter(|value| !value.is_empty()).copied().collect::<Vec<_>>().join(" or ");
                Err(Failure::settings(format!("{}: {:?} is not known", found.origin, found.text)).hint(values))
            }
            found => Ok(found.map(|found| found.text.clone()).unwrap_or_default()),
        };
        let engine = chosen(&variable::ENGINE, ["auto", "parallel", "pg_dump"])?;
        let on_blocked_ddl = match chosen(&variable::ON_BLOCKED_DDL, ["wait", "abort", ""])?.as_str() {
            "abort" => OnBlockedDdl::Abort,
            _ => OnBlockedDdl::Wait,
        };
        let options = DumpOptions { selection, lock_wait: self.settings.lock_wait, ..DumpOptions::default() };
        let passwords =
            if self.settings.role_passwords { GlobalsPasswords::IfPermitted } else { GlobalsPasswords::Never };
        let (tools, work) = (self.client_tools().await?, self.work_folder());
        if engine == "pg_dump" {
            let engine = PgDumpEngine::new(settings, tools, options);
            return Ok(Box::new(engine.with_globals_passwords(passwords).with_work_folder(work)));
        }
        let engine = ParallelEngine::new(settings, tools, options, jobs).with_on_blocked_ddl(on_blocked_ddl);
        Ok(Box::new(engine.with_globals_passwords(passwords).with_work_folder(work)))
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

    /// What asks the server of `settings` and restores nothing: it needs no client tools and tells nothing on the way.
    pub(crate) fn asker(&self, settings: ConnectSettings) -> Restorer {
        Restorer {
            settings,
            tools: Vec::new(),
            observer: Arc::new(pgkeep_metrics::Discard),
            cancel: self.cancel.clone(),
            clock: Arc::new(SystemClock),
            work: self.work_folder(),
            journal: None,
        }
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
