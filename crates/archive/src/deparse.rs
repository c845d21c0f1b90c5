//! Where PostgreSQL prints the same expression in two ways: before a restore and after it.
//!
//! `status IN ('new', 'old')` on a `varchar` column is printed as `ANY ((ARRAY['new'::character varying, …])::text[])`.
//! Reading that, PostgreSQL moves the cast onto the elements (`transformTypeCast` in parse_expr.c), and prints
//! `ANY (ARRAY[('new'::character varying)::text, …])` from then on. So a check constraint, an index or a view reads
//! differently after a faithful restore. Likewise `a BETWEEN 1 AND 2 AND b` is printed as `(((a >= 1) AND (a <= 2)) AND b)`,
//! and read as one conjunction of three (`makeAndExpr` in gram.y). The second forms stay as they are from then on; they are
//! the canonical ones here.

const ARRAY: &[u8] = b"(ARRAY[";

/// An array that is longer, or nested deeper, is left as it is.
const LONGEST_ARRAY: usize = 1 << 20;
const DEEPEST: u32 = 100;

/// SQL in the form that it takes when it has been restored once.
///
/// This is no parser: what looks like such an expression inside of text or a function's body is changed too. That does no
/// harm to a comparison, because texts that were equal stay equal.
pub(crate) fn canonical(sql: &[u8]) -> Vec<u8> {
    flattened(&with_element_casts(sql))
}

/// Casts of whole arrays moved onto their elements.
fn with_element_casts(sql: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(sql.len() + sql.len() / 8);
    let mut rest = sql;
    while let Some(at) = memchr::memmem::find(rest, ARRAY) {
        text.extend_from_slice(&rest[..at]);
        rest = &rest[at..];
        if let Some(cast) = ArrayCast::read(rest) {
            text.extend_from_slice(b"ARRAY[");
            for (position, element) in cast.elements.iter().enumerate() {
                text.extend_from_slice(if position == 0 { b"(" } else { b", (" });
                text.extend_from_slice(element);
                text.extend_from_slice(b")::");
                text.extend_from_slice(cast.element_type);
            }
            text.push(b']');
            rest = &rest[cast.length..];
        } else {
            text.extend_from_slice(ARRAY);
            rest = &rest[ARRAY.len()..];
        }
    }
    text.extend_from_slice(rest);
    text
}

/// `(ARRAY[a, b])::type[]`.
struct ArrayCast<'s> {
    elements: Vec<&'s [u8]>,
    element_type: &'s [u8],
    length: usize,
}

impl<'s> ArrayCast<'s> {
    fn read(sql: &'s [u8]) -> Option<Self> {
        let sql = &sql[..sql.len().min(LONGEST_ARRAY)];
        let mut elements = Vec::new();
        let mut begin = ARRAY.len();
        let mut at = begin;
        let mut depth = 0_u32;
        loop {
            match sql.get(at)? {
                quote @ (b'\'' | b'"') => at += 1 + memchr::memchr(*quote, &sql[at + 1..])?,
                b'(' | b'[' if depth == DEEPEST => return None,
                b'(' | b'[' => depth += 1,
                b']' if depth == 0 => break,
                b')' | b']' => depth = depth.checked_sub(1)?,
                b',' if depth == 0 => {
                    elements.push(sql[begin..at].trim_ascii());
                    begin = at + 1;
                }
                _ => {}
            }
            at += 1;
        }
        elements.push(sql[begin..at].trim_ascii());
        let element_type = sql[at..].strip_prefix(b"])::")?;
        let element_type = &element_type[..type_length(element_type)];
        let element_type = element_type.strip_suffix(b"[]")?;
        Some(Self { elements, element_type, length: at + b"])::".len() + element_type.len() + b"[]".len() })
    }
}

/// Length of a type's name up to and with its first `[]`; 0 if there is none.
fn type_length(sql: &[u8]) -> usize {
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || !byte.is_ascii() || b"_ .\"(,)$".contains(byte);
    let end = sql.iter().position(|byte| !is_name(byte)).unwrap_or(sql.len());
    if sql[end..].starts_with(b"[]") { end + 2 } else { 0 }
}

