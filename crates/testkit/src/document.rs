//! docs/RELIABILITY.md, whose tables are what the suites found.

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/RELIABILITY.md");

/// Holds `rows` against the table of docs/RELIABILITY.md between `<!-- <chapter>: begin -->` and `<!-- <chapter>: end -->`; if they
/// differ, the test fails and shows the table as it should be. With `PGKEEP_UPDATE_DOCS=1` in the environment the table is written there.
///
/// Cells must be the same in every run and on every machine: counts only where the suite decides them.
pub fn hold_against_document(chapter: &str, columns: &[&str], rows: &[Vec<String>]) {
    let found = table(columns, rows);
    let update = std::env::var_os("PGKEEP_UPDATE_DOCS").is_some_and(|value| value == "1");
    let path = Path::new(DOCUMENT);
    let mut file = File::options().read(true).write(update).open(path).expect("docs/RELIABILITY.md can be opened");
    // Suites of several processes may write at the same time.
    file.lock().expect("docs/RELIABILITY.md can be locked");
    let mut text = String::new();
    file.read_to_string(&mut text).expect("docs/RELIABILITY.md can be read");
    let (before, written, after) = parts(&text, chapter);
    if written == found {
        return;
    }
    assert!(
        update,
        "docs/RELIABILITY.md, {chapter}, does not say what was found. PGKEEP_UPDATE_DOCS=1 writes it there, if it is right:\n{found}"
    );
    let text = format!("{before}{found}{after}");
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| file.write_all(text.as_bytes()))
        .expect("docs/RELIABILITY.md can be written");
}

/// The text before, between and after the chapter's marks.
fn parts<'t>(text: &'t str, chapter: &str) -> (&'t str, &'t str, &'t str) {
    let begin = format!("<!-- {chapter}: begin -->\n");
    let end = format!("<!-- {chapter}: end -->");
    let start = text.find(&begin).unwrap_or_else(|| panic!("docs/RELIABILITY.md has no {begin}")) + begin.len();
    let length = text[start..].find(&end).unwrap_or_else(|| panic!("docs/RELIABILITY.md has no {end}"));
    (&text[..start], &text[start..start + length], &text[start + length..])
}

fn table(columns: &[&str], rows: &[Vec<String>]) -> String {
    let line = |cells: Vec<&str>| format!("| {} |\n", cells.join(" | "));
    let mut text = line(columns.to_vec());
    text += &line(vec!["---"; columns.len()]);
    for row in rows {
        assert_eq!(row.len(), columns.len(), "{row:?}");
        assert!(row.iter().all(|cell| !cell.contains(['|', '\n'])), "a cell breaks the table: {row:?}");
        text += &line(row.iter().map(String::as_str).collect());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chapter_is_what_stands_between_its_marks() {
        let text = "# R\n<!-- a: begin -->\n| x |\n<!-- a: end -->\nrest\n";
        assert_eq!(parts(text, "a"), ("# R\n<!-- a: begin -->\n", "| x |\n", "<!-- a: end -->\nrest\n"));
        assert_eq!(
            table(&["x", "y"], &[vec!["1".to_owned(), "2".to_owned()]]),
            "| x | y |\n| --- | --- |\n| 1 | 2 |\n"
        );
    }
}
