//! `pgkeep keygen`: a new key for encrypted backups.

use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;

use chrono::{SecondsFormat, Utc};
use pgkeep_core::KeyPair;
use secrecy::ExposeSecret as _;
use serde_json::json;

use super::Done;
use crate::args::{GlobalArgs, KeygenArgs, OutputFormat};
use crate::failure::{Failure, Result};
use crate::hint::Code;
use crate::reporter::Reporter;
use crate::surroundings::Surroundings;

pub(super) fn run(
    args: &KeygenArgs,
    globals: &GlobalArgs,
    surroundings: &Surroundings,
    reporter: &Reporter,
) -> Result<Done> {
    let pair = KeyPair::generate();
    let mut text = String::new();
    let created = Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true);
    let _ = writeln!(text, "# created: {created}\n# public key: {}", pair.recipient);
    let _ = writeln!(text, "{}", pair.identity.expose_secret());
    let Some(path) = &args.to else {
        if globals.output == OutputFormat::Json {
            let message = "a secret key goes to a file (--to FILE) when the output is JSON";
            return Err(Failure::new(Code::Usage, message).hint("pass --to FILE"));
        }
        if !surroundings.stdout_is_terminal {
            reporter.show(&format!("Public key: {}\n", pair.recipient));
        }
        return Ok(Done::raw(text));
    };
    let file = surroundings.directory.join(path);
    let written =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file).and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        });
    written.map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            Failure::new(Code::Usage, format!("{} exists, and a key is never overwritten", file.display()))
                .hint("name another file; backups made for the old key need the old key")
        }
        _ => Failure::io(format_args!("write {}", file.display()), &error),
    })?;
    reporter.show(&format!(
        "The secret key is in {}. Keep it where the backups are not, and a second copy: without it they can't be read.\n",
        file.display()
    ));
    let text = format!("Public key: {}\n", pair.recipient);
    Ok(Done::new(text, "recipient", json!(pair.recipient)).with("file", json!(path)))
}
