//! Labels beside images and texts: two columns of a CSV file, and what labels are.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{DataError, text};

/// What labels mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LabelKind {
    /// Quantities if all are numbers and one has a fraction, otherwise classes.
    #[default]
    Auto,
    /// Classes, whatever they are called.
    Class,
    /// Quantities: a regression.
    Number,
}

impl LabelKind {
    /// Whether labels as they are written are quantities.
    pub(crate) fn are_numbers<'a>(self, labels: impl Iterator<Item = &'a str> + Clone) -> bool {
        let is_number = |l: &str| l.parse::<f32>().is_ok_and(f32::is_finite);
        match self {
            LabelKind::Class => false,
            LabelKind::Number => true,
            LabelKind::Auto => labels.clone().all(is_number) && labels.clone().any(|l| l.parse::<i64>().is_err()),
        }
    }
}

/// A column that is looked for: the key of `[data]` that names it, the name if one is given, and the names and the place it has
/// otherwise.
pub(crate) struct Wanted<'a> {
    pub key: &'static str,
    pub given: Option<&'a str>,
    pub usual: &'static str,
    pub place: usize,
}

/// One line of the file.
pub(crate) struct Line {
    /// Its number, from 1.
    pub number: u64,
    pub first: String,
    pub second: String,
}

/// An error about a line of a file.
pub(crate) fn error(file: &Path, line: u64, why: String) -> DataError {
    DataError::Labels { file: file.display().to_string(), line, why }
}

/// Reads two columns of a CSV file with a header, which no line may leave empty.
pub(crate) fn read(file: &Path, wanted: [Wanted<'_>; 2]) -> Result<Vec<Line>, DataError> {
    let text = text::read(file)?;
    let mut reader = reader(&text);
    let damaged = |e: csv::Error| {
        let line = e.position().map_or(1, csv::Position::line);
        error(file, line, format!("not a line of a CSV file: {e}"))
    };
    let header = reader.headers().map_err(damaged)?.clone();
    let find = |w: &Wanted<'_>| find(&header, w).map_err(|why| error(file, 1, why));
    let [first, second] = [find(&wanted[0])?, find(&wanted[1])?];
    let mut lines = Vec::new();
    for record in reader.records() {
        let record = record.map_err(damaged)?;
        let number = record.position().map_or(0, csv::Position::line);
        let [a, b] = [first, second].map(|i| record.get(i).unwrap_or_default().to_owned());
        if a.is_empty() || b.is_empty() {
            let name = header.get(if a.is_empty() { first } else { second }).unwrap_or_default();
            return Err(error(file, number, format!("nothing in column {name:?}; fill it in or remove the line")));
        }
        lines.push(Line { number, first: a, second: b });
    }
    if lines.is_empty() {
        return Err(error(file, 2, "there are no lines below the header".into()));
    }
    Ok(lines)
}

/// The values of one column.
pub(crate) fn column(file: &str, text: &str, wanted: &Wanted<'_>) -> Result<Vec<String>, DataError> {
    let mut reader = reader(text);
    let file = Path::new(file);
    let damaged =
        |e: csv::Error| error(file, e.position().map_or(1, csv::Position::line), format!("not a line of a CSV file: {e}"));
    let header = reader.headers().map_err(damaged)?.clone();
    let index = find(&header, wanted).map_err(|why| error(file, 1, why))?;
    reader.records().map(|r| r.map_err(damaged).map(|r| r.get(index).unwrap_or_default().to_owned())).collect()
}

/// The delimiter is the one that the header has most of.
fn reader(text: &str) -> csv::Reader<&[u8]> {
    let head = text.lines().next().unwrap_or_default();
    let count = |d: u8| head.bytes().filter(|&b| b == d).count();
    let delimiter = [b'\t', b';', b','].into_iter().max_by_key(|&d| count(d)).unwrap_or(b',');
    csv::ReaderBuilder::new().delimiter(delimiter).trim(csv::Trim::All).from_reader(text.as_bytes())
}

fn find(header: &csv::StringRecord, w: &Wanted<'_>) -> Result<usize, String> {
    let named = |name: &str| header.iter().position(|h| h == name);
    let found = match w.given {
        Some(name) => named(name),
        None => named(w.usual).or((w.place < header.len()).then_some(w.place)),
    };
    found.ok_or_else(|| {
        let names: Vec<&str> = header.iter().collect();
        format!("there is no column for data.{}; the columns are {}", w.key, names.join(", "))
    })
}
