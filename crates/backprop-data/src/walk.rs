//! The files of a folder.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use crate::DataError;

/// Folders within folders: more is taken for a link that leads in a circle.
const MAX_DEPTH: usize = 32;

/// What was met on a walk through folders.
pub(crate) struct Walk {
    endings: &'static [&'static str],
    /// Files of the endings asked for.
    pub files: Vec<PathBuf>,
    /// Other files, counted by their ending.
    pub others: BTreeMap<String, usize>,
}

impl Walk {
    /// A walk that looks for files of some endings, given in small letters.
    pub fn new(endings: &'static [&'static str]) -> Self {
        Self { endings, files: Vec::new(), others: BTreeMap::new() }
    }

    /// All files in and below a folder, by name; hidden ones are ignored.
    pub fn through(&mut self, folder: &Path) -> Result<(), DataError> {
        self.down(folder, 0)
    }

    fn down(&mut self, folder: &Path, depth: usize) -> Result<(), DataError> {
        for path in entries(folder)? {
            if !path.is_dir() {
                self.add(path);
                continue;
            }
            if depth == MAX_DEPTH {
                let why = format!("has more than {MAX_DEPTH} folders within each other; does a link lead in a circle?");
                return Err(folder_error(folder, why));
            }
            self.down(&path, depth + 1)?;
        }
        Ok(())
    }

    /// Files one file by its ending.
    pub fn add(&mut self, path: PathBuf) {
        let ending = path.extension().and_then(OsStr::to_str).unwrap_or_default().to_lowercase();
        match self.endings.contains(&ending.as_str()) {
            true => self.files.push(path),
            false => *self.others.entry(ending).or_default() += 1,
        }
    }

    /// What was left out, in a sentence: `files are not` and what they should be.
    pub fn left_out(&self, wanted: &str) -> Option<String> {
        let total: usize = self.others.values().sum();
        let kind = |(ending, n): (&String, &usize)| {
            if ending.is_empty() { format!("without ending {n}") } else { format!(".{ending} {n}") }
        };
        let kinds: Vec<String> = self.others.iter().map(kind).collect();
        let files = if total == 1 { "1 file is not" } else { &format!("{total} files are not") };
        (total > 0).then(|| format!("{files} {wanted} and left out: {}", kinds.join(", ")))
    }
}

/// The entries of a folder that are not hidden, sorted.
pub(crate) fn entries(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let io = |source| DataError::Io { file: folder.display().to_string(), source };
    let all = fs::read_dir(folder).map_err(io)?.collect::<Result<Vec<_>, _>>().map_err(io)?;
    let hidden = |name: &OsStr| name.as_encoded_bytes().starts_with(b".") || name == "__MACOSX";
    let mut paths: Vec<PathBuf> = all.iter().filter(|e| !hidden(&e.file_name())).map(fs::DirEntry::path).collect();
    paths.sort();
    Ok(paths)
}

pub(crate) fn folder_error(folder: &Path, why: impl Into<String>) -> DataError {
    DataError::Folder { folder: folder.display().to_string(), why: why.into() }
}
