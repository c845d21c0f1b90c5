//! What every operation needs.

use std::sync::Arc;

use pgkeep_metrics::{Event, Observer};
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
    /// This machine's host name: where a backup was made, who holds a lock.
    pub host: String,
    /// This program's name and version, for metas.
    pub tool_version: String,
}

impl Keeper {
    /// Tells the observer of something that is not as it should be.
    pub(crate) fn warn(&self, message: &str) {
        self.observer.notice(&Event::Warning { message: message.to_owned() });
    }

    /// Tells the observer a detail.
    pub(crate) fn detail(&self, message: &str) {
        self.observer.notice(&Event::Detail { message: message.to_owned() });
    }
}
