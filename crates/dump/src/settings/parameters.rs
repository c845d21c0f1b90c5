//! Every connection parameter that is known, and what becomes of it.

/// What becomes of a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Treatment {
    /// It has its effect.
    Used,
    /// It has no effect on us and does no harm.
    Harmless,
    /// Only these values are harmless; others are refused for the reason given.
    Only(&'static [&'static str], &'static str),
    /// It is refused for the reason given.
    Refused(&'static str),
}
use Treatment::{Harmless, Only, Refused, Used};

/// A parameter of libpq.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parameter {
    pub(crate) name: &'static str,
    pub(crate) variable: Option<&'static str>,
    pub(crate) treatment: Treatment,
}

const fn known(name: &'static str, variable: &'static str, treatment: Treatment) -> Parameter {
    Parameter { name, variable: Some(variable), treatment }
}

const fn plain(name: &'static str, treatment: Treatment) -> Parameter {
    Parameter { name, variable: None, treatment }
}

/// libpq's parameters up to PostgreSQL 18 (`PQconninfoOptions` in fe-connect.c) with their environment variables.
pub(crate) const PARAMETERS: &[Parameter] = &[
    known("service", "PGSERVICE", Used),
    known("servicefile", "PGSERVICEFILE", Used),
    known("user", "PGUSER", Used),
    known("password", "PGPASSWORD", Used),
    known("passfile", "PGPASSFILE", Used),
    known("channel_binding", "PGCHANNELBINDING", Used),
    known("require_auth", "PGREQUIREAUTH", Used),
    known("connect_timeout", "PGCONNECT_TIMEOUT", Used),
    known("dbname", "PGDATABASE", Used),
    known("host", "PGHOST", Used),
    known("hostaddr", "PGHOSTADDR", Used),
    known("port", "PGPORT", Used),
    known("options", "PGOPTIONS", Used),
    known("application_name", "PGAPPNAME", Used),
    known("client_encoding", "PGCLIENTENCODING", Used),
    known("target_session_attrs", "PGTARGETSESSIONATTRS", Used),
    known("load_balance_hosts", "PGLOADBALANCEHOSTS", Used),
    plain("fallback_application_name", Harmless),
    plain("keepalives", Used),
    plain("keepalives_idle", Used),
    plain("keepalives_interval", Used),
    plain("keepalives_count", Used),
    plain("tcp_user_timeout", Used),
    known("sslmode", "PGSSLMODE", Used),
    known("sslnegotiation", "PGSSLNEGOTIATION", Used),
    known("sslcompression", "PGSSLCOMPRESSION", Harmless),
    known("sslcert", "PGSSLCERT", Used),
    known("sslkey", "PGSSLKEY", Used),
    known("sslcertmode", "PGSSLCERTMODE", Used),
    known("sslrootcert", "PGSSLROOTCERT", Used),
    known("sslcrl", "PGSSLCRL", Used),
    known("sslsni", "PGSSLSNI", Used),
    known("ssl_min_protocol_version", "PGSSLMINPROTOCOLVERSION", Used),
    known("ssl_max_protocol_version", "PGSSLMAXPROTOCOLVERSION", Used),
    known("requiressl", "PGREQUIRESSL", Used),
    known(
        "sslcrldir",
        "PGSSLCRLDIR",
        Refused("folders of revocation lists are not supported; name one file by sslcrl"),
    ),
    plain(
        "sslpassword",
        Refused("encrypted private keys are not supported; give a key without password, readable by you alone"),
    ),
    known("requirepeer", "PGREQUIREPEER", Refused("checking the owner of the server's process is not supported")),
    known(
        "gssencmode",
        "PGGSSENCMODE",
        Only(&["disable", "prefer", ""], "encryption by GSSAPI is not supported; use TLS (sslmode)"),
    ),
    known("krbsrvname", "PGKRBSRVNAME", Harmless),
    known("gsslib", "PGGSSLIB", Harmless),
    known("gssdelegation", "PGGSSDELEGATION", Only(&["0", ""], "authentication by GSSAPI is not supported")),
    plain(
        "replication",
        Only(&["false", "off", "no", "0", ""], "a backup needs an ordinary session, not one of replication"),
    ),
    known("min_protocol_version", "PGMINPROTOCOLVERSION", Only(&["3.0", ""], "protocol 3.0 is what is spoken here")),
    known(
        "max_protocol_version",
        "PGMAXPROTOCOLVERSION",
        Only(&["3.0", "3.2", "latest", ""], "no such protocol version"),
    ),
    plain("scram_client_key", Refused("authentication by SCRAM keys is not supported; give a password")),
    plain("scram_server_key", Refused("authentication by SCRAM keys is not supported; give a password")),
    plain("oauth_issuer", Refused("authentication by OAuth is not supported")),
    plain("oauth_client_id", Refused("authentication by OAuth is not supported")),
    plain("oauth_client_secret", Refused("authentication by OAuth is not supported")),
    plain("oauth_scope", Refused("authentication by OAuth is not supported")),
    known("sslkeylogfile", "PGSSLKEYLOGFILE", Refused("the keys of encrypted sessions are not written down")),
    plain("authtype", Harmless),
    plain("tty", Harmless),
];

