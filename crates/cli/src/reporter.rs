//! What happens, told once each to the log file and to stderr.

use std::collections::VecDeque;
use std::io::{BufRead, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use chrono::Utc;
use pgkeep_metrics::{Event, Observer};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio_util::sync::CancellationToken;

use crate::args::{ColorChoice, GlobalArgs};
use crate::failure::{Failure, Result};
use crate::hint::Code;
use crate::log::{self, Level, LogFile};
use crate::monitoring::without_row_data;
use crate::progress::Progress;
use crate::surroundings::Surroundings;

/// Tells people and the log file what happens. A failing log never fails a run (law 8).
#[derive(Debug)]
pub(crate) struct Reporter {
    least: Level,
    terminal: bool,
    colors: bool,
    stdin_is_terminal: bool,
    progress: Progress,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    file: Option<LogFile>,
    /// stderr is the log file: each line goes there once.
    stderr_is_file: bool,
    /// The cursor stands behind a question.
    asking: bool,
    warnings: Vec<String>,
    /// Which of several databases it is about.
    subject: Option<String>,
    /// The last lines, for whoever is told of a failure; without row data.
    tail: VecDeque<String>,
}

/// Lines of the log in a notice.
const TAIL: usize = 20;

impl Reporter {
    /// A reporter as the flags say, without a log file yet.
    pub(crate) fn new(globals: &GlobalArgs, surroundings: &Surroundings) -> Self {
        let least = match (globals.quiet, globals.verbose) {
            (true, _) => Level::Warn,
            (_, true) => Level::Debug,
            _ => Level::Info,
        };
        let terminal = surroundings.stderr_is_terminal;
        let dumb = surroundings.variable("TERM") == Some("dumb");
        let colors = match globals.color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => terminal && !dumb && surroundings.variable("NO_COLOR").is_none(),
        };
        Self {
            least,
            terminal,
            colors,
            stdin_is_terminal: surroundings.stdin_is_terminal,
            progress: Progress::new(terminal && !dumb && !globals.no_progress && !globals.quiet),
            state: Mutex::default(),
        }
    }

    /// Writes to this log file too. `Err` says why that is not possible.
    pub(crate) fn open_log(&self, path: &Path, stderr: Option<(u64, u64)>) -> std::io::Result<()> {
        let stderr_is_file = LogFile::is(path, stderr);
        let file = LogFile::open(path, Utc::now())?;
        let mut state = self.state();
        state.file = Some(file);
        state.stderr_is_file = stderr_is_file;
        Ok(())
    }

    /// A detail.
    pub(crate) fn detail(&self, message: impl AsRef<str>) {
        self.tell(Level::Debug, message.as_ref());
    }

    /// A fact for the log; on stderr it is a detail.
    pub(crate) fn note(&self, message: impl AsRef<str>) {
        self.to_file(Level::Info, message.as_ref());
        self.to_stderr(Level::Debug, "", message.as_ref());
    }

    /// A fact.
    pub(crate) fn info(&self, message: impl AsRef<str>) {
        self.tell(Level::Info, message.as_ref());
    }

    /// Something that is not as it should be; it counts for the outcome.
    pub(crate) fn warn(&self, message: impl AsRef<str>) {
        let (message, news) = {
            let mut state = self.state();
            let message = about(state.subject.as_deref(), message.as_ref());
            let news = !state.warnings.contains(&message);
            if news {
                state.warnings.push(message.clone());
            }
            (message, news)
        };
        if news {
            self.tell(Level::Warn, &message);
        }
    }

    /// What follows is about this one of several databases.
    pub(crate) fn of(&self, database: Option<&str>) {
        let mut state = self.state();
        state.subject = database.map(str::to_owned);
        state.tail.clear();
    }

    /// A warning that is shown elsewhere; it counts for the outcome.
    pub(crate) fn count_warning(&self, message: impl Into<String>) {
        let mut state = self.state();
        let message = about(state.subject.as_deref(), &message.into());
        state.warnings.push(message);
    }

    /// A line with the level of a warning that is no warning of the run.
    pub(crate) fn caution(&self, message: impl AsRef<str>) {
        self.tell(Level::Warn, message.as_ref());
    }

    /// Text for people on stderr, as it is; not in the log.
    pub(crate) fn show(&self, text: &str) {
        if self.least > Level::Info || text.is_empty() {
            return;
        }
        self.progress.suspend(|| {
            let _ = std::io::stderr().lock().write_all(text.as_bytes());
        });
    }

    /// The heading of a run or of its end, between two rules.
    pub(crate) fn banner(&self, level: Level, title: &str) {
        const RULE: &str = "==========================================";
        for line in [RULE, title, RULE] {
            if self.terminal && line == RULE {
                self.to_file(level, line);
            } else {
                self.tell(level, line);
            }
        }
    }

    /// A failure and its hint.
    pub(crate) fn failure(&self, failure: &Failure) {
        self.progress.clear();
        self.tell(Level::Error, &failure.message);
        if let Some(hint) = &failure.hint {
            self.to_file(Level::Error, &format!("hint: {hint}"));
            self.to_stderr(Level::Error, "hint: ", hint);
        }
    }

    /// The warnings of the run.
    pub(crate) fn warnings(&self) -> Vec<String> {
        self.state().warnings.clone()
    }

    /// The last lines that were told, without row data.
    pub(crate) fn tail(&self) -> Vec<String> {
        self.state().tail.iter().cloned().collect()
    }

    /// Takes the progress bar away.
    pub(crate) fn clear(&self) {
        self.progress.clear();
    }

    /// Asks for `expected` on the terminal; anything else declines.
    pub(crate) async fn ask(&self, question: &str, expected: &str, cancel: &CancellationToken) -> Result<()> {
        if !self.stdin_is_terminal {
            return Err(Failure::new(Code::NoTerminal, "there is no terminal to ask on"));
        }
        self.progress.clear();
        self.to_file(Level::Info, question);
        self.progress.suspend(|| {
            let mut stderr = std::io::stderr().lock();
            let _ = write!(stderr, "{question} ");
            let _ = stderr.flush();
        });
        let answer = self.answer(cancel).await?;
        if answer.trim() == expected {
            self.detail(format!("answered: {expected}"));
            Ok(())
        } else {
            Err(Failure::new(Code::Declined, format!("the answer was not {expected}; nothing was done")))
        }
    }

    /// Asks for a text on the terminal; what is typed is not shown if it is `secret`. Neither goes to the log.
    pub(crate) async fn question(&self, question: &str, secret: Secrecy, cancel: &CancellationToken) -> Result<String> {
        if !self.stdin_is_terminal {
            return Err(Failure::new(Code::NoTerminal, "there is no terminal to ask on"));
        }
        self.progress.clear();
        // Before the question: what is typed at once is not seen either.
        let unseen = (secret == Secrecy::Hidden).then(Unseen::begin);
        self.show(&format!("{question} "));
        let answer = self.answer(cancel).await?;
        if unseen.is_some() {
            self.show("\n");
        }
        Ok(answer.trim().to_owned())
    }

    /// The next line from the terminal.
    async fn answer(&self, cancel: &CancellationToken) -> Result<String> {
        self.state().asking = true;
        // A thread of its own: nobody waits for it when the run ends before the answer comes.
        let (answered, answer) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            let mut answer = String::new();
            let read = std::io::stdin().lock().read_line(&mut answer);
            let _ = answered.send(read.map(|_| answer).unwrap_or_default());
        });
        let answer = tokio::select! {
            answer = answer => answer.unwrap_or_default(),
            () = cancel.cancelled() => return Err(Failure::new(Code::Interrupted, "interrupted")),
        };
        self.state().asking = false;
        // Not even a line feed: the terminal is gone.
        if answer.is_empty() {
            return Err(Failure::new(Code::Declined, "there was no answer; nothing was done"));
        }
        Ok(answer)
    }

    /// Asks for a secret on the terminal, without showing what is typed.
    pub(crate) async fn ask_secret(&self, question: &str, cancel: &CancellationToken) -> Result<String> {
        use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
        if !self.stdin_is_terminal {
            return Err(Failure::new(Code::NoTerminal, "there is no terminal to ask on"));
        }
        let failed = |error: rustix::io::Errno| Failure::io("hide what is typed", &error.into());
        let before = tcgetattr(std::io::stdin()).map_err(failed)?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        hidden.local_modes.insert(LocalModes::ECHONL);
        tcsetattr(std::io::stdin(), OptionalActions::Flush, &hidden).map_err(failed)?;
        self.progress.clear();
        self.progress.suspend(|| {
            let mut stderr = std::io::stderr().lock();
            let _ = write!(stderr, "{question} ");
            let _ = stderr.flush();
        });
        let (answered, answer) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            let mut answer = String::new();
            let read = std::io::stdin().lock().read_line(&mut answer);
            let _ = answered.send(read.map(|_| answer).unwrap_or_default());
        });
        let answer = tokio::select! {
            answer = answer => Ok(answer.unwrap_or_default().trim_end_matches(['\r', '\n']).to_owned()),
            () = cancel.cancelled() => Err(Failure::new(Code::Interrupted, "interrupted")),
        };
        tcsetattr(std::io::stdin(), OptionalActions::Flush, &before).map_err(failed)?;
        answer
    }

    fn tell(&self, level: Level, message: &str) {
        if level > Level::Debug {
            let line = log::line(Utc::now(), level, without_row_data(message));
            let mut state = self.state();
            if state.tail.len() == TAIL {
                state.tail.pop_front();
            }
            state.tail.push_back(line);
        }
        self.to_file(level, message);
        self.to_stderr(level, "", message);
    }

    fn to_file(&self, level: Level, message: &str) {
        if level < self.least.min(Level::Info) {
            return;
        }
        let mut state = self.state();
        if let Some(file) = &mut state.file
            && file.write(&log::line(Utc::now(), level, message)).is_err()
        {
            // Once: a log cannot fail a backup.
            state.file = None;
            state.warnings.push("the log file could not be written".to_owned());
        }
    }

    fn to_stderr(&self, level: Level, label: &str, message: &str) {
        if level < self.least || self.state().stderr_is_file {
            return;
        }
        let line = if self.terminal {
            self.for_people(level, label, message)
        } else {
            log::line(Utc::now(), level, &format!("{label}{message}"))
        };
        let gap = if std::mem::take(&mut self.state().asking) { "\n" } else { "" };
        self.progress.suspend(|| {
            let _ = writeln!(std::io::stderr().lock(), "{gap}{line}");
        });
    }

    fn for_people(&self, level: Level, label: &str, message: &str) -> String {
        let (word, color) = match (level, label) {
            (_, "hint: ") => ("hint: ", "36"),
            (Level::Error, _) => ("error: ", "1;31"),
            (Level::Warn, _) => ("warning: ", "33"),
            (Level::Debug, _) => ("", "2"),
            (Level::Info, _) => ("", ""),
        };
        let time = Utc::now().format("%H:%M:%S");
        match (self.colors, color) {
            (true, "") => format!("\x1b[2m{time}\x1b[0m {message}"),
            (true, "2") => format!("\x1b[2m{time} {message}\x1b[0m"),
            (true, color) => format!("\x1b[2m{time}\x1b[0m \x1b[{color}m{word}\x1b[0m{message}"),
            (false, _) => format!("{time} {word}{message}"),
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether what is typed may be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Secrecy {
    /// It is echoed.
    Shown,
    /// It is not.
    Hidden,
}

/// While it lives, the terminal does not echo what is typed.
#[derive(Debug)]
struct Unseen(Option<Termios>);

impl Unseen {
    fn begin() -> Self {
        let Ok(before) = tcgetattr(std::io::stdin()) else { return Self(None) };
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        let set = tcsetattr(std::io::stdin(), OptionalActions::Now, &silent);
        Self(set.is_ok().then_some(before))
    }
}

impl Drop for Unseen {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, before);
        }
    }
}

fn about(subject: Option<&str>, message: &str) -> String {
    subject.map_or_else(|| message.to_owned(), |subject| format!("{subject}: {message}"))
}

impl Observer for Reporter {
    fn notice(&self, event: &Event) {
        match event {
            Event::Info { message } => self.info(message),
            Event::Warning { message } => self.warn(message),
            Event::Detail { message } => self.detail(message),
            event => self.progress.notice(event),
        }
    }
}
