//! Names of databases that are being restored, or were replaced.
//!
//! A database under construction is `<live>_pgkeep_<stamp>`, one that was replaced `<live>_before_<stamp>`, with the
//! stamp in UTC as `%Y%m%d_%H%M%S`. PostgreSQL cuts names at 63 bytes, silently; a live name that leaves no room is
//! shortened to its first bytes and a checksum, so that the new names stay unique and can be found again from the live one.

use std::collections::BTreeSet;

use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};

/// The most bytes a name may have (`NAMEDATALEN` − 1).
pub(crate) const NAME_BYTES: usize = 63;
const STAMP: &str = "%Y%m%d_%H%M%S";
const STAMP_BYTES: usize = 15;

/// What became of a database that has one of our names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// It is being restored.
    New,
    /// It was replaced and is kept.
    Before,
}

impl Role {
    fn infix(self) -> &'static str {
        match self {
            Self::New => "_pgkeep_",
            Self::Before => "_before_",
        }
    }
}

/// The stamp of a time.
pub(crate) fn stamp(at: DateTime<Utc>) -> String {
    at.format(STAMP).to_string()
}

/// The first stamp from `at` on whose derived names are not taken: two restores can begin within one second.
pub(crate) fn free_stamp(live: &str, at: DateTime<Utc>, taken: &BTreeSet<String>) -> String {
    (0..1_000_000)
        .map(|seconds| stamp(at + TimeDelta::seconds(seconds)))
        .find(|stamp| [Role::New, Role::Before].iter().all(|&role| !taken.contains(&derived(live, role, stamp))))
        .unwrap_or_default()
}

/// The time a stamp says.
pub(crate) fn stamp_time(stamp: &str) -> Option<DateTime<Utc>> {
    if stamp.len() != STAMP_BYTES {
        return None;
    }
    NaiveDateTime::parse_from_str(stamp, STAMP).ok().map(|time| time.and_utc())
}

/// The name of a database derived from `live`.
pub(crate) fn derived(live: &str, role: Role, stamp: &str) -> String {
    format!("{}{}{stamp}", stem(live), role.infix())
}

/// The name of the scratch database in which backups of `live` are tried out. It is pgkeep's own: whatever has it may be dropped.
pub(crate) fn scratch(live: &str) -> String {
    format!("{}_pgkeep_drill", stem(live))
}

/// The stamp in `name`, if it is derived from `live` in this role.
pub(crate) fn stamp_of<'n>(name: &'n str, live: &str, role: Role) -> Option<&'n str> {
    let stamp = name.strip_prefix(&stem(live))?.strip_prefix(role.infix())?;
    stamp_time(stamp).map(|_| stamp)
}

/// The live name, shortened where the derived names would be too long.
fn stem(live: &str) -> String {
    let room = NAME_BYTES - STAMP_BYTES - Role::New.infix().len();
    if live.len() <= room {
        return live.to_owned();
    }
    let checksum = format!("~{:08x}", fnv1a(live.as_bytes()));
    let mut end = room - checksum.len();
    while !live.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{checksum}", &live[..end])
}

/// FNV-1a, 32 bits (Fowler, Noll, Vo): names must be found again by every later version, so nothing that may change.
fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, &byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// The number that names a database in advisory locks, so that only one restore of it runs at a time.
pub(crate) fn lock_number(live: &str) -> i64 {
    const OURS: u64 = 0x7067_6b70;
    ((OURS << 32) | u64::from(fnv1a(live.as_bytes()))) as i64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_say_what_they_are() {
        assert_eq!(derived("app", Role::New, "20251017_030001"), "app_pgkeep_20251017_030001");
        assert_eq!(derived("app", Role::Before, "20251017_030001"), "app_before_20251017_030001");
        assert_eq!(stamp_of("app_before_20251017_030001", "app", Role::Before), Some("20251017_030001"));
        assert_eq!(stamp_of("app_before_20251017_030001", "ap", Role::Before), None);
        assert_eq!(stamp_of("app_before_20251317_030001", "app", Role::Before), None);
        assert_eq!(stamp_of("app_before_launch", "app", Role::Before), None);
        assert_eq!(stamp_of("app_pgkeep_20251017_030001", "app", Role::Before), None);
    }

    #[test]
    fn taken_names_are_passed_over() {
        let at = stamp_time("20251017_035959").unwrap();
        let taken = BTreeSet::from(["app_before_20251017_035959".to_owned(), "app_pgkeep_20251017_040000".to_owned()]);
        assert_eq!(free_stamp("app", at, &taken), "20251017_040001");
        assert_eq!(free_stamp("other", at, &taken), "20251017_035959");
    }

    proptest! {
        #[test]
        fn derived_names_fit_and_are_found_again(live in "\\PC{1,63}") {
            prop_assume!(live.len() <= NAME_BYTES);
            for role in [Role::New, Role::Before] {
                let name = derived(&live, role, "20251017_030001");
                prop_assert!(name.len() <= NAME_BYTES);
                prop_assert_eq!(stamp_of(&name, &live, role), Some("20251017_030001"));
            }
        }

        #[test]
        fn scratch_names_fit_and_are_nobody_elses(live in "\\PC{1,63}") {
            prop_assume!(live.len() <= NAME_BYTES);
            let name = scratch(&live);
            prop_assert!(name.len() <= NAME_BYTES);
            for role in [Role::New, Role::Before] {
                prop_assert_eq!(stamp_of(&name, &live, role), None);
            }
        }

        #[test]
        fn stamps_go_both_ways(seconds in 0_i64..4_000_000_000) {
            let at = DateTime::from_timestamp(seconds, 0).unwrap();
            prop_assert_eq!(stamp_time(&stamp(at)), Some(at));
        }
    }
}
