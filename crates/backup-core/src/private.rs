//! What the meta of an encrypted backup keeps to itself.
//!
//! Without a key it must be possible to list, copy, verify and remove backups, so a meta stays readable; but it names
//! tables, columns and roles, and its fingerprints would let somebody who guesses a row know that they are right. So the
//! stored meta tells what the backup is, and the whole of it lies encrypted inside.

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use pgkeep_compress::{Codec, Compression};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::identities::Locked;
use crate::meta::LARGEST_FRAME;
use crate::{DatabaseMeta, Error, FingerprintKey, FrameIndex, Identities, LargeObjectsMeta, Meta, Recipients, Result};

/// The one scheme there is: files of the age format, version 1.
const SCHEME: &str = "age";
/// What a hidden selection begins with.
const HIDDEN: &str = "--hidden=";

/// How a backup is encrypted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EncryptionMeta {
    /// `age`: archive and globals are files of the age format, version 1.
    pub scheme: String,
    /// Public keys (`age1…`) whose secret halves open it, or the word `passphrase`.
    pub recipients: Vec<String>,
    /// The whole meta as JSON, compressed with zstd, encrypted like the archive, in base64. Empty in a meta that was opened.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sealed: String,
}

impl EncryptionMeta {
    pub(crate) fn of(recipients: &Recipients) -> Self {
        Self { scheme: SCHEME.to_owned(), recipients: recipients.labels(), sealed: String::new() }
    }

    /// Whether this version knows how to open it.
    pub(crate) fn is_known(&self) -> bool {
        self.scheme == SCHEME
    }
}

impl Meta {
    /// Whether what names tables and roles is encrypted, and missing here: see [`Self::unseal`].
    pub fn is_sealed(&self) -> bool {
        self.encryption.as_ref().is_some_and(|encryption| !encryption.sealed.is_empty())
    }

    /// Whether the backup is of what these arguments of pg_dump choose; as far as can be told of a sealed meta.
    pub fn selects(&self, arguments: &[String]) -> bool {
        self.selection == if self.is_sealed() { hidden(arguments) } else { arguments.to_vec() }
    }

    /// As it is stored: without what names tables and roles, which lies encrypted in it. Takes a while with a passphrase.
    pub(crate) fn seal(&self, recipients: &Recipients) -> Result<Self> {
        let mut compressed = Vec::new();
        codec().encode(&self.to_json()?, &mut compressed).map_err(|error| Error::Task(error.to_string()))?;
        let sealed = BASE64_STANDARD.encode(recipients.seal(&compressed)?);
        let hidden_warnings = match self.warnings.len() {
            0 => Vec::new(),
            count => vec![format!("{count} that can be read with the key")],
        };
        Ok(Self {
            encryption: Some(EncryptionMeta { sealed, ..EncryptionMeta::of(recipients) }),
            database: DatabaseMeta {
                owner: String::new(),
                tablespace: String::new(),
                comment: None,
                ..self.database.clone()
            },
            selection: hidden(&self.selection),
            fingerprint_key: FingerprintKey([0; 32]),
            schema_sha256: String::new(),
            toc_entries: 0,
            toc_bytes: 0,
            entries: Vec::new(),
            large_objects: LargeObjectsMeta::default(),
            sequences: Vec::new(),
            frames: FrameIndex::default(),
            extensions: Vec::new(),
            warnings: hidden_warnings,
            ..self.clone()
        })
    }

    /// The whole meta; itself, if it is not sealed. [`Error::KeyMissing`] and [`Error::KeyWrong`] say that it stays shut.
    pub fn unseal(&self, identities: &Identities) -> Result<Self> {
        let Some(encryption) = self.encryption.as_ref().filter(|_| self.is_sealed()) else { return Ok(self.clone()) };
        let (object, recipients) = (self.id.to_string(), encryption.recipients.clone());
        if identities.is_empty() {
            return Err(Error::KeyMissing { object, recipients });
        }
        let refuse = |reason: &str| Error::Meta { object: self.file(), reason: reason.to_owned() };
        let sealed = BASE64_STANDARD.decode(&encryption.sealed);
        let sealed = sealed.map_err(|_| refuse("its encrypted part is no base64"))?;
        let compressed = match identities.open(&sealed) {
            Ok(compressed) => compressed,
            Err(Locked::WrongKey) => return Err(Error::KeyWrong { object, recipients }),
            Err(Locked::Damaged(reason)) => return Err(refuse(&format!("its encrypted part: {reason}"))),
        };
        let mut json = Vec::new();
        codec()
            .decode(&compressed, &mut json, LARGEST_FRAME as usize)
            .map_err(|error| refuse(&format!("its encrypted part: {error}")))?;
        let meta = Self::from_json(&self.file(), &json)?;
        let same = (&meta.id, &meta.backup_file, &meta.stored, &meta.plain, &meta.globals)
            == (&self.id, &self.backup_file, &self.stored, &self.plain, &self.globals);
        if same { Ok(meta) } else { Err(refuse("its encrypted part is another backup's")) }
    }
}

