//! What can be wrong with a table.

use crate::{DataError, LoadError};

/// What is wrong with a CSV file or with what is asked of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TableError {
    /// No file has a name like the pattern.
    #[error("no file matches {pattern}; check the folder and the pattern")]
    NoMatch {
        /// The pattern.
        pattern: String,
    },
    /// A pattern is not one.
    #[error("{pattern} is not a pattern of file names: {why}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong.
        why: String,
    },
    /// No files are named.
    #[error("no files are named; give a path or a list of paths")]
    NoFiles,
    /// The bytes are not text in UTF-8.
    #[error("{file}, line {line}: not UTF-8 text{why}; save the table as CSV in UTF-8")]
    NotText {
        /// File.
        file: String,
        /// Line, from 1.
        line: u64,
        /// What was found, with a comma before it; may be empty.
        why: &'static str,
    },
    /// A record has more or fewer fields than the first line.
    #[error("{file}, line {line}: {found} fields, the first line has {expected}{hint}")]
    Ragged {
        /// File.
        file: String,
        /// Line, from 1.
        line: u64,
        /// Fields of the record.
        found: usize,
        /// Fields of the first line.
        expected: usize,
        /// What may be the reason, with a semicolon before it.
        hint: &'static str,
    },
    /// A quoted field does not end.
    #[error("{file}: the quote in the record that begins in line {line} is never closed; close it or double it")]
    OpenQuote {
        /// File.
        file: String,
        /// Line, from 1.
        line: u64,
    },
    /// There is a header and nothing else.
    #[error("{file}: only a header, no rows")]
    HeaderOnly {
        /// File.
        file: String,
    },
    /// What should stand between fields cannot.
    #[error("{delimiter:?} cannot stand between fields; take an ASCII character other than a quote or a line end")]
    Delimiter {
        /// The character.
        delimiter: char,
    },
    /// A file lacks a column.
    #[error("{file} has no column {column:?}; it has {known}")]
    NoColumn {
        /// File.
        file: String,
        /// The column that is needed.
        column: String,
        /// Columns there are.
        known: String,
    },
    /// A value does not fit the type of its column.
    #[error("{file}, line {line}, column {column:?}: {value:?} is not {needed}{remedy}")]
    Value {
        /// File.
        file: String,
        /// Line, from 1.
        line: u64,
        /// Column.
        column: String,
        /// What stands there.
        value: String,
        /// What is needed, such as "a number".
        needed: &'static str,
        /// What to do, with a semicolon before it; may be empty.
        remedy: String,
    },
    /// A column is used in two ways.
    #[error("the column {column:?} cannot be both {first} and {second}")]
    TwoUses {
        /// Column.
        column: String,
        /// One use.
        first: &'static str,
        /// The other.
        second: &'static str,
    },
    /// No column is left for the network to read.
    #[error("{data}: no column is left that the network can read{why}")]
    NoInput {
        /// File.
        data: String,
        /// Columns that were left out and why, with a colon before them; may be empty.
        why: String,
    },
    /// The target is missing in every row.
    #[error("{data}: the target {column:?} is missing in all {rows} rows")]
    TargetMissing {
        /// File.
        data: String,
        /// Column.
        column: String,
        /// Rows.
        rows: u64,
    },
    /// Several targets must be numbers.
    #[error("{data}: {columns} targets are several; only numbers can be predicted together, and {column:?} holds {found}")]
    SeveralTargets {
        /// File.
        data: String,
        /// How many.
        columns: usize,
        /// One that is not numbers.
        column: String,
        /// What it holds.
        found: &'static str,
    },
    /// All rows have one class.
    #[error("{data}: every row has the class {class:?} in the column {column:?}; there is nothing to tell apart")]
    OneClass {
        /// File.
        data: String,
        /// Column.
        column: String,
        /// The class.
        class: String,
    },
    /// Almost every row has a class of its own.
    #[error(
        "{data}: the target {column:?} has {classes} different values in {rows} rows; these are no classes: \
         name another target, or task = \"regression\" if they are numbers"
    )]
    ManyClasses {
        /// File.
        data: String,
        /// Column.
        column: String,
        /// Different values.
        classes: usize,
        /// Rows.
        rows: usize,
    },
    /// A column that says the parts says something else.
    #[error("{file}, line {line}: {value:?} in the column {column:?} names no part; write train, validation or test")]
    PartName {
        /// File.
        file: String,
        /// Line, from 1.
        line: u64,
        /// Column.
        column: String,
        /// What stands there.
        value: String,
    },
    /// A column or file for a part has no rows for training.
    #[error("{data}: no row is left for training")]
    NoTraining {
        /// File.
        data: String,
    },
    /// Settings that exclude one another.
    #[error("{first} and {second} exclude one another; give one of them")]
    Exclusive {
        /// A setting.
        first: &'static str,
        /// The other.
        second: &'static str,
    },
    /// A logarithm needs numbers above 0.
    #[error(
        "{file}, line {line}: the target {column:?} is {value}; normalize_target = \"log\" needs numbers above 0: \
         take \"standard\""
    )]
    LogOf {
        /// File.
        file: String,
        /// Line, from 1.
        line: u64,
        /// Column.
        column: String,
        /// The number.
        value: f64,
    },
    /// A series has fewer rows than a window.
    #[error("{data}: {rows} rows, the model reads windows of {needed}; hand over more of the past")]
    FewRows {
        /// File or series.
        data: String,
        /// Rows there are.
        rows: usize,
        /// Rows needed.
        needed: usize,
    },
    /// No window fits into a part of the series.
    #[error(
        "{data}: no window of {window} rows and {horizon} ahead fits into the {part} part of {rows} rows of the longest series; \
         take a shorter window or other shares"
    )]
    LongWindow {
        /// File.
        data: String,
        /// Rows of the longest series.
        rows: usize,
        /// Rows of a window.
        window: usize,
        /// Rows ahead.
        horizon: usize,
        /// The part.
        part: &'static str,
    },
    /// Times go back from one row to the next.
    #[error(
        "{file}, line {line}: the time in the column {column:?} lies before that of line {other}; sort the file by time, \
         set data.sort = true, or name the column that tells series apart with data.group"
    )]
    OutOfOrder {
        /// File.
        file: String,
        /// Line, from 1.
        line: u64,
        /// Column of times.
        column: String,
        /// Line of the later time.
        other: u64,
    },
    /// Two rows of one series have the same time.
    #[error(
        "{file}, line {line}: the time in the column {column:?} is that of line {other}; remove one of the rows, or name the \
         column that tells series apart with data.group"
    )]
    SameTime {
        /// File.
        file: String,
        /// Line, from 1.
        line: u64,
        /// Column of times.
        column: String,
        /// The other line.
        other: u64,
    },
    /// Places in the calendar need dates.
    #[error("{data}: data.calendar needs a column of dates; data.time = {column:?} is none")]
    NoDates {
        /// File.
        data: String,
        /// The column of times.
        column: String,
    },
    /// A logarithm needs numbers above 0.
    #[error("{data}: a target is {value}; normalize_target = \"log\" needs numbers above 0: take \"standard\"")]
    SeriesLog {
        /// File or series.
        data: String,
        /// The number.
        value: f64,
    },
    /// Numbers are handed to a model that reads words too.
    #[error("this model reads a table with columns that are not numbers ({column:?}); hand over rows of CSV")]
    NotAllNumbers {
        /// A column that is not numbers.
        column: String,
    },
}

impl From<TableError> for DataError {
    fn from(error: TableError) -> Self {
        DataError::Table(Box::new(error))
    }
}

impl From<TableError> for LoadError {
    fn from(error: TableError) -> Self {
        DataError::from(error).into()
    }
}
