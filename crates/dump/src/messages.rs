//! What the client tools say on stderr: lines made into messages, and messages weighed.

use std::collections::VecDeque;

/// Longest line that is kept, in bytes; the rest of it is left out.
const LINE_LIMIT: usize = 16 << 10;
/// Lines kept from the beginning and, once there are more, from the end.
const HEAD_LINES: usize = 2_000;
const TAIL_LINES: usize = 200;
/// Bytes kept from the beginning.
const HEAD_BYTES: usize = 2 << 20;

/// The lines of a child's stderr in bounded memory: the first ones and the last ones.
#[derive(Debug, Clone, Default)]
pub(crate) struct StderrLog {
    head: Vec<String>,
    head_bytes: usize,
    tail: VecDeque<String>,
    omitted: u64,
    partial: Vec<u8>,
}

impl StderrLog {
    /// Takes what was read.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            let (text, ends) = piece.strip_suffix(b"\n").map_or((piece, false), |text| (text, true));
            let room = LINE_LIMIT.saturating_sub(self.partial.len());
            self.partial.extend_from_slice(&text[..text.len().min(room)]);
            if ends {
                self.line();
            }
        }
    }

    fn line(&mut self) {
        let line = String::from_utf8_lossy(&std::mem::take(&mut self.partial)).trim_end_matches('\r').to_owned();
        if self.omitted == 0 && self.tail.is_empty() && self.head.len() < HEAD_LINES && self.head_bytes < HEAD_BYTES {
            self.head_bytes += line.len();
            self.head.push(line);
        } else {
            if self.tail.len() == TAIL_LINES {
                self.tail.pop_front();
                self.omitted += 1;
            }
            self.tail.push_back(line);
        }
    }

    /// Ends the last line.
    pub(crate) fn finish(&mut self) {
        if !self.partial.is_empty() {
            self.line();
        }
    }

    /// The kept lines.
    pub(crate) fn lines(&self) -> impl Iterator<Item = &str> {
        self.head.iter().chain(&self.tail).map(String::as_str)
    }

    /// How many lines were left out between the first and the last ones.
    pub(crate) fn omitted(&self) -> u64 {
        self.omitted
    }
}

/// How a message is marked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Severity {
    /// `pg_dump: error: …`
    Error,
    /// `pg_dump: warning: …`, or anything that is not marked: nothing is harmless unless it is listed.
    Warning,
    /// `pg_dump: …` of verbose mode.
    Info,
}

/// One message of a client tool with the lines that belong to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) severity: Severity,
    /// The text, continuation lines included, the program's name and mark left out.
    pub(crate) text: String,
    /// `pg_dump: detail: …` lines.
    pub(crate) detail: Vec<String>,
    /// `pg_dump: hint: …` lines.
    pub(crate) hint: Vec<String>,
}

impl Message {
    fn new(severity: Severity, text: &str) -> Self {
        Self { severity, text: text.to_owned(), detail: Vec::new(), hint: Vec::new() }
    }

    /// The text and the tool's own details, in one line, without what the server's DETAIL and CONTEXT say: they quote rows.
    pub(crate) fn summary(&self) -> String {
        let mut line = without_row_data(&self.text);
        if self.text.ends_with(':') && !self.detail.is_empty() {
            line.push(' ');
            line.push_str(&self.detail.join(", "));
        } else if let Some(from_server) =
            self.detail.iter().find_map(|line| line.strip_prefix("Error message from server: "))
        {
            line.push(' ');
            line.push_str(&without_row_data(from_server));
        }
        line
    }

    /// Everything the tool wrote, for matching.
    pub(crate) fn everything(&self) -> String {
        let mut all = self.text.clone();
        for line in self.detail.iter().chain(&self.hint) {
            all.push('\n');
            all.push_str(line);
        }
        all
    }
}

/// A server's message in one line, without `DETAIL`, `CONTEXT` and `QUERY`, which can quote rows, and without `HINT` and
/// the excerpt of a statement.
pub(crate) fn without_row_data(text: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for line in text.lines() {
        let marked = ["DETAIL:", "CONTEXT:", "QUERY:", "HINT:", "STATEMENT:", "LINE ", "Command was:", "Query was:"];
        if marked.iter().any(|mark| line.starts_with(mark)) {
            // What follows one of these belongs to it until the message ends.
            break;
        }
        let line = line.trim();
        if !line.is_empty() {
            kept.push(line);
        }
    }
    kept.join(" ")
}

/// Makes messages of lines. `program` is the tool's name, as it stands before each message.
pub(crate) fn messages<'l>(program: &str, lines: impl Iterator<Item = &'l str>) -> Vec<Message> {
    untangle(program, lines).0
}

