//! A user's crontab, through the program of that name.

use std::path::PathBuf;

use super::process;
use crate::failure::{Failure, Result};
use crate::hint::Code;
use crate::surroundings::Surroundings;

/// A user's crontab.
#[derive(Debug)]
pub(super) struct Crontab {
    /// The program.
    pub(super) program: PathBuf,
    user: Option<String>,
}

impl Crontab {
    /// The crontab of this user, or of whoever runs this; `None` if there is no such program.
    pub(super) fn find(surroundings: &Surroundings, user: Option<&str>) -> Option<Self> {
        let program = process::find(surroundings, "crontab")?;
        Some(Self { program, user: user.map(str::to_owned) })
    }

    /// Its text; empty if there is none.
    pub(super) async fn read(&self) -> Result<Vec<u8>> {
        let said = process::run(&self.program, self.arguments("-l"), None).await?;
        let none = ["no crontab for", "No such file or directory"];
        if said.well() {
            Ok(said.stdout)
        } else if none.iter().any(|words| said.stderr.contains(words)) {
            Ok(Vec::new())
        } else {
            Err(self.refused("read", &said))
        }
    }

    /// Puts `text` in its place; none at all if it is empty.
    pub(super) async fn write(&self, text: &[u8]) -> Result<()> {
        let said = if text.is_empty() {
            process::run(&self.program, self.arguments("-r"), None).await?
        } else {
            process::run(&self.program, self.arguments("-"), Some(text)).await?
        };
        if !said.well() {
            return Err(self.refused("write", &said));
        }
        // Some put lines of their own on top.
        if !self.read().await?.ends_with(text) {
            return Err(Failure::new(
                Code::SchedulerRefused,
                format!("{} did not keep the crontab as it was given", self.program.display()),
            ));
        }
        Ok(())
    }

    fn arguments(&self, action: &str) -> Vec<String> {
        let user = self.user.iter().flat_map(|user| ["-u".to_owned(), user.clone()]);
        user.chain([action.to_owned()]).collect()
    }

    fn refused(&self, verb: &str, said: &process::Said) -> Failure {
        let whose = self.user.as_ref().map_or_else(String::new, |user| format!(" of {user}"));
        let message = format!("failed to {verb} the crontab{whose}: {}: {}", self.program.display(), said.complaint());
        Failure::new(Code::SchedulerRefused, message)
    }
}
