//! Carrying a plan out.

use std::time::Instant;

use pgkeep_dump::{ConnectSettings, Connection, PrivateFacts, SessionSettings, quote_literal};
use pgkeep_metrics::{Event, Stage};
use pgkeep_storage::Key;
use tokio::task::JoinHandle;

use crate::database::{self, Properties};
use crate::error::{Doing, one_line};
use crate::fill::{Fill, Filled};
use crate::journal::{self, Act, Construction, Note};
use crate::kept::Recovery;
use crate::lists::Lists;
use crate::recovery::{lock, pinned, unlock};
use crate::settings::Outside;
use crate::standstill::Standstill;
use crate::swap::{Comment, Exchange, Present};
use crate::tables::Made;
use crate::{
    Error, Method, RestorePlan, RestoreReport, Restorer, Result, Snapshot, StageTimes, in_place, roles, sessions,
    tables,
};

/// Sessions that a job has at most: statistics, tables and large objects are read side by side in the end.
const SESSIONS_OF_A_JOB: usize = 3;

type Snapshotting = JoinHandle<Result<String, Box<dyn std::error::Error + Send + Sync>>>;

impl Restorer {
    /// Carries a plan out. `snapshot` is the pre-restore backup of the target, run beside the load (before anything, if in
    /// place); `None` where the plan wants none or the caller waives it.
    ///
    /// A plan with blockers is refused. On every error but [`Error::HalfDone`] the target is as it was; after
    /// [`Error::Uncertain`] it may have been exchanged, and the next run tells.
    pub async fn execute(&self, plan: &RestorePlan, snapshot: Option<Snapshot>) -> Result<RestoreReport> {
        if !plan.blockers.is_empty() {
            return Err(Error::Blocked { blockers: plan.blockers.clone() });
        }
        let mut run = Run::begin(self, plan).await?;
        let outcome = match plan.method {
            Method::Create | Method::Swap => Box::pin(run.beside(snapshot)).await,
            Method::InPlace => Box::pin(run.in_place(snapshot)).await,
            Method::Tables => Box::pin(run.tables()).await,
        };
        if outcome.is_err() {
            for message in std::mem::take(&mut run.warnings) {
                self.observer.notice(&Event::Warning { message });
            }
        }
        let Run { maintenance, connect, note, .. } = run;
        unlock(maintenance, &plan.database).await;
        if outcome.is_ok() {
            self.close_notes(&connect.server(), &plan.database, note).await;
        }
        outcome
    }

    /// The restore has succeeded: neither its note nor an earlier one about a half-filled database means anything now.
    /// Its own goes last, and with it the last thing this restore does.
    async fn close_notes(&self, server: &str, database: &str, own: Option<Key>) {
        let storage = self.journal.as_deref();
        for (key, note) in journal::read(storage, server, database).await.0 {
            if note.act == Act::InPlace && Some(&key) != own.as_ref() {
                journal::clear(storage, Some(&key)).await;
            }
        }
        journal::clear(storage, own.as_ref()).await;
    }

    /// Stops waiting for `work` when the run is cancelled.
    pub(crate) async fn unless_cancelled<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            biased;
            result = work => result,
            () = self.cancel.cancelled() => Err(Error::Interrupted),
        }
    }
}

/// One restore.
#[derive(Debug)]
struct Run<'a> {
    restorer: &'a Restorer,
    plan: &'a RestorePlan,
    /// Holds the lock, makes and drops databases.
    maintenance: Connection,
    /// Pinned to the host that answered, with the target's database.
    connect: ConnectSettings,
    times: StageTimes,
    warnings: Vec<String>,
    begun: Instant,
    /// What was noted in the repository, until the end is told.
    note: Option<Key>,
    /// What was made of tables that are added.
    made: Made,
}

