//! How old rows are: which of them a backup's snapshot saw, told by the transactions that wrote them.
//!
//! A row that is visible now and was written by a transaction that had ended before the backup's snapshot was visible then
//! too, for nothing brings a deleted row back. So the backup must hold it, however much was written since. Only the oldest
//! transaction that was running then decides: of subtransactions nobody notes when they end.

use std::ops::AddAssign;

use pgkeep_core::{FingerprintKey, RowHasher, Tally};
use pgkeep_dump::Transactions;

use crate::reread::Hasher;

/// By a backup's snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Age {
    /// The snapshot saw it.
    Old,
    /// Nobody can tell.
    Between,
    /// It did not.
    New,
}

/// SQL for rows of which nobody knows.
pub(crate) const UNKNOWN: &str = "1";

/// Tells the age of what a transaction wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ages {
    then: Transactions,
    /// The first number that is not given yet.
    next: u64,
}

/// Numbers in rows have so many values, and are given again after that.
const NUMBERS: u64 = 1 << 32;

impl Ages {
    /// What `now` sees by what was seen `then`; `None` if the server is not the one that went on from there, or too far ahead.
    pub(crate) fn new(then: Transactions, now: &Transactions) -> Option<Self> {
        let next = now.none_from;
        let apart = next.checked_sub(then.none_from)?.checked_add(then.none_from - then.all_ended_below)?;
        (apart < NUMBERS).then_some(Self { then, next })
    }

    /// The age of what the transaction of this number wrote.
    pub(crate) fn of(&self, xmin: u32) -> Age {
        // Older numbers than these are told as newer than they are, which claims less.
        let back = u64::from((self.next as u32).wrapping_sub(xmin));
        if back > self.next - self.then.all_ended_below {
            Age::Old
        } else if back <= self.next - self.then.none_from || self.then.running.contains(&(self.next - back)) {
            Age::New
        } else {
            Age::Between
        }
    }

    /// The same in SQL, as `0`, `1`, `2`; `xmin` is the column.
    pub(crate) fn sql(&self, xmin: &str) -> String {
        let Transactions { all_ended_below, none_from, running } = &self.then;
        // The difference of two ages is one of numbers, and no text is made of each row's.
        let back = format!(
            "(({} + pg_catalog.age({xmin})::pg_catalog.int8 - pg_catalog.age('3'::pg_catalog.xid)) & {})",
            i64::from(self.next as u32) - 3,
            NUMBERS - 1
        );
        let old = format!("WHEN {back} > {} THEN 0", self.next - all_ended_below);
        if all_ended_below == none_from {
            return format!("CASE {old} ELSE 2 END");
        }
        let running: Vec<String> = running.iter().map(|number| (self.next - number).to_string()).collect();
        let running =
            if running.is_empty() { String::new() } else { format!(" WHEN {back} IN ({}) THEN 2", running.join(", ")) };
        format!("CASE {old} WHEN {back} <= {} THEN 2{running} ELSE 1 END", self.next - none_from)
    }
}

/// Rows by their age.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Aged {
    pub(crate) old: Tally,
    pub(crate) between: Tally,
    pub(crate) new: Tally,
}

impl Aged {
    /// All of them.
    pub(crate) fn all(self) -> Tally {
        sum([self.old, self.between, self.new])
    }

    /// Those that the backup holds if what nobody can tell of was there.
    pub(crate) fn perhaps_old(self) -> Tally {
        sum([self.old, self.between])
    }
}

fn sum<const N: usize>(tallies: [Tally; N]) -> Tally {
    tallies.into_iter().fold(Tally::default(), |mut sum, tally| {
        sum += tally;
        sum
    })
}

impl AddAssign for Aged {
    fn add_assign(&mut self, other: Self) {
        self.old += other.old;
        self.between += other.between;
        self.new += other.new;
    }
}

/// Tallies COPY text whose first column is the row's age, in whatever pieces it comes. The age is no part of the row.
#[derive(Debug)]
pub(crate) struct AgedRows {
    hashers: [RowHasher; 3],
    at: Place,
}

