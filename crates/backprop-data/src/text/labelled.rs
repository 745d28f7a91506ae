//! Texts with a label each, as a data source.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::files::{default_max_words, default_min_count};
use super::{Unit, Vocabulary, narrowest, read};
use crate::coding::{InputCoding, PadSide, TextCoding};
use crate::labels::{self, Wanted};
use crate::walk::{Walk, entries, folder_error};
use crate::{
    Classes, Column, DataError, Dataset, InMemory, Kind, LabelKind, LoadError, LoadOptions, Loaded, Parts, Role, Values, split,
};

/// Texts with a label each: a CSV file with columns for both, or a folder with a sub-folder of `.txt` files per class.
///
/// A sample is `sequence` tokens: longer texts are cut at their end, shorter ones filled up with token 0, the padding. Columns are
/// called `text` and `label`. The vocabulary is measured on the training part; other words and characters are token 1, unknown.
///
/// ```
/// use backprop_data::{LabelledText, Source, coding::PadSide};
///
/// let source: Source = toml::from_str("source = 'labelled-text'\npath = 'reviews.csv'\nsequence = 200\npad = 'start'")?;
/// let Source::LabelledText(LabelledText { sequence, pad, lowercase, .. }) = source else { unreachable!() };
/// assert_eq!((sequence, pad, lowercase), (200, PadSide::Start, true));
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LabelledText {
    /// The CSV file (gzipped or not), or the folder.
    pub path: PathBuf,
    /// Column of the texts; without it `text`, or the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text_column: Option<String>,
    /// Column of the labels; without it `label`, or the second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_column: Option<String>,
    /// What the labels are.
    #[serde(default)]
    pub label_kind: LabelKind,
    /// What a token is.
    #[serde(default = "default_unit")]
    pub unit: Unit,
    /// Tokens per sample.
    #[serde(default = "default_sequence")]
    pub sequence: usize,
    /// On which side shorter texts are filled up. A recurrent network that is read at its last step learns more easily from `start`.
    #[serde(default)]
    pub pad: PadSide,
    /// Whether texts are taken in small letters.
    #[serde(default = "default_lowercase")]
    pub lowercase: bool,
    /// Words in the vocabulary at most, the most frequent ones.
    #[serde(default = "default_max_words")]
    pub max_words: usize,
    /// How often a word must occur to be in the vocabulary.
    #[serde(default = "default_min_count")]
    pub min_count: usize,
    /// Share of the texts that is the test part.
    #[serde(default = "default_test")]
    pub test: f64,
}

fn default_unit() -> Unit {
    Unit::Word
}

fn default_sequence() -> usize {
    128
}

fn default_lowercase() -> bool {
    true
}

fn default_test() -> f64 {
    0.2
}

/// Texts and what is learnt about them.
struct Texts {
    texts: Vec<String>,
    label: Column,
    labels: Values,
}

