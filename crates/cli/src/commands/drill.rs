//! `pgkeep drill`, and the drop-in `test-backup-restore`: backup and restore tried out, compared, measured, reported.

mod checks;
mod ground;
mod junit;
mod live;
mod making;
mod measured;
mod report;
mod steps;

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use pgkeep_core::{BackupClass, Catalog, Objectives, Pick};
use pgkeep_restore::Restorer;
use serde_json::json;

use super::pick::Chosen;
use super::restore::keep_proof;
use super::{Context, Done, thaw};
use crate::args::{DrillArgs, DrillMode};
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::hint::Code;
use crate::log::Level;
use crate::monitoring::Measured;
use crate::render::{count, elapsed, size, tables};
use crate::settings::variable;
use crate::wire::Access;
use checks::Answer;
use ground::{Aside, Ground, Restored};
use report::{Report, span};
use steps::{Passed, Steps, Verdict};

/// Where reports go, without any setting.
const DEFAULT_RESULTS: &str = "test-results";

pub(super) async fn run(context: &Context, args: &DrillArgs) -> Result<Done> {
    let drill = Drill::new(context, args)?;
    let begun = Utc::now();
    context.reporter.banner(Level::Info, "Backup and Restore Drill Started");
    let mut steps = Steps::new(context);
    let mut found = Found::default();
    let ended = drill.carry_out(&mut steps, &mut found).await;

    let restore = found.restore;
    let report = drill.report(begun, &steps, found);
    let good = report.restore_success == Some(true);
    let measured = restore.map(|(_, elapsed)| Measured::Drill { good, elapsed });
    let folder = context.settings.layers.text(&variable::DRILL_RESULTS).unwrap_or_else(|| DEFAULT_RESULTS.to_owned());
    // A report that can't be written does not change what was found.
    let files = report.write(&context.surroundings.directory.join(folder)).unwrap_or_else(|failure| {
        context.reporter.warn(format!("there is no report: {}; set BACKUP_DRILL_RESULTS", failure.message));
        Vec::new()
    });
    if let Some(file) = files.first() {
        context.reporter.info(format!("Report: {}", file.display()));
    }
    ended?;
    context.reporter.banner(Level::Info, &format!("Drill {}", if report.failed == 0 { "Passed" } else { "FAILED" }));
    let files: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
    let done = Done::new(table(&report), "drill", json!(report)).with("reports", json!(files));
    Ok(Done { failure: steps.failure(), measured, ..done })
}

/// A drill as it was asked for.
struct Drill<'c> {
    context: &'c Context,
    args: &'c DrillArgs,
    mode: DrillMode,
    objectives: Objectives,
    queries: Vec<String>,
}

/// What was found out beside the steps.
#[derive(Debug, Default)]
struct Found {
    /// How old the newest backup was before this drill, in seconds.
    data_age: Option<f64>,
    backup: Option<String>,
    /// How long making one took, and its plain bytes.
    making: Option<(Duration, u64)>,
    restored_to: Option<String>,
    /// Whether a restore was good, and how long it took.
    restore: Option<(bool, Duration)>,
    /// Plain bytes of what was restored.
    restored_bytes: Option<u64>,
    answers: Vec<Answer>,
}

impl<'c> Drill<'c> {
    fn new(context: &'c Context, args: &'c DrillArgs) -> Result<Self> {
        let mut queries: Vec<String> = context
            .settings
            .layers
            .text(&variable::DRILL_QUERIES)
            .map(|text| text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect())
            .unwrap_or_default();
        queries.extend(args.query.iter().cloned());
        let drill = Self { context, args, mode: args.mode(), objectives: context.objectives()?, queries };
        // What can't be done at all is said at once, and not by every step.
        let restores_elsewhere = args.scratch || context.settings.layers.get(&variable::DRILL_SERVER).is_some();
        let makes = matches!(drill.mode, DrillMode::Full | DrillMode::BackupOnly | DrillMode::Performance);
        if makes || drill.mode == DrillMode::IntegrityOnly || !restores_elsewhere {
            context.settings.database_url()?;
        }
        Ok(drill)
    }

