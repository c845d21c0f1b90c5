//! Proofs: what was verified of a backup, when, with what outcome.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use pgkeep_storage::{Created, Key};
use serde::{Deserialize, Serialize};

use crate::{CatalogEntry, Error, Keeper, Meta, Result, objects};

/// How a backup was verified, least thorough first.
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

impl ProofKind {
    /// The word in file names and on screens.
    pub fn word(self) -> &'static str {
        match self {
            Self::Quick => "quick",
            Self::Stored => "stored",
            Self::Deep => "deep",
            Self::Restore => "restore",
        }
    }
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

impl Proof {
    /// As it is stored: findings name tables, which lie open nowhere beside an encrypted backup.
    fn stored_beside(&self, meta: &Meta) -> Self {
        if meta.encryption.is_none() || self.findings.is_empty() {
            return self.clone();
        }
        let findings = vec![format!("{} findings; the log of the run that made them names them", self.findings.len())];
        Self { findings, ..self.clone() }
    }
}

impl Keeper {
    /// Stores a proof beside every copy of the backup. An error only if no destination took it; others are warnings.
    pub async fn store_proof(&self, entry: &CatalogEntry, proof: &Proof) -> Result<()> {
        let told = proof.stored_beside(&entry.meta);
        let json = Bytes::from(serde_json::to_vec_pretty(&told).map_err(|error| Error::Task(error.to_string()))?);
        let mut taken = 0;
        let mut failure = None;
        for copy in &entry.copies {
            let storage = self.destinations[copy.destination].storage.as_ref();
            let stored = async {
                for attempt in 1.. {
                    let created = storage.create(&proof_key(&copy.key, proof, attempt)?, json.clone()).await;
                    if created.map_err(objects::at(storage))? == Created::Created {
                        break;
                    }
                }
                Ok::<_, Error>(())
            };
            match stored.await {
                Ok(()) => taken += 1,
                Err(error) => {
                    self.warn(&format!("the proof could not be stored at {}: {error}", copy.name));
                    failure = Some(error);
                }
            }
        }
        match failure {
            Some(error) if taken == 0 => Err(error),
            _ => Ok(()),
        }
    }
}

fn proof_key(archive: &Key, proof: &Proof, attempt: u32) -> Result<Key> {
    let (stamp, word) = (proof.at.format("%Y%m%d_%H%M%S"), proof.kind.word());
    let suffix = if attempt > 1 { format!("_{attempt}") } else { String::new() };
    Ok(Key::new(format!("{archive}.proofs/{stamp}_{word}{suffix}.json"))?)
}
