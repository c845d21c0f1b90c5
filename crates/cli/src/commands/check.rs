//! `pgkeep check`: every permission the set-up needs, tried for real.

mod bucket;
mod database;
mod findings;
mod iam;
mod local;
mod machine;
mod messages;
mod place;
mod restore;
mod shown;
mod store;

use futures::future::BoxFuture;
use serde_json::json;

use super::{Context, Done};
use crate::args::CheckArgs;
use crate::failure::Result;
use crate::settings::Settings;
use crate::wire::BUCKET;
use findings::Findings;

/// What every check works with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scene<'c> {
    /// Settings, surroundings, reporter.
    pub(super) context: &'c Context,
    /// What was asked for.
    pub(super) args: &'c CheckArgs,
    /// The settings of the place for backups that is looked at.
    pub(super) settings: &'c Settings,
}

/// One group of checks.
type Check = for<'c> fn(Scene<'c>, &'c mut Findings) -> BoxFuture<'c, ()>;

/// Every group of checks, in the order of the screen. One more is one more line.
const CHECKS: &[Check] = &[
    |scene, findings| Box::pin(async move { machine::settings(scene, findings) }),
    |scene, findings| Box::pin(database::check(scene, findings)),
    |scene, findings| Box::pin(local::check(scene, findings)),
    |scene, findings| Box::pin(remote(scene, findings)),
    |scene, findings| Box::pin(messages::check(scene, findings)),
    |scene, findings| Box::pin(async move { machine::logs(scene, findings) }),
];

pub(super) async fn run(context: &Context, args: &CheckArgs) -> Result<Done> {
    if args.show_settings {
        return Ok(shown::run(context));
    }
    if let Some(role) = args.iam_policy {
        return iam::run(context, role);
    }
    let scene = Scene { context, args, settings: &context.settings };
    let mut findings = Findings::default();
    for check in CHECKS {
        check(scene, &mut findings).await;
        if context.cancel.is_cancelled() {
            break;
        }
    }
    for warning in findings.warnings() {
        context.reporter.count_warning(warning);
    }
    let mut done =
        Done::new(findings.text(), "checks", findings.document()).with("summary", findings.summary_document());
    done.fields.insert("dry_run".to_owned(), json!(args.dry_run));
    done.failure = if context.cancel.is_cancelled() { Some(super::interrupted()) } else { findings.failure() };
    Ok(done)
}

/// The bucket, or whatever `BACKUP_STORE` names.
async fn remote(scene: Scene<'_>, findings: &mut Findings) {
    bucket_or_store(scene, findings).await;
    for extra in &scene.context.settings.extra {
        let Some(remote) = &extra.settings.remote else { continue };
        let begin = findings.len();
        store::check(Scene { settings: &extra.settings, ..scene }, findings, &remote.url).await;
        if !extra.required {
            findings.soften(begin);
        }
    }
}

async fn bucket_or_store(scene: Scene<'_>, findings: &mut Findings) {
    let context = scene.context;
    let Some(remote) = &context.settings.remote else {
        findings.group(BUCKET);
        if !context.settings.extra.is_empty() {
            findings.skip("destination", "no bucket is set; there are other destinations");
        } else if context.settings.local.is_none() {
            findings
                .fail("destination", "there is no place for backups: no bucket is set, and BACKUP_DIR is none")
                .code(crate::hint::Code::DestinationMissing);
        } else {
            findings
                .warn("destination", "no bucket is set: backups are lost together with this machine")
                .hint("set AWS_S3_BACKUP_BUCKET or BACKUP_STORE");
        }
        return;
    };
    store::check(scene, findings, &remote.url).await;
}
