//! The part of a model that is not a network: from raw input to what the network reads, from its output to what people read.
//!
//! A [`Coding`] is measured on the training part, stored with the weights, and applied by prediction; training itself
//! encodes by the same functions, so a prediction sees the bits that training saw.

mod array;
mod image;
mod series;
mod table;
mod target;
mod text;

pub use array::ArrayCoding;
pub use image::ImageCoding;
pub use series::{SeriesCoding, SeriesColumn};
pub(crate) use table::as_number;
pub use table::{ColumnCoding, Encoding, Measure, TableCoding};
pub use target::TargetCoding;
pub use text::{PadSide, TextCoding};

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{BatchType, DataError};

/// Version of the stored form. A program reads its own version and all before it.
pub const FORMAT: u32 = 1;

/// The coding of a model's input and output: `preprocessing.json` of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Coding {
    /// Version of this form.
    pub format: u32,
    /// From raw input to what the network reads.
    pub input: InputCoding,
    /// From the network's output to what people read.
    pub target: TargetCoding,
}

/// From raw input to what the network reads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum InputCoding {
    /// Numbers of a fixed shape: see [`ArrayCoding`].
    Array(ArrayCoding),
    /// PNG and JPEG images: see [`ImageCoding`].
    Image(ImageCoding),
    /// Text as tokens: see [`TextCoding`].
    Text(TextCoding),
    /// Rows of a table: see [`TableCoding`].
    Table(TableCoding),
    /// Windows of time series: see [`SeriesCoding`].
    Series(SeriesCoding),
}

/// What a person hands to prediction.
#[derive(Clone, Debug)]
pub enum RawInput<'a> {
    /// Files of the kind that the model was trained on: CSV files, images, texts, arrays.
    Files(&'a [PathBuf]),
    /// The bytes of one such file, called by a name in messages: standard input, the body of a request.
    Bytes(&'a str, &'a [u8]),
    /// Texts, one sample each.
    Texts(&'a [String]),
    /// Numbers as they stand in the data before any scaling, one sample after the other.
    Numbers(&'a [f32]),
}

/// Samples as the network reads them.
#[derive(Clone, Debug, PartialEq)]
pub struct Samples {
    /// What the samples are called: files, line numbers.
    pub names: Vec<String>,
    /// Shape of one sample.
    pub shape: Vec<usize>,
    /// The samples one after the other.
    pub values: SampleValues,
    /// What the input itself says the answers are, where it does: the target column of a table.
    pub truth: Option<Truth>,
}

/// Answers that stand in the input beside what the network reads.
#[derive(Clone, Debug, PartialEq)]
pub enum Truth {
    /// The class of each sample as it is written, also one the model does not know; `None` where it is missing.
    Classes(Vec<Option<String>>),
    /// `outputs` quantities per sample in their unit, sample by sample; NaN where one is missing.
    Numbers {
        /// Quantities per sample.
        outputs: usize,
        /// The quantities.
        values: Vec<f32>,
    },
}

/// Values of samples.
#[derive(Clone, Debug, PartialEq)]
pub enum SampleValues {
    /// Numbers, scaled.
    F32(Vec<f32>),
    /// Tokens.
    I32(Vec<i32>),
}

impl Samples {
    /// Number of samples.
    pub fn rows(&self) -> usize {
        self.names.len()
    }
}

impl Coding {
    /// A coding in the current format.
    pub fn new(input: InputCoding, target: TargetCoding) -> Self {
        let format = FORMAT;
        Self { format, input, target }
    }
}

impl InputCoding {
    /// Shape of one sample as the network reads it.
    pub fn shape(&self) -> Vec<usize> {
        match self {
            InputCoding::Array(c) => c.shape.clone(),
            InputCoding::Image(c) => c.frame.shape().to_vec(),
            InputCoding::Text(c) => vec![c.sequence],
            InputCoding::Table(c) => vec![c.width()],
            InputCoding::Series(c) => vec![c.window, c.width()],
        }
    }

    /// Element type of a batch.
    pub fn batch_type(&self) -> BatchType {
        match self {
            InputCoding::Array(_) | InputCoding::Image(_) | InputCoding::Table(_) | InputCoding::Series(_) => BatchType::F32,
            InputCoding::Text(_) => BatchType::I32,
        }
    }

    /// Encodes raw input.
    ///
    /// # Errors
    /// Files that cannot be read, input of another kind than the model was trained on, values that do not fit.
    pub fn encode(&self, raw: &RawInput) -> Result<Samples, DataError> {
        match self {
            InputCoding::Array(c) => c.encode(raw),
            InputCoding::Image(c) => c.encode(raw),
            InputCoding::Text(c) => c.encode(raw),
            InputCoding::Table(c) => c.encode(raw),
            InputCoding::Series(c) => c.encode(raw),
        }
    }
}
