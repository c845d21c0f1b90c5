//! Proofs: what was verified of a backup, when, with what outcome.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{CatalogEntry, Keeper, Result};

/// How a backup was verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProofKind {
    /// Present, size and the store's own checksum.
    Quick,
    /// Every stored byte read, digest compared.
    Stored,
    /// Decompressed, parsed to the end, rows and fingerprints recounted.
    Deep,
    /// Restored, and what came back compared.
    Restore,
}

/// With what outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProofOutcome {
    /// All was as it should be.
    Good,
    /// Something was not.
    Bad,
}

/// One proof, stored below `<archive>.proofs/`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Proof {
    /// How.
    pub kind: ProofKind,
    /// With what outcome.
    pub outcome: ProofOutcome,
    /// When it was begun.
    pub at: DateTime<Utc>,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// Where.
    pub hostname: String,
    /// The copy that was read: a destination's name.
    pub destination: String,
    /// What was found, one line each.
    pub findings: Vec<String>,
    /// Program that wrote it.
    pub tool_version: String,
}

impl Keeper {
    /// Stores a proof beside every copy of the backup (best effort; at least one must take it).
    pub async fn store_proof(&self, _entry: &CatalogEntry, _proof: &Proof) -> Result<()> {
        unimplemented!()
    }
}
