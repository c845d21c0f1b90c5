//! `pgkeep unlock`: explains before it breaks a lock.

use chrono::Utc;
use pgkeep_core::{Lock, LockInfo};
use serde_json::json;

use super::{Context, Done};
use crate::args::UnlockArgs;
use crate::failure::Result;
use crate::wire::Access;

pub(super) async fn run(context: &Context, args: &UnlockArgs) -> Result<Done> {
    let keeper = context.keeper(Access::Write).await?;
    let now = Utc::now();
    let held: Vec<LockInfo> =
        Lock::inspect(&keeper).await?.into_iter().filter(|lock| !lock.released && lock.expires > now).collect();
    if held.is_empty() {
        return Ok(Done::new("nothing is locked\n", "broken", json!([])));
    }
    for lock in &held {
        context.reporter.info(format!(
            "{} holds the lock for a {}, until {} unless it renews it",
            lock.holder,
            lock.purpose,
            lock.expires.format("%Y-%m-%d %H:%M:%S UTC")
        ));
    }
    context.reporter.info(
        "A lock ends by itself once its holder is gone. Broken while its holder still runs, that run notices, gives up \
         its backup and fails; nothing stored is lost.",
    );
    if !args.yes {
        context.reporter.ask("Break it? (type 'yes' to proceed):", "yes", &context.cancel).await?;
    }
    let broken = Lock::break_it(&keeper).await?;
    context.reporter.info(format!("Broke {} lock(s)", broken.len()));
    Ok(Done::new("unlocked\n", "broken", json!(broken)))
}
