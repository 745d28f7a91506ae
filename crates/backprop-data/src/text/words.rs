//! Words of a text: runs of letters and digits (apostrophes within them belong to them), single marks, and line breaks.

/// Calls `visit` with each word.
pub(super) fn split<'a>(text: &'a str, mut visit: impl FnMut(&'a str)) {
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let end = match first {
            '\n' => 1,
            c if c.is_whitespace() => {
                rest = &rest[c.len_utf8()..];
                continue;
            }
            c if c.is_alphanumeric() => word_end(rest),
            c => c.len_utf8(),
        };
        visit(&rest[..end]);
        rest = &rest[end..];
    }
}

/// Where the word that a text begins with ends.
fn word_end(text: &str) -> usize {
    let mut characters = text.char_indices().peekable();
    while let Some((at, c)) = characters.next() {
        let within = matches!(c, '\'' | '’') && characters.peek().is_some_and(|(_, next)| next.is_alphanumeric());
        // Combining marks, which follow their letter, are neither letters nor white space nor ASCII.
        let mark = !c.is_ascii() && !c.is_whitespace() && ('\u{300}'..='\u{36f}').contains(&c);
        if !(c.is_alphanumeric() || within || mark) {
            return at;
        }
    }
    text.len()
}

/// Joins words by spaces, but none before a mark that closes, after one that opens, or at a line break.
pub(super) fn join<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let mut text = String::new();
    let mut glue = true;
    for word in words {
        let closes = matches!(word, "." | "," | ";" | ":" | "!" | "?" | ")" | "]" | "}" | "\n");
        if !glue && !closes {
            text.push(' ');
        }
        text.push_str(word);
        glue = matches!(word, "(" | "[" | "{" | "\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_marks_and_line_breaks() {
        let mut words = Vec::new();
        split("Don't, \u{a0}she said (2 times):\n'n' äöü.", |w| words.push(w));
        let expected = ["Don't", ",", "she", "said", "(", "2", "times", ")", ":", "\n", "'", "n", "'", "äöü", "."];
        assert_eq!(words, expected);
        assert_eq!(join(words.into_iter()), "Don't, she said (2 times):\n' n ' äöü.");
    }
}
