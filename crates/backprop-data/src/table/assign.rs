//! Which row of a table belongs to which part.

use std::sync::Arc;

use super::cell;
use super::error::TableError;
use super::plan::{Target, Uses};
use super::rows::{Part, Row, Table, shortened};
use super::settings::CsvFiles;
use crate::{Classes, Column, DataError, Dataset, InMemory, Kind, LoadError, LoadOptions, Parts, Role, split};

/// What the split of the rows needs to know of each.
pub(super) struct Keys {
    /// The part by file or column; [`Part::Out`] without a target.
    pub parts: Vec<Part>,
    /// The class of each row; empty without classes.
    pub labels: Vec<i32>,
    /// Time of each row; empty unless the split is by time.
    times: Vec<f64>,
}

/// Reads part, class and time of each row.
pub(super) fn read_keys(
    table: &Table<'_>,
    uses: &Uses,
    target: &Target,
    time: impl Fn(&Row) -> Result<f64, DataError>,
) -> Result<Keys, DataError> {
    let cells = table.cells();
    let mut keys = Keys { parts: Vec::new(), labels: Vec::new(), times: Vec::new() };
    let numbers: std::collections::HashMap<&str, i32> = match target {
        Target::Class(classes) => classes.iter().zip(0..).map(|(c, i)| (c.as_str(), i)).collect(),
        _ => Default::default(),
    };
    table.each_row(|row| {
        let missing = uses.targets.iter().any(|i| cells.value(row.field(*i)).is_none());
        let part = match uses.part {
            _ if missing => Part::Out,
            Some(column) => named_part(row, &table.names[column], row.field(column))?,
            None => row.part,
        };
        keys.parts.push(part);
        if let (Target::Class(_), [column]) = (target, uses.targets.as_slice()) {
            let class = cells.value(row.field(*column)).and_then(|v| numbers.get(v));
            keys.labels.push(class.copied().unwrap_or(0));
        }
        if uses.time.is_some() {
            keys.times.push(if missing { 0.0 } else { time(row)? });
        }
        Ok(())
    })?;
    Ok(keys)
}

fn named_part(row: &Row, column: &str, value: &str) -> Result<Part, DataError> {
    let word = value.trim().to_ascii_lowercase();
    match word.as_str() {
        "train" | "training" => Ok(Part::Train),
        "validation" | "valid" | "val" | "dev" => Ok(Part::Validation),
        "test" | "testing" => Ok(Part::Test),
        _ => {
            let (file, line) = (row.place.file.to_owned(), row.place.line);
            Err(TableError::PartName { file, line, column: column.into(), value: shortened(value) }.into())
        }
    }
}

/// The time of a row by a column of dates or numbers.
pub(super) fn time(
    row: &Row,
    column: usize,
    name: &str,
    cells: &cell::Cells,
    order: Option<super::DateOrder>,
) -> Result<f64, DataError> {
    let field = row.field(column);
    let value = cells.value(field);
    let parsed = value.and_then(|v| order.map_or_else(|| cells.number(v), |o| cell::date(v, o)));
    parsed.ok_or_else(|| row.place.value_error(name, field, "a date or number, which data.split_by needs", ""))
}

impl Keys {
    /// Splits shares off the training part where no file and no column say the parts.
    pub fn split(&mut self, settings: &CsvFiles, options: &LoadOptions, name: &str) -> Result<(), LoadError> {
        let mut rows: Vec<usize> = (0..self.parts.len()).filter(|i| self.parts[*i] == Part::Train).collect();
        if rows.is_empty() {
            return Err(TableError::NoTraining { data: name.into() }.into());
        }
        let by_time = !self.times.is_empty();
        if by_time {
            rows.sort_by(|a, b| self.times[*a].total_cmp(&self.times[*b]));
        }
        let data = self.labelled(&rows, name)?;
        let mut parts = if by_time { Parts::in_order(data, 0) } else { Parts::shuffled(data) };
        if !self.parts.contains(&Part::Test) && settings.split_column.is_none() {
            parts = parts.with_test(settings.test, split::TEST_SEED).map_err(LoadError::at("test"))?;
        }
        if !self.parts.contains(&Part::Validation) {
            parts = parts.with_validation(options.validation, options.seed).map_err(LoadError::at("validation"))?;
        }
        for (part, data) in [(Part::Validation, parts.validation), (Part::Test, parts.test)] {
            for row in data.iter().map(|d| row_numbers(d.as_ref())).collect::<Result<Vec<_>, _>>()?.concat() {
                self.parts[row as u32 as usize] = part;
            }
        }
        Ok(())
    }

    /// The rows with their classes as a data set, which the split is asked of.
    fn labelled(&self, rows: &[usize], name: &str) -> Result<Arc<dyn Dataset>, DataError> {
        let numbers: Result<Vec<i32>, _> = rows.iter().map(|r| u32::try_from(*r).map(|r| r as i32)).collect();
        let too_many = |_| DataError::TooManyRows { data: name.into(), rows: self.parts.len() };
        let row = Column { kind: Kind::Number, role: Role::Input, name: "row".into(), shape: Vec::new() };
        let data = InMemory::new(name).with_column(row, numbers.map_err(too_many)?)?;
        let Some(most) = self.labels.iter().max() else { return Ok(Arc::new(data)) };
        let labels: Vec<i32> = rows.iter().map(|r| self.labels[*r]).collect();
        let label = Column::label("class", Classes::numbered(*most as usize + 1));
        Ok(Arc::new(data.with_column(label, labels)?))
    }
}

fn row_numbers(data: &dyn Dataset) -> Result<Vec<i32>, DataError> {
    let mut numbers = vec![0; data.len()];
    data.fill_i32(0, &(0..data.len()).collect::<Vec<_>>(), &mut numbers)?;
    Ok(numbers)
}
