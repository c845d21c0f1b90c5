//! `pgkeep rollback`: the database from before a restore, live again.

use std::sync::Arc;

use pgkeep_restore::RollbackPlan;
use pgkeep_storage::Storage;
use serde_json::json;

use super::{Context, Done};
use crate::args::RollbackArgs;
use crate::failure::{Failure, Result};
use crate::hint::Code;
use crate::log::Level;
use crate::render::{size, tables};
use crate::wire::Access;

pub(super) async fn run(context: &Context, args: &RollbackArgs) -> Result<Done> {
    let mut settings = context.connect_settings()?;
    if let Some(name) = &args.target_db {
        settings = settings.with_database(name);
    }
    let journal = if args.dry_run { None } else { journal(context).await };
    let restorer = context.restorer(settings, journal).await?;
    let plan = restorer.plan_rollback(args.to.as_deref()).await?;
    for warning in &plan.warnings {
        context.reporter.warn(warning);
    }
    if args.dry_run {
        return Ok(Done::new(tables::facts(facts(&plan)), "plan", json!(plan)).with("dry_run", json!(true)));
    }
    for (label, value) in facts(&plan) {
        context.reporter.info(format!("{label}: {value}"));
    }
    if !plan.blockers.is_empty() {
        return Err(Failure::new(
            Code::Blocked,
            format!("the rollback can't be carried out: {}", plan.blockers.join("; ")),
        ));
    }
    if !args.yes {
        let question = format!("Make {} live again as {}? (type 'yes' to proceed):", plan.kept.name, plan.database);
        context.reporter.ask(&question, "yes", &context.cancel).await?;
    }
    let report = restorer.rollback(&plan).await?;
    context.reporter.banner(Level::Info, "Rollback Complete");
    context.reporter.info(format!("{} is live again as {}", report.restored, report.database));
    if let Some(kept) = &report.kept_as {
        context.reporter.info(format!("what was live until now is kept as {kept}"));
    }
    Ok(Done::new("", "rollback", json!(report)))
}

/// Where a note about the exchange is left: the first place of the repository. A rollback goes on without.
async fn journal(context: &Context) -> Option<Arc<dyn Storage>> {
    match context.keeper(Access::Write).await {
        Ok(keeper) => keeper.destinations.into_iter().next().map(|first| first.storage),
        Err(failure) => {
            context.reporter.detail(format!("no note about this rollback is left: {}", failure.message));
            None
        }
    }
}

fn facts(plan: &RollbackPlan) -> Vec<(&'static str, String)> {
    let kept_size = plan.kept.bytes.map(|bytes| format!(", {}", size(bytes))).unwrap_or_default();
    let mut facts = vec![
        ("database", plan.database.clone()),
        (
            "becomes live",
            format!(
                "{} (replaced {}{kept_size})",
                plan.kept.name,
                plan.kept.replaced_at.format("%Y-%m-%d %H:%M:%S UTC")
            ),
        ),
        ("kept", format!("the present {}, as {}", plan.database, plan.kept_as)),
        ("open sessions", format!("{} (they are ended)", plan.sessions)),
    ];
    facts.extend(plan.blockers.iter().map(|blocker| ("BLOCKED", blocker.clone())));
    facts
}
