//! The bytes that were pushed and not yet consumed.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};

use crate::{Error, Result};

/// Length of an integer in an archive: a sign byte and four bytes of magnitude, least significant first.
pub(crate) const INT_BYTES: usize = 5;

/// A queue of byte pieces that knows how far it was read.
#[derive(Debug, Default)]
pub(crate) struct Input {
    front: Bytes,
    rest: VecDeque<Bytes>,
    offset: u64,
}

impl Input {
    pub(crate) fn push(&mut self, bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        if self.front.is_empty() {
            self.front = bytes;
        } else {
            self.rest.push_back(bytes);
        }
    }

    /// Gives bytes back that were taken too many.
    pub(crate) fn unread(&mut self, bytes: Bytes) {
        self.offset -= bytes.len() as u64;
        if bytes.is_empty() {
            return;
        }
        let front = std::mem::replace(&mut self.front, bytes);
        if !front.is_empty() {
            self.rest.push_front(front);
        }
    }

    /// Bytes consumed.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Bytes consumed and waiting.
    pub(crate) fn received(&self) -> u64 {
        self.offset + (self.front.len() + self.rest.iter().map(Bytes::len).sum::<usize>()) as u64
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.front.is_empty()
    }

    /// The next bytes that lie together; empty only if there are none.
    #[inline]
    pub(crate) fn piece(&self) -> &[u8] {
        &self.front
    }

    /// Consumes bytes of [`Self::piece`].
    #[inline]
    pub(crate) fn advance(&mut self, count: usize) {
        self.front.advance(count);
        self.offset += count as u64;
        if self.front.is_empty() {
            self.front = self.rest.pop_front().unwrap_or_default();
        }
    }

    /// Consumes bytes of [`Self::piece`] and hands them over without a copy.
    pub(crate) fn split(&mut self, count: usize) -> Bytes {
        let bytes = self.front.slice(..count);
        self.advance(count);
        bytes
    }

    /// Consumes all that lies together.
    pub(crate) fn take_piece(&mut self) -> Bytes {
        let piece = std::mem::replace(&mut self.front, self.rest.pop_front().unwrap_or_default());
        self.offset += piece.len() as u64;
        piece
    }

    /// Consumes one byte.
    pub(crate) fn byte(&mut self) -> Option<u8> {
        let byte = *self.front.first()?;
        self.advance(1);
        Some(byte)
    }

    /// Consumes an integer, or nothing while it is incomplete.
    #[inline]
    pub(crate) fn int(&mut self) -> Result<Option<i32>> {
        let bytes = if let Some(bytes) = self.front.first_chunk::<INT_BYTES>() {
            *bytes
        } else {
            let mut bytes = [0; INT_BYTES];
            let mut have = 0;
            for piece in std::iter::once(&self.front).chain(&self.rest) {
                let count = piece.len().min(INT_BYTES - have);
                bytes[have..have + count].copy_from_slice(&piece[..count]);
                have += count;
            }
            if have < INT_BYTES {
                return Ok(None);
            }
            bytes
        };
        let value = int_of(bytes).ok_or_else(|| Error::damaged(self.offset, "an integer's sign byte, 0 or 1"))?;
        let mut left = INT_BYTES;
        while left > 0 {
            let count = left.min(self.front.len());
            self.advance(count);
            left -= count;
        }
        Ok(Some(value))
    }
}

/// The value of an integer's bytes, or `None` if the sign byte is neither 0 nor 1.
///
/// OIDs from 2^31 on are written by pg_dump as negative numbers; `as u32` gives them back.
#[inline]
pub(crate) fn int_of([sign, magnitude @ ..]: [u8; INT_BYTES]) -> Option<i32> {
    let magnitude = i32::from_le_bytes(magnitude);
    match sign {
        0 => Some(magnitude),
        1 => Some(magnitude.wrapping_neg()),
        _ => None,
    }
}

/// The bytes of an integer, as pg_dump's `WriteInt` makes them.
#[inline]
pub(crate) fn int_bytes(value: i32) -> [u8; INT_BYTES] {
    let [a, b, c, d] = value.wrapping_abs().to_le_bytes();
    [u8::from(value < 0), a, b, c, d]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn integers_come_back_from_their_bytes_however_they_are_split(value: i32, cut in 0..=INT_BYTES) {
            let bytes = int_bytes(value);
            let mut input = Input::default();
            input.push(Bytes::copy_from_slice(&bytes[..cut]));
            input.push(Bytes::copy_from_slice(&bytes[cut..]));
            input.push(Bytes::from_static(b"x"));
            prop_assert_eq!(input.int().unwrap(), Some(value));
            prop_assert_eq!(input.offset(), 5);
            prop_assert_eq!(input.received(), 6);
            prop_assert_eq!(input.int().unwrap(), None);
            prop_assert_eq!(input.byte(), Some(b'x'));
        }
    }

    #[test]
    fn large_oids_are_negative_integers() {
        assert_eq!(int_bytes(3_000_000_001_u32 as i32), [1, 0xff, 0xa1, 0x2f, 0x4d]);
        for oid in [1, 0x7fff_ffff, 0x8000_0000, 3_000_000_001, u32::MAX] {
            assert_eq!(int_of(int_bytes(oid as i32)).unwrap() as u32, oid);
        }
        assert_eq!(int_of([2, 0, 0, 0, 0]), None);
    }
}
