//! The rows of a table that may lie in several files.

use super::cell::Cells;
use super::error::TableError;
use super::read::{Records, Text, header};
use super::sniff::Dialect;
use crate::{DataError, LoadError};

/// To which part a row belongs by its file, by a column or by the split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Train,
    Validation,
    Test,
    /// No part: the target is missing.
    Out,
}

/// A table that can be read several times.
pub(crate) struct Table<'a> {
    pub texts: Vec<(Text<'a>, Part)>,
    pub dialect: Dialect,
    /// Names of the columns, in the order in which rows give their fields.
    pub names: Vec<String>,
    /// How many of the columns every file must have.
    needed: usize,
}

/// One row.
pub(crate) struct Row<'r> {
    /// Number among all rows, from 0.
    pub number: usize,
    pub part: Part,
    pub place: Place<'r>,
    record: &'r csv::StringRecord,
    order: &'r [Option<usize>],
}

/// Where a row stands.
#[derive(Clone, Copy)]
pub(crate) struct Place<'r> {
    pub file: &'r str,
    pub line: u64,
}

impl<'r> Row<'r> {
    /// Field of column `i`; empty where the file lacks the column.
    pub fn field(&self, i: usize) -> &'r str {
        self.order[i].and_then(|i| self.record.get(i)).unwrap_or("")
    }
}

impl Place<'_> {
    pub fn value_error(&self, column: &str, value: &str, needed: &'static str, remedy: impl Into<String>) -> DataError {
        let file = self.file.to_owned();
        let value = shortened(value);
        TableError::Value { file, line: self.line, column: column.into(), value, needed, remedy: remedy.into() }.into()
    }
}

/// A value for a message, cut where it is long.
pub(crate) fn shortened(value: &str) -> String {
    match value.char_indices().nth(40) {
        Some((end, _)) => format!("{}…", &value[..end]),
        None => value.into(),
    }
}

impl<'a> Table<'a> {
    /// A table whose columns are those of its first text.
    pub fn open(texts: Vec<(Text<'a>, Part)>, dialect: Dialect) -> Result<Self, DataError> {
        let Some((first, _)) = texts.first() else { return Err(TableError::NoFiles.into()) };
        let mut records = Records::open(first, dialect.delimiter as u8)?;
        let names = match records.next()? {
            Some(first) => header(first, &dialect),
            None => return Err(DataError::Empty { data: first.name() }),
        };
        drop(records);
        let needed = names.len();
        Ok(Self { texts, dialect, names, needed })
    }

    /// A table of whose columns `names` are wanted; the first `needed` of them every file must have.
    pub fn of_columns(texts: Vec<(Text<'a>, Part)>, dialect: Dialect, names: Vec<String>, needed: usize) -> Self {
        Self { texts, dialect, names, needed }
    }

    /// What the table is called in messages.
    pub fn name(&self) -> String {
        let first = self.texts.first().map_or_else(String::new, |(t, _)| t.name());
        match self.texts.len() {
            0 | 1 => first,
            n => format!("{first} and {} more", n - 1),
        }
    }

    pub fn cells(&self) -> Cells {
        self.dialect.cells()
    }

    /// The column called `name`, which the key asks for.
    pub fn column(&self, key: &'static str, name: &str) -> Result<usize, LoadError> {
        self.names.iter().position(|n| n == name).ok_or_else(|| {
            let error = TableError::NoColumn { file: self.name(), column: name.into(), known: list(&self.names) };
            LoadError { key, error: error.into() }
        })
    }

    /// Columns whose names are separated by commas; a name may hold a comma itself if it stands alone.
    pub fn several(&self, key: &'static str, names: &str) -> Result<Vec<usize>, LoadError> {
        if let Some(whole) = self.names.iter().position(|n| n == names.trim()) {
            return Ok(vec![whole]);
        }
        let mut found = Vec::new();
        for name in names.split(',') {
            let number = self.column(key, name.trim())?;
            if !found.contains(&number) {
                found.push(number);
            }
        }
        Ok(found)
    }

    /// Calls `visit` with each row of each file.
    pub fn each_row(&self, mut visit: impl FnMut(&Row) -> Result<(), DataError>) -> Result<(), DataError> {
        let mut number = 0;
        for (text, part) in &self.texts {
            let name = text.name();
            let mut records = Records::open(text, self.dialect.delimiter as u8)?;
            let order = match records.next()? {
                Some(first) => self.order_of(&name, &header(first, &self.dialect))?,
                None => return Err(DataError::Empty { data: name }),
            };
            if !self.dialect.header {
                // The first record is a row, too.
                records = Records::open(text, self.dialect.delimiter as u8)?;
            }
            let before = number;
            while records.advance()? {
                let place = Place { file: &name, line: records.line() };
                visit(&Row { number, part: *part, place, record: records.record(), order: &order })?;
                number += 1;
            }
            if number == before {
                return Err(TableError::HeaderOnly { file: name }.into());
            }
        }
        Ok(())
    }

    /// Where a file with the columns `found` has those of the table.
    fn order_of(&self, file: &str, found: &[String]) -> Result<Vec<Option<usize>>, DataError> {
        let place = |(i, name): (usize, &String)| match found.iter().position(|f| f == name) {
            None if i < self.needed => {
                Err(TableError::NoColumn { file: file.into(), column: name.clone(), known: list(found) }.into())
            }
            at => Ok(at),
        };
        self.names.iter().enumerate().map(place).collect()
    }
}

/// Names for a message, the first twenty of them.
pub(crate) fn list(names: &[String]) -> String {
    let shown = names[..names.len().min(20)].join(", ");
    match names.len() {
        0..=20 => shown,
        more => format!("{shown}, and {} more", more - 20),
    }
}
