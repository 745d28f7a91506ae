//! From values to types: serde's error, the place in the text that caused it, and the remedy.

use super::document::{Document, Found, Path, Step};
use super::error::{ConfigError, suggestion};
use serde::de::DeserializeOwned;
use toml::Value;

/// Keys that say which alternative a table is; without them its other keys mean nothing.
const TAGS: [&str; 2] = ["type", "source"];

/// Reads `value`, found at `path`, as `T`. `also` are keys of the same table that `T` does not know.
pub(crate) fn decode<T: DeserializeOwned>(
    document: &Document,
    path: &Path,
    value: Value,
    also: &[&str],
) -> Result<T, ConfigError> {
    T::deserialize(value.clone()).map_err(|e| {
        let cause = Cause::of(e.message());
        let retry = |value: Value| T::deserialize(value).err().map(|e| Cause::of(e.message()));
        let at = locate(&value, path, &cause, &retry);
        cause.explain(document, &at, also)
    })
}

/// What serde found wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Cause {
    UnknownField { name: String, known: Vec<String> },
    UnknownVariant { name: String, known: Vec<String> },
    Missing(String),
    Type { found: String, expected: String },
    Other(String),
}

impl Cause {
    fn of(message: &str) -> Cause {
        let message = message.trim();
        let mut quoted = message.split('`').skip(1).step_by(2).map(String::from);
        if message.starts_with("unknown field") {
            return Cause::UnknownField { name: quoted.next().unwrap_or_default(), known: quoted.collect() };
        }
        if message.starts_with("unknown variant") {
            return Cause::UnknownVariant { name: quoted.next().unwrap_or_default(), known: quoted.collect() };
        }
        if let Some(name) = message.strip_prefix("missing field `") {
            return Cause::Missing(name.trim_end_matches('`').into());
        }
        let found = ["invalid type: ", "invalid value: "].iter().find_map(|p| message.strip_prefix(p));
        match found.and_then(|rest| rest.split_once(", expected ")) {
            Some((found, expected)) => Cause::Type { found: found.into(), expected: plain(expected).into() },
            None => Cause::Other(message.into()),
        }
    }

    fn explain(self, document: &Document, at: &Path, also: &[&str]) -> ConfigError {
        match self {
            Cause::UnknownField { name, known } => {
                let known = known.iter().map(String::as_str).chain(also.iter().copied());
                unknown_key(document, at, &name, known)
            }
            Cause::UnknownVariant { name, known } => ConfigError::new(format!("there is no `{name}`"))
                .key(at.to_string())
                .at(document.place(at, false))
                .label("unknown")
                .help(suggestion(&name, known.iter().map(String::as_str))),
            Cause::Missing(name) => missing(document, at, &name),
            Cause::Type { found, expected } => ConfigError::new(format!("expected {expected}, found {found}"))
                .key(at.to_string())
                .at(document.place(at, false))
                .label(format!("expected {expected}")),
            Cause::Other(message) => ConfigError::new(message).key(at.to_string()).at(document.place(at, false)).label("here"),
        }
    }
}

/// The words of serde for a type, as a person would say them.
fn plain(expected: &str) -> &str {
    match expected {
        "usize" | "u64" | "u32" => "a whole number of 0 or more",
        "f64" | "f32" => "a number",
        "a boolean" => "true or false",
        other => other.strip_prefix("expected ").unwrap_or(other),
    }
}

pub(crate) fn unknown_key<'a>(
    document: &Document,
    at: &Path,
    name: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> ConfigError {
    let at = if at.0.last() == Some(&Step::Key(name.into())) { at.clone() } else { at.child(name) };
    ConfigError::new("unknown key")
        .key(at.to_string())
        .at(document.place(&at, true))
        .label("unknown key")
        .help(suggestion(name, known))
}

pub(crate) fn missing(document: &Document, at: &Path, name: &str) -> ConfigError {
    let place = document.place(&at.child("type"), false).or_else(|| document.place(at, false));
    ConfigError::new(format!("the key `{name}` is missing"))
        .key(at.to_string())
        .at(place)
        .label(format!("needs `{name}`"))
        .help(format!("add `{name} = …`"))
}

/// Finds which value causes an error by taking values out: the error changes only when its cause goes. That works for every
/// way of reading, also where serde buffers a table first and forgets where it came from.
fn locate(value: &Value, path: &Path, cause: &Cause, retry: &dyn Fn(Value) -> Option<Cause>) -> Path {
    let mut inner = Path::default();
    while let Some(next) = guilty_child(value, &inner, cause, retry) {
        inner = next;
    }
    Path(path.0.iter().chain(&inner.0).cloned().collect())
}

fn guilty_child(root: &Value, at: &Path, cause: &Cause, retry: &dyn Fn(Value) -> Option<Cause>) -> Option<Path> {
    let here = at.0.iter().try_fold(root, |v, step| match step {
        Step::Key(k) => v.get(k),
        Step::Index(i) => v.get(i),
    })?;
    let mut children = Found::of(here).children(at);
    children.sort_by_key(|(path, _)| matches!(path.0.last(), Some(Step::Key(k)) if TAGS.contains(&k.as_str())));
    let missing = matches!(cause, Cause::Missing(_));
    let inside = |v: &Value| matches!(Found::of(v), Found::Table(_) | Found::Array(_));
    let mut candidates = children.into_iter().filter(|(_, v)| !missing || inside(v)).map(|(path, _)| path);
    candidates.find(|path| retry(without(root, path)).as_ref() != Some(cause))
}

/// A copy of a value that lacks the value at a path.
fn without(root: &Value, path: &Path) -> Value {
    let mut copy = root.clone();
    let Some((last, parents)) = path.0.split_last() else { return copy };
    let parent = parents.iter().try_fold(&mut copy, |v, step| match step {
        Step::Key(k) => v.get_mut(k),
        Step::Index(i) => v.get_mut(i),
    });
    match (parent, last) {
        (Some(Value::Table(t)), Step::Key(k)) => drop(t.remove(k)),
        (Some(Value::Array(a)), Step::Index(i)) if *i < a.len() => drop(a.remove(*i)),
        _ => {}
    }
    copy
}
