//! Texts as a data source: learning to predict each next token.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Unit, Vocabulary, read, windows};
use crate::open::Input;
use crate::table::Paths;
use crate::walk::{Walk, folder_error};
use crate::{DataError, Dataset, LoadError, LoadOptions, Loaded, Parts, split};

/// Text files, gzipped or not, as windows of tokens: see [`dataset`](super::dataset).
///
/// Parts are taken from the end. The vocabulary of characters is that of the whole text, so that no later part of it holds an
/// unknown one; that of words is measured on the training part.
///
/// ```
/// use backprop_data::{Source, TextFiles, text::Unit};
///
/// let source: Source = toml::from_str("source = 'text'\npath = ['notes.txt', 'letters/*.txt']\nunit = 'word'")?;
/// assert!(matches!(source, Source::Text(TextFiles { sequence: 64, unit: Unit::Word, .. })));
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TextFiles {
    /// A file, a pattern such as `books/*.txt`, a folder (all `.txt` files in and below it), or a list of them.
    pub path: Paths,
    /// What a token is.
    #[serde(default)]
    pub unit: Unit,
    /// Tokens per sample.
    #[serde(default = "default_sequence")]
    pub sequence: usize,
    /// Tokens from one sample to the next; by default `sequence`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stride: Option<usize>,
    /// Share of the samples, from the end, that is the test part.
    #[serde(default = "default_test")]
    pub test: f64,
    /// Whether the text is taken in small letters.
    #[serde(default)]
    pub lowercase: bool,
    /// Words in the vocabulary at most, the most frequent ones; others are unknown.
    #[serde(default = "default_max_words")]
    pub max_words: usize,
    /// How often a word must occur to be in the vocabulary.
    #[serde(default = "default_min_count")]
    pub min_count: usize,
}

pub(super) fn default_max_words() -> usize {
    20_000
}

pub(super) fn default_min_count() -> usize {
    1
}

fn default_sequence() -> usize {
    64
}

fn default_test() -> f64 {
    0.1
}

impl TextFiles {
    pub(crate) fn load(&self, options: &LoadOptions) -> Result<Loaded, LoadError> {
        let parts = self.parts(options.base, options.validation).map_err(LoadError::at("path"))?;
        Loaded::from_parts(parts, options)
    }

    /// The training and the test part; of the former, `validation` is not looked at for the vocabulary of words.
    pub(crate) fn parts(&self, base: &Path, validation: f64) -> Result<Parts, DataError> {
        let files = expand(base, &self.path)?;
        let name = match files.as_slice() {
            [file] => file.display().to_string(),
            _ => format!("{} and {} more", files[0].display(), files.len() - 1),
        };
        if self.unit == Unit::Byte {
            let mut bytes = Vec::new();
            for file in &files {
                bytes.append(&mut Input::file(file)?.rest()?);
            }
            if self.lowercase {
                bytes.make_ascii_lowercase();
            }
            let vocabulary = Arc::new(Vocabulary::bytes(false, false));
            let tokens = vocabulary.encode_bytes(&bytes);
            return self.split(&name, &vocabulary, tokens);
        }
        let mut text = String::new();
        for file in &files {
            if !text.is_empty() && !text.ends_with('\n') {
                text.push('\n');
            }
            text.push_str(&read(file)?);
        }
        if self.unit == Unit::Char {
            let vocabulary = Arc::new(Vocabulary::characters_of([text.as_str()], false, self.lowercase));
            let tokens = vocabulary.encode(&text)?;
            return self.split(&name, &vocabulary, tokens);
        }
        self.words(&name, &text, validation)
    }

    /// Windows of words. Where the training part ends depends on the number of words alone, not on the vocabulary.
    fn words(&self, name: &str, text: &str, validation: f64) -> Result<Parts, DataError> {
        let all = Arc::new(Vocabulary::words([text], usize::MAX, 1, self.lowercase));
        let tokens = all.encode(text)?;
        let train = self.split(name, &all, tokens.clone())?.with_validation(validation, 0)?.train;
        let last = (train.len() - 1) * self.stride() + self.sequence + 1;
        let seen: Vec<String> = tokens[..last].iter().map(|&t| all.decode(&[t])).collect();
        let vocabulary = Vocabulary::words(seen.iter().map(String::as_str), self.max_words, self.min_count, self.lowercase);
        let tokens = vocabulary.encode(text)?;
        self.split(name, &Arc::new(vocabulary), tokens)
    }

    fn stride(&self) -> usize {
        self.stride.unwrap_or(self.sequence)
    }

    fn split(&self, name: &str, vocabulary: &Arc<Vocabulary>, tokens: Vec<i32>) -> Result<Parts, DataError> {
        let stride = self.stride();
        let data: Arc<dyn Dataset> = Arc::new(windows(name, vocabulary, tokens, self.sequence, stride)?);
        // Windows that share a target with the next part are left out.
        Parts::in_order(data, self.sequence.div_ceil(stride) - 1).with_test(self.test, split::TEST_SEED)
    }
}

/// The files of paths, patterns and folders, in order.
fn expand(base: &Path, paths: &Paths) -> Result<Vec<PathBuf>, DataError> {
    let mut files = Vec::new();
    for path in paths.iter().map(|p| base.join(p)) {
        let before = files.len();
        let pattern = path.display().to_string();
        if path.is_dir() {
            let mut walk = Walk::new(&["txt"]);
            walk.through(&path)?;
            files.append(&mut walk.files);
        } else if path.exists() || !pattern.contains(['*', '?', '[']) {
            files.push(path.clone());
        } else {
            let bad = |e: glob::PatternError| folder_error(&path, format!("is not a pattern of paths: {}", e.msg));
            let found = glob::glob(&pattern).map_err(bad)?;
            files.extend(found.filter_map(Result::ok).filter(|p| p.is_file()));
        }
        if files.len() == before {
            return Err(folder_error(&path, "has no text files; their names must end in .txt, or be given by a pattern as *.md"));
        }
    }
    match files.is_empty() {
        true => Err(folder_error(base, "no text file is named; give data.path")),
        false => Ok(files),
    }
}
