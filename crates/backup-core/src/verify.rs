//! Verifying a stored backup.

use serde::Serialize;

use crate::{CatalogEntry, Keeper, Proof, Result};

/// How deep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum VerifyDepth {
    /// Present, size and the store's own checksum; nothing is downloaded.
    Quick,
    /// Every stored byte read, digests compared.
    Stored,
    /// Decompressed, parsed to the end, rows and fingerprints recounted.
    Deep,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VerifyFinding {
    /// The object or table.
    pub subject: String,
    /// What was expected and what was found.
    pub problem: String,
}

/// What a verification found.
#[derive(Debug, Clone, Serialize)]
pub struct VerifyReport {
    /// The backup.
    pub id: String,
    /// The copy: a destination's name.
    pub destination: String,
    /// How deep.
    pub depth: VerifyDepth,
    /// Nothing here means that all is well.
    pub findings: Vec<VerifyFinding>,
    /// Stored bytes read.
    pub stored_bytes: u64,
    /// Rows recounted.
    pub rows: u64,
    /// Tables recounted.
    pub tables: u64,
    /// The proof that was written.
    pub proof: Proof,
}

impl Keeper {
    /// Verifies every copy of a backup, writes a proof for each, and reports per copy.
    pub async fn verify(&self, _entry: &CatalogEntry, _depth: VerifyDepth) -> Result<Vec<VerifyReport>> {
        unimplemented!()
    }
}
