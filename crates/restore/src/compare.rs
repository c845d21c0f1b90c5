//! Rows of a live database against a backup.
//!
//! A live database is written to, so it need not equal any backup. The server counts what was written to each table;
//! where these counters say that nothing but the backup's own rows ever went in, the content must be the same, and a
//! difference is damage. Of the others nothing is claimed.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use pgkeep_archive::copy_target;
use pgkeep_core::{BackupSource, EntryMeta, Meta, Tally};
use pgkeep_dump::{Connection, Row};
use serde::Serialize;

use crate::error::Doing;
use crate::lists::Lists;
use crate::load::Loaded;
use crate::proof::Prover;
use crate::sessions::DataSettings;
use crate::{Difference, ProofReport, Restorer, Result};

/// How long a session may keep its counters to itself, generously.
const COUNTERS_SETTLE: Duration = Duration::from_secs(2);

/// How [`Restorer::compare`] compares.
#[derive(Debug, Clone)]
pub struct CompareOptions {
    /// The backup to compare with; one without a meta has nothing to be compared with.
    pub source: BackupSource,
    /// Every table of the backup must be as it was, whatever was written since.
    pub exact: bool,
    /// Sessions that read at the same time.
    pub jobs: usize,
}

/// Rows of a database against a backup.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// The backup's name.
    pub backup: String,
    /// Tables that were compared.
    pub tables: u64,
    /// Their rows.
    pub rows: u64,
    /// Tables that were written to since, so that nothing can be said.
    pub written: Vec<String>,
    /// Damage. Empty is good.
    pub differences: Vec<Difference>,
    /// What could not be compared, one line each.
    pub unprovable: Vec<String>,
}

/// What the server counted, by schema and table.
type Counters = HashMap<(String, String), Counted>;

/// What it counted for one table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Counted {
    inserted: u64,
    changed: u64,
    /// Rows are there, as far as it knows; TRUNCATE shows nowhere else.
    alive: bool,
}

impl Counted {
    /// Whether just the rows of a backup were ever inserted.
    fn only(self, rows: u64) -> bool {
        self.inserted == rows && self.changed == 0 && self.alive
    }
}

impl Restorer {
    /// Compares rows and fingerprints of the database of [`Self::settings`] with a backup's, as far as they can be expected to
    /// be equal. Reads only. Damage is a finding, not an error.
    pub async fn compare(&self, options: &CompareOptions) -> Result<Comparison> {
        let Some(meta) = options.source.meta.as_deref() else {
            return Ok(Comparison { backup: options.source.name(), ..Comparison::default() });
        };
        let mut connection = self.look().await?;
        let compared = Box::pin(self.compare_rows(&mut connection, meta, options));
        let comparison = self.unless_cancelled(compared).await?;
        let _ = connection.close().await;
        Ok(comparison)
    }

    async fn compare_rows(
        &self,
        connection: &mut Connection,
        meta: &Meta,
        options: &CompareOptions,
    ) -> Result<Comparison> {
        let source = &options.source;
        let mut comparison = Comparison { backup: source.name(), ..Comparison::default() };
        let before = counters(connection).await.doing("reading the tables' counters")?;
        let toc = source.toc().await?;
        let mut tables = Vec::new();
        for entry in &meta.entries {
            let name = format!("{}.{}", entry.schema, entry.name);
            let routed = toc.entry(entry.dump_id).is_some_and(|found| {
                copy_target(found)
                    .is_some_and(|(schema, table)| found.namespace.as_ref() != Some(&schema) || found.tag != table)
            });
            match before.get(&key(entry)) {
                None if options.exact => comparison.differences.push(Difference {
                    subject: format!("table {name}"),
                    problem: format!("{} rows were there, the table is gone", entry.rows),
                }),
                Some(_) if routed => comparison.unprovable.push(format!(
                    "table {name}: its rows are routed to partitions, and only a restore compares those"
                )),
                Some(counted) if options.exact || counted.only(entry.rows) => {
                    tables.push((entry.dump_id, tally(entry)));
                }
                None => comparison.unprovable.push(format!("table {name}: it is gone since")),
                // An empty table has nothing to lose.
                Some(_) if entry.rows == 0 => {}
                _ => comparison.written.push(name),
            }
        }
        let version = connection.server_version();
        let lists = Lists::everything(&toc.entries);
        let loaded = Loaded { key: meta.fingerprint_key, tables, large_objects: None };
        let prover = Prover {
            source,
            toc: &toc,
            lists: &lists,
            loaded: &loaded,
            settings: DataSettings {
                connect: self.settings.clone(),
                encoding: toc.encoding(),
                lc_monetary: Some(meta.database.lc_monetary.clone()),
            },
            jobs: options.jobs.max(1),
            tools: &self.tools,
            server_major: version / 10_000,
            whole: false,
            owners: false,
            grants: false,
            standstill: false,
            cancel: self.cancel.clone(),
        };
        let mut report = ProofReport::default();
        prover.rows(&mut report).await?;
        comparison.tables = report.tables;
        comparison.rows = report.rows;
        comparison.unprovable.extend(report.unprovable);
        if options.exact || report.differences.is_empty() {
            comparison.differences.extend(report.differences);
            return Ok(comparison);
        }
        // Somebody may have written while we read: once the counters have settled, they tell.
        tokio::time::sleep(COUNTERS_SETTLE).await;
        connection.execute("SELECT pg_catalog.pg_stat_clear_snapshot()").await.doing("reading the tables' counters")?;
        let after = counters(connection).await.doing("reading the tables' counters")?;
        let changed: BTreeSet<String> = before
            .iter()
            .filter(|(table, counted)| after.get(*table) != Some(*counted))
            .map(|((schema, name), _)| format!("{schema}.{name}"))
            .collect();
        for difference in report.differences {
            let name = difference.subject.trim_start_matches("table ").to_owned();
            if changed.contains(&name) {
                comparison.written.push(name);
            } else {
                comparison.differences.push(difference);
            }
        }
        Ok(comparison)
    }
}

fn key(entry: &EntryMeta) -> (String, String) {
    (entry.schema.clone(), entry.name.clone())
}

fn tally(entry: &EntryMeta) -> Tally {
    let sum = u128::from_str_radix(&entry.fingerprint, 16).unwrap_or_default();
    Tally { rows: entry.rows, bytes: entry.bytes, sum }
}

async fn counters(connection: &mut Connection) -> Result<Counters, pgkeep_dump::Error> {
    let rows = connection
        .query(
            "SELECT schemaname, relname, n_tup_ins, n_tup_upd + n_tup_del, n_live_tup > 0 \
             FROM pg_catalog.pg_stat_all_tables",
        )
        .await?;
    let text = |row: &Row, column: usize| row.text(column).unwrap_or_default();
    let counted = |row: &Row| {
        let counted = Counted { inserted: row.get(2)?, changed: row.get(3)?, alive: row.is_true(4) };
        Ok(((text(row, 0), text(row, 1)), counted))
    };
    rows.iter().map(counted).collect()
}
