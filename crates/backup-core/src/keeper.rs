//! What every operation needs.

use std::collections::BTreeMap;
use std::sync::Arc;

use pgkeep_metrics::{Discard, Event, Observer};
use pgkeep_storage::Storage;
use tokio_util::sync::CancellationToken;

use crate::{Clock, Destination, Identities, Layout, SystemClock};

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
    /// What opens encrypted backups. None is needed to make one, nor to list, copy and remove them.
    pub identities: Identities,
}

impl Keeper {
    /// A keeper of these destinations, nearest first, run on the machine called `host`: the system's clock, nobody
    /// listening, never cancelled. The fields are there to be set.
    pub fn new(destinations: Vec<Destination>, host: impl Into<String>) -> Self {
        Self {
            destinations,
            clock: Arc::new(SystemClock),
            observer: Arc::new(Discard),
            cancel: CancellationToken::new(),
            host: host.into(),
            tool_version: concat!("pgkeep ", env!("CARGO_PKG_VERSION")).to_owned(),
            identities: Identities::default(),
        }
    }

    /// A keeper of one required destination, named after its location, in the store's default storage class.
    pub fn of(storage: Arc<dyn Storage>, layout: Layout, host: impl Into<String>) -> Self {
        let name = storage.location().to_string();
        let (required, storage_classes, rank) = (true, BTreeMap::new(), 0);
        Self::new(vec![Destination { name, storage, layout, required, storage_classes, rank }], host)
    }

    /// Tells the observer of something that is not as it should be.
    pub(crate) fn warn(&self, message: &str) {
        self.observer.notice(&Event::Warning { message: message.to_owned() });
    }

    /// Tells the observer a detail.
    pub(crate) fn detail(&self, message: &str) {
        self.observer.notice(&Event::Detail { message: message.to_owned() });
    }
}
