//! What a server and a database are.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{Connection, Error, Result, Row};

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
    /// WAL position (`0/16B3748`) at reading: what is replayed on a standby.
    pub wal_position: Option<String>,
    /// The server's clock at reading.
    pub server_time: DateTime<Utc>,
    /// What can hold a secret, so it goes into the globals object only: database settings, role-in-database settings, grants.
    #[serde(skip)]
    pub private: PrivateFacts,
    /// What this role cannot read or would lose silently (P-A17), one line each.
    pub warnings: Vec<String>,
}

impl ServerFacts {
    /// The server's major version.
    pub fn major(&self) -> u32 {
        self.version_num / 10_000
    }

    /// Reads the facts of the session's database, all in one snapshot. What a role may not read is left out where a
    /// backup can do without. Names in a database whose encoding the server cannot convert to UTF-8 are read as they
    /// are, with replacement characters. The warnings are left empty: they are [`crate::preflight`]'s.
    pub async fn read(connection: &mut Connection) -> Result<Self> {
        let version_num = connection.server_version();
        let server = connection.resolved().server();
        begin(connection).await?;
        let row = connection.query(database_sql(version_num)).await?;
        let row = row.first().ok_or(Error::Statement { problem: "the database has no catalog row" })?;
        let text = |column: usize| row.text(column).unwrap_or_default();
        let mut facts = Self {
            identity: SourceIdentity { system_identifier: None, database: text(0), server },
            version_num,
            version: text(1),
            size_bytes: row.get(2)?,
            encoding: text(3),
            locale_provider: text(4),
            collate: text(5),
            ctype: text(6),
            locale: row.text(7),
            icu_rules: row.text(8),
            owner: text(9),
            tablespace: text(10),
            comment: row.text(11),
            connection_limit: row.get(12)?,
            standby: truth(row, 13),
            lc_monetary: text(14),
            extensions: Vec::new(),
            wal_position: None,
            server_time: server_time(row, 15)?,
            private: PrivateFacts::default(),
            warnings: Vec::new(),
        };
        facts.extensions =
            pairs(connection, "SELECT extname, extversion FROM pg_catalog.pg_extension ORDER BY 1").await?;
        facts.private = read_private(connection).await?;
        // Some managed servers have these functions and refuse to run them.
        facts.identity.system_identifier = optional(
            connection,
            "SELECT system_identifier FROM pg_catalog.pg_control_system() \
             WHERE pg_catalog.has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE')",
        )
        .await?;
        let position = if facts.standby { "pg_last_wal_replay_lsn" } else { "pg_current_wal_lsn" };
        facts.wal_position = optional(connection, &format!("SELECT pg_catalog.{position}()")).await?;
        connection.execute("COMMIT").await?;
        Ok(facts)
    }
}

/// Facts that can hold secrets (P-A16). Never in a meta.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PrivateFacts {
    /// `ALTER DATABASE … SET`: (name, value). The value stands as the catalog holds it: of a setting that is a list of
    /// names (`search_path`) it is the list, quoted already.
    pub database_settings: Vec<(String, String)>,
    /// `ALTER ROLE … IN DATABASE … SET`: (role, name, value).
    pub role_settings: Vec<(String, String, String)>,
    /// Database grants: (grantee or empty for PUBLIC, privilege, grantable), `None` where `datacl` is NULL.
    pub grants: Option<Vec<(String, String, bool)>>,
    /// Security labels of the database: (provider, label).
    pub labels: Vec<(String, String)>,
}

/// Values stay out.
impl std::fmt::Debug for PrivateFacts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = self.database_settings.iter().map(|(name, _)| name.as_str()).collect();
        let of_roles: Vec<_> = self.role_settings.iter().map(|(role, name, _)| (role, name)).collect();
        f.debug_struct("PrivateFacts")
            .field("database_settings", &names)
            .field("role_settings", &of_roles)
            .field("grants", &self.grants)
            .field("labels", &self.labels.len())
            .finish()
    }
}

impl PrivateFacts {
    /// Reads them from the session's database.
    pub async fn read(connection: &mut Connection) -> Result<Self> {
        begin(connection).await?;
        let facts = read_private(connection).await?;
        connection.execute("COMMIT").await?;
        Ok(facts)
    }
}

