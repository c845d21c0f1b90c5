//! Sessions on the server, set up for what they are for.

use pgkeep_archive::PgText;
use pgkeep_dump::{ConnectSettings, Connection, SessionSettings};

use crate::Result;
use crate::error::Doing;

/// How sessions that carry data are set up: as the archive was written.
#[derive(Debug, Clone)]
pub(crate) struct DataSettings {
    /// The server, and the database that is loaded or proven.
    pub(crate) connect: ConnectSettings,
    /// The archive's ENCODING.
    pub(crate) encoding: Option<String>,
    /// The source's `lc_monetary`, on which the text of `money` depends.
    pub(crate) lc_monetary: Option<String>,
}

impl DataSettings {
    /// A session that loads.
    pub(crate) async fn load(&self) -> Result<Connection> {
        self.open(SessionSettings::Load).await
    }

    /// A session that reads for the proof, set up as the dump was.
    pub(crate) async fn proof(&self) -> Result<Connection> {
        self.open(SessionSettings::Dump).await
    }

    async fn open(&self, session: SessionSettings) -> Result<Connection> {
        let database = self.connect.database().to_owned();
        let mut connection =
            Connection::connect(&self.connect, session).await.doing(format!("connecting to database {database}"))?;
        if let Some(encoding) = &self.encoding {
            connection
                .set_client_encoding(encoding)
                .await
                .doing(format!("setting the archive's encoding {encoding} in database {database}"))?;
        }
        if let Some(locale) = &self.lc_monetary {
            // A locale this host lacks: money is then compared as this server writes it, and may render differently.
            let set = format!("SET lc_monetary TO {}", pgkeep_dump::quote_literal(locale));
            if let Err(error) = connection.execute(set).await {
                tracing::debug!(%error, locale, "lc_monetary of the source is not known here");
            }
        }
        Ok(connection)
    }
}

/// A session for administration on another database of the same server, where names and properties of databases are
/// changed: `postgres`, else `template1`, never `avoid`.
pub(crate) async fn maintenance(settings: &ConnectSettings, avoid: &[&str]) -> Result<Connection> {
    let candidates: Vec<_> = ["postgres", "template1"].into_iter().filter(|name| !avoid.contains(name)).collect();
    let mut failure = None;
    for database in &candidates {
        match Connection::connect(&settings.with_database(database), SessionSettings::Admin).await {
            Ok(connection) => return Ok(connection),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    match failure {
        Some(error) => Err(error).doing(format!("connecting to a maintenance database ({})", candidates.join(" or "))),
        None => Err(crate::Error::Usage("no maintenance database is left to connect to".to_owned())),
    }
}

/// How many more sessions this one's role may open on the server, as far as can be seen; others may come meanwhile.
pub(crate) async fn room(connection: &mut Connection) -> Result<usize, pgkeep_dump::Error> {
    // Superusers have places of their own and no limit, but are not to take the last places from everybody else either.
    let row = connection
        .query_one(
            "SELECT greatest(0, least( \
             pg_catalog.current_setting('max_connections')::pg_catalog.int4 \
             - pg_catalog.current_setting('superuser_reserved_connections')::pg_catalog.int4 \
             - coalesce(pg_catalog.current_setting('reserved_connections', true), '0')::pg_catalog.int4 \
             - (SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_activity WHERE datid IS NOT NULL), \
             CASE WHEN r.rolconnlimit < 0 OR r.rolsuper THEN 1000000 ELSE r.rolconnlimit \
             - (SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_activity a WHERE a.datid IS NOT NULL AND a.usesysid = r.oid) END)) \
             FROM pg_catalog.pg_roles r WHERE r.rolname = session_user",
        )
        .await?;
    let room: i64 = row.get(0)?;
    Ok(usize::try_from(room).unwrap_or_default())
}

/// An identifier in double quotes, in whatever encoding it is.
pub(crate) fn quoted(name: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(name.len() + 2);
    text.push(b'"');
    for &byte in name {
        if byte == b'"' {
            text.push(b'"');
        }
        text.push(byte);
    }
    text.push(b'"');
    text
}

/// `"schema"."name"`.
pub(crate) fn qualified(schema: Option<&PgText>, name: &PgText) -> Vec<u8> {
    let mut text = schema.map(|schema| quoted(&schema.0)).unwrap_or_default();
    if !text.is_empty() {
        text.push(b'.');
    }
    text.extend(quoted(&name.0));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_in_any_encoding() {
        assert_eq!(quoted(b"a\"b"), b"\"a\"\"b\"");
        assert_eq!(qualified(Some(&"s".into()), &PgText(b"\xe4".as_slice().into())), b"\"s\".\"\xe4\"");
    }
}
