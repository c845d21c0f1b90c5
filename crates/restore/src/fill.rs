//! Filling a database: schema, data, the rest, statistics, proof.

use std::time::{Duration, Instant};

use pgkeep_dump::ConnectSettings;
use pgkeep_metrics::{Event, Stage};

use crate::allowance::Allowance;
use crate::lists::Lists;
use crate::load::{Loaded, Loader};
use crate::passes::{PassOptions, PassOutcome, Passes, exists_already};
use crate::planning::choose_pg_restore;
use crate::proof::Prover;
use crate::sessions::{DataSettings, qualified};
use crate::tables::{self, Made, Relation};
use crate::{Error, Method, ProofReport, RestorePlan, Restorer, Result, StageTimes, analyze};

/// One database being filled.
#[derive(Debug)]
pub(crate) struct Fill<'a> {
    pub(crate) restorer: &'a Restorer,
    pub(crate) plan: &'a RestorePlan,
    /// The database that is filled, on the pinned host.
    pub(crate) connect: ConnectSettings,
    pub(crate) lists: &'a Lists,
    /// As many as were asked for, or as the server has sessions for.
    pub(crate) jobs: usize,
    pub(crate) times: &'a mut StageTimes,
    pub(crate) warnings: &'a mut Vec<String>,
    /// What was made of tables that are added.
    pub(crate) made: &'a mut Made,
}

/// What it came to.
#[derive(Debug)]
pub(crate) struct Filled {
    pub(crate) loaded: Loaded,
    pub(crate) proof: ProofReport,
}

