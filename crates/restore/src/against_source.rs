//! A backup against the database it was made of, on one new snapshot.
//!
//! The database has gone on since, so most of what differs says nothing against the backup. But every row tells which
//! transaction wrote it, and the backup says which transactions its own snapshot saw: whatever is as old must be in it,
//! and is counted apart. A table that only grew since is proven so, and a range that was never dumped is found
//! even where everybody writes.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pgkeep_archive::Toc;
use pgkeep_core::{BackupSource, Meta};
use pgkeep_dump::{
    ClientTools, Connection, Selection, ServerFacts, SessionSettings, SnapshotFacts, dumpable_relations, schema_toc,
    server_timeline,
};
use pgkeep_metrics::{Event, Stage};

use crate::ages::{Age, AgedRows, Ages};
use crate::columns::canonical;
use crate::error::Doing;
use crate::proof::types;
use crate::reread::{Tell, Unit, reread};
use crate::schema_proof::{self, Rules};
use crate::sessions::{DataSettings, room};
use crate::source_objects::objects;
use crate::source_report::{LargeObjectsComparison, SourceComparison, SourceState, judge_objects};
use crate::source_tables::{self, SourceTables, routed_trees};
use crate::{Difference, Error, Restorer, Result, source_sequences};

/// How [`Restorer::against_source`] compares.
#[derive(Debug, Clone)]
pub struct SourceOptions {
    /// The backup, opened if it is encrypted; it needs a meta.
    pub source: BackupSource,
    /// Sessions that read at the same time.
    pub jobs: usize,
    /// This machine: what a backup of another one calls `localhost` is another server.
    pub host: String,
}

/// The session whose snapshot everybody compares on.
#[derive(Debug)]
struct Leader {
    connection: Connection,
    /// The name under which others take it.
    snapshot: String,
    sees: SnapshotFacts,
    facts: ServerFacts,
}

impl Restorer {
    /// Compares a backup with the database of [`Self::settings`], which must be the one it was made of, as it is now.
    /// Reads only. Damage is a finding, not an error.
    pub async fn against_source(&self, options: &SourceOptions) -> Result<SourceComparison> {
        let Some(meta) = options.source.meta.clone() else {
            let why = format!("{} has no meta: nobody knows what it was made of", options.source.name());
            return Err(Error::Usage(why));
        };
        let work = Box::pin(async move {
            let toc = options.source.toc().await?;
            Comparing { restorer: self, meta: &meta, toc: &toc, options }.run().await
        });
        self.unless_cancelled(work).await
    }
}

/// One comparison.
#[derive(Debug)]
struct Comparing<'c> {
    restorer: &'c Restorer,
    meta: &'c Meta,
    toc: &'c Toc,
    options: &'c SourceOptions,
}

