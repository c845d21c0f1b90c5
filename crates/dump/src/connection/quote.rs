//! Quoting names and texts in SQL.

/// An identifier, always in double quotes.
pub fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// An identifier in the session's client encoding, always in double quotes. Right for every encoding that a database can
/// have; not for the client-only ones (SJIS, BIG5, GBK, UHC, GB18030, JOHAB, SHIFT_JIS_2004).
pub fn quote_identifier_bytes(name: &[u8]) -> Vec<u8> {
    let mut quoted = Vec::with_capacity(name.len() + 2);
    quoted.push(b'"');
    for byte in name {
        if *byte == b'"' {
            quoted.push(b'"');
        }
        quoted.push(*byte);
    }
    quoted.push(b'"');
    quoted
}

/// A literal, `E''` where it holds a backslash, so that it means the same whatever standard_conforming_strings is.
pub fn quote_literal(text: &str) -> String {
    let doubled = text.replace('\'', "''");
    if text.contains('\\') { format!("E'{}'", doubled.replace('\\', "\\\\")) } else { format!("'{doubled}'") }
}

/// A literal in the session's client encoding; encodings as with [`quote_identifier_bytes`].
pub fn quote_literal_bytes(text: &[u8]) -> Vec<u8> {
    let mut quoted = Vec::with_capacity(text.len() + 3);
    if text.contains(&b'\\') {
        quoted.push(b'E');
    }
    quoted.push(b'\'');
    for byte in text {
        if matches!(byte, b'\'' | b'\\') {
            quoted.push(*byte);
        }
        quoted.push(*byte);
    }
    quoted.push(b'\'');
    quoted
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_and_texts() {
        assert_eq!(quote_identifier("plain"), "\"plain\"");
        assert_eq!(quote_identifier("a\"b c"), "\"a\"\"b c\"");
        assert_eq!(quote_literal("it's"), "'it''s'");
        assert_eq!(quote_literal("a\\b'c"), "E'a\\\\b''c'");
        assert_eq!(quote_identifier_bytes(b"caf\xe9\""), b"\"caf\xe9\"\"\"");
    }

    proptest! {
        #[test]
        fn both_ways_agree(text in "\\PC{0,60}") {
            prop_assert_eq!(quote_identifier_bytes(text.as_bytes()), quote_identifier(&text).into_bytes());
            prop_assert_eq!(quote_literal_bytes(text.as_bytes()), quote_literal(&text).into_bytes());
        }
    }
}
