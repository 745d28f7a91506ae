//! A CSV file that gives each image its label.

use std::path::{Path, PathBuf};

use super::ImageFolder;
use crate::DataError;
use crate::labels::{self, Wanted};

/// Files and their labels as they are written, with their lines.
pub(super) struct Labelled {
    pub files: Vec<(PathBuf, String, u64)>,
    /// Whether the labels are quantities.
    pub numbers: bool,
}

/// Endings that are tried where a file is named without one.
const ENDINGS: [&str; 3] = ["jpg", "png", "jpeg"];

/// Reads the labels of `source` from `csv`; the images are below `folder`.
pub(super) fn read(source: &ImageFolder, csv: &Path, folder: &Path) -> Result<Labelled, DataError> {
    let file = Wanted { key: "file_column", given: source.file_column.as_deref(), usual: "file", place: 0 };
    let label = Wanted { key: "label_column", given: source.label_column.as_deref(), usual: "label", place: 1 };
    let lines = labels::read(csv, [file, label])?;
    let numbers = source.label_kind.are_numbers(lines.iter().map(|l| l.second.as_str()));
    let mut files = Vec::with_capacity(lines.len());
    for line in lines {
        let Some(path) = existing(folder, &line.first) else {
            let why = format!("there is no file {} in {}; correct the name or remove the line", line.first, folder.display());
            return Err(labels::error(csv, line.number, why));
        };
        files.push((path, line.second, line.number));
    }
    Ok(Labelled { files, numbers })
}

/// The file as it is named, or with the ending of an image.
fn existing(folder: &Path, file: &str) -> Option<PathBuf> {
    let plain = folder.join(file);
    let named = ENDINGS.iter().map(|ending| folder.join(format!("{file}.{ending}")));
    std::iter::once(plain).chain(named).find(|path| path.is_file())
}
