//! What is measured on the training part of a table.

use std::collections::BTreeMap;

use super::assign::Keys;
use super::cell::{self, Cells};
use super::plan::Treatment;
use super::rows::{Part, Table};
use crate::coding::{ColumnCoding, Encoding, Measure, as_number};
use crate::{DataError, Normalise};

/// Measures how each column is encoded, on the rows of the training part.
pub(super) fn fit(
    table: &Table<'_>,
    keys: &Keys,
    treated: &[(usize, Treatment)],
    how: Normalise,
    findings: &mut Vec<String>,
) -> Result<Vec<ColumnCoding>, DataError> {
    let cells = table.cells();
    let mut gathered: Vec<Gather> = treated.iter().map(|_| Gather::default()).collect();
    table.each_row(|row| {
        if keys.parts[row.number] == Part::Train {
            for (gather, (i, treatment)) in gathered.iter_mut().zip(treated) {
                gather.add(cells.value(row.field(*i)), *treatment, &cells);
            }
        }
        Ok(())
    })?;
    let coding = |(gather, (i, treatment)): (Gather, &(usize, Treatment))| {
        let name = table.names[*i].clone();
        let encoding = gather.finish(*treatment, how, &name, findings);
        ColumnCoding { name, encoding }
    };
    Ok(gathered.into_iter().zip(treated).map(coding).collect())
}

/// Mean and spread of numbers by Welford's method (1962), one after the other in f64: the order of the rows is given, so the bits are.
#[derive(Clone, Copy, Default)]
pub(crate) struct Moments {
    count: u64,
    mean: f64,
    squares: f64,
    min: f64,
    max: f64,
}

impl Moments {
    pub fn add(&mut self, x: f64) {
        if self.count == 0 {
            (self.min, self.max) = (x, x);
        }
        self.count += 1;
        let before = x - self.mean;
        self.mean += before / self.count as f64;
        self.squares += before * (x - self.mean);
        (self.min, self.max) = (self.min.min(x), self.max.max(x));
    }

    /// How numbers like these are scaled, each column for itself. A column without spread becomes 0.
    pub fn measure(&self, how: Normalise, indicator: bool) -> Measure {
        let (shift, spread) = match how {
            Normalise::None => (0.0, 1.0),
            Normalise::Range => (self.min, self.max - self.min),
            Normalise::Global | Normalise::Channel | Normalise::Feature => {
                (self.mean, if self.max > self.min { (self.squares / self.count as f64).sqrt() } else { 0.0 })
            }
        };
        let factor = (1.0 / spread) as f32;
        let factor = if factor.is_finite() { factor } else { 1.0 };
        Measure { shift: shift as f32, factor, mean: self.mean as f32, indicator }
    }
}

#[derive(Default)]
struct Gather {
    missing: u64,
    moments: Moments,
    words: BTreeMap<String, u64>,
}

impl Gather {
    fn add(&mut self, value: Option<&str>, treatment: Treatment, cells: &Cells) {
        let Some(value) = value else {
            self.missing += 1;
            return;
        };
        // What does not fit its column is an error when the row is encoded, which names the place.
        let number = match treatment {
            Treatment::Number => cells.number(value),
            Treatment::Boolean => as_number(value),
            Treatment::Date { order, .. } => cell::date(value, order),
            Treatment::OneHot { .. } | Treatment::Codes => {
                match self.words.get_mut(value) {
                    Some(count) => *count += 1,
                    None => drop(self.words.insert(value.to_owned(), 1)),
                }
                None
            }
        };
        if let Some(number) = number {
            self.moments.add(number);
        }
    }

    fn finish(self, treatment: Treatment, how: Normalise, name: &str, findings: &mut Vec<String>) -> Encoding {
        let missing = self.missing > 0;
        match treatment {
            Treatment::Number => Encoding::Number(self.moments.measure(how, missing)),
            Treatment::Boolean => Encoding::Boolean(self.moments.measure(how, missing)),
            // Seconds since 1970 are of no use to a network as they are.
            Treatment::Date { order, clock } => {
                Encoding::Date { order, clock, measure: self.moments.measure(Normalise::Feature, missing) }
            }
            Treatment::OneHot { most } => {
                let all = self.words.len();
                let categories = most_frequent(self.words, most);
                let other = categories.len() < all;
                if other {
                    findings.push(format!(
                        "column {name:?} has {all} categories; the {} most frequent are told apart, the others count as one: \
                         data.categories = \"codes\" with a layer columns_embedding, or \"one-hot\", keeps all",
                        categories.len()
                    ));
                }
                Encoding::OneHot { categories, other, missing }
            }
            Treatment::Codes => Encoding::Codes { categories: self.words.into_keys().collect(), missing },
        }
    }
}

/// The most frequent words, sorted; of equally frequent ones the first by the alphabet.
fn most_frequent(words: BTreeMap<String, u64>, most: usize) -> Vec<String> {
    if words.len() <= most {
        return words.into_keys().collect();
    }
    let mut by_count: Vec<(String, u64)> = words.into_iter().collect();
    by_count.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    // One number of the most goes to the others.
    by_count.truncate(most.saturating_sub(1));
    let mut kept: Vec<String> = by_count.into_iter().map(|(word, _)| word).collect();
    kept.sort();
    kept
}
