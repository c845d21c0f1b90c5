//! What was measured, against what is wanted; and the report of it all.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::report::{Objective, Report, span};
use super::steps::{Steps, Verdict};
use super::{Drill, Found};
use crate::args::DrillMode;
use crate::failure::{Failure, Result};
use crate::hint::Code;
use crate::render::{elapsed, size};

impl Drill<'_> {
    /// `backup_performance`: what was measured, against what is wanted.
    pub(super) async fn performance(&self, steps: &mut Steps<'_>, found: &Found) -> Result<()> {
        let good = found.restore.filter(|(good, _)| *good).map(|(_, took)| took);
        if found.making.is_none() && good.is_none() {
            steps.skip("backup_performance", "nothing was measured");
            return Ok(());
        }
        let rate =
            |bytes: u64, took: Duration| format!("{}/s", size((bytes as f64 / took.as_secs_f64().max(0.001)) as u64));
        let mut details = Vec::new();
        if let Some((took, bytes)) = found.making {
            details.push(format!("backup: {} of archive in {}, {}", size(bytes), elapsed(took), rate(bytes, took)));
        }
        if let (Some(took), Some(bytes)) = (good, found.restored_bytes) {
            details.push(format!(
                "restore, proof included: {} of archive in {}, {}; {} are allowed",
                size(bytes),
                elapsed(took),
                rate(bytes, took),
                span(self.objectives.rto.as_secs_f64())
            ));
        }
        let rto = self.objectives.rto;
        let judged = async {
            match good.filter(|took| *took > rto) {
                Some(took) => Err(Failure::new(
                    Code::DrillFailed,
                    format!("the restore took {}, {} are allowed", elapsed(took), span(rto.as_secs_f64())),
                )
                .hint("restore with more --jobs, to faster disks or from a nearer copy; or set BACKUP_RTO to what is really needed")),
                None => Ok(((), details)),
            }
        };
        steps.run("backup_performance", judged).await.map(|_| ())
    }

    /// The report.
    pub(super) fn report(&self, begun: DateTime<Utc>, steps: &Steps<'_>, found: Found) -> Report {
        let mut report = Report::new(self.mode.word(), begun, &self.context.surroundings.host, &steps.list);
        report.backup = found.backup;
        report.restored_to = found.restored_to;
        report.restore_success = found.restore.map(|(good, _)| {
            let mut looked = steps.list.iter().filter(|step| matches!(step.name, "data_integrity" | "queries"));
            good && looked.all(|step| step.result == Verdict::Pass)
        });
        report.restore_seconds = found.restore.filter(|(good, _)| *good).map(|(_, took)| took.as_secs_f64());
        if self.mode != DrillMode::IntegrityOnly {
            report.objectives = vec![
                Objective::new("restore time", "BACKUP_RTO", self.objectives.rto, report.restore_seconds),
                Objective::new("data age before this drill", "BACKUP_RPO", self.objectives.rpo, found.data_age),
            ];
        }
        report.queries = found.answers;
        report
    }
}
