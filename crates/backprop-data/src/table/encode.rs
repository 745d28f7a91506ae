//! Encoding every row of a table by what was measured, into memory or into a temporary file.

use std::sync::Arc;

use super::assign::Keys;
use super::error::TableError;
use super::plan::{Target, Uses};
use super::rows::{Part, Row, Table};
use super::settings::CsvFiles;
use crate::coding::{Encoding, TableCoding};
use crate::on_disk::{Element, ElementType, RecordWriter};
use crate::{
    Classes, Column, DataError, Dataset, InMemory, LoadError, LoadOptions, Normalise, NormaliseTarget, OnDisk, Parts, Scale,
    Subset,
};

/// All that encoding needs.
pub(super) struct Encoder<'e> {
    pub settings: &'e CsvFiles,
    pub options: &'e LoadOptions<'e>,
    pub table: &'e Table<'e>,
    pub keys: &'e Keys,
    pub coding: &'e TableCoding,
    /// Where the table has the columns of the coding.
    pub inputs: &'e [usize],
}

/// The encoded table.
pub(super) struct Encoded {
    pub parts: Parts,
    pub target_scale: Scale,
    pub log: bool,
}

impl Encoder<'_> {
    pub fn run(&self, uses: &Uses, target: &Target) -> Result<Encoded, LoadError> {
        let log = self.options.normalize_target == NormaliseTarget::Log;
        if log && !matches!(target, Target::Numbers) {
            let error = DataError::LogTarget { data: self.table.name() };
            return Err(LoadError { key: "normalize_target", error });
        }
        let (inputs, numbers) = self.encode(uses, target, log).map_err(LoadError::at("path"))?;
        let data = self.dataset(inputs, target, numbers, uses)?;
        let parts = self.parts(&data)?;
        let target_scale = match (target, self.options.normalize_target) {
            (Target::Numbers, NormaliseTarget::Auto | NormaliseTarget::Standard | NormaliseTarget::Log) => {
                Scale::fit(parts.train.as_ref(), 1, Normalise::Channel)?
            }
            _ => Scale::identity(),
        };
        Ok(Encoded { parts, target_scale, log })
    }

    /// Encodes the rows that have a target; gives them and the targets that are numbers.
    fn encode(&self, uses: &Uses, target: &Target, log: bool) -> Result<(Inputs, Vec<f32>), DataError> {
        let rows = self.keys.parts.iter().filter(|p| **p != Part::Out).count();
        let width = self.coding.width();
        let mut inputs = Inputs::new(self.settings, &self.table.name(), rows, width)?;
        let (cells, mut targets, mut values) = (self.table.cells(), Vec::new(), Vec::with_capacity(width));
        self.table.each_row(|row| {
            if self.keys.parts[row.number] == Part::Out {
                return Ok(());
            }
            values.clear();
            for (column, i) in self.coding.columns.iter().zip(self.inputs) {
                column.push(row.field(*i), &cells, row.place, &mut values)?;
            }
            inputs.push(&values)?;
            if matches!(target, Target::Numbers) {
                for &i in &uses.targets {
                    targets.push(self.number(row, i, log)?);
                }
            }
            Ok(())
        })?;
        Ok((inputs, targets))
    }

    /// The target of a row in column `i`, or its logarithm.
    fn number(&self, row: &Row, i: usize, log: bool) -> Result<f32, DataError> {
        let (name, field) = (&self.table.names[i], row.field(i));
        let number = self.table.cells().number(field.trim());
        let number = number.ok_or_else(|| row.place.value_error(name, field, "a number", ""))?;
        if log && number <= 0.0 {
            let (file, line) = (row.place.file.to_owned(), row.place.line);
            return Err(TableError::LogOf { file, line, column: name.clone(), value: number }.into());
        }
        let number = if log { number.ln() } else { number } as f32;
        match number.is_finite() {
            true => Ok(number),
            false => Err(row.place.value_error(name, field, "a number of usual size", "")),
        }
    }

    fn dataset(&self, inputs: Inputs, target: &Target, numbers: Vec<f32>, uses: &Uses) -> Result<Arc<dyn Dataset>, DataError> {
        let name = self.table.name();
        let target_name = uses.targets.first().map_or("target", |i| &self.table.names[*i]);
        // Two columns of a data set cannot have one name.
        let target_name = if target_name == "input" { "target" } else { target_name };
        let target = match target {
            Target::Input => None,
            Target::Class(classes) => {
                let rows = self.keys.parts.iter().zip(&self.keys.labels).filter(|(p, _)| **p != Part::Out);
                let labels: Vec<i32> = rows.map(|(_, label)| *label).collect();
                Some((Column::label(target_name, Classes::named(classes.clone())), Numbers::Whole(labels)))
            }
            Target::Numbers => Some((Column::target(target_name, &[uses.targets.len()]), Numbers::Real(numbers))),
        };
        let input = Column::input("input", &[self.coding.width()]);
        match inputs {
            Inputs::Memory(values) => {
                let data = InMemory::new(name).with_column(input, values)?;
                Ok(Arc::new(match target {
                    Some((column, Numbers::Whole(labels))) => data.with_column(column, labels)?,
                    Some((column, Numbers::Real(numbers))) => data.with_column(column, numbers)?,
                    None => data,
                }))
            }
            Inputs::Disk(writer, _) => {
                let data = OnDisk::new(&name).with_column(input, Arc::new(writer.finish()?), little(ElementType::F32))?;
                Ok(Arc::new(match target {
                    Some((column, numbers)) => numbers.add_to(data, column, &name)?,
                    None => data,
                }))
            }
        }
    }

    fn parts(&self, data: &Arc<dyn Dataset>) -> Result<Parts, DataError> {
        let of = |wanted| {
            let encoded = self.keys.parts.iter().filter(|p| **p != Part::Out).zip(0_u32..);
            let rows: Vec<u32> = encoded.filter(|(part, _)| **part == wanted).map(|(_, row)| row).collect();
            let some = !rows.is_empty();
            Subset::new(Arc::clone(data), rows).map(|s| some.then(|| Arc::new(s) as Arc<dyn Dataset>))
        };
        let train = of(Part::Train)?.ok_or_else(|| TableError::NoTraining { data: self.table.name() })?;
        let mut parts = Parts::shuffled(train);
        (parts.validation, parts.test) = (of(Part::Validation)?, of(Part::Test)?);
        Ok(parts)
    }
}

