//! Telling a transaction pooler from a server.

use super::Connection;
use crate::{Error, Result, SessionSettings};

const PROBE: &str = "SELECT pg_catalog.pg_backend_pid(), pg_catalog.current_setting('TimeZone'), pg_catalog.current_setting('bytea_output')";

impl Connection {
    /// Refuses a transaction pooler in the server's place: sessions that wander between server processes, share one, or never
    /// got their settings have no snapshot to rely on. (One that refuses our settings at startup was refused by
    /// [`connect`](Self::connect).) Call it before any transaction; within one every pooler is faithful.
    ///
    /// A process id other than the one told at startup is no proof by itself, since some providers' proxies invent
    /// the cancel key, but makes us look closer, with a second session.
    pub async fn refuse_pooler(&mut self) -> Result<()> {
        let pid = self.probe().await?;
        if self.probe().await? != pid {
            return Err(self.is_pooler("the session moved from one server process to another between two statements"));
        }
        if pid == self.backend_pid() {
            return Ok(());
        }
        let mut second = Self::connect(self.resolved(), SessionSettings::Admin).await?;
        second.execute("BEGIN").await?;
        let shared = second.probe().await? == pid;
        second.close().await?;
        if shared {
            return Err(self.is_pooler("two sessions at once share one server process"));
        }
        Ok(())
    }

    async fn probe(&mut self) -> Result<i32> {
        let rows = self.query(PROBE).await?;
        let Some(row) = rows.first() else { return Err(self.is_pooler("a question about the session got no answer")) };
        let text = |column| row.text(column).unwrap_or_default();
        if (text(1).as_str(), text(2).as_str()) != ("UTC", "hex") {
            return Err(self.is_pooler("the session settings given at startup did not arrive"));
        }
        row.get(0)
    }

    fn is_pooler(&self, sign: &str) -> Error {
        Error::Pooler { server: self.resolved().server(), sign: sign.to_owned() }
    }
}