/// The same, with the number of messages of which only the name or mark was found.
///
/// The tools write name, blank, mark and text one after the other (pg_log_generic_v in src/common/logging.c), so the lines
/// of several workers of `pg_restore --jobs` can look like `pg_restore:pg_restore:  error: error: one` and, in a line of
/// its own, `two`. Names and marks stand at the beginnings of lines all the same, and are paired in the order they came.
pub(crate) fn untangle<'l>(program: &str, lines: impl Iterator<Item = &'l str>) -> (Vec<Message>, usize) {
    let mut messages: Vec<Message> = Vec::new();
    let mut tangle = Tangle::default();
    // The detail or hint that an unmarked line continues; otherwise it continues the text.
    let mut continued = Part::Text;
    for line in lines {
        let Some((mark, text)) = tangle.take(program, line) else {
            match messages.last_mut() {
                Some(message) if continues(message, line) => {
                    let part = match continued {
                        Part::Detail => message.detail.last_mut(),
                        Part::Hint => message.hint.last_mut(),
                        Part::Text => None,
                    };
                    let part = part.unwrap_or(&mut message.text);
                    part.push('\n');
                    part.push_str(line);
                }
                _ if line.trim().is_empty() => {}
                _ => {
                    messages.push(Message::new(Severity::Warning, line));
                    continued = Part::Text;
                }
            }
            continue;
        };
        continued = match (mark, messages.last_mut()) {
            (Mark::Detail, Some(message)) => {
                message.detail.push(text.to_owned());
                Part::Detail
            }
            (Mark::Hint, Some(message)) => {
                message.hint.push(text.to_owned());
                Part::Hint
            }
            (Mark::Detail | Mark::Hint, None) => {
                messages.push(Message::new(Severity::Warning, text));
                Part::Text
            }
            (Mark::Severity(severity), _) => {
                messages.push(Message::new(severity, text));
                Part::Text
            }
        };
    }
    (messages, tangle.names)
}

#[derive(Clone, Copy)]
enum Part {
    Text,
    Detail,
    Hint,
}

#[derive(Clone, Copy)]
enum Mark {
    Severity(Severity),
    Detail,
    Hint,
}

const MARKS: &[(&str, Mark)] = &[
    ("error: ", Mark::Severity(Severity::Error)),
    ("fatal: ", Mark::Severity(Severity::Error)),
    ("warning: ", Mark::Severity(Severity::Warning)),
    ("detail: ", Mark::Detail),
    ("hint: ", Mark::Hint),
];

/// How the texts of workers begin whose names and marks came earlier.
const WORKERS_TEXTS: &[&str] = &["could not execute query: ", "COPY failed for table "];

/// Names and marks whose texts have not come yet.
#[derive(Default)]
struct Tangle {
    /// Names that have no text yet.
    names: usize,
    /// Blanks that are still to follow names.
    blanks: usize,
    /// Marks among them.
    marks: VecDeque<Mark>,
}

impl Tangle {
    /// The mark and the text of a line that begins a message; `None` if it continues one.
    fn take<'l>(&mut self, program: &str, line: &'l str) -> Option<(Mark, &'l str)> {
        let mut text = line;
        let mut unmarked = Mark::Severity(Severity::Info);
        if let Some((path, rest)) = line.split_once(": ")
            && path.strip_suffix(program).is_some_and(|folder| folder.ends_with('/'))
        {
            // getopt marks nothing and writes the program's path.
            unmarked = Mark::Severity(Severity::Error);
            self.names += 1;
            text = rest;
        }
        loop {
            if let Some(rest) = text.strip_prefix(program).and_then(|rest| rest.strip_prefix(':')) {
                self.names += 1;
                self.blanks += 1;
                text = rest;
            } else if self.blanks > 0
                && let Some(rest) = text.strip_prefix(' ')
                && (text.len() < line.len() || goes_on(rest, program))
            {
                self.blanks -= 1;
                text = rest;
            } else if self.names > self.marks.len()
                && let Some((mark, rest)) = MARKS.iter().find_map(|(word, mark)| Some((mark, text.strip_prefix(word)?)))
            {
                self.marks.push_back(*mark);
                text = rest;
            } else {
                break;
            }
        }
        let begins =
            text.len() < line.len() || self.names > 0 && WORKERS_TEXTS.iter().any(|start| text.starts_with(start));
        if !begins || self.names == 0 {
            return None;
        }
        self.names -= 1;
        Some((self.marks.pop_front().unwrap_or(unmarked), text))
    }
}

/// Whether what follows a blank at the beginning of a line is of a message; a statement's lines are indented too.
fn goes_on(text: &str, program: &str) -> bool {
    let text = text.trim_start_matches(' ');
    let mut starts = MARKS.iter().map(|(word, _)| *word).chain(WORKERS_TEXTS.iter().copied()).chain([program]);
    starts.any(|start| text.starts_with(start))
}

/// Whether an unmarked line belongs to the message before it. A server's own `WARNING:` begins a new one (libpq prints
/// those that come while the session is being opened), unless it stands in the statement of a failed command.
fn continues(before: &Message, line: &str) -> bool {
    if before.text.contains("\nCommand was: ") {
        return true;
    }

    !["WARNING:", "NOTICE:", "ERROR:", "FATAL:", "PANIC:"].iter().any(|severity| line.starts_with(severity))
}

