//! Rows of tables.

use serde::{Deserialize, Serialize};

use super::{RawInput, SampleValues, Samples, Truth};
use crate::DataError;
use crate::table::cell::{self, Cells};
use crate::table::date;
use crate::table::read::Text;
use crate::table::rows::{Part, Place, Row, Table};
use crate::table::{CsvFormat, DateOrder, Dialect, TableError};

/// Rows of a table with named columns: CSV with the columns in any order. Columns that the model does not read are ignored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableCoding {
    /// How the files of the training were written; files for prediction may be written otherwise.
    pub dialect: Dialect,
    /// The columns that the network reads, in the order of the row.
    pub columns: Vec<ColumnCoding>,
    /// Names of the target's columns; empty for an autoencoder.
    pub targets: Vec<String>,
    /// Whether the target is numbers and not a class.
    pub numeric_target: bool,
}

/// A column and how it becomes numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ColumnCoding {
    /// Name of the column.
    pub name: String,
    /// How it becomes numbers.
    #[serde(flatten)]
    pub encoding: Encoding,
}

/// How a column becomes numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Encoding {
    /// One number, scaled.
    Number(Measure),
    /// 0 or 1, scaled.
    Boolean(Measure),
    /// Seconds since 1970, scaled, then sine and cosine of the place in the year, the week and, with `clock`, the day.
    Date {
        /// Order in which the dates are written.
        order: DateOrder,
        /// Whether the place in the day is told.
        clock: bool,
        /// Scale of the seconds.
        #[serde(flatten)]
        measure: Measure,
    },
    /// One number per category: 1 where it is this one, else 0. A category not seen in training is 0 everywhere, or "other".
    OneHot {
        /// The categories, sorted.
        categories: Vec<String>,
        /// Whether there is a number for rare and unknown categories.
        other: bool,
        /// Whether there is a number for a missing value.
        missing: bool,
    },
    /// The number of the category: 0 is unknown, then the categories from 1 on, then a missing value.
    Codes {
        /// The categories, sorted.
        categories: Vec<String>,
        /// Whether training had missing values, whose code is the last; without, a missing value is unknown.
        missing: bool,
    },
}

/// A number as the network reads it: `(x − shift) · factor`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measure {
    /// What is taken off.
    pub shift: f32,
    /// What the difference is multiplied with.
    pub factor: f32,
    /// What stands for a missing value: the mean of the training part.
    pub mean: f32,
    /// Whether a second number says that the value is missing: where training had missing values.
    pub indicator: bool,
}

impl Measure {
    /// Appends a number, or the mean for a missing one.
    pub(crate) fn push(&self, value: Option<f64>, out: &mut Vec<f32>) {
        let x = value.unwrap_or(f64::from(self.mean));
        out.push(((x - f64::from(self.shift)) * f64::from(self.factor)) as f32);
    }

    fn push_indicator(&self, missing: bool, out: &mut Vec<f32>) {
        if self.indicator {
            out.push(f32::from(u8::from(missing)));
        }
    }
}

impl Encoding {
    /// Numbers that the column becomes.
    pub fn width(&self) -> usize {
        match self {
            Encoding::Number(m) | Encoding::Boolean(m) => 1 + usize::from(m.indicator),
            Encoding::Date { clock, measure, .. } => 1 + date::cycle_count(*clock) + usize::from(measure.indicator),
            Encoding::OneHot { categories, other, missing } => categories.len() + usize::from(*other) + usize::from(*missing),
            Encoding::Codes { .. } => 1,
        }
    }

    /// How many codes there are, for a column of codes.
    pub fn codes(&self) -> Option<usize> {
        match self {
            Encoding::Codes { categories, missing } => Some(1 + categories.len() + usize::from(*missing)),
            _ => None,
        }
    }
}