impl<'a> Run<'a> {
    /// Connects, takes the lock, clears up what an interrupted run left, creates roles.
    async fn begin(restorer: &'a Restorer, plan: &'a RestorePlan) -> Result<Self> {
        let begun = Instant::now();
        let subject = plan.server.clone();
        restorer.observer.notice(&Event::StageStarted { stage: Stage::Connect, subject });
        let inside = matches!(plan.method, Method::InPlace | Method::Tables);
        let mut maintenance = match sessions::maintenance(&plan.facts.connect, &[&plan.database]).await {
            Ok(connection) => connection,
            // Where no other database may be entered, the target itself has to do.
            Err(_) if inside => Connection::connect(&plan.facts.connect, SessionSettings::Admin)
                .await
                .doing(format!("connecting to database {}", plan.database))?,
            Err(error) => return Err(error),
        };
        if !lock(&mut maintenance, &plan.database).await? {
            return Err(Error::Busy { database: plan.database.clone() });
        }
        let connect = pinned(&maintenance, &plan.database);
        let mut run = Self {
            restorer,
            plan,
            maintenance,
            connect,
            times: StageTimes::default(),
            warnings: Vec::new(),
            begun,
            note: None,
            made: Made::Nothing,
        };
        let recovery = restorer.recover_locked(&mut run.maintenance, &plan.database).await?;
        run.tell(recovery);
        run.check_target().await?;
        run.create_roles().await?;
        restorer.observer.notice(&Event::StageFinished { stage: Stage::Connect, elapsed: begun.elapsed() });
        Ok(run)
    }

    fn tell(&mut self, recovery: Recovery) {
        for leftover in recovery.leftovers {
            self.restorer.observer.notice(&Event::Info { message: leftover.story });
        }
        self.warnings.extend(recovery.warnings);
    }

    /// For the report; told to the observer instead if there will be none.
    fn warn(&mut self, message: String) {
        self.warnings.push(message);
    }

    /// The session may have been idle for hours: if it is gone, another one takes the lock.
    async fn revive(&mut self) -> Result<()> {
        if self.maintenance.query("SELECT 1").await.is_ok() {
            return Ok(());
        }
        let avoid = [self.plan.database.as_str(), self.plan.built_as.as_deref().unwrap_or_default()];
        self.maintenance = sessions::maintenance(&self.connect, &avoid).await?;
        if lock(&mut self.maintenance, &self.plan.database).await? {
            Ok(())
        } else {
            Err(Error::Busy { database: self.plan.database.clone() })
        }
    }

    /// The target must still be what the plan saw.
    async fn check_target(&mut self) -> Result<()> {
        let now =
            database::oid(&mut self.maintenance, &self.plan.database).await.doing("looking for the target database")?;
        let planned = self.plan.facts.database.as_ref().map(|database| database.oid);
        if now == planned {
            return Ok(());
        }
        Err(Error::Changed(format!(
            "database {} {}",
            self.plan.database,
            match (planned, now) {
                (None, _) => "has come into being",
                (_, None) => "is gone",
                _ => "is another one now",
            }
        )))
    }

    async fn create_roles(&mut self) -> Result<()> {
        if self.plan.created_roles.is_empty() {
            return Ok(());
        }
        let Some(globals) = self.plan.request.source.globals().await? else { return Ok(()) };
        let globals = roles::Globals::read(&String::from_utf8_lossy(&globals));
        let refused = globals.apply(&mut self.maintenance, &self.plan.facts.roles).await.doing("creating roles")?;
        for warning in refused {
            self.warn(warning);
        }
        Ok(())
    }

    /// Built under another name, then given its own.
    async fn beside(&mut self, snapshot: Option<Snapshot>) -> Result<RestoreReport> {
        let plan = self.plan;
        let name = plan.built_as.as_deref().unwrap_or_default();
        if self.plan.wants_snapshot && snapshot.is_none() {
            self.warn("no pre-restore snapshot was taken; the old database is kept".to_owned());
        }
        let snapshot = snapshot.map(tokio::spawn);
        let built = Box::pin(self.build(name)).await;
        let result = match built {
            Ok((oid, filled)) => self.take_over(name, oid, snapshot, filled).await,
            Err(error) => {
                abort(snapshot);
                Err(error)
            }
        };
        if result.as_ref().is_err_and(|error| !matches!(error, Error::Uncertain { .. })) {
            self.discard(name).await;
        }
        result
    }

