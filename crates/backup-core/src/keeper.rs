//! What every operation needs.

use std::sync::Arc;

use pgkeep_metrics::Observer;
use tokio_util::sync::CancellationToken;

use crate::{Clock, Destination};

/// One source's repository: its destinations, and what a run listens to. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Keeper {
    /// Where backups are, nearest first.
    pub destinations: Vec<Destination>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Who hears what happens.
    pub observer: Arc<dyn Observer>,
    /// Ends what is under way, politely.
    pub cancel: CancellationToken,
    /// `user@host` or the like: who holds a lock, where a backup was made.
    pub host: String,
    /// This program's name and version, for metas.
    pub tool_version: String,
}
