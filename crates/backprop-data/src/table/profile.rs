//! What the columns of a table hold, found by reading all of it once.

use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use serde::Serialize;

use super::cell::{self, Cells};
use super::date::{DAY, DateOrder};
use super::rows::{Place, Table, shortened};
use crate::DataError;

/// What the values of a column are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Holds {
    /// Numbers.
    Number,
    /// Yes and no.
    Boolean,
    /// Dates, with or without a time of day.
    Date,
    /// Words that occur again and again.
    Category,
    /// The same value in every row.
    Constant,
    /// A different word or the next number in every row.
    Identifier,
    /// Sentences.
    Text,
    /// Nothing: every value is missing.
    Empty,
}

impl Holds {
    /// In the plural, for a sentence.
    pub(crate) fn describe(self) -> &'static str {
        match self {
            Holds::Number => "numbers",
            Holds::Boolean => "yes and no",
            Holds::Date => "dates",
            Holds::Category => "categories",
            Holds::Constant => "the same in every row",
            Holds::Identifier => "different in every row, like an identifier",
            Holds::Text => "free text",
            Holds::Empty => "missing in every row",
        }
    }

    /// Whether a network can learn from it as it is.
    pub fn is_usable(self) -> bool {
        matches!(self, Holds::Number | Holds::Boolean | Holds::Date | Holds::Category)
    }
}

/// What a column holds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ColumnProfile {
    /// Its name.
    pub name: String,
    /// What its values are.
    pub holds: Holds,
    /// Rows in which it is missing.
    pub missing: u64,
    /// Different values, as far as they were counted (a million).
    pub distinct: usize,
    /// Smallest and largest number, if it holds numbers.
    pub range: Option<(f64, f64)>,
    /// Whether all numbers are whole.
    pub whole: bool,
    /// Order in which dates are written, if it holds dates.
    #[serde(skip)]
    pub(crate) dates: Option<DateOrder>,
    /// Whether dates have a time of day.
    #[serde(skip)]
    pub(crate) clock: bool,
    /// The first different values.
    pub examples: Vec<String>,
    /// Values that are no numbers.
    #[serde(skip)]
    pub(crate) odd: Option<Odd>,
    /// Whether nine of ten values are numbers though not all are.
    #[serde(skip)]
    pub(crate) mostly_numbers: bool,
    /// Whether the dates could also be read in another order.
    #[serde(skip)]
    pub(crate) ambiguous: bool,
}

impl ColumnProfile {
    /// How the dates of a column of times are written; `None` for numbers. A column with a time that is neither is taken as its
    /// first value, so that the message names the value at fault.
    pub(crate) fn time_order(&self) -> Option<DateOrder> {
        let first = self.examples.first();
        let of_first = || DateOrder::ALL.into_iter().find(|o| first.is_some_and(|f| cell::date(f, *o).is_some()));
        self.dates.or_else(of_first)
    }
}

/// Values that are not of a type: the first of them with its place, and how many there are.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Odd {
    pub file: String,
    pub line: u64,
    pub value: String,
    pub count: u64,
}

/// What a table holds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Profile {
    /// What the table is called in messages.
    pub name: String,
    /// Rows of all files.
    pub rows: u64,
    /// What stands between fields.
    pub delimiter: char,
    /// Whether the first line names the columns.
    pub header: bool,
    /// Whether a comma stands before the decimals of a number.
    pub decimal_comma: bool,
    /// The columns in their order.
    pub columns: Vec<ColumnProfile>,
    /// The number of the target column.
    pub target: usize,
    /// The classes of the target with their numbers of rows, if it is taken as a class.
    pub classes: Option<BTreeMap<String, u64>>,
    /// What a person should know, one sentence each.
    pub findings: Vec<String>,
}

/// Different values that are counted of a column.
const COUNTED: usize = 1 << 20;

const EXAMPLES: usize = 5;

/// Gathers what one column holds.
#[derive(Default)]
pub(super) struct Gather {
    count: u64,
    missing: u64,
    odd: Option<Odd>,
    not_boolean: bool,
    not_date: [bool; DateOrder::ALL.len()],
    clock: bool,
    range: Option<(f64, f64)>,
    not_whole: bool,
    /// The number before, as long as each was the one before plus one.
    run: Option<f64>,
    broken: bool,
    distinct: HashSet<u64>,
    examples: Vec<String>,
    characters: u64,
    words: u64,
}