    /// Creates and fills the new database and gives it its settings.
    async fn build(&mut self, name: &str) -> Result<(u32, Filled)> {
        let plan = self.plan;
        let properties = Properties::of(plan);
        let construction = Construction {
            database: plan.database.clone(),
            backup: plan.backup.name.clone(),
            begun: self.restorer.clock.now(),
        };
        if self.restorer.cancel.is_cancelled() {
            return Err(Error::Interrupted);
        }
        // Not to be left half-way: the server would go on creating what nobody drops any more.
        let oid = database::create(&mut self.maintenance, name, &properties, &construction.comment()).await?;
        let filled = self.fill(name, &plan.lists.lists).await?;
        let begun = Instant::now();
        self.revive().await?;
        self.settle(name, properties.owner.as_deref()).await?;
        self.times.swap += begun.elapsed();
        Ok((oid, filled))
    }

    /// As many jobs as were asked for, unless the server has fewer sessions left.
    async fn affordable_jobs(&mut self) -> Result<usize> {
        let wanted = self.plan.request.jobs.max(1);
        let room = sessions::room(&mut self.maintenance).await.doing("asking the server for room for sessions")?;
        let jobs = wanted.min(room / SESSIONS_OF_A_JOB).max(1);
        if jobs < wanted {
            let message = format!("{jobs} of {wanted} jobs: the server lets this role open {room} more sessions");
            self.restorer.observer.notice(&Event::Info { message });
        }
        Ok(jobs)
    }

    async fn fill(&mut self, name: &str, lists: &Lists) -> Result<Filled> {
        let jobs = self.affordable_jobs().await?;
        let fill = Fill {
            restorer: self.restorer,
            plan: self.plan,
            connect: self.connect.with_database(name),
            lists,
            jobs,
            times: &mut self.times,
            warnings: &mut self.warnings,
            made: &mut self.made,
        };
        // Large, and polled through several layers.
        self.restorer.unless_cancelled(Box::pin(fill.run())).await
    }

    /// Settings, grants, limit and labels.
    async fn settle(&mut self, name: &str, owner: Option<&str>) -> Result<()> {
        let plan = self.plan;
        let present = plan.facts.database.as_ref().and_then(|database| database.facts.as_deref());
        let stored = match plan.request.source.private_facts().await {
            Ok(facts) => facts,
            Err(error) => {
                self.warn(format!("the backup's database settings and grants cannot be read: {}", one_line(&error)));
                None
            }
        };
        let facts =
            stored.or_else(|| present.map(|present| present.private.clone())).unwrap_or_else(PrivateFacts::default);
        let meta = plan.request.source.meta.as_deref();
        let mut roles = plan.facts.roles.clone();
        roles.extend(plan.created_roles.iter().cloned());
        let outside = Outside {
            facts: &facts,
            connection_limit: meta
                .map(|meta| meta.database.connection_limit)
                .or(present.map(|facts| facts.connection_limit))
                .unwrap_or(-1),
            owner: Some(owner.unwrap_or(&plan.facts.role.name)),
            roles: &roles,
            grants: !plan.request.no_acl,
        };
        let warnings =
            outside.apply(&mut self.maintenance, name).await.doing("applying the database's settings and grants")?;
        for warning in warnings {
            self.warn(warning);
        }
        Ok(())
    }

