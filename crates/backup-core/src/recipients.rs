//! Whom a backup is encrypted to.

use std::fmt;
use std::io::Write;

use age::stream::StreamWriter;
use secrecy::SecretString;

use crate::{Error, Result};

/// The word for a passphrase where recipients are listed.
pub const PASSPHRASE: &str = "passphrase";
/// What an identity, the secret half of a key, begins with.
const SECRET_KEY: &str = "AGE-SECRET-KEY-";

/// Whom objects are encrypted to: public keys of age, any of which opens them, or one passphrase.
///
/// No secret is needed to encrypt to public keys, so a host that makes backups cannot read old ones.
#[derive(Clone)]
pub struct Recipients(Kind);

#[derive(Clone)]
enum Kind {
    Keys(Vec<age::x25519::Recipient>),
    Passphrase { passphrase: SecretString, work: Option<u8> },
}

impl Recipients {
    /// Public keys as `pgkeep keygen` and `age-keygen` print them (`age1…`), at least one.
    pub fn parse<'k>(keys: impl IntoIterator<Item = &'k str>) -> Result<Self> {
        let mut parsed: Vec<age::x25519::Recipient> = Vec::new();
        for (number, key) in (1..).zip(keys) {
            // Never quoted whole: it may be a secret that was put into the wrong place.
            let refuse = |reason: &str| Error::Recipient { number, reason: reason.to_owned() };
            let key = key.trim();
            if key.to_ascii_uppercase().starts_with(SECRET_KEY) {
                return Err(refuse("it is an identity, the secret half of a key; its public half is wanted (age1…)"));
            }
            if key.starts_with("ssh-") {
                return Err(refuse("SSH keys are not taken; make one with `pgkeep keygen`"));
            }
            let key: age::x25519::Recipient =
                key.parse().map_err(|reason| refuse(&format!("it is no public key of age (age1…): {reason}")))?;
            if !parsed.contains(&key) {
                parsed.push(key);
            }
        }
        if parsed.is_empty() {
            return Err(Error::Usage("nobody is named to encrypt to".to_owned()));
        }
        Ok(Self(Kind::Keys(parsed)))
    }

    /// A passphrase. Each object takes about a second to begin, on purpose: so does each guess.
    pub fn passphrase(passphrase: SecretString) -> Self {
        Self(Kind::Passphrase { passphrase, work: None })
    }

    /// The same with 2^`log_n` rounds of work instead of about a second's.
    #[must_use]
    pub fn with_work_factor(self, log_n: u8) -> Self {
        match self.0 {
            Kind::Passphrase { passphrase, .. } => Self(Kind::Passphrase { passphrase, work: Some(log_n) }),
            keys @ Kind::Keys(_) => Self(keys),
        }
    }

    /// The public keys, or [`PASSPHRASE`].
    pub fn labels(&self) -> Vec<String> {
        match &self.0 {
            Kind::Keys(keys) => keys.iter().map(ToString::to_string).collect(),
            Kind::Passphrase { .. } => vec![PASSPHRASE.to_owned()],
        }
    }

    /// Begins an encrypted object; its header is written at once.
    pub(crate) fn writer<W: Write>(&self, output: W) -> Result<StreamWriter<W>> {
        let scrypt;
        let recipients: Vec<&dyn age::Recipient> = match &self.0 {
            Kind::Keys(keys) => keys.iter().map(|key| key as &dyn age::Recipient).collect(),
            Kind::Passphrase { passphrase, work } => {
                let mut recipient = age::scrypt::Recipient::new(passphrase.clone());
                if let Some(log_n) = work {
                    recipient.set_work_factor(*log_n);
                }
                scrypt = recipient;
                vec![&scrypt]
            }
        };
        let encryptor = age::Encryptor::with_recipients(recipients.into_iter());
        let encryptor = encryptor.map_err(|error| Error::Task(error.to_string()))?;
        encryptor.wrap_output(output).map_err(|error| Error::Task(error.to_string()))
    }

    /// A small object, encrypted.
    pub(crate) fn seal(&self, plain: &[u8]) -> Result<Vec<u8>> {
        let mut writer = self.writer(Vec::with_capacity(plain.len() + plain.len() / 1024 + 1024))?;
        let written = writer.write_all(plain).and_then(|()| writer.finish());
        written.map_err(|error| Error::Task(error.to_string()))
    }
}

impl fmt::Debug for Recipients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Recipients").field(&self.labels()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_public_key_is_refused_without_being_quoted() {
        let key = age::x25519::Identity::generate();
        let public = key.to_public().to_string();
        let secret = secrecy::ExposeSecret::expose_secret(&key.to_string()).to_owned();
        for (wrong, reason) in [
            (secret.as_str(), "identity"),
            ("ssh-ed25519 AAAA", "SSH"),
            ("age1qqqq", "no public key"),
            ("", "no public key"),
        ] {
            let refused = Recipients::parse([public.as_str(), wrong]).unwrap_err().to_string();
            assert!(refused.contains(reason), "{refused}");
            assert!(!refused.contains(&secret), "{refused}");
        }
        assert!(Recipients::parse([]).is_err());
        assert_eq!(Recipients::parse([public.as_str(), &public]).unwrap().labels(), [public]);
    }
}
