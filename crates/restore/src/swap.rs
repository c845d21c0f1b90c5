//! The exchange of names (POSTGRES A15).
//!
//! Both renames happen in one transaction, while a second session keeps ending the sessions of the live database.
//! `ALTER DATABASE … RENAME` takes its exclusive lock first and then waits some seconds for sessions to leave; newcomers
//! wait on that lock before they count. So nobody is locked out by a state that would survive a crash: before the
//! commit nothing has happened, after it everything has, and OIDs tell which.

use std::time::Duration;

use pgkeep_dump::{ConnectSettings, Connection, quote_identifier, quote_literal};
use pgkeep_metrics::{Event, Observer};

use crate::error::Doing;
use crate::{Error, Result, database, sessions};

/// How often it is tried.
const ATTEMPTS: u32 = 5;
/// Between two rounds of ending sessions.
const ROUND: Duration = Duration::from_millis(20);
/// Between two attempts.
const PAUSE: Duration = Duration::from_secs(1);
/// How often the server is asked what became of a commit whose answer was lost.
const QUESTIONS: u32 = 10;
/// Longest wait for the locks on the databases.
const LOCK_TIMEOUT: &str = "10s";

/// An exchange of names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Exchange {
    /// The name to be taken over.
    pub(crate) live: String,
    /// The database that has it now, and the name under which it is kept.
    pub(crate) present: Option<Present>,
    /// The database that takes it over.
    pub(crate) new: String,
    /// Its OID.
    pub(crate) new_oid: u32,
    /// The comment it gets in the same moment: it may have carried our own note until then.
    pub(crate) comment: Comment,
}

/// The database that is replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Present {
    pub(crate) oid: u32,
    pub(crate) kept_as: String,
}

/// What becomes of the new database's comment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Comment {
    /// It stays.
    Keep,
    /// It becomes this; `None` is no comment.
    Set(Option<String>),
}

impl Exchange {
    /// What the transaction does between its settings and its commit.
    fn statements(&self) -> Vec<String> {
        let (live, new) = (quote_identifier(&self.live), quote_identifier(&self.new));
        let mut statements = Vec::new();
        if let Some(present) = &self.present {
            statements.push(format!("ALTER DATABASE {live} RENAME TO {}", quote_identifier(&present.kept_as)));
        }
        statements.push(format!("ALTER DATABASE {new} RENAME TO {live}"));
        if let Comment::Set(comment) = &self.comment {
            let text = comment.as_deref().map_or_else(|| "NULL".to_owned(), quote_literal);
            statements.push(format!("COMMENT ON DATABASE {live} IS {text}"));
        }
        statements
    }

    /// Ends the sessions that stand in the way, as far as this role may. Newcomers that already are in the right
    /// database under the right name are left alone.
    fn ending(&self) -> String {
        let present = self.present.as_ref().map_or_else(|| "0".to_owned(), |present| present.oid.to_string());
        format!(
            "SELECT pg_catalog.count(pg_catalog.pg_terminate_backend(pid)) FROM pg_catalog.pg_stat_activity \
             WHERE (datid = {present} OR (datid = {} AND datname = {})) AND pid <> pg_catalog.pg_backend_pid() \
             AND ((SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) \
               OR (usesysid IS NOT NULL AND (pg_catalog.pg_has_role(usesysid, 'USAGE') \
                 OR pg_catalog.pg_has_role('pg_signal_backend', 'USAGE')) \
                 AND NOT COALESCE((SELECT rolsuper FROM pg_catalog.pg_roles WHERE oid = usesysid), true)))",
            self.new_oid,
            quote_literal(&self.new)
        )
    }

