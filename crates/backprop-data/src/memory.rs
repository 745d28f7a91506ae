//! Data sets that are wholly in memory.

use std::sync::Arc;

use crate::dataset::{checked_elements, no_row};
use crate::scale::ToF32;
use crate::{Column, DataError, Dataset, Kind, Scale, Values};

/// A data set in memory: columns of equal length, values in their narrow type.
///
/// ```
/// use backprop_data::{Classes, Column, Dataset, InMemory, Scale, Values};
///
/// # fn main() -> Result<(), backprop_data::DataError> {
/// let data = InMemory::new("weather")
///     .with_column(Column::input("measured", &[2]), vec![20.5_f32, 0.3, 11.0, 0.9])?
///     .with_column(Column::label("sky", Classes::named(["clear", "rain"])), vec![0_u8, 1])?;
/// let mut batch = [0.0_f32; 2];
/// data.fill_f32(0, &[1], &Scale::identity(), &mut batch)?;
/// assert_eq!(batch, [11.0, 0.9]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct InMemory {
    name: String,
    rows: usize,
    columns: Vec<Column>,
    stored: Vec<Stored>,
}

/// Where the samples of a column lie: sample `i` begins at `offset + i · stride`.
/// Dense columns have stride = elements; windows over a text overlap and share their values.
#[derive(Clone)]
struct Stored {
    values: Arc<Values>,
    offset: usize,
    stride: usize,
}

