//! JSON objects whose last line is a digest of the lines above it, so that a flipped bit in them is found.
//!
//! Metas prove archives, and nothing proves a meta; so it carries the sha256 of its own bytes. Readers that do not know the
//! key ignore it, and objects from before there was one are read as they are. It finds accidents: whoever may write an object
//! can write its digest.

use bytes::Bytes;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{Error, Result};

/// How the last line begins. In no JSON text is a line feed inside a string, so this stands nowhere else.
const LINE: &[u8] = b"  \"self_sha256\": \"";
/// What comes after the digest.
const END: &[u8] = b"\"\n}\n";

/// Adds the digest to an object that was written with a key to a line.
pub(crate) fn with_digest(mut json: Vec<u8>) -> Vec<u8> {
    let Some(above) = json.trim_ascii_end().strip_suffix(b"\n}").map(<[u8]>::len) else { return json };
    json.truncate(above);
    json.extend_from_slice(b",\n");
    let digest = hex::encode(Sha256::digest(&json));
    json.extend_from_slice(LINE);
    json.extend_from_slice(digest.as_bytes());
    json.extend_from_slice(END);
    json
}

/// An object of ours as it is stored.
pub(crate) fn write(object: &impl Serialize) -> Result<Bytes> {
    let json = serde_json::to_vec_pretty(object).map_err(|error| Error::Task(error.to_string()))?;
    Ok(with_digest(json).into())
}

/// What is wrong with the digest of an object, if it has one.
pub(crate) fn fault(json: &[u8]) -> Option<&'static str> {
    let has_one = serde_json::from_slice::<Key>(json).map_or(true, |key| key.self_sha256.is_some());
    let last = json.strip_suffix(END).and_then(|rest| rest.split_last_chunk::<64>());
    let same = last.is_some_and(|(rest, digest)| {
        rest.strip_suffix(LINE).is_some_and(|above| hex::encode(Sha256::digest(above)).as_bytes() == digest)
    });
    (has_one && !same).then_some("it is not as it was written: its own digest is another")
}

/// Reads an object of ours, its digest checked; the error says in words what is wrong.
pub(crate) fn read<T: DeserializeOwned>(json: &[u8]) -> std::result::Result<T, String> {
    let object = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    fault(json).map_or(Ok(object), |fault| Err(fault.to_owned()))
}

#[derive(Deserialize)]
struct Key {
    self_sha256: Option<IgnoredAny>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = "{\n  \"name\": \"self_sha256\",\n  \"list\": [1,2]\n}\n";

    #[test]
    fn every_flipped_bit_is_found_or_changes_nothing_that_is_read() {
        #[derive(Debug, PartialEq, Deserialize)]
        struct Named {
            name: String,
            list: Vec<u8>,
        }
        let written = with_digest(PLAIN.as_bytes().to_vec());
        let whole: Named = read(&written).unwrap();
        let (mut accepted, mut flipped) = (Vec::new(), written.clone());
        for at in 0..written.len() {
            for bit in 0..8 {
                flipped[at] ^= 1 << bit;
                if let Ok(found) = read::<Named>(&flipped) {
                    assert_eq!(found, whole, "byte {at}, bit {bit}");
                    accepted.push(at);
                }
                flipped[at] = written[at];
            }
        }
        let key = written.len() - END.len() - 64 - LINE.len() + 3;
        accepted.dedup();
        assert!(accepted.iter().all(|at| (key..key + 11).contains(at)), "only in the key's own name: {accepted:?}");
    }

    #[test]
    fn an_object_without_a_digest_is_read_and_one_that_was_written_anew_is_not() {
        assert_eq!(fault(PLAIN.as_bytes()), None);
        let written = with_digest(PLAIN.as_bytes().to_vec());
        let value: serde_json::Value = read(&written).unwrap();
        assert!(fault(value.to_string().as_bytes()).is_some());
        assert!(fault(&written[..written.len() - 1]).is_some(), "also a line feed is a byte");
    }

    #[test]
    fn stock_tools_find_the_same() {
        let written = with_digest(b"{\n  \"a\": 1\n}".to_vec());
        // printf '{\n  "a": 1,\n' | sha256sum
        let digest = hex::encode(Sha256::digest(b"{\n  \"a\": 1,\n"));
        assert_eq!(
            String::from_utf8(written).unwrap(),
            format!("{{\n  \"a\": 1,\n  \"self_sha256\": \"{digest}\"\n}}\n")
        );
    }
}
