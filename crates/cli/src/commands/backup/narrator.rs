//! The events of a backup as the lines of the procedures' log.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pgkeep_core::BackupClass;
use pgkeep_metrics::{Event, Observer, Stage};

use crate::reporter::Reporter;

/// Tells a backup step by step.
#[derive(Debug)]
pub(super) struct Narrator {
    reporter: Arc<Reporter>,
    class: BackupClass,
    dump_elapsed: Mutex<Option<Duration>>,
}

impl Narrator {
    pub(super) fn new(reporter: Arc<Reporter>, class: BackupClass) -> Self {
        Self { reporter, class, dump_elapsed: Mutex::new(None) }
    }

    /// How long dump and upload took together.
    pub(super) fn dump_elapsed(&self) -> Option<Duration> {
        *self.dump_elapsed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Narrator {
    fn notice(&self, event: &Event) {
        match event {
            Event::Info { message } => match message.strip_prefix("connected to ") {
                Some(server) => self.reporter.info(format!("Database connection successful: {server}")),
                // Said at the end, in the procedures' words.
                None if message.starts_with("stored and checked at ") || message.ends_with(" is complete") => {
                    self.reporter.detail(message);
                }
                None => self.reporter.notice(event),
            },
            Event::StageStarted { stage: Stage::Dump, .. } => {
                self.reporter.info(format!("Starting {} backup...", self.class));
                self.reporter.notice(event);
            }
            Event::StageFinished { stage: Stage::Dump, elapsed } => {
                *self.dump_elapsed.lock().unwrap_or_else(PoisonError::into_inner) = Some(*elapsed);
                self.reporter.notice(event);
            }
            event => self.reporter.notice(event),
        }
    }
}
