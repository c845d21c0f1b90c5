//! Parsers of what comes from outside, for the fuzz targets in fuzz/. No part of the interface.

use std::path::Path;

use crate::connection::fuzzing::converse;
use crate::messages::{StderrLog, messages, warnings, without_row_data};
use crate::settings::fuzzing as settings;
use crate::{ConnectSettings, Result};

/// A session with a server that says `words`, whatever it is asked: startup, two queries, a COPY.
pub fn hostile_server(words: &[u8], password: &str) -> Result<u64> {
    let settings = ConnectSettings::parse("host=/nowhere user=u dbname=d", &std::collections::BTreeMap::new(), None)?
        .with_password(password.into());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| crate::Error::io("start", error))?;
    runtime.block_on(converse(&settings, words))
}

/// The parameters of a connection string, without files and environment.
pub fn conninfo(text: &str) -> Result<Vec<(String, String)>> {
    settings::conninfo(text)
}

/// The parameters of a service in the text of a service file.
pub fn service(service: &str, text: &str) -> Result<Option<Vec<(String, String)>>> {
    settings::service(service, text, Path::new("pg_service.conf"))
}

/// The password in the text of a password file.
pub fn password(text: &str, host: &str, port: u16, database: &str, user: &str) -> Option<String> {
    settings::password(text, host, port, database, user)
}

/// A line for a password file, as children get it.
pub fn password_line(host: &str, port: u16, database: &str, user: &str, password: &str) -> String {
    settings::password_line(host, port, database, user, password)
}

/// What is kept of a client tool's stderr, pushed in pieces: bytes of text, and what is told of it.
pub fn stderr(program: &str, pieces: &[&[u8]]) -> (usize, Vec<String>) {
    let mut log = StderrLog::default();
    for piece in pieces {
        log.push(piece);
    }
    log.finish();
    let kept = log.lines().map(str::len).sum();
    let mut told: Vec<String> = messages(program, log.lines()).iter().map(crate::messages::Message::summary).collect();
    told.extend(warnings(program, &log));
    (kept, told)
}

/// What is told of a server's message.
pub fn shown(text: &str) -> String {
    without_row_data(text)
}

/// What a restore makes of a client tool's stderr.
pub fn restore_outcome(text: &str, server_major: u32) -> (usize, usize) {
    let outcome = crate::pg_restore::understand(text.lines());
    let judgement = outcome.judge(server_major);
    (judgement.allowed.len(), judgement.failed.len())
}

/// Large objects' pages out of a binary COPY, written into an archive's blocks: bytes written.
pub fn large_object_pages(copies: &[&[u8]], oids: &[u32], limit: u64) -> Result<u64> {
    crate::parallel::fuzzing::pages(copies, oids, limit)
}

/// The condition that a pattern of names becomes.
pub fn pattern(text: &str) -> Option<String> {
    let (selection, _) = crate::Selection::parse([format!("--table={text}")]).ok()?;
    crate::patterns::union(&selection, &["table"], &["table-and-children"])
}

/// Whether a server's certificate can be read.
pub fn certificate(der: &[u8]) -> bool {
    crate::connection::fuzzing::certificate(der)
}
