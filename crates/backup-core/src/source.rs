//! Whose backups lie under a prefix.

use pgkeep_dump::SourceIdentity;
use serde::{Deserialize, Serialize};

use crate::{Keeper, Result};

/// `source.json`: the source of a prefix, created if absent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceRecord {
    /// Its name.
    pub name: String,
    /// Its identity when first seen.
    pub identity: SourceIdentity,
}

impl Keeper {
    /// The source recorded at the destinations, if any is.
    pub async fn source(&self) -> Result<Option<SourceRecord>> {
        unimplemented!()
    }
    /// Checks that `identity` is the recorded source, recording it where nothing is recorded yet.
    /// Another source is refused unless `take_over`, which records the new one.
    pub async fn claim_source(&self, _identity: &SourceIdentity, _name: Option<&str>, _take_over: bool) -> Result<SourceRecord> {
        unimplemented!()
    }
}
