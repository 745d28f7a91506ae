//! What each column of a table is used for.

use std::collections::BTreeMap;

use super::error::TableError;
use super::profile::{ColumnProfile, Holds, Odd};
use super::rows::Table;
use super::settings::{Categories, ColumnType, CsvFiles, TableTask};
use super::{DateOrder, cell::Cells};
use crate::{DataError, LoadError, LoadOptions};

/// The columns by their use, as far as the names say it.
pub(super) struct Uses {
    /// Columns that the network may read.
    pub inputs: Vec<usize>,
    /// Columns of the target; none for an autoencoder.
    pub targets: Vec<usize>,
    /// The column that names the part of a row.
    pub part: Option<usize>,
    /// The column that gives the time of a row.
    pub time: Option<usize>,
}

impl Uses {
    /// Finds the columns that settings and options name.
    pub fn find(settings: &CsvFiles, options: &LoadOptions, table: &Table<'_>) -> Result<Self, LoadError> {
        let number = |key: &'static str, name: &str| table.column(key, name);
        let excluded = settings.exclude.iter().map(|n| number("exclude", n)).collect::<Result<Vec<_>, _>>()?;
        settings.types.keys().try_for_each(|n| number("types", n).map(drop))?;
        let one = |key, name: &Option<String>| name.as_deref().map(|n| number(key, n)).transpose();
        let part = one("split_column", &settings.split_column)?;
        let time = one("split_by", &settings.split_by)?;
        let targets = match options.target {
            Some("input") if !table.names.iter().any(|n| n == "input") => Vec::new(),
            Some(names) => table.several("target", names)?,
            None => (0..table.names.len()).rev().find(|i| !excluded.contains(i) && Some(*i) != part).into_iter().collect(),
        };
        let uses = |i: &usize| targets.contains(i) || excluded.contains(i) || Some(*i) == part;
        let inputs = match options.input {
            Some(names) => table.several("input", names)?,
            None => (0..table.names.len()).filter(|i| !uses(i)).collect(),
        };
        if let Some(both) = inputs.iter().find(|i| targets.contains(i)) {
            return Err(two_uses("input", table, *both, "an input", "the target"));
        }
        if let Some(both) = targets.iter().find(|i| excluded.contains(i)) {
            return Err(two_uses("exclude", table, *both, "the target", "excluded"));
        }
        Ok(Self { inputs, targets, part, time })
    }
}

fn two_uses(key: &'static str, table: &Table<'_>, column: usize, first: &'static str, second: &'static str) -> LoadError {
    LoadError { key, error: TableError::TwoUses { column: table.names[column].clone(), first, second }.into() }
}

/// How a column is to be encoded, before anything is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Treatment {
    Number,
    Boolean,
    Date {
        order: DateOrder,
        clock: bool,
    },
    /// One number per category, at most so many.
    OneHot {
        most: usize,
    },
    Codes,
}

/// Categories of a column that get a number each unless all are asked for.
pub(super) const MOST_CATEGORIES: usize = 64;

/// How each input is treated, those of codes first; and what a person should know of them.
pub(super) fn treatments(
    settings: &CsvFiles,
    columns: &[ColumnProfile],
    inputs: &[usize],
    findings: &mut Vec<String>,
) -> Vec<(usize, Treatment)> {
    let mut treated = Vec::new();
    for &i in inputs {
        let column = &columns[i];
        let wanted = settings.types.get(&column.name).copied();
        match treatment(column, wanted, settings.categories) {
            Some(treatment) => treated.push((i, treatment)),
            None => findings.push(format!(
                "column {:?} is left out: it is {}; data.types.{} = \"category\" takes it all the same",
                column.name,
                column.holds.describe(),
                column.name
            )),
        }
        if wanted.is_none() {
            findings.extend(doubts(column));
        }
    }
    // A stable sort: codes first, else in the order of the table.
    treated.sort_by_key(|(_, treatment)| *treatment != Treatment::Codes);
    treated
}

fn treatment(column: &ColumnProfile, wanted: Option<ColumnType>, categories: Categories) -> Option<Treatment> {
    let category = match categories {
        Categories::Auto => Treatment::OneHot { most: MOST_CATEGORIES },
        Categories::OneHot => Treatment::OneHot { most: usize::MAX },
        Categories::Codes => Treatment::Codes,
    };
    let date = Treatment::Date { order: column.dates.unwrap_or(DateOrder::YearFirst), clock: column.clock };
    match (wanted, column.holds) {
        (Some(ColumnType::Number), _) | (None, Holds::Number) => Some(Treatment::Number),
        (Some(ColumnType::Boolean), _) | (None, Holds::Boolean) => Some(Treatment::Boolean),
        (Some(ColumnType::Date), _) | (None, Holds::Date) => Some(date),
        (Some(ColumnType::Category), _) | (None, Holds::Category) => Some(category),
        (Some(ColumnType::OneHot), _) => Some(Treatment::OneHot { most: usize::MAX }),
        (Some(ColumnType::Codes), _) => Some(Treatment::Codes),
        (None, _) => None,
    }
}

