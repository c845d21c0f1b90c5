//! What belongs to a database from outside: settings, grants, connection limit, labels. Made from structured facts and
//! applied last, for the archive's own entries carry the old name, and a setting such as
//! `default_transaction_read_only` would stop the load.

use std::collections::BTreeSet;

use pgkeep_dump::{Connection, PrivateFacts, quote_identifier, quote_literal};

/// Settings whose value is a list of names, quoted already in the catalog (`GUC_LIST_QUOTE` in guc_tables.c; psql and
/// pg_dump know them by name too, see `variable_is_guc_list_quote`).
const NAME_LISTS: &[&str] = &[
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "shared_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
];

/// One statement, and what it is about: for warnings, because values can be secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Statement {
    pub(crate) sql: String,
    pub(crate) subject: String,
}

/// What is applied.
#[derive(Debug, Clone)]
pub(crate) struct Outside<'a> {
    pub(crate) facts: &'a PrivateFacts,
    pub(crate) connection_limit: i32,
    pub(crate) owner: Option<&'a str>,
    pub(crate) roles: &'a BTreeSet<String>,
    pub(crate) grants: bool,
}

impl Outside<'_> {
    /// The statements for database `name`, and what is left out because a role is missing.
    pub(crate) fn statements(&self, name: &str) -> (Vec<Statement>, Vec<String>) {
        let database = quote_identifier(name);
        let mut statements = Vec::new();
        let mut left_out = BTreeSet::new();
        let mut push = |sql: String, subject: String| statements.push(Statement { sql, subject });
        if self.connection_limit != -1 {
            push(
                format!("ALTER DATABASE {database} CONNECTION LIMIT {}", self.connection_limit),
                "the connection limit".to_owned(),
            );
        }
        for (setting, value) in &self.facts.database_settings {
            push(
                format!("ALTER DATABASE {database} SET {} TO {}", setting_name(setting), setting_value(setting, value)),
                format!("setting {setting}"),
            );
        }
        for (role, setting, value) in &self.facts.role_settings {
            if !self.roles.contains(role) {
                left_out.insert(format!("settings of role {role}, which is missing"));
                continue;
            }
            push(
                format!(
                    "ALTER ROLE {} IN DATABASE {database} SET {} TO {}",
                    quote_identifier(role),
                    setting_name(setting),
                    setting_value(setting, value)
                ),
                format!("setting {setting} of role {role}"),
            );
        }
        for (provider, label) in &self.facts.labels {
            push(
                format!(
                    "SECURITY LABEL FOR {} ON DATABASE {database} IS {}",
                    quote_identifier(provider),
                    quote_literal(label)
                ),
                format!("the security label of {provider}"),
            );
        }
        match (&self.facts.grants, self.grants) {
            (Some(grants), true) => {
                push(format!("REVOKE ALL ON DATABASE {database} FROM PUBLIC"), "grants of PUBLIC".to_owned());
                if let Some(owner) = self.owner {
                    push(
                        format!("REVOKE ALL ON DATABASE {database} FROM {}", quote_identifier(owner)),
                        format!("grants of role {owner}"),
                    );
                }
                for (grantee, privilege, grantable) in grants {
                    if !grantee.is_empty() && !self.roles.contains(grantee) {
                        left_out.insert(format!("grants to role {grantee}, which is missing"));
                        continue;
                    }
                    let role = if grantee.is_empty() { "PUBLIC".to_owned() } else { quote_identifier(grantee) };
                    let option = if *grantable { " WITH GRANT OPTION" } else { "" };
                    push(
                        format!("GRANT {privilege} ON DATABASE {database} TO {role}{option}"),
                        format!("{privilege} for {role}"),
                    );
                }
            }
            // Never changed, or not wanted: what every database begins with.
            (None, _) | (_, false) => {
                push(
                    format!("GRANT CONNECT, TEMPORARY ON DATABASE {database} TO PUBLIC"),
                    "CONNECT for PUBLIC".to_owned(),
                );
            }
        }
        (statements, left_out.into_iter().collect())
    }

    /// Applies them; what the server refuses is a warning each.
    pub(crate) async fn apply(
        &self,
        connection: &mut Connection,
        name: &str,
    ) -> Result<Vec<String>, pgkeep_dump::Error> {
        let (statements, left_out) = self.statements(name);
        let mut warnings: Vec<String> =
            left_out.into_iter().map(|what| format!("not applied to the database: {what}")).collect();
        for statement in statements {
            match connection.execute(&statement.sql).await {
                Ok(_) => {}
                Err(pgkeep_dump::Error::Server(error)) if !error.is_fatal() => {
                    warnings.push(format!("not applied to the database: {} ({})", statement.subject, error.sqlstate));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(warnings)
    }
}

/// A setting's name: `work_mem`, `app.secret`; anything odd in quotes, part by part.
fn setting_name(name: &str) -> String {
    let plain = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    name.split('.')
        .map(|part| if plain(part) { part.to_owned() } else { quote_identifier(part) })
        .collect::<Vec<_>>()
        .join(".")
}

fn setting_value(name: &str, value: &str) -> String {
    if !NAME_LISTS.contains(&name.to_ascii_lowercase().as_str()) {
        return quote_literal(value);
    }
    let parts: Vec<_> = name_list(value).iter().map(|part| quote_literal(part)).collect();
    // An empty list is written as one empty name, as pg_dump does.
    if parts.is_empty() { "''".to_owned() } else { parts.join(", ") }
}

/// The names in a quoted, comma-separated list.
fn name_list(list: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut rest = list.trim();
    while !rest.is_empty() {
        let (name, after) = if rest.starts_with('"') {
            match crate::needs::identifier(rest) {
                Some(part) => part,
                None => (rest.to_owned(), ""),
            }
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            (rest[..end].trim().to_owned(), &rest[end..])
        };
        names.push(name);
        rest = after.trim_start().strip_prefix(',').unwrap_or("").trim_start();
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_names_are_written_name_by_name() {
        assert_eq!(
            setting_value("search_path", "\"$user\", public, \"odd \"\"one\"\"\""),
            "'$user', 'public', 'odd \"one\"'"
        );
        assert_eq!(setting_value("search_path", "\"\""), "''");
        assert_eq!(setting_value("search_path", ""), "''");
        assert_eq!(setting_value("app.list", "a, b"), "'a, b'");
        assert_eq!(setting_name("app.jwt_secret"), "app.jwt_secret");
        assert_eq!(setting_name("app.odd-name"), "app.\"odd-name\"");
    }

    #[test]
    fn grants_are_rebuilt_and_missing_roles_are_told() {
        let facts = PrivateFacts {
            database_settings: vec![("work_mem".into(), "64MB".into())],
            role_settings: vec![("ghost".into(), "TimeZone".into(), "UTC".into())],
            grants: Some(vec![
                (String::new(), "CONNECT".into(), false),
                ("app".into(), "CREATE".into(), true),
                ("ghost".into(), "CONNECT".into(), false),
            ]),
            labels: Vec::new(),
        };
        let roles = BTreeSet::from(["app".to_owned()]);
        let outside = Outside { facts: &facts, connection_limit: 7, owner: Some("app"), roles: &roles, grants: true };
        let (statements, left_out) = outside.statements("new");
        let sql: Vec<_> = statements.iter().map(|statement| statement.sql.as_str()).collect();
        assert_eq!(
            sql,
            [
                "ALTER DATABASE \"new\" CONNECTION LIMIT 7",
                "ALTER DATABASE \"new\" SET work_mem TO '64MB'",
                "REVOKE ALL ON DATABASE \"new\" FROM PUBLIC",
                "REVOKE ALL ON DATABASE \"new\" FROM \"app\"",
                "GRANT CONNECT ON DATABASE \"new\" TO PUBLIC",
                "GRANT CREATE ON DATABASE \"new\" TO \"app\" WITH GRANT OPTION",
            ]
        );
        assert_eq!(left_out.len(), 2);
        assert!(statements.iter().all(|statement| !statement.subject.contains("64MB")));
    }
}