    async fn carry_out(&self, steps: &mut Steps<'_>, found: &mut Found) -> Result<()> {
        if self.mode == DrillMode::IntegrityOnly {
            return self.live(steps, found).await;
        }
        found.data_age = self.data_age().await;
        let chosen = match self.mode {
            DrillMode::Full | DrillMode::BackupOnly | DrillMode::Performance => {
                let made = self.creation(steps, found).await?;
                if self.mode != DrillMode::Performance {
                    self.look_at_backup(steps, made.as_ref()).await?;
                }
                made
            }
            DrillMode::Monthly => {
                let chosen = steps.run("backup_integrity", Box::pin(self.choose_and_verify())).await?;
                if chosen.is_none() {
                    steps.skip("database_restore", "there is no backup to restore");
                    steps.skip("data_integrity", "nothing was restored");
                }
                chosen
            }
            _ => None,
        };
        match self.mode {
            DrillMode::BackupOnly => return Ok(()),
            DrillMode::Monthly if chosen.is_none() => {}
            DrillMode::Full | DrillMode::Performance if chosen.is_none() => {
                steps.skip("database_restore", "no backup was made");
                if self.mode == DrillMode::Full {
                    steps.skip("data_integrity", "nothing was restored");
                }
            }
            _ => self.restore(steps, found, chosen).await?,
        }
        if self.mode != DrillMode::RestoreOnly {
            self.performance(steps, found).await?;
        }
        Ok(())
    }

    /// How old the newest backup is that is there already.
    async fn data_age(&self) -> Option<f64> {
        let keeper = self.context.keeper(Access::Read).await.ok()?;
        let catalog = Catalog::load(&keeper).await.ok()?;
        let newest = catalog.pick(&Pick::Latest { class: None }).ok()?;
        Some((Utc::now() - newest.meta.snapshot_time).as_seconds_f64().max(0.0))
    }

    /// The backup to restore: the one named, the newest monthly, the newest.
    async fn choose(&self, details: &mut Vec<String>) -> Result<Chosen> {
        let named = self.args.backup.as_deref();
        let class = (self.mode == DrillMode::Monthly && named.is_none()).then_some(BackupClass::Monthly);
        let chosen = match self.context.choose(named, class, None, Access::Write).await {
            Err(failure) if class.is_some() && failure.code == Code::NothingMatched => {
                details.push("there is no good monthly backup: the newest of any class was taken".to_owned());
                self.context.choose(None, None, None, Access::Write).await?
            }
            chosen => chosen?,
        };
        let chosen = self.quietly(chosen).with_keys(self.context).await?;
        thaw::ensure_readable(self.context, &chosen.keeper, &chosen.source()?, self.args.thaw).await?;
        Ok(chosen)
    }

    /// The same with a keeper that tells details as details.
    fn quietly(&self, mut chosen: Chosen) -> Chosen {
        chosen.keeper.observer = Arc::new(Aside(Arc::clone(&self.context.reporter)));
        chosen
    }

    /// `database_restore` and `data_integrity`. Whatever comes, what was made for them is removed.
    async fn restore(&self, steps: &mut Steps<'_>, found: &mut Found, chosen: Option<Chosen>) -> Result<()> {
        let mut ground = None;
        let outcome = steps.run("database_restore", Box::pin(self.load(&mut ground, found, chosen))).await;
        let looked = match outcome {
            Ok(restored) => self.look_at_data(steps, found, ground.as_ref(), restored).await,
            Err(interrupted) => Err(interrupted),
        };
        if let Some(ground) = ground {
            ground.remove(&self.context.reporter).await;
        }
        looked
    }