/// A conjunction that begins with a conjunction made one, and likewise with OR.
fn flattened(sql: &[u8]) -> Vec<u8> {
    struct Group {
        at: usize,
        word: Option<&'static [u8]>,
        mixed: bool,
    }
    let words: [&[u8]; 2] = [b" AND ", b" OR "];
    let mut open: Vec<Group> = Vec::new();
    let mut needless = Vec::new();
    let mut at = 0;
    while at < sql.len() {
        match sql[at] {
            quote @ (b'\'' | b'"') => match memchr::memchr(quote, &sql[at + 1..]) {
                Some(length) => at += 1 + length,
                None => return sql.to_vec(),
            },
            b'(' => open.push(Group { at, word: None, mixed: false }),
            b')' => {
                let Some(group) = open.pop() else { return sql.to_vec() };
                let leads = open.last().is_some_and(|outer| outer.at + 1 == group.at);
                let goes_on = group.word.is_some_and(|word| sql[at + 1..].starts_with(word));
                if leads && goes_on && !group.mixed {
                    needless.extend([group.at, at]);
                }
            }
            b' ' => {
                let word = words.into_iter().find(|word| sql[at..].starts_with(word));
                if let (Some(word), Some(group)) = (word, open.last_mut()) {
                    group.mixed |= group.word.is_some_and(|other| other != word);
                    group.word = Some(word);
                }
            }
            _ => {}
        }
        at += 1;
    }
    if !open.is_empty() || needless.is_empty() {
        return sql.to_vec();
    }
    needless.sort_unstable();
    let mut text = Vec::with_capacity(sql.len());
    let mut from = 0;
    for at in needless {
        text.extend_from_slice(&sql[from..at]);
        from = at + 1;
    }
    text.extend_from_slice(&sql[from..]);
    text
}

#[cfg(test)]
mod tests {
    use super::canonical;

    #[test]
    fn casts_of_arrays_move_onto_the_elements() {
        for (printed, canonically) in [
            (
                "CHECK (((s)::text = ANY ((ARRAY['new'::character varying, 'it''s, ]'::character varying])::text[])))",
                "CHECK (((s)::text = ANY (ARRAY[('new'::character varying)::text, ('it''s, ]'::character varying)::text])))",
            ),
            (
                "x = ANY ((ARRAY[a, f(b, c)])::numeric(10,2)[]) OR y",
                "x = ANY (ARRAY[(a)::numeric(10,2), (f(b, c))::numeric(10,2)]) OR y",
            ),
            ("(ARRAY[\"a]\"])::\"S\".\"t\"[] (ARRAY[1])::bigint[]", "ARRAY[(\"a]\")::\"S\".\"t\"] ARRAY[(1)::bigint]"),
        ] {
            assert_eq!(String::from_utf8(canonical(printed.as_bytes())).unwrap(), canonically);
            assert_eq!(canonical(canonically.as_bytes()), canonically.as_bytes());
        }
    }

    #[test]
    fn conjunctions_that_lead_conjunctions_become_one() {
        for (printed, canonically) in [
            ("CHECK ((((n >= 0) AND (n <= 9)) AND (n <> 3)))", "CHECK (((n >= 0) AND (n <= 9) AND (n <> 3)))"),
            ("((((a AND b) AND c) AND d))", "((a AND b AND c AND d))"),
            ("(((x = ' AND (') OR b) OR c)", "((x = ' AND (') OR b OR c)"),
        ] {
            assert_eq!(String::from_utf8(canonical(printed.as_bytes())).unwrap(), canonically);
            assert_eq!(canonical(canonically.as_bytes()), canonically.as_bytes());
        }
        for same in [
            "((a AND b) OR c)",
            "(a AND (b AND c))",
            "((a OR b) AND c)",
            "f((a AND b), c)",
            "((a AND b) AND c",
            "(a AND b) AND c)",
        ] {
            assert_eq!(String::from_utf8(canonical(same.as_bytes())).unwrap(), same);
        }
    }

    #[test]
    fn all_else_stays() {
        for same in [
            "",
            "ARRAY['a'::text, 'b'::text]",
            "(ARRAY[1, 2])[1]",
            "(ARRAY[1, 2])::integer",
            "(ARRAY[1, 2",
            "(ARRAY['open",
            "(ARRAY[)])::text[]",
            "(ARRAY[(ARRAY[",
        ] {
            assert_eq!(canonical(same.as_bytes()), same.as_bytes());
        }
    }
}
