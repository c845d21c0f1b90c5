//! A meta for an archive that has none.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use chrono::{DateTime, NaiveDate, NaiveDateTime, Utc};
use pgkeep_archive::{PgText, Toc};
use pgkeep_metrics::{Event, Stage};
use pgkeep_storage::{Created, Key};

use crate::draft::REDACTED;
use crate::inventory::{self, human_bytes};
use crate::meta::FORMAT_VERSION;
use crate::plain::Digested;
use crate::recount::{Recount, Recounted};
use crate::stop::Stop;
use crate::unframed::Found;
use crate::{
    BackupClass, BackupId, BackupSource, Catalog, DatabaseMeta, Error, FingerprintKey, FrameIndex, Keeper, Meta,
    Result, StoredDigest, objects,
};

/// How a foreign archive is adopted.
#[derive(Debug, Clone, Default)]
pub struct AdoptOptions {
    /// Its class; `None` takes what its file name says, else daily.
    pub class: Option<BackupClass>,
    /// The source's name; `None` takes what `source.json` says, or the database's name.
    pub source_name: Option<String>,
}

impl Keeper {
    /// Reads a foreign archive (`pg_dump -Fc`, plain or compressed outside) to its end and writes the meta that makes it
    /// a backup, beside it at `destination` (an index into the keeper's). The archive itself is not touched.
    ///
    /// Metadata of other scripts that lie there under the meta's name are replaced by it; what they say of time, host
    /// and duration is taken over. Its rows are counted and fingerprinted as they are now, so later damage will be
    /// found, earlier loss can't be.
    pub async fn adopt(&self, destination: usize, key: &Key, options: &AdoptOptions) -> Result<Arc<Meta>> {
        let destination = self.destinations.get(destination);
        let destination = destination.ok_or_else(|| Error::Usage("there is no such destination".to_owned()))?;
        let storage = destination.storage.as_ref();
        let stop = Stop::new(&self.cancel, None);
        let began = Instant::now();
        self.observer.notice(&Event::StageStarted {
            stage: Stage::Verify,
            subject: format!("{} at {}", key.name(), destination.name),
        });

        let meta_key = Key::new(format!("{key}.meta"))?;
        let has_meta = || Error::Usage(format!("{}/{key} has a meta already", storage.location()));
        let foreign = stop.until(objects::get(storage, &meta_key)).await?;
        if foreign.as_ref().is_some_and(|json| !Meta::is_foreign(json)) {
            return Err(has_meta());
        }
        let said = foreign.as_deref().map(Said::read).unwrap_or_default();
        let catalog = stop.until(Catalog::load(self)).await?;
        let source = BackupSource::foreign(Arc::clone(&destination.storage), key.clone());
        let source = source.with_identities(&self.identities);
        let fingerprints = FingerprintKey::random();
        let recount = Recount::new(self, fingerprints, source.name(), None);
        let (recount, found) = stop.until(source.unframed().read(recount)).await?;
        let found = found.ok_or_else(|| Error::Task("an archive was not read to its end".to_owned()))?;
        if found.encrypted {
            let reason =
                format!("{} is encrypted: decrypt it with `age -d` first, then adopt what that gives", key.name());
            return Err(Error::Usage(reason));
        }
        let recounted = recount.finish()?;

        let meta = self.adopted(key.name(), options, &catalog, &said, fingerprints, (found, &recounted))?;
        let json = Bytes::from(meta.to_json()?);
        let publish = async {
            match &foreign {
                None => storage.create(&meta_key, json).await.map_err(objects::at(storage)),
                // Nothing replaces a file only if it is still the same: looked at once more, it is as good as that.
                Some(foreign) if objects::get(storage, &meta_key).await?.as_ref() == Some(foreign) => {
                    objects::put(storage, &meta_key, json).await.map(|()| Created::Created)
                }
                Some(_) => Ok(Created::Exists),
            }
        };
        if stop.until(publish).await? == Created::Exists {
            return Err(has_meta());
        }
        self.observer.notice(&Event::StageFinished { stage: Stage::Verify, elapsed: began.elapsed() });
        Ok(Arc::new(meta))
    }

