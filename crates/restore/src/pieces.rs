//! Cutting COPY text into pieces of whole rows, without copying it.

use std::collections::VecDeque;

use bytes::Bytes;
use memchr::{memchr, memrchr};

/// Bytes of a piece, about: small enough to keep a table's order while several lanes load it (POSTGRES A13), large enough
/// that handing over costs nothing.
pub(crate) const PIECE_BYTES: usize = 1 << 20;

/// What the cutter gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Whole rows, in parts that need not end at rows.
    Rows(Vec<Bytes>),
    /// A part of one row that is longer than a piece; `last` ends it.
    Part {
        /// The bytes.
        bytes: Bytes,
        /// The row is complete with them.
        last: bool,
    },
}

/// Cuts text that arrives in any parts at line feeds. Holds less than one piece and what was pushed last.
#[derive(Debug)]
pub(crate) struct Cutter {
    held: VecDeque<Bytes>,
    /// Their length together.
    bytes: usize,
    in_row: bool,
    target: usize,
}

impl Cutter {
    /// A cutter of pieces of about `target` bytes.
    pub(crate) fn new(target: usize) -> Self {
        Self { held: VecDeque::new(), bytes: 0, in_row: false, target }
    }

    /// Takes the next bytes.
    pub(crate) fn push(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.bytes += bytes.len();
            self.held.push_back(bytes);
        }
    }

    /// A piece, once enough bytes are there.
    pub(crate) fn next(&mut self) -> Option<Cut> {
        if self.in_row {
            return self.rest_of_row();
        }
        if self.bytes < self.target {
            return None;
        }
        for at in (0..self.held.len()).rev() {
            if let Some(end) = memrchr(b'\n', &self.held[at]) {
                let tail = self.held.split_off(at + 1);
                let rest = self.held[at].split_off(end + 1);
                let rows: Vec<Bytes> = std::mem::take(&mut self.held).into();
                self.held = tail;
                if !rest.is_empty() {
                    self.held.push_front(rest);
                }
                self.bytes = self.held.iter().map(Bytes::len).sum();
                return Some(Cut::Rows(rows));
            }
        }
        self.in_row = true;
        self.rest_of_row()
    }

    fn rest_of_row(&mut self) -> Option<Cut> {
        let mut bytes = self.held.pop_front()?;
        let end = memchr(b'\n', &bytes);
        if let Some(end) = end {
            let rest = bytes.split_off(end + 1);
            if !rest.is_empty() {
                self.held.push_front(rest);
            }
        }
        self.bytes -= bytes.len();
        self.in_row = end.is_none();
        Some(Cut::Part { bytes, last: end.is_some() })
    }

    /// What is left at the end of the text; `Err` holds how much is left where the last row lacks its line feed.
    pub(crate) fn finish(self) -> Result<Option<Vec<Bytes>>, usize> {
        match self.held.back().and_then(|bytes| bytes.last()) {
            None if self.in_row => Err(0),
            None => Ok(None),
            Some(b'\n') if !self.in_row => Ok(Some(self.held.into())),
            Some(_) => Err(self.bytes),
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
                cutter.push(Bytes::copy_from_slice(part));
                while let Some(cut) = cutter.next() {
                    match cut {
                        Cut::Rows(parts) => {
                            prop_assert!(!in_row && parts.iter().all(|part| !part.is_empty()));
                            got.extend(parts.concat());
                            prop_assert!(got.ends_with(b"\n"));
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
                got.extend(rest.concat());
            }
            prop_assert_eq!(got, text);
        }
    }

    #[test]
    fn a_cut_off_row_is_told() {
        let mut cutter = Cutter::new(8);
        cutter.push(Bytes::from_static(b"ab\ncd"));
        assert_eq!(cutter.next(), None);
        assert_eq!(cutter.finish(), Err(5));
        let mut cutter = Cutter::new(2);
        cutter.push(Bytes::from_static(b"abcd"));
        assert_eq!(cutter.next(), Some(Cut::Part { bytes: Bytes::from_static(b"abcd"), last: false }));
        assert_eq!(cutter.finish(), Err(0));
    }
}