/// Encoded inputs on their way.
enum Inputs {
    Memory(Vec<f32>),
    Disk(RecordWriter, Vec<u8>),
}

impl Inputs {
    fn new(settings: &CsvFiles, name: &str, rows: usize, width: usize) -> Result<Self, DataError> {
        let size = width * size_of::<f32>();
        match settings.stream.applies_to((rows as u64).saturating_mul(size as u64)) {
            true => Ok(Inputs::Disk(RecordWriter::in_folder(name, size, settings.spill.as_deref())?, Vec::with_capacity(size))),
            false => Ok(Inputs::Memory(Vec::with_capacity(rows.saturating_mul(width)))),
        }
    }

    fn push(&mut self, values: &[f32]) -> Result<(), DataError> {
        match self {
            Inputs::Memory(all) => all.extend_from_slice(values),
            Inputs::Disk(writer, record) => {
                record.clear();
                record.extend(values.iter().flat_map(|v| v.to_le_bytes()));
                writer.push(record)?;
            }
        }
        Ok(())
    }
}

/// Targets, which stay in memory: a few bytes for each row.
enum Numbers {
    Whole(Vec<i32>),
    Real(Vec<f32>),
}

impl Numbers {
    fn add_to(self, data: OnDisk, column: Column, name: &str) -> Result<OnDisk, DataError> {
        let size = column.elements() * 4;
        let (bytes, ty): (Vec<u8>, _) = match self {
            Numbers::Whole(v) => (v.iter().flat_map(|v| v.to_le_bytes()).collect(), ElementType::I32),
            Numbers::Real(v) => (v.iter().flat_map(|v| v.to_le_bytes()).collect(), ElementType::F32),
        };
        let mut writer = RecordWriter::in_memory(name, size);
        bytes.chunks_exact(size).try_for_each(|record| writer.push(record))?;
        data.with_column(column, Arc::new(writer.finish()?), little(ty))
    }
}

fn little(ty: ElementType) -> Element {
    Element { ty, big_endian: false }
}

/// Which columns the network reads, and as what.
pub(super) fn summary(coding: &TableCoding) -> String {
    let column = |c: &crate::coding::ColumnCoding| {
        let how = match &c.encoding {
            Encoding::Number(_) => "number".into(),
            Encoding::Boolean(_) => "yes or no".into(),
            Encoding::Date { clock, .. } => if *clock { "date and time" } else { "date" }.into(),
            Encoding::OneHot { categories, .. } => format!("{} categories", categories.len()),
            Encoding::Codes { .. } => format!("{} codes", c.encoding.codes().unwrap_or(0)),
        };
        format!("{} ({how})", c.name)
    };
    let mut columns: Vec<String> = coding.columns.iter().take(20).map(column).collect();
    if coding.columns.len() > columns.len() {
        columns.push(format!("{} more", coding.columns.len() - columns.len()));
    }
    format!("the network reads {} numbers of {}", coding.width(), columns.join(", "))
}

/// Classes that cannot be learned or measured, for lack of rows.
pub(super) fn rare_classes(classes: &[String], keys: &Keys) -> Vec<String> {
    let mut rows = vec![[0_u64; 2]; classes.len()];
    for (part, label) in keys.parts.iter().zip(&keys.labels) {
        let counts = rows.get_mut(*label as usize).filter(|_| *part != Part::Out);
        if let Some([train, all]) = counts {
            *all += 1;
            *train += u64::from(*part == Part::Train);
        }
    }
    let named = |test: &dyn Fn(&[u64; 2]) -> bool| -> Vec<String> {
        classes.iter().zip(&rows).filter(|(_, r)| test(r)).map(|(c, _)| c.clone()).collect()
    };
    let unseen = named(&|[train, all]| *train == 0 && *all > 0);
    let single = named(&|[train, all]| *train > 0 && *all < 3);
    let mut findings = Vec::new();
    if !unseen.is_empty() {
        findings.push(format!("classes that the training part does not have cannot be learned: {}", super::rows::list(&unseen)));
    }
    if !single.is_empty() {
        let list = super::rows::list(&single);
        findings.push(format!("classes of fewer than 3 rows are in no part but training, or barely: {list}"));
    }
    findings
}
