//! `pgkeep.toml`: the same settings under their keys, and several databases. A key nobody knows is an error.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::variable::{ALL, by_key};
use crate::failure::{Failure, Result};
use crate::hint::Code;

/// The places that are looked into where no config file is named.
pub(crate) const SYSTEM_PATH: &str = "/etc/pgkeep/pgkeep.toml";
const LOCAL_NAME: &str = "pgkeep.toml";

/// Keys that one file has once, whatever the number of databases.
const GLOBAL_ONLY: [&str; 1] = ["log_file"];

/// A config file: values by key, for all databases and for each.
#[derive(Debug, Clone, Default)]
pub(crate) struct ConfigFile {
    /// The file.
    pub(crate) path: PathBuf,
    /// Values for every database.
    common: BTreeMap<String, String>,
    /// `[[database]]` tables in order: name and values.
    databases: Vec<(String, BTreeMap<String, String>)>,
}

impl ConfigFile {
    /// Reads the file at `path`.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            let failure = Failure::io(format_args!("read {}", path.display()), &error);
            if failure.code == Code::Unexpected { Failure { code: Code::SettingsInvalid, ..failure } } else { failure }
        })?;
        Self::parse(path, &text)
    }

    /// Reads `pgkeep.toml` in `directory`, else the system's, where there is one.
    pub(crate) fn find(directory: &Path) -> Result<Option<Self>> {
        for path in [directory.join(LOCAL_NAME), PathBuf::from(SYSTEM_PATH)] {
            if path.is_file() {
                return Self::open(&path).map(Some);
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
                let toml::Value::Array(entries) = value else {
                    return Err(Failure::settings(format!("{}: database must be [[database]] tables", path.display())));
                };
                for entry in entries {
                    file.databases.push(Self::database(path, entry)?);
                }
            } else {
                flatten(path, &key, value, &mut file.common)?;
            }
        }
        Ok(file)
    }

    fn database(path: &Path, entry: toml::Value) -> Result<(String, BTreeMap<String, String>)> {
        let toml::Value::Table(mut entry) = entry else {
            return Err(Failure::settings(format!("{}: database must be [[database]] tables", path.display())));
        };
        let Some(toml::Value::String(name)) = entry.remove("name") else {
            return Err(Failure::settings(format!("{}: a [[database]] needs a name", path.display())));
        };
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
                return Err(Failure::settings(message).hint("choose one with --database NAME"));
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
        let known = ALL.iter().map(|variable| variable.key).chain(["database"]).filter(|key| !key.is_empty());
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
    fn a_syntax_error_does_not_quote_the_line() {
        let failure = parse("a = 1\ndatabase_url = 'postgresql://u:s3cret@h/d\n").unwrap_err();
        assert!(failure.message.contains("line 2"), "{}", failure.message);
        assert!(!failure.message.contains("s3cret"), "{}", failure.message);
    }
}
