//! How things stand, and what a run measured.

use chrono::{DateTime, Utc};
use pgkeep_core::{BackupClass, Catalog, Meta, ProofKind, ProofOutcome};
use pgkeep_metrics::{ClassStanding, Measurement, Metric, RunStanding, Standing, Watch, size_change};

use super::Record;

/// How things stand by the catalog and by what is remembered of runs.
pub(super) fn standing(catalog: &Catalog, record: &Record) -> Standing {
    let class = |class: BackupClass| {
        let mut good = catalog.own().filter(|entry| entry.meta.backup_type == class && entry.good());
        let newest = &good.next()?.meta;
        Some(ClassStanding {
            class: class.to_string(),
            backups: 1 + good.count() as u64,
            last_success: newest.date,
            stored_bytes: newest.stored.bytes,
            plain_bytes: newest.plain.bytes,
            duration_seconds: newest.duration_seconds,
        })
    };
    Standing {
        classes: BackupClass::ALL.into_iter().filter_map(class).collect(),
        last_proof: proven(catalog, ProofKind::Deep),
        last_restore_test: record.last_restore_test,
        runs: runs(&record.watch),
    }
}

fn runs(watch: &Watch) -> Vec<RunStanding> {
    let run = |(operation, watched): (&String, &pgkeep_metrics::Watched)| RunStanding {
        operation: operation.clone(),
        at: watched.at,
        success: watched.failing.is_none(),
    };
    watch.operations.iter().map(run).collect()
}

/// When a backup was last proven at least this thoroughly.
fn proven(catalog: &Catalog, least: ProofKind) -> Option<DateTime<Utc>> {
    catalog
        .own()
        .flat_map(|entry| &entry.proofs)
        .filter(|proof| proof.kind >= least && proof.outcome == ProofOutcome::Good)
        .map(|proof| proof.at)
        .max()
}

/// Takes over what the catalog knows and retention will forget.
pub(super) fn remember(record: &mut Record, catalog: &Catalog) {
    let oldest = catalog.own().map(|entry| entry.meta.date).min();
    record.first_backup = [record.first_backup, oldest].into_iter().flatten().min();
    record.last_restore_test = record.last_restore_test.max(proven(catalog, ProofKind::Restore));
}

/// How old the last restore test is; without any, how long there have been backups.
pub(super) fn restore_test_age(record: &Record, now: DateTime<Utc>) -> Option<Measurement> {
    let since = record.last_restore_test.or(record.first_backup)?;
    let value = (now - since).num_milliseconds().max(0) as f64 / 1_000.0;
    Some(Measurement { metric: Metric::RestoreTestAge, value })
}

/// How the plain size compares with that of earlier backups of the same class and the same part of the database.
pub(super) fn change(catalog: &Catalog, meta: &Meta) -> Option<Measurement> {
    let alike =
        |other: &Meta| other.id != meta.id && other.backup_type == meta.backup_type && other.selects(&meta.selection);
    let earlier = catalog.own().filter(|entry| alike(&entry.meta)).map(|entry| entry.meta.plain.bytes);
    size_change(meta.plain.bytes, earlier).map(|value| Measurement { metric: Metric::BackupSizeChange, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_that_was_never_tested_counts_from_its_first_backup() {
        let now = DateTime::UNIX_EPOCH + chrono::Duration::days(40);
        let age = |record: &Record| restore_test_age(record, now).map(|measurement| measurement.value / 86_400.0);
        let mut record = Record::default();
        assert_eq!(age(&record), None);
        record.first_backup = Some(DateTime::UNIX_EPOCH);
        assert_eq!(age(&record), Some(40.0));
        record.last_restore_test = Some(DateTime::UNIX_EPOCH + chrono::Duration::days(39));
        assert_eq!(age(&record), Some(1.0));
        // Retention removed the backup and its proof: what is remembered counts.
        remember(&mut record, &Catalog::default());
        assert_eq!(age(&record), Some(1.0));
    }
}