const THIS_DATABASE: &str = "(SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())";

async fn read_private(connection: &mut Connection) -> Result<PrivateFacts> {
    let settings = connection
        .query(format!(
            "SELECT s.setrole = 0, pg_catalog.pg_get_userbyid(s.setrole), pg_catalog.split_part(c.item, '=', 1), \
             pg_catalog.substr(c.item, pg_catalog.strpos(c.item, '=') + 1) \
             FROM pg_catalog.pg_db_role_setting s, pg_catalog.unnest(s.setconfig) WITH ORDINALITY AS c (item, place) \
             WHERE s.setdatabase = {THIS_DATABASE} ORDER BY 1 DESC, 2, c.place"
        ))
        .await?;
    let mut facts = PrivateFacts::default();
    for row in &settings {
        let text = |column: usize| row.text(column).unwrap_or_default();
        if truth(row, 0) {
            facts.database_settings.push((text(2), text(3)));
        } else {
            facts.role_settings.push((text(1), text(2), text(3)));
        }
    }
    let grants = connection
        .query(format!(
            "SELECT CASE WHEN a.grantee = 0 THEN '' ELSE pg_catalog.pg_get_userbyid(a.grantee) END, a.privilege_type, a.is_grantable \
             FROM pg_catalog.pg_database d LEFT JOIN LATERAL pg_catalog.aclexplode(d.datacl) a ON true \
             WHERE d.oid = {THIS_DATABASE} AND d.datacl IS NOT NULL ORDER BY 1, 2, 3"
        ))
        .await?;
    // An empty list of grants (everything revoked) is one row of nulls; no list at all is no row.
    facts.grants = (!grants.is_empty()).then(|| {
        grants.iter().filter_map(|row| Some((row.text(0).unwrap_or_default(), row.text(1)?, truth(row, 2)))).collect()
    });
    facts.labels = pairs(
        connection,
        &format!(
            "SELECT provider, label FROM pg_catalog.pg_shseclabel \
             WHERE classoid = 'pg_catalog.pg_database'::pg_catalog.regclass AND objoid = {THIS_DATABASE} ORDER BY 1"
        ),
    )
    .await?;
    Ok(facts)
}

/// One row on the database, in the order of [`ServerFacts::read`].
fn database_sql(version_num: u32) -> String {
    let provider = if version_num >= 150_000 {
        "CASE d.datlocprovider WHEN 'c' THEN 'libc' WHEN 'i' THEN 'icu' WHEN 'b' THEN 'builtin' ELSE d.datlocprovider::pg_catalog.text END"
    } else {
        "'libc'"
    };
    let locale = match version_num {
        170_000.. => "d.datlocale",
        150_000.. => "d.daticulocale",
        _ => "NULL",
    };
    let rules = if version_num >= 160_000 { "d.daticurules" } else { "NULL" };
    format!(
        "SELECT d.datname, pg_catalog.current_setting('server_version'), pg_catalog.pg_database_size(d.oid), \
         pg_catalog.pg_encoding_to_char(d.encoding), {provider}, d.datcollate, d.datctype, {locale}, {rules}, \
         pg_catalog.pg_get_userbyid(d.datdba), t.spcname, pg_catalog.shobj_description(d.oid, 'pg_database'), d.datconnlimit, \
         pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('lc_monetary'), {NOW} \
         FROM pg_catalog.pg_database d JOIN pg_catalog.pg_tablespace t ON t.oid = d.dattablespace \
         WHERE d.datname = pg_catalog.current_database()"
    )
}

/// The server's clock, microseconds since the epoch: independent of time zone and date style.
pub(crate) const NOW: &str = "(EXTRACT(epoch FROM pg_catalog.clock_timestamp()) * 1000000)::pg_catalog.int8";

pub(crate) fn server_time(row: &Row, column: usize) -> Result<DateTime<Utc>> {
    let micros: i64 = row.get(column)?;
    DateTime::from_timestamp_micros(micros).ok_or_else(|| Error::Value {
        column,
        wanted: "microseconds since 1970",
        found: micros.to_string(),
    })
}

