//! `pgkeep.toml`: the same settings under their keys, and several databases. A key nobody knows is an error.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::env_file::distrust;
use super::variable::{ALL, by_key};
use crate::failure::{Failure, Result};
use crate::hint::Code;

/// The places that are looked into where no config file is named.
pub(crate) const SYSTEM_PATH: &str = "/etc/pgkeep/pgkeep.toml";
const LOCAL_NAME: &str = "pgkeep.toml";

/// Keys that one file has once, whatever the number of databases.
const GLOBAL_ONLY: [&str; 1] = ["log_file"];

/// Names of the places that have settings of their own.
const RESERVED: [&str; 2] = ["local", "bucket"];

/// What the keys of a `[[destination]]` begin with.
const OF_DESTINATIONS: [&str; 10] =
    ["store", "prefix", "storage_class", "sse", "kms_key_id", "s3_addressing", "retention.", "aws.", "gcs.", "azure."];

/// A config file: values by key, for all databases and for each.
#[derive(Debug, Clone, Default)]
pub(crate) struct ConfigFile {
    /// The file.
    pub(crate) path: PathBuf,
    /// Values for every database.
    common: BTreeMap<String, String>,
    /// `[[database]]` tables in order: name and values.
    databases: Vec<(String, BTreeMap<String, String>)>,
    /// `[[destination]]` tables in order: more places for backups.
    pub(crate) destinations: Vec<OwnValues>,
}

/// A place for backups beside bucket and local directory.
#[derive(Debug, Clone)]
pub(crate) struct OwnValues {
    /// Its name in logs and reports.
    pub(crate) name: String,
    /// Whether a run fails when it does.
    pub(crate) required: bool,
    /// Its values, which go before all others.
    pub(crate) values: BTreeMap<String, String>,
}

impl ConfigFile {
    /// Reads the file at `path`; refuses one that others could have written, since it can name programs.
    pub(crate) fn open(path: &Path, uid: u32) -> Result<Self> {
        if let Some(reason) = std::fs::metadata(path).ok().and_then(|metadata| distrust(&metadata, uid)) {
            return Err(Failure::new(Code::EnvFileRefused, format!("{} is not read: {reason}", path.display())));
        }
        let text = std::fs::read_to_string(path).map_err(|error| {
            let failure = Failure::io(format_args!("read {}", path.display()), &error);
            if failure.code == Code::Unexpected { Failure { code: Code::SettingsInvalid, ..failure } } else { failure }
        })?;
        Self::parse(path, &text)
    }

    /// Reads `pgkeep.toml` in `directory`, else the system's, where there is one.
    pub(crate) fn find(directory: &Path, uid: u32) -> Result<Option<Self>> {
        for path in [directory.join(LOCAL_NAME), PathBuf::from(SYSTEM_PATH)] {
            if path.is_file() {
                return Self::open(&path, uid).map(Some);
            }
        }
        Ok(None)
    }

