//! Why a command failed: a stable code, what failed on what and why, and what to do next.

use std::error::Error;
use std::fmt;

use crate::exit::Exit;
use crate::hint::Code;

/// The result of a command.
pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

/// A failed command, ready to be told to people and programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// Stable name of what went wrong.
    pub(crate) code: Code,
    /// What failed, on what, why: one line, causes joined by colons, no secret.
    pub(crate) message: String,
    /// What to do next; the code's own advice where nothing better is known.
    pub(crate) hint: Option<String>,
}

impl Failure {
    /// A failure with its code's own advice.
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: code.advice().map(str::to_owned) }
    }

    /// Arguments or settings that are wrong.
    pub(crate) fn settings(message: impl Into<String>) -> Self {
        Self::new(Code::SettingsInvalid, message)
    }

    /// A failure of our own files and streams.
    pub(crate) fn io(what: impl fmt::Display, error: &std::io::Error) -> Self {
        let code = match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Code::DiskFull,
            std::io::ErrorKind::PermissionDenied => Code::PermissionDenied,
            std::io::ErrorKind::BrokenPipe => Code::BrokenPipe,
            _ => Code::Unexpected,
        };
        Self::new(code, format!("failed to {what}: {error}"))
    }

    /// The same with better advice.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same, with what was being done in front.
    pub(crate) fn context(mut self, what: impl fmt::Display) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }

    /// The exit code.
    pub(crate) fn exit(&self) -> Exit {
        self.code.exit()
    }
}

/// An error and its causes as one line. A cause that its effect repeats already is left out.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut line = one_line(&error.to_string());
    let mut source = error.source();
    while let Some(cause) = source {
        let text = one_line(&cause.to_string());
        if !text.is_empty() && !line.contains(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        source = cause.source();
    }
    line
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("failed to open the store")]
    struct Outer(#[source] Inner);
    #[derive(Debug, thiserror::Error)]
    #[error("no route\n to host")]
    struct Inner;

    #[test]
    fn causes_make_one_line() {
        assert_eq!(chain(&Outer(Inner)), "failed to open the store: no route to host");
    }

    #[test]
    fn a_full_disk_is_told_apart() {
        let error = std::io::Error::from(std::io::ErrorKind::StorageFull);
        assert_eq!(Failure::io("write the export", &error).code, Code::DiskFull);
    }
}
