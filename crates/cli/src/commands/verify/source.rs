//! `--against-source`: a backup against the database it was made of.

use std::time::Instant;

use chrono::{DateTime, Utc};
use pgkeep_core::{BackupSource, CatalogEntry, Keeper, Proof, ProofKind, ProofOutcome};
use pgkeep_metrics::{Event, Observer, Stage};
use pgkeep_restore::{Restorer, SourceComparison, SourceOptions, SourceState, TableComparison};
use serde_json::{Value, json};

use crate::commands::Context;
use crate::failure::{Failure, Result};
use crate::hint::Code;
use crate::render::{count, elapsed};

/// Lines of one kind that are told one by one.
const TOLD: usize = 20;

/// Compares backups with one database.
#[derive(Debug)]
pub(super) struct Source<'c> {
    context: &'c Context,
    restorer: Restorer,
}

/// What came of one.
#[derive(Debug)]
pub(super) struct Compared {
    /// The row of the table on stdout.
    pub(super) row: [String; 5],
    /// For programs.
    pub(super) report: Value,
    /// What the backup lacks.
    pub(super) failure: Option<Failure>,
}

impl<'c> Source<'c> {
    /// For the database of the settings.
    pub(super) async fn new(context: &'c Context) -> Result<Self> {
        let restorer = context.restorer(context.connect_settings()?, None).await?;
        Ok(Self { context, restorer })
    }

    /// Compares one backup, stores what is proven, and tells.
    pub(super) async fn compare(&self, keeper: &Keeper, entry: &CatalogEntry) -> Result<Compared> {
        let (at, began) = (keeper.clock.now(), Instant::now());
        let id = entry.meta.id.to_string();
        let subject = format!("{id} against its source");
        self.context.reporter.notice(&Event::StageStarted { stage: Stage::Verify, subject });
        let options = SourceOptions {
            source: BackupSource::nearest(keeper, entry)?,
            jobs: self.context.settings.jobs,
            host: keeper.host.clone(),
        };
        let comparison = Box::pin(self.restorer.against_source(&options)).await?;
        self.context.reporter.notice(&Event::StageFinished { stage: Stage::Verify, elapsed: began.elapsed() });
        self.prove(keeper, entry, &comparison, at, began).await;
        self.tell(&id, &comparison, began);
        let result = result(&comparison);
        let rows: u64 = comparison.tables.iter().map(|table| table.source_rows).sum();
        let mut report = json!(comparison);
        report["result"] = json!(result.to_lowercase());
        let failure = comparison.damage.first().map(|first| {
            let more = match comparison.damage.len() {
                1 => String::new(),
                several => format!(" (and {} more)", several - 1),
            };
            Failure::new(Code::Damaged, format!("{id} is not what its source was: {first}{more}"))
                .hint("make a new backup now, by another engine if it happens again, and keep this one for those who look into it")
        });
        Ok(Compared {
            row: [
                id,
                format!("{} at {}", comparison.database, comparison.server),
                "source".to_owned(),
                result.to_owned(),
                format!("{}, {}", count(comparison.tables.len() as u64, "table"), count(rows, "row")),
            ],
            report,
            failure,
        })
    }

    /// What was found is said of every copy: it is in none of them, or was in the database all of them are of. Where somebody has
    /// written since, nothing is proven and nothing is said.
    async fn prove(
        &self,
        keeper: &Keeper,
        entry: &CatalogEntry,
        comparison: &SourceComparison,
        at: DateTime<Utc>,
        began: Instant,
    ) {
        let outcome = match (comparison.damage.is_empty(), comparison.is_proven()) {
            (false, _) => ProofOutcome::Bad,
            (true, true) => ProofOutcome::Good,
            (true, false) => return,
        };
        for copy in &entry.copies {
            let proof = Proof {
                kind: ProofKind::Source,
                outcome,
                at,
                seconds: began.elapsed().as_secs_f64(),
                hostname: keeper.host.clone(),
                destination: copy.name.clone(),
                findings: comparison.damage.iter().map(ToString::to_string).collect(),
                tool_version: keeper.tool_version.clone(),
            };
            if let Err(error) = keeper.store_proof(entry, &proof).await {
                self.context.reporter.warn(format!("the proof of {} could not be stored: {error}", entry.meta.id));
            }
        }
    }

