//! Retention: a pure function from backups, policy and time to keep or remove, with reasons (law 6).
//!
//! Age is measured on a clock of its own, which between two backups never advances by more than the class's usual
//! gap: a system that was off for a month, or whose clock jumped by a year, has aged by one gap. On the usual
//! schedule the two clocks agree. A jump can therefore only keep more, never remove more.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::{BackupClass, BackupId};

/// What is kept of one class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassPolicy {
    /// Days a backup is kept; `None` is forever.
    pub days: Option<u32>,
    /// Never fewer than this many good ones, however old.
    pub at_least: u32,
    /// Never more than this many; `None` is no limit. Never below `at_least`.
    pub at_most: Option<u32>,
}

/// What is kept, per destination name and class.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// By destination name; `*` is any other.
    pub destinations: BTreeMap<String, BTreeMap<BackupClass, ClassPolicy>>,
}

impl Policy {
    /// The rules of one destination; empty (keep everything) where neither its name nor `*` is there.
    pub fn rules(&self, destination: &str) -> BTreeMap<BackupClass, ClassPolicy> {
        self.destinations.get(destination).or_else(|| self.destinations.get("*")).cloned().unwrap_or_default()
    }
}

/// What retention needs to know of one backup at one destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keep {
    /// Its name.
    pub id: BackupId,
    /// Its class.
    pub class: BackupClass,
    /// When it was begun.
    pub begun: DateTime<Utc>,
    /// Not known to be damaged.
    pub good: bool,
    /// Verified deep or by restore, well, and not found bad since.
    pub proven: bool,
    /// It holds all data of the database. Those that hold a part are counted for themselves: neither kind pushes out the other.
    pub whole: bool,
}

/// Why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Younger than its class's days.
    Young,
    /// Among the class's last `at_least` good ones.
    Among(u32),
    /// The newest good backup of all, or the newest good one that is no pre-restore snapshot.
    NewestGood,
    /// The newest proven backup of all.
    NewestProven,
    /// The newest good or proven one of those that hold a part of the database.
    NewestPart,
    /// Its time is in the future: a clock is wrong, so nothing is decided on it.
    Future,
    /// No rule for its class.
    NoRule,
    /// Older than its class's days.
    Expired,
    /// More than the class's `at_most`.
    Excess,
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Young => f.write_str("young enough"),
            Self::Among(count) => write!(f, "among the last {count} of its class"),
            Self::NewestGood => f.write_str("the newest good backup"),
            Self::NewestProven => f.write_str("the newest proven backup"),
            Self::NewestPart => f.write_str("the newest good backup of a part"),
            Self::Future => f.write_str("dated in the future"),
            Self::NoRule => f.write_str("no rule for its class"),
            Self::Expired => f.write_str("expired"),
            Self::Excess => f.write_str("more than the class keeps"),
        }
    }
}

/// Keep or remove.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Decision {
    /// The backup.
    pub id: BackupId,
    /// Whether it stays.
    pub keep: bool,
    /// Why.
    pub reasons: Vec<Reason>,
}

/// Every decision, in the order of the backups given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RetentionPlan {
    /// The decisions.
    pub decisions: Vec<Decision>,
}