impl Fill<'_> {
    /// All of it. Errors leave a half-filled database behind.
    pub(crate) async fn run(mut self) -> Result<Filled> {
        let major = self.plan.facts.version_num / 10_000;
        let tools = choose_pg_restore(&self.restorer.tools, self.plan.toc.lowest_pg_restore(), major)?.clone();
        let connect = self.connect.clone();
        let plan = self.plan;
        let options = PassOptions {
            no_owner: plan.request.no_owner,
            no_acl: plan.request.no_acl,
            no_tablespaces: plan.toc.entries.iter().any(|entry| {
                entry
                    .tablespace
                    .as_ref()
                    .is_some_and(|space| !space.is_empty() && !plan.facts.tablespaces.contains(&space.lossy()))
            }),
            server_major: major,
        };
        let passes =
            Passes::prepare(&tools, &plan.toc, &connect, options, &self.restorer.work, self.restorer.cancel.clone())?;

        let begun = self.begin(Stage::PreData);
        self.before(&passes).await?;
        self.times.pre_data = self.end(Stage::PreData, begun);

        let begun = self.begin(Stage::Data);
        let loaded = self.load().await?;
        self.times.data = self.end(Stage::Data, begun);

        let begun = self.begin(Stage::PostData);
        let outcome = self.after(&passes, &loaded).await?;
        self.weigh(outcome, "after the data")?;
        self.times.post_data = self.end(Stage::PostData, begun);

        let begun = self.begin(Stage::Analyze);
        let only = (plan.method == Method::Tables).then(|| self.tables());
        // Both only read, and neither needs the other: side by side they leave no processor without work.
        let analyzing = async {
            analyze::analyze(&self.connect, self.jobs, only).await?;
            Ok((self.end(Stage::Analyze, begun), self.begin(Stage::Proof)))
        };
        let ((analyze, begun), proof) = tokio::try_join!(analyzing, self.prove(&loaded))?;
        if self.restorer.cancel.is_cancelled() {
            return Err(Error::Interrupted);
        }
        self.times.analyze = analyze;
        self.times.proof = self.end(Stage::Proof, begun);
        self.weigh_proof(&proof)?;
        Ok(Filled { loaded, proof })
    }

    /// The first pass. Into an existing database, what the tables need may be there already.
    async fn before(&mut self, passes: &Passes<'_>) -> Result<()> {
        if self.plan.method != Method::Tables {
            let outcome = passes.run("before.list", &self.lists.before).await?;
            return self.weigh(outcome, "before the data");
        }
        let relations = tables::own(&self.plan.toc, &self.plan.lists);
        let there = tables::existing(&self.connect, &relations).await?;
        if !there.is_empty() {
            return Err(come_into_being(&there, self.connect.database()));
        }
        let needed = &self.plan.lists.needed;
        let (needed, own): (Vec<i32>, Vec<i32>) = self.lists.before.iter().partition(|id| needed.contains(*id));
        let mut outcome = passes.run("needed.list", &needed).await?;
        outcome.failed.retain(|message| !exists_already(message));
        self.weigh(outcome, "before the data")?;
        *self.made = Made::Perhaps(relations.clone());
        let outcome = passes.run("before.list", &own).await?;
        let (made, theirs) = tables::made(&self.connect, &self.plan.toc, &relations, &outcome.statements).await?;
        *self.made = made;
        if !theirs.is_empty() {
            // Not even by force: the rows would go into somebody else's table.
            return Err(come_into_being(&theirs, self.connect.database()));
        }
        if matches!(self.made, Made::Perhaps(_)) {
            return Err(failed(outcome.failed, "before the data"));
        }
        self.weigh(outcome, "before the data")
    }

    /// The second pass.
    async fn after(&self, passes: &Passes<'_>, loaded: &Loaded) -> Result<PassOutcome> {
        if self.lists.after.is_empty() {
            return Ok(PassOutcome::default());
        }
        let allowance = Allowance::of(&self.connect, self.jobs).await?;
        let sizes: Vec<_> = loaded.tables.iter().map(|(dump_id, tally)| (*dump_id, tally.bytes)).collect();
        passes.build(&self.lists.after, self.jobs, allowance, &sizes).await
    }

    async fn load(&self) -> Result<Loaded> {
        let loader = Loader {
            source: &self.plan.request.source,
            toc: &self.plan.toc,
            wanted: &self.lists.data,
            everything: self.plan.request.tables.is_empty(),
            settings: self.data_settings(),
            jobs: self.jobs,
            observer: self.restorer.observer.clone(),
            cancel: self.restorer.cancel.clone(),
        };
        loader.run().await
    }

    async fn prove(&self, loaded: &Loaded) -> Result<ProofReport> {
        let request = &self.plan.request;
        let prover = Prover {
            source: &request.source,
            toc: &self.plan.toc,
            lists: self.lists,
            loaded,
            settings: self.data_settings(),
            jobs: self.jobs,
            tools: &self.restorer.tools,
            server_major: self.plan.facts.version_num / 10_000,
            whole: request.tables.is_empty(),
            owners: !request.no_owner,
            grants: !request.no_acl,
            standstill: true,
            cancel: self.restorer.cancel.clone(),
        };
        Box::pin(prover.run()).await
    }

    fn weigh_proof(&mut self, report: &ProofReport) -> Result<()> {
        let lines: Vec<String> = report.differences.iter().map(ToString::to_string).collect();
        if !lines.is_empty() && !self.plan.request.force {
            return Err(Error::Unproven { differences: lines });
        }
        self.warnings.extend(lines);
        self.warnings.extend(report.renderings.iter().map(|line| format!("not quite as it was: {line}")));
        self.warnings.extend(report.unprovable.iter().map(|line| format!("not proven: {line}")));
        Ok(())
    }

    fn data_settings(&self) -> DataSettings {
        DataSettings {
            connect: self.connect.clone(),
            encoding: self.plan.toc.encoding(),
            lc_monetary: self.plan.request.source.meta.as_ref().map(|meta| meta.database.lc_monetary.clone()),
        }
    }

    /// The wanted tables, for SQL.
    fn tables(&self) -> Vec<Vec<u8>> {
        let entries = self.lists.data.iter().filter_map(|&id| self.plan.toc.entry(id));
        entries
            .filter(|entry| entry.holds_copy_text())
            .map(|entry| qualified(entry.namespace.as_ref(), &entry.tag))
            .collect()
    }

    fn weigh(&mut self, outcome: PassOutcome, stage: &'static str) -> Result<()> {
        let force = self.plan.request.force;
        for line in &outcome.allowed {
            self.restorer.observer.notice(&Event::Detail { message: format!("pg_restore: {line}") });
        }
        self.warnings.extend(outcome.warnings.iter().map(|line| format!("pg_restore: {line}")));
        if !force && !outcome.failed.is_empty() {
            return Err(failed(outcome.failed, stage));
        }
        if !force && !outcome.violations.is_empty() {
            return Err(Error::SourceViolation { constraints: outcome.violations });
        }
        self.warnings.extend(outcome.failed.into_iter().map(|line| format!("not restored: {line}")));
        self.warnings.extend(outcome.violations.into_iter().map(|line| format!("the source already broke it: {line}")));
        Ok(())
    }

    fn begin(&self, stage: Stage) -> Instant {
        let subject = self.connect.database().to_owned();
        self.restorer.observer.notice(&Event::StageStarted { stage, subject });
        Instant::now()
    }

    fn end(&self, stage: Stage, begun: Instant) -> Duration {
        let elapsed = begun.elapsed();
        self.restorer.observer.notice(&Event::StageFinished { stage, elapsed });
        elapsed
    }
}

fn come_into_being(relations: &[Relation], database: &str) -> Error {
    let names: Vec<String> = relations.iter().map(ToString::to_string).collect();
    let verb = if names.len() == 1 { "has" } else { "have" };
    Error::Changed(format!("{} {verb} come into being in database {database}", names.join(", ")))
}

fn failed(errors: Vec<String>, stage: &'static str) -> Error {
    Error::PgRestore { stage, count: errors.len(), errors: errors.into_iter().take(20).collect() }
}
