//! `pgkeep init`: a commented config file, from a few questions or from flags.

mod sample;

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use chrono::Utc;
use pgkeep_dump::ConnectSettings;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::Done;
use crate::args::InitArgs;
use crate::failure::{Failure, Result, chain};
use crate::hint::Code;
use crate::reporter::{Reporter, Secrecy};
use crate::settings::config_file::ConfigFile;
use crate::settings::{DEFAULT_BACKUP_DIR, variable};
use crate::surroundings::Surroundings;
use sample::Sample;

/// The file that is written without any flag.
const DEFAULT_FILE: &str = "pgkeep.toml";

pub(super) async fn run(
    args: &InitArgs,
    surroundings: &Surroundings,
    reporter: &Reporter,
    cancel: &CancellationToken,
) -> Result<Done> {
    let path = surroundings.directory.join(args.to.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_FILE)));
    if path.symlink_metadata().is_ok() && !args.force {
        return Err(Failure::settings(format!("{} exists already, and is left as it is", path.display()))
            .hint("--force puts it aside first, --to FILE names another one"));
    }
    let sample = Interview { args, surroundings, reporter, cancel }.run().await?;
    let text = sample.text();
    ConfigFile::parse(&path, &text)?;
    let aside = if path.symlink_metadata().is_ok() { Some(put_aside(&path)?) } else { None };
    write(&path, &text).map_err(|error| Failure::io(format_args!("write {}", path.display()), &error))?;
    if let Some(aside) = &aside {
        reporter.info(format!("The file that was there is now {}", aside.display()));
    }
    Ok(Done::new(told(&path, args, surroundings), "file", json!(path)).with("aside", json!(aside)))
}

/// What was written, and the next three commands.
fn told(path: &Path, args: &InitArgs, surroundings: &Surroundings) -> String {
    let found_anyway = args.to.is_none() || path == surroundings.directory.join(DEFAULT_FILE);
    let config = if found_anyway {
        String::new()
    } else {
        format!(" --config {}", shell_words::quote(&path.display().to_string()))
    };
    format!(
        "wrote {} (only you can read it)\n\nnext:\n  pgkeep check{config}             tries every permission for real\n  \
         pgkeep backup{config}            makes the first backup\n  \
         pgkeep schedule install{config}  makes it happen every night\n",
        path.display()
    )
}

/// Moves the file that is there to a name of its own.
fn put_aside(path: &Path) -> Result<PathBuf> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".before-{}", Utc::now().format("%Y%m%d_%H%M%S")));
    let aside = PathBuf::from(name);
    let failed = |error: &std::io::Error| Failure::io(format_args!("put {} aside", path.display()), error);
    // A link never replaces what has that name already.
    std::fs::hard_link(path, &aside).map_err(|error| failed(&error))?;
    std::fs::remove_file(path).map_err(|error| failed(&error))?;
    Ok(aside)
}

/// Creates the file, which nobody else can read from its first moment.
fn write(path: &Path, text: &str) -> std::io::Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.exists()) {
        std::fs::create_dir_all(folder)?;
    }
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    if written.is_err() {
        let _ = std::fs::remove_file(path);
    }
    written
}

/// Flags first, then questions, where there is somebody to ask.
struct Interview<'i> {
    args: &'i InitArgs,
    surroundings: &'i Surroundings,
    reporter: &'i Reporter,
    cancel: &'i CancellationToken,
}

