//! Rows of COPY text.

/// The rows of a run of COPY text, in order, each without its line feed.
///
/// COPY text escapes line feeds inside values, so a line feed always ends a row. What follows the last line feed,
/// if anything, comes as the last item.
pub fn rows(text: &[u8]) -> Rows<'_> {
    Rows { rest: text }
}

/// Iterator of [`rows`].
#[derive(Debug, Clone)]
pub struct Rows<'t> {
    rest: &'t [u8],
}

impl<'t> Iterator for Rows<'t> {
    type Item = &'t [u8];

    #[inline]
    fn next(&mut self) -> Option<&'t [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        if let Some(end) = memchr::memchr(b'\n', self.rest) {
            let row = &self.rest[..end];
            self.rest = &self.rest[end + 1..];
            Some(row)
        } else {
            Some(std::mem::take(&mut self.rest))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::rows;

    #[test]
    fn rows_are_what_line_feeds_end() {
        let all = |text: &'static [u8]| rows(text).collect::<Vec<_>>();
        assert_eq!(all(b""), Vec::<&[u8]>::new());
        assert_eq!(all(b"\n"), [b""]);
        assert_eq!(all(b"a\tb\n\nc\n"), [&b"a\tb"[..], b"", b"c"]);
        assert_eq!(all(b"a\nrest"), [&b"a"[..], b"rest"]);
    }
}
