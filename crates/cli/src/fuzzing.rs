//! Parsers of what comes from outside, for the fuzz targets in fuzz/. No part of the interface.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::args::GlobalArgs;
use crate::monitoring::fuzzing::record as record_of;
use crate::settings::config_file::ConfigFile;
use crate::settings::{EnvFile, Settings, duration as duration_of};
use crate::surroundings::Surroundings;

/// Every setting, from these variables alone; or what is said of them.
pub fn settings(variables: BTreeMap<String, String>) -> Result<String, String> {
    let surroundings = Surroundings {
        variables,
        directory: PathBuf::from("/nonexistent"),
        uid: 0,
        host: "host".to_owned(),
        stdin_is_terminal: false,
        stdout_is_terminal: false,
        stderr_is_terminal: false,
        stderr_file: None,
    };
    let read = Settings::read(Vec::new(), &GlobalArgs::default(), &surroundings);
    read.map(|settings| format!("{settings:#?}")).map_err(|failure| failure.message)
}

/// The variables in the text of an env-file; or what is said of it.
pub fn env_file(text: &str) -> Result<BTreeMap<String, String>, String> {
    EnvFile::parse(Path::new(".env"), text).map(|file| file.variables).map_err(|failure| failure.message)
}

/// The values in the text of a config file, for the only or the named database.
pub fn config_file(text: &str, database: Option<&str>) -> Result<BTreeMap<String, String>, String> {
    let values = ConfigFile::parse(Path::new("pgkeep.toml"), text).and_then(|file| file.values(database));
    values.map_err(|failure| failure.message)
}

/// A duration as people type it.
pub fn duration(text: &str) -> Result<Duration, String> {
    duration_of(text)
}

/// The words of a command or of pg_dump's options.
pub fn words(text: &str) -> Option<Vec<String>> {
    shell_words::split(text).ok()
}

/// Whether monitoring's record can be read; written again, it is the same.
pub fn record(json: &[u8]) -> bool {
    record_of(json)
}
