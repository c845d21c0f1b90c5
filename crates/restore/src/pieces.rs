//! Cutting COPY text into pieces of whole rows.

use bytes::{Buf, Bytes, BytesMut};

/// Bytes of a piece, about: small enough to keep a table's order while several lanes load it (POSTGRES A13), large enough
/// that handing over costs nothing.
pub(crate) const PIECE_BYTES: usize = 1 << 20;

/// What the cutter gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Whole rows.
    Rows(Bytes),
    /// A part of one row that is longer than a piece; `last` ends it.
    Part {
        /// The bytes.
        bytes: Bytes,
        /// The row is complete with them.
        last: bool,
    },
}

/// Cuts text that arrives in any pieces at line feeds. Holds at most one piece and what was pushed last.
#[derive(Debug)]
pub(crate) struct Cutter {
    held: BytesMut,
    in_row: bool,
    target: usize,
}

impl Cutter {
    /// A cutter of pieces of about `target` bytes.
    pub(crate) fn new(target: usize) -> Self {
        Self { held: BytesMut::new(), in_row: false, target }
    }

    /// Takes the next bytes.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
    }

    /// A piece, once enough bytes are there.
    pub(crate) fn next(&mut self) -> Option<Cut> {
        if self.in_row {
            return self.rest_of_row();
        }
        if self.held.len() < self.target {
            return None;
        }
        if let Some(end) = self.held.iter().rposition(|&byte| byte == b'\n') {
            let rows = self.held.split_to(end + 1);
            return Some(Cut::Rows(rows.freeze()));
        }
        self.in_row = true;
        Some(Cut::Part { bytes: self.held.split().freeze(), last: false })
    }

    fn rest_of_row(&mut self) -> Option<Cut> {
        if !self.held.has_remaining() {
            return None;
        }
        let end = self.held.iter().position(|&byte| byte == b'\n');
        let bytes = match end {
            Some(end) => self.held.split_to(end + 1),
            None => self.held.split(),
        };
        self.in_row = end.is_none();
        Some(Cut::Part { bytes: bytes.freeze(), last: end.is_some() })
    }

    /// What is left at the end of the text; `Err` holds how much is left where the last row lacks its line feed.
    pub(crate) fn finish(self) -> Result<Option<Bytes>, usize> {
        match self.held.last() {
            None if self.in_row => Err(0),
            None => Ok(None),
            Some(b'\n') if !self.in_row => Ok(Some(self.held.freeze())),
            Some(_) => Err(self.held.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn nothing_is_lost_and_rows_stay_whole(
            rows in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 0..40),
            size in 1_usize..50,
            target in 1_usize..80,
        ) {
            let mut text = Vec::new();
            for row in &rows {
                text.extend(row.iter().map(|&byte| if byte == b'\n' { b' ' } else { byte }));
                text.push(b'\n');
            }
            let mut cutter = Cutter::new(target);
            let mut got = Vec::new();
            let mut in_row = false;
            for part in text.chunks(size) {
                cutter.push(part);
                while let Some(cut) = cutter.next() {
                    match cut {
                        Cut::Rows(bytes) => {
                            prop_assert!(!in_row && bytes.ends_with(b"\n"));
                            got.extend_from_slice(&bytes);
                        }
                        Cut::Part { bytes, last } => {
                            prop_assert_eq!(bytes.ends_with(b"\n"), last);
                            got.extend_from_slice(&bytes);
                            in_row = !last;
                        }
                    }
                }
            }
            prop_assert!(!in_row);
            if let Some(rest) = cutter.finish().unwrap() {
                got.extend_from_slice(&rest);
            }
            prop_assert_eq!(got, text);
        }
    }

    #[test]
    fn a_cut_off_row_is_told() {
        let mut cutter = Cutter::new(8);
        cutter.push(b"ab\ncd");
        assert_eq!(cutter.next(), None);
        assert_eq!(cutter.finish(), Err(5));
        let mut cutter = Cutter::new(2);
        cutter.push(b"abcd");
        assert_eq!(cutter.next(), Some(Cut::Part { bytes: Bytes::from_static(b"abcd"), last: false }));
        assert_eq!(cutter.finish(), Err(0));
    }
}
