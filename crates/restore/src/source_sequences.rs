//! The backup's sequences in its source: they only go ahead, and never behind what was dumped, unless somebody sets them back.

use pgkeep_archive::{SequenceSet, Toc, sequence_set};
use pgkeep_dump::{Connection, quote_literal_bytes};

use crate::error::Doing;
use crate::sessions::{DataSettings, qualified};
use crate::source_report::SourceComparison;
use crate::{Difference, Result};

/// Sequences asked for in one statement.
const SEQUENCES: usize = 200;

/// Where one stands, and which way it goes.
#[derive(Debug, Clone, Copy)]
struct Standing {
    last_value: i64,
    is_called: bool,
    descends: bool,
    cycles: bool,
}

impl Standing {
    /// Whether it is behind where the backup has it.
    fn is_behind(self, was: &SequenceSet) -> bool {
        let way = |value: i64| if self.descends { -i128::from(value) } else { i128::from(value) };
        !self.cycles && (way(self.last_value), self.is_called) < (way(was.last_value), was.is_called)
    }
}

/// Asks every sequence where it stands. No snapshot holds them, so the session may have none.
pub(crate) async fn compare(settings: &DataSettings, toc: &Toc, comparison: &mut SourceComparison) -> Result<()> {
    let expected: Vec<SequenceSet> = toc.entries.iter().filter_map(sequence_set).collect();
    let mut connection = settings.proof().await?;
    for batch in expected.chunks(SEQUENCES) {
        let standings = match standings(&mut connection, batch).await {
            Ok(standings) => standings,
            // One that cannot be read must not hide the others.
            Err(pgkeep_dump::Error::Server(error)) if !error.is_fatal() => {
                let mut found = Vec::new();
                for sequence in batch {
                    match standings(&mut connection, std::slice::from_ref(sequence)).await {
                        Ok(mut standing) => found.append(&mut standing),
                        Err(pgkeep_dump::Error::Server(error)) if !error.is_fatal() => found.push(None),
                        Err(error) => return Err(error).doing("reading the source's sequences"),
                    }
                }
                found
            }
            Err(error) => return Err(error).doing("reading the source's sequences"),
        };
        for (was, standing) in batch.iter().zip(standings) {
            let subject = format!("sequence {}.{}", was.schema.lossy(), was.name.lossy());
            let Some(standing) = standing else {
                comparison
                    .changes
                    .push(Difference { subject, problem: "is gone since, or may not be read".to_owned() });
                continue;
            };
            comparison.sequences += 1;
            if standing.is_behind(was) {
                let problem = format!("stands at {}, behind the backup's {}", standing.last_value, was.last_value);
                if comparison.still {
                    let problem = format!("{problem}, although nothing was committed since it was made");
                    comparison.damage.push(Difference { subject, problem });
                } else {
                    let problem = format!("{problem}: it was set back since");
                    comparison.changes.push(Difference { subject, problem });
                }
            }
        }
    }
    let _ = connection.close().await;
    Ok(())
}

/// In their order; `None` for what is no sequence any more.
async fn standings(connection: &mut Connection, batch: &[SequenceSet]) -> pgkeep_dump::Result<Vec<Option<Standing>>> {
    let select = |(at, sequence): (usize, &SequenceSet)| {
        let name = qualified(Some(&sequence.schema), &sequence.name);
        let mut sql =
            format!("SELECT {at}, s.last_value, s.is_called, q.seqincrement < 0, q.seqcycle FROM ").into_bytes();
        sql.extend(&name);
        sql.extend(b" s JOIN pg_catalog.pg_sequence q ON q.seqrelid = ");
        sql.extend(quote_literal_bytes(&name));
        sql.extend(b"::pg_catalog.regclass");
        sql
    };
    let all: Vec<_> = batch.iter().enumerate().map(select).collect();
    let mut found = vec![None; batch.len()];
    for row in connection.query(all.join(b" UNION ALL ".as_slice())).await? {
        let at: usize = row.get(0)?;
        let standing = Standing {
            last_value: row.get(1)?,
            is_called: row.is_true(2),
            descends: row.is_true(3),
            cycles: row.is_true(4),
        };
        if let Some(place) = found.get_mut(at) {
            *place = Some(standing);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn behind_is_a_matter_of_direction() {
        let was = SequenceSet { schema: "public".into(), name: "s".into(), last_value: 10, is_called: true };
        let standing = |last_value, is_called, descends, cycles| Standing { last_value, is_called, descends, cycles };
        assert!(
            !standing(10, true, false, false).is_behind(&was) && !standing(11, false, false, false).is_behind(&was)
        );
        assert!(standing(9, true, false, false).is_behind(&was) && standing(10, false, false, false).is_behind(&was));
        assert!(standing(11, true, true, false).is_behind(&was) && !standing(9, true, true, false).is_behind(&was));
        assert!(!standing(1, true, false, true).is_behind(&was));
    }
}
