//! Precedence: flag, environment, env-file, config file, default.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::config_file::{ConfigFile, OwnValues};
use super::env_file::EnvFile;
use super::variable::{
    ALL, AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, AWS_ENDPOINT_URL_S3, AWS_PROFILE, AWS_SECRET_ACCESS_KEY,
    AWS_SESSION_TOKEN, BACKUP_DIR, BUCKET, CONFIG, Care, DATABASE_URL, PREFIX, SOURCE_NAME, Variable,
};
use crate::args::GlobalArgs;
use crate::failure::{Failure, Result};
use crate::surroundings::Surroundings;

/// What tells databases apart: no variable says it for several of them.
const ONE_FOR_ALL: [&Variable; 2] = [&DATABASE_URL, &SOURCE_NAME];
/// Places that several databases have parts of.
const OWN_PLACE: [&Variable; 2] = [&PREFIX, &BACKUP_DIR];

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
#[derive(Clone, Default)]
pub(crate) struct Layers {
    flags: Vec<FlagValue>,
    environment: BTreeMap<String, String>,
    env_file: Option<EnvFile>,
    config: Option<(PathBuf, BTreeMap<String, String>)>,
    /// The `[[database]]` that was chosen.
    pub(crate) database: Option<String>,
    /// It is one of several.
    one_of_several: bool,
    /// More places for backups.
    pub(crate) destinations: Vec<OwnValues>,
    /// The one of them whose settings these are.
    destination: Option<OwnValues>,
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
        match layers.config_file(globals, surroundings)? {
            Some(config) => {
                layers.notices.push(Notice::Info(format!("Settings from {}", config.path.display())));
                layers.one_of_several = config.database_names().count() > 1;
                layers.refuse_one_for_all()?;
                layers.database = globals.database.clone().or_else(|| {
                    let mut names = config.database_names();
                    names.next().filter(|_| names.next().is_none()).map(str::to_owned)
                });
                layers.config = Some((config.path.clone(), config.values(globals.database.as_deref())?));
                layers.destinations = config.destinations;
            }
            None if globals.database.is_some() => {
                return Err(Failure::settings("--database needs a config file with [[database]] tables"));
            }
            None => {}
        }
        Ok(layers)
    }

    /// Who is told, and where backups are, from whatever can be read: for a run that can't begin otherwise.
    pub(crate) fn for_messages(globals: &GlobalArgs, surroundings: &Surroundings) -> Self {
        const BEGINNINGS: [&str; 5] = ["NOTIFICATION_", "AWS_", "CLOUDWATCH_", "PROMETHEUS_", "PUSHGATEWAY_"];
        const NAMES: [&str; 6] =
            ["BACKUP_PING_URL", "DATABASE_URL", "BACKUP_SOURCE_NAME", "BACKUP_STORE", "BACKUP_PREFIX", "BACKUP_DIR"];
        let mut layers = Self::read(Vec::new(), globals, surroundings).unwrap_or_else(|_| {
            let env_file = match &globals.env_file {
                Some(path) => EnvFile::open(path, surroundings.uid).ok(),
                None => EnvFile::find(&surroundings.directory, surroundings.uid).ok().and_then(Result::ok).flatten(),
            };
            Self { environment: surroundings.variables.clone(), env_file, ..Self::default() }
        });
        let is_kept = |name: &str| BEGINNINGS.iter().any(|begin| name.starts_with(begin)) || NAMES.contains(&name);
        for variable in ALL.iter().filter(|variable| !is_kept(variable.name)) {
            layers.remove(variable);
        }
        layers.destinations.clear();
        layers
    }

    /// The same without anything about where backups are.
    pub(crate) fn without_places(mut self) -> Self {
        for name in ["AWS_S3_BACKUP_BUCKET", "BACKUP_STORE", "BACKUP_PREFIX"] {
            for variable in ALL.iter().filter(|variable| variable.name == name) {
                self.remove(variable);
            }
        }
        self.environment.insert(BACKUP_DIR.name.to_owned(), "none".to_owned());
        self
    }

    fn remove(&mut self, variable: &Variable) {
        self.environment.remove(variable.name);
        if let Some(file) = &mut self.env_file {
            file.variables.remove(variable.name);
        }
        if let Some((_, values)) = &mut self.config {
            values.remove(variable.key);
        }
    }

    /// The names of the config file's databases, in order.
    pub(crate) fn database_names(globals: &GlobalArgs, surroundings: &Surroundings) -> Result<Vec<String>> {
        let mut layers = Self { environment: surroundings.variables.clone(), ..Self::default() };
        layers.env_file = match &globals.env_file {
            Some(path) => Some(EnvFile::open(path, surroundings.uid)?),
            None => EnvFile::find(&surroundings.directory, surroundings.uid)?.unwrap_or_default(),
        };
        let config = layers.config_file(globals, surroundings)?;
        Ok(config.iter().flat_map(ConfigFile::database_names).map(str::to_owned).collect())
    }

    fn config_file(&self, globals: &GlobalArgs, surroundings: &Surroundings) -> Result<Option<ConfigFile>> {
        let named = globals.config.clone().or_else(|| self.get(&CONFIG).map(|found| PathBuf::from(found.text)));
        match named {
            Some(path) => ConfigFile::open(&surroundings.directory.join(path), surroundings.uid).map(Some),
            None => ConfigFile::find(&surroundings.directory, surroundings.uid),
        }
    }

    /// With several databases, a variable that says which one it is would make them all the same.
    fn refuse_one_for_all(&self) -> Result<()> {
        for variable in ONE_FOR_ALL {
            let Some(found) = self.one_of_several.then(|| self.get(variable)).flatten() else { continue };
            let message = format!("{} would be the same for every [[database]] of the config file", found.origin);
            return Err(Failure::settings(message)
                .hint(format!("unset {}; each [[database]] has its own {}", variable.name, variable.key)));
        }
        Ok(())
    }

    /// The settings of one of the other places for backups: its own, then those of all.
    pub(crate) fn for_destination(&self, destination: &OwnValues) -> Self {
        let mut own = destination.clone();
        if let (true, Some(database), Some(prefix)) =
            (self.one_of_several, &self.database, own.values.get_mut("prefix"))
        {
            *prefix = format!("{}/{database}", prefix.trim_end_matches('/'));
        }
        Self { destinations: Vec::new(), destination: Some(own), ..self.clone() }
    }

    /// Whether the place for backups whose settings these are has nothing to do with that setting.
    fn is_masked(&self, variable: &Variable) -> bool {
        let Some(own) = &self.destination else { return false };
        let is = |others: &[&Variable]| others.iter().any(|other| other.name == variable.name);
        is(&[&BUCKET, &BACKUP_DIR])
            || (own.values.contains_key(AWS_ENDPOINT_URL.key) && is(&[&AWS_ENDPOINT_URL_S3]))
            // Another profile's keys, not those of the environment.
            || (own.values.contains_key(AWS_PROFILE.key)
                && is(&[&AWS_ACCESS_KEY_ID, &AWS_SECRET_ACCESS_KEY, &AWS_SESSION_TOKEN]))
    }

    /// Whether that file gives a value that is never shown.
    pub(crate) fn holds_secret(&self, path: &Path) -> bool {
        let secret = |variable: &&&Variable| variable.care == Care::Secret;
        let in_env_file = self.env_file.iter().filter(|file| file.path == path).any(|file| {
            file.variables.contains_key("PGPASSWORD")
                || ALL.iter().filter(secret).any(|variable| file.variables.contains_key(variable.name))
        });
        let in_config = self
            .config
            .iter()
            .filter(|(config, _)| config == path)
            .any(|(_, values)| ALL.iter().filter(secret).any(|variable| values.contains_key(variable.key)));
        in_env_file || in_config
    }

    /// The value of a setting from the first layer that has one; an empty value counts as none. Of several databases each has
    /// a place of its own below one that is set for all.
    pub(crate) fn get(&self, variable: &'static Variable) -> Option<Found> {
        let mut found = self.find(variable)?;
        if let (true, Some(name)) = (self.one_of_several, &self.database)
            && OWN_PLACE.iter().any(|own| own.name == variable.name)
            && !matches!(found.origin, Origin::ConfigFile(..))
            && found.text != "none"
        {
            found.text = format!("{}/{name}", found.text.trim_end_matches('/'));
        }
        Some(found)
    }

    fn find(&self, variable: &'static Variable) -> Option<Found> {
        let found = |text: &String, origin| Found { text: text.clone(), origin };
        let own = self.destination.as_ref().and_then(|own| own.values.get(variable.key));
        if let (Some(text), Some((path, _))) = (own, &self.config) {
            return Some(found(text, Origin::ConfigFile(variable.key, path.clone())));
        }
        if self.is_masked(variable) {
            return None;
        }
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

    /// The env-file and the config file that were read.
    pub(crate) fn files(&self) -> (Option<&Path>, Option<&Path>) {
        let config = self.config.as_ref().map(|(path, _)| path.as_path());
        (self.env_file.as_ref().map(|file| file.path.as_path()), config)
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
