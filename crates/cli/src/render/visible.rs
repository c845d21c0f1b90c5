//! Text that may hold names of other people's making, on its way to a terminal or a log.

/// The text with every control character written out (`\u{1b}`), and those that change the direction of reading: a name in
/// somebody's backup must not move the cursor, set a title or hide what follows. Line feeds, tabs and our own colours stay.
pub(crate) fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        if let Some(length) = color(rest) {
            shown.push_str(&rest[..length]);
            rest = &rest[length..];
            continue;
        }
        let turns = matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}');
        if turns || (character.is_control() && !matches!(character, '\n' | '\t')) {
            shown.extend(character.escape_unicode());
        } else {
            shown.push(character);
        }
        rest = &rest[character.len_utf8()..];
    }
    shown
}

/// The length of the colour that a text begins with (`ESC [ 1;31 m`), which does nothing else.
fn color(text: &str) -> Option<usize> {
    let numbers = text.strip_prefix("\x1b[")?;
    let end = numbers.find(|c: char| !(c.is_ascii_digit() || c == ';'))?;
    (end <= 8 && numbers[end..].starts_with('m')).then_some(end + 3)
}

#[cfg(test)]
mod tests {
    use super::visible;

    #[test]
    fn nothing_but_lines_tabs_and_colours_reaches_a_terminal() {
        for (text, shown) in [
            ("plain ä\n\ttext", "plain ä\n\ttext"),
            ("\x1b[1;31mred\x1b[0m", "\x1b[1;31mred\x1b[0m"),
            ("\x1b]0;title\x07", "\\u{1b}]0;title\\u{7}"),
            ("\x1b[2J\x1b[999999999999m", "\\u{1b}[2J\\u{1b}[999999999999m"),
            ("a\rb\0c\u{9b}2J", "a\\u{d}b\\u{0}c\\u{9b}2J"),
            ("\u{202e}gpj.exe", "\\u{202e}gpj.exe"),
            ("\x1b[", "\\u{1b}["),
        ] {
            assert_eq!(visible(text), shown);
        }
    }
}
