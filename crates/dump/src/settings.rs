//! Connection settings by libpq's rules.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::Result;

/// What is needed to connect, resolved from URL, `PG*` variables, service file and password file. `Debug` and `Display` redact.
#[derive(Debug, Clone)]
pub struct ConnectSettings {
    // host candidates, port, hostaddr, user, dbname, SecretString password, sslmode, sslrootcert, sslcert, sslkey, channel_binding, …
}

impl ConnectSettings {
    /// Parses a `postgresql://` URL or a key=value string; `environment` gives `PG*` variables (the library reads none itself).
    /// Unknown parameters are refused, those that only ORMs know are listed in [`Self::ignored`].
    pub fn parse(_conninfo: &str, _environment: &BTreeMap<String, String>, _home: Option<PathBuf>) -> Result<Self> {
        unimplemented!()
    }
    /// The database's name.
    pub fn database(&self) -> &str {
        unimplemented!()
    }
    /// `host:port` or the socket's path, for people.
    pub fn server(&self) -> String {
        unimplemented!()
    }
    /// The user's name.
    pub fn user(&self) -> &str {
        unimplemented!()
    }
    /// The same server, user and secrets, another database.
    pub fn with_database(&self, _database: &str) -> Self {
        unimplemented!()
    }
    /// What a child that uses libpq needs in its environment to reach the same server with the same session settings.
    /// Secrets go only into files of mode 0600 in `private_dir`. Every other `PG*` variable must be removed from the child's
    /// environment. Use the settings of [`crate::Connection::resolved`], so that all children reach the very same server.
    pub fn libpq_environment(&self, _session: SessionSettings, _private_dir: &std::path::Path) -> Result<Vec<(String, String)>> {
        unimplemented!()
    }
    /// ORM-only parameters that were left out.
    pub fn ignored(&self) -> &[String] {
        unimplemented!()
    }
}

/// The one canonical set of session settings (P-A4): for children, leader, lanes and proof alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionSettings {
    /// As `pg_dump` sets them: for reading data to be dumped or proven.
    Dump,
    /// As `pg_restore` sets them, with synchronous_commit off: for loading.
    Load,
    /// Timeouts off and a fixed date style only: for administration.
    Admin,
}
