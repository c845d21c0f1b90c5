//! What was meant: settings from flags, environment, files and defaults, each with where it came from.

pub(crate) mod config_file;
mod env_file;
mod layers;
mod retention;
mod schedule;
mod values;
pub(crate) mod variable;

use std::path::{Path, PathBuf};
use std::time::Duration;

use pgkeep_core::schedule::Schedule;
use pgkeep_core::{BackupClass, Policy};
use secrecy::SecretString;

pub(crate) use layers::{FlagValue, Found, Layers, Notice, Origin};
pub(crate) use retention::{LOCAL, default_text};
pub(crate) use schedule::optional_expression;
pub(crate) use values::duration;

use crate::args::GlobalArgs;
use crate::failure::{Failure, Result};
use crate::hint::Code;
use crate::surroundings::Surroundings;

/// Where backups are kept on this machine, without any setting.
pub(crate) const DEFAULT_BACKUP_DIR: &str = "/var/backups/pgkeep";
/// Where backups are kept in a bucket, without any setting.
pub(crate) const DEFAULT_PREFIX: &str = "database-backups";
/// Where the log is, without any setting.
pub(crate) const DEFAULT_LOG_FILE: &str = "/var/log/backups.log";
/// How archives are compressed, without any setting: docs/BENCHMARKS.md has the measurement.
pub(crate) const DEFAULT_COMPRESSION: &str = "zstd:1";
/// How the drop-in `backup-database` compresses, without any setting, so that runbooks' `gunzip -t` goes on working.
pub(crate) const DROP_IN_COMPRESSION: &str = "gzip:6";

const DEFAULT_WAIT: Duration = Duration::from_hours(6);
const DEFAULT_LOCK_WAIT: Duration = Duration::from_secs(30);
const MOST_DEFAULT_JOBS: usize = 8;

/// The local directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LocalDirectory {
    /// Where.
    pub(crate) path: PathBuf,
    /// Nobody asked for it by name.
    pub(crate) is_default: bool,
    /// A run fails when this copy does.
    pub(crate) required: bool,
}

/// The bucket, or whatever `BACKUP_STORE` names.
#[derive(Debug, Clone)]
pub(crate) struct RemoteStore {
    /// `s3://bucket/prefix`, `gs://…`, `az://…` or `file://…`.
    pub(crate) url: url::Url,
}

/// A place for backups beside bucket and local directory.
#[derive(Debug)]
pub(crate) struct ExtraDestination {
    /// Its name in logs and reports.
    pub(crate) name: String,
    /// A run fails when this copy does.
    pub(crate) required: bool,
    /// Its own settings; its store is their `remote`.
    pub(crate) settings: Settings,
}

/// Whether, and which, storage classes are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StorageClasses {
    /// By class of backup on AWS, elsewhere none.
    Auto,
    /// None.
    Off,
    /// One for all.
    All(String),
}

/// Server-side encryption.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Sse {
    /// AES256 on AWS, elsewhere none.
    Auto,
    /// None.
    Off,
    /// SSE-S3.
    Aes256,
    /// SSE-KMS, by this key.
    Kms(String),
}

/// How S3 buckets are addressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Addressing {
    /// Virtual hosts on AWS, paths with an endpoint.
    Auto,
    /// `https://endpoint/bucket/key`.
    Path,
    /// `https://bucket.endpoint/key`.
    Virtual,
}

/// Everything a command needs to know. Values that few commands need are read from [`Self::layers`] by them.
#[derive(Debug)]
pub(crate) struct Settings {
    /// The sources.
    pub(crate) layers: Layers,
    /// The local directory, unless there is none.
    pub(crate) local: Option<LocalDirectory>,
    /// The bucket, if there is one.
    pub(crate) remote: Option<RemoteStore>,
    /// More places for backups.
    pub(crate) extra: Vec<ExtraDestination>,
    /// Storage classes in general.
    pub(crate) storage_classes: StorageClasses,
    /// Storage classes of single classes of backups.
    pub(crate) storage_class_of: Vec<(BackupClass, String)>,
    /// Server-side encryption.
    pub(crate) sse: Sse,
    /// How S3 buckets are addressed.
    pub(crate) addressing: Addressing,
    /// `zstd:1` and the like; `None` is the program's default.
    pub(crate) compression: Option<Found>,
    /// Work done side by side.
    pub(crate) jobs: usize,
    /// Longest wait for another run.
    pub(crate) wait: Duration,
    /// Longest wait for a table's lock.
    pub(crate) lock_wait: Duration,
    /// Longest duration of a backup.
    pub(crate) timeout: Option<Duration>,
    /// Role passwords go into the globals.
    pub(crate) role_passwords: bool,
    /// Old backups are removed after a new one.
    pub(crate) prune: bool,
    /// What is kept.
    pub(crate) policy: Policy,
    /// When backups of each class are made.
    pub(crate) schedule: Schedule,
    /// The source's name.
    pub(crate) source_name: Option<String>,
    /// Folders looked into for client tools first.
    pub(crate) tool_folders: Vec<PathBuf>,
}

