//! What a configuration says about CSV files.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::Stream;

/// One path or several; each can be a pattern such as `data/part-*.csv`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(untagged, expecting = "expected a path or a list of paths")]
pub enum Paths {
    /// One path or pattern.
    One(PathBuf),
    /// Several, read one after the other.
    Several(Vec<PathBuf>),
}

impl Paths {
    /// The paths in order.
    pub fn iter(&self) -> impl Iterator<Item = &PathBuf> {
        match self {
            Paths::One(path) => std::slice::from_ref(path).iter(),
            Paths::Several(paths) => paths.iter(),
        }
    }

    /// The paths in order, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        match self {
            Paths::One(path) => std::slice::from_mut(path).iter_mut(),
            Paths::Several(paths) => paths.iter_mut(),
        }
    }
}

impl<P: Into<PathBuf>> From<P> for Paths {
    fn from(path: P) -> Self {
        Paths::One(path.into())
    }
}

/// How CSV files are written. What is not given is found by looking at the beginning of the first file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CsvFormat {
    /// What stands between fields: `","`, `";"`, `"\t"`, `"|"` or another ASCII character.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delimiter: Option<char>,
    /// Whether the first line names the columns. Without names they are called `column1`, `column2`, ….
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header: Option<bool>,
    /// What stands before the decimals of a number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decimal: Option<Decimal>,
    /// Words that stand for a missing value, beside the usual ones (nothing, `NA`, `NaN`, `null`, `?`, …).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
}

/// What stands before the decimals of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Decimal {
    /// `1234.5`.
    Point,
    /// `1234,5`.
    Comma,
}

/// What the values of a column are taken as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ColumnType {
    /// Quantities, scaled.
    Number,
    /// One of two words such as yes and no: 0 or 1, scaled.
    Boolean,
    /// Dates, with or without a time of day: the time passed, scaled, and its place in the year, the week and the day as sine and
    /// cosine.
    Date,
    /// One of several words, encoded as `categories` says.
    Category,
    /// A category as one number for each word: 1 where it is this one, else 0.
    OneHot,
    /// A category as its number, for the layers `embedding` and `columns_embedding`. 0 is a word that training did not see.
    Codes,
}

/// How categories become numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Categories {
    /// One number for each category, at most 64 of a column: rarer ones share the number of "other".
    #[default]
    Auto,
    /// One number for each category, however many.
    OneHot,
    /// One whole number for each column, for the layer `columns_embedding`. Codes stand before all other numbers of a row.
    Codes,
}

/// Whether a target is a class or a quantity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TableTask {
    /// Words are classes, and so are up to 20 whole numbers without a gap that begin at 0 or 1; other numbers are quantities.
    #[default]
    Auto,
    /// The target is a class.
    Classification,
    /// The target is a quantity, or several.
    Regression,
}

/// Tables in CSV files, gzipped or not, told apart by their content. The network reads one row of numbers. The target is
/// `data.target`, or the last column; several columns of numbers, separated by commas, are several targets. Every statistic (scale,
/// replacement of missing values, categories) is measured on the training part without validation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CsvFiles {
    /// The files: a path, a pattern such as `data/part-*.csv`, or a list of them.
    pub path: Paths,
    /// Files of the validation part; without them it is split off by the share `validation`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_path: Option<Paths>,
    /// Files of the test part; without them it is split off by the share `test`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_path: Option<Paths>,
    /// What stands between fields: `","`, `";"`, `"\t"`, `"|"` or another ASCII character; found if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delimiter: Option<char>,
    /// Whether the first line names the columns; found if not given. Without names they are called `column1`, `column2`, ….
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<bool>,
    /// What stands before the decimals of a number; found if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decimal: Option<Decimal>,
    /// Words that stand for a missing value, beside the usual ones (nothing, `NA`, `NaN`, `null`, `?`, …).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
    /// Columns that the network does not read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// What columns are taken as, by name, where it is not what their values suggest.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub types: BTreeMap<String, ColumnType>,
    /// How categories become numbers.
    #[serde(default)]
    pub categories: Categories,
    /// Whether the target is a class or a quantity.
    #[serde(default)]
    pub task: TableTask,
    /// A column that says to which part a row belongs: `train`, `validation` or `test`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split_column: Option<String>,
    /// A column of dates or numbers by which the latest rows become the test part, and those before them the validation part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split_by: Option<String>,
    /// Share of the rows that is the test part where neither files nor a column say it. Classes keep their proportions.
    #[serde(default = "default_test")]
    pub test: f64,
    /// Whether encoded rows are kept in a temporary file instead of memory: `true`, `false`, or by their size.
    #[serde(default)]
    pub stream: Stream,
    /// Folder of that file; the system's folder for temporary files if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spill: Option<PathBuf>,
}

fn default_test() -> f64 {
    0.2
}

impl CsvFiles {
    /// Files with nothing said about them.
    pub fn new(path: impl Into<Paths>) -> Self {
        Self {
            path: path.into(),
            validation_path: None,
            test_path: None,
            delimiter: None,
            header: None,
            decimal: None,
            missing: Vec::new(),
            exclude: Vec::new(),
            types: BTreeMap::new(),
            categories: Categories::default(),
            task: TableTask::default(),
            split_column: None,
            split_by: None,
            test: default_test(),
            stream: Stream::default(),
            spill: None,
        }
    }

    /// What is said about the way the files are written.
    pub fn format(&self) -> CsvFormat {
        let Self { delimiter, header, decimal, missing, .. } = self;
        CsvFormat { delimiter: *delimiter, header: *header, decimal: *decimal, missing: missing.clone() }
    }

    pub(crate) fn paths_mut(&mut self) -> Vec<&mut PathBuf> {
        let parts = [Some(&mut self.path), self.validation_path.as_mut(), self.test_path.as_mut()];
        parts.into_iter().flatten().flat_map(Paths::iter_mut).chain(self.spill.as_mut()).collect()
    }
}