impl RetentionPlan {
    /// Decides. The result depends on nothing but its arguments, and not on the order of `backups`.
    pub fn new(backups: &[Keep], rules: &BTreeMap<BackupClass, ClassPolicy>, now: DateTime<Utc>) -> Self {
        let scheduled = |backup: &Keep| backup.good && backup.class != BackupClass::PreRestore;
        let newest_good = newest(backups, |backup| backup.whole && backup.good);
        let newest_scheduled = newest(backups, |backup| backup.whole && scheduled(backup));
        let newest_proven = newest(backups, |backup| backup.whole && backup.proven);
        let newest_parts = [
            newest(backups, |backup| !backup.whole && backup.good),
            newest(backups, |backup| !backup.whole && scheduled(backup)),
            newest(backups, |backup| !backup.whole && backup.proven),
        ];
        let ages = BackupClass::ALL.map(|class| Ages::of(backups, class, now));

        let decide = |backup: &Keep| {
            let mut keep = Vec::new();
            let mut remove = Vec::new();
            if [newest_good, newest_scheduled].contains(&Some(&backup.id)) {
                keep.push(Reason::NewestGood);
            }
            if newest_proven == Some(&backup.id) {
                keep.push(Reason::NewestProven);
            }
            if newest_parts.contains(&Some(&backup.id)) {
                keep.push(Reason::NewestPart);
            }
            if backup.begun > now {
                keep.push(Reason::Future);
            }
            match rules.get(&backup.class) {
                None => keep.push(Reason::NoRule),
                Some(rule) => {
                    let rank = rank(backups, backup);
                    if backup.good && rank < rule.at_least {
                        keep.push(Reason::Among(rule.at_least));
                    }
                    let age = ages.iter().find_map(|ages| ages.age(backup)).unwrap_or_default();
                    let young = rule.days.is_none_or(|days| age <= TimeDelta::days(i64::from(days)));
                    let excess = rule.at_most.is_some_and(|most| rank >= most.max(rule.at_least));
                    match (young, excess) {
                        (true, false) => keep.push(Reason::Young),
                        (true, true) => remove.push(Reason::Excess),
                        (false, _) => remove.push(Reason::Expired),
                    }
                }
            }
            if keep.is_empty() {
                Decision { id: backup.id.clone(), keep: false, reasons: remove }
            } else {
                Decision { id: backup.id.clone(), keep: true, reasons: keep }
            }
        };
        Self { decisions: backups.iter().map(decide).collect() }
    }

    /// The backups to remove.
    pub fn removals(&self) -> impl Iterator<Item = &Decision> {
        self.decisions.iter().filter(|decision| !decision.keep)
    }
}

/// Order of age: time, then name, so that it is total.
fn order(backup: &Keep) -> (DateTime<Utc>, &BackupId) {
    (backup.begun, &backup.id)
}

fn newest(backups: &[Keep], wanted: impl Fn(&Keep) -> bool) -> Option<&BackupId> {
    backups.iter().filter(|backup| wanted(backup)).max_by_key(|backup| order(backup)).map(|backup| &backup.id)
}

/// How many good backups of the same class are newer, all of them whole or all of them not.
fn rank(backups: &[Keep], of: &Keep) -> u32 {
    let alike = |other: &&Keep| (other.class, other.whole) == (of.class, of.whole);
    backups.iter().filter(alike).filter(|other| other.good && order(other) > order(of)).count() as u32
}

/// Ages of one class's backups on retention's own clock.
struct Ages {
    class: BackupClass,
    /// (begun, age), newest first.
    ages: Vec<(DateTime<Utc>, TimeDelta)>,
}

impl Ages {
    fn of(backups: &[Keep], class: BackupClass, now: DateTime<Utc>) -> Self {
        let mut times: Vec<_> = backups
            .iter()
            .filter(|backup| backup.class == class && backup.begun <= now)
            .map(|backup| backup.begun)
            .collect();
        times.sort_unstable_by(|one, other| other.cmp(one));
        times.dedup();
        let usual = usual_gap(&times);
        let capped = |gap: TimeDelta| usual.map_or(gap, |usual| gap.min(usual));
        let mut ages = Vec::with_capacity(times.len());
        let mut age = TimeDelta::zero();
        let mut later = now;
        for time in times {
            age += capped(later - time);
            later = time;
            ages.push((time, age));
        }
        Self { class, ages }
    }

    fn age(&self, backup: &Keep) -> Option<TimeDelta> {
        let own = backup.class == self.class;
        own.then(|| self.ages.iter().find(|(begun, _)| *begun == backup.begun).map(|&(_, age)| age)).flatten()
    }
}

