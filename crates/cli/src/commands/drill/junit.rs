//! The report for build servers.

use std::fmt::Write as _;

use super::report::Report;
use super::steps::Verdict;
use crate::render::escape;

impl Report {
    /// For build servers: JUnit's XML as they commonly read it.
    pub(super) fn junit(&self) -> String {
        let counts = format!(
            "tests=\"{}\" failures=\"{}\" errors=\"0\" skipped=\"{}\" time=\"{:.3}\"",
            self.steps.len(),
            self.failed,
            self.skipped,
            self.seconds
        );
        let name = format!("pgkeep drill {}", self.mode);
        let mut text = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"{name}\" {counts}>\n");
        let _ = writeln!(
            text,
            "  <testsuite name=\"{name}\" {counts} hostname=\"{}\" timestamp=\"{}\">",
            escape(&self.host),
            self.started_at.format("%Y-%m-%dT%H:%M:%S")
        );
        for step in &self.steps {
            let _ = write!(
                text,
                "    <testcase classname=\"pgkeep.drill\" name=\"{}\" time=\"{:.3}\">",
                escape(step.name),
                step.seconds
            );
            let reason = escape(step.reason.as_deref().unwrap_or_default());
            match step.result {
                Verdict::Pass => {}
                Verdict::Fail => {
                    let advice = escape(step.advice.as_deref().unwrap_or_default());
                    let _ = write!(
                        text,
                        "<failure type=\"{}\" message=\"{reason}\">{advice}</failure>",
                        step.code.map_or("failed", |code| code.text())
                    );
                }
                Verdict::Skip => {
                    let _ = write!(text, "<skipped message=\"{reason}\"/>");
                }
            }
            if !step.details.is_empty() {
                let _ = write!(text, "<system-out>{}</system-out>", escape(&step.details.join("\n")));
            }
            text.push_str("</testcase>\n");
        }
        text.push_str("  </testsuite>\n</testsuites>\n");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::report;

    #[test]
    fn junit_holds_any_text() {
        let text = report().junit();
        assert!(text.contains("tests=\"3\" failures=\"1\" errors=\"0\" skipped=\"1\" time=\"547.000\""), "{text}");
        assert!(text.contains("<failure type=\"damaged\" message=\"frame 3 | of &quot;&lt;t&gt;&quot; is damaged\">take another &lt;copy&gt;</failure>"), "{text}");
        assert!(text.contains("<skipped message=\"no bucket is set\"/>"), "{text}");
    }
}
