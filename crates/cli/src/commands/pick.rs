//! Which backup was meant: a name, a path, a URL, the newest, the newest before a time.

use std::path::Path;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use pgkeep_core::{BackupClass, BackupSource, Catalog, CatalogEntry, Destination, Keeper, Layout, Pick};
use pgkeep_storage::{Key, StorageExt};

use super::Context;
use crate::failure::{Failure, Result};
use crate::hint::Code;
use crate::wire::Access;

/// A backup that was chosen.
#[derive(Debug)]
pub(super) struct Chosen {
    /// The keeper of the repository it lies in.
    pub(super) keeper: Keeper,
    /// Its entry there; `None` for a foreign archive.
    pub(super) entry: Option<CatalogEntry>,
    /// What is read.
    pub(super) source: BackupSource,
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
                let entry = catalog.pick(&pick_of(name, class, before))?.clone();
                let source = BackupSource::nearest(&keeper, &entry)?;
                Ok(Chosen { keeper, entry: Some(entry), source })
            }
        }
    }

    async fn at_url(&self, url: &str) -> Result<Chosen> {
        let parsed =
            url::Url::parse(url).map_err(|error| Failure::settings(format!("the URL can't be understood: {error}")))?;
        if parsed.scheme() == "file" {
            return self.at_path(parsed.path()).await;
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
        self.at(Destination { layout: Layout::Flat, ..destination(storage) }, word, file).await
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
        self.at(destination(Arc::new(storage)), &word, file).await
    }

    /// The backup, or else the foreign archive, named `file` at a destination; `folder` is the word of the folder it is in.
    async fn at(&self, destination: Destination, folder: &str, file: &str) -> Result<Chosen> {
        let storage = Arc::clone(&destination.storage);
        let keeper = self.keeper_of(vec![destination]);
        let catalog = Catalog::load(&keeper).await?;
        match catalog.pick(&Pick::Name(format!("{folder}/{file}"))) {
            Ok(entry) => {
                let source = BackupSource::nearest(&keeper, entry)?;
                Ok(Chosen { entry: Some(entry.clone()), keeper, source })
            }
            Err(not_found) => {
                let key = Key::new(file)?;
                if !storage.exists(&key).await? {
                    return Err(not_found.into());
                }
                Ok(Chosen { keeper, entry: None, source: BackupSource::foreign(storage, key) })
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

fn destination(storage: Arc<dyn pgkeep_storage::Storage>) -> Destination {
    Destination {
        name: "given".to_owned(),
        storage,
        layout: Layout::Flat,
        required: true,
        storage_classes: std::collections::BTreeMap::new(),
        rank: 0,
    }
}
