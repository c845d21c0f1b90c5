//! Whose backups lie under a prefix.

use bytes::Bytes;
use pgkeep_dump::SourceIdentity;
use pgkeep_storage::{Created, Key, Storage};
use serde::{Deserialize, Serialize};

use crate::{Error, Keeper, Result, objects};

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
    serde_json::from_slice(&json).map(Some).map_err(|error| Error::Meta { object, reason: error.to_string() })
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
    /// A server on this host is recorded by the host's name, so that two hosts' `localhost` are two.
    pub async fn claim_source(
        &self,
        identity: &SourceIdentity,
        name: Option<&str>,
        take_over: bool,
    ) -> Result<SourceRecord> {
        let identity = SourceIdentity { server: self.global_name(&identity.server), ..identity.clone() };
        let mut claimed = None;
        for destination in &self.destinations {
            match self.claim_at(destination.storage.as_ref(), &identity, name, take_over).await {
                Ok(record) => claimed = claimed.or(Some(record)),
                Err(error @ Error::Storage { .. }) if !destination.required => {
                    self.warn(&format!("the source can't be recorded at {}: {error}", destination.name));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(claimed.unwrap_or_else(|| SourceRecord { name: name.unwrap_or(&identity.database).to_owned(), identity }))
    }

    async fn claim_at(
        &self,
        storage: &dyn Storage,
        identity: &SourceIdentity,
        name: Option<&str>,
        take_over: bool,
    ) -> Result<SourceRecord> {
        let wanted = SourceRecord { name: name.unwrap_or(&identity.database).to_owned(), identity: identity.clone() };
        let json = Bytes::from(serde_json::to_vec_pretty(&wanted).map_err(|error| Error::Task(error.to_string()))?);
        // Losing the race to create it only means that there is something to compare with: read again.
        for _ in 0..2 {
            match recorded(storage).await? {
                Some(record) if record.is(identity) && name.is_none_or(|name| name == record.name) => {
                    return Ok(record);
                }
                Some(record) if !take_over => {
                    return Err(Error::ForeignSource {
                        location: storage.location().to_string(),
                        recorded: record.describe(),
                        found: wanted.describe(),
                    });
                }
                Some(_) => {
                    objects::put(storage, &key()?, json).await?;
                    return Ok(wanted);
                }
                None if storage.create(&key()?, json.clone()).await.map_err(objects::at(storage))?
                    == Created::Created =>
                {
                    return Ok(wanted);
                }
                None => {}
            }
        }
        Err(Error::Task("source.json comes and goes".to_owned()))
    }

    /// `server` with this machine's name in place of a loopback name or a socket's folder.
    fn global_name(&self, server: &str) -> String {
        let (host, port) = server.rsplit_once(':').unwrap_or((server, ""));
        let local = host.starts_with('/') || ["localhost", "127.0.0.1", "::1", "[::1]", ""].contains(&host);
        if local { format!("{}:{port}", self.host) } else { server.to_owned() }
    }
}
