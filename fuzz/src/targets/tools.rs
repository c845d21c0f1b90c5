//! What client tools say.

/// Bounded memory, the same in pieces, and no row in what is told.
pub(super) fn stderr(input: &[u8]) {
    let Some((&cut, text)) = input.split_first() else { return };
    let (one, two) = text.split_at(usize::from(cut).min(text.len()));
    let whole = pgkeep_dump::fuzzing::stderr("pg_dump", &[text]);
    assert!(whole == pgkeep_dump::fuzzing::stderr("pg_dump", &[one, two]), "pieces make no difference");
    // What is not UTF-8 becomes a character of three bytes.
    assert!(whole.0 <= 3 * text.len(), "nothing is made up");
    let text = String::from_utf8_lossy(text);
    pgkeep_dump::fuzzing::shown(&text);
    for major in [15, 18] {
        pgkeep_dump::fuzzing::restore_outcome(&text, major);
    }
}
