//! The one place that knows into what parts stores want large objects cut.
//!
//! | store | parts | part | equal sizes |
//! | --- | --- | --- | --- |
//! | AWS S3 | 10,000 | 5 MiB to 5 GiB | no |
//! | Google Cloud Storage | 10,000 | 5 MiB to 5 GiB | no |
//! | Azure | 50,000 | up to 4,000 MiB | no |
//! | Scaleway | 1,000 | 5 MiB to 5 GiB | no |
//! | Cloudflare R2 | 10,000 | 5 MiB to 5 GiB | yes, but the last |
//! | others (Ceph, MinIO, …) | 10,000 | 5 MiB to 5 GiB | taken for yes |
//!
//! A part is held in memory until it is stored, so parts should be small; their number is limited, so they
//! must not be too small for the object, whose size nobody knows before its end. Two ways out:
//!
//! - where parts must be **equal**, their size is fixed by the estimate at the beginning, half as much
//!   again for safety. An object that grows beyond that fails with [`crate::Error::TooLarge`]. Without an
//!   estimate the ceiling is 312 GiB (32 MiB × 10,000).
//! - where they **need not be**, they grow: the first half of the parts have the size the estimate asks
//!   for, then each further tenth doubles it. The ceiling is 6.7 times the estimate, and never less than 523 GiB.
//!
//! Memory is one part being filled plus those on their way: 40 MiB for objects of up to some 40 GiB, and twice
//! the part beyond, which the limits leave no way around (some 220 MiB for 1 TiB).

const MIB: u64 = 1024 * 1024;
const GIB: u64 = 1024 * MIB;

/// Below this, requests cost more than they carry.
const SMALLEST_PART_BYTES: u64 = 8 * MIB;
/// Size of equal parts of an object of unknown size.
const BLIND_PART_BYTES: u64 = 32 * MIB;
/// Memory for parts on their way; the one being filled comes on top.
const IN_FLIGHT_BYTES: u64 = 64 * MIB;
/// More connections than that gain nothing.
const MOST_IN_FLIGHT: u64 = 4;

/// What a store demands of the parts of a large object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartRules {
    /// The most parts an object may have.
    pub max_parts: u32,
    /// The least bytes of a part other than the last.
    pub min_part_bytes: u64,
    /// The most bytes of a part.
    pub max_part_bytes: u64,
    /// Whether all parts but the last must have the same size.
    pub equal_sizes: bool,
}

impl PartRules {
    /// Amazon S3 and Google Cloud Storage.
    pub const S3: Self =
        Self { max_parts: 10_000, min_part_bytes: 5 * MIB, max_part_bytes: 5 * GIB, equal_sizes: false };
    /// Any store that speaks S3: the strictest rules that are common.
    pub const S3_COMPATIBLE: Self = Self { equal_sizes: true, ..Self::S3 };
    /// Scaleway Object Storage.
    pub const SCALEWAY: Self = Self { max_parts: 1_000, ..Self::S3 };
    /// Azure Blob Storage.
    pub const AZURE: Self =
        Self { max_parts: 50_000, min_part_bytes: 1, max_part_bytes: 4_000 * MIB, equal_sizes: false };

    /// The rules of the S3 server at `host`; `None` is Amazon's own.
    pub fn of_s3_host(host: Option<&str>) -> Self {
        let Some(host) = host else { return Self::S3 };
        let host = host.to_ascii_lowercase();
        if host.ends_with(".amazonaws.com") || host.ends_with(".amazonaws.com.cn") {
            Self::S3
        } else if host.ends_with(".scw.cloud") {
            Self::SCALEWAY
        } else {
            Self::S3_COMPATIBLE
        }
    }
}

/// How one object is cut.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PartPlan {
    rules: PartRules,
    first_bytes: u64,
}

