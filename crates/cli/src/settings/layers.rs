//! Precedence: flag, environment, env-file, config file, default.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use super::config_file::ConfigFile;
use super::env_file::EnvFile;
use super::variable::{CONFIG, Variable};
use crate::args::GlobalArgs;
use crate::failure::Result;
use crate::surroundings::Surroundings;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Typed.
    Flag(&'static str),
    /// An environment variable.
    Environment(&'static str),
    /// A file of environment variables.
    EnvFile(&'static str, PathBuf),
    /// The config file.
    ConfigFile(&'static str, PathBuf),
    /// Nobody said anything.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => f.write_str(flag),
            Self::Environment(name) => f.write_str(name),
            Self::EnvFile(name, path) => write!(f, "{name} in {}", path.display()),
            Self::ConfigFile(key, path) => write!(f, "{key} in {}", path.display()),
            Self::Default => f.write_str("the default"),
        }
    }
}

/// A value and where it came from.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// The value as text.
    pub(crate) text: String,
    /// Where it came from.
    pub(crate) origin: Origin,
}

// Any of them can be a secret.
impl fmt::Debug for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Found").field("origin", &self.origin).finish_non_exhaustive()
    }
}

/// A flag that stands for a variable: the variable, the flag, the value typed.
#[derive(Debug, Clone)]
pub(crate) struct FlagValue(pub(crate) &'static Variable, pub(crate) &'static str, pub(crate) String);

/// Every source of settings.
#[derive(Default)]
pub(crate) struct Layers {
    flags: Vec<FlagValue>,
    environment: BTreeMap<String, String>,
    env_file: Option<EnvFile>,
    config: Option<(PathBuf, BTreeMap<String, String>)>,
    /// The `[[database]]` that was chosen.
    pub(crate) database: Option<String>,
    /// Lines for the log about what was read and what was not.
    pub(crate) notices: Vec<Notice>,
}

/// A line about the settings themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Notice {
    /// A fact.
    Info(String),
    /// Something that may not be as it was meant.
    Warning(String),
}

impl fmt::Debug for Layers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Layers").field("notices", &self.notices).finish_non_exhaustive()
    }
}

impl Layers {
    /// Reads the files that `globals` and `surroundings` point to.
    pub(crate) fn read(flags: Vec<FlagValue>, globals: &GlobalArgs, surroundings: &Surroundings) -> Result<Self> {
        let mut layers = Self { flags, environment: surroundings.variables.clone(), ..Self::default() };
        let env_file = match &globals.env_file {
            Some(path) => Some(EnvFile::open(path, surroundings.uid)?),
            None => match EnvFile::find(&surroundings.directory, surroundings.uid)? {
                Ok(found) => found,
                Err(reason) => {
                    layers.notices.push(Notice::Warning(reason));
                    None
                }
            },
        };
        if let Some(file) = env_file {
            layers.notices.push(Notice::Info(format!("Settings from {}", file.path.display())));
            layers.notices.extend(file.notices.iter().cloned().map(Notice::Warning));
            layers.env_file = Some(file);
        }
        let named = globals.config.clone().or_else(|| layers.get(&CONFIG).map(|found| PathBuf::from(found.text)));
        let config = match named {
            Some(path) => Some(ConfigFile::open(&path)?),
            None => ConfigFile::find(&surroundings.directory)?,
        };
        match config {
            Some(config) => {
                layers.notices.push(Notice::Info(format!("Settings from {}", config.path.display())));
                layers.database = globals.database.clone().or_else(|| {
                    let mut names = config.database_names();
                    names.next().filter(|_| names.next().is_none()).map(str::to_owned)
                });
                layers.config = Some((config.path.clone(), config.values(globals.database.as_deref())?));
            }
            None if globals.database.is_some() => {
                return Err(crate::failure::Failure::settings(
                    "--database needs a config file with [[database]] tables",
                ));
            }
            None => {}
        }
        Ok(layers)
    }

    /// The value of a setting from the first layer that has one; an empty value counts as none.
    pub(crate) fn get(&self, variable: &'static Variable) -> Option<Found> {
        let found = |text: &String, origin| Found { text: text.clone(), origin };
        if let Some(FlagValue(_, flag, text)) =
            self.flags.iter().find(|FlagValue(candidate, ..)| candidate.name == variable.name)
        {
            return Some(found(text, Origin::Flag(flag)));
        }
        if let Some(text) = self.environment.get(variable.name).filter(|text| !text.is_empty()) {
            return Some(found(text, Origin::Environment(variable.name)));
        }
        if let Some(file) = &self.env_file
            && let Some(text) = file.variables.get(variable.name).filter(|text| !text.is_empty())
        {
            return Some(found(text, Origin::EnvFile(variable.name, file.path.clone())));
        }
        let (path, values) = self.config.as_ref()?;
        let text = values.get(variable.key).filter(|text| !variable.key.is_empty() && !text.is_empty())?;
        Some(found(text, Origin::ConfigFile(variable.key, path.clone())))
    }

    /// Environment variables that begin with `prefix`, the environment's before the env-file's.
    pub(crate) fn with_prefix(&self, prefix: &str) -> BTreeMap<String, String> {
        let file = self.env_file.iter().flat_map(|file| &file.variables);
        file.chain(&self.environment)
            .filter(|(name, _)| name.starts_with(prefix))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::variable;

    /// The layers from the `first` on: flag, environment, env-file, config file.
    fn layers(first: usize) -> Layers {
        let jobs = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
        Layers {
            flags: (first < 1).then(|| FlagValue(&variable::JOBS, "--jobs", "1".to_owned())).into_iter().collect(),
            environment: if first < 2 { jobs("BACKUP_JOBS", "2") } else { BTreeMap::new() },
            env_file: (first < 3).then(|| EnvFile {
                path: PathBuf::from(".env"),
                variables: jobs("BACKUP_JOBS", "3"),
                notices: Vec::new(),
            }),
            config: (first < 4).then(|| (PathBuf::from("pgkeep.toml"), jobs("jobs", "4"))),
            ..Layers::default()
        }
    }

    #[test]
    fn precedence() {
        let value = |first| layers(first).get(&variable::JOBS).map(|found| (found.text, found.origin.to_string()));
        let expect = |text: &str, origin: &str| Some((text.to_owned(), origin.to_owned()));
        assert_eq!(value(0), expect("1", "--jobs"));
        assert_eq!(value(1), expect("2", "BACKUP_JOBS"));
        assert_eq!(value(2), expect("3", "BACKUP_JOBS in .env"));
        assert_eq!(value(3), expect("4", "jobs in pgkeep.toml"));
        assert_eq!(value(4), None);
    }

    #[test]
    fn an_empty_value_is_none() {
        let mut layers = Layers { env_file: None, ..layers(1) };
        layers.environment.insert("BACKUP_JOBS".to_owned(), String::new());
        assert_eq!(layers.get(&variable::JOBS).unwrap().text, "4");
    }
}
