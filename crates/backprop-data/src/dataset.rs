//! The interface every data set has, and the selection of rows from one.

use std::sync::Arc;

use crate::{Column, DataError, Scale};

/// Rows of typed columns that can be read in any order.
///
/// Filling is positional and takes `&self`, so several threads may fill batches of one data set at
/// once, and a batch depends on nothing but the rows asked for.
pub trait Dataset: Send + Sync {
    /// What the data set is called in messages.
    fn name(&self) -> &str;

    /// Number of rows (samples).
    fn len(&self) -> usize;

    /// The columns; their positions are the numbers that the fill methods take.
    fn columns(&self) -> &[Column];

    /// Writes `rows` of a column to `out`, one sample after the other, as
    /// `(value − shift) · factor` by `scale`. `out` holds `rows.len() · elements` values.
    /// Allocates nothing.
    ///
    /// # Errors
    /// Unknown column or row, a buffer of another length, a scale that does not fit the shape, or
    /// (for data that are not in memory) what reading them gave.
    fn fill_f32(&self, column: usize, rows: &[usize], scale: &Scale, out: &mut [f32]) -> Result<(), DataError>;

    /// Writes `rows` of a column of whole numbers (labels, tokens, bytes) to `out`, one sample
    /// after the other. Allocates nothing.
    ///
    /// # Errors
    /// As [`fill_f32`](Dataset::fill_f32), and a column of real numbers.
    fn fill_i32(&self, column: usize, rows: &[usize], out: &mut [i32]) -> Result<(), DataError>;

    /// Whether filling is nothing but copying and scaling values that are in memory.
    fn in_memory(&self) -> bool {
        false
    }

    /// Whether there are no rows.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of the column called `name`.
    ///
    /// # Errors
    /// There is none; the message lists those there are.
    fn column(&self, name: &str) -> Result<usize, DataError> {
        let columns = self.columns();
        columns.iter().position(|c| c.name == name).ok_or_else(|| DataError::NoColumn {
            data: self.name().into(),
            column: name.into(),
            known: column_names(columns),
        })
    }
}

/// Names for a message: `image, label`.
pub(crate) fn column_names(columns: &[Column]) -> String {
    let names: Vec<&str> = columns.iter().map(|c| c.name.as_str()).collect();
    names.join(", ")
}

/// Some rows of another data set, in a given order, without copying them.
#[derive(Clone)]
pub struct Subset {
    base: Arc<dyn Dataset>,
    rows: Arc<[u32]>,
}

/// Row numbers are translated in runs of this many, on the stack.
const RUN: usize = 64;

impl Subset {
    /// Selects `rows` of `base`; a row may occur several times.
    ///
    /// # Errors
    /// A row that `base` does not have.
    pub fn new(base: Arc<dyn Dataset>, rows: Vec<u32>) -> Result<Self, DataError> {
        let len = base.len();
        if let Some(&row) = rows.iter().find(|&&r| r as usize >= len) {
            return Err(no_row(base.name(), row as usize, len));
        }
        let rows = rows.into();
        Ok(Self { base, rows })
    }

    /// The rows of the base data set, in this data set's order.
    pub fn rows(&self) -> &[u32] {
        &self.rows
    }

    /// Calls `fill` with runs of translated rows and the matching pieces of `out`.
    fn in_runs<T>(
        &self,
        column: usize,
        rows: &[usize],
        out: &mut [T],
        mut fill: impl FnMut(&[usize], &mut [T]) -> Result<(), DataError>,
    ) -> Result<(), DataError> {
        let elements = checked_elements(self, column, rows.len(), out.len())?;
        let mut translated = [0_usize; RUN];
        for (run, piece) in rows.chunks(RUN).zip(out.chunks_mut(RUN * elements)) {
            for (to, &row) in translated.iter_mut().zip(run) {
                let base_row = self.rows.get(row);
                *to = *base_row.ok_or_else(|| no_row(self.name(), row, self.len()))? as usize;
            }
            fill(&translated[..run.len()], piece)?;
        }
        Ok(())
    }
}

impl Dataset for Subset {
    fn name(&self) -> &str {
        self.base.name()
    }

    fn len(&self) -> usize {
        self.rows.len()
    }

    fn columns(&self) -> &[Column] {
        self.base.columns()
    }

    fn in_memory(&self) -> bool {
        self.base.in_memory()
    }

    fn fill_f32(&self, column: usize, rows: &[usize], scale: &Scale, out: &mut [f32]) -> Result<(), DataError> {
        self.in_runs(column, rows, out, |run, piece| self.base.fill_f32(column, run, scale, piece))
    }

    fn fill_i32(&self, column: usize, rows: &[usize], out: &mut [i32]) -> Result<(), DataError> {
        self.in_runs(column, rows, out, |run, piece| self.base.fill_i32(column, run, piece))
    }
}

pub(crate) fn no_row(data: &str, row: usize, rows: usize) -> DataError {
    let data = data.into();
    DataError::NoRow { data, row, rows }
}

/// Elements per sample of `column`, after checking that it exists and that the buffer fits.
pub(crate) fn checked_elements(data: &dyn Dataset, column: usize, rows: usize, buffer: usize) -> Result<usize, DataError> {
    let columns = data.columns();
    let info = columns.get(column).ok_or_else(|| DataError::NoColumn {
        data: data.name().into(),
        column: format!("number {column}"),
        known: column_names(columns),
    })?;
    let elements = info.elements();
    let expected = elements.saturating_mul(rows);
    if expected != buffer {
        return Err(DataError::Buffer { data: data.name().into(), column: info.name.clone(), expected, found: buffer });
    }
    Ok(elements)
}
