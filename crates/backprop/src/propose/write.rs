//! TOML with comments.

use std::fmt::Write;
use toml::Value;

/// Characters of a line of comment.
const WIDTH: usize = 98;

/// Writes a configuration line by line.
pub(super) struct Writer(String);

impl Writer {
    /// Begins with a comment.
    pub fn new(about: &str) -> Writer {
        let mut writer = Writer(String::new());
        writer.comment(about);
        writer
    }

    /// A comment, broken into lines.
    pub fn comment(&mut self, text: &str) {
        let mut line = String::from("#");
        for word in text.split_whitespace() {
            if line.len() > 1 && line.chars().count() + 1 + word.chars().count() > WIDTH {
                self.line(&line);
                line.truncate(1);
            }
            line.push(' ');
            // A line of the data's own could end the comment.
            line.extend(word.chars().filter(|c| !c.is_control()));
        }
        self.line(&line);
    }

    /// Begins a table: `[data]`, `[[layers]]`.
    pub fn table(&mut self, name: &str) {
        self.line("");
        self.line(name);
    }

    /// A key and its value.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "{key} = {}", value.into());
    }

    /// A layer with its keys.
    pub fn layer<const N: usize>(&mut self, ty: &str, keys: [(&str, Value); N]) {
        self.layer_because("", ty, keys);
    }

    /// A layer with the reason for it.
    pub fn layer_because<const N: usize>(&mut self, why: &str, ty: &str, keys: [(&str, Value); N]) {
        self.table("[[layers]]");
        if !why.is_empty() {
            self.comment(why);
        }
        self.set("type", ty);
        for (key, value) in keys {
            self.set(key, value);
        }
    }

    pub fn line(&mut self, text: &str) {
        self.0.push_str(text);
        self.0.push('\n');
    }

    pub fn finish(self) -> String {
        self.0
    }
}

/// A whole number as TOML has it.
pub(super) fn int(number: impl TryInto<i64>) -> Value {
    Value::Integer(number.try_into().unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_the_data_cannot_break_out() {
        let mut w = Writer::new("a column called x\u{7}\ny");
        w.set("path", "odd \"name\"\n.csv");
        let text = w.finish();
        let table: toml::Table = toml::from_str(&text).unwrap();
        assert_eq!(table["path"].as_str(), Some("odd \"name\"\n.csv"));
        assert!(text.starts_with("# a column called x y\n"), "{text}");
    }

    #[test]
    fn comments_are_broken() {
        let text = Writer::new(&"word ".repeat(60)).finish();
        assert!(text.lines().count() > 3 && text.lines().all(|l| l.len() <= WIDTH && l.starts_with("# word")), "{text}");
    }
}
