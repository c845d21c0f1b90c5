//! One run of a backup, step by step.

use std::sync::Arc;
use std::time::Instant;

use pgkeep_dump::{Dump, ServerFacts};
use pgkeep_metrics::{Event, Stage};
use pgkeep_storage::{StorageExt, WriteOptions};

use crate::draft::{Draft, Name};
use crate::inventory::human_bytes;
use crate::lanes::Target;
use crate::stop::Stop;
use crate::{
    BackupOptions, BackupPlan, BackupReport, Catalog, CatalogEntry, Copy, Destination, DestinationReport, Error,
    ErrorKind, Keeper, Lock, LockOptions, Meta, PruneOptions, PruneReport, ReplicateReport, Result,
};

/// Most blocks that are compressed at once.
const MOST_JOBS: usize = 256;
/// Free space a destination needs, in tenths of the last backup's size.
const FREE_TENTHS: u64 = 12;

/// One run of a backup.
#[derive(Debug)]
pub(crate) struct Run<'r> {
    /// The caller's keeper, without destinations that could not even be locked.
    pub(crate) keeper: Keeper,
    pub(crate) engine: &'r dyn Dump,
    pub(crate) options: &'r BackupOptions,
    pub(crate) stop: Stop,
    pub(crate) warnings: Vec<String>,
    /// Destinations that were set aside, and why.
    pub(crate) failed: Vec<(Destination, Error)>,
}

impl<'r> Run<'r> {
    pub(crate) fn new(keeper: &Keeper, engine: &'r dyn Dump, options: &'r BackupOptions) -> Result<Self> {
        if !(1..=MOST_JOBS).contains(&options.jobs) {
            return Err(Error::Usage(format!("{} jobs are not possible: 1 to {MOST_JOBS} are", options.jobs)));
        }
        if keeper.destinations.is_empty() {
            return Err(Error::Usage("there is no destination to back up to".to_owned()));
        }
        Ok(Self {
            keeper: keeper.clone(),
            engine,
            options,
            stop: Stop::new(&keeper.cancel, options.timeout),
            warnings: Vec::new(),
            failed: Vec::new(),
        })
    }

    /// What the run would do.
    pub(crate) async fn plan(mut self) -> Result<BackupPlan> {
        let facts = self.connect().await?;
        let stop = self.stop.clone();
        let catalog = stop.until(Catalog::load(&self.keeper)).await?;
        let name = stop.until(self.name(&catalog)).await?;
        let targets = stop.until(self.targets(&name, &facts, &catalog)).await?;
        let recorded = catalog.source.as_ref().map(|source| source.name.as_str());
        let source = self.options.source_name.as_deref().or(recorded).unwrap_or(&facts.identity.database);
        let draft = Draft { keeper: &self.keeper, engine: self.engine, options: self.options, facts: &facts, source };
        let with_it = with(&catalog, draft.meta(&name), &targets);
        let retention = self.options.policy.as_ref().map(|policy| self.keeper.plan_prune(&with_it, policy));
        let sweep = match &self.options.policy {
            Some(_) => stop.until(async { Ok(self.keeper.plan_sweep(&catalog).await) }).await?,
            None => Vec::new(),
        };
        Ok(BackupPlan {
            id: name.id,
            file: name.file,
            database_bytes: facts.size_bytes,
            destinations: targets
                .iter()
                .map(|target| (target.destination.name.clone(), target.destination.storage.location().to_string()))
                .collect(),
            retention: retention.unwrap_or_default(),
            sweep,
            warnings: self.warnings,
        })
    }

    /// The server's facts.
    pub(crate) async fn connect(&mut self) -> Result<ServerFacts> {
        let facts = self.stage(Stage::Connect, "the server", async { Ok(self.engine.facts().await?) }).await?;
        self.info(&format!(
            "connected to PostgreSQL {} at {}: database {}, {}",
            facts.version,
            facts.identity.server,
            facts.identity.database,
            human_bytes(facts.size_bytes)
        ));
        for warning in &facts.warnings {
            self.warn(warning);
        }
        Ok(facts)
    }

    /// The lock. A destination where it can't be had because the store fails is set aside while there is another:
    /// a copy in one place is better than none, and ids are unique without a lock (law 5).
    pub(crate) async fn lock(&mut self) -> Result<Lock> {
        let wait = self.options.timeout.map_or(self.options.lock.wait, |limit| limit.min(self.options.lock.wait));
        let options = LockOptions { wait, ..self.options.lock.clone() };
        loop {
            // Not dropped half way: acquiring hears the cancellation itself, and gives back what it has.
            let source = self.options.source_name.as_deref().unwrap_or("the source").to_owned();
            let began = self.started(Stage::Lock, &source);
            let error = match Lock::acquire(&self.keeper, &options).await {
                Ok(lock) => {
                    self.finished(Stage::Lock, began);
                    return Ok(lock);
                }
                Err(error) => error,
            };
            let place = match &error {
                Error::Storage { location, .. } if error.kind() == ErrorKind::Store => {
                    let at = |destination: &Destination| destination.storage.location().as_str() == location;
                    self.keeper.destinations.iter().position(at)
                }
                _ => None,
            };
            match place {
                Some(place) if self.keeper.destinations.len() > 1 => {
                    let destination = self.keeper.destinations.remove(place);
                    self.fail(destination, error);
                }
                _ => return Err(error),
            }
        }
    }

