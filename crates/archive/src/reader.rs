//! Archives from anything that can be read.

use std::io::{ErrorKind, Read};

use bytes::Bytes;

use crate::{Decoder, Error, Event, Result};

/// Bytes asked of the source at a time.
const READ_BYTES: usize = 256 << 10;

/// The events of an archive that is read to its end, in order.
///
/// The iteration ends after the first error. When it ends without one, the archive was complete.
#[derive(Debug)]
pub struct ArchiveReader<R> {
    source: R,
    decoder: Decoder,
    ended: bool,
}

impl<R: Read> ArchiveReader<R> {
    /// Reads an archive from its first byte on.
    pub fn new(source: R) -> Self {
        Self { source, decoder: Decoder::new(), ended: false }
    }

    /// Bytes of the archive that were consumed so far.
    pub fn offset(&self) -> u64 {
        self.decoder.offset()
    }

    fn advance(&mut self) -> Result<Option<Event>> {
        loop {
            if let Some(event) = self.decoder.next_event()? {
                return Ok(Some(event));
            }
            let mut buffer = vec![0; READ_BYTES];
            match self.source.read(&mut buffer) {
                Ok(0) => {
                    self.ended = true;
                    return self.decoder.finish().map(|()| None);
                }
                Ok(count) if count >= READ_BYTES / 2 => {
                    buffer.truncate(count);
                    self.decoder.push_bytes(Bytes::from(buffer));
                }
                Ok(count) => self.decoder.push(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(source) => {
                    return Err(Error::Read { offset: self.decoder.received(), source });
                }
            }
        }
    }
}

impl<R: Read> Iterator for ArchiveReader<R> {
    type Item = Result<Event>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let event = self.advance();
        self.ended |= event.is_err();
        event.transpose()
    }
}