/// Parameters that only ORMs, drivers and pools know. They are left out, with a notice.
const ORM_ONLY: &[&str] = &[
    // Prisma
    "schema",
    "pgbouncer",
    "connection_limit",
    "pool_timeout",
    "statement_cache_size",
    "socket_timeout",
    "sslaccept",
    "sslidentity",
    "max_idle_connection_lifetime",
    "max_connection_lifetime",
    "single_use_connections",
    // JDBC, npgsql
    "currentSchema",
    "prepareThreshold",
    "prepare_threshold",
    "preparedStatementCacheQueries",
    "loginTimeout",
    "socketTimeout",
    "tcpKeepAlive",
    "reWriteBatchedInserts",
    "stringtype",
    "ApplicationName",
    "binaryTransfer",
    // SQLAlchemy, asyncpg, psycopg
    "prepared_statement_cache_size",
    "prepared_statement_name_func",
    "async_fallback",
    "command_timeout",
    "plugin",
    "pool_size",
    "max_overflow",
    "pool_recycle",
    "pool_pre_ping",
    "server_settings",
    // Rails, Django, Doctrine
    "pool",
    "adapter",
    "encoding",
    "charset",
    "serverVersion",
    "driver",
    "prepared_statements",
    "reaping_frequency",
    "checkout_timeout",
    "idle_timeout",
    "statement_limit",
    "schema_search_path",
    "conn_max_age",
    "variables",
    // pgx, lib/pq
    "binary_parameters",
    "disable_prepared_binary_result",
    "default_query_exec_mode",
    "description_cache_capacity",
    "statement_cache_capacity",
    "statement_cache_mode",
    "pool_max_conns",
    "pool_min_conns",
    "pool_min_idle_conns",
    "pool_max_conn_lifetime",
    "pool_max_conn_lifetime_jitter",
    "pool_max_conn_idle_time",
    "pool_health_check_period",
    "search_path",
    "TimeZone",
    "timezone",
    // sqlx, node-postgres, postgres.js, Supabase
    "statement-cache-capacity",
    "uselibpqcompat",
    "workaround",
    "max",
    "min",
    "query_timeout",
    "statement_timeout",
    "lock_timeout",
    "idle_in_transaction_session_timeout",
    "connectionTimeoutMillis",
    "idleTimeoutMillis",
    "keepAlive",
    "prepare",
    "supa",
];

/// The libpq parameter of this name.
pub(crate) fn find(name: &str) -> Option<&'static Parameter> {
    PARAMETERS.iter().find(|parameter| parameter.name == name)
}

/// Whether only ORMs, drivers or pools know this name.
pub(crate) fn is_orm_only(name: &str) -> bool {
    ORM_ONLY.contains(&name)
}

/// The known name that is spelled most like `name`, if one is like it at all.
pub(crate) fn suggestion(name: &str) -> Option<String> {
    let lower = name.to_ascii_lowercase();
    let names = PARAMETERS
        .iter()
        .filter(|parameter| matches!(parameter.treatment, Used | Only(..)))
        .map(|parameter| parameter.name);
    names
        .map(|known| (strsim::jaro_winkler(&lower, known), known))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, known)| known.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_listed_once() {
        let mut names: Vec<_> =
            PARAMETERS.iter().map(|parameter| parameter.name).chain(ORM_ONLY.iter().copied()).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn suggestions_are_near_and_not_wild() {
        assert_eq!(suggestion("ssl_mode").as_deref(), Some("sslmode"));
        assert_eq!(suggestion("SSLMODE").as_deref(), Some("sslmode"));
        assert_eq!(suggestion("hostadr").as_deref(), Some("hostaddr"));
        assert_eq!(suggestion("connection_timeout").as_deref(), Some("connect_timeout"));
        assert_eq!(suggestion("zzz"), None);
    }
}
