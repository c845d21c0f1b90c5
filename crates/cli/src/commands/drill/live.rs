//! `--integrity-only`: is the live database sound, and what the backup says it should be?

use std::time::Instant;

use pgkeep_core::{BackupSource, Catalog, CatalogEntry, Pick, ProofKind, ProofOutcome};
use pgkeep_restore::{CompareOptions, Comparison, Restorer};

use super::steps::{Passed, Steps};
use super::{Drill, Found, checks};
use crate::commands::pick::{Backup, Chosen};
use crate::failure::{Failure, Result};
use crate::hint::Code;
use crate::render::count;
use crate::wire::Access;

impl Drill<'_> {
    /// `data_integrity`, `index_integrity`, `extensions`, and the user's own queries.
    pub(super) async fn live(&self, steps: &mut Steps<'_>, found: &mut Found) -> Result<()> {
        let settings = self.context.connect_settings()?;
        let restorer = self.context.restorer(settings, None).await?;
        let source = match self.came_from(&restorer).await {
            Ok(source) => Some(source),
            Err(failure) if failure.code == Code::Interrupted => return Err(failure),
            Err(failure) if self.args.backup.is_some() => return Err(failure),
            Err(failure) if failure.code != Code::NothingMatched => {
                steps.run("data_integrity", async { Err::<Passed<()>, _>(failure) }).await?;
                None
            }
            Err(failure) => {
                steps.skip("data_integrity", format!("there is no backup to compare with: {}", failure.message));
                None
            }
        };
        if let Some(source) = &source {
            found.backup = Some(source.name());
            let began = Instant::now();
            let comparison = Box::pin(self.compare(&restorer, source)).await;
            match comparison {
                Ok(Comparison { tables: 0, differences, written, .. }) if differences.is_empty() => {
                    let why = match (&source.meta, written.len()) {
                        (None, _) => "it has no meta, so there is nothing to compare with".to_owned(),
                        (Some(_), 0) => "it has no rows".to_owned(),
                        (Some(_), written) => {
                            let tables = count(written as u64, "table");
                            format!(
                                "{tables} written to since, or the server has lost count: name the backup (--backup)"
                            )
                        }
                    };
                    steps.skip("data_integrity", format!("nothing of {} is comparable: {why}", source.name()));
                }
                compared => {
                    let judged = async { checks::comparison(compared?) };
                    steps.run_since("data_integrity", began, judged).await?;
                }
            }
        }
        let meta = source.as_ref().and_then(|source| source.meta.as_deref());
        let look = async {
            let inspection = restorer.inspect(meta).await?;
            let ((), details) = checks::soundness(&inspection)?;
            Ok::<_, Failure>((inspection, details))
        };
        let inspection = steps.run("index_integrity", Box::pin(look)).await?;
        match &inspection {
            Some(inspection) => {
                steps.run("extensions", async { checks::extensions(inspection) }).await?;
            }
            None => steps.skip("extensions", "index_integrity failed"),
        }
        self.ask(steps, found, &restorer).await
    }

    async fn compare(&self, restorer: &Restorer, source: &BackupSource) -> Result<Comparison> {
        // Whoever names the backup says that nothing was written since.
        let exact = self.args.backup.is_some();
        let options = CompareOptions { source: source.clone(), exact, jobs: self.context.settings.jobs };
        Ok(restorer.compare(&options).await?)
    }

    /// The backup the live database came from, as far as can be told: the one named; else the one that was restored when the
    /// newest kept database was set aside; else the newest.
    async fn came_from(&self, restorer: &Restorer) -> Result<BackupSource> {
        if let Some(name) = self.args.backup.as_deref() {
            let chosen = self.context.choose(Some(name), None, None, Access::Read).await?;
            return chosen.with_keys(self.context).await?.source();
        }
        let keeper = self.context.keeper(Access::Read).await?;
        let catalog = Catalog::load(&keeper).await?;
        let kept = restorer.kept_databases().await.unwrap_or_default();
        let restored = kept.first().and_then(|kept| {
            let restores = |entry: &CatalogEntry| {
                let after = entry.proofs.iter().filter(|proof| {
                    proof.kind == ProofKind::Restore
                        && proof.outcome == ProofOutcome::Good
                        && proof.at >= kept.replaced_at
                });
                after.map(|proof| proof.at).min()
            };
            let candidates = catalog.own().filter_map(|entry| Some((restores(entry)?, entry)));
            candidates.min_by_key(|(at, _)| *at).map(|(_, entry)| entry)
        });
        let entry = match restored {
            Some(entry) => entry,
            None => catalog.pick(&Pick::Latest { class: None })?,
        };
        let entry = entry.clone();
        Chosen { keeper, backup: Backup::Catalogued(entry) }.with_keys(self.context).await?.source()
    }
}