    async fn load(
        &self,
        ground: &mut Option<Ground>,
        found: &mut Found,
        chosen: Option<Chosen>,
    ) -> Result<Passed<Restored>> {
        let mut details = Vec::new();
        let chosen = match chosen {
            Some(chosen) => chosen,
            None => self.choose(&mut details).await?,
        };
        let source = chosen.source()?;
        found.backup = Some(source.name());
        found.restore = Some((false, Duration::ZERO));
        let meta = source.meta.clone();
        let live = match &meta {
            Some(meta) => meta.database.name.clone(),
            None => self.context.connect_settings()?.database().to_owned(),
        };
        let ready = ground.insert(Ground::prepare(self.context, self.args, &live).await?);
        found.restored_to = Some(ready.describe());
        let place = source.place.clone();
        let began = std::time::Instant::now();
        let restored = ready.restore(source, self.context.settings.jobs, &mut details).await;
        let took = restored.as_ref().map_or_else(|_| began.elapsed(), Restored::took);
        let findings = match &restored {
            Ok(Restored::Equal(_)) => Some(Vec::new()),
            Ok(Restored::Different { differences, .. }) => Some(differences.clone()),
            // Only damage says something about the backup.
            Err(failure) if failure.exit() == Exit::Damage => Some(vec![failure.message.clone()]),
            Err(_) => None,
        };
        let good = findings.as_ref().is_some_and(Vec::is_empty);
        found.restore = Some((good, took));
        if let (Some(findings), Some(entry)) = (findings, chosen.entry()) {
            keep_proof(self.context, &chosen.keeper, entry, &place, took, findings).await;
        }
        let restored = restored?;
        if let Restored::Equal(report) = &restored {
            found.restored_bytes = meta.as_ref().map(|meta| meta.plain.bytes);
            details.insert(
                0,
                format!(
                    "{} from {place}: {}, {}, {} in {}",
                    report.backup.name,
                    count(report.tables, "table"),
                    count(report.rows, "row"),
                    size(report.restored_bytes),
                    elapsed(took)
                ),
            );
        }
        Ok((restored, details))
    }

    async fn look_at_data(
        &self,
        steps: &mut Steps<'_>,
        found: &mut Found,
        ground: Option<&Ground>,
        restored: Option<Restored>,
    ) -> Result<()> {
        // How long something took that is not equal is worth nothing.
        if self.mode == DrillMode::Performance && !matches!(restored, Some(Restored::Different { .. })) {
            return Ok(());
        }
        let (Some(ground), Some(restored)) = (ground, restored) else {
            steps.skip("data_integrity", "nothing was restored");
            self.not_asked(steps);
            return Ok(());
        };
        let inspector = ground.inspector();
        let look = async {
            let report = match restored {
                Restored::Equal(report) => report,
                Restored::Different { differences, .. } => {
                    return Err(Failure::new(Code::ProofFailed, differences.join("; ")));
                }
            };
            let mut details = checks::proof(&report.proof);
            details.extend(checks::soundness(&inspector.inspect(None).await?)?.1);
            Ok(((), details))
        };
        let sound = steps.run("data_integrity", Box::pin(look)).await?.is_some();
        if sound {
            return self.ask(steps, found, &inspector).await;
        }
        self.not_asked(steps);
        Ok(())
    }

    fn not_asked(&self, steps: &mut Steps<'_>) {
        if !self.queries.is_empty() {
            steps.skip("queries", "there is no sound data to ask");
        }
    }

    /// `queries`: the user's own, where there are any.
    async fn ask(&self, steps: &mut Steps<'_>, found: &mut Found, inspector: &Restorer) -> Result<()> {
        if self.queries.is_empty() {
            return Ok(());
        }
        let asked = async {
            found.answers = checks::ask(&inspector.settings, &self.queries, &self.context.cancel).await?;
            Ok::<_, Failure>(((), checks::judge(&found.answers)?))
        };
        steps.run("queries", Box::pin(asked)).await.map(|_| ())
    }
}

/// What is seen on the terminal.
fn table(report: &Report) -> String {
    let rows = report.steps.iter().map(|step| {
        let duration = if step.result == Verdict::Skip { String::new() } else { span(step.seconds) };
        let said = step.reason.clone().or_else(|| step.details.first().cloned()).unwrap_or_default();
        [step.name.to_owned(), step.result.word().to_owned(), duration, said]
    });
    let mut text = tables::table(["STEP", "RESULT", "DURATION", ""], &[2], rows);
    for objective in &report.objectives {
        let Some(seconds) = objective.seconds else { continue };
        let verdict = if objective.met == Some(true) { "met" } else { "MISSED" };
        let wanted = span(objective.limit_seconds as f64);
        let _ = writeln!(text, "{}: {}, wanted {wanted}: {verdict}", objective.name, span(seconds));
    }
    text
}
