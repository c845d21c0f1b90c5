//! An oracle for statements that we make out of other people's names: how PostgreSQL's lexer (scan.l) cuts them up.

/// A token, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Token {
    /// A keyword or a name without quotes.
    Word(String),
    /// A name in double quotes.
    Name(Vec<u8>),
    /// Text in single quotes, of whatever kind.
    Text(Vec<u8>),
    /// Anything else: one character of it.
    Other(u8),
}

/// The tokens of some SQL; `None` if a quote or a comment is not closed. Comments are no tokens.
pub(crate) fn tokens(sql: &[u8]) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(&byte) = sql.get(at) {
        match byte {
            b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => at += 1,
            b'-' if sql.get(at + 1) == Some(&b'-') => {
                at += sql[at..].iter().position(|byte| matches!(byte, b'\n' | b'\r')).unwrap_or(sql.len() - at);
            }
            b'/' if sql.get(at + 1) == Some(&b'*') => at = comment(sql, at)?,
            b'"' => {
                let (name, end) = quoted(sql, at + 1, b'"', false)?;
                tokens.push(Token::Name(name));
                at = end;
            }
            b'\'' => {
                let (text, end) = quoted(sql, at + 1, b'\'', false)?;
                tokens.push(Token::Text(text));
                at = end;
            }
            b'e' | b'E' if sql.get(at + 1) == Some(&b'\'') => {
                let (text, end) = quoted(sql, at + 2, b'\'', true)?;
                tokens.push(Token::Text(text));
                at = end;
            }
            b'$' => match dollar(sql, at) {
                Dollar::Open => return None,
                Dollar::Text(end) => {
                    tokens.push(Token::Text(sql[at..end].to_vec()));
                    at = end;
                }
                Dollar::Sign => {
                    tokens.push(Token::Other(b'$'));
                    at += 1;
                }
            },
            b'a'..=b'z' | b'A'..=b'Z' | b'_' | 0x80.. => {
                let of_word = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | 0x80..);
                let end = at + sql[at..].iter().position(|byte| !of_word(byte)).unwrap_or(sql.len() - at);
                tokens.push(Token::Word(String::from_utf8_lossy(&sql[at..end]).to_ascii_lowercase()));
                at = end;
            }
            other => {
                tokens.push(Token::Other(other));
                at += 1;
            }
        }
    }
    Some(tokens)
}

/// Whether it is one statement that begins with these words.
pub(crate) fn is_one(sql: &[u8], begin: &[&str]) -> bool {
    let Some(tokens) = tokens(sql) else { return false };
    let begins = begin.iter().zip(&tokens).all(|(word, token)| matches!(token, Token::Word(found) if found == word));
    begins && tokens.len() > begin.len() && !tokens.contains(&Token::Other(b';'))
}

fn quoted(sql: &[u8], from: usize, quote: u8, escapes: bool) -> Option<(Vec<u8>, usize)> {
    let mut text = Vec::new();
    let mut at = from;
    loop {
        match *sql.get(at)? {
            b'\\' if escapes => {
                text.push(*sql.get(at + 1)?);
                at += 2;
            }
            byte if byte == quote && sql.get(at + 1) == Some(&quote) => {
                text.push(quote);
                at += 2;
            }
            byte if byte == quote => return Some((text, at + 1)),
            byte => {
                text.push(byte);
                at += 1;
            }
        }
    }
}

fn comment(sql: &[u8], from: usize) -> Option<usize> {
    let (mut depth, mut at) = (0, from);
    loop {
        match sql.get(at..at + 2)? {
            b"/*" => (depth, at) = (depth + 1, at + 2),
            b"*/" if depth == 1 => return Some(at + 2),
            b"*/" => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
}

/// What a dollar sign begins.
enum Dollar {
    /// Nothing.
    Sign,
    /// Text that ends here.
    Text(usize),
    /// Text that does not end.
    Open,
}

fn dollar(sql: &[u8], at: usize) -> Dollar {
    let Some(length) = sql[at + 1..].iter().position(|&byte| byte == b'$') else { return Dollar::Sign };
    let tag = &sql[at..at + length + 2];
    let sound = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | 0x80..);
    if !tag[1..=length].iter().all(sound) || tag[1].is_ascii_digit() {
        return Dollar::Sign;
    }
    let body = &sql[at + tag.len()..];
    let end = body.windows(tag.len()).position(|window| window == tag);
    end.map_or(Dollar::Open, |end| Dollar::Text(at + 2 * tag.len() + end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_cut_up_as_postgresql_does() {
        assert!(is_one(br#"COPY "a;b"."c""d" (x, "/*") FROM stdin"#, &["copy"]));
        for several in [
            &b"COPY a FROM stdin; DROP TABLE b"[..],
            b"COPY a /* ' */; DROP TABLE b /* ' */",
            b"COPY a -- '\n; DROP TABLE b",
            b"COPY a '\\'; DROP TABLE b --'",
            b"COPY a $x$'$x$; DROP TABLE b",
            b"DROP TABLE b",
            b"COPY \"open",
        ] {
            assert!(!is_one(several, &["copy"]), "{}", String::from_utf8_lossy(several));
        }
        assert_eq!(tokens(br"E'\'x'").unwrap(), [Token::Text(b"'x".to_vec())]);
    }
}