/// What may have been taken for something else.
fn doubts(column: &ColumnProfile) -> Option<String> {
    let name = &column.name;
    if column.ambiguous {
        return Some(format!("the dates of column {name:?} are read as day before month; no date in it tells which it is"));
    }
    let words = column.holds != Holds::Number && column.holds != Holds::Boolean && column.holds != Holds::Date;
    match &column.odd {
        // Mostly numbers, and a few that are not.
        Some(Odd { file, line, value, count }) if words && column.mostly_numbers => Some(format!(
            "column {name:?} is not taken as numbers because of {count} values, the first {value:?} in {file}, line {line}; \
             add them to data.missing if they stand for nothing"
        )),
        _ => None,
    }
}

/// What the target is.
pub(super) enum Target {
    /// The network's input.
    Input,
    /// A class, with the classes in order.
    Class(Vec<String>),
    /// As many numbers as there are columns.
    Numbers,
}

/// Finds what the target is; `counts` are the different values of its first column.
pub(super) fn target(
    settings: &CsvFiles,
    table: &Table<'_>,
    columns: &[ColumnProfile],
    targets: &[usize],
    rows: u64,
    counts: &BTreeMap<String, u64>,
) -> Result<Target, LoadError> {
    let data = table.name();
    for &i in targets {
        if columns[i].holds == Holds::Empty {
            return Err(at_target(TableError::TargetMissing { data, column: columns[i].name.clone(), rows }));
        }
    }
    let column = match targets {
        [] => return Ok(Target::Input),
        [one] => &columns[*one],
        several => {
            let other = several.iter().map(|i| &columns[*i]).find(|c| c.odd.is_some());
            let Some(other) = other else { return Ok(Target::Numbers) };
            let (column, found) = (other.name.clone(), other.holds.describe());
            return Err(at_target(TableError::SeveralTargets { data, columns: several.len(), column, found }));
        }
    };
    let as_number = match (settings.task, settings.types.get(&column.name)) {
        (TableTask::Regression, _) | (TableTask::Auto, Some(ColumnType::Number)) => true,
        (TableTask::Classification, _) | (TableTask::Auto, Some(_)) => false,
        (TableTask::Auto, None) => column.odd.is_none() && column.holds != Holds::Constant && !looks_like_classes(column, rows),
    };
    if as_number {
        return match &column.odd {
            None => Ok(Target::Numbers),
            Some(Odd { file, line, value, .. }) => {
                let remedy = "; for a class take task = \"classification\"".into();
                let (file, column, value, needed) = (file.clone(), column.name.clone(), value.clone(), "a number");
                Err(at_target(TableError::Value { file, line: *line, column, value, needed, remedy }))
            }
        };
    }
    let classes = in_order(counts, &table.cells());
    let present = (rows - column.missing) as usize;
    let column = column.name.clone();
    match classes.as_slice() {
        [class] => Err(at_target(TableError::OneClass { data, column, class: class.clone() })),
        many if many.len() > 20 && many.len() * 2 > present => {
            Err(at_target(TableError::ManyClasses { data, column, classes: many.len(), rows: present }))
        }
        _ => Ok(Target::Class(classes)),
    }
}

fn at_target(error: TableError) -> LoadError {
    LoadError::at("target")(error.into())
}

/// Most classes that numbers are taken for.
const MOST_NUMBERED_CLASSES: usize = 20;

/// Whole numbers without a gap that begin at 0 or 1, each in five rows on average.
fn looks_like_classes(column: &ColumnProfile, rows: u64) -> bool {
    let Some((min, max)) = column.range else { return false };
    let present = rows - column.missing;
    let gapless = max - min + 1.0 == column.distinct as f64;
    column.whole
        && (min == 0.0 || min == 1.0)
        && gapless
        && column.distinct <= MOST_NUMBERED_CLASSES
        && column.distinct as u64 * 5 <= present
}

/// Classes as people list them: numbers by size, words by the alphabet.
fn in_order(counts: &BTreeMap<String, u64>, cells: &Cells) -> Vec<String> {
    let mut classes: Vec<String> = counts.keys().cloned().collect();
    let numbers: Option<Vec<f64>> = classes.iter().map(|c| cells.number(c)).collect();
    if let Some(numbers) = numbers {
        let mut both: Vec<(f64, String)> = numbers.into_iter().zip(classes).collect();
        both.sort_by(|a, b| a.0.total_cmp(&b.0));
        classes = both.into_iter().map(|(_, c)| c).collect();
    }
    classes
}

/// Checks settings that exclude one another.
pub(super) fn check(settings: &CsvFiles) -> Result<(), LoadError> {
    let files = settings.test_path.is_some() || settings.validation_path.is_some();
    let pairs = [
        (settings.split_column.is_some(), files, "split_column", "files of their own for parts"),
        (settings.split_column.is_some(), settings.split_by.is_some(), "split_column", "split_by"),
    ];
    match pairs.into_iter().find(|(one, other, ..)| *one && *other) {
        Some((.., first, second)) => {
            Err(LoadError { key: first, error: DataError::from(TableError::Exclusive { first, second }) })
        }
        None => Ok(()),
    }
}
