//! Which backup was meant: a name, a path, a URL, the newest, the newest before a time.

use std::path::Path;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use pgkeep_core::{BackupClass, BackupSource, Catalog, CatalogEntry, Destination, Keeper, Layout, PASSPHRASE, Pick};
use pgkeep_storage::{Key, Storage, StorageExt};

use super::Context;
use crate::failure::{Failure, Result};
use crate::hint::Code;
use crate::settings::LOCAL;
use crate::wire::{Access, BUCKET};

/// A backup that was chosen.
#[derive(Debug)]
pub(super) struct Chosen {
    /// The keeper of the repository it lies in.
    pub(super) keeper: Keeper,
    /// What it is.
    pub(super) backup: Backup,
}

/// What was chosen.
#[derive(Debug)]
pub(super) enum Backup {
    /// A backup of the repository.
    Catalogued(CatalogEntry),
    /// An archive without a meta.
    Foreign(BackupSource),
}

impl Chosen {
    /// Its entry in the catalog, if it has one.
    pub(super) fn entry(&self) -> Option<&CatalogEntry> {
        match &self.backup {
            Backup::Catalogued(entry) => Some(entry),
            Backup::Foreign(_) => None,
        }
    }

    /// The same with the keys that open it, as far as they were given.
    pub(super) async fn with_keys(mut self, context: &Context) -> Result<Self> {
        match &mut self.backup {
            Backup::Catalogued(entry) => {
                if let Some(encryption) = &entry.meta.encryption {
                    self.keeper.identities = context.identities(&encryption.recipients).await?;
                }
            }
            Backup::Foreign(source) if source.key.name().ends_with(".age") => {
                // Whom it is encrypted to is not known: a passphrase is asked for if there is no key.
                let mut identities = context.identities(&[]).await?;
                if identities.is_empty() {
                    identities = context.identities(&[PASSPHRASE.to_owned()]).await?;
                }
                *source = source.clone().with_identities(&identities);
            }
            Backup::Foreign(_) => {}
        }
        Ok(self)
    }

    /// The copy that is read.
    pub(super) fn source(&self) -> Result<BackupSource> {
        match &self.backup {
            Backup::Catalogued(entry) => Ok(BackupSource::nearest(&self.keeper, entry)?),
            Backup::Foreign(source) => Ok(source.clone()),
        }
    }
}

/// A choice within a catalog.
pub(super) fn pick_of(name: Option<&str>, class: Option<BackupClass>, before: Option<DateTime<Utc>>) -> Pick {
    match (name, before) {
        (Some(name), _) => Pick::Name(name.to_owned()),
        (None, Some(time)) => Pick::Before(time),
        (None, None) => Pick::Latest { class },
    }
}

impl Context {
    /// The backup that was meant.
    pub(super) async fn choose(
        &self,
        typed: Option<&str>,
        class: Option<BackupClass>,
        before: Option<DateTime<Utc>>,
        access: Access,
    ) -> Result<Chosen> {
        match typed {
            Some(url) if url.contains("://") => self.at_url(url).await,
            Some(path) if path.contains('/') || self.surroundings.directory.join(path).is_file() => {
                self.at_path(path).await
            }
            name => {
                let keeper = self.keeper(access).await?;
                let catalog = Catalog::load(&keeper).await?;
                self.tell_of(&catalog);
                let mut entry = catalog.pick(&pick_of(name, class, before))?.clone();
                keeper.look_up_classes(&mut entry).await;
                if name.is_none() {
                    self.tell_of_passed_over(&catalog, &entry, class, before);
                }
                Ok(Chosen { keeper, backup: Backup::Catalogued(entry) })
            }
        }
    }

    async fn at_url(&self, url: &str) -> Result<Chosen> {
        let parsed =
            url::Url::parse(url).map_err(|error| Failure::settings(format!("the URL can't be understood: {error}")))?;
        if parsed.scheme() == "file" {
            let path = parsed.to_file_path().ok().and_then(|path| path.into_os_string().into_string().ok());
            return self.at_path(&path.ok_or_else(|| Failure::settings("a file:// URL needs an absolute path"))?).await;
        }
        let path = parsed.path().trim_matches('/');
        let (folder, file) = path.rsplit_once('/').unwrap_or(("", path));
        if file.is_empty() {
            return Err(
                Failure::settings(format!("{path} names no object")).hint("s3://bucket/database-backups/daily/NAME")
            );
        }
        let mut parent = parsed.clone();
        parent.set_path(&format!("/{folder}"));
        let storage = self.store(&parent).await?;
        let word = folder.rsplit('/').next().unwrap_or_default();
        self.at(self.destination(storage), word, file).await
    }