/// Where in a row the next byte stands.
#[derive(Debug, Clone, Copy)]
enum Place {
    Age,
    /// Right behind it: a tabulator, or the end of a row without columns.
    Behind(usize),
    Row(usize),
}

impl Hasher for AgedRows {
    type Total = Aged;

    fn new(key: FingerprintKey) -> Self {
        Self { hashers: [0; 3].map(|_| RowHasher::new(key)), at: Place::Age }
    }

    fn update(&mut self, mut text: &[u8]) {
        while let Some(&first) = text.first() {
            match self.at {
                Place::Age => {
                    self.at = Place::Behind(usize::from(first.wrapping_sub(b'0')).min(2));
                    text = &text[1..];
                }
                Place::Behind(age) => {
                    self.at = Place::Row(age);
                    text = text.strip_prefix(b"\t").unwrap_or(text);
                }
                Place::Row(age) => {
                    let end = memchr::memchr(b'\n', text);
                    let (row, rest) = text.split_at(end.map_or(text.len(), |end| end + 1));
                    self.hashers[age].update(row);
                    if end.is_some() {
                        self.at = Place::Age;
                    }
                    text = rest;
                }
            }
        }
    }

    fn finish(self) -> Result<Aged, u64> {
        let [old, between, new] = self.hashers;
        Ok(Aged { old: old.finish()?, between: between.finish()?, new: new.finish()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ages(all_ended_below: u64, none_from: u64, running: &[u64], next: u64) -> Option<Ages> {
        let then = Transactions { all_ended_below, none_from, running: running.to_vec() };
        Ages::new(then, &Transactions { all_ended_below: next, none_from: next, running: Vec::new() })
    }

    #[test]
    fn what_had_ended_is_old_and_what_had_not_begun_is_new() {
        let ages = ages(730, 740, &[730, 735], 1000).unwrap();
        let told = [3, 729, 730, 731, 735, 739, 740, 999].map(|xmin| ages.of(xmin));
        let (old, between, new) = (Age::Old, Age::Between, Age::New);
        assert_eq!(told, [old, old, new, between, new, between, new, new]);
        assert!(ages.sql("xmin").contains("IN (270, 265) THEN 2 ELSE 1"));
    }

    #[test]
    fn numbers_that_are_given_again_are_understood() {
        let turn = 1 << 32;
        let ages = ages(turn - 5, turn - 5, &[], turn + 10).unwrap();
        let told = [u32::MAX - 5, u32::MAX - 4, u32::MAX, 3, 9].map(|xmin| ages.of(xmin));
        assert_eq!(told, [Age::Old, Age::New, Age::New, Age::New, Age::New]);
        assert_eq!(
            ages.sql("x"),
            "CASE WHEN ((7 + pg_catalog.age(x)::pg_catalog.int8 - pg_catalog.age('3'::pg_catalog.xid)) & 4294967295) > 15 THEN 0 ELSE 2 END"
        );
    }

    #[test]
    fn a_server_that_was_set_back_or_is_far_ahead_tells_nothing() {
        assert_eq!(ages(730, 740, &[], 739), None);
        assert_eq!(ages(730, 740, &[], 730 + (1 << 32)), None);
        assert!(ages(730, 740, &[], 740).is_some());
    }

    #[test]
    fn rows_are_counted_by_their_age_and_without_it() {
        let key = FingerprintKey([7; 32]);
        let tally = |text: &[u8]| {
            let mut tally = Tally::default();
            tally.add_rows(&key, text);
            tally
        };
        let text = b"0\t1\tone\n2\t2\ttwo\n0\t3\t\n1\n2\t\n";
        for size in 1..text.len() {
            let mut rows = AgedRows::new(key);
            for piece in text.chunks(size) {
                rows.update(piece);
            }
            let aged = rows.finish().unwrap();
            assert_eq!(aged, Aged { old: tally(b"1\tone\n3\t\n"), between: tally(b"\n"), new: tally(b"2\ttwo\n\n") });
            assert_eq!(aged.all(), tally(b"1\tone\n2\ttwo\n3\t\n\n\n"));
        }
        let mut cut = AgedRows::new(key);
        cut.update(b"0\tcut");
        assert_eq!(cut.finish(), Err(3));
    }
}
