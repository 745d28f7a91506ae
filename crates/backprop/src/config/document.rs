//! The text of a configuration: its tree of values, where each value stands, and what `--set` replaced.

use super::error::{ConfigError, Place};
use std::{fmt, ops::Range, sync::Arc};
use toml::{
    Table, Value,
    de::{DeTable, DeValue},
};

/// One step from a value to a value within it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    Key(String),
    Index(usize),
}

/// Where a value is in the tree, written as in `--set`: `layers.0.out_channels`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Path(pub(crate) Vec<Step>);

impl Path {
    pub(crate) fn key(name: &str) -> Path {
        Path::default().join(Step::Key(name.into()))
    }

    pub(crate) fn join(&self, step: Step) -> Path {
        let mut path = self.clone();
        path.0.push(step);
        path
    }

    pub(crate) fn child(&self, name: &str) -> Path {
        self.join(Step::Key(name.into()))
    }

    fn starts_with(&self, prefix: &Path) -> bool {
        self.0.starts_with(&prefix.0)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, step) in self.0.iter().enumerate() {
            let dot = if i == 0 { "" } else { "." };
            match step {
                Step::Key(key) => write!(f, "{dot}{key}")?,
                Step::Index(index) => write!(f, "{dot}{index}")?,
            }
        }
        Ok(())
    }
}

/// A text in TOML with the overrides applied to it.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    name: String,
    text: Arc<str>,
    pub(crate) tree: Table,
    overrides: Vec<(Path, String)>,
}

impl Document {
    /// Parses `text`, called `name` in messages, and applies `key=value` overrides in order.
    pub(crate) fn parse(name: &str, text: &str, overrides: &[String]) -> Result<Document, ConfigError> {
        let tree = toml::from_str::<Table>(text).map_err(|e| {
            let place = Place::new(name, text, e.span().unwrap_or(0..0));
            ConfigError::new(format!("this is not TOML: {}", e.message().trim())).at(place)
        })?;
        let mut document = Document { name: name.into(), text: text.into(), tree, overrides: Vec::new() };
        for argument in overrides {
            document.set(argument)?;
        }
        Ok(document)
    }

    /// Applies one `key=value`.
    fn set(&mut self, argument: &str) -> Result<(), ConfigError> {
        let all = 0..argument.len();
        let failed = |span: Range<usize>, message: String| {
            ConfigError::new(message)
                .at(Place::new("--set", argument, span))
                .help("write --set key=value, such as --set train.epochs=5 or --set layers.0.out_channels=64")
        };
        let Some((key, value)) = argument.split_once('=') else {
            return Err(failed(all, "an override needs a key and a value".into()));
        };
        let key = key.trim();
        if key.is_empty() || key.split('.').any(str::is_empty) {
            return Err(failed(0..argument.find('=').unwrap_or(0), "an override needs a dotted key".into()));
        }
        let path = self.resolve(key).map_err(|message| failed(0..key.len(), message))?;
        *slot(&mut self.tree, &path).ok_or_else(|| failed(0..key.len(), format!("`{key}` is not in a table")))? =
            parse_value(value.trim());
        self.overrides.push((path, argument.into()));
        Ok(())
    }

    /// The path that a dotted key means in this tree. A key that is new in a table is accepted: whether it is known is checked
    /// with the rest of the configuration.
    fn resolve(&self, key: &str) -> Result<Path, String> {
        let mut path = Path::default();
        for part in key.split('.') {
            let step = match self.value(&path) {
                Some(Found::Array(items)) => match part.parse::<usize>() {
                    Ok(i) if i < items.len() => Step::Index(i),
                    Ok(i) => return Err(format!("`{path}` has {} entries, numbered from 0; there is no entry {i}", items.len())),
                    Err(_) => return Err(format!("`{path}` is a list: its entries are numbered, as in `{path}.0`")),
                },
                Some(Found::Table(_)) | None => Step::Key(part.into()),
                Some(Found::Scalar) => return Err(format!("`{path}` is a single value; it has no `{part}`")),
            };
            path = path.join(step);
        }
        Ok(path)
    }

