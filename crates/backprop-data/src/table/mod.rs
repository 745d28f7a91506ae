//! Tables in CSV files: how they are written and what their columns hold is found, the parts are split, the coding is measured on
//! the training part, and every row is encoded by it.
//!
//! The files are read several times, front to back, and nothing of them is kept but the encoded rows: a table may be larger than
//! memory. A row of numbers has the columns of codes first (for the layer `columns_embedding`), then all others in the order of the
//! table; [`TableCoding::names`](crate::coding::TableCoding::names) lists them.

mod assign;
pub(crate) mod cell;
pub(crate) mod date;
mod encode;
mod error;
mod fit;
mod plan;
mod profile;
pub(crate) mod read;
pub(crate) mod rows;
mod settings;
mod sniff;

pub use date::DateOrder;
pub use error::TableError;
pub(crate) use fit::Moments;
pub(crate) use profile::gather;
pub use profile::{ColumnProfile, Holds, Profile};
pub(crate) use read::expand;
pub use settings::{Categories, ColumnType, CsvFiles, CsvFormat, Decimal, Paths, TableTask};
pub use sniff::Dialect;

use std::collections::BTreeMap;

use crate::coding::{Coding, InputCoding, TableCoding, TargetCoding};
use crate::{LoadError, LoadOptions, Loaded};
use plan::{Target, Uses};
use rows::{Part, Table};

impl CsvFiles {
    /// Looks at the files: how they are written, what each column holds, what the target is taken as. Reads them once.
    ///
    /// # Errors
    /// Files that are missing or damaged, columns that are not there, a target that is none.
    pub fn profile(&self, options: &LoadOptions) -> Result<Profile, LoadError> {
        let table = self.table(options)?;
        Ok(self.look(&table, options)?.profile(&table))
    }

    /// Reads, splits, measures and encodes the table.
    ///
    /// # Errors
    /// As [`profile`](CsvFiles::profile), and values that do not fit their column, parts without rows.
    pub fn load(&self, options: &LoadOptions) -> Result<Loaded, LoadError> {
        let table = self.table(options)?;
        let look = self.look(&table, options)?;
        let Look { columns, uses, target, .. } = &look;
        let (mut findings, mut left_out) = (look.findings(&table), Vec::new());
        let treated = plan::treatments(self, columns, &uses.inputs, &mut left_out);
        if treated.is_empty() {
            let why = if left_out.is_empty() { String::new() } else { format!(": {}", left_out.join("; ")) };
            return Err(TableError::NoInput { data: table.name(), why }.into());
        }
        findings.append(&mut left_out);
        let cells = table.cells();
        let mut keys = assign::read_keys(&table, uses, target, |row| {
            let column = uses.time.unwrap_or(0);
            assign::time(row, column, &table.names[column], &cells, columns[column].time_order())
        })
        .map_err(LoadError::at("path"))?;
        keys.split(self, options, &table.name())?;
        let columns = fit::fit(&table, &keys, &treated, options.normalize, &mut findings).map_err(LoadError::at("path"))?;
        let coding = TableCoding {
            dialect: table.dialect.clone(),
            columns,
            targets: uses.targets.iter().map(|i| table.names[*i].clone()).collect(),
            numeric_target: !matches!(target, Target::Class(_)),
        };
        findings.push(encode::summary(&coding));
        if let Target::Class(classes) = target {
            findings.extend(encode::rare_classes(classes, &keys));
        }
        let inputs: Vec<usize> = treated.iter().map(|(i, _)| *i).collect();
        let encoder = encode::Encoder { settings: self, options, table: &table, keys: &keys, coding: &coding, inputs: &inputs };
        let encode::Encoded { parts, target_scale, log } = encoder.run(uses, target)?;
        let (input, name) = (0, table.names.get(uses.targets.first().copied().unwrap_or(0)));
        let target_coding = match target {
            Target::Input => TargetCoding::Input,
            Target::Class(classes) => TargetCoding::Class { name: name.cloned().unwrap_or_default(), classes: classes.clone() },
            Target::Numbers => TargetCoding::Number { names: coding.targets.clone(), scale: target_scale.clone(), log },
        };
        Ok(Loaded {
            parts,
            input,
            target: usize::from(!matches!(target, Target::Input)),
            scale: crate::Scale::identity(),
            target_scale,
            coding: Coding::new(InputCoding::Table(coding), target_coding),
            findings,
        })
    }

