//! The one canonical set of session settings: for children, leader, lanes and proof alike.

/// What a session is for, and so how it is set up. Settings given at startup beat those of `ALTER ROLE … SET` and
/// `ALTER DATABASE … SET`, so that nobody's defaults change an archive or a proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionSettings {
    /// As `pg_dump` sets them (`setup_connection` in pg_dump.c): for reading data to be dumped or proven.
    /// `client_encoding` is the database's own. The caller begins the transaction.
    Dump,
    /// As `pg_restore` sets them (`_doSetFixedOutputState` in pg_backup_archiver.c), with synchronous_commit off: for
    /// loading. `client_encoding` is the database's own until [`crate::Connection::set_client_encoding`].
    Load,
    /// Timeouts off and fixed styles only: for administration. `client_encoding` is UTF8 (SQL_ASCII in a database of that encoding).
    Admin,
}

/// What decides about the text of values, of children and own sessions alike.
const CANONICAL: &str = "-c TimeZone=UTC -c bytea_output=hex -c quote_all_identifiers=off -c tcp_user_timeout=0 \
                         -c statement_timeout=0 -c lock_timeout=0 -c idle_in_transaction_session_timeout=0";

impl SessionSettings {
    /// The `options` of the startup packet, and the `PGOPTIONS` of children.
    pub fn options(self) -> String {
        match self {
            Self::Dump => CANONICAL.to_owned(),
            Self::Load => format!("{CANONICAL} -c default_transaction_read_only=off -c synchronous_commit=off"),
            Self::Admin => format!("{CANONICAL} -c default_transaction_read_only=off"),
        }
    }

    /// The statements that follow the startup, as one simple query, for a server of this version.
    pub(crate) fn statements(self, server_version: u32, server_encoding: &str) -> String {
        let mut statements = vec![
            "SELECT pg_catalog.set_config('search_path', '', false)",
            "SET statement_timeout = 0",
            "SET lock_timeout = 0",
            "SET idle_in_transaction_session_timeout = 0",
        ];
        if server_version >= 140_000 {
            statements.push("SET idle_session_timeout = 0");
        }
        if server_version >= 170_000 {
            statements.push("SET transaction_timeout = 0");
        }
        statements.extend(["SET DATESTYLE = ISO", "SET INTERVALSTYLE = POSTGRES"]);
        match self {
            Self::Dump => statements.extend([
                "SET extra_float_digits TO 3",
                "SET synchronize_seqscans TO off",
                "SET row_security = off",
                // CVE-2024-7348: a name resolved after the snapshot must not turn out to be a view that runs somebody's code.
                "SELECT pg_catalog.set_config(name, 'view, foreign-table', false) FROM pg_catalog.pg_settings \
                 WHERE name = 'restrict_nonsystem_relation_kind'",
            ]),
            Self::Load => statements.extend([
                "SET standard_conforming_strings = on",
                "SET check_function_bodies = false",
                "SET xmloption = content",
                "SET client_min_messages = warning",
                "SET row_security = off",
            ]),
            Self::Admin => statements.extend(["SET extra_float_digits TO 3", "SET standard_conforming_strings = on"]),
        }
        let encoding = match self {
            // An SQL_ASCII server converts nothing but would check what it sends.
            Self::Admin if server_encoding != "SQL_ASCII" => "UTF8",
            _ => server_encoding,
        };
        let mut text = statements.join("; ");
        if !encoding.is_empty() {
            text.push_str("; SET client_encoding TO ");
            text.push_str(&crate::quote_literal(encoding));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_timeouts_only_where_the_server_knows_them() {
        let old = SessionSettings::Dump.statements(130_021, "UTF8");
        assert!(!old.contains("idle_session_timeout") && !old.contains("transaction_timeout = 0; SET transaction"));
        assert!(SessionSettings::Load.statements(160_000, "UTF8").contains("SET idle_session_timeout = 0"));
        assert!(SessionSettings::Load.statements(170_000, "UTF8").contains("SET transaction_timeout = 0"));
    }

    #[test]
    fn dumps_and_loads_keep_the_databases_encoding() {
        for session in [SessionSettings::Dump, SessionSettings::Load] {
            assert!(session.statements(150_000, "LATIN1").ends_with("SET client_encoding TO 'LATIN1'"));
        }
        assert!(SessionSettings::Admin.statements(150_000, "LATIN1").ends_with("TO 'UTF8'"));
        assert!(SessionSettings::Admin.statements(150_000, "SQL_ASCII").ends_with("TO 'SQL_ASCII'"));
    }

    #[test]
    fn one_canonical_string_begins_all_options() {
        for session in [SessionSettings::Dump, SessionSettings::Load, SessionSettings::Admin] {
            assert!(session.options().starts_with("-c TimeZone=UTC -c bytea_output=hex -c quote_all_identifiers=off"));
        }
    }
}
