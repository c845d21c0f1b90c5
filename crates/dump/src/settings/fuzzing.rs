//! Connection strings and libpq's files, from text.

use std::path::Path;

use secrecy::ExposeSecret;

use super::conninfo::{self, Pairs};
use super::files::{PasswordFile, escape, find_service};
use crate::Result;

pub(crate) fn conninfo(text: &str) -> Result<Pairs> {
    conninfo::parse(text)
}

pub(crate) fn service(service: &str, text: &str, path: &Path) -> Result<Option<Pairs>> {
    find_service(service, text, path)
}

pub(crate) fn password(text: &str, host: &str, port: u16, database: &str, user: &str) -> Option<String> {
    let found = PasswordFile::from_text(text).find(&[host], port, database, user);
    found.map(|password| password.expose_secret().to_owned())
}

pub(crate) fn password_line(host: &str, port: u16, database: &str, user: &str, password: &str) -> String {
    [host, &port.to_string(), database, user, password].map(escape).join(":")
}