    fn adopted(
        &self,
        file: &str,
        options: &AdoptOptions,
        catalog: &Catalog,
        said: &Said,
        fingerprint_key: FingerprintKey,
        (found, recounted): (Found, &Recounted),
    ) -> Result<Meta> {
        let Recounted { toc, placed, large_objects } = recounted;
        let named = BackupId::parse(file.split('.').next().unwrap_or(file)).filter(is_dated);
        let named_time = || named.as_ref().and_then(stamp_of).or_else(|| created(toc));
        let begun = said.date.or_else(named_time).unwrap_or_else(|| self.clock.now());
        let class = options.class.or_else(|| named.as_ref()?.class()).or(said.backup_type);
        let class = class.unwrap_or(BackupClass::Daily);
        let time = match said.date {
            Some(_) => "adopted: its time is what the metadata beside it said",
            None => "adopted: its time is what its name or header says, in an unknown time zone",
        };
        let id = free_id(catalog, named.filter(|id| id.class() == Some(class)), class, begun)?;
        let database = database(toc);
        let recorded = catalog.source.as_ref().map(|source| source.name.clone());
        let Found { compression, stored, plain, .. } = found;
        Ok(Meta {
            backup_file: file.to_owned(),
            backup_type: class,
            timestamp: BackupId::stamp(class, begun),
            date: begun,
            hostname: said.hostname.clone().unwrap_or_else(|| self.host.clone()),
            database_url: REDACTED.to_owned(),
            size: human_bytes(stored.bytes),
            duration_seconds: said.duration_seconds.unwrap_or_default(),
            compression,
            pg_dump_version: format!("pg_dump (PostgreSQL) {}", toc.dump_version),
            format_version: FORMAT_VERSION,
            id,
            source: options.source_name.clone().or(recorded).unwrap_or_else(|| database.name.clone()),
            tool_version: self.tool_version.clone(),
            engine: "adopted".to_owned(),
            snapshot_time: begun,
            wal_position: None,
            database,
            selection: Vec::new(),
            lowest_pg_restore: toc.lowest_pg_restore(),
            stored: stored_digest(stored),
            plain: plain.finish(),
            globals: None,
            encryption: None,
            archive_encoding: toc.encoding().unwrap_or_default(),
            fingerprint_key,
            schema_sha256: inventory::schema_sha256(toc),
            toc_entries: toc.entries.len() as u64,
            toc_bytes: toc.raw.len() as u64,
            entries: inventory::entries(toc, placed),
            large_objects: inventory::large_objects(toc, placed, *large_objects),
            sequences: inventory::sequences(toc),
            frames: FrameIndex::default(),
            extensions: Vec::new(),
            warnings: vec![time.to_owned(), "adopted: it has no roles, tablespaces and database settings".to_owned()],
        })
    }
}

/// What metadata of other scripts say of an archive, as far as it can be understood.
#[derive(Debug, Default)]
struct Said {
    date: Option<DateTime<Utc>>,
    backup_type: Option<BackupClass>,
    hostname: Option<String>,
    duration_seconds: Option<u64>,
}

impl Said {
    fn read(json: &[u8]) -> Self {
        let value: serde_json::Value = serde_json::from_slice(json).unwrap_or_default();
        let text = |key: &str| value.get(key)?.as_str();
        let date = text("date").and_then(|date| DateTime::parse_from_rfc3339(date).ok());
        Self {
            date: date.map(|date| date.to_utc()),
            backup_type: text("backup_type").and_then(BackupClass::from_word),
            hostname: text("hostname").map(str::to_owned),
            duration_seconds: value.get("duration_seconds").and_then(serde_json::Value::as_u64),
        }
    }
}

fn stored_digest(digested: Digested) -> StoredDigest {
    StoredDigest { bytes: digested.bytes, sha256: digested.sha256() }
}

/// The name the file has, if it is free, else the next free one of its time.
fn free_id(catalog: &Catalog, named: Option<BackupId>, class: BackupClass, begun: DateTime<Utc>) -> Result<BackupId> {
    let candidates = (1..10_000).map(|attempt| BackupId::new(class, begun, attempt));
    let free = |id: &BackupId| !catalog.entries.iter().any(|entry| entry.meta.id == *id);
    named.into_iter().chain(candidates).find(free).ok_or_else(|| Error::Task("every name is taken".to_owned()))
}

/// Whether a name is of the form that backups are given: a class and a time.
fn is_dated(id: &BackupId) -> bool {
    id.as_str().split('_').nth(1).is_some_and(|stamp| stamp.starts_with(|first: char| first.is_ascii_digit()))
}

/// The time in a name, where it has one to the second: names of weeks and months do not tell the day.
fn stamp_of(id: &BackupId) -> Option<DateTime<Utc>> {
    let (_, stamp) = id.as_str().split_once('_')?;
    let stamp = stamp.get(..15)?;
    NaiveDateTime::parse_from_str(stamp, "%Y%m%d_%H%M%S").ok().map(|time| time.and_utc())
}

/// The time in the archive's header.
fn created(toc: &Toc) -> Option<DateTime<Utc>> {
    let (year, month, day, hour, minute, second) = toc.created;
    Some(NaiveDate::from_ymd_opt(year, month, day)?.and_hms_opt(hour, minute, second)?.and_utc())
}

