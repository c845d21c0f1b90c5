//! What a comparison with the source came to, and how single items are judged.

use chrono::{DateTime, Utc};
use pgkeep_core::Tally;
use serde::Serialize;

use crate::Difference;
use crate::ages::Aged;
use crate::error::plural;
use crate::source_objects::Objects;

/// A backup against the database it was made of.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SourceComparison {
    /// The backup's name.
    pub backup: String,
    /// The database.
    pub database: String,
    /// `host:port`.
    pub server: String,
    /// When the database was looked at, by the server's clock.
    pub at: DateTime<Utc>,
    /// No transaction was committed on the server since the backup's snapshot: nothing may differ.
    pub still: bool,
    /// Why rows that are newer than the backup can't be told from those it must hold; `None` if they can.
    pub ages_unknown: Option<String>,
    /// Every table of the backup that is there.
    pub tables: Vec<TableComparison>,
    /// Large objects, where the backup has them or must have them.
    pub large_objects: Option<LargeObjectsComparison>,
    /// Sequences compared.
    pub sequences: u64,
    /// Items of the schema compared.
    pub schema_items: u64,
    /// What the backup should hold and does not. Empty is good.
    pub damage: Vec<Difference>,
    /// What differs, as it may: the database has gone on.
    pub changes: Vec<Difference>,
    /// What could not be compared, one line each.
    pub unprovable: Vec<String>,
}

/// What came of comparing one table, or the large objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceState {
    /// The same rows.
    Same,
    /// All rows of the backup, and newer ones.
    Grown,
    /// Rows of the backup were changed or removed since; whatever is as old as the backup may be in it.
    Changed,
    /// Other rows, and nobody can tell since when.
    Differs,
    /// The backup is not what was there.
    Damaged,
}

/// One table of the backup and of the source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TableComparison {
    /// `schema.table`, as in the backup.
    pub table: String,
    /// What came of it.
    pub state: SourceState,
    /// Rows in the backup.
    pub backup_rows: u64,
    /// Rows in the source.
    pub source_rows: u64,
    /// Rows in the source that are newer than the backup, where that can be told.
    pub newer_rows: Option<u64>,
    /// Rows of the backup that were changed or removed since, where that can be told; at most so many.
    pub gone_rows: Option<u64>,
}

/// All large objects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LargeObjectsComparison {
    /// What came of it.
    pub state: SourceState,
    /// Objects in the backup.
    pub backup_objects: u64,
    /// Objects in the source.
    pub source_objects: u64,
}

impl SourceComparison {
    /// Whether all that the backup holds was found in the source, or nothing of it could have been: a good proof.
    pub fn is_proven(&self) -> bool {
        let whole = |state| matches!(state, SourceState::Same | SourceState::Grown);
        self.damage.is_empty()
            && self.unprovable.is_empty()
            && self.tables.iter().all(|table| whole(table.state))
            && self.large_objects.as_ref().is_none_or(|objects| whole(objects.state))
            && !self.tables.is_empty()
    }

    /// Whether there are newer rows or large objects in the source.
    pub fn has_grown(&self) -> bool {
        self.tables.iter().any(|table| table.state == SourceState::Grown)
            || self.large_objects.as_ref().is_some_and(|objects| objects.state == SourceState::Grown)
    }

    /// Whether the source is in all what the backup holds.
    pub fn is_same(&self) -> bool {
        self.is_proven()
            && self.changes.is_empty()
            && self.tables.iter().all(|table| table.state == SourceState::Same)
            && self.large_objects.as_ref().is_none_or(|objects| objects.state == SourceState::Same)
    }
}

/// What is known of a table beside its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Known {
    /// The ages of its rows can be told, and it is the very table that was dumped.
    pub(crate) ages: bool,
    /// Its columns and their types are what they were, and their text says all there is.
    pub(crate) definition: bool,
    /// Nothing was committed since, and nothing else could change it.
    pub(crate) still: bool,
}

/// What to say of an item, and what is wrong with it.
pub(crate) type Judged = (SourceState, Option<String>);

/// Rows of the backup against rows of the source.
pub(crate) fn judge_rows(expected: Tally, found: &Aged, known: Known) -> Judged {
    let all = found.all();
    if all == expected {
        return (SourceState::Same, None);
    }
    if known.still {
        let problem = if all.rows == expected.rows {
            format!("{} as in the backup, but not the same", plural_rows(all.rows))
        } else {
            format!("{} in the backup, {} in the source", plural_rows(expected.rows), all.rows)
        };
        return (SourceState::Damaged, Some(format!("{problem}, although nothing was committed since it was made")));
    }
    if !known.ages {
        return (SourceState::Differs, None);
    }
    if found.old.rows > expected.rows {
        let missing = plural_rows(found.old.rows - expected.rows);
        let problem = format!("{missing} of the source were there when the backup was made, and are not in it");
        return (SourceState::Damaged, Some(problem));
    }
    if found.old == expected || found.perhaps_old() == expected {
        return (SourceState::Grown, None);
    }
    if found.old.rows < expected.rows {
        return (SourceState::Changed, None);
    }
    if !known.definition {
        return (SourceState::Differs, None);
    }
    let problem = format!("{} that nobody has changed since are others in the backup", plural_rows(expected.rows));
    (SourceState::Damaged, Some(problem))
}