    async fn at_path(&self, path: &str) -> Result<Chosen> {
        let path = self.surroundings.directory.join(path);
        let folder = path.parent().unwrap_or(Path::new("/"));
        let Some(file) = path.file_name().and_then(|name| name.to_str()) else {
            return Err(Failure::new(Code::NothingMatched, format!("{} names no file", path.display())));
        };
        let folder = std::fs::canonicalize(folder).map_err(|error| {
            Failure::new(Code::NothingMatched, format!("{} can't be opened: {error}", folder.display()))
        })?;
        let word = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        let storage = pgkeep_storage::DiskStorage::open(&folder)?;
        self.at(self.destination(Arc::new(storage)), &word, file).await
    }

    /// The backup, or else the foreign archive, named `file` at a destination; `folder` is the word of the folder it is in.
    async fn at(&self, destination: Destination, folder: &str, file: &str) -> Result<Chosen> {
        let storage = Arc::clone(&destination.storage);
        let keeper = self.keeper_of(vec![destination]);
        let catalog = Catalog::load(&keeper).await?;
        let key = Key::new(file)?;
        match catalog.pick(&Pick::Name(format!("{folder}/{file}"))) {
            // Names are taken without extension, but a file that is there under the very name typed is the one meant.
            Ok(entry) if entry.meta.backup_file == file || !storage.exists(&key).await? => {
                Ok(Chosen { backup: Backup::Catalogued(entry.clone()), keeper })
            }
            Err(not_found) if !storage.exists(&key).await? => Err(not_found.into()),
            _ => Ok(Chosen { keeper, backup: Backup::Foreign(BackupSource::foreign(storage, key)) }),
        }
    }

    /// Somewhere that was typed. If it is one of the places that are set, it has that one's name, so that proofs count there.
    fn destination(&self, storage: Arc<dyn Storage>) -> Destination {
        let location = storage.location().to_string();
        let lies_in =
            |root: &str| location.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let local = self.settings.local.as_ref().and_then(|local| std::fs::canonicalize(&local.path).ok());
        let name = if local.is_some_and(|path| lies_in(&format!("file://{}", path.display()))) {
            LOCAL.to_owned()
        } else if self.settings.remote.as_ref().is_some_and(|remote| lies_in(remote.url.as_str().trim_end_matches('/')))
        {
            BUCKET.to_owned()
        } else {
            location.clone()
        };
        Destination {
            name,
            storage,
            layout: Layout::Flat,
            required: true,
            storage_classes: std::collections::BTreeMap::new(),
            rank: 0,
        }
    }

    /// Tells of newer backups that were not taken because no copy of them is good, or because they hold a part only.
    fn tell_of_passed_over(
        &self,
        catalog: &Catalog,
        chosen: &CatalogEntry,
        class: Option<BackupClass>,
        before: Option<DateTime<Utc>>,
    ) {
        let newer = catalog.own().take_while(|entry| entry.meta.id != chosen.meta.id);
        for entry in newer {
            let meta = &entry.meta;
            let fits = class.map_or(meta.backup_type != BackupClass::PreRestore, |class| meta.backup_type == class);
            if !fits || before.is_some_and(|time| meta.snapshot_time > time) {
                continue;
            }
            if !entry.good() {
                let message = format!("{} is newer, but no copy of it is good: {} is taken", meta.id, chosen.meta.id);
                self.reporter.warn(message);
            } else if !meta.is_whole() {
                self.reporter.info(format!(
                    "{} is newer, but holds a part of the database only ({}): {} is taken",
                    meta.id,
                    meta.selection.join(" "),
                    chosen.meta.id
                ));
            }
        }
    }

    /// Tells what is wrong with a catalog.
    pub(super) fn tell_of(&self, catalog: &Catalog) {
        for (name, reason) in &catalog.incomplete {
            self.reporter.warn(format!("{name} could not be listed: {reason}"));
        }
        for unreadable in &catalog.unreadable {
            self.reporter
                .warn(format!("{} at {} can't be read: {}", unreadable.key, unreadable.destination, unreadable.reason));
        }
    }
}