fn codec() -> Arc<dyn Codec> {
    Compression::ZSTD.codec()
}

/// What tells selections apart, mostly, and none of their names: 16 bits fit any guess too often to confirm one.
fn hidden(arguments: &[String]) -> Vec<String> {
    if arguments.is_empty() {
        return Vec::new();
    }
    let mut digest = Sha256::new();
    for argument in arguments {
        digest.update(argument);
        digest.update([0]);
    }
    vec![format!("{HIDDEN}{}", hex::encode(&digest.finalize()[..2]))]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{at, meta};
    use crate::{BackupClass, EntryMeta, KeyPair, SequenceMeta};

    fn secret_meta() -> Meta {
        let mut secret = meta(BackupClass::Daily, at(0), b"archive");
        secret.database.owner = "marker_role".to_owned();
        secret.database.comment = Some("marker_comment".to_owned());
        secret.selection = vec!["--table=marker_table".to_owned()];
        secret.entries.push(EntryMeta {
            dump_id: 5,
            schema: "marker_schema".to_owned(),
            name: "marker_table".to_owned(),
            rows: 3,
            bytes: 9,
            fingerprint: "marker_fingerprint".to_owned(),
            columns: "marker_column".to_owned(),
            frame: 0,
            offset: 0,
            plain_bytes: 9,
        });
        secret.sequences.push(SequenceMeta {
            schema: "marker_schema".to_owned(),
            name: "marker_sequence".to_owned(),
            last_value: 1,
            is_called: true,
        });
        secret.warnings = vec!["marker_table has no rows".to_owned()];
        secret
    }

    fn identities(pair: &KeyPair) -> Identities {
        Identities::parse(secrecy::ExposeSecret::expose_secret(&pair.identity)).unwrap()
    }

    #[test]
    fn a_sealed_meta_names_nothing_and_opens_to_what_it_was() {
        let (pair, other) = (KeyPair::generate(), KeyPair::generate());
        let recipients = Recipients::parse([pair.recipient.as_str()]).unwrap();
        let whole = Meta { encryption: Some(EncryptionMeta::of(&recipients)), ..secret_meta() };
        let json = whole.seal(&recipients).unwrap().to_json().unwrap();
        assert!(!String::from_utf8_lossy(&json).contains("marker_"));

        let stored = Meta::from_json("x", &json).unwrap();
        assert!(stored.is_sealed() && !whole.is_sealed());
        assert!(stored.selects(&whole.selection) && !stored.selects(&[]) && whole.selects(&whole.selection));
        assert_eq!(stored.unseal(&identities(&pair)).unwrap(), whole);
        assert_eq!(whole.unseal(&Identities::default()).unwrap(), whole);
        assert!(matches!(stored.unseal(&Identities::default()), Err(Error::KeyMissing { recipients, .. })
            if recipients == [pair.recipient.clone()]));
        assert!(matches!(stored.unseal(&identities(&other)), Err(Error::KeyWrong { .. })));
    }

    #[test]
    fn an_exchanged_or_damaged_sealed_part_is_refused() {
        let pair = KeyPair::generate();
        let recipients = Recipients::parse([pair.recipient.as_str()]).unwrap();
        let mut stored = secret_meta().seal(&recipients).unwrap();
        let other = meta(BackupClass::Daily, at(24), b"other").seal(&recipients).unwrap();
        let sealed = std::mem::replace(&mut stored.encryption, other.encryption).unwrap().sealed;
        let of_another = stored.unseal(&identities(&pair)).unwrap_err();
        assert!(matches!(&of_another, Error::Meta { reason, .. } if reason.contains("another")), "{of_another}");
        let mut cut = stored;
        cut.encryption =
            Some(EncryptionMeta { sealed: sealed[..sealed.len() - 8].to_owned(), ..EncryptionMeta::of(&recipients) });
        assert!(matches!(cut.unseal(&identities(&pair)), Err(Error::Meta { .. })));
    }

    #[test]
    fn a_scheme_that_is_not_known_is_refused() {
        let mut unknown = secret_meta();
        unknown.encryption =
            Some(EncryptionMeta { scheme: "rot13".to_owned(), recipients: Vec::new(), sealed: String::new() });
        assert!(matches!(Meta::from_json("x", &unknown.to_json().unwrap()), Err(Error::Meta { .. })));
    }
}
