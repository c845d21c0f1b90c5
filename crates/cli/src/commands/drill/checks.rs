//! What is asked of a database: is it sound, does it equal the backup, and the user's own questions.

use pgkeep_dump::{ConnectSettings, Connection, SessionSettings};
use pgkeep_restore::{Comparison, Inspection, ProofReport};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::steps::Passed;
use crate::failure::{Failure, Result};
use crate::hint::Code;
use crate::render::count;

/// More of an answer is not shown.
const SHOWN: usize = 120;
/// Lines about what is not comparable or was written to, per step.
const LINES: usize = 5;

/// One of the user's own questions, answered.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Answer {
    /// The query.
    pub(super) query: String,
    /// Whether it is as it should be.
    pub(super) good: bool,
    /// The first column of the first row, or why there is none.
    pub(super) value: String,
}

/// Asks each query. An error, no row, NULL or false is a no.
pub(super) async fn ask(
    settings: &ConnectSettings,
    queries: &[String],
    cancel: &CancellationToken,
) -> Result<Vec<Answer>> {
    let asked = async {
        let mut answers = Vec::new();
        for query in queries {
            // A session for each: one that fails must not disturb the next.
            let mut connection = Connection::connect(settings, SessionSettings::Admin).await?;
            connection.execute("RESET search_path; SET default_transaction_read_only = on").await?;
            answers.push(match connection.query(query).await {
                Ok(rows) => answer(query, &rows.iter().take(1).map(|row| row.text(0)).collect::<Vec<_>>()),
                Err(pgkeep_dump::Error::Server(error)) if !error.is_fatal() => {
                    Answer { query: query.clone(), good: false, value: error.message }
                }
                Err(error) => return Err(Failure::from(error)),
            });
            let _ = connection.close().await;
        }
        Ok(answers)
    };
    tokio::select! {
        answers = asked => answers,
        () = cancel.cancelled() => Err(Failure::new(Code::Interrupted, "interrupted")),
    }
}

/// The answer that the first row's column is.
fn answer(query: &str, column: &[Option<String>]) -> Answer {
    let (good, value) = match column.first() {
        None => (false, "no row".to_owned()),
        Some(None) => (false, "NULL".to_owned()),
        Some(Some(text)) if text == "f" => (false, "false".to_owned()),
        Some(Some(text)) if text == "t" => (true, "true".to_owned()),
        Some(Some(text)) if text.chars().count() > SHOWN => {
            (true, format!("{}…", text.chars().take(SHOWN).collect::<String>()))
        }
        Some(Some(text)) => (true, text.clone()),
    };
    Answer { query: query.to_owned(), good, value }
}

/// The failure that bad answers are.
pub(super) fn judge(answers: &[Answer]) -> Result<Vec<String>> {
    let line = |answer: &Answer| format!("{} → {}", answer.query, answer.value);
    let bad: Vec<_> = answers.iter().filter(|answer| !answer.good).map(line).collect();
    if bad.is_empty() {
        return Ok(answers.iter().map(line).collect());
    }
    let message = format!("{} of {} failed: {}", bad.len(), count(answers.len() as u64, "query"), bad.join("; "));
    let hint = "the restored data does not answer as it should: see whether the live database does, and since when";
    Err(Failure::new(Code::DrillFailed, message).hint(hint))
}

/// What was compared while restoring.
pub(super) fn proof(report: &ProofReport) -> Vec<String> {
    let mut details = vec![format!(
        "{}, {}, {}, {} compared with the backup, all equal",
        count(report.tables, "table"),
        count(report.rows, "row"),
        count(report.sequences, "sequence"),
        count(report.large_objects, "large object")
    )];
    details.extend(some(report.renderings.iter().map(|line| format!("written differently here: {line}"))));
    details.extend(some(report.unprovable.iter().map(|line| format!("not comparable: {line}"))));
    details
}