    /// Everything that happens under the lock.
    pub(crate) async fn locked(&mut self, facts: ServerFacts, lock: &Lock) -> Result<BackupReport> {
        let options = self.options;
        let claim = self.keeper.claim_source(&facts.identity, options.source_name.as_deref(), options.take_over);
        let source = self.stop.until(claim).await?;
        let catalog = self.stop.until(Catalog::load(&self.keeper)).await?;
        let replicated = self.replicate(&catalog).await?;
        let name = self.stop.until(self.name(&catalog)).await?;
        let stop = self.stop.clone();
        let targets = stop.until(self.targets(&name, &facts, &catalog)).await?;

        let begun = Instant::now();
        let made = self.dump(&name, &facts, targets, &catalog).await?;
        let keeper = self.keeper.clone();
        let draft = Draft { keeper: &keeper, engine: self.engine, options, facts: &facts, source: &source.name };
        let meta = draft.finish(&name, &made.archive);
        let (meta, published) = self.publish(meta, made, lock, begun).await?;
        let elapsed = begun.elapsed();

        let destinations = self.reports(&name, &published);
        let copies: Vec<String> = published.iter().map(|target| target.destination.name.clone()).collect();
        let required = self.failed.iter().position(|(destination, _)| destination.required);
        let nowhere = (copies.is_empty() && !self.failed.is_empty()).then_some(0);
        if let Some(missed) = required.or(nowhere) {
            let (destination, source) = self.failed.swap_remove(missed);
            return Err(Error::Destination { destination: destination.name, copies, source: Box::new(source) });
        }
        self.info(&format!("backup {} is complete", name.id));
        let pruned = self.prune(lock).await;
        Ok(BackupReport { meta: Arc::new(meta), destinations, elapsed, replicated, pruned, warnings: Vec::new() })
    }

    /// Missing copies of earlier backups made good; what fails there is no reason not to make a new one.
    async fn replicate(&mut self, catalog: &Catalog) -> Result<ReplicateReport> {
        let work =
            self.keeper.replicate_missing(catalog, self.options.policy.as_ref(), self.options.encryption.is_some());
        match self.stop.until(work).await {
            Ok(report) => {
                for warning in &report.warnings {
                    self.warn(warning);
                }
                Ok(report)
            }
            Err(error @ (Error::Interrupted | Error::Timeout { .. })) => Err(error),
            Err(error) => {
                self.warn(&format!("missing copies could not be made good: {}", chain(&error)));
                Ok(ReplicateReport::default())
            }
        }
    }

    /// The next free name.
    async fn name(&self, catalog: &Catalog) -> Result<Name> {
        let begun = self.keeper.clock.now();
        for attempt in 1.. {
            let name = Name::new(self.options, begun, attempt);
            let known = catalog.entries.iter().any(|entry| entry.meta.id == name.id);
            if !known && !self.taken(&name).await? {
                return Ok(name);
            }
        }
        Err(Error::Task("every name is taken".to_owned()))
    }

