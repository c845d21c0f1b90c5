//! A scratch database: a backup is restored into it, looked at, and dropped with it.

use pgkeep_dump::{ConnectSettings, Connection, SessionSettings, quote_identifier};
use pgkeep_metrics::Event;

use crate::error::Doing;
use crate::recovery::{lock, pinned, unlock};
use crate::{Error, Restorer, Result, database, names, sessions};

/// The name of a scratch database, reserved on its server until [`Self::remove`]. The database itself is made by
/// restoring to this name.
#[derive(Debug)]
pub struct Scratch {
    name: String,
    settings: ConnectSettings,
    /// Holds the lock of drills.
    session: Connection,
}

impl Restorer {
    /// Reserves the scratch database of drills of `live` (`<live>_pgkeep_drill`) on the server of [`Self::settings`]. What a
    /// drill that was killed left under this name is dropped. [`Error::Busy`] if another drill is under way.
    pub async fn scratch(&self, live: &str) -> Result<Scratch> {
        let name = names::scratch(live);
        let mut session = sessions::maintenance(&self.settings, &[&name]).await?;
        if !lock(&mut session, &lock_name(&name)).await? {
            return Err(Error::Busy { database: name });
        }
        let mut scratch = Scratch { settings: pinned(&session, &name), name, session };
        let found = scratch.clear_up(self).await;
        match found {
            Ok(()) => Ok(scratch),
            Err(error) => {
                unlock(scratch.session, &lock_name(&scratch.name)).await;
                Err(error)
            }
        }
    }
}

impl Scratch {
    /// The database's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How to connect to it, once it is there.
    pub fn settings(&self) -> &ConnectSettings {
        &self.settings
    }

    /// Drops the database, whoever is connected, and gives the name free. The next [`Restorer::scratch`] drops what could
    /// not be dropped now.
    pub async fn remove(self) -> Result<()> {
        let Self { name, settings, mut session } = self;
        // The session may have been idle for hours.
        if session.query("SELECT 1").await.is_err() {
            session = sessions::maintenance(&settings, &[&name]).await?;
        }
        let dropped = drop_scratch(&mut session, &settings, &name).await;
        unlock(session, &lock_name(&name)).await;
        dropped
    }

    async fn clear_up(&mut self, restorer: &Restorer) -> Result<()> {
        for warning in restorer.recover(Some(&self.name)).await?.warnings {
            restorer.observer.notice(&Event::Detail { message: warning });
        }
        if database::oid(&mut self.session, &self.name).await.doing("looking for the scratch database")?.is_some() {
            let message = format!("database {} is left over from a drill that was killed: it is dropped", self.name);
            restorer.observer.notice(&Event::Info { message });
            drop_scratch(&mut self.session, &self.settings, &self.name).await?;
        }
        Ok(())
    }
}

fn lock_name(name: &str) -> String {
    format!("drill in {name}")
}

async fn drop_scratch(session: &mut Connection, settings: &ConnectSettings, name: &str) -> Result<()> {
    let doing = || format!("dropping the scratch database {name}");
    if database::oid(session, name).await.doing(doing())?.is_none() {
        return Ok(());
    }
    // If it can't be entered, dropping it may still do; else that says why.
    if let Err(error) = forget_subscriptions(settings, session.server_version()).await {
        tracing::debug!(%error, name, "subscriptions of the scratch database");
    }
    database::drop_database(session, name).await.doing(doing())
}

/// A database with subscriptions can't be dropped. Restored ones are disabled and have never connected; they are dropped
/// without a word to their publisher, whose slots belong to the live database's.
async fn forget_subscriptions(settings: &ConnectSettings, server_version: u32) -> Result<(), pgkeep_dump::Error> {
    let mut connection = Connection::connect(settings, SessionSettings::Admin).await?;
    let mine = "SELECT subname FROM pg_catalog.pg_subscription WHERE subdbid = \
                (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())";
    // Before 16, only superusers may read the table.
    let rows = match connection.query(mine).await {
        Ok(rows) => rows,
        Err(pgkeep_dump::Error::Server(error)) if !error.is_fatal() && server_version < 160_000 => Vec::new(),
        Err(error) => return Err(error),
    };
    for row in &rows {
        let name = quote_identifier(&row.text(0).unwrap_or_default());
        for statement in [
            format!("ALTER SUBSCRIPTION {name} DISABLE"),
            format!("ALTER SUBSCRIPTION {name} SET (slot_name = NONE)"),
            format!("DROP SUBSCRIPTION {name}"),
        ] {
            connection.execute(statement).await?;
        }
    }
    let _ = connection.close().await;
    Ok(())
}
