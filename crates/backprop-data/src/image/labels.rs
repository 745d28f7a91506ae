//! A CSV file that gives each image its label.

use std::path::{Path, PathBuf};

use super::{ImageFolder, LabelKind};
use crate::{DataError, text};

/// Files and their labels as they are written.
pub(super) struct Labelled {
    pub files: Vec<(PathBuf, String)>,
    /// Whether the labels are quantities.
    pub numbers: bool,
}

/// Endings that are tried where a file is named without one.
const ENDINGS: [&str; 3] = ["jpg", "png", "jpeg"];

/// Reads the labels of `source` from `csv`; the images are below `folder`.
pub(super) fn read(source: &ImageFolder, csv: &Path, folder: &Path) -> Result<Labelled, DataError> {
    let name = csv.display().to_string();
    let text = text::read(csv)?;
    let head = text.lines().next().unwrap_or_default();
    let delimiter = [b',', b';', b'\t'].into_iter().max_by_key(|&d| (head.bytes().filter(|&b| b == d).count(), d == b','));
    let mut reader =
        csv::ReaderBuilder::new().delimiter(delimiter.unwrap_or(b',')).trim(csv::Trim::All).from_reader(text.as_bytes());
    let error = |line, why: String| DataError::Labels { file: name.clone(), line, why };
    let damaged = |e: csv::Error| {
        let line = e.position().map_or(1, |p| p.line());
        error(line, format!("not a line of a CSV file: {e}"))
    };
    let header = reader.headers().map_err(damaged)?.clone();
    let find = |key: &str, wanted: &Option<String>, default: usize| {
        let found = match wanted {
            Some(wanted) => header.iter().position(|h| h == wanted),
            None => (default < header.len()).then_some(default),
        };
        found.ok_or_else(|| {
            let names: Vec<&str> = header.iter().collect();
            error(1, format!("there is no column for data.{key}; the columns are {}", names.join(", ")))
        })
    };
    let (file, label) = (find("file_column", &source.file_column, 0)?, find("label_column", &source.label_column, 1)?);
    let mut files = Vec::new();
    for record in reader.records() {
        let record = record.map_err(damaged)?;
        let line = record.position().map_or(0, |p| p.line());
        let (file, label) = (record.get(file).unwrap_or_default(), record.get(label).unwrap_or_default());
        if file.is_empty() || label.is_empty() {
            return Err(error(line, "the name of the file or its label is missing; fill it in or remove the line".into()));
        }
        let Some(path) = existing(folder, file) else {
            return Err(error(
                line,
                format!("there is no file {file} in {}; correct the name or remove the line", folder.display()),
            ));
        };
        files.push((path, label.to_owned()));
    }
    if files.is_empty() {
        return Err(error(2, "there are no labels below the header".into()));
    }
    let numbers = match source.label_kind {
        LabelKind::Class => false,
        LabelKind::Number => true,
        LabelKind::Auto => {
            let number = |l: &str| l.parse::<f32>().ok().filter(|v| v.is_finite());
            files.iter().all(|(_, l)| number(l).is_some()) && files.iter().any(|(_, l)| l.parse::<i64>().is_err())
        }
    };
    Ok(Labelled { files, numbers })
}

/// The file as it is named, or with the ending of an image.
fn existing(folder: &Path, file: &str) -> Option<PathBuf> {
    let plain = folder.join(file);
    let named = ENDINGS.iter().map(|ending| folder.join(format!("{file}.{ending}")));
    std::iter::once(plain).chain(named).find(|path| path.is_file())
}
