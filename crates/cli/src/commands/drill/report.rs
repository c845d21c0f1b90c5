//! The report of a drill: one value, written as Markdown for people, as JSON and as JUnit for programs.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::checks::Answer;
use super::steps::{Step, Verdict};
use crate::failure::{Failure, Result};
use crate::render::elapsed;

/// The version of the JSON report.
const VERSION: u32 = 1;

/// Everything about a drill.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Report {
    /// The version of this document.
    pub(super) version: u32,
    /// `passed` or `failed`.
    pub(super) outcome: &'static str,
    /// The mode.
    pub(super) mode: &'static str,
    /// When it began.
    pub(super) started_at: DateTime<Utc>,
    /// How long it took, in seconds.
    pub(super) seconds: f64,
    /// The machine.
    pub(super) host: String,
    /// The program.
    pub(super) tool_version: &'static str,
    /// Steps that passed.
    pub(super) passed: usize,
    /// Steps that failed.
    pub(super) failed: usize,
    /// Steps that were skipped.
    pub(super) skipped: usize,
    /// The steps.
    pub(super) steps: Vec<Step>,
    /// The backup that was restored, or compared with.
    pub(super) backup: Option<String>,
    /// Where to.
    pub(super) restored_to: Option<String>,
    /// Whether a restore was tried out, and was good.
    pub(super) restore_success: Option<bool>,
    /// How long that restore took, in seconds.
    pub(super) restore_seconds: Option<f64>,
    /// What was measured, against what is wanted.
    pub(super) objectives: Vec<Objective>,
    /// The user's own questions.
    pub(super) queries: Vec<Answer>,
}

/// One measurement against what is wanted.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Objective {
    /// What was measured, for people.
    pub(super) name: &'static str,
    /// The setting.
    pub(super) setting: &'static str,
    /// What is wanted, at most, in seconds.
    pub(super) limit_seconds: u64,
    /// What was measured, in seconds.
    pub(super) seconds: Option<f64>,
    /// Whether it is within the limit.
    pub(super) met: Option<bool>,
}

impl Objective {
    /// A measurement, if there is one.
    pub(super) fn new(name: &'static str, setting: &'static str, limit: Duration, seconds: Option<f64>) -> Self {
        let met = seconds.map(|seconds| seconds <= limit.as_secs_f64());
        Self { name, setting, limit_seconds: limit.as_secs(), seconds, met }
    }
}

impl Report {
    /// One over these steps; facts are to be filled in.
    pub(super) fn new(mode: &'static str, started_at: DateTime<Utc>, host: &str, steps: &[Step]) -> Self {
        let count = |verdict| steps.iter().filter(|step| step.result == verdict).count();
        Self {
            version: VERSION,
            outcome: if count(Verdict::Fail) == 0 { "passed" } else { "failed" },
            mode,
            started_at,
            seconds: (Utc::now() - started_at).as_seconds_f64(),
            host: host.to_owned(),
            tool_version: crate::wire::TOOL_VERSION,
            passed: count(Verdict::Pass),
            failed: count(Verdict::Fail),
            skipped: count(Verdict::Skip),
            steps: steps.to_vec(),
            backup: None,
            restored_to: None,
            restore_success: None,
            restore_seconds: None,
            objectives: Vec::new(),
            queries: Vec::new(),
        }
    }

    /// Writes it three times into `folder`, which is made where there is none. The files' paths, Markdown first.
    pub(super) fn write(&self, folder: &Path) -> Result<Vec<PathBuf>> {
        let failed = |path: &Path, error: &std::io::Error| Failure::io(format_args!("write {}", path.display()), error);
        std::fs::create_dir_all(folder).map_err(|error| failed(folder, &error))?;
        let stem = format!("drill_{}", self.started_at.format("%Y%m%d_%H%M%S"));
        let json = serde_json::to_string_pretty(self).unwrap_or_default();
        for attempt in 1.. {
            let stem = if attempt == 1 { stem.clone() } else { format!("{stem}_{attempt}") };
            let paths = ["md", "json", "xml"].map(|extension| folder.join(format!("{stem}.{extension}")));
            if paths.iter().any(|path| path.exists()) {
                continue;
            }
            for (path, text) in paths.iter().zip([self.markdown(), format!("{json}\n"), self.junit()]) {
                std::fs::File::create_new(path)
                    .and_then(|mut file| file.write_all(text.as_bytes()))
                    .map_err(|error| failed(path, &error))?;
            }
            return Ok(paths.to_vec());
        }
        Ok(Vec::new())
    }

