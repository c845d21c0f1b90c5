//! Roles and memberships from a backup's globals: those the server lacks are created, those it has are left alone.

use std::collections::{BTreeMap, BTreeSet};

use pgkeep_dump::Connection;

use crate::needs::identifier;

/// Roles that managed services own; they are never created.
const RESERVED: &[&str] = &["rds", "azure", "cloudsql", "pg_", "alloydb"];

/// The statements of a globals object, by role.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Globals {
    /// Role → what creates and shapes it, in order.
    roles: BTreeMap<String, Vec<String>>,
    /// Group, member, statement.
    memberships: Vec<(String, String, String)>,
}

impl Globals {
    /// Takes `pg_dumpall --globals-only` apart; what is no role or membership is left out.
    pub(crate) fn read(sql: &str) -> Self {
        let mut globals = Self::default();
        for statement in statements(sql) {
            globals.take(statement);
        }
        globals
    }

    fn take(&mut self, statement: String) {
        if let Some((role, _)) = statement.strip_prefix("CREATE ROLE ").and_then(identifier) {
            if !reserved(&role) {
                self.roles.entry(role).or_default().push(statement);
            }
        } else if let Some((role, rest)) =
            statement.strip_prefix("ALTER ROLE ").or(statement.strip_prefix("COMMENT ON ROLE ")).and_then(identifier)
        {
            // Settings in one database are among the facts of that database.
            if !rest.starts_with(" IN DATABASE ")
                && let Some(of_role) = self.roles.get_mut(&role)
            {
                of_role.push(statement);
            }
        } else if let Some((group, rest)) = statement.strip_prefix("GRANT ").and_then(identifier)
            && let Some((member, _)) = rest.strip_prefix(" TO ").and_then(identifier)
            && !reserved(&member)
        {
            self.memberships.push((group, member, statement));
        }
    }

    /// Roles that are not among `present`.
    pub(crate) fn missing(&self, present: &BTreeSet<String>) -> BTreeSet<String> {
        self.roles.keys().filter(|role| !present.contains(*role)).cloned().collect()
    }

    /// Creates what is missing; what the server refuses is a warning each.
    pub(crate) async fn apply(
        &self,
        connection: &mut Connection,
        present: &BTreeSet<String>,
    ) -> Result<Vec<String>, pgkeep_dump::Error> {
        let mut warnings = Vec::new();
        let missing = self.missing(present);
        for role in &missing {
            for statement in self.roles.get(role).into_iter().flatten() {
                run(connection, statement, &format!("role {role}"), &mut warnings).await?;
            }
        }
        for (group, member, statement) in &self.memberships {
            if missing.contains(member) || missing.contains(group) {
                // Whoever granted it there need not exist here.
                let statement = statement.split(" GRANTED BY ").next().unwrap_or(statement);
                run(connection, statement, &format!("membership of {member} in {group}"), &mut warnings).await?;
            }
        }
        Ok(warnings)
    }
}

async fn run(
    connection: &mut Connection,
    statement: &str,
    subject: &str,
    warnings: &mut Vec<String>,
) -> Result<(), pgkeep_dump::Error> {
    match connection.execute(statement).await {
        Ok(_) => Ok(()),
        Err(pgkeep_dump::Error::Server(error)) if !error.is_fatal() => {
            // Not the statement: it can hold a password's hash.
            warnings.push(format!("{subject}: {}", error.message));
            Ok(())
        }
        Err(error) => Err(error),
    }
}

fn reserved(role: &str) -> bool {
    RESERVED.iter().any(|prefix| role.starts_with(prefix))
}

/// Statements without their semicolon; comments and psql's own commands are left out.
fn statements(sql: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut current = String::new();
    let mut quote = None;
    for line in sql.split_inclusive('\n') {
        let fresh = current.trim().is_empty() && quote.is_none();
        if fresh && (line.starts_with("--") || line.starts_with('\\')) {
            continue;
        }
        for character in line.chars() {
            match (quote, character) {
                (None, ';') => {
                    all.push(current.trim().to_owned());
                    current.clear();
                    continue;
                }
                (None, '\'' | '"') => quote = Some(character),
                // A doubled quote closes and opens again, which comes to the same.
                (Some(open), _) if open == character => quote = None,
                _ => {}
            }
            current.push(character);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_missing_is_created() {
        let globals = Globals::read(
            "-- pgkeep-facts: {}\n\\restrict x\nSET default_transaction_read_only = off;\n\
             CREATE ROLE app;\nALTER ROLE app WITH NOSUPERUSER LOGIN PASSWORD 'SCRAM;x';\n\
             CREATE ROLE \"We\"\"ird; one\";\nCOMMENT ON ROLE app IS 'two\n-- lines; it''s';\n\
             ALTER ROLE app SET search_path TO 'a', 'b';\nALTER ROLE app IN DATABASE x SET a TO 'b';\n\
             CREATE ROLE rdsadmin;\nCREATE ROLE postgres;\nALTER ROLE postgres WITH SUPERUSER;\n\
             GRANT app TO \"We\"\"ird; one\" WITH INHERIT TRUE GRANTED BY postgres;\n\
             CREATE TABLESPACE fast OWNER postgres LOCATION '/fast';\n",
        );
        let present = BTreeSet::from(["postgres".to_owned()]);
        let missing: Vec<_> = globals.missing(&present).into_iter().collect();
        assert_eq!(missing, ["We\"ird; one", "app"]);
        assert_eq!(
            globals.roles["app"],
            [
                "CREATE ROLE app",
                "ALTER ROLE app WITH NOSUPERUSER LOGIN PASSWORD 'SCRAM;x'",
                "COMMENT ON ROLE app IS 'two\n-- lines; it''s'",
                "ALTER ROLE app SET search_path TO 'a', 'b'"
            ]
        );
        assert_eq!(globals.memberships.len(), 1);
        assert_eq!((globals.memberships[0].0.as_str(), globals.memberships[0].1.as_str()), ("app", "We\"ird; one"));
    }
}
