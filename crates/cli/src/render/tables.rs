//! Tables: aligned columns under a heading, no lines.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

/// A table with these headings; columns named in `right` are aligned to the right.
pub(crate) fn table<const N: usize>(
    headings: [&str; N],
    right: &[usize],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled).set_header(headings);
    for row in rows {
        table.add_row(row);
    }
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if right.contains(&index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    lines(table.to_string().lines())
}

/// Label and value of each line, labels aligned.
pub(crate) fn facts<'l>(facts: impl IntoIterator<Item = (&'l str, String)>) -> String {
    let facts: Vec<_> = facts.into_iter().collect();
    let width = facts.iter().map(|(label, _)| label.len()).max().unwrap_or(0);
    lines(facts.iter().map(|(label, value)| format!("{label:width$}  {value}")))
}

/// Each with a line feed and no space at its end.
fn lines<L: AsRef<str>>(lines: impl IntoIterator<Item = L>) -> String {
    lines.into_iter().fold(String::new(), |text, line| text + line.as_ref().trim_end() + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let table =
            table(["NAME", "SIZE"], &[1], [["a".to_owned(), "10M".to_owned()], ["longer".to_owned(), "9".to_owned()]]);
        assert_eq!(table, "NAME    SIZE\na        10M\nlonger     9\n");
        assert_eq!(facts([("a", "1".to_owned()), ("bcd", "2".to_owned())]), "a    1\nbcd  2\n");
    }
}
