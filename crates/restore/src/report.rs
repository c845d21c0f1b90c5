//! What a restore did.

use std::time::Duration;

use serde::Serialize;

use crate::{BackupFacts, Method};

/// Something that is not as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The table, sequence or item concerned.
    pub subject: String,
    /// What was expected and what was found.
    pub problem: String,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.subject, self.problem)
    }
}

/// What was compared after the load, and what came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ProofReport {
    /// Tables (or partition trees) whose rows and fingerprints were recomputed from the database.
    pub tables: u64,
    /// Their rows.
    pub rows: u64,
    /// Large objects compared.
    pub large_objects: u64,
    /// Sequences compared.
    pub sequences: u64,
    /// Items of the schema compared.
    pub schema_items: u64,
    /// Damage: what came back is not what was there. Empty is a good proof.
    pub differences: Vec<Difference>,
    /// The same data, written differently by this server (another major version, a type without canonical text).
    pub renderings: Vec<Difference>,
    /// What could not be compared, one line each.
    pub unprovable: Vec<String>,
}

impl ProofReport {
    /// Adds what was compared elsewhere.
    pub(crate) fn absorb(&mut self, other: Self) {
        self.tables += other.tables;
        self.rows += other.rows;
        self.large_objects += other.large_objects;
        self.sequences += other.sequences;
        self.schema_items += other.schema_items;
        self.differences.extend(other.differences);
        self.renderings.extend(other.renderings);
        self.unprovable.extend(other.unprovable);
    }
}

/// How long the stages took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct StageTimes {
    /// Verification of the whole backup before anything is touched (in place only).
    pub verify: Duration,
    /// Schema before the data.
    pub pre_data: Duration,
    /// Rows and large objects.
    pub data: Duration,
    /// Indexes, constraints and the rest.
    pub post_data: Duration,
    /// Planner statistics; the proof is begun beside them.
    pub analyze: Duration,
    /// What the proof took longer than the statistics.
    pub proof: Duration,
    /// Settings, grants and the exchange of names.
    pub swap: Duration,
    /// From the first to the last step.
    pub total: Duration,
}

/// What a restore did.
#[derive(Debug, Clone, Serialize)]
pub struct RestoreReport {
    /// The backup.
    pub backup: BackupFacts,
    /// `host:port` or the socket's path.
    pub server: String,
    /// The database that holds the result.
    pub database: String,
    /// How it was reached.
    pub method: Method,
    /// The database that was replaced, under its new name.
    pub kept_as: Option<String>,
    /// The pre-restore snapshot's name.
    pub snapshot: Option<String>,
    /// Tables loaded.
    pub tables: u64,
    /// Rows loaded.
    pub rows: u64,
    /// Bytes of COPY text and large objects loaded.
    pub data_bytes: u64,
    /// Large objects loaded.
    pub large_objects: u64,
    /// Size of the restored database, in bytes.
    pub restored_bytes: u64,
    /// How long it took.
    pub times: StageTimes,
    /// What was compared.
    pub proof: ProofReport,
    /// What was not as it should be, one line each.
    pub warnings: Vec<String>,
}

impl RestoreReport {
    /// SQL that drops the kept database for good, to be shown.
    pub fn drop_statement(&self) -> Option<String> {
        self.kept_as.as_ref().map(|name| format!("DROP DATABASE {};", pgkeep_dump::quote_identifier(name)))
    }
}
