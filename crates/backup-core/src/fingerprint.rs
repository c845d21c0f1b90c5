//! Fingerprints of tables: order-free, additive, keyed per backup.
//!
//! `h = XXH3-128(row)` with a secret that is derived from the backup's key; a table's fingerprint is the sum of `h` over its
//! rows mod 2¹²⁸, beside row count and byte count. Sums of parts add up to the sum of the whole, so ranges, lanes
//! and partitions need no order. It finds accidents; it is no signature, for the key lies in the meta.

use std::ops::AddAssign;

use memchr::{memchr, memrchr};
use pgkeep_archive::rows;
use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_128;

/// What metas write before the key: the hash that it is the key of.
const ALGORITHM: &str = "xxh3-128:";
/// BLAKE3's context for deriving the secret of XXH3 from a key.
const SECRET_CONTEXT: &str = "pgkeep 2026-11 fingerprints of rows: secret of XXH3-128";
/// Bytes of that secret, as many as XXH3's own has.
const SECRET_BYTES: usize = 192;

/// The key of a backup's fingerprints: 32 random bytes; in metas `xxh3-128:` and their hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FingerprintKey(pub [u8; 32]);

impl Serialize for FingerprintKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{ALGORITHM}{}", hex::encode(self.0)))
    }
}

impl<'de> Deserialize<'de> for FingerprintKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digits = text.strip_prefix(ALGORITHM).ok_or_else(|| {
            serde::de::Error::custom("the fingerprints are of a kind that this version does not know")
        })?;
        let mut key = [0; 32];
        hex::decode_to_slice(digits, &mut key).map_err(serde::de::Error::custom)?;
        Ok(Self(key))
    }
}

impl FingerprintKey {
    /// A fresh random key.
    pub fn random() -> Self {
        Self(rand::random())
    }

    fn secret(&self) -> [u8; SECRET_BYTES] {
        let mut secret = [0; SECRET_BYTES];
        blake3::Hasher::new_derive_key(SECRET_CONTEXT).update(&self.0).finalize_xof().fill(&mut secret);
        secret
    }
}

/// Rows, bytes and the sum of row hashes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Rows.
    pub rows: u64,
    /// Bytes of the rows' text without line feeds.
    pub bytes: u64,
    /// Σ h mod 2¹²⁸.
    pub sum: u128,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.rows += other.rows;
        self.bytes += other.bytes;
        self.sum = self.sum.wrapping_add(other.sum);
    }
}

impl Tally {
    /// The sum as metas write it: 32 hex digits.
    pub fn fingerprint(&self) -> String {
        format!("{:032x}", self.sum)
    }

    /// Adds every row of `text`, which holds whole rows of COPY text, each ending in LF.
    pub fn add_rows(&mut self, key: &FingerprintKey, text: &[u8]) {
        let secret = key.secret();
        for row in rows(text) {
            self.add_row(row.len() as u64, hash(&secret, row));
        }
    }

    fn add_row(&mut self, bytes: u64, hash: u128) {
        self.rows += 1;
        self.bytes += bytes;
        self.sum = self.sum.wrapping_add(hash);
    }
}

fn hash(secret: &[u8; SECRET_BYTES], row: &[u8]) -> u128 {
    XxHash3_128::oneshot_with_secret(secret, row).expect("the secret is longer than the 136 bytes it must have")
}

fn truncate(hash: &blake3::Hash) -> u128 {
    let mut low = [0; 16];
    low.copy_from_slice(&hash.as_bytes()[..16]);
    u128::from_le_bytes(low)
}

/// Up to so many bytes XXH3 is another function than beyond, and the streaming one of the crate has no secret there.
const SHORT_BYTES: usize = 240;

/// A row that has begun.
#[derive(Clone)]
struct Partial {
    hasher: XxHash3_128,
    /// Its beginning.
    head: Vec<u8>,
    bytes: u64,
}

impl Partial {
    fn new(key: &FingerprintKey) -> Box<Self> {
        let hasher = XxHash3_128::with_seed_and_secret(0, key.secret());
        let hasher = hasher.unwrap_or_else(|_| unreachable!("the secret is longer than the 136 bytes it must have"));
        Box::new(Self { hasher, head: Vec::new(), bytes: 0 })
    }

    fn update(&mut self, part: &[u8]) {
        let rest = SHORT_BYTES - self.head.len();
        self.head.extend_from_slice(&part[..part.len().min(rest)]);
        self.hasher.write(part);
        self.bytes += part.len() as u64;
    }

    fn hash(&self, key: &FingerprintKey) -> u128 {
        if self.bytes > SHORT_BYTES as u64 { self.hasher.finish_128() } else { hash(&key.secret(), &self.head) }
    }
}

impl std::fmt::Debug for Partial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Partial").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

/// Tallies COPY text that arrives in pieces which need not end at rows, with constant memory.
#[derive(Debug, Clone)]
pub struct RowHasher {
    key: FingerprintKey,
    tally: Tally,
    partial: Option<Box<Partial>>,
}

