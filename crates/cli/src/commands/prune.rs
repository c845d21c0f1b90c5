//! `pgkeep prune`.

use pgkeep_core::{Catalog, LockOptions, PruneOptions, Reason, RetentionPlan, SweepPlan};
use serde_json::json;

use super::{Context, Done};
use crate::args::PruneArgs;
use crate::failure::Result;
use crate::render::{json as documents, size, tables};
use crate::wire::Access;

pub(super) async fn run(context: &Context, args: &PruneArgs) -> Result<Done> {
    let settings = &context.settings;
    if args.dry_run {
        let keeper = context.keeper(Access::Read).await?;
        let catalog = Catalog::load(&keeper).await?;
        context.tell_of(&catalog);
        let plans = keeper.plan_prune(&catalog, &settings.policy);
        let sweeps = keeper.plan_sweep(&catalog).await;
        let text = format!("{}{}", text(&plans), sweep_text(&sweeps));
        return Ok(Done::new(text, "plans", documents::plans(&plans))
            .with("sweep", documents::sweeps(&sweeps))
            .with("dry_run", json!(true)));
    }
    let keeper = context.keeper(Access::Write).await?;
    let lock = LockOptions { wait: settings.wait, ..LockOptions::new("prune") };
    let report = keeper.prune(&PruneOptions { policy: settings.policy.clone(), lock: Some(lock) }).await?;
    for warning in &report.warnings {
        context.reporter.warn(warning);
    }
    context.reporter.info(summary(report.removed, report.freed_bytes, report.swept));
    Ok(Done::new(text(&report.plans), "prune", documents::prune(&report)))
}

/// One line about what was removed.
pub(super) fn summary(removed: u64, freed_bytes: u64, swept: u64) -> String {
    let freed = if removed > 0 { format!(", {} freed", size(freed_bytes)) } else { String::new() };
    let swept = if swept > 0 { format!(", swept {swept} left-over object(s)") } else { String::new() };
    format!("Deleted {removed} old backup(s){freed}{swept}")
}

/// Every decision with its reasons.
pub(super) fn text(plans: &[(String, RetentionPlan)]) -> String {
    let rows = plans.iter().flat_map(|(destination, plan)| {
        plan.decisions.iter().map(move |decision| {
            let reasons: Vec<_> = decision.reasons.iter().map(why).collect();
            [
                destination.clone(),
                decision.id.to_string(),
                if decision.keep { "keep" } else { "remove" }.to_owned(),
                reasons.join(", "),
            ]
        })
    });
    let rows: Vec<_> = rows.collect();
    if rows.is_empty() { String::new() } else { tables::table(["WHERE", "NAME", "PLAN", "WHY"], &[], rows) }
}

/// What interrupted runs left and would be swept; nothing where there is nothing.
pub(super) fn sweep_text(sweeps: &[SweepPlan]) -> String {
    let rows = sweeps.iter().flat_map(|plan| {
        plan.leftovers.iter().map(|leftover| {
            let what = leftover.bytes.map_or_else(|| "never finished".to_owned(), size);
            [plan.destination.clone(), leftover.key.clone(), what]
        })
    });
    let rows: Vec<_> = rows.collect();
    if rows.is_empty() {
        return String::new();
    }
    format!(
        "\nleft by interrupted runs, would be swept:\n{}",
        tables::table(["WHERE", "LEFT OVER", "SIZE"], &[2], rows)
    )
}

fn why(reason: &Reason) -> String {
    match reason {
        Reason::Young => "younger than its class is kept".to_owned(),
        Reason::Among(count) => format!("among the last {count} good ones of its class"),
        Reason::NewestGood => "the newest good backup".to_owned(),
        Reason::NewestPart => "the newest good backup of a part".to_owned(),
        Reason::NewestProven => "the newest proven backup".to_owned(),
        Reason::Future => "its time is in the future".to_owned(),
        Reason::NoRule => "no rule for its class".to_owned(),
        Reason::Expired => "older than its class is kept".to_owned(),
        Reason::Excess => "more than its class may have".to_owned(),
        #[expect(unreachable_patterns, reason = "reasons may grow")]
        other => format!("{other:?}"),
    }
}