    /// Whether an object of that name lies anywhere. Where it can't be found out, writing will fail too.
    async fn taken(&self, name: &Name) -> Result<bool> {
        for destination in &self.keeper.destinations {
            let key = destination.key(&name.id, &name.file)?;
            if destination.storage.exists(&key).await.unwrap_or(false) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Where the archive is written to: every destination that has room for it.
    async fn targets(&mut self, name: &Name, facts: &ServerFacts, catalog: &Catalog) -> Result<Vec<Target>> {
        let last = catalog.own().next().map(|entry| entry.meta.stored.bytes);
        let mut targets = Vec::new();
        let mut skipped = Vec::new();
        for (index, destination) in self.keeper.destinations.clone().into_iter().enumerate() {
            let free = destination.storage.free_bytes().await.unwrap_or_default();
            let full = matches!((free, last), (Some(free), Some(last)) if u128::from(free) * 10 < u128::from(last) * u128::from(FREE_TENTHS));
            let target = Target {
                index,
                key: destination.key(&name.id, &name.file)?,
                options: WriteOptions {
                    storage_class: destination.storage_classes.get(&self.options.class).cloned(),
                    expected_bytes: self.most_bytes(facts),
                },
                destination,
            };
            match (full, target.destination.required) {
                (false, _) => targets.push(target),
                (true, true) => {
                    let (name, free) = (&target.destination.name, human_bytes(free.unwrap_or_default()));
                    self.warn(&format!(
                        "{name} has only {free} left, the last backup had {}",
                        human_bytes(last.unwrap_or_default())
                    ));
                    targets.push(target);
                }
                (true, false) => skipped.push((target, free.unwrap_or_default())),
            }
        }
        // The only place there is gets its chance.
        let spare = targets.is_empty();
        for (target, free) in skipped {
            let (name, last) = (&target.destination.name, human_bytes(last.unwrap_or_default()));
            if spare {
                self.warn(&format!("{name} has only {} left, the last backup had {last}", human_bytes(free)));
                targets.push(target);
            } else {
                self.warn(&format!(
                    "no copy goes to {name}: only {} left, the last backup had {last}",
                    human_bytes(free)
                ));
            }
        }
        Ok(targets)
    }

    /// About the most bytes the archive can have. Text is at most twice as long as what it is made of where that is
    /// binary, and compression takes that back at least.
    fn most_bytes(&self, facts: &ServerFacts) -> u64 {
        let factor = if self.options.codec.extension().is_empty() { 2 } else { 1 };
        facts.size_bytes.saturating_add(facts.size_bytes / 8).saturating_mul(factor)
    }

    /// Retention, after a success only (law 6). Its failure is a warning.
    async fn prune(&mut self, lock: &Lock) -> Option<PruneReport> {
        let policy = self.options.policy.clone()?;
        let work = async {
            lock.check()?;
            self.keeper.prune(&PruneOptions { policy, lock: None }).await
        };
        match self.stage(Stage::Prune, "old backups", work).await {
            Ok(report) => {
                for warning in &report.warnings {
                    self.warn(warning);
                }
                Some(report)
            }
            Err(error) => {
                self.warn(&format!("old backups were not removed: {}", chain(&error)));
                None
            }
        }
    }

    /// Every destination, and what became of it.
    fn reports(&self, name: &Name, published: &[Target]) -> Vec<DestinationReport> {
        let report = |destination: &Destination, stored: bool, error: Option<String>| DestinationReport {
            name: destination.name.clone(),
            location: destination.storage.location().to_string(),
            required: destination.required,
            stored,
            error,
            key: destination.key(&name.id, &name.file).map(|key| key.to_string()).unwrap_or_default(),
        };
        let stored = published.iter().map(|target| report(&target.destination, true, None));
        let failed = self.failed.iter().map(|(destination, error)| report(destination, false, Some(chain(error))));
        let mut reports: Vec<_> = stored.chain(failed).collect();
        for destination in &self.keeper.destinations {
            if !reports.iter().any(|report| report.name == destination.name) {
                reports.push(report(destination, false, Some("too little space is left".to_owned())));
            }
        }
        reports
    }

    /// Sets a destination aside.
    pub(crate) fn fail(&mut self, destination: Destination, error: Error) {
        self.warn(&format!("no copy at {}: {}", destination.name, chain(&error)));
        self.failed.push((destination, error));
    }

    pub(crate) fn warn(&mut self, message: &str) {
        self.keeper.observer.notice(&Event::Warning { message: message.to_owned() });
        self.warnings.push(message.to_owned());
    }

    pub(crate) fn info(&self, message: &str) {
        self.keeper.observer.notice(&Event::Info { message: message.to_owned() });
    }

    /// Tells that a stage begins.
    pub(crate) fn started(&self, stage: Stage, subject: &str) -> Instant {
        self.keeper.observer.notice(&Event::StageStarted { stage, subject: subject.to_owned() });
        Instant::now()
    }

    /// Tells that it has ended well.
    pub(crate) fn finished(&self, stage: Stage, began: Instant) {
        self.keeper.observer.notice(&Event::StageFinished { stage, elapsed: began.elapsed() });
    }

    /// A stage that is dropped where it stands when the run has to end.
    async fn stage<T>(&self, stage: Stage, subject: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
        let began = self.started(stage, subject);
        let done = self.stop.until(work).await?;
        self.finished(stage, began);
        Ok(done)
    }
}

/// The catalog as it would be with one more backup.
fn with(catalog: &Catalog, meta: Meta, targets: &[Target]) -> Catalog {
    let copies = targets
        .iter()
        .map(|target| Copy {
            destination: target.index,
            name: target.destination.name.clone(),
            key: target.key.clone(),
            stored_bytes: Some(meta.stored.bytes),
            storage_class: None,
        })
        .collect();
    let mut catalog = catalog.clone();
    catalog.entries.insert(0, CatalogEntry { meta: Arc::new(meta), copies, proofs: Vec::new(), own: true });
    catalog
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line.push_str(": ");
        line.push_str(&error.to_string());
        cause = error.source();
    }
    line
}