/// Rows of the live database against a backup.
pub(super) fn comparison(comparison: Comparison) -> Result<Passed<()>> {
    let Comparison { backup, tables, rows, written, differences, unprovable } = comparison;
    if !differences.is_empty() {
        let lines: Vec<_> = differences.iter().map(ToString::to_string).collect();
        let message = format!("differs from {backup}: {}", lines.join("; "));
        let hint = "nothing was written to these tables by the server's own count: see the disk and the server's log, then restore them (pgkeep restore --table)";
        return Err(Failure::new(Code::ProofFailed, message).hint(hint));
    }
    let compared = format!("{}, {} compared with {backup}, all equal", count(tables, "table"), count(rows, "row"));
    let mut details = vec![compared];
    if !written.is_empty() {
        let names = written.iter().take(LINES).cloned().collect::<Vec<_>>().join(", ");
        let more = if written.len() > LINES { ", …" } else { "" };
        details
            .push(format!("{} written to since, not comparable: {names}{more}", count(written.len() as u64, "table")));
    }
    details.extend(some(unprovable.into_iter()));
    Ok(((), details))
}

/// Indexes, and pages where amcheck can look at them.
pub(super) fn soundness(inspection: &Inspection) -> Result<Passed<()>> {
    let findings: Vec<_> = inspection.findings().map(ToString::to_string).collect();
    if !findings.is_empty() {
        let hint = "REINDEX what is an index; where a table's pages are damaged, restore it (pgkeep restore --table) and see to the disk";
        return Err(Failure::new(Code::DrillFailed, findings.join("; ")).hint(hint));
    }
    let mut details = vec![format!("{} valid", plural(inspection.indexes))];
    match &inspection.amcheck {
        Some(report) => {
            details.push(format!(
                "amcheck {}: {} and {} checked, all sound",
                report.version,
                count(report.indexes, "B-tree"),
                count(report.tables, "table")
            ));
            details.extend(some(report.unprovable.iter().cloned()));
        }
        None => details.push("pages were not looked at: CREATE EXTENSION amcheck, and they are".to_owned()),
    }
    Ok(((), details))
}

fn plural(indexes: u64) -> String {
    if indexes == 1 { "1 index".to_owned() } else { format!("{indexes} indexes") }
}

/// Extensions: what was there is there.
pub(super) fn extensions(inspection: &Inspection) -> Result<Passed<()>> {
    let missing: Vec<_> = inspection
        .extensions
        .iter()
        .filter(|extension| extension.installed.is_none())
        .map(|extension| format!("{} {}", extension.name, extension.backup.as_deref().unwrap_or_default()))
        .collect();
    if !missing.is_empty() {
        let message = format!("the backup has, and the database has not: {}", missing.join(", "));
        return Err(Failure::new(Code::DrillFailed, message).hint("CREATE EXTENSION what was not dropped on purpose"));
    }
    let mut details = Vec::new();
    for extension in &inspection.extensions {
        let installed = extension.installed.as_deref().unwrap_or_default();
        let backup = match extension.backup.as_deref().filter(|backup| *backup != installed) {
            Some(backup) => format!(", was {backup} in the backup"),
            None => String::new(),
        };
        let newer = match extension.available.as_deref().filter(|available| *available != installed) {
            Some(available) => format!(", {available} is available"),
            None => String::new(),
        };
        details.push(format!("{} {installed}{backup}{newer}", extension.name));
    }
    Ok(((), details))
}

/// The first lines of some.
fn some(lines: impl ExactSizeIterator<Item = String>) -> Vec<String> {
    let more = lines.len().saturating_sub(LINES);
    let mut some: Vec<_> = lines.take(LINES).collect();
    if more > 0 {
        some.push(format!("… and {more} more"));
    }
    some
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_judged() {
        let answer = |column: &[Option<&str>]| {
            answer("SELECT 1", &column.iter().map(|text| text.map(str::to_owned)).collect::<Vec<_>>())
        };
        for (column, good) in [
            (&[][..], false),
            (&[None], false),
            (&[Some("f")], false),
            (&[Some("t")], true),
            (&[Some("0")], true),
            (&[Some("")], true),
        ] {
            assert_eq!(answer(column).good, good, "{column:?}");
        }
        let long = answer(&[Some(&"x".repeat(500))]);
        assert_eq!(long.value.chars().count(), SHOWN + 1);
        assert!(judge(&[answer(&[Some("t")]), answer(&[])]).unwrap_err().message.contains("1 of 2 queries failed"));
    }
}