impl Settings {
    /// Reads and checks every setting.
    pub(crate) fn read(flags: Vec<FlagValue>, globals: &GlobalArgs, surroundings: &Surroundings) -> Result<Self> {
        Self::from_layers(Layers::read(flags, globals, surroundings)?, surroundings)
    }

    /// As much as tells who hears of a run whose settings can't be read, and where it would have been.
    pub(crate) fn for_messages(globals: &GlobalArgs, surroundings: &Surroundings) -> Result<Self> {
        let layers = Layers::for_messages(globals, surroundings);
        Self::from_layers(layers.clone(), surroundings)
            .or_else(|_| Self::from_layers(layers.without_places(), surroundings))
    }

    fn from_layers(layers: Layers, surroundings: &Surroundings) -> Result<Self> {
        use variable as v;
        let encrypted = layers.get(&v::ENCRYPT_TO).is_some_and(|found| !crate::wire::encrypts_nothing(&found.text));
        let remote = remote(&layers)?;
        let mut policy = retention::policy(&layers)?;
        let mut extra = Vec::new();
        for own in &layers.destinations {
            let settings = Self::from_layers(layers.for_destination(own), surroundings)?;
            if let Some(classes) = settings.policy.destinations.get("*") {
                policy.destinations.insert(own.name.clone(), classes.clone());
            }
            extra.push(ExtraDestination { name: own.name.clone(), required: own.required, settings });
        }
        let wait = if surroundings.stderr_is_terminal { Duration::ZERO } else { DEFAULT_WAIT };
        Ok(Self {
            local: local(&layers, remote.is_some(), &surroundings.directory)?,
            remote,
            extra,
            storage_classes: storage_classes(&layers),
            storage_class_of: storage_class_of(&layers),
            sse: sse(&layers)?,
            addressing: layers.parsed(&v::S3_ADDRESSING, addressing)?.unwrap_or(Addressing::Auto),
            compression: layers.get(&v::COMPRESSION),
            jobs: layers.parsed(&v::JOBS, values::jobs)?.unwrap_or_else(default_jobs),
            wait: layers.duration(&v::WAIT)?.unwrap_or(wait),
            lock_wait: layers.duration(&v::LOCK_WAIT_TIMEOUT)?.unwrap_or(DEFAULT_LOCK_WAIT),
            timeout: layers.duration(&v::TIMEOUT)?.filter(|timeout| !timeout.is_zero()),
            role_passwords: layers.truth(&v::ROLE_PASSWORDS)?.unwrap_or(encrypted),
            prune: layers.truth(&v::PRUNE)?.unwrap_or(true),
            policy,
            schedule: schedule::schedule(&layers)?,
            source_name: layers.text(&v::SOURCE_NAME).or_else(|| layers.database.clone()),
            tool_folders: layers
                .text(&v::PG_BINDIRS)
                .map(|folders| std::env::split_paths(&folders).collect())
                .unwrap_or_default(),
            layers,
        })
    }

    /// The connection string, which every command that connects needs.
    pub(crate) fn database_url(&self) -> Result<(SecretString, Origin)> {
        let found = self.layers.get(&variable::DATABASE_URL);
        found
            .map(|found| (SecretString::from(found.text), found.origin))
            .ok_or_else(|| Failure::new(Code::DatabaseUrlMissing, "DATABASE_URL is not set"))
    }

    /// Whether the bucket is on AWS itself.
    pub(crate) fn on_aws(&self) -> bool {
        self.remote.as_ref().is_some_and(|remote| remote.url.scheme() == "s3")
            && self.s3_endpoint().is_none_or(|endpoint| {
                url::Url::parse(&endpoint.text)
                    .ok()
                    .and_then(|url| {
                        url.host_str()
                            .map(|host| host.ends_with(".amazonaws.com") || host.ends_with(".amazonaws.com.cn"))
                    })
                    .unwrap_or(false)
            })
    }

    /// The S3 endpoint that was set.
    pub(crate) fn s3_endpoint(&self) -> Option<Found> {
        self.layers.get(&variable::AWS_ENDPOINT_URL_S3).or_else(|| self.layers.get(&variable::AWS_ENDPOINT_URL))
    }
}

