//! What a server and a database are.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// What tells one database of one cluster from another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceIdentity {
    /// `pg_control_system().system_identifier`, where the role may read it.
    pub system_identifier: Option<String>,
    /// The database's name.
    pub database: String,
    /// `host:port` as it was connected to.
    pub server: String,
}

/// Facts of a server and one database, read when a run begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerFacts {
    /// Which database this is.
    pub identity: SourceIdentity,
    /// `server_version_num`.
    pub version_num: u32,
    /// `server_version` as text.
    pub version: String,
    /// `pg_database_size` in bytes.
    pub size_bytes: u64,
    /// Server encoding (`UTF8`).
    pub encoding: String,
    /// Locale provider: `libc`, `icu`, `builtin`.
    pub locale_provider: String,
    /// LC_COLLATE.
    pub collate: String,
    /// LC_CTYPE.
    pub ctype: String,
    /// ICU or builtin locale.
    pub locale: Option<String>,
    /// ICU rules (16 and later).
    pub icu_rules: Option<String>,
    /// The database's owner.
    pub owner: String,
    /// The database's tablespace.
    pub tablespace: String,
    /// The database's comment.
    pub comment: Option<String>,
    /// Connection limit, −1 is none.
    pub connection_limit: i32,
    /// Whether the server is a standby.
    pub standby: bool,
    /// `lc_monetary` of the database.
    pub lc_monetary: String,
    /// Extensions and their versions.
    pub extensions: Vec<(String, String)>,
    /// WAL position (`0/16B3748`) at reading.
    pub wal_position: Option<String>,
    /// The server's clock at reading.
    pub server_time: DateTime<Utc>,
    /// What can hold a secret, so it goes into the globals object only: database settings, role-in-database settings, grants.
    #[serde(skip)]
    pub private: PrivateFacts,
    /// What this role cannot read or would lose silently (P-A17), one line each.
    pub warnings: Vec<String>,
}

/// Facts that can hold secrets (P-A16). Never in a meta.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrivateFacts {
    /// `ALTER DATABASE … SET`: (name, value).
    pub database_settings: Vec<(String, String)>,
    /// `ALTER ROLE … IN DATABASE … SET`: (role, name, value).
    pub role_settings: Vec<(String, String, String)>,
    /// Database grants: (grantee or empty for PUBLIC, privilege, grantable), `None` where `datacl` is NULL.
    pub grants: Option<Vec<(String, String, bool)>>,
    /// Security labels of the database: (provider, label).
    pub labels: Vec<(String, String)>,
}
