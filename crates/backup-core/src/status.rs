//! Would the data come back, how old would it be, how long would it take: told from the catalog, without the database.

mod judge;
#[cfg(test)]
mod tests;

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::schedule::{GRACE, Schedule};
use crate::{BackupClass, Catalog, CatalogEntry, Keeper, Policy, Proof, ProofKind, ProofOutcome, Result, SourceRecord};

/// What backups are held to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Objectives {
    /// How much work may be lost: the age of the newest backup.
    #[serde(rename = "rpo_seconds", serialize_with = "seconds")]
    pub rpo: Duration,
    /// How long a restore may take.
    #[serde(rename = "rto_seconds", serialize_with = "seconds")]
    pub rto: Duration,
    /// How much later than that, or than its schedule, a backup may be done.
    #[serde(rename = "grace_seconds", serialize_with = "seconds")]
    pub grace: Duration,
    /// How old the last proof of a content, and the last restore that was tried out, may be.
    #[serde(rename = "proof_age_seconds", serialize_with = "seconds")]
    pub proof_age: Duration,
    /// When backups are made.
    pub schedule: Schedule,
}

impl Default for Objectives {
    /// A day, two hours, the schedule's grace, 30 days, the default schedule.
    fn default() -> Self {
        Self {
            rpo: Duration::from_hours(24),
            rto: Duration::from_hours(2),
            grace: GRACE,
            proof_age: Duration::from_hours(30 * 24),
            schedule: Schedule::default(),
        }
    }
}

fn seconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(duration.as_secs())
}

/// How backups stand, at one moment. Everything in it is told from stored metas and proofs.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// The moment.
    pub at: DateTime<Utc>,
    /// Whose backups they are, once there is one.
    pub source: Option<SourceRecord>,
    /// What they are held to.
    pub objectives: Objectives,
    /// The newest backup that a restore would take.
    pub newest: Option<BackupState>,
    /// The scheduled classes, and the snapshots before restores where there are any.
    pub classes: Vec<ClassState>,
    /// The newest good proof of a content, deep or by a restore, and of which backup.
    pub last_proof: Option<ProofState>,
    /// The newest restore that was tried out and good.
    pub last_restore: Option<ProofState>,
    /// How long a restore of the newest backup takes by that measurement, in seconds; grown with the backup where that is
    /// bigger now.
    pub restore_seconds: Option<f64>,
    /// The places.
    pub places: Vec<PlaceState>,
    /// What is wrong, worst first.
    pub problems: Vec<Problem>,
    /// Every backup of this source, newest first.
    pub history: Vec<BackupState>,
}

/// One backup.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BackupState {
    /// Its name.
    pub id: String,
    /// Its class.
    pub class: BackupClass,
    /// The data is as of then.
    pub snapshot_at: DateTime<Utc>,
    /// How old that is, in seconds; 0 if it is in the future.
    pub age_seconds: u64,
    /// Stored bytes.
    pub stored_bytes: u64,
    /// Plain bytes.
    pub plain_bytes: u64,
    /// How long it took to make, in seconds.
    pub duration_seconds: u64,
    /// Whether a copy is whole and not found damaged.
    pub good: bool,
    /// The places that have a copy.
    pub places: Vec<String>,
    /// What was verified of it, newest first.
    pub proofs: Vec<ProofState>,
}

/// One proof.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProofState {
    /// The backup.
    pub backup: String,
    /// How.
    pub kind: ProofKind,
    /// With what outcome.
    pub outcome: ProofOutcome,
    /// When.
    pub at: DateTime<Utc>,
    /// How long ago, in seconds; 0 if it is in the future.
    pub age_seconds: u64,
    /// How long it took, in seconds: of a restore, the restore.
    pub seconds: f64,
    /// The copy that was read.
    pub place: String,
    /// What was found, one line each.
    pub findings: Vec<String>,
}

/// One class of backups.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassState {
    /// Which.
    pub class: BackupClass,
    /// The newest good one.
    pub newest: Option<BackupState>,
    /// How many there are.
    pub backups: u64,
    /// How much its plain bytes differ from the median of those before it, in percent.
    pub size_change_percent: Option<f64>,
    /// The schedule as an expression, in UTC.
    pub schedule: Option<String>,
    /// When the next one is to be made.
    pub next_run: Option<DateTime<Utc>>,
    /// Until when the next one must be there.
    pub due_by: Option<DateTime<Utc>>,
    /// Whether that has passed. A class that never had a backup is not overdue.
    pub overdue: bool,
}

/// One place where backups are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlaceState {
    /// Its name: `local`, `bucket`.
    pub name: String,
    /// Where it is.
    pub location: String,
    /// Whether a run fails when this place does.
    pub required: bool,
    /// Why it could not be listed.
    pub unreachable: Option<String>,
    /// Backups it has.
    pub backups: u64,
    /// Their stored bytes.
    pub stored_bytes: u64,
    /// Copies here that are damaged or incomplete.
    pub damaged: u64,
    /// Backups it should have and has not; the next run copies them.
    pub missing: Vec<String>,
}

