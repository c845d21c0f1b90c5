//! What the policy keeps, worked out once more from what is written of it, in the simplest way.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use pgkeep_core::{BackupClass, ClassPolicy};

/// What is known of a backup at one place.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) id: String,
    pub(crate) class: BackupClass,
    /// When it was made, by the clocks; `None` if they contradict each other.
    pub(crate) dated: Option<DateTime<Utc>>,
    /// When it was made, truly.
    pub(crate) made: DateTime<Utc>,
    pub(crate) good: bool,
    pub(crate) proven: bool,
}

type Rules = BTreeMap<BackupClass, ClassPolicy>;

/// What stays, by the documentation: the newest good one, also of those that are no pre-restore snapshots; the newest proven
/// one; the last few good ones of a class; what is younger than its class's days and not more than it may have; and whatever
/// has no rule, is dated in the future, or by clocks that contradict each other. None of the last kind takes another's place.
///
/// Age is what has passed up to the newest backup, of whatever class; between two of them no more than the gap that nine of
/// ten do not exceed.
pub(crate) fn stays(backups: &[Known], rules: &Rules, now: DateTime<Utc>) -> BTreeSet<String> {
    let mut dated: Vec<(DateTime<Utc>, &Known)> =
        backups.iter().filter_map(|backup| Some((backup.dated.filter(|dated| *dated <= now)?, backup))).collect();
    dated.sort_by(|one, other| (other.0, &other.1.id).cmp(&(one.0, &one.1.id)));

    let mut stays: BTreeSet<String> = backups.iter().map(|backup| backup.id.clone()).collect();
    let newest = |wanted: &dyn Fn(&Known) -> bool| {
        dated.iter().find(|(_, backup)| wanted(backup)).map(|(_, backup)| backup.id.as_str())
    };
    let newest = [
        newest(&|backup| backup.good),
        newest(&|backup| backup.good && backup.class != BackupClass::PreRestore),
        newest(&|backup| backup.proven),
    ];
    let mut gaps: Vec<TimeDelta> =
        dated.windows(2).map(|pair| pair[0].0 - pair[1].0).filter(|gap| !gap.is_zero()).collect();
    gaps.sort_unstable();
    let usual = gaps.get(gaps.len().saturating_sub(1) * 9 / 10).copied().unwrap_or_default();
    let mut age = TimeDelta::zero();
    for (index, (when, backup)) in dated.iter().enumerate() {
        if index > 0 {
            age += (dated[index - 1].0 - *when).min(usual);
        }
        let Some(rule) = rules.get(&backup.class) else { continue };
        let newer = dated[..index].iter().filter(|(_, other)| other.good && other.class == backup.class).count() as u32;
        let among = backup.good && newer < rule.at_least;
        let young = rule.days.is_none_or(|days| age <= TimeDelta::days(i64::from(days)));
        let too_many = rule.at_most.is_some_and(|most| newer >= most.max(rule.at_least));
        if !newest.contains(&Some(backup.id.as_str())) && !among && (!young || too_many) {
            stays.remove(&backup.id);
        }
    }
    stays
}

/// What must stay whatever the clocks say: the same by true times, without any clock of retention's own. Where two were made
/// within `tolerance` of each other, clocks that are a little wrong may take one for the other, and neither is counted on.
pub(crate) fn must_stay(
    backups: &[Known],
    rules: &Rules,
    now: DateTime<Utc>,
    tolerance: TimeDelta,
) -> BTreeSet<String> {
    let none_newer = |backup: &Known, wanted: &dyn Fn(&Known) -> bool| {
        wanted(backup)
            && !backups
                .iter()
                .any(|other| other.id != backup.id && wanted(other) && other.made > backup.made - tolerance)
    };
    let stays = |backup: &&Known| {
        let Some(rule) = rules.get(&backup.class) else { return true };
        let newer = |least: DateTime<Utc>| {
            let alike =
                backups.iter().filter(|other| other.good && other.class == backup.class && other.id != backup.id);
            alike.filter(|other| other.made > least).count() as u32
        };
        let perhaps_newer = newer(backup.made - tolerance);
        let among = backup.good && perhaps_newer < rule.at_least;
        let age = now - backup.made + tolerance;
        let young = rule.days.is_none_or(|days| age <= TimeDelta::days(i64::from(days)));
        let room = rule.at_most.is_none_or(|most| perhaps_newer < most.max(rule.at_least));
        none_newer(backup, &|other| other.good)
            || none_newer(backup, &|other| other.good && other.class != BackupClass::PreRestore)
            || none_newer(backup, &|other| other.proven)
            || among
            || young && room
    };
    backups.iter().filter(stays).map(|backup| backup.id.clone()).collect()
}
