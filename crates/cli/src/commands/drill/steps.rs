//! The steps of a drill: each passes, fails or is skipped, with its reason and its duration.

use std::time::Instant;

use serde::Serialize;

use crate::commands::Context;
use crate::failure::{Failure, Result};
use crate::hint::Code;
use crate::render::elapsed;

/// What became of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum Verdict {
    /// All was as it should be.
    Pass,
    /// Something was not.
    Fail,
    /// It was not tried.
    Skip,
}

impl Verdict {
    /// The word in reports.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Pass => "PASS",
            Self::Fail => "FAIL",
            Self::Skip => "SKIP",
        }
    }
}

/// A step that is over.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Step {
    /// Its name.
    pub(super) name: &'static str,
    /// What became of it.
    pub(super) result: Verdict,
    /// How long it took, in seconds.
    pub(super) seconds: f64,
    /// Why it failed or was skipped.
    pub(super) reason: Option<String>,
    /// What to do about it.
    pub(super) advice: Option<String>,
    /// What was found, one line each.
    pub(super) details: Vec<String>,
    /// The failure's code.
    #[serde(skip)]
    pub(super) code: Option<Code>,
}

/// What a step that passed found, one line each, and what it has for those after it.
pub(super) type Passed<T> = (T, Vec<String>);

/// The steps so far.
#[derive(Debug)]
pub(super) struct Steps<'c> {
    context: &'c Context,
    /// In the order in which they ended.
    pub(super) list: Vec<Step>,
}

impl<'c> Steps<'c> {
    /// None yet.
    pub(super) fn new(context: &'c Context) -> Self {
        Self { context, list: Vec::new() }
    }

    /// Carries one step out. `None` is a step that failed, and the drill goes on; an error is its interruption.
    pub(super) async fn run<T>(
        &mut self,
        name: &'static str,
        work: impl Future<Output = Result<Passed<T>>>,
    ) -> Result<Option<T>> {
        self.run_since(name, Instant::now(), work).await
    }

    /// The same for what began before.
    pub(super) async fn run_since<T>(
        &mut self,
        name: &'static str,
        began: Instant,
        work: impl Future<Output = Result<Passed<T>>>,
    ) -> Result<Option<T>> {
        self.context.reporter.info(format!("{name}..."));
        let outcome = work.await;
        let took = began.elapsed();
        self.context.reporter.clear();
        let mut step = Step {
            name,
            result: Verdict::Pass,
            seconds: took.as_secs_f64(),
            reason: None,
            advice: None,
            details: Vec::new(),
            code: None,
        };
        match outcome {
            Ok((value, details)) => {
                self.context.reporter.info(format!("{name}: PASS ({})", elapsed(took)));
                for detail in &details {
                    self.context.reporter.detail(format!("{name}: {detail}"));
                }
                self.list.push(Step { details, ..step });
                Ok(Some(value))
            }
            Err(failure) => {
                self.context.reporter.caution(format!("{name}: FAIL ({}): {}", elapsed(took), failure.message));
                let interrupted = failure.code == Code::Interrupted;
                step.result = Verdict::Fail;
                step.code = Some(failure.code);
                step.reason = Some(failure.message.clone());
                step.advice = failure.hint.clone().filter(|_| !interrupted);
                self.list.push(step);
                if interrupted { Err(failure) } else { Ok(None) }
            }
        }
    }

    /// Notes a step that can't be tried.
    pub(super) fn skip(&mut self, name: &'static str, reason: impl Into<String>) {
        let reason = reason.into();
        self.context.reporter.info(format!("{name}: SKIP ({reason})"));
        self.list.push(Step {
            name,
            result: Verdict::Skip,
            seconds: 0.0,
            reason: Some(reason),
            advice: None,
            details: Vec::new(),
            code: None,
        });
    }

    /// How many there are of a kind.
    pub(super) fn count(&self, verdict: Verdict) -> usize {
        self.list.iter().filter(|step| step.result == verdict).count()
    }

    /// The failure of the whole drill, if a step failed: with the code of the first.
    pub(super) fn failure(&self) -> Option<Failure> {
        let first = self.list.iter().find(|step| step.result == Verdict::Fail)?;
        let message = format!(
            "{} of {} steps failed: {}: {}",
            self.count(Verdict::Fail),
            self.list.len(),
            first.name,
            first.reason.as_deref().unwrap_or_default()
        );
        let failure = Failure::new(first.code.unwrap_or(Code::DrillFailed), message);
        Some(match &first.advice {
            Some(advice) => failure.hint(advice.clone()),
            None => failure,
        })
    }
}
