//! Which columns differ: the second look at a table whose fingerprint does not match, value by value (POSTGRES A10).

use pgkeep_core::FingerprintKey;
use pgkeep_core::{RowHasher, Tally};

/// Tallies each column of COPY text apart, whatever pieces it arrives in.
#[derive(Debug)]
pub(crate) struct ColumnHasher {
    columns: Vec<RowHasher>,
    key: FingerprintKey,
    column: usize,
}

impl ColumnHasher {
    /// A hasher that has seen nothing.
    pub(crate) fn new(key: FingerprintKey) -> Self {
        Self { columns: Vec::new(), key, column: 0 }
    }

    /// Takes the next piece. A tabulator ends a value (one inside a value is escaped), a line feed ends the row.
    pub(crate) fn update(&mut self, text: &[u8]) {
        let mut rest = text;
        while !rest.is_empty() {
            let end = rest.iter().position(|&byte| byte == b'\t' || byte == b'\n');
            let key = self.key;
            if self.columns.len() <= self.column {
                self.columns.push(RowHasher::new(key));
            }
            let hasher = &mut self.columns[self.column];
            let Some(end) = end else {
                hasher.update(rest);
                return;
            };
            hasher.update(&rest[..end]);
            hasher.update(b"\n");
            self.column = if rest[end] == b'\t' { self.column + 1 } else { 0 };
            rest = &rest[end + 1..];
        }
    }

    /// A tally per column.
    pub(crate) fn finish(self) -> Vec<Tally> {
        self.columns.into_iter().map(|hasher| hasher.finish().unwrap_or_default()).collect()
    }
}

/// Positions of the columns that differ.
pub(crate) fn differing(was: &[Tally], is: &[Tally]) -> Vec<usize> {
    (0..was.len().max(is.len())).filter(|&at| was.get(at) != is.get(at)).collect()
}

/// Types whose text says all there is, on every server alike: where it differs, the value does. A foreign archive was
/// written under its database's own settings (`bytea_output`, `TimeZone`), which nobody knows.
pub(crate) fn canonical(type_name: &str, is_enum: bool, foreign: bool) -> bool {
    const CANONICAL: &[&str] = &[
        "bit",
        "bool",
        "bpchar",
        "bytea",
        "cidr",
        "date",
        "float4",
        "float8",
        "inet",
        "int2",
        "int4",
        "int8",
        "interval",
        "json",
        "jsonb",
        "macaddr",
        "macaddr8",
        "name",
        "numeric",
        "oid",
        "text",
        "time",
        "timestamp",
        "timestamptz",
        "timetz",
        "uuid",
        "varbit",
        "varchar",
    ];
    let element = type_name.strip_prefix('_').unwrap_or(type_name);
    if foreign && ["bytea", "timestamptz", "timetz"].contains(&element) {
        return false;
    }
    is_enum || CANONICAL.contains(&element)
}

/// The names in a COPY statement's list of columns, `id, "odd (name)"`.
pub(crate) fn column_names(list: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut rest = list;
    while let Some((name, after)) = crate::needs::identifier(rest) {
        names.push(name);
        match after.strip_prefix(", ") {
            Some(more) => rest = more,
            None => break,
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tallies(text: &[u8], size: usize) -> Vec<Tally> {
        let mut hasher = ColumnHasher::new(FingerprintKey([7; 32]));
        for piece in text.chunks(size) {
            hasher.update(piece);
        }
        hasher.finish()
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(size in 1_usize..20) {
            let text = b"1\tone\t\n2\ttwo\tx\n3\t\\N\t\\t\n";
            prop_assert_eq!(tallies(text, size), tallies(text, text.len()));
        }
    }

    #[test]
    fn the_column_that_differs_is_found() {
        let was = tallies(b"1\t$1.00\tx\n2\t$2.00\ty\n", 3);
        let is = tallies(b"2\t2,00\ty\n1\t1,00\tx\n", 4);
        assert_eq!(was[0].rows, 2);
        assert_eq!(differing(&was, &is), [1]);
        assert_eq!(differing(&was, &was), [0_usize; 0]);
    }

    #[test]
    fn canonical_types_are_told_from_those_that_may_render() {
        assert!(canonical("int4", false, true) && canonical("_text", false, true) && canonical("mood", true, true));
        assert!(canonical("_bytea", false, false) && !canonical("_bytea", false, true));
        assert!(
            !canonical("money", false, false)
                && !canonical("char", false, false)
                && !canonical("geometry", false, false)
        );
        assert_eq!(column_names("id, \"a, \"\"b\"\"\", ü"), ["id", "a, \"b\"", "ü"]);
    }
}
