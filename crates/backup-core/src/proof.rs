//! Proofs: what was verified of a backup, when, with what outcome.

use chrono::{DateTime, Utc};
use pgkeep_storage::{Key, StorageExt};
use serde::{Deserialize, Serialize};

use crate::{CatalogEntry, Error, Keeper, Meta, Result, objects, self_digest};

/// How a backup was verified, least thorough first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProofKind {
    /// Its meta compared with the database it was made of. It says nothing of what is stored, and no other kind says whether all was
    /// dumped: it is no less thorough than they are, but another thing, and comes first only because something must.
    Source,
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
            Self::Source => "source",
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

/// A proof as it is stored: with the archive it is about, so that it is not taken for another's.
#[derive(Serialize, Deserialize)]
struct Stored<P> {
    /// The archive's file name; missing in proofs of older versions.
    backup_file: Option<String>,
    #[serde(flatten)]
    proof: P,
}

impl Proof {
    /// Reads a proof of the archive at this key; the error says in words what is wrong.
    pub(crate) fn read(archive: &str, json: &[u8]) -> std::result::Result<Self, String> {
        let Stored { backup_file, proof } = self_digest::read(json)?;
        let file = archive.rsplit('/').next().unwrap_or(archive);
        match backup_file {
            Some(other) if other != file => Err(format!("it is of another backup: {other}")),
            _ => Ok(proof),
        }
    }

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
    /// Stores a proof beside every copy of the backup. An error only if no destination took it; others are warnings. A copy
    /// that has been removed meanwhile gets none: nobody would ever remove it.
    pub async fn store_proof(&self, entry: &CatalogEntry, proof: &Proof) -> Result<()> {
        let told = proof.stored_beside(&entry.meta);
        let json = self_digest::write(&Stored { backup_file: Some(entry.meta.backup_file.clone()), proof: &told })?;
        let mut taken = 0;
        let mut failure = None;
        for copy in &entry.copies {
            let storage = self.destinations[copy.destination].storage.as_ref();
            let stored = async {
                let meta = Key::new(format!("{}.meta", copy.key))?;
                for attempt in 1.. {
                    let key = proof_key(&copy.key, proof, attempt)?;
                    if objects::create(storage, &key, json.clone()).await? {
                        // Whoever removes a backup removes its meta first, and then the proofs that are there.
                        if !storage.exists(&meta).await.map_err(objects::at(storage))? {
                            storage.delete(&key).await.map_err(objects::at(storage))?;
                        }
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

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = r#"{"kind": "deep", "outcome": "good", "at": "2025-10-18T04:00:00Z", "seconds": 1.5,
        "hostname": "test", "destination": "bucket", "findings": [], "tool_version": "test", "new": {}}"#;

    #[test]
    fn a_proof_is_of_one_backup() {
        let proof = Proof::read("daily/a.dump.zst", OLD.as_bytes()).expect("one of an older version names none");
        assert_eq!((proof.kind, proof.seconds), (ProofKind::Deep, 1.5));
        let stored = Stored { backup_file: Some("a.dump.zst".to_owned()), proof: &proof };
        let json = self_digest::write(&stored).expect("serialises");
        assert_eq!(Proof::read("daily/a.dump.zst", &json), Ok(proof.clone()));
        assert_eq!(Proof::read("a.dump.zst", &json), Ok(proof));
        let refused = Proof::read("daily/b.dump.zst", &json).expect_err("another's");
        assert!(refused.contains("a.dump.zst"), "{refused}");
        assert!(Proof::read("daily/a.dump.zst", &json[..json.len() / 2]).is_err());
    }
}