/// The gap that nine of ten gaps do not exceed, never the longest one where there are two or more: weekends of a weekday
/// schedule count in full, a jump does not.
fn usual_gap(newest_first: &[DateTime<Utc>]) -> Option<TimeDelta> {
    let mut gaps: Vec<_> = newest_first.windows(2).map(|pair| pair[0] - pair[1]).collect();
    gaps.sort_unstable();
    let last = gaps.len().checked_sub(1)?;
    Some(gaps[last * 9 / 10])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(hours: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_700_000_000 + hours * 3600, 0).expect("a time in range")
    }

    fn daily(day: i64) -> Keep {
        let begun = at(day * 24);
        let class = BackupClass::Daily;
        Keep { id: BackupId::new(class, begun, 1), class, begun, good: true, proven: false, whole: true }
    }

    fn rules(days: u32, at_least: u32) -> BTreeMap<BackupClass, ClassPolicy> {
        BackupClass::ALL
            .into_iter()
            .map(|class| (class, ClassPolicy { days: Some(days), at_least, at_most: None }))
            .collect()
    }

    fn removed(backups: &[Keep], rules: &BTreeMap<BackupClass, ClassPolicy>, now: DateTime<Utc>) -> usize {
        RetentionPlan::new(backups, rules, now).removals().count()
    }

    #[test]
    fn thirty_days_of_daily_backups_keep_thirty_one() {
        let backups: Vec<_> = (0..60).map(daily).collect();
        assert_eq!(removed(&backups, &rules(30, 7), at(59 * 24)), 29);
    }

    #[test]
    fn the_last_seven_stay_however_old() {
        let backups: Vec<_> = (0..7).map(|day| daily(day * 100)).collect();
        assert_eq!(removed(&backups, &rules(1, 7), at(100_000)), 0);
    }

    #[test]
    fn being_off_for_a_month_removes_nothing_more() {
        let backups: Vec<_> = (0..30).map(daily).collect();
        assert_eq!(removed(&backups, &rules(30, 1), at(29 * 24)), 0);
        assert_eq!(removed(&backups, &rules(30, 1), at(29 * 24 + 31 * 24)), 0);
    }

    #[test]
    fn damaged_ones_do_not_count_among_the_last_seven() {
        let mut backups: Vec<_> = (0..20).map(daily).collect();
        for backup in &mut backups[10..] {
            backup.good = false;
        }
        let plan = RetentionPlan::new(&backups, &rules(1, 7), at(400 * 24));
        assert!(plan.decisions[3..10].iter().all(|decision| decision.keep), "{plan:?}");
    }

    #[test]
    fn backups_of_a_part_push_no_whole_one_out() {
        let mut backups: Vec<_> = (0..40).map(daily).collect();
        for backup in &mut backups[5..] {
            backup.whole = false;
        }
        let plan = RetentionPlan::new(&backups, &rules(3, 4), at(39 * 24));
        let kept: Vec<_> = (0..40).filter(|&day| plan.decisions[day].keep).collect();
        assert_eq!(kept, [1, 2, 3, 4, 36, 37, 38, 39]);
        assert!(plan.decisions[4].reasons.contains(&Reason::NewestGood), "{plan:?}");
        assert!(plan.decisions[39].reasons.contains(&Reason::NewestPart), "{plan:?}");
    }

    #[test]
    fn without_a_rule_everything_stays() {
        let backups: Vec<_> = (0..20).map(daily).collect();
        assert_eq!(removed(&backups, &BTreeMap::new(), at(100_000)), 0);
    }

    #[test]
    fn at_most_limits_the_number() {
        let backups: Vec<_> = (0..20).map(daily).collect();
        let rules = BTreeMap::from([(BackupClass::Daily, ClassPolicy { days: None, at_least: 2, at_most: Some(5) })]);
        assert_eq!(removed(&backups, &rules, at(20 * 24)), 15);
    }

    #[test]
    fn a_weekday_schedule_ages_through_weekends() {
        let weekdays: Vec<_> = (0..70).filter(|day| day % 7 < 5).map(daily).collect();
        let plan = RetentionPlan::new(&weekdays, &rules(30, 1), at(67 * 24));
        for (backup, decision) in weekdays.iter().zip(&plan.decisions) {
            assert_eq!(decision.keep, backup.begun >= at(37 * 24), "{decision:?}");
        }
    }

    prop_compose! {
        fn backup()(class in 0..4usize, hour in 0..20_000i64, good in any::<bool>(), proven in any::<bool>(), whole in any::<bool>()) -> Keep {
            let (class, begun) = (BackupClass::ALL[class], at(hour));
            Keep { id: BackupId::new(class, begun, 1), class, begun, good, proven: good && proven, whole }
        }
    }

    fn history() -> impl Strategy<Value = Vec<Keep>> {
        prop::collection::vec(backup(), 0..60).prop_map(|mut all| {
            all.sort_by(|one, other| one.id.cmp(&other.id));
            all.dedup_by(|one, other| one.id == other.id);
            all
        })
    }

    proptest! {
        /// Law 6: the newest good backup and the newest proven one always survive.
        #[test]
        fn newest_good_and_newest_proven_survive(backups in history(), days in 0..60u32, at_least in 0..5u32, most in 0..5u32, now in -1000..60_000i64) {
            let mut rules = rules(days, at_least);
            for rule in rules.values_mut() { rule.at_most = Some(most); }
            let plan = RetentionPlan::new(&backups, &rules, at(now));
            for wanted in [
                |keep: &Keep| keep.good,
                |keep: &Keep| keep.proven,
                |keep: &Keep| keep.good && keep.class != BackupClass::PreRestore,
                |keep: &Keep| keep.good && keep.whole,
                |keep: &Keep| keep.proven && keep.whole,
            ] {
                if let Some(newest) = newest(&backups, wanted) {
                    prop_assert!(plan.decisions.iter().any(|decision| decision.keep && decision.id == *newest));
                }
            }
        }

        /// Never fewer good ones of a class than the rule says, where there were as many.
        #[test]
        fn at_least_is_kept(backups in history(), days in 0..60u32, at_least in 0..5u32, now in -1000..60_000i64) {
            let plan = RetentionPlan::new(&backups, &rules(days, at_least), at(now));
            for class in BackupClass::ALL {
                let good = backups.iter().filter(|backup| backup.class == class && backup.good);
                let had = good.clone().count();
                let kept = good.filter(|backup| plan.decisions.iter().any(|decision| decision.keep && decision.id == backup.id)).count();
                prop_assert!(kept >= had.min(at_least as usize));
            }
        }

        /// Law 6: on a regular schedule, a clock that jumps removes no more than one that doesn't.
        #[test]
        fn a_jump_removes_no_more(count in 3..80i64, gap in 1..10i64, jump in -200_000..200_000i64, from in 1..80i64, days in 0..60u32, at_least in 1..8u32) {
            let from = from.min(count - 1);
            let times = |jump: i64| -> Vec<Keep> { (0..count).map(|n| {
                let begun = at(n * gap * 24 + if n >= from { jump } else { 0 });
                Keep { id: BackupId::new(BackupClass::Daily, begun, 1), class: BackupClass::Daily, begun, good: true, proven: false, whole: true }
            }).collect() };
            let last = (count - 1) * gap * 24;
            let rules = rules(days, at_least);
            let steady = removed(&times(0), &rules, at(last));
            let jumped = removed(&times(jump), &rules, at(last + jump));
            prop_assert!(jumped <= steady, "{jumped} > {steady}");
        }

        /// The order in which backups are given changes nothing.
        #[test]
        fn order_does_not_matter(backups in history(), days in 0..60u32, now in 0..30_000i64) {
            let mut reversed = backups.clone();
            reversed.reverse();
            let mut one = RetentionPlan::new(&backups, &rules(days, 2), at(now)).decisions;
            one.reverse();
            prop_assert_eq!(one, RetentionPlan::new(&reversed, &rules(days, 2), at(now)).decisions);
        }
    }
}
