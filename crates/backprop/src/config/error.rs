//! What is wrong with a configuration: message, file, line, column, key, remedy.

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use std::{
    fmt,
    ops::{Deref, Range},
    sync::Arc,
};

/// A piece of a text that a message points at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// Name of the file, or `--set`.
    pub name: String,
    /// The whole text.
    pub text: Arc<str>,
    /// The bytes pointed at.
    pub span: Range<usize>,
}

impl Place {
    pub(crate) fn new(name: &str, text: &str, span: Range<usize>) -> Place {
        let end = span.end.min(text.len());
        Place { name: name.into(), text: text.into(), span: span.start.min(end)..end }
    }

    /// Line and column, both from 1; columns count characters.
    pub fn line_column(&self) -> (usize, usize) {
        let before = &self.text[..self.span.start];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        (line, column)
    }
}

/// What is wrong with a configuration, where, and what would be right.
///
/// [`Display`](fmt::Display) shows the lines of the text with a caret; [`render`](Self::render) can colour it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigError(Box<Problem>);

/// The parts of a [`ConfigError`].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Problem {
    /// What is wrong.
    pub message: String,
    /// The key concerned, such as `layers.0.out_channels`; empty where there is none.
    pub key: String,
    /// What stands beside the caret.
    pub label: String,
    /// Where it is written, if it is written anywhere.
    pub place: Option<Place>,
    /// Remedies.
    pub help: Vec<String>,
}

impl Deref for ConfigError {
    type Target = Problem;
    fn deref(&self) -> &Problem {
        &self.0
    }
}

impl ConfigError {
    pub(crate) fn new(message: impl Into<String>) -> ConfigError {
        ConfigError(Box::new(Problem { message: message.into(), ..Problem::default() }))
    }

    pub(crate) fn at(mut self, place: impl Into<Option<Place>>) -> ConfigError {
        self.0.place = place.into();
        self
    }

    pub(crate) fn key(mut self, key: impl Into<String>) -> ConfigError {
        self.0.key = key.into();
        self
    }

    pub(crate) fn label(mut self, label: impl Into<String>) -> ConfigError {
        self.0.label = label.into();
        self
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> ConfigError {
        self.0.help.push(help.into());
        self
    }

    /// The message with the lines concerned, for a terminal that shows colours or not.
    pub fn render(&self, colour: bool) -> String {
        let title = match self.key.as_str() {
            "" => self.message.clone(),
            key => format!("`{key}`: {}", self.message),
        };
        let mut group = Group::with_title(Level::ERROR.primary_title(title));
        if let Some(place) = &self.place {
            let annotation = AnnotationKind::Primary.span(place.span.clone()).label(self.label.as_str());
            group = group.element(Snippet::source(&*place.text).path(place.name.as_str()).annotation(annotation));
        }
        group = group.elements(self.help.iter().map(|help| Level::HELP.message(help.as_str())));
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        renderer.render(&[group])
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for ConfigError {}

/// `did you mean …?` for a misspelt word, if one of the known ones is near; else the list of them.
pub(crate) fn suggestion<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    let near = known.iter().map(|k| (distance(word, k), *k)).min();
    match near {
        Some((d, k)) if d <= (word.chars().count() / 3).max(1) => format!("did you mean `{k}`?"),
        _ => format!("known are {}", known.iter().map(|k| format!("`{k}`")).collect::<Vec<_>>().join(", ")),
    }
}

/// Number of insertions, deletions, replacements and exchanges of neighbours that lead from `a` to `b` (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_edits_and_exchanges() {
        assert_eq!(distance("kernel", "kernel"), 0);
        assert_eq!(distance("kerenl", "kernel"), 1);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("out_chanels", "out_channels"), 1);
    }

    #[test]
    fn near_words_are_suggested_and_far_ones_listed() {
        assert_eq!(suggestion("linaer", ["linear", "relu"]), "did you mean `linear`?");
        assert_eq!(suggestion("transformer", ["linear", "relu"]), "known are `linear`, `relu`");
    }

    #[test]
    fn line_and_column_count_from_one() {
        let place = Place::new("x", "a\nbé = 1", 6..7);
        assert_eq!(place.line_column(), (2, 4));
    }
}
