//! `pgkeep restore`, and the drop-in `restore-database`.

mod told;

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use pgkeep_compress::Compression;
use pgkeep_core::{
    BackupClass, BackupOptions, BackupSource, CatalogEntry, Keeper, LockOptions, Proof, ProofKind, ProofOutcome,
};
use pgkeep_dump::{ConnectSettings, Selection};
use pgkeep_metrics::{Event, Observer};
use pgkeep_restore::{Method, RestorePlan, RestoreRequest, Restorer, Snapshot, TableName, Target};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::pick::Chosen;
use super::{Context, Done, thaw};
use crate::args::RestoreArgs;
use crate::failure::{Failure, Result, chain};
use crate::hint::Code;
use crate::hooks::Moment;
use crate::log::Level;
use crate::monitoring::Measured;
use crate::render::elapsed;
use crate::settings::{DEFAULT_COMPRESSION, variable};
use crate::wire::{Access, TOOL_VERSION};

/// How long the snapshot may take to end politely.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) async fn run(context: &Context, args: &RestoreArgs) -> Result<Done> {
    let mut begun = None;
    let result = Box::pin(restore(context, args, &mut begun)).await;
    if let Some(facts) = begun {
        context.hook_after(Moment::AfterRestore, &facts, &result).await;
    }
    result
}