impl Comparing<'_> {
    async fn run(&self) -> Result<SourceComparison> {
        let mut leader = self.lead().await?;
        self.refuse_others(&leader.facts)?;
        let (ages, ages_unknown) = match self.ages(&leader) {
            Ok(ages) => (Some(ages), None),
            Err(why) => (None, Some(why)),
        };
        let still = ages.is_some() && self.is_still(&leader);
        let mut comparison = SourceComparison {
            backup: self.options.source.name(),
            database: leader.facts.identity.database.clone(),
            server: leader.facts.identity.server.clone(),
            at: leader.facts.server_time,
            still,
            ages_unknown,
            tables: Vec::new(),
            large_objects: None,
            sequences: 0,
            schema_items: 0,
            damage: Vec::new(),
            changes: Vec::new(),
            unprovable: Vec::new(),
        };
        let room = room(&mut leader.connection).await.doing("asking the server for room for sessions")?;
        let jobs = self.options.jobs.min(room).max(1);
        let settings = DataSettings {
            connect: leader.connection.resolved().clone(),
            encoding: self.toc.encoding(),
            lc_monetary: Some(self.meta.database.lc_monetary.clone()),
            snapshot: Some(leader.snapshot.clone()),
        };
        let found =
            source_tables::find(&mut leader.connection, self.toc, self.meta, ages.as_ref(), &mut comparison).await?;
        self.missing(&mut leader.connection, &found, ages.as_ref(), &mut comparison).await?;
        self.rows(&settings, jobs, &found, &mut comparison).await?;
        self.large_objects(&settings, jobs, ages.as_ref(), &mut comparison).await?;
        let now = DataSettings { snapshot: None, ..settings };
        source_sequences::compare(&now, self.toc, &mut comparison).await?;
        self.schema(&now, &leader.facts, &mut comparison).await?;
        // The snapshot was there all the time.
        leader.connection.execute("COMMIT").await.doing("ending the comparison")?;
        let _ = leader.connection.close().await;
        comparison.tables.sort_by(|one, other| one.table.cmp(&other.table));
        for list in [&mut comparison.damage, &mut comparison.changes] {
            list.sort_by(|one, other| one.subject.cmp(&other.subject));
        }
        Ok(comparison)
    }

    /// Opens the session that holds the snapshot.
    async fn lead(&self) -> Result<Leader> {
        let doing = "taking a snapshot of the source";
        let mut connection = Connection::connect(&self.restorer.settings, SessionSettings::Dump)
            .await
            .doing(format!("connecting to database {}", self.restorer.settings.database()))?;
        connection.refuse_pooler().await.doing(doing)?;
        let facts = ServerFacts::read(&mut connection).await.doing(doing)?;
        let timeline = server_timeline(&mut connection).await.doing(doing)?;
        if let Some(encoding) = self.toc.encoding() {
            connection.set_client_encoding(&encoding).await.doing(doing)?;
        }
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await.doing(doing)?;
        let row = connection.query_one("SELECT pg_catalog.pg_export_snapshot()").await.doing(doing)?;
        let snapshot = row.text(0).unwrap_or_default();
        let sees = SnapshotFacts::read(&mut connection, timeline).await.doing(doing)?;
        Ok(Leader { connection, snapshot, sees, facts })
    }

    /// Another database differs in everything, which says nothing.
    fn refuse_others(&self, facts: &ServerFacts) -> Result<()> {
        let (was, is) = (&self.meta.database, &facts.identity);
        let clusters = (&was.system_identifier, &is.system_identifier);
        if was.name == is.database && !matches!(clusters, (Some(was), Some(is)) if was != is) {
            return Ok(());
        }
        let of = |database: &str, server: &str, identifier: &Option<String>| {
            format!("{database} on {server} (cluster {})", identifier.as_deref().unwrap_or("unknown"))
        };
        Err(Error::AnotherSource {
            backup: self.options.source.name(),
            was: of(&was.name, &was.server, &was.system_identifier),
            is: of(&is.database, &is.server, &is.system_identifier),
        })
    }

    /// What tells the rows that must be in the backup, or why nothing does.
    fn ages(&self, leader: &Leader) -> Result<Ages, String> {
        let (was, is) = (&self.meta.database, &leader.facts.identity);
        let text = |why: &str| Err(why.to_owned());
        let Some(snapshot) = &self.meta.snapshot else {
            return text(
                "the backup does not say which transactions it holds: an earlier version or another program made it",
            );
        };
        if was.system_identifier.is_none() || is.system_identifier.is_none() {
            return text("the role may not ask the server which one it is");
        }
        let local = |server: &str| {
            server.starts_with(['/', '@']) || server.starts_with("localhost:") || server.starts_with("127.")
        };
        if was.server != is.server || (local(&is.server) && self.meta.hostname != self.options.host) {
            return Err(format!(
                "the backup was made of the server {} as {} calls it, and this is {}: it may be a copy that has gone its own way",
                was.server, self.meta.hostname, is.server
            ));
        }
        match (snapshot.timeline, leader.sees.timeline) {
            (Some(then), Some(now)) if then == now => {}
            (Some(_), Some(_)) => {
                return text("the server has had a failover since, after which transactions are numbered anew");
            }
            _ => return text("the role may not ask which timeline the server is on"),
        }
        let (Some(then), Some(now)) = (snapshot.parse(), leader.sees.parse()) else {
            return text("the snapshot's transactions can't be understood");
        };
        Ages::new(then, &now)
            .ok_or_else(|| "the server has been set back, or four billion transactions have passed".to_owned())
    }

    fn is_still(&self, leader: &Leader) -> bool {
        let then = self.meta.snapshot.as_ref().and_then(SnapshotFacts::parse);
        then.is_some_and(|then| then.is_exact() && leader.sees.parse().as_ref() == Some(&then))
    }

    /// Tables and sequences that the backup should hold and does not.
    async fn missing(
        &self,
        leader: &mut Connection,
        found: &SourceTables,
        ages: Option<&Ages>,
        comparison: &mut SourceComparison,
    ) -> Result<()> {
        let selection = Selection { arguments: self.meta.selection.clone() };
        let dumpable = dumpable_relations(leader, &selection).await.doing("asking what the backup should hold")?;
        let Some(dumpable) = dumpable else {
            let options = self.meta.selection.join(" ");
            comparison
                .unprovable
                .push(format!("whether a table is missing in the backup, for it was made with {options}"));
            return Ok(());
        };
        for relation in dumpable {
            let created = self
                .toc
                .entries
                .iter()
                .any(|entry| entry.oid == relation.oid && matches!(entry.desc.as_str(), "TABLE" | "SEQUENCE"));
            let restated = |desc: &str| {
                self.toc.entries.iter().any(|entry| {
                    entry.desc == desc
                        && entry.tag.as_ref() == relation.name
                        && entry.namespace.as_ref().is_some_and(|schema| schema.as_ref() == relation.schema)
                })
            };
            let held = if relation.is_sequence {
                created || restated("SEQUENCE SET")
            } else {
                found.held.contains(&relation.oid)
            };
            if held {
                continue;
            }
            let kind = if relation.is_sequence { "sequence" } else { "table" };
            let (schema, name) = (String::from_utf8_lossy(&relation.schema), String::from_utf8_lossy(&relation.name));
            let subject = format!("{kind} {schema}.{name}");
            match ages.map(|ages| ages.of(relation.created_by)) {
                Some(Age::Old) if relation.is_plain => {
                    let problem = "was there when the backup was made, and is not in it".to_owned();
                    comparison.damage.push(Difference { subject, problem });
                }
                Some(Age::New) => {
                    let problem = "is newer than the backup".to_owned();
                    comparison.changes.push(Difference { subject, problem });
                }
                _ => comparison.changes.push(Difference { subject, problem: "is not in the backup".to_owned() }),
            }
        }
        Ok(())
    }

    async fn rows(
        &self,
        settings: &DataSettings,
        jobs: usize,
        found: &SourceTables,
        comparison: &mut SourceComparison,
    ) -> Result<()> {
        let units: Vec<Unit> = found.tables.iter().map(|table| table.unit.clone()).collect();
        let tell = self.progress(units.iter().map(|unit| unit.expected.bytes).sum());
        let read = reread::<AgedRows>(settings, jobs, self.meta.fingerprint_key, &units, &tell).await?;
        let trees = routed_trees(&found.tables, &read);
        for (table, read) in found.tables.iter().zip(&read) {
            let aged = match read {
                Ok(aged) => aged,
                Err(unread) => {
                    comparison.unprovable.push(table.unread(unread));
                    continue;
                }
            };
            let canonical =
                if table.may_hang_on_types(aged) { self.is_canonical(settings, table).await? } else { true };
            let (mut told, difference) = table.judge(aged, comparison.still, canonical);
            if told.state != SourceState::Same && table.is_in(&trees) {
                told.state = SourceState::Same;
            } else {
                comparison.damage.extend(difference);
            }
            comparison.tables.push(told);
        }
        Ok(())
    }

    /// Whether the text of all columns says all there is.
    async fn is_canonical(&self, settings: &DataSettings, table: &source_tables::SourceTable) -> Result<bool> {
        let mut connection = settings.proof().await?;
        let types = types(&mut connection, &table.qualified).await.doing("reading the types of columns")?;
        let _ = connection.close().await;
        let names = crate::columns::column_names(&table.columns);
        Ok(names
            .iter()
            .all(|name| types.get(name).is_some_and(|(type_name, is_enum)| canonical(type_name, *is_enum, false))))
    }

    async fn large_objects(
        &self,
        settings: &DataSettings,
        jobs: usize,
        ages: Option<&Ages>,
        comparison: &mut SourceComparison,
    ) -> Result<()> {
        let expected = &self.meta.large_objects;
        let selection = Selection { arguments: self.meta.selection.clone() };
        if expected.count == 0 && !selection.takes_large_objects() {
            return Ok(());
        }
        let found = match objects(settings, jobs, self.meta.fingerprint_key, ages).await {
            Ok(found) => found,
            Err(Error::Database { source, .. }) if source.server_error().is_some_and(|error| !error.is_fatal()) => {
                comparison.unprovable.push(format!("large objects cannot be read: {source}"));
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let tally = pgkeep_core::Tally {
            rows: expected.count,
            bytes: expected.bytes,
            sum: u128::from_str_radix(&expected.fingerprint, 16).unwrap_or_default(),
        };
        let (state, problem) = judge_objects(tally, &found, ages.is_some(), comparison.still);
        let subject = "large objects".to_owned();
        comparison.damage.extend(problem.map(|problem| Difference { subject, problem }));
        comparison.large_objects =
            Some(LargeObjectsComparison { state, backup_objects: expected.count, source_objects: found.all.rows });
        Ok(())
    }

    async fn schema(
        &self,
        settings: &DataSettings,
        facts: &ServerFacts,
        comparison: &mut SourceComparison,
    ) -> Result<()> {
        let writer: Option<u32> =
            self.toc.dump_version.split(|c: char| !c.is_ascii_digit()).next().and_then(|major| major.parse().ok());
        let tools =
            self.restorer.tools.iter().find(|tools| Some(tools.major) == writer && tools.major >= facts.major());
        let Some(tools) = tools else {
            let installed: Vec<&ClientTools> = self.restorer.tools.iter().collect();
            let installed: Vec<&str> = installed.iter().map(|tools| tools.version.as_str()).collect();
            comparison.unprovable.push(format!(
                "the schema was not compared: pg_dump {} wrote the backup, and installed is {}",
                self.toc.dump_version,
                if installed.is_empty() { "none".to_owned() } else { installed.join(", ") }
            ));
            return Ok(());
        };
        let selection = Selection { arguments: self.meta.selection.clone() };
        let now = match schema_toc(&settings.connect, tools, &selection, self.restorer.cancel.clone()).await {
            Ok(toc) => toc,
            Err(pgkeep_dump::Error::Child(error)) => {
                comparison.unprovable.push(format!("the schema was not compared: {error}"));
                return Ok(());
            }
            Err(error) => return Err(error).doing("reading the source's schema"),
        };
        let rules = Rules { same_writer: true, owners: true, grants: true, whole: true, place: "the source now" };
        let findings = schema_proof::compare(self.toc, &now, rules);
        comparison.schema_items = findings.items;
        // What was said of relations and large objects themselves is not said again.
        let said: HashSet<String> =
            comparison.damage.iter().chain(&comparison.changes).map(|said| said.subject.to_uppercase()).collect();
        let news = findings.differences.into_iter().chain(findings.renderings);
        let news = news.filter(|found| {
            !["BLOB", "TABLE DATA "].iter().any(|kind| found.subject.starts_with(kind))
                && !said.contains(&found.subject.to_uppercase())
        });
        comparison.changes.extend(news);
        Ok(())
    }

    /// Tells how far it is.
    fn progress(&self, total: u64) -> Tell {
        let (observer, done) = (Arc::clone(&self.restorer.observer), AtomicU64::new(0));
        Arc::new(move |bytes| {
            let plain_bytes = done.fetch_add(bytes, Ordering::Relaxed) + bytes;
            let total_bytes = Some(total);
            observer.notice(&Event::Progress {
                stage: Stage::Verify,
                plain_bytes,
                total_bytes,
                items: 0,
                total_items: None,
            });
        })
    }
}