/// Opens a read-only transaction on one snapshot, and reads texts as UTF-8 where the server can give it.
async fn begin(connection: &mut Connection) -> Result<()> {
    use_utf8(connection).await?;
    connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    Ok(())
}

/// Asks for UTF-8, except where the server cannot convert to it (SQL_ASCII, MULE_INTERNAL): there bytes come as they are.
pub(crate) async fn use_utf8(connection: &mut Connection) -> Result<()> {
    let encoding = database_encoding(connection).await?;
    let client = if matches!(encoding.as_str(), "SQL_ASCII" | "MULE_INTERNAL") { encoding.as_str() } else { "UTF8" };
    connection.set_client_encoding(client).await
}

/// The encoding of the session's database.
pub(crate) async fn database_encoding(connection: &mut Connection) -> Result<String> {
    let rows = connection.query("SELECT pg_catalog.current_setting('server_encoding')").await?;
    Ok(rows.first().and_then(|row| row.text(0)).unwrap_or_default())
}

pub(crate) fn truth(row: &Row, column: usize) -> bool {
    row.bytes(column).is_some_and(|bytes| bytes.as_ref() == b"t")
}

async fn pairs(connection: &mut Connection, sql: &str) -> Result<Vec<(String, String)>> {
    let rows = connection.query(sql).await?;
    Ok(rows.iter().map(|row| (row.text(0).unwrap_or_default(), row.text(1).unwrap_or_default())).collect())
}

/// A single value that this server may refuse to give, inside a transaction.
async fn optional(connection: &mut Connection, sql: &str) -> Result<Option<String>> {
    connection.execute("SAVEPOINT optional").await?;
    match connection.query(sql).await {
        Ok(rows) => Ok(rows.first().and_then(|row| row.text(0))),
        Err(error @ Error::Server(_)) => {
            tracing::debug!(%error, sql, "fact is not to be had");
            connection.execute("ROLLBACK TO SAVEPOINT optional").await?;
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_major_is_asked_for_the_columns_it_has() {
        for (version, locale, rules) in [
            (140_010, false, false),
            (150_018, false, false),
            (160_004, false, true),
            (170_011, true, true),
            (180_006, true, true),
        ] {
            let sql = database_sql(version);
            assert_eq!(sql.contains("d.datlocale"), locale);
            assert_eq!(sql.contains("d.daticulocale"), (150_000..170_000).contains(&version));
            assert_eq!(sql.contains("d.daticurules"), rules);
            assert_eq!(sql.contains("d.datlocprovider"), version >= 150_000);
        }
    }

    #[test]
    fn secrets_stay_out_of_debug_and_of_serialised_facts() {
        let private = PrivateFacts {
            database_settings: vec![("app.jwt".to_owned(), "sekrit".to_owned())],
            role_settings: vec![("r".to_owned(), "app.key".to_owned(), "sekrit".to_owned())],
            grants: None,
            labels: vec![("p".to_owned(), "sekrit".to_owned())],
        };
        let shown = format!("{private:?}");
        assert!(shown.contains("app.jwt") && !shown.contains("sekrit"), "{shown}");
        let facts = ServerFacts {
            identity: SourceIdentity { system_identifier: None, database: "d".to_owned(), server: "s".to_owned() },
            version_num: 170_002,
            version: "17.2".to_owned(),
            size_bytes: 1,
            encoding: "UTF8".to_owned(),
            locale_provider: "libc".to_owned(),
            collate: "C".to_owned(),
            ctype: "C".to_owned(),
            locale: None,
            icu_rules: None,
            owner: "o".to_owned(),
            tablespace: "pg_default".to_owned(),
            comment: None,
            connection_limit: -1,
            standby: false,
            lc_monetary: "C".to_owned(),
            extensions: Vec::new(),
            wal_position: None,
            server_time: DateTime::UNIX_EPOCH,
            private,
            warnings: Vec::new(),
        };
        assert_eq!(facts.major(), 17);
        assert!(!serde_json::to_string(&facts).unwrap().contains("sekrit"));
    }
}