    /// For people.
    pub(super) fn markdown(&self) -> String {
        let mut text = String::new();
        let verdict = self.outcome.to_uppercase();
        let _ = writeln!(text, "# Backup and restore drill: {verdict}\n");
        let mut fact = |label: &str, value: &str| {
            let _ = writeln!(text, "- **{label}:** {}", plain(value));
        };
        fact("Date", &self.started_at.format("%Y-%m-%d %H:%M:%S UTC").to_string());
        fact("Host", &self.host);
        fact("Mode", self.mode);
        if let Some(backup) = &self.backup {
            fact("Backup", backup);
        }
        if let Some(place) = &self.restored_to {
            fact("Restored to", place);
        }
        fact("Program", self.tool_version);

        let _ = writeln!(text, "\n## Summary\n");
        let _ = writeln!(
            text,
            "{} steps in {}: {} passed, {} failed, {} skipped.",
            self.steps.len(),
            span(self.seconds),
            self.passed,
            self.failed,
            self.skipped
        );
        if !self.objectives.is_empty() {
            let _ = writeln!(text, "\n| Objective | Measured | Wanted | |\n| --- | ---: | ---: | --- |");
            for objective in &self.objectives {
                let _ = writeln!(
                    text,
                    "| {} (`{}`) | {} | {} | {} |",
                    objective.name,
                    objective.setting,
                    objective.seconds.map_or_else(|| "not measured".to_owned(), span),
                    span(objective.limit_seconds as f64),
                    match objective.met {
                        Some(true) => "met",
                        Some(false) => "**MISSED**",
                        None => "",
                    }
                );
            }
        }

        let _ = writeln!(text, "\n## Steps\n\n| Step | Result | Duration | Why |\n| --- | --- | ---: | --- |");
        for step in &self.steps {
            let word = if step.result == Verdict::Fail { "**FAIL**" } else { step.result.word() };
            let duration = if step.result == Verdict::Skip { String::new() } else { span(step.seconds) };
            let reason = cell(step.reason.as_deref().unwrap_or_default());
            let _ = writeln!(text, "| {} | {word} | {duration} | {reason} |", step.name);
        }

        let failed: Vec<_> = self.steps.iter().filter(|step| step.result == Verdict::Fail).collect();
        if !failed.is_empty() {
            let _ = writeln!(text, "\n## What to do\n");
            for step in failed {
                let advice = step.advice.as_deref().unwrap_or("see its reason above, then run the drill again");
                let _ = writeln!(text, "- **{}**: {}", step.name, plain(advice));
            }
        }
        if !self.queries.is_empty() {
            let _ = writeln!(text, "\n## Own queries\n\n| Query | Answer | |\n| --- | --- | --- |");
            for answer in &self.queries {
                let verdict = if answer.good { "PASS" } else { "**FAIL**" };
                let _ = writeln!(text, "| {} | {} | {verdict} |", cell(&answer.query), cell(&answer.value));
            }
        }
        let told: Vec<_> = self.steps.iter().filter(|step| !step.details.is_empty()).collect();
        if !told.is_empty() {
            let _ = writeln!(text, "\n## What was found");
            for step in told {
                let _ = writeln!(text, "\n### {}\n", step.name);
                for detail in &step.details {
                    let _ = writeln!(text, "- {}", plain(detail));
                }
            }
        }
        text
    }
}

/// A duration for people.
pub(super) fn span(seconds: f64) -> String {
    match seconds {
        seconds if seconds >= 172_800.0 => format!("{:.0} d", seconds / 86_400.0),
        seconds if seconds >= 7_200.0 && seconds % 3_600.0 == 0.0 => format!("{:.0} h", seconds / 3_600.0),
        seconds => elapsed(Duration::try_from_secs_f64(seconds).unwrap_or_default()),
    }
}

/// Text that means nothing in Markdown.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\\' | '`' | '*' | '<' | '[' | ']' => {
                plain.push('\\');
                plain.push(character);
            }
            '\n' | '\r' => plain.push(' '),
            character => plain.push(character),
        }
    }
    plain
}

/// The same in a table.
fn cell(text: &str) -> String {
    plain(text).replace('|', "\\|")
}

#[cfg(test)]
pub(super) mod tests {
    use chrono::TimeZone;

    use super::*;
    use crate::hint::Code;

    /// A report with one step of each kind.
    pub(in crate::commands::drill) fn report() -> Report {
        let step = |name, result, reason: Option<&str>, details: &[&str]| Step {
            name,
            result,
            seconds: 132.4,
            reason: reason.map(str::to_owned),
            advice: reason.map(|_| "take another <copy>".to_owned()),
            details: details.iter().map(|&line| line.to_owned()).collect(),
            code: reason.map(|_| Code::Damaged),
        };
        let steps = [
            step("backup_creation", Verdict::Pass, None, &["daily_20251017_030001, 45M"]),
            step("backup_integrity", Verdict::Fail, Some("frame 3 | of \"<t>\" is damaged\u{1}"), &[]),
            step("s3_upload", Verdict::Skip, Some("no bucket is set"), &[]),
        ];
        let at = Utc.with_ymd_and_hms(2025, 10, 17, 14, 30, 0).unwrap();
        let mut report = Report::new("full", at, "prod-server-01", &steps);
        report.seconds = 547.0;
        report.objectives = vec![Objective::new("restore", "BACKUP_RTO", Duration::from_mins(2), Some(215.0))];
        report.queries = vec![Answer { query: "SELECT a | b".to_owned(), good: false, value: "no row".to_owned() }];
        report
    }

    #[test]
    fn markdown_reads_well() {
        let text = report().markdown();
        for line in [
            "# Backup and restore drill: FAILED",
            "- **Date:** 2025-10-17 14:30:00 UTC",
            "- **Host:** prod-server-01",
            "- **Mode:** full",
            "3 steps in 547 seconds: 1 passed, 1 failed, 1 skipped.",
            "| restore (`BACKUP_RTO`) | 215 seconds | 120 seconds | **MISSED** |",
            "| backup_creation | PASS | 132 seconds |  |",
            "| s3_upload | SKIP |  | no bucket is set |",
            "- **backup_integrity**: take another \\<copy>",
            "| SELECT a \\| b | no row | **FAIL** |",
        ] {
            assert!(text.lines().any(|found| found == line), "{line:?} is not in\n{text}");
        }
    }

    #[test]
    fn reports_never_replace_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let first = report().write(&folder.path().join("test-results")).unwrap();
        let second = report().write(&folder.path().join("test-results")).unwrap();
        assert_eq!(first[0].file_name().unwrap(), "drill_20251017_143000.md");
        assert_eq!(second[2].file_name().unwrap(), "drill_20251017_143000_2.xml");
        let json: serde_json::Value = serde_json::from_slice(&std::fs::read(&first[1]).unwrap()).unwrap();
        assert_eq!(json["steps"][1]["result"], "FAIL");
    }
}