impl ColumnCoding {
    /// Appends the numbers of a field.
    pub(crate) fn push(&self, field: &str, cells: &Cells, place: Place, out: &mut Vec<f32>) -> Result<(), DataError> {
        let value = cells.value(field);
        let start = out.len();
        match &self.encoding {
            Encoding::Number(measure) => {
                measure.push(self.read(value, "a number", place, |v| cells.number(v))?, out);
                measure.push_indicator(value.is_none(), out);
            }
            Encoding::Boolean(measure) => {
                measure.push(self.read(value, "yes or no", place, as_number)?, out);
                measure.push_indicator(value.is_none(), out);
            }
            Encoding::Date { order, clock, measure } => {
                let seconds = self.read(value, "a date as the others in the column", place, |v| cell::date(v, *order))?;
                measure.push(seconds, out);
                match seconds {
                    Some(seconds) => date::cycles(seconds, *clock, out),
                    None => out.resize(out.len() + date::cycle_count(*clock), 0.0),
                }
                measure.push_indicator(value.is_none(), out);
            }
            Encoding::OneHot { categories, other, missing } => {
                out.resize(start + self.encoding.width(), 0.0);
                let known = value.map(|v| find(categories, v));
                let at = match known {
                    Some(Some(i)) => Some(i),
                    Some(None) => other.then_some(categories.len()),
                    None => missing.then_some(categories.len() + usize::from(*other)),
                };
                if let Some(at) = at {
                    out[start + at] = 1.0;
                }
            }
            Encoding::Codes { categories, missing } => out.push(match value {
                Some(value) => find(categories, value).map_or(0, |i| i + 1),
                None if *missing => categories.len() + 1,
                None => 0,
            } as f32),
        }
        match out[start..].iter().all(|v| v.is_finite()) {
            true => Ok(()),
            false => Err(place.value_error(&self.name, field, "a number of usual size", "")),
        }
    }

    fn read(
        &self,
        value: Option<&str>,
        needed: &'static str,
        place: Place,
        parse: impl Fn(&str) -> Option<f64>,
    ) -> Result<Option<f64>, DataError> {
        let Some(value) = value else { return Ok(None) };
        let remedy = || format!("; mend it, or add it to data.missing, or set data.types.{} = \"category\"", self.name);
        parse(value).map(Some).ok_or_else(|| place.value_error(&self.name, value, needed, remedy()))
    }

    /// Names of the numbers of the column.
    fn names(&self, out: &mut Vec<String>) {
        let name = &self.name;
        let indicator = |measure: &Measure, out: &mut Vec<String>| {
            if measure.indicator {
                out.push(format!("{name}.missing"));
            }
        };
        match &self.encoding {
            Encoding::Number(measure) | Encoding::Boolean(measure) => {
                out.push(name.clone());
                indicator(measure, out);
            }
            Encoding::Date { clock, measure, .. } => {
                out.push(name.clone());
                out.extend(date::cycle_names(name, *clock));
                indicator(measure, out);
            }
            Encoding::OneHot { categories, other, missing } => {
                out.extend(categories.iter().map(|c| format!("{name}={c}")));
                out.extend(other.then(|| format!("{name}.other")));
                out.extend(missing.then(|| format!("{name}.missing")));
            }
            Encoding::Codes { .. } => out.push(name.clone()),
        }
    }
}

/// Yes as 1, no as 0.
pub(crate) fn as_number(value: &str) -> Option<f64> {
    cell::boolean(value).map(|b| f64::from(u8::from(b)))
}

fn find(categories: &[String], value: &str) -> Option<usize> {
    categories.binary_search_by(|c| c.as_str().cmp(value)).ok()
}

impl TableCoding {
    /// Numbers per row.
    pub fn width(&self) -> usize {
        self.columns.iter().map(|c| c.encoding.width()).sum()
    }

    /// Names of the numbers of a row, such as `carat`, `cut=Ideal`, `date.year_sin`.
    pub fn names(&self) -> Vec<String> {
        let mut names = Vec::with_capacity(self.width());
        self.columns.iter().for_each(|c| c.names(&mut names));
        names
    }

    /// How many codes each column of codes has: `num_embeddings` of the layer `columns_embedding`. Their columns stand first.
    pub fn codes(&self) -> Vec<usize> {
        self.columns.iter().filter_map(|c| c.encoding.codes()).collect()
    }

