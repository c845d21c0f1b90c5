//! Parsers of what comes from outside, for the fuzz targets in fuzz/. No part of the interface.

use crate::mark::Mark;
use crate::{Identities, Meta, lock, self_digest};

/// Whether a mark can be read; written again, it is the same.
pub fn mark(json: &[u8]) -> bool {
    let Ok(mark) = self_digest::read::<Mark>(json) else { return false };
    let again = self_digest::write(&mark).ok().and_then(|json| self_digest::read::<Mark>(&json).ok());
    assert_eq!(again.as_ref(), Some(&mark), "it is written as it was read");
    true
}

/// Whether an epoch of a lock can be read; written again, it is the same.
pub fn epoch(json: &[u8]) -> bool {
    lock::can_be_read(json)
}

/// What every data block of a meta is said to be; all that is made of a meta without its archive.
pub fn places(meta: &Meta) -> usize {
    let blocks = meta.data_blocks();
    for (dump_id, range) in &blocks {
        assert!(range.start <= range.end);
        if let Some(frames) = meta.entry_frames(*dump_id) {
            assert!(frames.start <= frames.end && frames.end <= meta.frames.len());
        }
    }
    blocks.len()
}

/// What a sealed object holds.
pub fn open(identities: &Identities, stored: &[u8]) -> Option<Vec<u8>> {
    identities.open(stored).ok()
}
