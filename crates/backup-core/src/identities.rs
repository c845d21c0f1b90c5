//! The secret keys that open encrypted backups.

use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;

use age::DecryptError;
use age::stream::StreamReader;
use age_core::format::{FileKey, Stanza};
use age_core::secrecy::ExposeSecret;
use secrecy::SecretString;

/// What every encrypted object begins with.
const MAGIC: &[u8] = b"age-encryption.org/v1\n";

/// Whether an object that begins with these bytes (22 suffice) is encrypted.
pub(crate) fn is_encrypted(first: &[u8]) -> bool {
    first.starts_with(MAGIC)
}

/// Identities of age, and passphrases: whatever may open a backup. Cheap to clone; empty by default.
#[derive(Clone, Default)]
pub struct Identities(Arc<Vec<Arc<dyn age::Identity + Send + Sync>>>);

/// A new key.
pub struct KeyPair {
    /// The public half (`age1…`): backups are encrypted to it.
    pub recipient: String,
    /// The secret half (`AGE-SECRET-KEY-1…`): it opens them.
    pub identity: SecretString,
}

/// A line of an identity file that is no identity, counted from 1. What stands there is not told: it may be a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadLine(pub usize);

/// Why an object could not be opened.
#[derive(Debug)]
pub(crate) enum Locked {
    /// None of the keys fits.
    WrongKey,
    /// It is no sound encrypted object.
    Damaged(String),
}

impl Identities {
    /// The identities of a file as `pgkeep keygen` and `age-keygen` write it: one a line, `#` begins a comment.
    pub fn parse(text: &str) -> Result<Self, BadLine> {
        let mut keys: Vec<Arc<dyn age::Identity + Send + Sync>> = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let key: age::x25519::Identity = line.parse().map_err(|_| BadLine(number))?;
            keys.push(Arc::new(key));
        }
        Ok(Self(Arc::new(keys)))
    }

    /// A passphrase.
    pub fn passphrase(passphrase: SecretString) -> Self {
        Self(Arc::new(vec![Arc::new(age::scrypt::Identity::new(passphrase))]))
    }

    /// These and those.
    #[must_use]
    pub fn and(&self, others: &Self) -> Self {
        Self(Arc::new(self.0.iter().chain(others.0.iter()).cloned().collect()))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Opens a whole small object of age's format, as a key file protected by a passphrase is; `None` if none of these
    /// opens it, or it is damaged.
    pub fn open_file(&self, stored: &[u8]) -> Option<Vec<u8>> {
        self.open(stored).ok()
    }

    /// A small object, decrypted.
    pub(crate) fn open(&self, stored: &[u8]) -> Result<Vec<u8>, Locked> {
        let (mut reader, _) = self.reader(stored)?;
        let mut plain = Vec::with_capacity(stored.len());
        reader.read_to_end(&mut plain).map_err(|_| Locked::Damaged(ALTERED.to_owned()))?;
        Ok(plain)
    }

    /// Opens an object: what it holds, and its own key, with which it can be opened again at once.
    pub(crate) fn reader<R: Read>(&self, stored: R) -> Result<(StreamReader<R>, ObjectKey), Locked> {
        let caught = Caught { identities: self, key: std::cell::RefCell::new(None) };
        let decryptor = age::Decryptor::new(stored).map_err(locked)?;
        let reader = decryptor.decrypt(std::iter::once(&caught as &dyn age::Identity)).map_err(locked)?;
        let key = caught.key.into_inner().ok_or(Locked::WrongKey)?;
        Ok((reader, key))
    }
}

/// What is said of encrypted bytes that are not what was written.
pub(crate) const ALTERED: &str = "its encrypted bytes were altered or cut off";

fn locked(error: DecryptError) -> Locked {
    match error {
        DecryptError::NoMatchingKeys
        | DecryptError::DecryptionFailed
        | DecryptError::KeyDecryptionFailed
        | DecryptError::ExcessiveWork { .. } => Locked::WrongKey,
        DecryptError::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Locked::Damaged("it ends inside its header".to_owned())
        }
        DecryptError::Io(error) => Locked::Damaged(error.to_string()),
        DecryptError::InvalidMac => Locked::Damaged("its header was altered".to_owned()),
        _ => Locked::Damaged("it is no file of age's format, version 1".to_owned()),
    }
}

/// The key of one encrypted object.
pub(crate) struct ObjectKey([u8; 16]);

