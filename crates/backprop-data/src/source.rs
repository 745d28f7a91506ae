//! Where data come from, as a configuration names it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    Classes, CsvFiles, DataError, Dataset, ImageFolder, Kind, LabelledText, LoadError, LoadOptions, Loaded, NpyFiles, Parts,
    SeriesFiles, Stream, TextFiles, embedded, idx, split, synthetic, text,
};

/// A data source: the Rust value and the `[data]` table of a configuration are one definition,
/// told apart by the key `source`. Unknown keys are refused, which serde does for variants with
/// braces only: hence those without settings.
///
/// ```
/// use backprop_data::Source;
///
/// let source: Source = toml::from_str("source = 'text'\npath = 'notes.txt'\nsequence = 64")?;
/// assert!(matches!(source, Source::Text(files) if files.sequence == 64));
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "source", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Source {
    /// Fashion-MNIST, embedded: see [`fashion`](crate::fashion).
    Fashion {},
    /// UCI digits, embedded: see [`digits`](crate::digits).
    Digits {},
    /// Data that a Rust program brings itself; only that program can train or evaluate on them.
    Memory {},
    /// Hamlet and Macbeth, embedded, as windows of characters: see [`text::dataset`].
    Shakespeare {
        /// Characters per sample.
        #[serde(default = "default_sequence")]
        sequence: usize,
        /// Characters from one sample to the next; by default `sequence`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stride: Option<usize>,
        /// Share of the samples, from the end, that is the test part.
        #[serde(default = "default_text_test")]
        test: f64,
    },
    /// Text files, to predict each next token: see [`TextFiles`].
    Text(TextFiles),
    /// Texts with a label each: see [`LabelledText`].
    LabelledText(LabelledText),
    /// IDX files, gzipped or not: see [`idx::dataset`].
    Idx(IdxFiles),
    /// PNG and JPEG images in a folder: see [`ImageFolder`].
    Folder(ImageFolder),
    /// Tables in CSV files, gzipped or not: see [`CsvFiles`].
    Csv(Box<CsvFiles>),
    /// NumPy arrays: see [`NpyFiles`].
    Npy(NpyFiles),
    /// Time series in CSV files, gzipped or not: see [`SeriesFiles`].
    Series(Box<SeriesFiles>),
    /// Made-up clusters of points: see [`synthetic::clusters`].
    Clusters {
        /// Number of points.
        rows: usize,
        /// Coordinates of a point.
        features: usize,
        /// Number of classes.
        classes: usize,
        /// Seed of the points.
        #[serde(default)]
        seed: u64,
        /// Share of the rows that is the test part.
        #[serde(default = "default_test")]
        test: f64,
    },
    /// Made-up images, a cluster of them around one pattern per class: see [`synthetic::images`].
    Images {
        /// Number of images.
        rows: usize,
        /// Rows of pixels.
        height: usize,
        /// Pixels per row.
        width: usize,
        /// Values per pixel.
        channels: usize,
        /// Number of classes.
        classes: usize,
        /// Seed of the images.
        #[serde(default)]
        seed: u64,
        /// Share of the rows that is the test part.
        #[serde(default = "default_test")]
        test: f64,
    },
}

/// IDX files of one data set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IdxFiles {
    /// Images or other inputs of the training part.
    pub images: PathBuf,
    /// Labels of the training part.
    pub labels: PathBuf,
    /// Images of the test part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_images: Option<PathBuf>,
    /// Labels of the test part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_labels: Option<PathBuf>,
    /// Share of the rows that is the test part where no test files are given.
    #[serde(default = "default_test")]
    pub test: f64,
    /// Names of the classes; without them the classes are numbered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<String>,
    /// Whether images stay in their file and are read as they are needed: `true` (not of gzipped files), `false`, or by their
    /// size.
    #[serde(default)]
    pub stream: Stream,
}

fn default_sequence() -> usize {
    64
}

fn default_text_test() -> f64 {
    0.1
}

fn default_test() -> f64 {
    0.2
}

impl Source {
    /// Reads the data, splits them, and measures on the training part how they are encoded.
    ///
    /// # Errors
    /// Files that are missing, damaged or do not fit together, settings out of range; with the key of `[data]` at fault.
    pub fn load(&self, options: &LoadOptions) -> Result<Loaded, LoadError> {
        match self {
            Source::Folder(folder) => folder.load(options),
            Source::Csv(files) => files.load(options),
            Source::Text(files) => files.load(options),
            Source::LabelledText(texts) => texts.load(options),
            Source::Series(files) => files.load(options),
            _ => Loaded::from_parts(self.parts(options.base)?, options),
        }
    }