/// `begun`, once the hook before it has run, is what the one after it is told.
async fn restore(
    context: &Context,
    args: &RestoreArgs,
    begun: &mut Option<Vec<(&'static str, String)>>,
) -> Result<Done> {
    let reporter = &context.reporter;
    reporter.banner(Level::Info, "Database Restore Started");
    let settings = context.connect_settings()?;

    // 1: find and show the backup
    let access = if args.dry_run { Access::Read } else { Access::Write };
    let chosen = choose(context, args).await?;
    let source = chosen.source()?;
    told::backup(context, &chosen, &source);
    thaw::ensure_readable(context, &chosen.keeper, &source, args.thaw.filter(|_| !args.dry_run)).await?;

    // 2: the plan
    let repository = context.keeper(access).await;
    let journal =
        repository.as_ref().ok().and_then(|keeper| keeper.destinations.first()).map(|first| Arc::clone(&first.storage));
    let narrator = Arc::new(told::Narrator(Arc::clone(reporter)));
    let mut restorer = Restorer { observer: narrator, ..context.restorer(settings.clone(), journal).await? };
    let request = request(context, args, source)?;
    let mut plan = restorer.plan(&request).await?;
    if !snapshot_is_possible(context, &repository, settings.database(), &mut plan).await
        && repository.as_ref().is_ok_and(|keeper| keeper.destinations.len() == 1)
    {
        // A place that can't be read would not take a note either.
        restorer.journal = None;
    }
    for warning in &plan.warnings {
        reporter.warn(warning);
    }
    if args.dry_run {
        let text = format!("{plan}\nnothing was changed (--dry-run)\n");
        return Ok(Done::new(text, "plan", json!(plan)).with("dry_run", json!(true)));
    }
    told::plan(context, &plan);
    if !plan.blockers.is_empty() {
        return Err(Failure::new(
            Code::Blocked,
            format!("the restore can't be carried out: {}", plan.blockers.join("; ")),
        ));
    }

    // 3: the question
    confirm(context, args, &plan).await?;
    let target = args.target_db.as_deref().unwrap_or(settings.database()).to_owned();
    let facts = vec![("PGKEEP_TARGET_DATABASE", target)];
    context.hook_before(Moment::BeforeRestore, &facts).await?;
    *begun = Some(facts);

    // 4 to 7: snapshot, load, proof, swap
    let beside = Beside { tasks: TaskTracker::new(), cancel: context.cancel.child_token() };
    let snapshot = match (plan.wants_snapshot, repository) {
        (false, _) => None,
        (true, Ok(keeper)) => Some(beside.snapshot(context, keeper, settings.with_database(&plan.database)).await?),
        (true, Err(failure)) => {
            return Err(failure
                .context("there is no place for the pre-restore snapshot")
                .hint("set one, or pass --skip-snapshot if the present data may be lost"));
        }
    };
    reporter.info("Starting database restore...");
    let report = restorer.execute(&plan, snapshot).await;
    beside.end().await;
    let report = report?;

    // 8: what came of it
    // Some tables prove nothing about the others.
    if let Some(entry) = chosen.entry()
        && plan.tables.is_empty()
    {
        let findings = report.proof.differences.iter().map(ToString::to_string).collect();
        keep_proof(context, &chosen.keeper, entry, &plan.backup.place, report.times.total, findings).await;
    }
    told::report(context, &report);
    let measured = Some(Measured::Restore(report.times.total));
    Ok(Done { measured, ..Done::new("", "restore", json!(report)) }.with("plan", json!(plan)))
}

/// Leaves the snapshot out of the plan where the repository has no place for it. False if the repository can't be read: a
/// backup that was chosen is restored all the same. In place nothing is done without a snapshot; a swap keeps what is there.
async fn snapshot_is_possible(
    context: &Context,
    repository: &Result<Keeper>,
    live: &str,
    plan: &mut RestorePlan,
) -> bool {
    if !plan.wants_snapshot || plan.method != Method::Swap {
        return true;
    }
    let source = match repository {
        Ok(keeper) => keeper.source().await.map_err(|error| chain(&error)),
        Err(failure) => Err(failure.message.clone()),
    };
    let target = &plan.database;
    let whose = match &source {
        Ok(Some(source)) => format!("is that of {}", source.identity.database),
        Ok(None) => format!("will be that of {live}"),
        Err(reason) => {
            let kept = plan.kept_as.as_deref().unwrap_or_default();
            context.reporter.warn(format!("no pre-restore snapshot of {target}, which is kept as {kept}: {reason}"));
            plan.wants_snapshot = false;
            return false;
        }
    };
    // Its snapshot has no place among another database's backups, and whoever comes first claims a repository for good.
    let owner = source.as_ref().ok().and_then(Option::as_ref).map_or(live, |source| &source.identity.database);
    if owner != target {
        context.reporter.detail(format!("no pre-restore snapshot of {target}: the repository {whose}"));
        plan.wants_snapshot = false;
    }
    true
}

async fn choose(context: &Context, args: &RestoreArgs) -> Result<Chosen> {
    if args.backup.is_none() {
        let what = if args.before.is_some() {
            "Finding the newest backup before that time..."
        } else {
            "Finding latest backup..."
        };
        context.reporter.info(what);
    }
    let chosen = context.choose(args.backup.as_deref(), args.class, args.before, Access::Read).await?;
    let chosen = chosen.with_keys(context).await?;
    if args.latest {
        let source = chosen.source()?;
        context.reporter.info(format!("Latest backup: {}/{}", source.storage.location(), source.key));
    }
    if args.before.is_some() {
        context
            .reporter
            .info("It is restored as of its snapshot; what was written after that is not in it (no WAL replay)");
    }
    Ok(chosen)
}

fn request(context: &Context, args: &RestoreArgs, source: BackupSource) -> Result<RestoreRequest> {
    let target = match (&args.target_db, args.in_place) {
        (Some(name), _) => Target::Database { name: name.clone(), replace: args.replace_target },
        (None, true) => Target::InPlace,
        (None, false) => Target::Live,
    };
    let tables: Result<Vec<TableName>, _> = args.table.iter().map(|table| table.parse()).collect();
    Ok(RestoreRequest {
        tables: tables?,
        jobs: context.settings.jobs,
        skip_snapshot: args.skip_snapshot,
        roles: args.roles,
        no_owner: args.no_owner,
        no_acl: args.no_acl,
        force: args.accept_differences,
        ..RestoreRequest::new(source, target)
    })
}

/// `yes`, or the database's name typed if the backup is of another database or server.
async fn confirm(context: &Context, args: &RestoreArgs, plan: &RestorePlan) -> Result<()> {
    told::warning(context, plan);
    if args.yes {
        context.reporter.detail("not asked (--yes)");
        return Ok(());
    }
    let name = plan.database.as_str();
    let (question, expected) = if plan.crosses_databases() {
        (format!("The backup is of another database. Type the name of the target ({name}) to proceed:"), name)
    } else {
        ("Are you sure you want to continue? (type 'yes' to proceed):".to_owned(), "yes")
    };
    context.reporter.ask(&question, expected, &context.cancel).await
}

/// What runs beside the load: a task of its own, so that it can end politely (and give its lock back) when the load fails.
#[derive(Debug)]
struct Beside {
    tasks: TaskTracker,
    cancel: CancellationToken,
}

impl Beside {
    /// The pre-restore backup of the database that is to be replaced.
    async fn snapshot(&self, context: &Context, keeper: Keeper, database: ConnectSettings) -> Result<Snapshot> {
        let settings = &context.settings;
        // The load has the other half of the processors.
        let jobs = settings.jobs.div_ceil(2);
        let engine = context.engine(database, Selection::default(), jobs).await?;
        let name = settings.compression.as_ref().map_or(DEFAULT_COMPRESSION, |found| found.text.as_str());
        let compression: Compression = name.parse()?;
        let options = BackupOptions {
            jobs,
            source_name: settings.source_name.clone(),
            // Nobody wants to wait for hours now, unless they say so: the swap keeps the old database either way.
            lock: LockOptions {
                wait: settings.layers.duration(&variable::WAIT)?.unwrap_or_default(),
                ..LockOptions::new("pre-restore backup")
            },
            role_passwords: settings.role_passwords,
            encryption: context.recipients().await?,
            ..BackupOptions::new(BackupClass::PreRestore, compression.codec())
        };
        let reporter = Arc::clone(&context.reporter);
        let tasks = self.tasks.clone();
        let keeper = Keeper { observer: Arc::new(Aside(Arc::clone(&reporter))), cancel: self.cancel.clone(), ..keeper };
        reporter.info("Creating pre-restore snapshot...");
        let backup = async move {
            let report = keeper.backup(engine.as_ref(), &options).await?;
            reporter.info(format!("Pre-restore snapshot created: {} ({})", report.meta.id, elapsed(report.elapsed)));
            Ok(report.meta.id.to_string())
        };
        Ok(async move { tasks.spawn(backup).await.map_err(Box::from).flatten() }.boxed())
    }

    /// Ends what still runs, and waits for it a while.
    async fn end(&self) {
        self.cancel.cancel();
        self.tasks.close();
        let _ = tokio::time::timeout(PATIENCE, self.tasks.wait()).await;
    }
}

/// Hears the snapshot, which runs beside the load: its warnings count, its progress would only disturb.
#[derive(Debug)]
struct Aside(Arc<crate::reporter::Reporter>);

impl Observer for Aside {
    fn notice(&self, event: &Event) {
        match event {
            Event::Warning { message } => self.0.warn(format!("pre-restore snapshot: {message}")),
            Event::Info { message } | Event::Detail { message } => {
                self.0.detail(format!("pre-restore snapshot: {message}"));
            }
            _ => {}
        }
    }
}

/// The proof beside the backup, of the copy at `place`; without findings, a good one. Its failure is a warning.
pub(super) async fn keep_proof(
    context: &Context,
    keeper: &Keeper,
    entry: &CatalogEntry,
    place: &str,
    took: Duration,
    findings: Vec<String>,
) {
    let proof = Proof {
        kind: ProofKind::Restore,
        outcome: if findings.is_empty() { ProofOutcome::Good } else { ProofOutcome::Bad },
        at: chrono::Utc::now(),
        seconds: took.as_secs_f64(),
        hostname: context.surroundings.host.clone(),
        destination: place.to_owned(),
        findings,
        tool_version: TOOL_VERSION.to_owned(),
    };
    if let Err(error) = keeper.store_proof(entry, &proof).await {
        context.reporter.warn(format!("the proof of this restore could not be stored: {}", chain(&error)));
    }
}