    /// Waits for the snapshot, exchanges the names, reports.
    async fn take_over(
        &mut self,
        name: &str,
        oid: u32,
        snapshot: Option<Snapshotting>,
        filled: Filled,
    ) -> Result<RestoreReport> {
        let plan = self.plan;
        let snapshot = match self.await_snapshot(snapshot).await {
            Ok(snapshot) => snapshot,
            Err(Error::Snapshot { source }) => {
                self.warn(format!("the pre-restore snapshot failed: {}; the old database is kept", one_line(&*source)));
                None
            }
            Err(error) => return Err(error),
        };
        if self.restorer.cancel.is_cancelled() {
            return Err(Error::Interrupted);
        }
        let begun = Instant::now();
        self.restorer.observer.notice(&Event::StageStarted { stage: Stage::Swap, subject: plan.database.clone() });
        let present = plan.facts.database.as_ref().zip(plan.kept_as.as_ref());
        let comment = match (
            plan.request.source.meta.as_deref(),
            plan.facts.database.as_ref().and_then(|database| database.facts.as_deref()),
        ) {
            (Some(meta), _) => meta.database.comment.clone(),
            (None, Some(present)) => present.comment.clone(),
            (None, None) => None,
        };
        let exchange = Exchange {
            live: plan.database.clone(),
            present: present.map(|(database, kept_as)| Present { oid: database.oid, kept_as: kept_as.clone() }),
            new: name.to_owned(),
            new_oid: oid,
            comment: Comment::Set(comment),
        };
        let note = self.note(Act::Swap, Some(oid), snapshot.clone());
        self.note = journal::write(self.restorer.journal.as_deref(), &note, &mut self.warnings).await;
        // From here on it is a matter of a moment, and half of it would be worse than all of it.
        let exchanged = exchange.run(&self.connect, &*self.restorer.observer).await;
        // Where it is not known what happened, the next run tells by the note.
        if exchanged.as_ref().is_err_and(|error| !matches!(error, Error::Uncertain { .. })) {
            journal::clear(self.restorer.journal.as_deref(), self.note.as_ref()).await;
        }
        exchanged?;
        self.times.swap += begun.elapsed();
        self.restorer.observer.notice(&Event::StageFinished { stage: Stage::Swap, elapsed: self.times.swap });
        self.report(filled, snapshot, plan.kept_as.clone()).await
    }

    async fn await_snapshot(&self, snapshot: Option<Snapshotting>) -> Result<Option<String>> {
        let Some(mut snapshot) = snapshot else { return Ok(None) };
        let ended = tokio::select! {
            ended = &mut snapshot => ended,
            () = self.restorer.cancel.cancelled() => {
                snapshot.abort();
                return Err(Error::Interrupted);
            }
        };
        match ended {
            Ok(Ok(name)) => Ok(Some(name)),
            Ok(Err(source)) => Err(Error::Snapshot { source }),
            Err(error) => Err(Error::Snapshot { source: error.into() }),
        }
    }

    /// The database is emptied and filled again.
    async fn in_place(&mut self, snapshot: Option<Snapshot>) -> Result<RestoreReport> {
        let plan = self.plan;
        let begun = Instant::now();
        self.restorer.observer.notice(&Event::StageStarted { stage: Stage::Verify, subject: plan.backup.name.clone() });
        in_place::verify(&plan.request.source, plan.request.jobs, &self.restorer.cancel).await?;
        self.times.verify = begun.elapsed();
        self.restorer.observer.notice(&Event::StageFinished { stage: Stage::Verify, elapsed: self.times.verify });
        if plan.wants_snapshot && snapshot.is_none() {
            return Err(Error::Snapshot { source: "there is none, and nothing is emptied without it".into() });
        }
        let standstill = if snapshot.is_some() { self.stand_still().await? } else { None };
        let snapshot = self.await_snapshot(snapshot.map(tokio::spawn)).await?;
        let note = self.note(Act::InPlace, None, snapshot.clone());
        self.note = journal::write(self.restorer.journal.as_deref(), &note, &mut self.warnings).await;
        let mut begun = false;
        match self.fill_again(standstill, &mut begun).await {
            Ok(filled) => self.report(filled, snapshot, None).await,
            Err(source) if begun => {
                Err(Error::HalfDone { database: plan.database.clone(), snapshot, source: Box::new(source) })
            }
            Err(error) => {
                journal::clear(self.restorer.journal.as_deref(), self.note.take().as_ref()).await;
                Err(error)
            }
        }
    }