    pub(crate) fn value(&self, path: &Path) -> Option<Found<'_>> {
        let mut at = Found::Table(&self.tree);
        for step in &path.0 {
            let value = match (at, step) {
                (Found::Table(t), Step::Key(k)) => t.get(k)?,
                (Found::Array(a), Step::Index(i)) => a.get(*i)?,
                _ => return None,
            };
            at = Found::of(value);
        }
        Some(at)
    }

    /// Where a message about the value at `path` points: the key if `key`, else the value; the override that set it if one did.
    pub(crate) fn place(&self, path: &Path, key: bool) -> Option<Place> {
        if let Some((set, argument)) = self.overrides.iter().rev().find(|(set, _)| path.starts_with(set)) {
            let split = argument.find('=').unwrap_or(0);
            let whole = if key && set == path { 0..split } else { split + 1..argument.len() };
            return Some(Place::new("--set", argument, whole));
        }
        let root = DeTable::parse(&self.text).ok()?;
        let span = span_of(root.get_ref(), &path.0, key)?;
        Some(Place::new(&self.name, &self.text, trim_end(&self.text, span)))
    }
}

/// A value seen by what it consists of.
#[derive(Clone, Copy)]
pub(crate) enum Found<'a> {
    Table(&'a Table),
    Array(&'a [Value]),
    Scalar,
}

impl<'a> Found<'a> {
    pub(crate) fn of(value: &'a Value) -> Found<'a> {
        match value {
            Value::Table(t) => Found::Table(t),
            Value::Array(a) => Found::Array(a),
            _ => Found::Scalar,
        }
    }

    /// Paths of the values directly within.
    pub(crate) fn children(self, path: &Path) -> Vec<(Path, &'a Value)> {
        match self {
            Found::Table(t) => t.iter().map(|(k, v)| (path.child(k), v)).collect(),
            Found::Array(a) => a.iter().enumerate().map(|(i, v)| (path.join(Step::Index(i)), v)).collect(),
            Found::Scalar => Vec::new(),
        }
    }
}

/// The place of a path in the tree, with the tables that lead to it, made where they are missing.
fn slot<'t>(tree: &'t mut Table, path: &Path) -> Option<&'t mut Value> {
    let (first, rest) = path.0.split_first()?;
    let Step::Key(first) = first else { return None };
    let empty = || Value::Table(Table::new());
    let mut at = tree.entry(first.clone()).or_insert_with(empty);
    for step in rest {
        at = match (at, step) {
            (Value::Table(t), Step::Key(k)) => t.entry(k.clone()).or_insert_with(empty),
            (Value::Array(a), Step::Index(i)) => a.get_mut(*i)?,
            _ => return None,
        };
    }
    Some(at)
}

/// A value in TOML; what is not TOML is taken as a string, so that a shell needs no second pair of quotes.
fn parse_value(text: &str) -> Value {
    let parsed = toml::from_str::<Table>(&format!("value = {text}")).ok().and_then(|mut t| t.remove("value"));
    parsed.unwrap_or_else(|| Value::String(text.into()))
}

/// The bytes of the key or value at a path.
fn span_of(table: &DeTable<'_>, path: &[Step], key: bool) -> Option<Range<usize>> {
    let (first, rest) = path.split_first()?;
    let Step::Key(name) = first else { return None };
    let (k, mut v) = table.iter().find(|(k, _)| k.get_ref() == name)?;
    let mut key_span = Some(k.span());
    for step in rest {
        v = match (v.get_ref(), step) {
            (DeValue::Table(t), Step::Key(name)) => {
                let (k, v) = t.iter().find(|(k, _)| k.get_ref() == name)?;
                key_span = Some(k.span());
                v
            }
            (DeValue::Array(a), Step::Index(i)) => {
                key_span = None;
                a.get(*i)?
            }
            _ => return None,
        };
    }
    Some(if key { key_span.unwrap_or(v.span()) } else { v.span() })
}

/// A span without the line breaks and blanks at its end.
fn trim_end(text: &str, span: Range<usize>) -> Range<usize> {
    let kept = text.get(span.clone()).map_or(span.len(), |s| s.trim_end().len());
    span.start..span.start + kept
}
