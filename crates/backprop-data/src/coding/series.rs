//! Windows of time series.

use serde::{Deserialize, Serialize};

use super::table::dialect_for;
use super::{Measure, RawInput, SampleValues, Samples};
use crate::series::{Layout, Series, encode_rows, read};
use crate::table::read::Text;
use crate::table::rows::{Part, Table};
use crate::table::{DateOrder, Dialect, TableError};
use crate::{DataError, table::date};

/// Windows of time series in CSV. Prediction reads the last window of each series and gives what follows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeriesCoding {
    /// How the files of the training were written; files for prediction may be written otherwise.
    pub dialect: Dialect,
    /// The columns that the network reads, in the order of the row.
    pub columns: Vec<SeriesColumn>,
    /// The column of times, and how its dates are written; times that are numbers have no order of writing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<(String, Option<DateOrder>)>,
    /// Whether the places in the year and the week, and with `true` the day, follow the columns in each row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calendar: Option<bool>,
    /// The column that tells several series apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Whether rows out of order are sorted by time.
    pub sort: bool,
    /// Rows that the network reads.
    pub window: usize,
}

/// A column of a series and its scale.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SeriesColumn {
    /// Its name.
    pub name: String,
    /// Its scale; the mean stands for values that are missing before the first.
    #[serde(flatten)]
    pub measure: Measure,
}

impl SeriesCoding {
    /// Numbers of each row of a window.
    pub fn width(&self) -> usize {
        self.columns.len() + self.calendar.map_or(0, date::cycle_count)
    }

    /// Encodes the last window of each series of CSV files or bytes.
    ///
    /// # Errors
    /// Files that cannot be read, columns that are not there, values that are not numbers, too few rows, times out of order.
    pub fn encode(&self, raw: &RawInput) -> Result<Samples, DataError> {
        let texts: Vec<Text<'_>> = match raw {
            RawInput::Files(files) => files.iter().map(|f| Text::File(f.clone())).collect(),
            RawInput::Bytes(name, bytes) => vec![Text::Bytes(name, bytes)],
            RawInput::Texts(_) | RawInput::Numbers(_) => {
                return Err(DataError::RawKind { needed: "rows of CSV", found: "something else" });
            }
        };
        let Some(first) = texts.first() else { return Err(TableError::NoFiles.into()) };
        let names: Vec<String> = self.columns.iter().map(|c| c.name.clone()).collect();
        let dialect = dialect_for(first, &self.dialect, &names)?;
        let mut samples = Samples {
            names: Vec::new(),
            shape: vec![self.window, self.width()],
            values: SampleValues::F32(Vec::new()),
            truth: None,
        };
        for text in texts {
            let file = text.name();
            let (mut names, count) = (names.clone(), names.len());
            let mut also = |name: Option<&String>| {
                name.map(|n| {
                    names.push(n.clone());
                    names.len() - 1
                })
            };
            let time = also(self.time.as_ref().map(|(name, _)| name));
            let group = also(self.group.as_ref());
            let time = time.map(|i| (i, self.time.as_ref().and_then(|(_, order)| *order)));
            let needed = names.len();
            let table = Table::of_columns(vec![(text, Part::Test)], dialect.clone(), names, needed);
            let layout = Layout { numbers: (0..count).collect(), time, group, sort: self.sort };
            for series in read(&table, &layout)? {
                self.push(&file, &series, &mut samples)?;
            }
        }
        Ok(samples)
    }

    fn push(&self, file: &str, series: &Series, samples: &mut Samples) -> Result<(), DataError> {
        let rows = series.rows();
        if rows < self.window {
            let data = series.name(file);
            return Err(TableError::FewRows { data, rows, needed: self.window }.into());
        }
        let measures: Vec<Measure> = self.columns.iter().map(|c| c.measure).collect();
        let all = encode_rows(series, &measures, self.calendar);
        if let SampleValues::F32(values) = &mut samples.values {
            values.extend_from_slice(&all[(rows - self.window) * self.width()..]);
        }
        samples.names.push(series.name(file));
        Ok(())
    }
}