impl Gather {
    fn add(&mut self, place: Place, field: &str, cells: &Cells) {
        self.count += 1;
        let Some(value) = cells.value(field) else {
            self.missing += 1;
            self.broken = true;
            return;
        };
        match cells.number(value) {
            Some(number) => self.add_number(number),
            None => {
                self.broken = true;
                let first = || Odd { file: place.file.into(), line: place.line, value: shortened(value), count: 0 };
                self.odd.get_or_insert_with(first).count += 1;
                self.not_boolean = self.not_boolean || cell::boolean(value).is_none();
            }
        }
        if !self.not_date.iter().all(|n| *n) {
            for (not, order) in self.not_date.iter_mut().zip(DateOrder::ALL) {
                let date = if *not { None } else { cell::date(value, order) };
                *not = date.is_none();
                self.clock |= date.is_some_and(|d| d.rem_euclid(DAY) != 0.0);
            }
        }
        self.characters += value.len() as u64;
        self.words += value.split_whitespace().count() as u64;
        let mut hash = DefaultHasher::new();
        value.hash(&mut hash);
        let new = self.distinct.len() < COUNTED && self.distinct.insert(hash.finish());
        if new && self.examples.len() < EXAMPLES {
            self.examples.push(shortened(value));
        }
    }

    fn add_number(&mut self, number: f64) {
        let (min, max) = self.range.unwrap_or((number, number));
        self.range = Some((min.min(number), max.max(number)));
        self.not_whole |= number.fract() != 0.0;
        self.not_boolean = true;
        self.broken |= self.run.is_some_and(|before| before + 1.0 != number);
        self.run = Some(number);
    }

    fn finish(self, name: &str) -> ColumnProfile {
        let dates = DateOrder::ALL.iter().zip(self.not_date).filter(|(_, not)| !not).map(|(order, _)| *order);
        let dates: Vec<DateOrder> = dates.collect();
        let holds = self.holds(name, !dates.is_empty());
        let is_date = holds == Holds::Date;
        ColumnProfile {
            name: name.into(),
            holds,
            missing: self.missing,
            distinct: self.distinct.len(),
            range: if self.odd.is_none() { self.range } else { None },
            whole: !self.not_whole && self.odd.is_none(),
            mostly_numbers: self.odd.as_ref().is_some_and(|o| o.count * 10 <= self.count - self.missing),
            ambiguous: is_date && dates.len() > 1,
            dates: dates.first().copied(),
            clock: self.clock,
            examples: self.examples,
            odd: self.odd,
        }
    }

    fn holds(&self, name: &str, dates: bool) -> Holds {
        let present = self.count - self.missing;
        let distinct = self.distinct.len() as u64;
        let mostly_different = distinct as f64 > 0.9 * present.min(COUNTED as u64) as f64;
        match () {
            () if present == 0 => Holds::Empty,
            () if distinct == 1 && self.missing == 0 && self.count > 1 => Holds::Constant,
            () if self.odd.is_none() && !self.broken && !self.not_whole && present > 2 && names_rows(name) => Holds::Identifier,
            () if self.odd.is_none() => Holds::Number,
            () if !self.not_boolean => Holds::Boolean,
            () if dates => Holds::Date,
            // A few rows say little: words may still occur again.
            () if present <= FEW => Holds::Category,
            () if self.characters > 60 * present && distinct * 2 > present => Holds::Text,
            () if mostly_different && self.words > 3 * present => Holds::Text,
            () if mostly_different => Holds::Identifier,
            () => Holds::Category,
        }
    }
}

/// Rows of which a column of different words may still be categories.
const FEW: u64 = 20;

/// Whether a column of this name may count the rows: numbers are identifiers only if they are called so.
fn names_rows(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    matches!(name.as_str(), "column1" | "id" | "index" | "row" | "row_id" | "rowid" | "rownames" | "no" | "nr")
        || name.starts_with("unnamed")
}

/// What reading a table once gave.
pub(crate) struct Gathered {
    pub rows: u64,
    pub columns: Vec<ColumnProfile>,
    /// Different values of one column, with their numbers of rows.
    pub counts: BTreeMap<String, u64>,
}

/// Reads a table once. Also gives the different values of the column `counted` and their numbers of rows.
pub(crate) fn gather(table: &Table<'_>, counted: Option<usize>) -> Result<Gathered, DataError> {
    let cells = table.cells();
    let mut columns: Vec<Gather> = table.names.iter().map(|_| Gather::default()).collect();
    let (mut rows, mut counts) = (0, BTreeMap::new());
    table.each_row(|row| {
        rows += 1;
        for (i, column) in columns.iter_mut().enumerate() {
            column.add(row.place, row.field(i), &cells);
        }
        if let Some(value) = counted.and_then(|i| cells.value(row.field(i))) {
            if let Some(count) = counts.get_mut(value) {
                *count += 1;
            } else if counts.len() < COUNTED {
                counts.insert(value.to_owned(), 1);
            }
        }
        Ok(())
    })?;
    let columns = columns.into_iter().zip(&table.names).map(|(c, name)| c.finish(name)).collect();
    Ok(Gathered { rows, columns, counts })
}