/// The warnings of a tool that succeeded, one line each: everything it said that is not known to be harmless.
pub(crate) fn warnings(program: &str, log: &StderrLog) -> Vec<String> {
    let mut warnings: Vec<String> = messages(program, log.lines())
        .iter()
        .filter(|message| message.severity != Severity::Info && !harmless(message))
        .map(Message::summary)
        .collect();
    if log.omitted() > 0 {
        warnings.push(format!("{program} said {} more lines than are kept", log.omitted()));
    }
    warnings.dedup();
    warnings
}

/// What is known to cost nothing.
fn harmless(message: &Message) -> bool {
    // A restore creates foreign keys after the data, so a circle of them is no obstacle.
    message.text.starts_with("there are circular foreign-key constraints")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(text: &str) -> StderrLog {
        let mut log = StderrLog::default();
        log.push(text.as_bytes());
        log.finish();
        log
    }

    #[test]
    fn lines_are_put_together_across_reads_and_kept_within_bounds() {
        let mut kept = StderrLog::default();
        kept.push(b"pg_dump: warn");
        kept.push(b"ing: one\npg_dump: warning: t");
        kept.push(b"wo");
        kept.finish();
        assert_eq!(kept.lines().collect::<Vec<_>>(), ["pg_dump: warning: one", "pg_dump: warning: two"]);

        let mut flood = StderrLog::default();
        for number in 0..10_000 {
            flood.push(format!("line {number}\n").as_bytes());
        }
        flood.push(&vec![b'x'; 1 << 20]);
        flood.finish();
        assert_eq!(flood.lines().count(), HEAD_LINES + TAIL_LINES);
        assert_eq!(flood.lines().next(), Some("line 0"));
        assert_eq!(flood.lines().last().map(str::len), Some(LINE_LIMIT));
        assert_eq!(flood.omitted(), 10_001 - (HEAD_LINES + TAIL_LINES) as u64);
    }

    #[test]
    fn the_words_of_several_workers_are_untangled() {
        let text = "pg_restore:pg_restore:  error: error: could not execute query: ERROR:  one\n\
                    Command was: SET a = 0;\n\
                    could not execute query: ERROR:  two\n\
                    Command was: SET b = 0;\n\n\n\
                    pg_restore: pg_restore:error:  could not execute query: ERROR:  three\n\
                    Command was: SET c = 0;\n\
                    pg_restore: error: pg_restore:could not execute query: ERROR:  between\n\
                    Command was: ALTER TABLE t\n\
                    \x20   ADD PRIMARY KEY (id);\n\n\
                    \x20error: could not execute query: ERROR:  after\n\
                    error: pg_restore: COPY failed for table \"t\": ERROR:  four\n\
                    CONTEXT:  COPY t, line 1\n\
                    warning: five\n\
                    pg_restore: error: six\n\
                    error: belongs to six\n";
        assert_eq!(untangle("pg_restore", text.lines()).1, 0);
        assert_eq!(untangle("pg_restore", "pg_restore: pg_restore: error: error: one\ntwo\n".lines()).1, 1);
        let messages = messages("pg_restore", text.lines());
        let told: Vec<_> =
            messages.iter().map(|message| (message.severity, message.text.lines().next().unwrap())).collect();
        assert_eq!(
            told,
            [
                (Severity::Error, "could not execute query: ERROR:  one"),
                (Severity::Error, "could not execute query: ERROR:  two"),
                (Severity::Error, "could not execute query: ERROR:  three"),
                (Severity::Error, "could not execute query: ERROR:  between"),
                (Severity::Error, "could not execute query: ERROR:  after"),
                (Severity::Error, "COPY failed for table \"t\": ERROR:  four"),
                (Severity::Warning, "five"),
                (Severity::Error, "six"),
            ]
        );
        assert!(messages[1].text.trim_end().ends_with("Command was: SET b = 0;"));
        assert_eq!(messages[7].text, "six\nerror: belongs to six");
    }

    #[test]
    fn every_unlisted_line_is_a_warning() {
        let text = "WARNING:  database \"shop\" has a collation version mismatch\n\
                    DETAIL:  The database was created using collation version 2.31.\n\
                    HINT:  Rebuild all objects.\n\
                    pg_dump: last built-in OID is 16383\n\
                    pg_dump: warning: there are circular foreign-key constraints on this table:\n\
                    pg_dump: detail: self\n\
                    pg_dump: hint: Consider using a full dump.\n\
                    pg_dump: warning: subscriptions not dumped because current user is not a superuser\n\
                    pg_dump: warning: could not resolve dependency loop among these items:\n\
                    pg_dump: detail: one\n\
                    pg_dump: detail: two\n";
        assert_eq!(
            warnings("pg_dump", &log(text)),
            [
                "WARNING:  database \"shop\" has a collation version mismatch",
                "subscriptions not dumped because current user is not a superuser",
                "could not resolve dependency loop among these items: one, two",
            ]
        );
        assert!(warnings("pg_dump", &log("")).is_empty());
        assert_eq!(warnings("pg_dump", &log("ld.so: object not found\n")), ["ld.so: object not found"]);
    }
}