    /// Encodes CSV files or bytes, one sample per row; or numbers as they stand in the columns, if all columns are numbers. The
    /// target's columns may be there and become the truth.
    ///
    /// # Errors
    /// Files that cannot be read, columns that are not there, values that do not fit their column.
    pub fn encode(&self, raw: &RawInput) -> Result<Samples, DataError> {
        let texts = match raw {
            RawInput::Files(files) => files.iter().map(|f| Text::File(f.clone())).collect(),
            RawInput::Bytes(name, bytes) => vec![Text::Bytes(name, bytes)],
            RawInput::Numbers(numbers) => return self.encode_numbers(numbers),
            RawInput::Texts(_) => return Err(DataError::RawKind { needed: "rows of CSV", found: "text" }),
        };
        let Some(first) = texts.first() else { return Err(TableError::NoFiles.into()) };
        let mut names: Vec<String> = self.columns.iter().map(|c| c.name.clone()).collect();
        let dialect = dialect_for(first, &self.dialect, &names)?;
        names.extend_from_slice(&self.targets);
        let texts = texts.into_iter().map(|t| (t, Part::Test)).collect();
        let table = Table::of_columns(texts, dialect, names, self.columns.len());
        self.encode_table(&table)
    }

    fn encode_table(&self, table: &Table<'_>) -> Result<Samples, DataError> {
        let cells = table.cells();
        let (mut names, mut values, mut truth) = (Vec::new(), Vec::new(), Answers::new(self));
        table.each_row(|row| {
            for (i, column) in self.columns.iter().enumerate() {
                column.push(row.field(i), &cells, row.place, &mut values)?;
            }
            names.push(format!("{}:{}", row.place.file, row.place.line));
            truth.push(row, &cells)
        })?;
        let truth = truth.finish();
        Ok(Samples { names, shape: vec![self.width()], values: SampleValues::F32(values), truth })
    }

    fn encode_numbers(&self, numbers: &[f32]) -> Result<Samples, DataError> {
        let columns = self.columns.len();
        if let Some(other) = self.columns.iter().find(|c| !matches!(c.encoding, Encoding::Number(_))) {
            return Err(TableError::NotAllNumbers { column: other.name.clone() }.into());
        }
        if !numbers.len().is_multiple_of(columns.max(1)) {
            let (data, column, shape) = ("numbers".into(), "input".into(), vec![columns]);
            return Err(DataError::Shape { data, column, values: numbers.len(), shape });
        }
        let mut values = Vec::new();
        for (number, column) in numbers.iter().zip(self.columns.iter().cycle()) {
            if let Encoding::Number(measure) = &column.encoding {
                let value = number.is_finite().then_some(f64::from(*number));
                measure.push(value, &mut values);
                measure.push_indicator(value.is_none(), &mut values);
            }
        }
        let names = (1..=numbers.len() / columns.max(1)).map(|row| row.to_string()).collect();
        Ok(Samples { names, shape: vec![self.width()], values: SampleValues::F32(values), truth: None })
    }
}

/// How a file for prediction is written: as the training's if it has a column of it then, else found.
pub(super) fn dialect_for(text: &Text<'_>, trained: &Dialect, columns: &[String]) -> Result<Dialect, DataError> {
    if !trained.header {
        return Ok(trained.clone());
    }
    let as_before = Table::open(vec![(text.clone(), Part::Test)], trained.clone())?;
    if columns.iter().any(|c| as_before.names.contains(c)) {
        return Ok(trained.clone());
    }
    let format = CsvFormat { header: Some(true), missing: trained.missing.clone(), ..CsvFormat::default() };
    Dialect::find(text, &format)
}

/// Gathers the answers that stand in a table for prediction.
struct Answers<'c> {
    coding: &'c TableCoding,
    classes: Vec<Option<String>>,
    numbers: Vec<f32>,
    found: bool,
}

impl<'c> Answers<'c> {
    fn new(coding: &'c TableCoding) -> Self {
        Self { coding, classes: Vec::new(), numbers: Vec::new(), found: false }
    }

    fn push(&mut self, row: &Row, cells: &Cells) -> Result<(), DataError> {
        for (i, name) in self.coding.targets.iter().enumerate() {
            let value = cells.value(row.field(self.coding.columns.len() + i));
            self.found |= value.is_some();
            if self.coding.numeric_target {
                let number = value.map(|v| cells.number(v).ok_or_else(|| row.place.value_error(name, v, "a number", "")));
                self.numbers.push(number.transpose()?.map_or(f32::NAN, |n| n as f32));
            } else {
                self.classes.push(value.map(Into::into));
            }
        }
        Ok(())
    }

    fn finish(self) -> Option<Truth> {
        match (self.found, self.coding.numeric_target) {
            (false, _) => None,
            (true, true) => Some(Truth::Numbers { outputs: self.coding.targets.len(), values: self.numbers }),
            (true, false) => Some(Truth::Classes(self.classes)),
        }
    }
}