impl RowHasher {
    /// A hasher that has seen nothing.
    pub fn new(key: FingerprintKey) -> Self {
        Self { key, tally: Tally::default(), partial: None }
    }

    /// Takes the next piece.
    pub fn update(&mut self, mut text: &[u8]) {
        if self.partial.is_some() {
            let end = memchr(b'\n', text);
            self.extend(&text[..end.unwrap_or(text.len())]);
            match end {
                Some(end) => {
                    self.close();
                    text = &text[end + 1..];
                }
                None => return,
            }
        }
        let whole = memrchr(b'\n', text).map_or(0, |end| end + 1);
        self.tally.add_rows(&self.key, &text[..whole]);
        if whole < text.len() {
            self.extend(&text[whole..]);
        }
    }

    /// The tally; `Err` holds the bytes of a last row without its line feed.
    pub fn finish(self) -> Result<Tally, u64> {
        match self.partial {
            None => Ok(self.tally),
            Some(partial) => Err(partial.bytes),
        }
    }

    fn extend(&mut self, part: &[u8]) {
        let key = self.key;
        self.partial.get_or_insert_with(|| Partial::new(&key)).update(part);
    }

    fn close(&mut self) {
        if let Some(partial) = self.partial.take() {
            self.tally.add_row(partial.bytes, partial.hash(&self.key));
        }
    }
}

/// Hashes one large object whose content arrives in pieces: `h = BLAKE3-keyed(key, oid u32 LE ‖ content ‖ length u64 LE)`.
#[derive(Debug)]
pub struct LargeObjectHasher {
    hasher: Box<blake3::Hasher>,
    bytes: u64,
}

impl LargeObjectHasher {
    /// A hasher at the beginning of the object `oid`.
    pub fn new(key: &FingerprintKey, oid: u32) -> Self {
        let mut hasher = Box::new(blake3::Hasher::new_keyed(&key.0));
        hasher.update(&oid.to_le_bytes());
        Self { hasher, bytes: 0 }
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
    }

    /// The object as a tally of one row.
    pub fn finish(mut self) -> Tally {
        self.hasher.update(&self.bytes.to_le_bytes());
        Tally { rows: 1, bytes: self.bytes, sum: truncate(&self.hasher.finalize()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: FingerprintKey = FingerprintKey([9; 32]);

    #[test]
    fn a_fingerprint_is_the_sum_of_keyed_hashes() {
        let mut tally = Tally::default();
        tally.add_rows(&KEY, b"1\tone\n\n2\ttwo\n");
        let expected = [&b"1\tone"[..], b"", b"2\ttwo"].iter().fold(0u128, |sum, row| {
            let mut bytes = [0; 192];
            blake3::Hasher::new_derive_key(SECRET_CONTEXT).update(&[9; 32]).finalize_xof().fill(&mut bytes);
            sum.wrapping_add(XxHash3_128::oneshot_with_secret(&bytes, row).unwrap())
        });
        assert_eq!(tally, Tally { rows: 3, bytes: 10, sum: expected });
        assert_eq!(tally.fingerprint(), format!("{expected:032x}"));
    }

    #[test]
    fn order_does_not_matter_and_multiplicity_does() {
        let tally = |text: &[u8]| {
            let mut tally = Tally::default();
            tally.add_rows(&KEY, text);
            tally
        };
        assert_eq!(tally(b"a\nb\n"), tally(b"b\na\n"));
        assert_ne!(tally(b"a\na\n"), tally(b"b\nb\n"));
        assert_ne!(tally(b"a\na\n").sum, 0);
        let mut parts = tally(b"a\n");
        parts += tally(b"b\n");
        assert_eq!(parts, tally(b"a\nb\n"));
    }

    #[test]
    fn rows_in_pieces_have_the_hash_of_rows_in_one() {
        for bytes in [0, 1, 3, 4, 16, 17, 128, 129, 239, 240, 241, 242, 255, 256, 1023, 1024, 1025, 70_000] {
            let row = [vec![b'r'; bytes], b"\n".to_vec()].concat();
            let mut whole = Tally::default();
            whole.add_rows(&KEY, &row);
            for piece in [1, 7, 100, 240, 241, 4096] {
                let mut hasher = RowHasher::new(KEY);
                for piece in row.chunks(piece) {
                    hasher.update(piece);
                }
                assert_eq!(hasher.finish(), Ok(whole), "{bytes} bytes by {piece}");
            }
        }
    }

    #[test]
    fn an_unfinished_row_is_told() {
        let mut hasher = RowHasher::new(KEY);
        hasher.update(b"whole\npart");
        assert_eq!(hasher.finish(), Err(4));
    }

    #[test]
    fn large_objects_differ_by_number_and_content() {
        let hash = |oid, content: &[u8]| {
            let mut hasher = LargeObjectHasher::new(&KEY, oid);
            hasher.update(content);
            hasher.finish()
        };
        assert_ne!(hash(1, b"x"), hash(2, b"x"));
        assert_ne!(hash(1, b""), hash(1, b"\0"));
        assert_eq!((hash(1, b"xyz").rows, hash(1, b"xyz").bytes), (1, 3));
    }
}
