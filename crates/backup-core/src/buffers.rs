//! Buffers that are used again: allocating megabytes anew for each block costs as much as hashing them.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// A stock of buffers, shared by workers. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Buffers {
    idle: Arc<Mutex<Vec<Vec<u8>>>>,
    kept: usize,
}

impl Buffers {
    /// A stock that keeps at most `kept` idle buffers.
    pub(crate) fn new(kept: usize) -> Self {
        Self { idle: Arc::default(), kept }
    }

    /// An empty buffer, used before if there is one.
    pub(crate) fn take(&self) -> Vec<u8> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    /// The buffer's content to be shared; the buffer comes back when nobody holds it any more.
    pub(crate) fn freeze(&self, buffer: Vec<u8>) -> Bytes {
        Bytes::from_owner(Lent { buffer, home: self.clone() })
    }

    fn put(&self, mut buffer: Vec<u8>) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < self.kept {
            buffer.clear();
            idle.push(buffer);
        }
    }
}

struct Lent {
    buffer: Vec<u8>,
    home: Buffers,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.home.put(std::mem::take(&mut self.buffer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_when_its_last_holder_lets_go() {
        let buffers = Buffers::new(1);
        let mut buffer = buffers.take();
        buffer.extend_from_slice(b"frame");
        let address = buffer.as_ptr();
        let frozen = buffers.freeze(buffer);
        let part = frozen.slice(1..3);
        drop(frozen);
        assert_eq!(part, b"ra".as_slice());
        let other = buffers.take();
        assert_ne!(other.as_ptr(), address);
        drop(part);
        let again = buffers.take();
        assert_eq!((again.as_ptr(), again.len()), (address, 0));
    }
}
