//! `pgkeep backup`, and the drop-in `backup-database`.

mod due;
mod narrator;

use std::sync::Arc;
use std::time::Instant;

use chrono::Utc;
use pgkeep_compress::Compression;
use pgkeep_core::{BackupClass, BackupId, BackupOptions, BackupPlan, BackupReport, LockOptions};
use pgkeep_dump::{Notice, Selection};
use serde_json::json;

use super::{Context, Done, prune};
use crate::args::BackupArgs;
use crate::failure::{Failure, Result, chain};
use crate::hooks::Moment;
use crate::invocation::Program;
use crate::log::Level;
use crate::monitoring::Measured;
use crate::render::{elapsed, json as documents, short_size, size, tables};
use crate::settings::{DEFAULT_COMPRESSION, DROP_IN_COMPRESSION, LOCAL, Origin, variable};
use crate::wire::Access;
use narrator::Narrator;

pub(super) async fn run(context: &Context, args: &BackupArgs) -> Result<Done> {
    if !due::is_wanted(context, args, args.class.class()).await? {
        return Ok(Done::new("", "due", json!(false)));
    }
    if args.dry_run {
        return make(context, args).await;
    }
    let mut facts = vec![("PGKEEP_CLASS", args.class.class().to_string())];
    context.hook_before(Moment::BeforeBackup, &facts).await?;
    let result = make(context, args).await;
    if let Ok(done) = &result {
        let id = done.fields.get("backup").and_then(|backup| backup.get("id")).and_then(|id| id.as_str());
        facts.push(("PGKEEP_BACKUP", id.unwrap_or_default().to_owned()));
    }
    context.hook_after(Moment::AfterBackup, &facts, &result).await;
    result
}

async fn make(context: &Context, args: &BackupArgs) -> Result<Done> {
    let reporter = &context.reporter;
    let begun = Instant::now();
    let class = args.class.class();
    reporter.banner(Level::Info, "Database Backup Started");
    reporter.info(format!("Backup Type: {class}"));
    reporter.info(format!("Timestamp: {}", BackupId::stamp(class, Utc::now())));

    let dump = what(context, args)?;
    let options = options(context, args, class, &dump).await?;
    let connection = context.connect_settings()?;
    let access = match (args.dry_run, args.no_upload) {
        (true, _) => Access::Read,
        (false, true) => Access::WriteLocal,
        (false, false) => Access::Write,
    };
    let mut keeper = context.keeper(access).await?;
    if args.no_upload {
        keeper.destinations.retain(|destination| destination.name == LOCAL);
    }
    let engine = context.engine(connection, dump.selection, options.jobs).await?;
    reporter.info("Environment validation complete");

    let narrator = Arc::new(Narrator::new(Arc::clone(reporter), class));
    keeper.observer = Arc::clone(&narrator) as _;
    if args.dry_run {
        let plan = keeper.plan_backup(engine.as_ref(), &options).await?;
        for warning in &plan.warnings {
            reporter.warn(warning);
        }
        let document = json!({
            "id": plan.id,
            "file": plan.file,
            "database_bytes": plan.database_bytes,
            "destinations": plan.destinations.iter().map(|(name, location)| json!({"name": name, "location": location})).collect::<Vec<_>>(),
            "retention": documents::plans(&plan.retention),
            "sweep": documents::sweeps(&plan.sweep),
        });
        return Ok(Done::new(plan_text(&plan), "plan", document).with("dry_run", json!(true)));
    }
    let report = keeper.backup(engine.as_ref(), &options).await?;
    tell(context, &report, &narrator);
    for line in ["Backup Complete".to_owned(), format!("Total Duration: {}", elapsed(begun.elapsed()))] {
        reporter.info(line);
    }
    let measured = Some(Measured::Backup(Arc::clone(&report.meta), report.elapsed));
    let done = Done { measured, ..Done::new("", "backup", documents::meta(&report.meta)) };
    Ok(done
        .with("destinations", json!(report.destinations))
        .with("replicated", documents::replicated(&report.replicated))
        .with("pruned", report.pruned.as_ref().map_or(serde_json::Value::Null, documents::prune)))
}

/// What of the database is dumped, and what `PGDUMP_OPTIONS` says beside that.
pub(super) struct Dumped {
    /// What is dumped.
    pub(super) selection: Selection,
    jobs: Option<usize>,
    compression: Option<String>,
}