impl PartPlan {
    /// The plan for an object of at most about `expected_bytes`; 0 is unknown.
    pub(crate) fn new(rules: PartRules, expected_bytes: u64) -> Self {
        let wanted = match (expected_bytes, rules.equal_sizes) {
            (0, true) => BLIND_PART_BYTES,
            (bytes, true) => bytes.saturating_add(bytes / 2).div_ceil(u64::from(rules.max_parts)),
            (bytes, false) => bytes.div_ceil(u64::from(rules.max_parts)),
        };
        let least = SMALLEST_PART_BYTES.clamp(rules.min_part_bytes, rules.max_part_bytes);
        let first_bytes = wanted.next_multiple_of(MIB).clamp(least, rules.max_part_bytes);
        Self { rules, first_bytes }
    }

    /// The size of part `index`, from 0.
    pub(crate) fn part_bytes(&self, index: u32) -> u64 {
        if self.rules.equal_sizes {
            return self.first_bytes;
        }
        let tenth = u64::from(index) * 10 / u64::from(self.rules.max_parts);
        let doublings = tenth.saturating_sub(4).min(5);
        (self.first_bytes << doublings).min(self.rules.max_part_bytes)
    }

    /// How many parts of the size of part `index` may be on their way at once.
    pub(crate) fn in_flight(&self, index: u32) -> usize {
        (IN_FLIGHT_BYTES / self.part_bytes(index)).clamp(1, MOST_IN_FLIGHT) as usize
    }

    /// The most parts.
    pub(crate) fn max_parts(&self) -> u32 {
        self.rules.max_parts
    }

    /// The most bytes that fit.
    pub(crate) fn ceiling_bytes(&self) -> u64 {
        (0..self.rules.max_parts).map(|index| self.part_bytes(index)).sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    const ALL: [PartRules; 4] = [PartRules::S3, PartRules::S3_COMPATIBLE, PartRules::SCALEWAY, PartRules::AZURE];

    #[rstest]
    #[case(None, PartRules::S3)]
    #[case(Some("s3.eu-west-1.amazonaws.com"), PartRules::S3)]
    #[case(Some("s3.fr-par.scw.cloud"), PartRules::SCALEWAY)]
    #[case(Some("0123.r2.cloudflarestorage.com"), PartRules::S3_COMPATIBLE)]
    #[case(Some("127.0.0.1"), PartRules::S3_COMPATIBLE)]
    fn known_hosts(#[case] host: Option<&str>, #[case] rules: PartRules) {
        assert_eq!(PartRules::of_s3_host(host), rules);
    }

    #[test]
    fn ceilings_of_the_documentation() {
        assert_eq!(PartPlan::new(PartRules::S3_COMPATIBLE, 0).ceiling_bytes() / GIB, 312);
        assert_eq!(PartPlan::new(PartRules::S3, 0).ceiling_bytes() / GIB, 523);
    }

    #[test]
    fn small_databases_take_little_memory() {
        for rules in ALL {
            let plan = PartPlan::new(rules, 2 * GIB);
            assert_eq!(plan.part_bytes(0), 8 * MIB);
            assert_eq!(plan.in_flight(0), 4);
        }
    }

    proptest! {
        #[test]
        fn what_was_expected_fits(expected in 0..4 * 1024 * GIB, rules in proptest::sample::select(&ALL[..])) {
            let plan = PartPlan::new(rules, expected);
            prop_assert!(plan.ceiling_bytes() >= expected);
            for index in [0, 1, rules.max_parts / 2, rules.max_parts - 1] {
                let bytes = plan.part_bytes(index);
                prop_assert!(bytes >= rules.min_part_bytes && bytes <= rules.max_part_bytes);
                prop_assert!(!rules.equal_sizes || bytes == plan.part_bytes(0));
                prop_assert!(plan.in_flight(index) >= 1);
                prop_assert!(plan.in_flight(index) as u64 * bytes <= IN_FLIGHT_BYTES.max(bytes));
            }
        }
    }
}