impl ObjectKey {
    fn of(key: &FileKey) -> Self {
        Self(*key.expose_secret())
    }

    fn file_key(&self) -> FileKey {
        FileKey::new(Box::new(self.0))
    }
}

impl fmt::Debug for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ObjectKey")
    }
}

impl age::Identity for ObjectKey {
    fn unwrap_stanza(&self, _: &Stanza) -> Option<Result<FileKey, DecryptError>> {
        Some(Ok(self.file_key()))
    }
}

/// Tries all identities, and keeps the key that one of them finds.
struct Caught<'i> {
    identities: &'i Identities,
    key: std::cell::RefCell<Option<ObjectKey>>,
}

impl age::Identity for Caught<'_> {
    fn unwrap_stanza(&self, stanza: &Stanza) -> Option<Result<FileKey, DecryptError>> {
        self.unwrap_stanzas(std::slice::from_ref(stanza))
    }

    fn unwrap_stanzas(&self, stanzas: &[Stanza]) -> Option<Result<FileKey, DecryptError>> {
        // One that fails says nothing of the next: of two passphrases, the second may be the one.
        let mut failure = None;
        for identity in self.identities.0.iter() {
            match identity.unwrap_stanzas(stanzas) {
                Some(Ok(key)) => {
                    *self.key.borrow_mut() = Some(ObjectKey::of(&key));
                    return Some(Ok(key));
                }
                Some(Err(error)) => failure = Some(Err(error)),
                None => {}
            }
        }
        failure
    }
}

impl KeyPair {
    /// A new key, from the system's random numbers.
    pub fn generate() -> Self {
        let identity = age::x25519::Identity::generate();
        Self { recipient: identity.to_public().to_string(), identity: identity.to_string() }
    }
}

impl fmt::Debug for Identities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identities({})", self.0.len())
    }
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyPair").field("recipient", &self.recipient).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Recipients;

    fn identities(pair: &KeyPair) -> Identities {
        let text = format!("# a comment\n\n{}\n", secrecy::ExposeSecret::expose_secret(&pair.identity));
        Identities::parse(&text).unwrap()
    }

    #[test]
    fn each_of_several_recipients_opens_and_nobody_else() {
        let pairs = [KeyPair::generate(), KeyPair::generate(), KeyPair::generate()];
        let recipients = Recipients::parse([pairs[0].recipient.as_str(), &pairs[1].recipient]).unwrap();
        let sealed = recipients.seal(b"row").unwrap();
        assert!(is_encrypted(&sealed));
        assert_eq!(identities(&pairs[0]).open(&sealed).unwrap(), b"row");
        assert_eq!(identities(&pairs[1]).open(&sealed).unwrap(), b"row");
        assert!(matches!(identities(&pairs[2]).open(&sealed), Err(Locked::WrongKey)));
        assert!(matches!(Identities::default().open(&sealed), Err(Locked::WrongKey)));
        let all = identities(&pairs[2]).and(&identities(&pairs[1]));
        assert_eq!(all.open(&sealed).unwrap(), b"row");
    }

    #[test]
    fn a_passphrase_opens_and_another_does_not() {
        let recipients = Recipients::passphrase("one".to_owned().into()).with_work_factor(4);
        let sealed = recipients.seal(b"row").unwrap();
        let (right, wrong) =
            (Identities::passphrase("one".to_owned().into()), Identities::passphrase("two".to_owned().into()));
        assert_eq!(right.open(&sealed).unwrap(), b"row");
        assert!(matches!(wrong.open(&sealed), Err(Locked::WrongKey)));
        assert_eq!(wrong.and(&right).open(&sealed).unwrap(), b"row");
    }

    #[test]
    fn every_flipped_byte_and_every_cut_is_found() {
        let pair = KeyPair::generate();
        let sealed = Recipients::parse([pair.recipient.as_str()]).unwrap().seal(b"some rows of a table").unwrap();
        let identities = identities(&pair);
        for at in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[at] ^= 1;
            assert!(identities.open(&altered).is_err(), "byte {at}");
            assert!(identities.open(&sealed[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn a_line_that_is_no_identity_is_told_by_its_number() {
        assert_eq!(Identities::parse("# x\n\nage1notasecret\n").unwrap_err(), BadLine(3));
        assert!(Identities::parse("# nothing\n").unwrap().is_empty());
    }
}
