//! Keys of encrypted backups: whom they are encrypted to, and what opens them.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use pgkeep_core::{Identities, PASSPHRASE, Recipients};
use secrecy::SecretString;

use crate::commands::Context;
use crate::failure::{Failure, Result};
use crate::hint::Code;
use crate::settings::{Found, variable};

/// No key file is longer.
const LONGEST_FILE: u64 = 1 << 20;

/// Whether a value of `BACKUP_ENCRYPT_TO` says that backups are not encrypted.
pub(crate) fn encrypts_nothing(text: &str) -> bool {
    matches!(text.trim(), "none" | "off")
}

impl Context {
    /// Whom backups are encrypted to; `None` if they are not.
    pub(crate) async fn recipients(&self) -> Result<Option<Recipients>> {
        let Some(found) = self.settings.layers.get(&variable::ENCRYPT_TO) else { return Ok(None) };
        if encrypts_nothing(&found.text) {
            return Ok(None);
        }
        let words: Vec<&str> = words(&found.text);
        match words.as_slice() {
            // A variable that was not set, perhaps: never a plain backup for that.
            [] => {
                let message = format!("{} names nobody to encrypt to", found.origin);
                return Err(Failure::new(Code::RecipientInvalid, message)
                    .hint("a public key (age1…), or none for plain backups"));
            }
            [word] if *word == PASSPHRASE => return Ok(Some(Recipients::passphrase(self.passphrase(true).await?))),
            words if words.contains(&PASSPHRASE) => {
                let message = format!("{}: a passphrase stands alone, without public keys", found.origin);
                return Err(Failure::new(Code::RecipientInvalid, message));
            }
            _ => {}
        }
        let mut keys = Vec::new();
        for word in words {
            if word.contains('/') {
                keys.extend(self.recipients_of_file(word, &found)?);
            } else {
                keys.push(word.to_owned());
            }
        }
        let recipients = Recipients::parse(keys.iter().map(String::as_str));
        recipients.map(Some).map_err(|error| Failure::from(error).context(&found.origin))
    }

    fn recipients_of_file(&self, path: &str, found: &Found) -> Result<Vec<String>> {
        let path = self.surroundings.directory.join(path);
        let text = std::fs::read_to_string(&path).map_err(|error| {
            let message = format!("{}: {} can't be read: {error}", found.origin, path.display());
            Failure::new(Code::RecipientInvalid, message)
        })?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        Ok(lines.map(str::to_owned).collect())
    }

    /// Whether any key was set.
    pub(crate) fn has_identities(&self) -> bool {
        [&variable::IDENTITY_FILE, &variable::PASSPHRASE, &variable::PASSPHRASE_FILE]
            .into_iter()
            .any(|variable| self.settings.layers.get(variable).is_some())
    }

    /// Every key that was set. A passphrase is asked for only if it is all that opens what is encrypted to `recipients`.
    pub(crate) async fn identities(&self, recipients: &[String]) -> Result<Identities> {
        let mut identities = Identities::default();
        if let Some(found) = self.settings.layers.get(&variable::IDENTITY_FILE) {
            for path in std::env::split_paths(&found.text).filter(|path| !path.as_os_str().is_empty()) {
                let path = self.surroundings.directory.join(path);
                identities = identities.and(&self.identities_of_file(&path, &found).await?);
            }
        }
        let set = [&variable::PASSPHRASE, &variable::PASSPHRASE_FILE]
            .into_iter()
            .any(|variable| self.settings.layers.get(variable).is_some());
        let wanted = recipients.iter().any(|recipient| recipient == PASSPHRASE);
        if wanted && (set || self.can_ask()) {
            identities = identities.and(&Identities::passphrase(self.passphrase(false).await?));
        }
        Ok(identities)
    }

    async fn identities_of_file(&self, path: &Path, found: &Found) -> Result<Identities> {
        let bad =
            |what: String| Failure::new(Code::IdentityInvalid, format!("{}: {} {what}", found.origin, path.display()));
        let unreadable = |error: std::io::Error| bad(format!("can't be read: {error}"));
        let metadata = std::fs::metadata(path).map_err(unreadable)?;
        if metadata.len() > LONGEST_FILE {
            return Err(bad("is no key file: it is too large".to_owned()));
        }
        if metadata.is_file() && metadata.permissions().mode() & 0o077 != 0 {
            let path = path.display();
            self.reporter.warn(format!("{path} holds a secret key, and others may read it: chmod 600 {path}"));
        }
        let mut bytes = std::fs::read(path).map_err(unreadable)?;
        if bytes.starts_with(b"age-encryption.org/") {
            let passphrase = Identities::passphrase(self.passphrase(false).await?);
            let opened = tokio::task::spawn_blocking(move || passphrase.open_file(&bytes)).await.ok().flatten();
            bytes = opened.ok_or_else(|| bad("is not opened by this passphrase".to_owned()))?;
        }
        let text = String::from_utf8(bytes).map_err(|_| bad("is no key file".to_owned()))?;
        let identities = Identities::parse(&text)
            .map_err(|line| bad(format!("has a line {} that is no identity (AGE-SECRET-KEY-1…)", line.0)))?;
        if identities.is_empty() {
            return Err(bad("holds no identity".to_owned()));
        }
        Ok(identities)
    }

    fn can_ask(&self) -> bool {
        self.surroundings.stdin_is_terminal && self.surroundings.stderr_is_terminal
    }

    /// The passphrase: as set, from its file, or asked for; a new one twice.
    async fn passphrase(&self, is_new: bool) -> Result<SecretString> {
        let layers = &self.settings.layers;
        let empty = |origin| Failure::settings(format!("{origin}: the passphrase is empty"));
        if let Some(found) = layers.get(&variable::PASSPHRASE) {
            return Ok(found.text.into());
        }
        if let Some(found) = layers.get(&variable::PASSPHRASE_FILE) {
            let path = self.surroundings.directory.join(&found.text);
            let text = std::fs::read_to_string(&path).map_err(|error| {
                Failure::settings(format!("{}: {} can't be read: {error}", found.origin, path.display()))
            })?;
            let passphrase = text.lines().next().unwrap_or_default().to_owned();
            return if passphrase.is_empty() { Err(empty(found.origin)) } else { Ok(passphrase.into()) };
        }
        if !self.can_ask() {
            return Err(Failure::new(Code::KeyMissing, "a passphrase is needed, and there is no terminal to ask on")
                .hint("set BACKUP_PASSPHRASE_FILE or BACKUP_PASSPHRASE"));
        }
        let passphrase = self.reporter.ask_secret("Passphrase:", &self.cancel).await?;
        if passphrase.is_empty() {
            return Err(Failure::new(Code::Declined, "no passphrase was typed; nothing was done"));
        }
        if is_new && self.reporter.ask_secret("The same again:", &self.cancel).await? != passphrase {
            return Err(Failure::new(Code::Declined, "the two passphrases differ; nothing was done"));
        }
        Ok(passphrase.into())
    }
}

fn words(text: &str) -> Vec<&str> {
    text.split([',', ' ', '\n', '\t']).filter(|word| !word.is_empty()).collect()
}