/// What the archive says of its database, from its `CREATE DATABASE`.
fn database(toc: &Toc) -> DatabaseMeta {
    let entry = toc.entries.iter().find(|entry| entry.desc == "DATABASE");
    let create = entry.map(|entry| entry.definition.lossy()).unwrap_or_default();
    let option = |name: &str| option(&create, name);
    let locale = option("LOCALE");
    let provider = option("LOCALE_PROVIDER").unwrap_or_else(|| "libc".to_owned());
    let of_provider = match provider.as_str() {
        "icu" => option("ICU_LOCALE").or_else(|| locale.clone()),
        "builtin" => option("BUILTIN_LOCALE").or_else(|| locale.clone()),
        _ => None,
    };
    DatabaseMeta {
        name: toc.database.lossy(),
        system_identifier: None,
        server: String::new(),
        server_version_num: version_num(&toc.server_version),
        server_version: toc.server_version.clone(),
        size_bytes: 0,
        encoding: option("ENCODING").or_else(|| toc.encoding()).unwrap_or_default(),
        locale_provider: provider,
        collate: option("LC_COLLATE").or_else(|| locale.clone()).unwrap_or_default(),
        ctype: option("LC_CTYPE").or(locale).unwrap_or_default(),
        locale: of_provider,
        icu_rules: option("ICU_RULES"),
        owner: entry.and_then(|entry| entry.owner.as_ref()).map(PgText::lossy).unwrap_or_default(),
        tablespace: option("TABLESPACE").unwrap_or_else(|| "pg_default".to_owned()),
        comment: None,
        connection_limit: -1,
        lc_monetary: String::new(),
    }
}

/// The value of `name = value` in a statement: a literal, or a name with or without quotes.
fn option(statement: &str, name: &str) -> Option<String> {
    let marker = format!(" {name} = ");
    let value = &statement[statement.find(&marker)? + marker.len()..];
    let quote = value.chars().next().filter(|first| ['\'', '"'].contains(first));
    let Some(quote) = quote else {
        return value.split([' ', ';']).next().map(str::to_owned);
    };
    let mut text = String::new();
    let mut rest = value[1..].chars().peekable();
    while let Some(c) = rest.next() {
        if c == quote && rest.next_if_eq(&quote).is_none() {
            break;
        }
        text.push(c);
    }
    Some(text)
}

/// `server_version_num` of a version as text: 170011 of `17.11 (Debian …)`, 90624 of `9.6.24`.
fn version_num(version: &str) -> u32 {
    let number = version.split([' ', '(']).next().unwrap_or_default();
    let mut parts = number.split('.').map(|part| part.parse().unwrap_or(0));
    let mut part = || parts.next().unwrap_or(0);
    match part() {
        major if major >= 10 => major * 10_000 + part(),
        major => major * 10_000 + part() * 100 + part(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_tells_its_options() {
        let create = "CREATE DATABASE shop WITH TEMPLATE = template0 ENCODING = 'UTF8' LOCALE_PROVIDER = icu LOCALE = 'C' \
                      ICU_LOCALE = 'en-US' ICU_RULES = '&a < ''b''' TABLESPACE = \"fast \"\"disk\"\"\";\n";
        for (name, value) in [
            ("ENCODING", Some("UTF8")),
            ("LOCALE_PROVIDER", Some("icu")),
            ("LOCALE", Some("C")),
            ("ICU_RULES", Some("&a < 'b'")),
            ("TABLESPACE", Some("fast \"disk\"")),
            ("LC_CTYPE", None),
        ] {
            assert_eq!(option(create, name).as_deref(), value, "{name}");
        }
    }

    #[test]
    fn what_the_shell_scripts_said_is_understood() {
        let said = Said::read(crate::fixture::FOREIGN_META.as_bytes());
        assert_eq!(said.date.map(|date| date.timestamp()), Some(1_759_287_601));
        assert_eq!((said.backup_type, said.duration_seconds), (Some(BackupClass::Daily), Some(132)));
        assert_eq!(said.hostname.as_deref(), Some("prod-server-01"));
    }

    #[test]
    fn versions_are_numbers() {
        for (text, number) in
            [("17.11 (Debian 17.11-1)", 170_011), ("9.6.24", 90_624), ("18.6", 180_006), ("18beta1", 0)]
        {
            assert_eq!(version_num(text), number, "{text}");
        }
    }

    #[test]
    fn names_tell_their_time() {
        let time = |name: &str| stamp_of(&BackupId::parse(name)?).map(|time| time.to_rfc3339());
        assert_eq!(time("daily_20251017_030001").as_deref(), Some("2025-10-17T03:00:01+00:00"));
        assert_eq!(time("daily_20251017_030001_2").as_deref(), Some("2025-10-17T03:00:01+00:00"));
        assert_eq!(time("weekly_2025_W42_020001"), None);
    }
}