/// Large objects of the backup against those of the source.
pub(crate) fn judge_objects(expected: Tally, found: &Objects, ages: bool, still: bool) -> Judged {
    if found.all == expected {
        return (SourceState::Same, None);
    }
    if still {
        let problem = format!(
            "{} in the backup, {} in the source, or other content, although nothing was committed since it was made",
            expected.rows, found.all.rows
        );
        return (SourceState::Damaged, Some(problem));
    }
    if !ages {
        return (SourceState::Differs, None);
    }
    if found.existed > expected.rows {
        let missing = found.existed - expected.rows;
        let problem = format!("{missing} of the source were there when the backup was made, and are not in it");
        return (SourceState::Damaged, Some(problem));
    }
    match found.untouched {
        untouched if untouched == expected => (SourceState::Grown, None),
        untouched if untouched.rows < expected.rows => (SourceState::Changed, None),
        _ => {
            (SourceState::Damaged, Some("nobody has changed them since, and they are others in the backup".to_owned()))
        }
    }
}

fn plural_rows(rows: u64) -> String {
    plural(usize::try_from(rows).unwrap_or(usize::MAX), "row")
}

#[cfg(test)]
mod tests {
    use pgkeep_core::FingerprintKey;

    use super::*;

    fn tally(text: &str) -> Tally {
        let mut tally = Tally::default();
        tally.add_rows(&FingerprintKey([7; 32]), text.as_bytes());
        tally
    }

    fn aged(old: &str, between: &str, new: &str) -> Aged {
        Aged { old: tally(old), between: tally(between), new: tally(new) }
    }

    const LIVE: Known = Known { ages: true, definition: true, still: false };

    #[test]
    fn rows_that_were_there_must_be_in_the_backup() {
        let expected = tally("a\nb\n");
        for (found, state) in [
            (aged("a\nb\n", "", ""), SourceState::Same),
            (aged("", "", "a\nb\n"), SourceState::Same),
            (aged("a\nb\n", "", "c\n"), SourceState::Grown),
            (aged("a\n", "b\n", "c\n"), SourceState::Grown),
            (aged("a\nb\n", "c\n", ""), SourceState::Grown),
            (aged("a\n", "", "c\n"), SourceState::Changed),
            (aged("", "", ""), SourceState::Changed),
            (aged("a\n", "c\n", "b2\n"), SourceState::Changed),
            (aged("a\nb\nc\n", "", ""), SourceState::Damaged),
            (aged("a\nB\n", "", ""), SourceState::Damaged),
            (aged("a\nB\n", "", "c\n"), SourceState::Damaged),
        ] {
            let (judged, problem) = judge_rows(expected, &found, LIVE);
            assert_eq!(judged, state, "{found:?}");
            assert_eq!(problem.is_some(), state == SourceState::Damaged);
        }
    }

    #[test]
    fn nothing_is_claimed_of_what_nobody_can_tell() {
        let expected = tally("a\nb\n");
        let replaced = Known { ages: false, ..LIVE };
        assert_eq!(judge_rows(expected, &aged("", "a\nb\nc\n", ""), replaced).0, SourceState::Differs);
        let altered = Known { definition: false, ..LIVE };
        assert_eq!(judge_rows(expected, &aged("a\nB\n", "", ""), altered).0, SourceState::Differs);
        assert_eq!(judge_rows(expected, &aged("a\nb\nc\n", "", ""), altered).0, SourceState::Damaged);
        let still = Known { still: true, ..LIVE };
        assert_eq!(judge_rows(expected, &aged("a\n", "", ""), still).0, SourceState::Damaged);
    }

    #[test]
    fn large_objects_are_judged_like_rows() {
        let objects =
            |all: &str, untouched: &str, existed| Objects { all: tally(all), untouched: tally(untouched), existed };
        let expected = tally("a\nb\n");
        for (found, state) in [
            (objects("a\nb\n", "", 0), SourceState::Same),
            (objects("a\nb\nc\n", "a\nb\n", 2), SourceState::Grown),
            (objects("a\nB\n", "a\n", 2), SourceState::Changed),
            (objects("a\nb\nc\n", "a\n", 3), SourceState::Damaged),
            (objects("a\nB\n", "a\nB\n", 2), SourceState::Damaged),
        ] {
            assert_eq!(judge_objects(expected, &found, true, false).0, state, "{found:?}");
        }
        assert_eq!(judge_objects(expected, &objects("a\n", "", 0), false, false).0, SourceState::Differs);
        assert_eq!(judge_objects(expected, &objects("a\n", "a\n", 1), true, true).0, SourceState::Damaged);
    }
}
