//! What interrupted runs left behind.

use std::time::Duration;

use pgkeep_dump::{ConnectSettings, Connection, quote_literal};
use pgkeep_storage::Key;

use crate::error::{Doing, one_line};
use crate::journal::{self, Act, Construction, Note};
use crate::kept::{KeptDatabase, Leftover, Recovery, RecoveryAction};
use crate::names::{self, Role};
use crate::{Error, Restorer, Result, database, sessions};

impl Restorer {
    /// What interrupted runs left behind for the live database (or `database`). Changes nothing.
    pub async fn leftovers(&self, database: Option<&str>) -> Result<Recovery> {
        let live = database.unwrap_or(self.settings.database());
        let mut connection = sessions::maintenance(&self.settings, &[live]).await?;
        if !lock(&mut connection, live).await? {
            return Ok(under_way(live));
        }
        let (found, warnings) = self.find(&mut connection, live).await?;
        unlock(connection, live).await;
        Ok(Recovery { leftovers: found.into_iter().map(|(leftover, _)| leftover).collect(), warnings })
    }

    /// The same, and does what is to be done about it. [`Self::execute`] begins with it.
    pub async fn recover(&self, database: Option<&str>) -> Result<Recovery> {
        let live = database.unwrap_or(self.settings.database());
        let mut connection = sessions::maintenance(&self.settings, &[live]).await?;
        if !lock(&mut connection, live).await? {
            return Ok(under_way(live));
        }
        let recovery = self.recover_locked(&mut connection, live).await?;
        unlock(connection, live).await;
        Ok(recovery)
    }

    /// Under the restore's own lock.
    pub(crate) async fn recover_locked(&self, connection: &mut Connection, live: &str) -> Result<Recovery> {
        let (found, warnings) = self.find(connection, live).await?;
        let mut recovery = Recovery { leftovers: Vec::new(), warnings };
        for (leftover, note) in found {
            if leftover.action == RecoveryAction::Drop
                && let Some(name) = &leftover.name
                && let Err(error) = database::drop_database(connection, name).await
            {
                recovery.warnings.push(format!("database {name} could not be dropped: {}", one_line(&error)));
            }
            // A warning about a half-filled database is repeated until a restore has succeeded.
            if leftover.action != RecoveryAction::Warn {
                journal::clear(self.journal.as_deref(), note.as_ref()).await;
            }
            recovery.leftovers.push(leftover);
        }
        Ok(recovery)
    }

    /// What is left, each with its note, and what could not be read.
    async fn find(
        &self,
        connection: &mut Connection,
        live: &str,
    ) -> Result<(Vec<(Leftover, Option<Key>)>, Vec<String>)> {
        let mut found = Vec::new();
        for (name, comment) in derived(connection, live, Role::New).await? {
            let begun = names::stamp_of(&name, live, Role::New).and_then(names::stamp_time);
            let construction = comment.as_deref().and_then(Construction::read);
            let backup = construction.map(|construction| construction.backup);
            let story = format!(
                "a restore of {} into {live} was cut off before the exchange of names: {live} is as it was, and the new database {name} is dropped",
                backup.as_deref().unwrap_or("a backup")
            );
            let leftover = Leftover {
                database: live.to_owned(),
                name: Some(name),
                begun,
                backup,
                action: RecoveryAction::Drop,
                story,
            };
            found.push((leftover, None));
        }
        let server = connection.resolved().server();
        let (notes, warnings) = journal::read(self.journal.as_deref(), &server, live).await;
        let live_oid = database::oid(connection, live).await.doing("reading the databases' OIDs")?;
        for (key, note) in notes {
            found.push((tell(&note, live_oid), Some(key)));
        }
        found.sort_by_key(|(leftover, _)| leftover.begun);
        Ok((found, warnings))
    }

    /// Databases that were replaced by earlier restores of the live database and are kept, newest first.
    pub async fn kept_databases(&self) -> Result<Vec<KeptDatabase>> {
        let mut connection = sessions::maintenance(&self.settings, &[]).await?;
        kept(&mut connection, self.settings.database()).await
    }

    /// Drops a kept database for good.
    pub async fn drop_kept(&self, name: &str) -> Result<()> {
        let mut connection = sessions::maintenance(&self.settings, &[name]).await?;
        let kept = kept(&mut connection, self.settings.database()).await?;
        if !kept.iter().any(|kept| kept.name == name) {
            return Err(not_kept(name, &kept));
        }
        database::drop_database(&mut connection, name).await.doing(format!("dropping database {name}"))
    }
}

/// The error for a kept database that is none.
pub(crate) fn not_kept(name: &str, kept: &[KeptDatabase]) -> Error {
    Error::NotFound {
        what: format!("a kept database {name}"),
        candidates: kept.iter().map(|kept| kept.name.clone()).collect(),
    }
}

