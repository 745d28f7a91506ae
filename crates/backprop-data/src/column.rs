//! What a column of a data set holds.

use std::borrow::Cow;
use std::sync::Arc;

use crate::on_disk::{Element, ElementType};
use crate::text::Vocabulary;

/// Element type of a batch buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BatchType {
    /// Filled by [`Dataset::fill_f32`](crate::Dataset::fill_f32), normalised.
    F32,
    /// Filled by [`Dataset::fill_i32`](crate::Dataset::fill_i32): class labels and tokens.
    I32,
}

/// What a column is for, unless the user says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The network reads it.
    Input,
    /// The loss compares with it.
    Target,
}

/// The classes of a classification: how many, and their names if they have any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Classes {
    count: usize,
    names: Arc<[String]>,
}

impl Classes {
    /// `count` classes without names: they are called by their numbers.
    pub fn numbered(count: usize) -> Self {
        let names = Arc::from([]);
        Self { count, names }
    }

    /// One class per name, in the order of the labels 0, 1, ….
    pub fn named<S: Into<String>>(names: impl IntoIterator<Item = S>) -> Self {
        let names: Arc<[String]> = names.into_iter().map(Into::into).collect();
        let count = names.len();
        Self { count, names }
    }

    /// Number of classes.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Name of class `label`: its number where the class has no name.
    pub fn name(&self, label: usize) -> Cow<'_, str> {
        match self.names.get(label) {
            Some(name) => Cow::Borrowed(name),
            None => Cow::Owned(label.to_string()),
        }
    }
}

/// What the values of a column mean.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// Quantities: grey values, measurements. Normalised when a batch is filled.
    Number,
    /// A class label 0..count.
    Class(Classes),
    /// Positions in a vocabulary.
    Token(Arc<Vocabulary>),
}

impl Kind {
    /// The buffer type that such a column fills by default.
    pub fn batch_type(&self) -> BatchType {
        match self {
            Kind::Number => BatchType::F32,
            Kind::Class(_) | Kind::Token(_) => BatchType::I32,
        }
    }

    pub(crate) fn describe(&self) -> &'static str {
        match self {
            Kind::Number => "numbers",
            Kind::Class(_) => "class labels",
            Kind::Token(_) => "tokens",
        }
    }
}

/// Name, use, meaning and per-sample shape of one column.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// Name by which the column is asked for.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// What its values mean.
    pub kind: Kind,
    /// Shape of one sample, row-major; images are `[height, width, channels]`; `[]` is one value.
    pub shape: Vec<usize>,
}

impl Column {
    /// An input of numbers.
    pub fn input(name: &str, shape: &[usize]) -> Self {
        Self { name: name.into(), role: Role::Input, kind: Kind::Number, shape: shape.into() }
    }

    /// A target of numbers (regression).
    pub fn target(name: &str, shape: &[usize]) -> Self {
        Self { role: Role::Target, ..Self::input(name, shape) }
    }

    /// A target with one class label per sample.
    pub fn label(name: &str, classes: Classes) -> Self {
        Self { kind: Kind::Class(classes), ..Self::target(name, &[]) }
    }

    /// Elements of one sample. Saturates, so that an absurd shape fits no data.
    pub fn elements(&self) -> usize {
        self.shape.iter().fold(1, |n, &d| n.saturating_mul(d))
    }
}

/// Values of a column as they are kept in memory: the narrowest type that holds them exactly.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Bytes: images, labels, tokens of a small vocabulary.
    U8(Vec<u8>),
    /// 16-bit whole numbers.
    I16(Vec<i16>),
    /// 32-bit whole numbers.
    I32(Vec<i32>),
    /// Real numbers.
    F32(Vec<f32>),
}

impl Values {
    /// Number of values.
    pub fn len(&self) -> usize {
        match self {
            Values::U8(v) => v.len(),
            Values::I16(v) => v.len(),
            Values::I32(v) => v.len(),
            Values::F32(v) => v.len(),
        }
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The values as they lie in a file of this data type, and the type.
    pub(crate) fn to_bytes(&self) -> (Vec<u8>, Element) {
        let (bytes, ty) = match self {
            Values::U8(v) => (v.clone(), ElementType::U8),
            Values::I16(v) => (v.iter().flat_map(|v| v.to_le_bytes()).collect(), ElementType::I16),
            Values::I32(v) => (v.iter().flat_map(|v| v.to_le_bytes()).collect(), ElementType::I32),
            Values::F32(v) => (v.iter().flat_map(|v| v.to_le_bytes()).collect(), ElementType::F32),
        };
        (bytes, Element { ty, big_endian: false })
    }

    /// Value `i` as a whole number; `None` for real numbers.
    pub(crate) fn integer(&self, i: usize) -> Option<i64> {
        match self {
            Values::U8(v) => Some(v[i].into()),
            Values::I16(v) => Some(v[i].into()),
            Values::I32(v) => Some(v[i].into()),
            Values::F32(_) => None,
        }
    }
}

impl From<Vec<u8>> for Values {
    fn from(v: Vec<u8>) -> Self {
        Values::U8(v)
    }
}

impl From<Vec<i32>> for Values {
    fn from(v: Vec<i32>) -> Self {
        Values::I32(v)
    }
}

impl From<Vec<f32>> for Values {
    fn from(v: Vec<f32>) -> Self {
        Values::F32(v)
    }
}