    fn table(&self, options: &LoadOptions) -> Result<Table<'static>, LoadError> {
        plan::check(self)?;
        let mut texts = Vec::new();
        let parts = [
            ("path", Some(&self.path), Part::Train),
            ("validation_path", self.validation_path.as_ref(), Part::Validation),
            ("test_path", self.test_path.as_ref(), Part::Test),
        ];
        for (key, paths, part) in parts {
            let Some(paths) = paths else { continue };
            let files = read::expand(options.base, paths).map_err(LoadError::at(key))?;
            texts.extend(files.into_iter().map(|text| (text, part)));
        }
        let at = LoadError::at("path");
        let dialect = match texts.first() {
            Some((first, _)) => Dialect::find(first, &self.format()).map_err(&at)?,
            None => return Err(at(TableError::NoFiles.into())),
        };
        Table::open(texts, dialect).map_err(at)
    }

    fn look(&self, table: &Table<'_>, options: &LoadOptions) -> Result<Look, LoadError> {
        let uses = Uses::find(self, options, table)?;
        let profile::Gathered { rows, columns, counts } =
            profile::gather(table, uses.targets.first().copied()).map_err(LoadError::at("path"))?;
        let target = plan::target(self, table, &columns, &uses.targets, rows, &counts)?;
        Ok(Look { rows, columns, uses, target, counts })
    }
}

/// What was found by reading the table once.
struct Look {
    rows: u64,
    columns: Vec<ColumnProfile>,
    uses: Uses,
    target: Target,
    counts: BTreeMap<String, u64>,
}

impl Look {
    fn profile(self, table: &Table<'_>) -> Profile {
        let findings = self.findings(table);
        Profile {
            name: table.name(),
            rows: self.rows,
            delimiter: table.dialect.delimiter,
            header: table.dialect.header,
            decimal_comma: table.dialect.decimal_comma,
            target: self.uses.targets.first().copied().unwrap_or(0),
            classes: if matches!(self.target, Target::Class(_)) { Some(self.counts) } else { None },
            columns: self.columns,
            findings,
        }
    }

    /// What a person should know of the table and its target.
    fn findings(&self, table: &Table<'_>) -> Vec<String> {
        let Dialect { delimiter, header, decimal_comma, .. } = &table.dialect;
        let mut findings = vec![format!(
            "{}: {} rows, {} columns separated by {delimiter:?}{}{}",
            table.name(),
            self.rows,
            table.names.len(),
            if *header { "" } else { ", without a header" },
            if *decimal_comma { ", decimals after a comma" } else { "" },
        )];
        if let [target] = self.uses.targets.as_slice() {
            let column = &self.columns[*target];
            findings.push(match &self.target {
                Target::Class(classes) => format!("the target {:?} is a class of {}", column.name, classes.len()),
                _ => format!("the target {:?} is a quantity", column.name),
            });
            if column.odd.is_none() && column.whole && column.distinct <= 50 {
                let other = if matches!(self.target, Target::Class(_)) { "regression" } else { "classification" };
                if let Some(last) = findings.last_mut() {
                    last.push_str(&format!("; data.task = \"{other}\" takes its numbers the other way"));
                }
            }
        }
        let missing: u64 = self.uses.targets.iter().map(|i| self.columns[*i].missing).max().unwrap_or(0);
        if missing > 0 {
            findings.push(format!("{missing} rows are left out because the target is missing"));
        }
        findings
    }
}