impl InMemory {
    /// A data set without columns, called `name` in messages.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), rows: 0, columns: Vec::new(), stored: Vec::new() }
    }

    /// Columns without any row: what is known of data that are no longer needed.
    pub fn without_rows(name: impl Into<String>, columns: &[Column]) -> Self {
        let values = |column: &Column| match column.kind {
            Kind::Number => Values::F32(Vec::new()),
            Kind::Class(_) | Kind::Token(_) => Values::I32(Vec::new()),
        };
        let stored = |column: &Column| Stored { values: Arc::new(values(column)), offset: 0, stride: column.elements() };
        Self { name: name.into(), rows: 0, columns: columns.to_vec(), stored: columns.iter().map(stored).collect() }
    }

    /// Adds a column whose samples lie one after the other in `values`.
    ///
    /// # Errors
    /// Values that do not fill whole samples, another number of rows than the columns before,
    /// labels or tokens out of range.
    pub fn with_column(self, column: Column, values: impl Into<Values>) -> Result<Self, DataError> {
        let values = values.into();
        let elements = column.elements();
        if elements == 0 || values.len() % elements != 0 {
            return Err(self.bad_shape(&column, values.len()));
        }
        let rows = values.len() / elements;
        self.check_range(&column, &values, elements)?;
        self.push(column, Arc::new(values), 0, elements, rows)
    }

    /// Adds a column of `rows` windows into shared values: sample `i` begins at
    /// `offset + i · stride`. Windows may overlap, and several columns may share the values.
    ///
    /// # Errors
    /// Windows that reach beyond the values, another number of rows than the columns before,
    /// labels or tokens out of range.
    pub fn with_windows(
        self,
        column: Column,
        values: Arc<Values>,
        offset: usize,
        stride: usize,
        rows: usize,
    ) -> Result<Self, DataError> {
        let elements = column.elements();
        let end = rows.saturating_sub(1).saturating_mul(stride).saturating_add(offset).saturating_add(elements);
        if elements == 0 || end > values.len() {
            return Err(self.bad_shape(&column, values.len()));
        }
        self.check_range(&column, &values, 1)?;
        self.push(column, values, offset, stride, rows)
    }

    fn push(mut self, column: Column, values: Arc<Values>, offset: usize, stride: usize, rows: usize) -> Result<Self, DataError> {
        if let Some(first) = self.columns.first()
            && rows != self.rows
        {
            return Err(DataError::RowsDiffer {
                first: format!("{}, column {}", self.name, first.name),
                first_rows: self.rows,
                second: format!("column {}", column.name),
                second_rows: rows,
            });
        }
        self.rows = rows;
        self.columns.push(column);
        self.stored.push(Stored { values, offset, stride });
        Ok(self)
    }

    fn bad_shape(&self, column: &Column, values: usize) -> DataError {
        DataError::Shape { data: self.name.clone(), column: column.name.clone(), values, shape: column.shape.clone() }
    }

    /// Labels and tokens must be whole numbers below the count; `per_row` tells values from rows.
    fn check_range(&self, column: &Column, values: &Values, per_row: usize) -> Result<(), DataError> {
        let (what, count) = match &column.kind {
            Kind::Number => return Ok(()),
            Kind::Class(classes) => ("label", classes.count()),
            Kind::Token(vocabulary) => ("token", vocabulary.len()),
        };
        for i in 0..values.len() {
            let Some(value) = values.integer(i) else {
                return Err(self.kind_differs(column, "real numbers", "whole numbers"));
            };
            if usize::try_from(value).is_ok_and(|v| v < count) {
                continue;
            }
            return Err(DataError::OutOfRange { data: self.name.clone(), what, value, row: i / per_row, count });
        }
        Ok(())
    }

    fn kind_differs(&self, column: &Column, found: &'static str, needed: &'static str) -> DataError {
        DataError::KindDiffers { data: self.name.clone(), column: column.name.clone(), found, needed }
    }

    /// Calls `write` with each sample's values and its place in `out`.
    fn each_row<T, U>(
        &self,
        column: usize,
        values: &[T],
        rows: &[usize],
        out: &mut [U],
        mut write: impl FnMut(&[T], &mut [U]),
    ) -> Result<(), DataError> {
        let elements = checked_elements(self, column, rows.len(), out.len())?;
        let Stored { offset, stride, .. } = self.stored[column];
        for (&row, sample) in rows.iter().zip(out.chunks_exact_mut(elements)) {
            if row >= self.rows {
                return Err(no_row(&self.name, row, self.rows));
            }
            let start = offset + row * stride;
            write(&values[start..start + elements], sample);
        }
        Ok(())
    }

    fn scaled<T: ToF32>(
        &self,
        column: usize,
        values: &[T],
        rows: &[usize],
        scale: &Scale,
        out: &mut [f32],
    ) -> Result<(), DataError> {
        let elements = checked_elements(self, column, rows.len(), out.len())?;
        let tiles = scale.tiles(elements)?;
        self.each_row(column, values, rows, out, |from, to| tiles.apply(from, to))
    }

    fn converted<T: Copy + Into<i32>>(
        &self,
        column: usize,
        values: &[T],
        rows: &[usize],
        out: &mut [i32],
    ) -> Result<(), DataError> {
        self.each_row(column, values, rows, out, |from, to| {
            for (t, &f) in to.iter_mut().zip(from) {
                *t = f.into();
            }
        })
    }
}

impl Dataset for InMemory {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> usize {
        self.rows
    }

    fn columns(&self) -> &[Column] {
        &self.columns
    }

    fn in_memory(&self) -> bool {
        true
    }

    fn fill_f32(&self, column: usize, rows: &[usize], scale: &Scale, out: &mut [f32]) -> Result<(), DataError> {
        checked_elements(self, column, rows.len(), out.len())?;
        match self.stored[column].values.as_ref() {
            Values::U8(v) => self.scaled(column, v, rows, scale, out),
            Values::I16(v) => self.scaled(column, v, rows, scale, out),
            Values::I32(v) => self.scaled(column, v, rows, scale, out),
            Values::F32(v) => self.scaled(column, v, rows, scale, out),
        }
    }

    fn fill_i32(&self, column: usize, rows: &[usize], out: &mut [i32]) -> Result<(), DataError> {
        checked_elements(self, column, rows.len(), out.len())?;
        match self.stored[column].values.as_ref() {
            Values::U8(v) => self.converted(column, v, rows, out),
            Values::I16(v) => self.converted(column, v, rows, out),
            Values::I32(v) => self.converted(column, v, rows, out),
            Values::F32(_) => Err(self.kind_differs(&self.columns[column], "real numbers", "whole numbers")),
        }
    }
}