    /// Reads a file's text.
    pub(crate) fn parse(path: &Path, text: &str) -> Result<Self> {
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
            // The error's own rendering quotes the line, which may hold a secret.
            let line = error.span().map_or(0, |span| text[..span.start.min(text.len())].lines().count().max(1));
            Failure::settings(format!("{} is not valid TOML (line {line}): {}", path.display(), error.message()))
        })?;
        let mut file = Self { path: path.to_owned(), ..Self::default() };
        for (key, value) in table {
            if key == "database" {
                for (name, entry) in entries(path, &key, value)? {
                    let (name, values) = Self::database(path, name, entry)?;
                    if file.database_names().any(|known| known == name) {
                        return Err(Failure::settings(format!("{}: two databases are called {name}", path.display())));
                    }
                    file.databases.push((name, values));
                }
            } else if key == "destination" {
                for (name, entry) in entries(path, &key, value)? {
                    let destination = Self::destination(path, name, entry)?;
                    if file.destinations.iter().any(|known| known.name == destination.name) {
                        let message = format!("{}: two destinations are called {}", path.display(), destination.name);
                        return Err(Failure::settings(message));
                    }
                    file.destinations.push(destination);
                }
            } else {
                flatten(path, &key, value, &mut file.common)?;
            }
        }
        Ok(file)
    }

    fn destination(path: &Path, name: Option<String>, mut entry: toml::Table) -> Result<OwnValues> {
        let name = name_of(path, "destination", name, &mut entry)?;
        let wrong = |problem: &str| Failure::settings(format!("{}: destination {name}: {problem}", path.display()));
        if RESERVED.contains(&name.as_str()) {
            return Err(wrong("that name is taken by bucket or backup_dir"));
        }
        let required = match entry.remove("required") {
            None => true,
            Some(toml::Value::Boolean(required)) => required,
            Some(_) => return Err(wrong("required is true or false")),
        };
        let mut values = BTreeMap::new();
        for (key, value) in entry {
            flatten(path, &key, value, &mut values)?;
        }
        if let Some(key) = values.keys().find(|key| !OF_DESTINATIONS.iter().any(|own| key.starts_with(own))) {
            return Err(wrong(&format!("{key} is no key of a destination")));
        }
        if !values.contains_key("store") {
            return Err(wrong("it needs a store: an s3://, gs://, az:// or file:// URL"));
        }
        Ok(OwnValues { name, required, values })
    }

    fn database(
        path: &Path,
        name: Option<String>,
        mut entry: toml::Table,
    ) -> Result<(String, BTreeMap<String, String>)> {
        let name = name_of(path, "database", name, &mut entry)?;
        let mut values = BTreeMap::new();
        for (key, value) in entry {
            if GLOBAL_ONLY.contains(&key.as_str()) {
                let message = format!("{}: {key} stands before the first [[database]], for all", path.display());
                return Err(Failure::settings(message));
            }
            flatten(path, &key, value, &mut values)?;
        }
        Ok((name, values))
    }

    /// The names of the databases.
    pub(crate) fn database_names(&self) -> impl Iterator<Item = &str> {
        self.databases.iter().map(|(name, _)| name.as_str())
    }

    /// The values for one database: the one named, the only one, or, where there is no `[[database]]`, the file's.
    pub(crate) fn values(&self, database: Option<&str>) -> Result<BTreeMap<String, String>> {
        let chosen = match (database, self.databases.as_slice()) {
            (None, []) => None,
            (None, [only]) => Some(only),
            (None, _) => {
                let names: Vec<_> = self.database_names().collect();
                let message = format!("{} has several databases: {}", self.path.display(), names.join(", "));
                return Err(Failure::settings(message)
                    .hint("choose one with --database NAME, or all of them with --all (backup, list, prune, check)"));
            }
            (Some(name), entries) => {
                let found = entries.iter().find(|(candidate, _)| candidate == name);
                Some(found.ok_or_else(|| {
                    let failure = Failure::settings(format!("{} has no database {name}", self.path.display()));
                    match closest(name, self.database_names()) {
                        Some(close) => failure.hint(format!("did you mean {close}?")),
                        None => failure,
                    }
                })?)
            }
        };
        let mut values = self.common.clone();
        if let Some((name, own)) = chosen {
            // Each database has its own place unless it says otherwise.
            if self.databases.len() > 1 {
                let prefix = values.get("prefix").map_or(super::DEFAULT_PREFIX, String::as_str);
                let prefix = format!("{}/{name}", prefix.trim_end_matches('/'));
                values.insert("prefix".to_owned(), prefix);
                let directory = values.get("backup_dir").map_or(super::DEFAULT_BACKUP_DIR, String::as_str);
                if directory != "none" {
                    let directory = format!("{}/{name}", directory.trim_end_matches('/'));
                    values.insert("backup_dir".to_owned(), directory);
                }
            }
            values.extend(own.iter().map(|(key, value)| (key.clone(), value.clone())));
        }
        Ok(values)
    }
}

