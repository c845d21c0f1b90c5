//! Whose backups lie under a prefix.

use pgkeep_dump::SourceIdentity;
use pgkeep_storage::{Key, Storage};
use serde::{Deserialize, Serialize};

use crate::run::chain;
use crate::{Catalog, Destination, Error, Keeper, Meta, Result, objects, self_digest};

/// `source.json`: the source of a prefix, created if absent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceRecord {
    /// Its name.
    pub name: String,
    /// Its identity when first seen.
    pub identity: SourceIdentity,
}

impl SourceRecord {
    /// In one line, for people.
    pub fn describe(&self) -> String {
        let cluster = self.identity.system_identifier.as_deref().unwrap_or("unknown");
        format!("{}: database {} on {}, cluster {cluster}", self.name, self.identity.database, self.identity.server)
    }

    /// Whether `found` is the same source. An identifier that could not be read compares equal to any.
    pub fn is(&self, found: &SourceIdentity) -> bool {
        let clusters = (&self.identity.system_identifier, &found.system_identifier);
        let same_cluster = !matches!(clusters, (Some(one), Some(other)) if one != other);
        same_cluster && self.identity.database == found.database && self.identity.server == found.server
    }
}

fn key() -> Result<Key> {
    Ok(Key::new("source.json")?)
}

/// The record at one store, if there is one.
async fn recorded(storage: &dyn Storage) -> Result<Option<SourceRecord>> {
    let key = key()?;
    let Some(json) = objects::get(storage, &key).await? else { return Ok(None) };
    let object = format!("{}/{key}", storage.location());
    self_digest::read(&json).map(Some).map_err(|reason| Error::Meta { object, reason })
}

impl Keeper {
    /// The source recorded at the destinations, if any is; nearest first.
    pub async fn source(&self) -> Result<Option<SourceRecord>> {
        for destination in &self.destinations {
            match recorded(destination.storage.as_ref()).await {
                Ok(Some(record)) => return Ok(Some(record)),
                Ok(None) => {}
                Err(error) if destination.required => return Err(error),
                Err(error) => self.warn(&format!("the source recorded at {} can't be read: {error}", destination.name)),
            }
        }
        Ok(None)
    }

    /// Checks that `identity` is the recorded source at every destination, recording it where nothing is recorded yet.
    /// Another source is refused unless `take_over`, which records the new one in its place.
    ///
    /// A record that is missing or can't be read is made anew if the newest backup there is of this source, or there is none.
    ///
    /// A server on this host is recorded by the host's name, so that two hosts' `localhost` are two.
    pub async fn claim_source(
        &self,
        identity: &SourceIdentity,
        name: Option<&str>,
        take_over: bool,
    ) -> Result<SourceRecord> {
        let (record, failed) = self.claim_each(identity, name, take_over).await?;
        for (index, error) in failed {
            let destination = &self.destinations[index];
            if destination.required {
                return Err(error);
            }
            self.warn(&format!("the source can't be recorded at {}: {}", destination.name, chain(&error)));
        }
        Ok(record)
    }

    /// The same for each destination; gives those whose store failed, so that it is not known whose they are, with their errors.
    pub(crate) async fn claim_each(
        &self,
        identity: &SourceIdentity,
        name: Option<&str>,
        take_over: bool,
    ) -> Result<(SourceRecord, Vec<(usize, Error)>)> {
        let identity = SourceIdentity { server: self.global_name(&identity.server), ..identity.clone() };
        let mut claimed = None;
        let mut failed = Vec::new();
        for (index, destination) in self.destinations.iter().enumerate() {
            match self.claim_at(destination, &identity, name, take_over).await {
                Ok(record) => claimed = claimed.or(Some(record)),
                Err(error @ Error::Storage { .. }) => failed.push((index, error)),
                Err(error) => return Err(error),
            }
        }
        let unknown = || SourceRecord { name: name.unwrap_or(&identity.database).to_owned(), identity };
        Ok((claimed.unwrap_or_else(unknown), failed))
    }

    async fn claim_at(
        &self,
        destination: &Destination,
        identity: &SourceIdentity,
        name: Option<&str>,
        take_over: bool,
    ) -> Result<SourceRecord> {
        let storage = destination.storage.as_ref();
        let wanted = SourceRecord { name: name.unwrap_or(&identity.database).to_owned(), identity: identity.clone() };
        let another = |recorded: String| Error::ForeignSource {
            location: storage.location().to_string(),
            recorded,
            found: wanted.describe(),
        };
        let is_wanted = |record: &SourceRecord| record.is(identity) && name.is_none_or(|name| name == record.name);
        // Losing the race to create it only means that there is something to compare with: read again.
        for _ in 0..2 {
            let damage = match recorded(storage).await {
                Ok(Some(record)) if is_wanted(&record) => return Ok(record),
                Ok(Some(record)) if !take_over => return Err(another(record.describe())),
                Ok(Some(_)) => {
                    objects::put(storage, &key()?, self_digest::write(&wanted)?).await?;
                    return Ok(wanted);
                }
                Ok(None) => None,
                Err(Error::Meta { reason, .. }) => Some(reason),
                Err(error) => return Err(error),
            };
            let told = if take_over { None } else { self.told_by_backups(destination).await? };
            let record = match told {
                Some((record, _)) if is_wanted(&record) => record,
                Some((record, backup)) => {
                    return Err(another(format!("as {backup} says, source.json being lost: {}", record.describe())));
                }
                None => wanted.clone(),
            };
            let json = self_digest::write(&record)?;
            if let Some(reason) = damage {
                self.warn(&format!("source.json at {} is written anew: {reason}", destination.name));
                objects::put(storage, &key()?, json).await?;
                return Ok(record);
            }
            if objects::create(storage, &key()?, json).await? {
                return Ok(record);
            }
        }
        Err(Error::Task("source.json comes and goes".to_owned()))
    }