    /// The paths that the source names, for making relative ones absolute.
    pub fn paths_mut(&mut self) -> Vec<&mut PathBuf> {
        match self {
            Source::Text(files) => files.path.iter_mut().collect(),
            Source::LabelledText(texts) => vec![&mut texts.path],
            Source::Idx(IdxFiles { images, labels, test_images, test_labels, .. }) => {
                [Some(images), Some(labels), test_images.as_mut(), test_labels.as_mut()].into_iter().flatten().collect()
            }
            Source::Folder(ImageFolder { path, labels, spill, .. }) => {
                [Some(path), labels.as_mut(), spill.as_mut()].into_iter().flatten().collect()
            }
            Source::Csv(files) => files.paths_mut(),
            Source::Npy(files) => files.paths_mut(),
            Source::Series(files) => files.paths_mut(),
            _ => Vec::new(),
        }
    }

    /// Reads a source whose columns hold what the network reads, up to a scale. Relative paths are taken from `base`.
    /// The test part does not depend on a run's seed; a validation part is split off by
    /// [`Parts::with_validation`].
    ///
    /// # Errors
    /// Files that are missing, damaged or do not fit together, settings out of range.
    pub fn parts(&self, base: &Path) -> Result<Parts, DataError> {
        match self {
            Source::Fashion {} => embedded::fashion(),
            Source::Digits {} => embedded::digits(),
            Source::Memory {} => Err(DataError::OfAProgram),
            Source::Shakespeare { sequence, stride, test } => {
                windows("Shakespeare", &embedded::shakespeare()?, *sequence, *stride, *test)
            }
            Source::Text(files) => files.parts(base, 0.0),
            Source::LabelledText(texts) => texts.parts(base, 0.0, 0),
            Source::Idx(files) => files.load(base),
            Source::Npy(files) => files.load(base),
            Source::Folder(folder) => Ok(folder.open(base, true)?.0),
            Source::Csv(_) | Source::Series(_) => {
                Ok(self.load(&LoadOptions { validation: 0.0, ..LoadOptions::new(base) }).map_err(|e| e.error)?.parts)
            }
            &Source::Images { rows, height, width, channels, classes, seed, test } => {
                let data = synthetic::images(rows, [height, width, channels], classes, seed)?;
                Parts::shuffled(Arc::new(data)).with_test(test, split::TEST_SEED)
            }
            &Source::Clusters { rows, features, classes, seed, test } => {
                let data = synthetic::clusters(rows, features, classes, seed)?;
                Parts::shuffled(Arc::new(data)).with_test(test, split::TEST_SEED)
            }
        }
    }
}

impl IdxFiles {
    fn load(&self, base: &Path) -> Result<Parts, DataError> {
        let name = base.join(&self.images).display().to_string();
        let classes = (!self.classes.is_empty()).then(|| Classes::named(&self.classes));
        let open = |name: &str, images: &PathBuf, labels: &PathBuf, classes| {
            idx::open(name, &base.join(images), &base.join(labels), classes, self.stream)
        };
        let train = open(&name, &self.images, &self.labels, classes)?;
        let incomplete = |given, missing| Err(DataError::Incomplete { given, missing });
        match (&self.test_images, &self.test_labels) {
            (Some(images), Some(labels)) => {
                let [image, label] = train.columns() else { return incomplete("images", "labels") };
                let Kind::Class(classes) = &label.kind else { return incomplete("images", "labels") };
                let test = open(&format!("{name} (test)"), images, labels, Some(classes.clone()))?;
                if image.shape != test.columns()[0].shape {
                    return Err(DataError::ShapesDiffer {
                        first: name,
                        first_shape: image.shape.clone(),
                        second: base.join(images).display().to_string(),
                        second_shape: test.columns()[0].shape.clone(),
                    });
                }
                Ok(Parts::shuffled(Arc::clone(&train)).with_test_set(test))
            }
            (None, None) => Parts::shuffled(train).with_test(self.test, split::TEST_SEED),
            (Some(_), None) => incomplete("test_images", "test_labels"),
            (None, Some(_)) => incomplete("test_labels", "test_images"),
        }
    }
}

/// Windows of characters, split from the end. Windows that share a target with the next part are
/// left out.
fn windows(name: &str, text: &str, sequence: usize, stride: Option<usize>, test: f64) -> Result<Parts, DataError> {
    let stride = stride.unwrap_or(sequence);
    let data: Arc<dyn Dataset> = Arc::new(text::dataset(name, text, sequence, stride)?);
    let gap = sequence.div_ceil(stride) - 1;
    Parts::in_order(data, gap).with_test(test, split::TEST_SEED)
}
