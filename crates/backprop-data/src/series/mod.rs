//! Time series in CSV files: windows of past rows, and what follows them.
//!
//! Each series is split by time: its last rows are the test part, those before them the validation part, and no window reaches from
//! one part into the next. Windows overlap and share their memory.

mod load;
mod read;

pub(crate) use read::{Layout, Series, encode_rows, read};

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::table::{CsvFormat, Decimal, Paths};

/// Time series in CSV files, gzipped or not. The network reads windows of the columns `data.input` (all columns of numbers, if not
/// given) and learns the columns `data.target` (the last of them) of the rows that follow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SeriesFiles {
    /// The files: a path, a pattern such as `data/part-*.csv`, or a list of them, read as one table.
    pub path: Paths,
    /// Rows that the network reads.
    pub window: usize,
    /// How many rows after the window the target lies.
    #[serde(default = "one")]
    pub horizon: usize,
    /// Whether the row `horizon` steps ahead is the target, or every row up to it.
    #[serde(default)]
    pub steps: Steps,
    /// Rows from one window to the next.
    #[serde(default = "one")]
    pub stride: usize,
    /// The column of times: dates or numbers that grow from row to row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// Whether rows out of order are sorted by `time` instead of being refused.
    #[serde(default)]
    pub sort: bool,
    /// Whether the network also reads where each row lies in the year, the week and the day, from the dates of `time`.
    #[serde(default)]
    pub calendar: bool,
    /// A column that tells several series in one table apart; no window reaches from one into another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// What stands between fields; found if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delimiter: Option<char>,
    /// Whether the first line names the columns; found if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<bool>,
    /// What stands before the decimals of a number; found if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decimal: Option<Decimal>,
    /// Words that stand for a missing value, beside the usual ones. The value before takes the place of a missing one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
    /// Share of each series, from its end, that is the test part.
    #[serde(default = "default_test")]
    pub test: f64,
}

/// Which rows after a window are the target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Steps {
    /// Every row up to `horizon`, in order.
    #[default]
    All,
    /// The row at `horizon` alone.
    Last,
}

fn one() -> usize {
    1
}

fn default_test() -> f64 {
    0.2
}

impl SeriesFiles {
    /// Windows of `window` rows of files with nothing else said about them.
    pub fn new(path: impl Into<Paths>, window: usize) -> Self {
        Self {
            path: path.into(),
            window,
            horizon: 1,
            steps: Steps::All,
            stride: 1,
            time: None,
            sort: false,
            calendar: false,
            group: None,
            delimiter: None,
            header: None,
            decimal: None,
            missing: Vec::new(),
            test: default_test(),
        }
    }

    fn format(&self) -> CsvFormat {
        let Self { delimiter, header, decimal, missing, .. } = self;
        CsvFormat { delimiter: *delimiter, header: *header, decimal: *decimal, missing: missing.clone() }
    }

    pub(crate) fn paths_mut(&mut self) -> Vec<&mut PathBuf> {
        self.path.iter_mut().collect()
    }
}
