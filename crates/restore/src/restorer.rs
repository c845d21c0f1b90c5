//! What every restore needs. Its methods stand where their work is: `planning`, `execute`, `recovery`, `rollback`.

use std::path::PathBuf;
use std::sync::Arc;

use pgkeep_core::Clock;
use pgkeep_dump::{ClientTools, ConnectSettings};
use pgkeep_metrics::Observer;
use pgkeep_storage::Storage;
use tokio_util::sync::CancellationToken;

/// Restores to one server. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Restorer {
    /// The server and the live database, with the role that restores.
    pub settings: ConnectSettings,
    /// The installed client tools.
    pub tools: Vec<ClientTools>,
    /// Who hears what happens.
    pub observer: Arc<dyn Observer>,
    /// Ends what is under way, politely: the half-made database is dropped.
    pub cancel: CancellationToken,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// A folder for private files (the table of contents, lists of entries), which are removed in the end.
    pub work: PathBuf,
    /// Where notes about exchanges under way are kept (`.pgkeep/restore/…`), so that the next run can tell what happened.
    /// Recovery works without; it can then not tell that an exchange had been completed.
    pub journal: Option<Arc<dyn Storage>>,
}
