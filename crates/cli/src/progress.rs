//! The progress bar: bytes, rate, tables done, time left; on stderr, only on a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use pgkeep_metrics::{Event, Stage};

/// The bar of the stage that is under way.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// A bar on stderr, or none.
    pub(crate) fn new(shown: bool) -> Self {
        let bar = if shown {
            ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(8))
        } else {
            ProgressBar::hidden()
        };
        // Nothing is drawn before the first stage begins.
        bar.finish_and_clear();
        Self { bar }
    }

    /// Runs `write`, which writes lines to stderr, with the bar out of the way.
    pub(crate) fn suspend<R>(&self, write: impl FnOnce() -> R) -> R {
        self.bar.suspend(write)
    }

    /// Shows what the event says.
    pub(crate) fn notice(&self, event: &Event) {
        if self.bar.is_hidden() {
            return;
        }
        match event {
            Event::StageStarted { stage, subject } => {
                self.bar.reset();
                self.bar.set_style(spinner());
                self.bar.set_message(if subject.is_empty() {
                    word(*stage).to_owned()
                } else {
                    format!("{} {subject}", word(*stage))
                });
                self.bar.enable_steady_tick(Duration::from_millis(125));
            }
            Event::Progress { plain_bytes, total_bytes, items, total_items, .. } => {
                if let Some(total) = total_bytes {
                    self.bar.set_style(bytes_of(*items, *total_items));
                    self.bar.set_length((*total).max(*plain_bytes));
                } else {
                    self.bar.set_style(bytes(*items, *total_items));
                }
                self.bar.set_position(*plain_bytes);
            }
            Event::StageFinished { .. } => self.clear(),
            _ => {}
        }
    }

    /// Takes the bar away.
    pub(crate) fn clear(&self) {
        self.bar.disable_steady_tick();
        self.bar.finish_and_clear();
    }
}

/// What a stage does, for people.
fn word(stage: Stage) -> &'static str {
    match stage {
        Stage::Connect => "connecting",
        Stage::Lock => "waiting for the lock of",
        Stage::Replicate => "copying",
        Stage::Dump => "dumping",
        Stage::Publish => "checking",
        Stage::Prune => "pruning",
        Stage::Verify => "verifying",
        Stage::PreData => "creating the schema of",
        Stage::Data => "loading",
        Stage::PostData => "indexing",
        Stage::Analyze => "analysing",
        Stage::Proof => "proving",
        Stage::Swap => "exchanging names:",
        _ => "working",
    }
}

fn tables(items: u64, total: Option<u64>) -> String {
    match (items, total) {
        (0, None) => String::new(),
        (items, None) => format!("{items} tables"),
        (items, Some(total)) => format!("{items}/{total} tables"),
    }
}

fn spinner() -> ProgressStyle {
    ProgressStyle::with_template("{spinner} {msg} {elapsed}").unwrap_or_else(|_| ProgressStyle::default_spinner())
}

fn bytes(items: u64, total: Option<u64>) -> ProgressStyle {
    ProgressStyle::with_template("{spinner} {msg} {bytes}  {bytes_per_sec}  {tables}  {elapsed}")
        .unwrap_or_else(|_| ProgressStyle::default_spinner())
        .with_key("tables", move |_: &ProgressState, out: &mut dyn std::fmt::Write| {
            let _ = out.write_str(&tables(items, total));
        })
}

fn bytes_of(items: u64, total: Option<u64>) -> ProgressStyle {
    ProgressStyle::with_template("{msg} {wide_bar} {bytes} of {total_bytes}  {bytes_per_sec}  {tables}  {eta} left")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .with_key("tables", move |_: &ProgressState, out: &mut dyn std::fmt::Write| {
            let _ = out.write_str(&tables(items, total));
        })
}