impl LabelledText {
    /// The column of texts, in files of them and in files that are predicted.
    fn text_column(&self) -> Wanted<'_> {
        Wanted { key: "text_column", given: self.text_column.as_deref(), usual: "text", place: 0 }
    }

    pub(crate) fn load(&self, options: &LoadOptions) -> Result<Loaded, LoadError> {
        let parts = self.parts(options.base, options.validation, options.seed).map_err(LoadError::at("path"))?;
        let mut loaded = Loaded::from_parts(parts, options)?;
        if let InputCoding::Text(TextCoding { pad, text_column, .. }) = &mut loaded.coding.input {
            (*pad, *text_column) = (Some(self.pad), self.text_column.clone());
        }
        Ok(loaded)
    }

    /// The training and the test part; of the former, what `validation` and `seed` split off is not looked at for the vocabulary.
    pub(crate) fn parts(&self, base: &Path, validation: f64, seed: u64) -> Result<Parts, DataError> {
        if self.sequence == 0 {
            return Err(DataError::Zero { what: "sequence" });
        }
        let path = base.join(&self.path);
        let name = path.display().to_string();
        let Texts { texts, label, labels } = if path.is_dir() { from_folder(&path)? } else { self.read_csv(&path)? };
        let parts = |data: InMemory| {
            let data: Arc<dyn Dataset> = Arc::new(data.with_column(label.clone(), labels.clone())?);
            Parts::shuffled(data).with_test(self.test, split::TEST_SEED)
        };
        // Which rows are trained on depends on the labels alone.
        let rows: Vec<i32> = (0..texts.len() as i32).collect();
        let numbered = parts(InMemory::new(&name).with_column(Column::input("row", &[]), rows)?)?;
        let train = numbered.with_validation(validation, seed)?.train;
        let mut rows = vec![0; train.len()];
        train.fill_i32(0, &(0..train.len()).collect::<Vec<_>>(), &mut rows)?;
        let vocabulary = Arc::new(self.vocabulary(rows.iter().map(|&row| texts[row as usize].as_str())));
        let coding = TextCoding { pad: Some(self.pad), ..TextCoding::characters(vocabulary.as_ref().clone(), self.sequence) };
        let mut tokens = Vec::with_capacity(texts.len() * self.sequence);
        for text in &texts {
            coding.push(text, &mut tokens)?;
        }
        let kind = Kind::Token(Arc::clone(&vocabulary));
        let column = Column { name: "text".into(), role: Role::Input, kind, shape: vec![self.sequence] };
        let rows = texts.len();
        parts(InMemory::new(name).with_windows(column, narrowest(tokens, vocabulary.len()), 0, self.sequence, rows)?)
    }

    fn vocabulary<'a>(&self, texts: impl Iterator<Item = &'a str>) -> Vocabulary {
        match self.unit {
            Unit::Byte => Vocabulary::bytes(true, self.lowercase),
            Unit::Char => Vocabulary::characters_of(texts, true, self.lowercase),
            Unit::Word => Vocabulary::words(texts, self.max_words, self.min_count, self.lowercase),
        }
    }

    fn read_csv(&self, file: &Path) -> Result<Texts, DataError> {
        let label = Wanted { key: "label_column", given: self.label_column.as_deref(), usual: "label", place: 1 };
        let lines = labels::read(file, [self.text_column(), label])?;
        if !self.label_kind.are_numbers(lines.iter().map(|l| l.second.as_str())) {
            return classes(lines.into_iter().map(|l| (l.first, l.second)).collect(), file);
        }
        let number = |l: &labels::Line| match l.second.parse::<f32>() {
            Ok(value) if value.is_finite() => Ok(value),
            _ => Err(labels::error(file, l.number, format!("the label {:?} is not a number; correct it", l.second))),
        };
        let labels = Values::F32(lines.iter().map(number).collect::<Result<_, _>>()?);
        let texts = lines.into_iter().map(|l| l.first).collect();
        Ok(Texts { texts, label: Column::target("label", &[]), labels })
    }
}

/// Texts of a folder with a sub-folder per class.
fn from_folder(root: &Path) -> Result<Texts, DataError> {
    let mut texts = Vec::new();
    for folder in entries(root)?.into_iter().filter(|p| p.is_dir()) {
        let mut walk = Walk::new(&["txt"]);
        walk.through(&folder)?;
        if walk.files.is_empty() {
            return Err(folder_error(&folder, "is the folder of a class but has no .txt files; put some into it or remove it"));
        }
        let class = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        for file in &walk.files {
            texts.push((read(file)?, class.clone()));
        }
    }
    if texts.is_empty() {
        return Err(folder_error(
            root,
            "has no sub-folders with .txt files; put the texts of each class into a sub-folder of its name",
        ));
    }
    classes(texts, root)
}

/// Numbers the classes by their names.
fn classes(pairs: Vec<(String, String)>, from: &Path) -> Result<Texts, DataError> {
    let mut names: Vec<String> = pairs.iter().map(|(_, class)| class.clone()).collect();
    names.sort();
    names.dedup();
    if names.len() == 1 {
        return Err(folder_error(from, format!("has texts of one class only ({}); a classifier needs two", names[0])));
    }
    let index = |class: &String| names.partition_point(|n| n < class) as i32;
    let labels = Values::I32(pairs.iter().map(|(_, class)| index(class)).collect());
    let texts = pairs.into_iter().map(|(text, _)| text).collect();
    Ok(Texts { texts, label: Column::label("label", Classes::named(names)), labels })
}