    /// Whose backups lie at a destination without a record, as the newest meta there says; and that backup's name. Adopted
    /// archives do not know where they came from.
    async fn told_by_backups(&self, destination: &Destination) -> Result<Option<(SourceRecord, String)>> {
        let there = Self { destinations: vec![destination.clone()], ..self.clone() };
        let catalog = Catalog::load(&there).await?;
        let metas = catalog.entries.iter().map(|entry| entry.meta.as_ref());
        let newest = metas.filter(|meta| !meta.database.server.is_empty()).max_by_key(|meta| meta.date);
        Ok(newest.map(|meta| (self.told_by(meta), meta.id.to_string())))
    }

    fn told_by(&self, meta: &Meta) -> SourceRecord {
        let maker = Self { host: meta.hostname.clone(), ..self.clone() };
        let identity = SourceIdentity {
            system_identifier: meta.database.system_identifier.clone(),
            database: meta.database.name.clone(),
            server: maker.global_name(&meta.database.server),
        };
        SourceRecord { name: meta.source.clone(), identity }
    }

    /// `server` with this machine's name in place of a loopback name or a socket's folder.
    fn global_name(&self, server: &str) -> String {
        let (host, port) = server.rsplit_once(':').unwrap_or((server, ""));
        let local = host.starts_with('/') || ["localhost", "127.0.0.1", "::1", "[::1]", ""].contains(&host);
        if local { format!("{}:{port}", self.host) } else { server.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use pgkeep_storage::StorageExt;

    use super::*;
    use crate::BackupClass;
    use crate::fixture::{at, keeper, memory, meta, store};

    fn app() -> SourceIdentity {
        SourceIdentity {
            system_identifier: Some("1".to_owned()),
            database: "app".to_owned(),
            server: "db:5432".to_owned(),
        }
    }

    /// A repository with a record and a backup, called `shop` by its owner.
    async fn repository() -> Keeper {
        let keeper = keeper(vec![memory("bucket", true, 1)], at(100));
        keeper.claim_source(&app(), Some("shop"), false).await.expect("claimed");
        let meta = Meta { source: "shop".to_owned(), ..meta(BackupClass::Daily, at(0), b"archive") };
        store(&keeper.destinations[0], &meta, b"archive").await;
        keeper
    }

    async fn put(keeper: &Keeper, json: Option<Bytes>) {
        let (storage, key) = (&keeper.destinations[0].storage, key().expect("valid"));
        match json {
            Some(json) => drop(storage.put(&key, json).await.expect("stored")),
            None => storage.delete(&key).await.expect("deleted"),
        }
    }

    #[tokio::test]
    async fn a_lost_record_is_made_anew_from_the_newest_backup_and_for_its_source_only() {
        let keeper = repository().await;
        let storage = &keeper.destinations[0].storage;
        let whole = storage.read_all(&key().expect("valid"), 1 << 20).await.expect("there");
        let renamed = String::from_utf8(whole.to_vec()).expect("UTF-8").replace("shop", "shoq");
        for lost in [None, Some(Bytes::new()), Some(Bytes::from(renamed)), Some(whole.slice(..whole.len() / 2))] {
            put(&keeper, lost.clone()).await;
            let other = SourceIdentity { system_identifier: Some("2".to_owned()), ..app() };
            let refused = keeper.claim_source(&other, None, false).await.expect_err("another cluster");
            assert!(
                matches!(&refused, Error::ForeignSource { recorded, .. } if recorded.contains("daily_")),
                "{refused}"
            );
            assert!(matches!(
                keeper.claim_source(&app(), Some("store"), false).await,
                Err(Error::ForeignSource { .. })
            ));
            let made = keeper.claim_source(&app(), None, false).await.expect("its own");
            assert_eq!(made.name, "shop", "{lost:?}");
            assert_eq!(storage.read_all(&key().expect("valid"), 1 << 20).await.expect("there"), whole);
        }
    }

    #[tokio::test]
    async fn whoever_takes_over_needs_no_readable_record() {
        let keeper = repository().await;
        put(&keeper, Some(Bytes::from_static(b"{"))).await;
        let other = SourceIdentity { database: "next".to_owned(), ..app() };
        assert_eq!(keeper.claim_source(&other, None, true).await.expect("taken over").name, "next");
        assert_eq!(keeper.source().await.expect("readable").expect("there").identity, other);
    }

    #[tokio::test]
    async fn a_record_from_before_there_was_a_digest_is_read() {
        let keeper = repository().await;
        let record = keeper.source().await.expect("readable").expect("there");
        put(&keeper, Some(serde_json::to_vec_pretty(&record).expect("serialises").into())).await;
        assert_eq!(keeper.source().await.expect("readable"), Some(record));
    }
}
