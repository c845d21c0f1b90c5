//! A notice's words.

use chrono::{DateTime, Utc};
use pgkeep_metrics::{Notice, Severity, Told};

use crate::failure::Failure;

/// What a notice is about.
#[derive(Debug)]
pub(super) struct Story<'s> {
    /// `backup`, `restore`…
    pub(super) operation: &'s str,
    /// The database.
    pub(super) database: &'s str,
    /// The machine.
    pub(super) host: &'s str,
    /// When the run began.
    pub(super) begun: DateTime<Utc>,
    /// When it ended.
    pub(super) ended: DateTime<Utc>,
    /// The last lines of its log.
    pub(super) log: &'s [String],
    /// Why it failed.
    pub(super) failure: Option<&'s Failure>,
}

impl Story<'_> {
    /// The notice.
    pub(super) fn notice(&self, told: &Told) -> Notice {
        let Self { operation, database, host, .. } = self;
        let what = format!("{operation} of {database} on {host}");
        let (severity, subject) = match told {
            Told::Failed => (Severity::Failure, format!("pgkeep: {what} failed")),
            Told::Reminder { failures, .. } => {
                (Severity::Failure, format!("pgkeep: {what} still fails ({failures} times)"))
            }
            Told::Recovered { .. } => (Severity::Info, format!("pgkeep: {what} is well again")),
        };
        Notice { severity, subject, body: self.body(told) }
    }

    fn body(&self, told: &Told) -> String {
        let since = |since: &DateTime<Utc>, failures: u32| {
            format!("It had been failing since {}, {failures} time(s).", stamp(*since))
        };
        let mut parts = match told {
            Told::Failed => Vec::new(),
            Told::Reminder { since: at, failures } => vec![since(at, *failures)],
            Told::Recovered { since: at, failures } => vec![format!("It succeeded. {}", since(at, *failures))],
        };
        if let Some(failure) = self.failure {
            parts.push(self.cause(failure));
            if !self.log.is_empty() {
                parts.push(format!("Last lines of the log:\n{}", self.log.join("\n")));
            }
            if let Some(hint) = &failure.hint {
                parts.push(format!("What to do: {}", without_row_data(hint)));
            }
        }
        parts.push(format!("The run began at {} and ended at {}.", stamp(self.begun), stamp(self.ended)));
        parts.join("\n\n")
    }

    /// What failed and why, in one line.
    pub(super) fn cause(&self, failure: &Failure) -> String {
        format!("{} failed: {} [{}]", self.operation, without_row_data(&failure.message), failure.code.text())
    }
}

fn stamp(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// PostgreSQL's words for what can hold rows, as its translations have them too.
const MARKS: [&str; 20] = [
    "DETAIL:",
    "CONTEXT:",
    "STATEMENT:",
    "QUERY:",
    "Failing row contains",
    "KONTEXT:",
    "ANWEISUNG:",
    "DÉTAIL",
    "CONTEXTE",
    "INSTRUCTION",
    "DETALLE:",
    "CONTEXTO:",
    "SENTENCIA:",
    "DETTAGLI:",
    "CONTESTO:",
    "ISTRUZIONE:",
    "DETALHE:",
    "ПОДРОБНОСТИ:",
    "КОНТЕКСТ:",
    "詳細:",
];

/// A message up to where PostgreSQL begins to quote rows or statements. What comes after can't be told apart from data.
pub(crate) fn without_row_data(message: &str) -> &str {
    let end = MARKS.iter().filter_map(|mark| message.find(mark)).min().unwrap_or(message.len());
    message[..end].trim_end()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hint::Code;

    #[test]
    fn what_can_hold_rows_is_left_out() {
        for (message, left) in [
            ("all is well", "all is well"),
            (
                "pg_restore: error: COPY failed: ERROR: duplicate key DETAIL: Key (email)=(ann@x.org)",
                "pg_restore: error: COPY failed: ERROR: duplicate key",
            ),
            ("ERROR: bad\nCONTEXT:  COPY t, line 1: \"ann\"\nHINT: ann", "ERROR: bad"),
            ("FEHLER: x\nKONTEXT:  COPY t, Zeile 1: \"ann\"", "FEHLER: x"),
            ("new row violates: Failing row contains (ann)", "new row violates:"),
        ] {
            assert_eq!(without_row_data(message), left);
        }
    }

    #[test]
    fn a_notice_says_what_failed_why_and_what_to_do() {
        let failure = Failure::new(Code::DumpFailed, "the dump failed: ERROR: x DETAIL: Key (email)=(ann@x.org)");
        let log = ["[2025-10-17 03:00:02] [INFO] Starting daily backup...".to_owned()];
        let at = DateTime::UNIX_EPOCH;
        let story = Story {
            operation: "backup",
            database: "app",
            host: "db1",
            begun: at,
            ended: at,
            log: &log,
            failure: Some(&failure),
        };
        let notice = story.notice(&Told::Failed);
        assert_eq!(notice.subject, "pgkeep: backup of app on db1 failed");
        for part in
            ["the dump failed: ERROR: x [dump_failed]", "Starting daily backup", "What to do: nothing of it was kept"]
        {
            assert!(notice.body.contains(part), "{part}\n{}", notice.body);
        }
        assert!(!notice.body.contains("ann@"));
        let told = Told::Recovered { since: at, failures: 3 };
        let notice = Story { failure: None, ..story }.notice(&told);
        assert_eq!(
            (notice.severity, notice.subject.as_str()),
            (Severity::Info, "pgkeep: backup of app on db1 is well again")
        );
        assert!(notice.body.contains("since 1970-01-01 00:00:00 UTC, 3 time(s)"), "{}", notice.body);
    }
}
