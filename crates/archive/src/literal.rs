//! The little SQL that must be read: quoted names and quoted text as pg_dump writes them.

use std::borrow::Cow;

/// The value of `SET name = 'value';`.
pub(crate) fn set_value(statement: &[u8]) -> Option<&[u8]> {
    let begin = memchr::memchr(b'\'', statement)? + 1;
    let end = memchr::memrchr(b'\'', statement)?;
    statement.get(begin..end)
}

/// A name at the beginning of `sql`, quoted or not: its text without quotes, and what follows it.
pub(crate) fn name(sql: &[u8]) -> Option<(Cow<'_, [u8]>, &[u8])> {
    if sql.first() == Some(&b'"') {
        let end = quoted_end(sql)?;
        let inner = &sql[1..end - 1];
        let text = match memchr::memchr(b'"', inner) {
            None => Cow::Borrowed(inner),
            Some(_) => Cow::Owned(undouble(inner)),
        };
        return Some((text, &sql[end..]));
    }
    let is_end = |byte: &u8| matches!(byte, b' ' | b'.' | b'(' | b')' | b',' | b';' | b'\n' | b'\'');
    let end = sql.iter().position(is_end).unwrap_or(sql.len());
    (end > 0).then(|| (Cow::Borrowed(&sql[..end]), &sql[end..]))
}

/// Schema, name, and what follows.
pub(crate) type QualifiedName<'s> = (Cow<'s, [u8]>, Cow<'s, [u8]>, &'s [u8]);

/// Two names with a dot between them, and what follows.
pub(crate) fn qualified_name(sql: &[u8]) -> Option<QualifiedName<'_>> {
    let (schema, rest) = name(sql)?;
    let (name, rest) = name(rest.strip_prefix(b".")?)?;
    Some((schema, name, rest))
}

/// What stands between the parenthesis that `sql` begins with and the one that closes it.
pub(crate) fn parenthesised(sql: &[u8]) -> Option<&[u8]> {
    let inner = sql.strip_prefix(b"(")?;
    let mut at = 0;
    loop {
        match inner.get(at)? {
            b')' => return Some(&inner[..at]),
            b'"' => at += quoted_end(&inner[at..])?,
            _ => at += 1,
        }
    }
}

/// One past the quote that closes the quoted name that `sql` begins with.
fn quoted_end(sql: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        at += memchr::memchr(b'"', sql.get(at..)?)? + 1;
        if sql.get(at) != Some(&b'"') {
            return Some(at);
        }
        at += 1;
    }
}

fn undouble(inner: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter();
    while let Some(&byte) = bytes.next() {
        text.push(byte);
        if byte == b'"' {
            bytes.next();
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_what_stands_between_the_quotes() {
        assert_eq!(set_value(b"SET client_encoding = 'UTF8';\n"), Some(&b"UTF8"[..]));
        assert_eq!(set_value(b"SELECT pg_catalog.set_config('search_path', '', false);\n").map(<[u8]>::len), Some(15));
        assert_eq!(set_value(b"SET x = 'y"), None);
        assert_eq!(set_value(b""), None);
    }

    #[test]
    fn names_may_hold_anything_when_quoted() {
        let read = |sql: &'static str| {
            let (schema, name, rest) = qualified_name(sql.as_bytes())?;
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            Some((text(&schema), text(&name), text(rest)))
        };
        let names = |a: &str, b: &str, c: &str| Some((a.to_owned(), b.to_owned(), c.to_owned()));
        assert_eq!(read("public.t (a)"), names("public", "t", " (a)"));
        assert_eq!(read(r#""a.b"."c""d (" (x)"#), names("a.b", "c\"d (", " (x)"));
        assert_eq!(read(r#"public."open"#), None);
        assert_eq!(read("t (a)"), None);
    }

    #[test]
    fn parentheses_inside_quoted_names_do_not_count() {
        assert_eq!(parenthesised(b"(a, \"b)\", \"c\"\")\") FROM"), Some(&b"a, \"b)\", \"c\"\")\""[..]));
        assert_eq!(parenthesised(b"() x"), Some(&b""[..]));
        assert_eq!(parenthesised(b"(a, b"), None);
        assert_eq!(parenthesised(b" FROM stdin"), None);
    }
}