/// The databases kept from earlier restores of `live`, newest first.
pub(crate) async fn kept(connection: &mut Connection, live: &str) -> Result<Vec<KeptDatabase>> {
    let rows = connection
        .query(
            "SELECT datname, oid, CASE WHEN pg_catalog.has_database_privilege(oid, 'CONNECT') \
             OR pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE') THEN pg_catalog.pg_database_size(oid) END \
             FROM pg_catalog.pg_database",
        )
        .await
        .doing("listing databases")?;
    let mut kept = Vec::new();
    for row in &rows {
        let name = row.text(0).unwrap_or_default();
        if let Some(replaced_at) = names::stamp_of(&name, live, Role::Before).and_then(names::stamp_time) {
            let bytes = row.text(2).and_then(|bytes| bytes.parse().ok());
            kept.push(KeptDatabase { name, replaced_at, bytes, oid: row.get(1).doing("listing databases")? });
        }
    }
    kept.sort_by_key(|kept| std::cmp::Reverse(kept.replaced_at));
    Ok(kept)
}

/// How often the lock is asked for, and how long is waited in between: a session that was just cut off may still hold it.
const LOCK_ATTEMPTS: u32 = 5;
const LOCK_PAUSE: Duration = Duration::from_millis(100);

/// Takes the lock of restores of a database for as long as the session lasts; false if another run has it.
pub(crate) async fn lock(connection: &mut Connection, live: &str) -> Result<bool> {
    let sql = format!("SELECT pg_catalog.pg_try_advisory_lock({})", names::lock_number(live));
    for attempt in 1..=LOCK_ATTEMPTS {
        let rows = connection.query(&sql).await.doing("taking the lock of restores")?;
        if rows.first().is_some_and(|row| crate::survey::truth(row, 0)) {
            return Ok(true);
        }
        if attempt < LOCK_ATTEMPTS {
            tokio::time::sleep(LOCK_PAUSE).await;
        }
    }
    Ok(false)
}

/// Gives the lock back and ends the session; the server does it too, but a little later.
pub(crate) async fn unlock(mut connection: Connection, live: &str) {
    let sql = format!("SELECT pg_catalog.pg_advisory_unlock({})", names::lock_number(live));
    if let Err(error) = connection.query(&sql).await {
        tracing::debug!(%error, "the lock goes with its session");
    }
    let _ = connection.close().await;
}

/// The settings pinned to the host that a session reached.
pub(crate) fn pinned(connection: &Connection, database: &str) -> ConnectSettings {
    connection.resolved().with_database(database)
}

fn under_way(live: &str) -> Recovery {
    Recovery {
        leftovers: Vec::new(),
        warnings: vec![format!("another restore of database {live} is under way on this server")],
    }
}

/// Databases with a name of ours, and their comments.
async fn derived(connection: &mut Connection, live: &str, role: Role) -> Result<Vec<(String, Option<String>)>> {
    let rows = connection
        .query(format!(
            "SELECT datname, pg_catalog.shobj_description(oid, 'pg_database') FROM pg_catalog.pg_database \
             WHERE datname <> {} ORDER BY 1",
            quote_literal(live)
        ))
        .await
        .doing("listing databases")?;
    let all = rows.iter().map(|row| (row.text(0).unwrap_or_default(), row.text(1)));
    Ok(all.filter(|(name, _)| names::stamp_of(name, live, role).is_some()).collect())
}

/// What a note means, by the OID that the live name has now.
fn tell(note: &Note, live_oid: Option<u32>) -> Leftover {
    let kept = note.kept_as.as_deref().map_or_else(String::new, |kept| format!("; the one before is kept as {kept}"));
    let (action, story) = match note.act {
        Act::InPlace => (
            RecoveryAction::Warn,
            format!(
                "a restore of {} in place was cut off: database {} may not be complete{}",
                note.backup,
                note.database,
                note.snapshot.as_deref().map_or_else(
                    || "; restore a backup again".to_owned(),
                    |snapshot| format!("; restore again, or go back with the snapshot {snapshot}")
                )
            ),
        ),
        Act::Swap | Act::Rollback if note.new_oid.is_some() && live_oid == note.new_oid => (
            RecoveryAction::Note,
            format!(
                "the run that exchanged {} for {} was cut off after the exchange: it is done{kept}",
                note.database, note.backup
            ),
        ),
        Act::Swap | Act::Rollback => (
            RecoveryAction::Note,
            format!(
                "the run that was to exchange {} for {} was cut off before the exchange: nothing changed",
                note.database, note.backup
            ),
        ),
    };
    Leftover {
        database: note.database.clone(),
        name: None,
        begun: Some(note.begun),
        backup: Some(note.backup.clone()),
        action,
        story,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(act: Act) -> Note {
        Note {
            act,
            server: "h:5432".into(),
            database: "app".into(),
            begun: chrono::DateTime::from_timestamp(0, 0).unwrap(),
            backup: "daily_x".into(),
            live_oid: Some(1),
            new_oid: Some(2),
            kept_as: Some("app_before_x".into()),
            snapshot: Some("pre-restore_x".into()),
        }
    }

    #[test]
    fn oids_tell_whether_an_exchange_was_done() {
        let done = tell(&note(Act::Swap), Some(2));
        assert_eq!(done.action, RecoveryAction::Note);
        assert!(done.story.contains("it is done; the one before is kept as app_before_x"), "{}", done.story);
        assert!(tell(&note(Act::Swap), Some(1)).story.contains("nothing changed"));
        let in_place = tell(&note(Act::InPlace), Some(1));
        assert_eq!(in_place.action, RecoveryAction::Warn);
        assert!(in_place.story.contains("go back with the snapshot pre-restore_x"));
    }
}
