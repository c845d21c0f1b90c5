//! What was measured, as lines of JSON beside the document: tables and plot are made from them, also from those of
//! databases that were not measured this time.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::Outcome;
use crate::databases::Database;

/// The file's name.
const FILE: &str = "benchmarks.jsonl";

/// One line.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Record {
    /// Of a database and the machine.
    Facts(Facts),
    /// Of a contender.
    Runs(Runs),
    /// Of one small table.
    OneTable(OneTable),
}

/// A database and where it was measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Facts {
    pub(crate) database: String,
    pub(crate) major: u16,
    pub(crate) cores: usize,
    pub(crate) jobs: usize,
    pub(crate) scale: f64,
    pub(crate) size_bytes: u64,
    /// Of the archive without compression.
    pub(crate) plain_bytes: u64,
}

impl Facts {
    /// Whether figures of both may stand side by side; of different databases they always may.
    fn is_like(&self, other: &Self) -> bool {
        let circumstances = |facts: &Self| (facts.major, facts.cores, facts.jobs, facts.scale.to_bits());
        self.database != other.database || circumstances(self) == circumstances(other)
    }
}

/// What is run in turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Group {
    BackupDisk,
    BackupBucket,
    RestoreDisk,
    RestoreBucket,
}

impl Group {
    /// In the order in which they are told of.
    pub(crate) const ALL: [Self; 4] = [Self::BackupDisk, Self::BackupBucket, Self::RestoreDisk, Self::RestoreBucket];

    /// As a heading.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::BackupDisk => "Backup to disk",
            Self::BackupBucket => "Backup to the bucket",
            Self::RestoreDisk => "Restore from disk",
            Self::RestoreBucket => "Restore out of the bucket",
        }
    }
}

/// A contender's runs: columns, one value per round.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Runs {
    pub(crate) database: String,
    pub(crate) group: Group,
    pub(crate) contender: String,
    pub(crate) wall_seconds: Vec<f64>,
    pub(crate) client_cpu_seconds: Vec<f64>,
    pub(crate) peak_kib: Vec<u64>,
    pub(crate) stored_bytes: Option<u64>,
    /// How much of the wall time had gone at the end of post-data, where that is known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) to_post_data_seconds: Vec<f64>,
}

/// What it took to get one small table out of the bucket.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct OneTable {
    pub(crate) database: String,
    pub(crate) table: String,
    pub(crate) rows: u64,
    pub(crate) table_plain_bytes: u64,
    /// Of the frames that hold the table; others may be in them too.
    pub(crate) table_stored_bytes: u64,
    pub(crate) contents_plain_bytes: u64,
    /// Of the frames that hold the table of contents.
    pub(crate) contents_stored_bytes: u64,
    pub(crate) meta_bytes: u64,
    pub(crate) archive_bytes: u64,
    pub(crate) fetches: Vec<Fetch>,
}

/// One way to get it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Fetch {
    pub(crate) way: String,
    pub(crate) fetched_bytes: u64,
    pub(crate) wall_seconds: f64,
}

impl Record {
    fn database(&self) -> &str {
        match self {
            Self::Facts(facts) => &facts.database,
            Self::Runs(runs) => &runs.database,
            Self::OneTable(table) => &table.database,
        }
    }

    /// Whether it says anew what `other` said: of a group all contenders go at once.
    fn replaces(&self, other: &Self) -> bool {
        self.database() == other.database()
            && match (self, other) {
                (Self::Facts(_), Self::Facts(_)) | (Self::OneTable(_), Self::OneTable(_)) => true,
                (Self::Runs(runs), Self::Runs(old)) => runs.group == old.group,
                _ => false,
            }
    }
}

/// Everything that was ever measured, the latest of each.
#[derive(Debug, Clone, Default)]
pub(crate) struct Figures(Vec<Record>);

impl Figures {
    /// Those that lie beside the document, if any.
    pub(crate) fn beside(document: &Path) -> Outcome<Self> {
        let path = document.with_file_name(FILE);
        if !path.exists() {
            return Ok(Self::default());
        }
        let text = std::fs::read_to_string(path)?;
        Ok(Self(text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?))
    }

    /// Writes them there: by database, in the order of the document.
    pub(crate) fn write_beside(&self, document: &Path) -> Outcome {
        let mut text = String::new();
        for database in Database::ALL {
            for record in self.0.iter().filter(|record| record.database() == database.name()) {
                text.push_str(&serde_json::to_string(record)?);
                text.push('\n');
            }
        }
        Ok(std::fs::write(document.with_file_name(FILE), text)?)
    }

    /// Takes in what was measured now. What was measured of a database in other circumstances goes: no table tells of both.
    pub(crate) fn replace(&mut self, new: Vec<Record>) {
        let strangers: Vec<String> = new
            .iter()
            .filter_map(|record| match record {
                Record::Facts(now) => Some(now),
                _ => None,
            })
            .filter(|now| self.0.iter().any(|old| matches!(old, Record::Facts(old) if !old.is_like(now))))
            .map(|now| now.database.clone())
            .collect();
        self.0.retain(|old| {
            !strangers.iter().any(|database| database == old.database())
                && !new.iter().any(|record| record.replaces(old))
        });
        self.0.extend(new);
    }

    /// What is known of a database, if it was measured.
    pub(crate) fn facts(&self, database: Database) -> Option<&Facts> {
        self.0.iter().find_map(|record| match record {
            Record::Facts(facts) if facts.database == database.name() => Some(facts),
            _ => None,
        })
    }

    /// Its contenders of a group, ours first.
    pub(crate) fn runs(&self, database: Database, group: Group) -> Vec<&Runs> {
        let runs = self.0.iter().filter_map(|record| match record {
            Record::Runs(runs) if runs.database == database.name() && runs.group == group => Some(runs),
            _ => None,
        });
        runs.collect()
    }

    /// Its small table.
    pub(crate) fn one_table(&self, database: Database) -> Option<&OneTable> {
        self.0.iter().find_map(|record| match record {
            Record::OneTable(table) if table.database == database.name() => Some(table),
            _ => None,
        })
    }
}

/// The middle of some values; of an even number, between the two in the middle.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}