    fn tell(&self, id: &str, comparison: &SourceComparison, began: Instant) {
        let reporter = &self.context.reporter;
        for finding in &comparison.damage {
            reporter.caution(format!("{id} is not what its source was: {finding}"));
        }
        for line in &comparison.unprovable {
            reporter.warn(format!("{id} against its source: {line}"));
        }
        let changed =
            comparison.tables.iter().filter(|table| !matches!(table.state, SourceState::Same | SourceState::Damaged));
        told(changed.map(changed_table), |line| reporter.info(format!("{id}: {line}")));
        told(comparison.changes.iter().map(ToString::to_string), |line| reporter.info(format!("{id}: {line}")));
        if let Some(why) = &comparison.ages_unknown
            && comparison.tables.iter().any(|table| table.state == SourceState::Differs)
        {
            reporter.info(format!("{id}: which rows are newer than the backup can't be told: {why}"));
        }
        let summary = format!("{id} against {} at {}: {}", comparison.database, comparison.server, summary(comparison));
        if comparison.damage.is_empty() && self.context.globals.strict && !comparison.is_same() {
            reporter.warn(format!("{summary}: the source has gone on"));
        } else {
            reporter.info(format!("{summary} ({})", elapsed(began.elapsed())));
        }
    }
}

/// The first lines, and how many more there are.
fn told(mut lines: impl Iterator<Item = String>, tell: impl Fn(String)) {
    lines.by_ref().take(TOLD).for_each(&tell);
    let more = lines.count();
    if more > 0 {
        tell(format!("and {more} more"));
    }
}

fn changed_table(table: &TableComparison) -> String {
    let name = &table.table;
    match (table.newer_rows, table.gone_rows) {
        (Some(newer), Some(0)) => format!("table {name} has grown: {} newer than the backup", count(newer, "row")),
        (Some(newer), Some(gone)) => format!(
            "table {name} was changed: {} newer than the backup, {gone} of its {} changed or removed since",
            count(newer, "row"),
            count(table.backup_rows, "row")
        ),
        _ => format!(
            "table {name} differs: {} in the backup, {} in the source",
            count(table.backup_rows, "row"),
            table.source_rows
        ),
    }
}

fn summary(comparison: &SourceComparison) -> String {
    let tables = |state| comparison.tables.iter().filter(|table| table.state == state).count() as u64;
    let mut parts = vec![format!("{} the same", count(tables(SourceState::Same), "table"))];
    for (state, word) in [
        (SourceState::Grown, "grown"),
        (SourceState::Changed, "changed"),
        (SourceState::Differs, "other"),
        (SourceState::Damaged, "DAMAGED"),
    ] {
        match tables(state) {
            0 => {}
            number => parts.push(format!("{number} {word}")),
        }
    }
    if let Some(objects) = &comparison.large_objects {
        let word = match objects.state {
            SourceState::Same => "the same",
            SourceState::Grown => "grown",
            SourceState::Changed => "changed",
            SourceState::Differs => "other",
            SourceState::Damaged => "DAMAGED",
        };
        parts.push(format!("{} {word}", count(objects.source_objects, "large object")));
    }
    parts.push(count(comparison.sequences, "sequence"));
    if comparison.still {
        parts.push("nothing was committed since".to_owned());
    }
    parts.join(", ")
}

fn result(comparison: &SourceComparison) -> &'static str {
    if !comparison.damage.is_empty() {
        "DAMAGED"
    } else if comparison.is_same() {
        "same"
    } else if comparison.is_proven() && comparison.has_grown() {
        "grown"
    } else {
        "changed"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_told_in_one_line() {
        let table = |newer_rows, gone_rows| TableComparison {
            table: "public.t".to_owned(),
            state: SourceState::Changed,
            backup_rows: 1_000,
            source_rows: 1_200,
            newer_rows,
            gone_rows,
        };
        assert_eq!(
            changed_table(&table(Some(200), Some(0))),
            "table public.t has grown: 200 rows newer than the backup"
        );
        assert_eq!(
            changed_table(&table(Some(201), Some(1))),
            "table public.t was changed: 201 rows newer than the backup, 1 of its 1,000 rows changed or removed since"
        );
        assert_eq!(
            changed_table(&table(None, None)),
            "table public.t differs: 1,000 rows in the backup, 1200 in the source"
        );
    }
}