    /// Carries it out. An error other than [`Error::Uncertain`] means that nothing has changed.
    pub(crate) async fn run(&self, settings: &ConnectSettings, observer: &dyn Observer) -> Result<()> {
        let mut attempt = 1;
        loop {
            let mut committing = None;
            let source = match self.attempt(settings, &mut committing).await {
                Ok(()) => return Ok(()),
                Err(Error::Database { source, .. }) => source,
                // Before anything was asked of the server.
                Err(other) => return Err(other),
            };
            // A session that broke may have broken after the commit. One that got an answer knows.
            let answered = source.server_error().is_some_and(|error| !error.is_fatal());
            if let Some(session) = committing.filter(|_| !answered) {
                match self.outcome(settings, session).await {
                    Some(true) => return Ok(()),
                    Some(false) => {}
                    None => {
                        return Err(Error::Uncertain {
                            database: self.live.clone(),
                            evidence: self.evidence(),
                            source,
                        });
                    }
                }
            }
            let again =
                source.is_retryable() || matches!(source.sqlstate(), Some("55006" | "55P03" | "40P01" | "57014"));
            if !again || attempt == ATTEMPTS {
                return Err(Error::Swap { database: self.live.clone(), attempts: attempt, source });
            }
            observer.notice(&Event::Warning {
                message: format!(
                    "database {} is busy, exchanging names again ({attempt} of {ATTEMPTS}): {source}",
                    self.live
                ),
            });
            attempt += 1;
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// What shows that the names were exchanged.
    fn evidence(&self) -> String {
        match &self.present {
            Some(present) => format!("database {} exists", present.kept_as),
            None => format!("database {} no longer exists", self.new),
        }
    }

    /// Whether the names were exchanged by a session whose answer was lost; `None` if nobody can be asked. As long as
    /// that session lives, its commit may still be under way.
    async fn outcome(&self, settings: &ConnectSettings, session: i32) -> Option<bool> {
        let end = format!(
            "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity \
             WHERE pid = {session} AND pid <> pg_catalog.pg_backend_pid() AND usename = current_user \
             AND (query LIKE 'COMM%' OR query LIKE 'ALTER DATABASE %')"
        );
        for question in 1..=QUESTIONS {
            let asked = async {
                let mut connection = sessions::maintenance(settings, &[&self.live, &self.new]).await?;
                let doing = "asking which database has which name";
                let ended = connection.query(&end).await.doing(doing)?.is_empty();
                Ok::<_, Error>(if ended { Some(self.done(&mut connection).await.doing(doing)?) } else { None })
            };
            match asked.await {
                Ok(Some(done)) => return Some(done),
                Ok(None) => {}
                Err(error) => tracing::debug!(%error, question, "what became of the exchange is not known yet"),
            }
            if question < QUESTIONS {
                tokio::time::sleep(PAUSE).await;
            }
        }
        None
    }

    /// Whether the live name has the new database's OID.
    pub(crate) async fn done(&self, connection: &mut Connection) -> Result<bool, pgkeep_dump::Error> {
        Ok(database::oid(connection, &self.live).await? == Some(self.new_oid))
    }

    /// One attempt. `committing` gets the session's process number before it commits.
    async fn attempt(&self, settings: &ConnectSettings, committing: &mut Option<i32>) -> Result<()> {
        let avoid = [self.live.as_str(), self.new.as_str()];
        let mut renaming = sessions::maintenance(settings, &avoid).await?;
        let mut ending = sessions::maintenance(settings, &avoid).await?;
        self.check(&mut renaming).await?;
        let sql = self.ending();
        let exchange = async {
            renaming
                .execute(format!("BEGIN; SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'; SET LOCAL synchronous_commit = on"))
                .await?;
            for statement in self.statements() {
                renaming.execute(statement).await?;
            }
            *committing = Some(renaming.backend_pid());
            renaming.execute("COMMIT").await
        };
        tokio::pin!(exchange);
        let ended = async {
            loop {
                if let Err(error) = ending.query(&sql).await {
                    // One that went away by itself; the next round tells.
                    tracing::debug!(%error, "sessions could not be ended");
                    if error.server_error().is_none() {
                        std::future::pending::<()>().await;
                    }
                }
                tokio::time::sleep(ROUND).await;
            }
        };
        let result = tokio::select! {
            biased;
            result = &mut exchange => result,
            () = ended => unreachable!("sessions are ended until the names are exchanged"),
        };
        result.map(|_| ()).doing("exchanging the databases' names")
    }

    /// The names must still mean what they meant when the plan was made.
    async fn check(&self, connection: &mut Connection) -> Result<()> {
        let doing = "asking which database has which name";
        let live = database::oid(connection, &self.live).await.doing(doing)?;
        let new = database::oid(connection, &self.new).await.doing(doing)?;
        if live != self.present.as_ref().map(|present| present.oid) {
            return Err(Error::Changed(format!("database {} is not the one that was planned with", self.live)));
        }
        if new != Some(self.new_oid) {
            return Err(Error::Changed(format!("database {} is gone or another one", self.new)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exchange() -> Exchange {
        Exchange {
            live: "app".into(),
            present: Some(Present { oid: 11, kept_as: "app_before_x".into() }),
            new: "app_pgkeep_x".into(),
            new_oid: 22,
            comment: Comment::Set(Some("it's ours".into())),
        }
    }

    #[test]
    fn both_renames_and_the_comment_are_one_transaction() {
        assert_eq!(
            exchange().statements(),
            [
                "ALTER DATABASE \"app\" RENAME TO \"app_before_x\"",
                "ALTER DATABASE \"app_pgkeep_x\" RENAME TO \"app\"",
                "COMMENT ON DATABASE \"app\" IS 'it''s ours'",
            ]
        );
        let first = Exchange { present: None, comment: Comment::Keep, ..exchange() };
        assert_eq!(first.statements(), ["ALTER DATABASE \"app_pgkeep_x\" RENAME TO \"app\""]);
    }

    #[test]
    fn newcomers_under_the_new_name_are_spared() {
        assert!(exchange().ending().contains("(datid = 11 OR (datid = 22 AND datname = 'app_pgkeep_x'))"));
    }
}
