//! What checks found: one line each, for people and programs.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::failure::Failure;
use crate::hint::Code;
use crate::render::count;

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Tried, and it works.
    Pass,
    /// It works, and something about it should be known.
    Warn,
    /// It does not work, and is needed.
    Fail,
    /// Not tried.
    Skip,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            Self::Pass => "PASS",
            Self::Warn => "WARN",
            Self::Fail => "FAIL",
            Self::Skip => "SKIP",
        }
    }
}

/// One line.
#[derive(Debug, Clone)]
pub(super) struct Finding {
    group: String,
    name: String,
    state: State,
    message: String,
    missing: Option<String>,
    hint: Option<String>,
    code: Code,
}

impl Finding {
    /// The exact permission or statement that is missing.
    pub(super) fn missing(&mut self, missing: impl Into<String>) -> &mut Self {
        self.missing = Some(missing.into());
        self
    }

    /// What to do.
    pub(super) fn hint(&mut self, hint: impl Into<String>) -> &mut Self {
        self.hint = Some(hint.into());
        self
    }

    /// What kind of failure it is.
    pub(super) fn code(&mut self, code: Code) -> &mut Self {
        self.code = code;
        if self.hint.is_none() && self.missing.is_none() {
            self.hint = code.advice().map(str::to_owned);
        }
        self
    }
}

/// Everything found, in groups.
#[derive(Debug, Default)]
pub(super) struct Findings {
    group: String,
    list: Vec<Finding>,
}

impl Findings {
    /// What follows belongs to this group.
    pub(super) fn group(&mut self, name: impl Into<String>) {
        self.group = name.into();
    }

    /// Tried, and it works.
    pub(super) fn pass(&mut self, name: &str, message: impl Into<String>) -> &mut Finding {
        self.add(State::Pass, name, message.into())
    }

    /// It works, and something about it should be known.
    pub(super) fn warn(&mut self, name: &str, message: impl Into<String>) -> &mut Finding {
        self.add(State::Warn, name, message.into())
    }

    /// It does not work, and is needed.
    pub(super) fn fail(&mut self, name: &str, message: impl Into<String>) -> &mut Finding {
        self.add(State::Fail, name, message.into())
    }

    /// It does not work, for this reason.
    pub(super) fn failed(&mut self, name: &str, failure: impl Into<Failure>) -> &mut Finding {
        let failure = failure.into();
        let finding = self.add(State::Fail, name, failure.message);
        finding.code = failure.code;
        finding.hint = failure.hint;
        finding
    }

    /// Not tried.
    pub(super) fn skip(&mut self, name: &str, message: impl Into<String>) -> &mut Finding {
        self.add(State::Skip, name, message.into())
    }

    fn add(&mut self, state: State, name: &str, message: String) -> &mut Finding {
        self.list.push(Finding {
            group: self.group.clone(),
            name: name.to_owned(),
            state,
            message,
            missing: None,
            hint: None,
            code: Code::SettingsInvalid,
        });
        self.list.last_mut().expect("it was just put there")
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// From there on nothing is needed: what fails is a warning.
    pub(super) fn soften(&mut self, begin: usize) {
        for finding in self.list.iter_mut().skip(begin).filter(|finding| finding.state == State::Fail) {
            finding.state = State::Warn;
        }
    }

    fn count(&self, state: State) -> usize {
        self.list.iter().filter(|finding| finding.state == state).count()
    }

    /// The warnings as lines.
    pub(super) fn warnings(&self) -> Vec<String> {
        let warnings = self.list.iter().filter(|finding| finding.state == State::Warn);
        warnings.map(|finding| format!("{}: {}: {}", finding.group, finding.name, finding.message)).collect()
    }

    /// The first failure stands for all of them.
    pub(super) fn failure(&self) -> Option<Failure> {
        let mut failed = self.list.iter().filter(|finding| finding.state == State::Fail);
        let first = failed.next()?;
        let others = match failed.count() {
            0 => String::new(),
            others => format!(", and {others} more"),
        };
        let message = format!("check failed: {}: {}: {}{others}", first.group, first.name, first.message);
        let hint = match (&first.missing, &first.hint) {
            (Some(missing), Some(hint)) => Some(format!("missing: {missing}; {hint}")),
            (Some(missing), None) => Some(format!("missing: {missing}")),
            (None, hint) => hint.clone(),
        };
        Some(Failure { code: first.code, message, hint: hint.or(Some("see the lines that say FAIL".to_owned())) })
    }

    /// The screen.
    pub(super) fn text(&self) -> String {
        let width = self.list.iter().map(|finding| finding.name.chars().count()).max().unwrap_or(0);
        let mut text = String::new();
        let mut group = "";
        for finding in &self.list {
            if finding.group != group {
                group = &finding.group;
                let gap = if text.is_empty() { "" } else { "\n" };
                let _ = writeln!(text, "{gap}{group}");
            }
            let _ = writeln!(text, "  {}  {:width$}  {}", finding.state.word(), finding.name, finding.message);
            for (label, value) in [("missing", &finding.missing), ("do", &finding.hint)] {
                if let Some(value) = value {
                    let _ = writeln!(text, "        {:width$}  {label}: {value}", "");
                }
            }
        }
        let _ = writeln!(
            text,
            "\n{} passed, {}, {} failed, {} skipped",
            self.count(State::Pass),
            count(self.count(State::Warn) as u64, "warning"),
            self.count(State::Fail),
            self.count(State::Skip)
        );
        text
    }

    /// Each finding for programs.
    pub(super) fn document(&self) -> Value {
        let finding = |finding: &Finding| {
            json!({
                "group": finding.group,
                "name": finding.name,
                "state": finding.state.word().to_lowercase(),
                "message": finding.message,
                "missing": finding.missing,
                "hint": finding.hint,
                "code": (finding.state == State::Fail).then(|| finding.code.text()),
            })
        };
        Value::Array(self.list.iter().map(finding).collect())
    }

    /// How many came out how.
    pub(super) fn summary_document(&self) -> Value {
        json!({
            "passed": self.count(State::Pass),
            "warnings": self.count(State::Warn),
            "failed": self.count(State::Fail),
            "skipped": self.count(State::Skip),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_decides_the_exit() {
        let mut findings = Findings::default();
        findings.group("database");
        findings.pass("connect", "PostgreSQL 17.2");
        findings
            .fail("read tables", "table a.b")
            .code(Code::DatabasePermission)
            .missing("GRANT SELECT ON TABLE a.b TO c");
        findings.group("bucket");
        findings.fail("put", "refused").code(Code::StoreRefused);
        let failure = findings.failure().unwrap();
        assert_eq!(failure.exit().code(), 5);
        assert_eq!(failure.message, "check failed: database: read tables: table a.b, and 1 more");
        assert!(failure.hint.unwrap().contains("GRANT SELECT"));
        let text = findings.text();
        assert!(text.contains("\n  FAIL  read tables  table a.b\n"), "{text}");
        assert!(text.contains("missing: GRANT SELECT ON TABLE a.b TO c"), "{text}");
        assert!(text.ends_with("1 passed, 0 warnings, 2 failed, 0 skipped\n"), "{text}");
    }
}