pub(super) fn what(context: &Context, args: &BackupArgs) -> Result<Dumped> {
    let settings = &context.settings;
    let mut arguments = Vec::new();
    if let Some(found) = settings.layers.get(&variable::PGDUMP_OPTIONS) {
        let words = shell_words::split(&found.text)
            .map_err(|error| Failure::settings(format!("{} can't be split into options: {error}", found.origin)))?;
        arguments.extend(words);
    }
    arguments.extend(args.selection.pg_dump_arguments());
    let (selection, notices) = Selection::parse(&arguments).map_err(|error| Failure::settings(chain(&error)))?;
    let mut dumped = Dumped { selection, jobs: None, compression: None };
    for notice in notices {
        match &notice {
            Notice::Jobs(jobs) => dumped.jobs = Some(*jobs as usize),
            Notice::Compression(codec) => dumped.compression = Some(codec.clone()),
            Notice::Caution { .. } => {
                context.reporter.warn(notice.to_string());
                continue;
            }
            _ => {}
        }
        context.reporter.info(notice.to_string());
    }
    Ok(dumped)
}

pub(super) async fn options(
    context: &Context,
    args: &BackupArgs,
    class: BackupClass,
    dump: &Dumped,
) -> Result<BackupOptions> {
    let settings = &context.settings;
    let default = match context.program {
        Program::BackupDatabase | Program::TestBackupRestore => DROP_IN_COMPRESSION,
        _ => DEFAULT_COMPRESSION,
    };
    let (codec, origin) = match (&settings.compression, &dump.compression) {
        (Some(found), _) => (found.text.clone(), found.origin.to_string()),
        (None, Some(codec)) => (codec.clone(), variable::PGDUMP_OPTIONS.name.to_owned()),
        (None, None) => (default.to_owned(), Origin::Default.to_string()),
    };
    let compression: Compression = codec
        .parse()
        .map_err(|error: pgkeep_compress::Error| Failure::settings(format!("{origin}: {}", chain(&error))))?;
    let jobs_were_set = settings.layers.get(&variable::JOBS).is_some();
    Ok(BackupOptions {
        jobs: dump.jobs.filter(|_| !jobs_were_set).unwrap_or(settings.jobs),
        selection: dump.selection.clone(),
        source_name: settings.source_name.clone(),
        take_over: args.take_over,
        lock: LockOptions { wait: settings.wait, ..LockOptions::new("backup") },
        policy: settings.prune.then(|| settings.policy.clone()),
        timeout: settings.timeout,
        role_passwords: settings.role_passwords,
        encryption: context.recipients().await?,
        ..BackupOptions::new(class, compression.codec())
    })
}

/// The procedures' lines about what was done.
fn tell(context: &Context, report: &BackupReport, narrator: &Narrator) {
    let reporter = &context.reporter;
    let meta = &report.meta;
    for warning in &report.warnings {
        reporter.warn(warning);
    }
    reporter.info("Backup created successfully");
    let mut stored: Vec<_> = report.destinations.iter().filter(|destination| destination.stored).collect();
    stored.sort_by_key(|destination| destination.name != LOCAL);
    for destination in &stored {
        let file = format!("{}/{}", destination.location, destination.key);
        reporter.info(format!("File: {}", file.strip_prefix("file://").unwrap_or(&file)));
    }
    let ratio = if meta.stored.bytes > 0 { meta.plain.bytes as f64 / meta.stored.bytes as f64 } else { 1.0 };
    reporter.info(format!(
        "Size: {} ({} plain, ratio {ratio:.1}, {})",
        short_size(meta.stored.bytes),
        size(meta.plain.bytes),
        meta.compression
    ));
    if let Some(encryption) = &meta.encryption {
        reporter.info(format!("Encrypted to: {}", encryption.recipients.join(", ")));
    }
    reporter.info(format!("Duration: {}", elapsed(report.elapsed)));
    let uploaded = stored.iter().any(|destination| destination.name != LOCAL);
    if uploaded {
        reporter.info(format!("Upload complete ({})", elapsed(narrator.dump_elapsed().unwrap_or(report.elapsed))));
        reporter.info("S3 upload verified: size and the store's checksum".replace("S3", store_word(context)));
    }
    for (id, destination) in &report.replicated.copied {
        reporter.info(format!("Copied {id} to {destination}, which an earlier run had missed"));
    }
    if let Some(pruned) = &report.pruned {
        reporter.info(prune::summary(pruned.removed, pruned.freed_bytes, pruned.swept));
    }
}

fn store_word(context: &Context) -> &'static str {
    match context.settings.remote.as_ref().map(|remote| remote.url.scheme()) {
        Some("gs") => "GCS",
        Some("az") => "Azure",
        Some("file") => "Store",
        _ => "S3",
    }
}

fn plan_text(plan: &BackupPlan) -> String {
    let mut facts =
        vec![("would make", plan.id.to_string()), ("file", plan.file.clone()), ("database", size(plan.database_bytes))];
    facts.extend(plan.destinations.iter().map(|(name, location)| ("would store", format!("at {name}: {location}"))));
    let text = tables::facts(facts);
    let removals: usize = plan.retention.iter().map(|(_, retention)| retention.removals().count()).sum();
    let (retention, sweep) = (prune::text(&plan.retention), prune::sweep_text(&plan.sweep));
    format!("{text}\nretention would remove {removals}:\n{retention}{sweep}\nnothing was written (--dry-run)\n")
}