fn default_jobs() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(MOST_DEFAULT_JOBS)
}

fn local(layers: &Layers, beside_remote: bool, directory: &Path) -> Result<Option<LocalDirectory>> {
    let found = layers.get(&variable::BACKUP_DIR);
    let required = layers.truth(&variable::LOCAL_REQUIRED)?.unwrap_or(false) || !beside_remote;
    Ok(match found {
        Some(found) if found.text == "none" => None,
        Some(found) => Some(LocalDirectory { path: directory.join(found.text), is_default: false, required }),
        None => Some(LocalDirectory { path: PathBuf::from(DEFAULT_BACKUP_DIR), is_default: true, required }),
    })
}

fn remote(layers: &Layers) -> Result<Option<RemoteStore>> {
    let prefix = layers.get(&variable::PREFIX);
    let (found, mut url) = match (layers.get(&variable::BUCKET), layers.get(&variable::STORE)) {
        (Some(bucket), Some(store)) => {
            return Err(Failure::settings(format!("{} and {} are both set", bucket.origin, store.origin))
                .hint("BACKUP_STORE is instead of AWS_S3_BACKUP_BUCKET: set one of them"));
        }
        (None, None) => return Ok(None),
        (Some(bucket), None) => {
            let name = bucket.text.trim_start_matches("s3://").trim_end_matches('/').to_owned();
            let sound =
                !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'));
            let url = if sound { url::Url::parse(&format!("s3://{name}")).ok() } else { None };
            (bucket, url.ok_or("a bucket's name"))
        }
        (None, Some(store)) => {
            let url =
                url::Url::parse(&store.text).ok().filter(|url| matches!(url.scheme(), "s3" | "gs" | "az" | "file"));
            (store, url.ok_or("an s3://, gs://, az:// or file:// URL"))
        }
    };
    let url = match &mut url {
        Ok(url) => url,
        Err(wanted) => return Err(Failure::settings(format!("{}: its value is not {wanted}", found.origin))),
    };
    let own = url.path().trim_matches('/').to_owned();
    let prefix = match prefix {
        Some(prefix) => Some(prefix.text.trim_matches('/').to_owned()),
        None if own.is_empty() => Some(DEFAULT_PREFIX.to_owned()),
        None => None,
    };
    let path: Vec<_> = [Some(own), prefix].into_iter().flatten().filter(|part| !part.is_empty()).collect();
    url.set_path(&format!("/{}", path.join("/")));
    Ok(Some(RemoteStore { url: url.clone() }))
}

fn storage_classes(layers: &Layers) -> StorageClasses {
    match layers.text(&variable::STORAGE_CLASS).as_deref() {
        None | Some("auto") => StorageClasses::Auto,
        Some("none" | "off") => StorageClasses::Off,
        Some(class) => StorageClasses::All(class.to_owned()),
    }
}

fn storage_class_of(layers: &Layers) -> Vec<(BackupClass, String)> {
    let variables = [
        (BackupClass::Daily, &variable::STORAGE_CLASS_DAILY),
        (BackupClass::Weekly, &variable::STORAGE_CLASS_WEEKLY),
        (BackupClass::Monthly, &variable::STORAGE_CLASS_MONTHLY),
        (BackupClass::PreRestore, &variable::STORAGE_CLASS_PRE_RESTORE),
    ];
    variables.into_iter().filter_map(|(class, variable)| Some((class, layers.text(variable)?))).collect()
}

fn sse(layers: &Layers) -> Result<Sse> {
    let key = layers.text(&variable::KMS_KEY_ID);
    let by_key = key.clone().map_or(Sse::Auto, Sse::Kms);
    Ok(layers
        .parsed(&variable::SSE, |text| match text.to_ascii_lowercase().as_str() {
            "auto" => Ok(by_key.clone()),
            "none" | "off" => Ok(Sse::Off),
            "aes256" | "sse-s3" => Ok(Sse::Aes256),
            "aws:kms" | "kms" | "sse-kms" => key
                .map(Sse::Kms)
                .ok_or_else(|| "possible without BACKUP_KMS_KEY_ID; none leaves it to the bucket's default".to_owned()),
            _ => Err("auto, none, AES256 or aws:kms".to_owned()),
        })?
        .unwrap_or(by_key))
}

fn addressing(text: &str) -> Result<Addressing, String> {
    match text {
        "auto" => Ok(Addressing::Auto),
        "path" => Ok(Addressing::Path),
        "virtual" => Ok(Addressing::Virtual),
        _ => Err("auto, path or virtual".to_owned()),
    }
}

#[cfg(test)]
mod tests;