    /// Keeps writers out until the database is emptied, if that can be done.
    async fn stand_still(&mut self) -> Result<Option<Standstill>> {
        match self.restorer.unless_cancelled(Box::pin(Standstill::begin(&self.connect))).await {
            Ok(standstill) => Ok(Some(standstill)),
            Err(Error::Interrupted) => Err(Error::Interrupted),
            Err(error) => {
                self.warn(format!(
                    "writers could not be kept out during the pre-restore snapshot, so what they write after it was begun is lost: {}",
                    one_line(&error)
                ));
                Ok(None)
            }
        }
    }

    /// From the moment when `begun` is set, the database is not what it was.
    async fn fill_again(&mut self, standstill: Option<Standstill>, begun: &mut bool) -> Result<Filled> {
        let plan = self.plan;
        let extensions =
            self.restorer.unless_cancelled(Box::pin(in_place::empty(&self.connect, standstill, begun))).await?;
        for line in extensions {
            self.warn(line);
        }
        self.fill(&plan.database, &plan.lists.lists).await
    }

    /// Tables are added to the database.
    async fn tables(&mut self) -> Result<RestoreReport> {
        let plan = self.plan;
        let lists = tables::lists_for_existing(plan, &self.connect).await?;
        let filled = self.fill(&plan.database, &lists).await;
        match filled {
            Ok(filled) => self.report(filled, None, None).await,
            Err(error) => {
                let made = std::mem::take(&mut self.made);
                let left = tables::take_back(plan, &self.connect, made).await;
                for line in left {
                    self.warn(line);
                }
                Err(error)
            }
        }
    }

    fn note(&self, act: Act, new_oid: Option<u32>, snapshot: Option<String>) -> Note {
        Note {
            act,
            server: self.connect.server(),
            database: self.plan.database.clone(),
            begun: self.restorer.clock.now(),
            backup: self.plan.backup.name.clone(),
            live_oid: self.plan.facts.database.as_ref().map(|database| database.oid),
            new_oid,
            kept_as: self.plan.kept_as.clone(),
            snapshot,
        }
    }

    /// Drops the half-made database. What cannot be dropped now, the next run drops.
    async fn discard(&mut self, name: &str) {
        let dropped = match database::drop_database(&mut self.maintenance, name).await {
            Ok(()) => Ok(()),
            // The session may have ended with whatever ended the restore.
            Err(_) => match sessions::maintenance(&self.connect, &[&self.plan.database, name]).await {
                Ok(mut connection) => {
                    database::drop_database(&mut connection, name).await.map_err(|error| one_line(&error))
                }
                Err(error) => Err(one_line(&error)),
            },
        };
        if let Err(error) = dropped {
            self.warn(format!(
                "the half-made database {name} could not be dropped: {error}; the next restore drops it"
            ));
        }
    }

    async fn report(
        &mut self,
        filled: Filled,
        snapshot: Option<String>,
        kept_as: Option<String>,
    ) -> Result<RestoreReport> {
        let plan = self.plan;
        if let Err(error) = self.revive().await {
            tracing::debug!(%error, "maintenance session");
        }
        let size = format!("SELECT pg_catalog.pg_database_size({})", quote_literal(&plan.database));
        let restored_bytes = match self.maintenance.query(&size).await {
            Ok(rows) => rows.first().and_then(|row| row.get(0).ok()).unwrap_or(0),
            Err(error) => {
                tracing::debug!(%error, "size of the restored database");
                0
            }
        };
        self.times.total = self.begun.elapsed();
        Ok(RestoreReport {
            backup: plan.backup.clone(),
            server: plan.server.clone(),
            database: plan.database.clone(),
            method: plan.method,
            kept_as,
            snapshot,
            tables: filled.loaded.tables.len() as u64,
            rows: filled.loaded.rows(),
            data_bytes: filled.loaded.bytes(),
            large_objects: filled.loaded.large_objects.map_or(0, |tally| tally.rows),
            restored_bytes,
            times: self.times,
            proof: filled.proof,
            warnings: std::mem::take(&mut self.warnings),
        })
    }
}

fn abort(snapshot: Option<Snapshotting>) {
    if let Some(snapshot) = snapshot {
        snapshot.abort();
    }
}