/// The name of a `[[kind]]` table, or of a `[kind.NAME]` one.
fn name_of(path: &Path, kind: &str, name: Option<String>, entry: &mut toml::Table) -> Result<String> {
    let name = match (name, entry.remove("name")) {
        (Some(name), None) | (None, Some(toml::Value::String(name))) => name,
        (Some(_), Some(_)) => {
            return Err(Failure::settings(format!("{}: [{kind}.NAME] has its name already", path.display())));
        }
        (None, _) => return Err(Failure::settings(format!("{}: a [[{kind}]] needs a name", path.display()))),
    };
    // It is part of paths and prefixes.
    let sound = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.starts_with('.') || !name.chars().all(sound) {
        return Err(Failure::settings(format!("{}: {name:?} can't name a {kind}", path.display()))
            .hint("letters, digits, - and _; what it stands for has keys of its own"));
    }
    Ok(name)
}

/// `[[kind]]` tables, or `[kind.NAME]` ones with their names.
fn entries(path: &Path, kind: &str, value: toml::Value) -> Result<Vec<(Option<String>, toml::Table)>> {
    let named = |(name, value)| match value {
        toml::Value::Table(entry) => Some((name, entry)),
        _ => None,
    };
    let entries: Option<Vec<_>> = match value {
        toml::Value::Array(entries) => entries.into_iter().map(|entry| named((None, entry))).collect(),
        toml::Value::Table(entries) => entries.into_iter().map(|(name, entry)| named((Some(name), entry))).collect(),
        _ => None,
    };
    entries.ok_or_else(|| {
        Failure::settings(format!("{}: {kind} must be [[{kind}]] or [{kind}.NAME] tables", path.display()))
    })
}

/// Puts `value` and what is below it into `values` by dotted key; refuses keys that are no setting's.
fn flatten(path: &Path, key: &str, value: toml::Value, values: &mut BTreeMap<String, String>) -> Result<()> {
    let text = match value {
        toml::Value::Table(table) if ALL.iter().any(|variable| variable.key.starts_with(&format!("{key}."))) => {
            for (name, value) in table {
                flatten(path, &format!("{key}.{name}"), value, values)?;
            }
            return Ok(());
        }
        toml::Value::String(text) => text,
        toml::Value::Integer(number) => number.to_string(),
        toml::Value::Boolean(truth) => truth.to_string(),
        _ if by_key(key).is_some() => {
            return Err(Failure::settings(format!("{}: {key} must be text, a number or true/false", path.display())));
        }
        _ => String::new(),
    };
    if by_key(key).is_none() {
        let failure = Failure::new(Code::ConfigUnknownKey, format!("{}: unknown key {key}", path.display()));
        let known =
            ALL.iter().map(|variable| variable.key).chain(["database", "destination"]).filter(|key| !key.is_empty());
        return Err(match closest(key, known) {
            Some(close) => failure.hint(format!("did you mean {close}?")),
            None => failure,
        });
    }
    values.insert(key.to_owned(), text);
    Ok(())
}

