//! Waiting for an archive to come out of an archive tier.

use std::time::Duration;

use pgkeep_storage::{Readiness, ThawTier};
use tokio::time::Instant;

use crate::stop::Stop;
use crate::{BackupSource, Keeper, Result, objects};

/// How an archive is brought out of its tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ThawOptions {
    /// How soon.
    pub tier: ThawTier,
    /// How many days it stays readable.
    pub days: u32,
    /// How often the store is asked whether it is there.
    pub every: Duration,
}

impl ThawOptions {
    /// Readable for three days; asked for each minute, if it comes within minutes each ten seconds.
    pub fn new(tier: ThawTier) -> Self {
        let every = if tier == ThawTier::Expedited { Duration::from_secs(10) } else { Duration::from_mins(1) };
        Self { tier, days: 3, every }
    }
}

impl Keeper {
    /// Brings the archive of `source` out of its archive tier and waits until it can be read; returns at once if it can be.
    /// `waiting` hears, each time the store was asked, how long was waited. Cancelled, it ends; the archive goes on coming.
    pub async fn thaw(
        &self,
        source: &BackupSource,
        options: &ThawOptions,
        mut waiting: impl FnMut(Duration) + Send,
    ) -> Result<()> {
        let stop = Stop::new(&self.cancel, None);
        let began = Instant::now();
        let storage = source.storage.as_ref();
        let readiness = async || storage.readiness(&source.key).await.map_err(objects::at(storage));
        stop.until(async {
            match readiness().await? {
                Readiness::Ready => return Ok(()),
                Readiness::Thawing(_) => {}
                Readiness::Archived(_) => {
                    storage.thaw(&source.key, options.tier, options.days).await.map_err(objects::at(storage))?;
                }
            }
            loop {
                tokio::time::sleep(options.every).await;
                match readiness().await {
                    Ok(Readiness::Ready) => return Ok(()),
                    Ok(Readiness::Thawing(_) | Readiness::Archived(_)) => waiting(began.elapsed()),
                    // Hours are waited for: a store that can't be reached for a while ends nothing.
                    Err(error) if passing(&error) => self.warn(&format!("asked whether it is there: {error}")),
                    Err(error) => return Err(error),
                }
            }
        })
        .await
    }
}

fn passing(error: &crate::Error) -> bool {
    matches!(error, crate::Error::Storage { source, .. } if source.is_retryable())
}
