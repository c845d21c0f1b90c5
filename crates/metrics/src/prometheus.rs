//! A sample in Prometheus' text format (version 0.0.4).

use std::fmt::Write as _;

use chrono::{DateTime, Utc};

use crate::{Sample, Standing};

/// A family of gauges.
type Family = (&'static str, &'static str, Vec<(Vec<(&'static str, String)>, f64)>);

/// How things stand, as text. Every value is a gauge that holds until the next run: scraping it does not need the run.
pub(crate) fn text(sample: &Sample, standing: &Standing) -> String {
    let database = || ("database", sample.database.clone());
    let by_class = |value: &dyn Fn(&crate::ClassStanding) -> f64| {
        let line = |class: &crate::ClassStanding| (vec![database(), ("class", class.class.clone())], value(class));
        standing.classes.iter().map(line).collect::<Vec<_>>()
    };
    let once = |at: Option<DateTime<Utc>>| at.map(|at| (vec![database()], seconds(at))).into_iter().collect::<Vec<_>>();
    let by_run = |value: &dyn Fn(&crate::RunStanding) -> f64| {
        let line = |run: &crate::RunStanding| (vec![database(), ("operation", run.operation.clone())], value(run));
        standing.runs.iter().map(line).collect::<Vec<_>>()
    };
    let families: [Family; 9] = [
        (
            "pgkeep_last_success_timestamp_seconds",
            "When the newest good backup was begun.",
            by_class(&|class| seconds(class.last_success)),
        ),
        ("pgkeep_backup_size_bytes", "Its stored size.", by_class(&|class| class.stored_bytes as f64)),
        ("pgkeep_backup_plain_bytes", "Its size before compression.", by_class(&|class| class.plain_bytes as f64)),
        ("pgkeep_backup_duration_seconds", "How long it took.", by_class(&|class| class.duration_seconds as f64)),
        ("pgkeep_backups", "Good backups.", by_class(&|class| class.backups as f64)),
        (
            "pgkeep_last_proof_timestamp_seconds",
            "When the content of a backup was last proven, by reading or restoring it.",
            once(standing.last_proof),
        ),
        (
            "pgkeep_last_restore_test_timestamp_seconds",
            "When a backup was last restored and compared.",
            once(standing.last_restore_test),
        ),
        ("pgkeep_last_run_timestamp_seconds", "When an operation last ended.", by_run(&|run| seconds(run.at))),
        ("pgkeep_last_run_success", "Whether it ended well: 1 or 0.", by_run(&|run| f64::from(u8::from(run.success)))),
    ];
    let mut text = String::new();
    for (name, help, lines) in families.iter().filter(|(_, _, lines)| !lines.is_empty()) {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge");
        for (labels, value) in lines {
            let labels: Vec<_> = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
            let _ = writeln!(text, "{name}{{{}}} {value}", labels.join(","));
        }
    }
    text
}

fn seconds(at: DateTime<Utc>) -> f64 {
    at.timestamp_millis() as f64 / 1_000.0
}

fn escaped(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
pub(crate) mod tests {
    use chrono::TimeZone;

    use super::*;
    use crate::{ClassStanding, RunStanding};

    pub(crate) fn sample() -> Sample {
        let at = Utc.with_ymd_and_hms(2025, 10, 17, 3, 0, 1).unwrap();
        Sample {
            database: "a\"b".to_owned(),
            at,
            measurements: Vec::new(),
            standing: Some(Standing {
                classes: vec![ClassStanding {
                    class: "daily".to_owned(),
                    backups: 7,
                    last_success: at,
                    stored_bytes: 12_345_678_901,
                    plain_bytes: 45,
                    duration_seconds: 6,
                }],
                last_proof: None,
                last_restore_test: Some(at),
                runs: vec![RunStanding { operation: "backup".to_owned(), at, success: false }],
            }),
        }
    }

    #[test]
    fn the_text_format() {
        let sample = sample();
        let text = text(&sample, sample.standing.as_ref().unwrap());
        for line in [
            "# TYPE pgkeep_last_success_timestamp_seconds gauge",
            "pgkeep_last_success_timestamp_seconds{database=\"a\\\"b\",class=\"daily\"} 1760670001",
            "pgkeep_backup_size_bytes{database=\"a\\\"b\",class=\"daily\"} 12345678901",
            "pgkeep_backup_duration_seconds{database=\"a\\\"b\",class=\"daily\"} 6",
            "pgkeep_last_restore_test_timestamp_seconds{database=\"a\\\"b\"} 1760670001",
            "pgkeep_last_run_success{database=\"a\\\"b\",operation=\"backup\"} 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        assert!(!text.contains("last_proof"), "what was never proven has no time");
        assert!(text.ends_with('\n'));
    }

    #[test]
    fn the_example_s_alerts_watch_what_there_is() {
        let rules = include_str!("../../../examples/prometheus-alerts.yml");
        let mut sample = sample();
        let standing = sample.standing.take().unwrap();
        let written = text(&sample, &Standing { last_proof: Some(sample.at), ..standing });
        let names =
            rules.split(|c: char| !c.is_ascii_lowercase() && c != '_').filter(|word| word.starts_with("pgkeep_"));
        let mut found = 0;
        for name in names {
            assert!(written.contains(&format!("# TYPE {name} gauge")), "{name}");
            found += 1;
        }
        assert!(found >= 6, "{found}");
    }
}