/// How bad something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The data may not come back, or not as it should.
    Critical,
    /// Somebody should look.
    Warning,
    /// Worth knowing.
    Note,
}

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ProblemKind {
    /// There is no good backup.
    NoBackup,
    /// The newest backup is older than the objective.
    Overdue,
    /// The newest of a class is older than its schedule lets it be.
    ClassOverdue,
    /// No content was proven for too long.
    Unproven,
    /// A copy is damaged or incomplete.
    Damaged,
    /// The last restore that was tried out failed.
    RestoreFailed,
    /// No restore was tried out for too long.
    RestoreTestMissing,
    /// A restore takes longer than the objective.
    TooSlow,
    /// The newest backup is much smaller than those before it.
    SizeDrop,
    /// A place lacks backups it should have.
    CopyMissing,
    /// A place could not be listed.
    PlaceUnreachable,
    /// Something stored could not be read.
    Unreadable,
    /// The objective cannot be kept with this schedule.
    ScheduleTooSparse,
    /// The newest backup is of a time to come.
    Clock,
    /// The database server could not be asked.
    DatabaseUnreachable,
    /// An old database is kept from a restore.
    KeptDatabase,
    /// An interrupted run left something behind.
    Leftover,
}

/// Something that is wrong, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// How bad.
    pub severity: Severity,
    /// What.
    pub kind: ProblemKind,
    /// What, in one line.
    pub message: String,
    /// What to do, in one line.
    pub advice: String,
}

impl Problem {
    /// A problem.
    pub fn new(severity: Severity, kind: ProblemKind, message: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { severity, kind, message: message.into(), advice: advice.into() }
    }
}

impl Keeper {
    /// How backups stand now. Lists every destination and reads metas and proofs; writes nothing. An error only if no
    /// destination could be listed.
    pub async fn status(&self, objectives: &Objectives, policy: &Policy) -> Result<Status> {
        let catalog = Catalog::load(self).await?;
        Ok(self.status_of(&catalog, objectives, policy))
    }

    /// The same of a catalog that was loaded.
    pub fn status_of(&self, catalog: &Catalog, objectives: &Objectives, policy: &Policy) -> Status {
        let now = self.clock.now();
        let history: Vec<BackupState> = catalog.own().map(|entry| BackupState::of(entry, now)).collect();
        let newest = history.iter().find(|backup| backup.good && backup.class != BackupClass::PreRestore).cloned();
        let good_proofs = |least: ProofKind| {
            let proofs = history.iter().flat_map(|backup| &backup.proofs);
            let good = proofs.filter(move |proof| proof.outcome == ProofOutcome::Good && proof.kind >= least);
            good.max_by_key(|proof| proof.at).cloned()
        };
        let last_restore = good_proofs(ProofKind::Restore);
        let mut status = Status {
            at: now,
            source: catalog.source.clone(),
            objectives: objectives.clone(),
            restore_seconds: restore_seconds(&history, newest.as_ref(), last_restore.as_ref()),
            classes: judge::classes(&history, objectives, now),
            last_proof: good_proofs(ProofKind::Deep),
            last_restore,
            newest,
            places: self.places(catalog, policy),
            problems: Vec::new(),
            history,
        };
        status.problems = judge::problems(&status, catalog);
        status
    }

    fn places(&self, catalog: &Catalog, policy: &Policy) -> Vec<PlaceState> {
        let place = |(index, destination): (usize, &crate::Destination)| {
            let here = |entry: &&CatalogEntry| entry.copies.iter().any(|copy| copy.destination == index);
            let unreachable =
                catalog.incomplete.iter().find(|(name, _)| *name == destination.name).map(|(_, reason)| reason.clone());
            let missing = if unreachable.is_none() && destination.required {
                self.missing(catalog, index, Some(policy))
            } else {
                Vec::new()
            };
            PlaceState {
                name: destination.name.clone(),
                location: destination.storage.location().to_string(),
                required: destination.required,
                unreachable,
                backups: catalog.own().filter(here).count() as u64,
                stored_bytes: catalog.own().filter(here).map(|entry| entry.meta.stored.bytes).sum(),
                damaged: catalog.own().filter(|entry| here(entry) && !entry.good_at(index)).count() as u64,
                missing: missing.into_iter().map(|entry| entry.meta.id.to_string()).collect(),
            }
        };
        self.destinations.iter().enumerate().map(place).collect()
    }
}

impl BackupState {
    fn of(entry: &CatalogEntry, now: DateTime<Utc>) -> Self {
        let meta = &entry.meta;
        Self {
            id: meta.id.to_string(),
            class: meta.backup_type,
            snapshot_at: meta.snapshot_time,
            age_seconds: age(meta.snapshot_time, now),
            stored_bytes: meta.stored.bytes,
            plain_bytes: meta.plain.bytes,
            duration_seconds: meta.duration_seconds,
            good: entry.good(),
            places: entry.copies.iter().map(|copy| copy.name.clone()).collect(),
            proofs: entry.proofs.iter().map(|proof| ProofState::of(&meta.id.to_string(), proof, now)).collect(),
        }
    }
}

impl ProofState {
    fn of(backup: &str, proof: &Proof, now: DateTime<Utc>) -> Self {
        Self {
            backup: backup.to_owned(),
            kind: proof.kind,
            outcome: proof.outcome,
            at: proof.at,
            age_seconds: age(proof.at, now),
            seconds: proof.seconds,
            place: proof.destination.clone(),
            findings: proof.findings.clone(),
        }
    }
}

fn age(then: DateTime<Utc>, now: DateTime<Utc>) -> u64 {
    (now - then).num_seconds().try_into().unwrap_or(0)
}

/// By the last restore that was measured, grown with the backup where that is bigger now.
fn restore_seconds(
    history: &[BackupState],
    newest: Option<&BackupState>,
    measured: Option<&ProofState>,
) -> Option<f64> {
    let measured = measured?;
    let bytes = history.iter().find(|backup| backup.id == measured.backup)?.plain_bytes;
    let growth = newest.map_or(1.0, |newest| newest.plain_bytes as f64 / bytes.max(1) as f64);
    Some(measured.seconds * growth.max(1.0))
}