impl Interview<'_> {
    async fn run(self) -> Result<Sample> {
        let database_url = self.database_url().await?;
        let store = self
            .field(
                self.args.store.as_deref(),
                "Where do backups go? A bucket's name, or an s3://, gs://, az:// or file:// URL (empty: only here)",
                store,
            )
            .await?;
        let local = format!("The local directory for backups (empty: {DEFAULT_BACKUP_DIR}, none: no local copy)");
        let dir = self.field(self.args.dir.as_deref(), &local, |text| self.directory(text)).await?;
        let email = self
            .field(self.args.email.as_deref(), "Who hears of failures? A mail address (empty: nobody)", email)
            .await?;
        if store.is_none() && dir.as_deref() == Some("none") {
            return Err(Failure::new(
                Code::DestinationMissing,
                "there would be no place for backups: neither a store nor a directory",
            ));
        }
        Ok(Sample { database_url, store, dir, email })
    }

    /// A flag's value, else the answer to a question, else nothing.
    async fn field(
        &self,
        typed: Option<&str>,
        question: &str,
        parse: impl Fn(&str) -> Result<String, String>,
    ) -> Result<Option<String>> {
        if let Some(text) = typed {
            return parse(text).map(Some).map_err(Failure::settings);
        }
        if !self.asks() {
            return Ok(None);
        }
        loop {
            let answer = self.reporter.question(&format!("{question}:"), Secrecy::Shown, self.cancel).await?;
            if answer.is_empty() {
                return Ok(None);
            }
            match parse(&answer) {
                Ok(value) => return Ok(Some(value)),
                Err(problem) => self.reporter.show(&format!("  {problem}\n")),
            }
        }
    }

    /// Without a terminal, and with all that is needed typed, nothing is asked.
    fn asks(&self) -> bool {
        self.surroundings.stdin_is_terminal && self.args.database_url.is_none()
    }

    async fn database_url(&self) -> Result<Option<String>> {
        if let Some(typed) = &self.args.database_url {
            self.parse_url(typed)
                .map_err(|problem| Failure::new(Code::DatabaseUrlInvalid, format!("--database-url: {problem}")))?;
            return Ok(Some(typed.clone()));
        }
        let in_environment = self.surroundings.variable(variable::DATABASE_URL.name).is_some();
        if !self.asks() {
            if in_environment {
                return Ok(None);
            }
            return Err(Failure::new(Code::NoTerminal, "there is no terminal to ask on").hint(
                "pass --database-url postgresql://user:password@host:5432/name, and --store, --dir, --email as wanted",
            ));
        }
        let empty = if in_environment { " (empty: DATABASE_URL of the environment)" } else { "" };
        loop {
            let question = format!("The database, as postgresql://user@host:5432/name{empty}:");
            let answer = self.reporter.question(&question, Secrecy::Shown, self.cancel).await?;
            if answer.is_empty() && in_environment {
                return Ok(None);
            }
            match self.parse_url(&answer) {
                Ok(settings) if settings.has_password() => return Ok(Some(answer)),
                Ok(_) => return self.with_password(answer).await.map(Some),
                Err(problem) => self.reporter.show(&format!("  {problem}\n")),
            }
        }
    }

    fn parse_url(&self, text: &str) -> Result<ConnectSettings, String> {
        if text.is_empty() {
            return Err("it is needed".to_owned());
        }
        ConnectSettings::parse(text, &self.surroundings.variables, self.surroundings.home())
            .map_err(|error| chain(&error))
    }

    /// The password is asked for apart, where nobody sees it.
    async fn with_password(&self, text: String) -> Result<String> {
        let Ok(mut url) = Url::parse(&text) else { return Ok(text) };
        if url.host_str().is_none_or(str::is_empty) || url.username().is_empty() {
            return Ok(text);
        }
        let question = "Its password (not shown; empty: none, or from .pgpass):";
        let password = self.reporter.question(question, Secrecy::Hidden, self.cancel).await?;
        if password.is_empty() || url.set_password(Some(&percent_encoded(&password))).is_err() {
            return Ok(text);
        }
        Ok(url.to_string())
    }

    fn directory(&self, text: &str) -> Result<String, String> {
        if text == "none" {
            return Ok(text.to_owned());
        }
        if text.contains('\n') || text.is_empty() {
            return Err("that is no directory".to_owned());
        }
        Ok(self.surroundings.directory.join(text).display().to_string())
    }
}

/// Every byte but the unreserved ones of a URL as `%XX`.
fn percent_encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

/// A bucket's name or a store's URL, as the settings take it.
fn store(text: &str) -> Result<String, String> {
    if text.contains("://") {
        let url = Url::parse(text).map_err(|_| "that is no URL".to_owned())?;
        return match url.scheme() {
            "s3" | "gs" | "az" if url.host_str().is_some_and(|host| !host.is_empty()) => Ok(text.to_owned()),
            "file" if url.to_file_path().is_ok() => Ok(text.to_owned()),
            _ => Err("an s3://, gs://, az:// or file:// URL is wanted".to_owned()),
        };
    }
    let sound = (3..=63).contains(&text.len())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-' | '_'));
    if text == "none" || sound {
        Ok(text.to_owned())
    } else {
        Err("a bucket's name has 3 to 63 small letters, digits, - and .".to_owned())
    }
}

fn email(text: &str) -> Result<String, String> {
    let address = |text: &str| {
        !text.contains(char::is_whitespace)
            && text
                .split_once('@')
                .is_some_and(|(name, host)| !name.is_empty() && host.contains('.') && !host.contains('@'))
    };
    // Several are separated by commas.
    if text.split(',').map(str::trim).all(address) {
        Ok(text.to_owned())
    } else {
        Err("that is no mail address".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_percent_encoded() {
        let mut url = Url::parse("postgresql://u@h/d").unwrap();
        url.set_password(Some(&percent_encoded("a/b@c %d"))).unwrap();
        assert_eq!(url.as_str(), "postgresql://u:a%2Fb%40c%20%25d@h/d");
    }

    #[test]
    fn answers_are_checked() {
        for good in ["my-backups", "s3://b/prefix", "gs://b", "az://c", "file:///srv/backups", "none"] {
            assert!(store(good).is_ok(), "{good}");
        }
        for bad in ["My Bucket", "x", "ftp://b", "s3://", "file://host/x"] {
            assert!(store(bad).is_err(), "{bad}");
        }
        assert!(email("ops@example.org").is_ok() && email("ops@example.org, dba@example.org").is_ok());
        for bad in ["ops", "@example.org", "a@b", "a b@example.org"] {
            assert!(email(bad).is_err(), "{bad}");
        }
    }
}