/// What was probably meant.
fn closest<'a>(typed: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|candidate| (strsim::jaro_winkler(typed, candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ConfigFile> {
        ConfigFile::parse(Path::new("pgkeep.toml"), text)
    }

    #[test]
    fn keys_are_flat_or_in_tables() {
        let file =
            parse("bucket = 'b'\njobs = 3\n[retention.daily]\ndays = 14\n[retention]\nweekly.min = 2\n").unwrap();
        let values = file.values(None).unwrap();
        assert_eq!(values["bucket"], "b");
        assert_eq!(values["jobs"], "3");
        assert_eq!(values["retention.daily.days"], "14");
        assert_eq!(values["retention.weekly.min"], "2");
    }

    #[test]
    fn an_unknown_key_is_an_error_with_a_suggestion() {
        let failure = parse("compresion = 'zstd'\n").unwrap_err();
        assert_eq!(failure.message, "pgkeep.toml: unknown key compresion");
        assert_eq!(failure.hint.as_deref(), Some("did you mean compression?"));
        let failure = parse("[retention.dayly]\ndays = 3\n").unwrap_err();
        assert_eq!(failure.hint.as_deref(), Some("did you mean retention.daily.days?"));
        assert!(parse("[nonsense]\na = 1\n").is_err());
    }

    #[test]
    fn several_databases_have_each_their_own_place() {
        let text = "backup_dir = '/b'\n[[database]]\nname = 'shop'\ndatabase_url = 'postgresql:///shop'\n\
                    [[database]]\nname = 'crm'\nprefix = 'elsewhere'\n";
        let file = parse(text).unwrap();
        assert!(file.values(None).unwrap_err().message.contains("shop, crm"));
        let shop = file.values(Some("shop")).unwrap();
        assert_eq!(shop["prefix"], "database-backups/shop");
        assert_eq!(shop["backup_dir"], "/b/shop");
        assert_eq!(file.values(Some("crm")).unwrap()["prefix"], "elsewhere");
        assert_eq!(file.values(Some("shp")).unwrap_err().hint.as_deref(), Some("did you mean shop?"));
    }

    #[test]
    fn databases_are_also_tables_by_name() {
        let file = parse(
            "[database.shop]\ndatabase_url = 'postgresql:///shop'\n[database.crm.hooks]\nbefore_backup = 'true'\n",
        )
        .unwrap();
        assert_eq!(file.database_names().collect::<Vec<_>>(), ["crm", "shop"]);
        assert_eq!(file.values(Some("shop")).unwrap()["prefix"], "database-backups/shop");
        assert_eq!(file.values(Some("crm")).unwrap()["hooks.before_backup"], "true");
        for wrong in [
            "[database]\nname = 'shop'\n",
            "database = 'shop'\n",
            "[[database]]\njobs = 3\n",
            "[[database]]\nname = '../x'\n",
            "[[database]]\nname = 'a'\n[[database]]\nname = 'a'\n",
            "[database.a]\nname = 'b'\n",
            "[database.a]\nlog_file = 'b'\n",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn destinations_have_a_few_keys_of_their_own() {
        let file = parse(
            "[[destination]]\nname = 'offsite'\nstore = 's3://b/x'\nrequired = false\naws.region = 'eu-west-1'\n\
             [[destination]]\nname = 'nas'\nstore = 'file:///nas'\n",
        )
        .unwrap();
        assert_eq!(file.destinations.len(), 2);
        assert!(!file.destinations[0].required && file.destinations[1].required);
        assert_eq!(file.destinations[0].values["aws.region"], "eu-west-1");
        for wrong in [
            "[destination.offsite]\nrequired = true\n",
            "[destination.offsite]\nstore = 's3://b'\nrequired = 'yes'\n",
            "[destination.offsite]\nstore = 's3://b'\ndatabase_url = 'x'\n",
            "[destination.offsite]\nstore = 's3://b'\nbackup_dir = 'x'\n",
            "[destination.local]\nstore = 's3://b'\n",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_file_that_others_can_write_is_refused() {
        use std::os::unix::fs::{MetadataExt, PermissionsExt};
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pgkeep.toml");
        std::fs::write(&path, "[hooks]\nbefore_backup = '/tmp/evil'\n").unwrap();
        let uid = std::fs::metadata(&path).unwrap().uid();
        assert!(ConfigFile::open(&path, uid).is_ok());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
        assert_eq!(ConfigFile::open(&path, uid).unwrap_err().code, Code::EnvFileRefused);
    }

    #[test]
    fn a_syntax_error_does_not_quote_the_line() {
        let failure = parse("a = 1\ndatabase_url = 'postgresql://u:s3cret@h/d\n").unwrap_err();
        assert!(failure.message.contains("line 2"), "{}", failure.message);
        assert!(!failure.message.contains("s3cret"), "{}", failure.message);
    }
}
