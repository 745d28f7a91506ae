//! Reading series: rows of numbers in the order of time.

use std::collections::HashMap;

use crate::DataError;
use crate::coding::Measure;
use crate::table::rows::Table;
use crate::table::{DateOrder, TableError, cell, date};

/// Where a table has what a series needs.
pub(crate) struct Layout {
    /// Columns of numbers.
    pub numbers: Vec<usize>,
    /// The column of times, and how its dates are written.
    pub time: Option<(usize, Option<DateOrder>)>,
    /// The column that tells series apart.
    pub group: Option<usize>,
    /// Whether rows out of order are sorted.
    pub sort: bool,
}

/// One series.
pub(crate) struct Series {
    /// What the column of groups says; nothing where there is none.
    pub group: Option<String>,
    /// Rows of numbers, one after the other; NaN is missing.
    pub numbers: Vec<f64>,
    /// Numbers per row.
    pub width: usize,
    /// Times of the rows; empty without a column of times.
    pub times: Vec<f64>,
    /// File (by its number) and line of each row.
    places: Vec<(u32, u64)>,
}

impl Series {
    pub fn rows(&self) -> usize {
        self.places.len()
    }

    pub fn row(&self, i: usize) -> &[f64] {
        &self.numbers[i * self.width..(i + 1) * self.width]
    }

    /// What the series is called, in a file or table of that name.
    pub fn name(&self, file: &str) -> String {
        match &self.group {
            Some(group) => format!("{file}, series {group}"),
            None => file.into(),
        }
    }
}

/// Reads the series of a table, in the order in which they begin.
pub(crate) fn read(table: &Table<'_>, layout: &Layout) -> Result<Vec<Series>, DataError> {
    let cells = table.cells();
    let (mut all, mut numbers): (Vec<Series>, HashMap<String, usize>) = Default::default();
    let files: HashMap<String, u32> = table.texts.iter().map(|(t, _)| t.name()).zip(0..).collect();
    table.each_row(|row| {
        let group = layout.group.map(|i| row.field(i).trim().to_owned());
        let number = *numbers.entry(group.clone().unwrap_or_default()).or_insert(all.len());
        if number == all.len() {
            let width = layout.numbers.len();
            all.push(Series { group, numbers: Vec::new(), width, times: Vec::new(), places: Vec::new() });
        }
        let series = &mut all[number];
        for &i in &layout.numbers {
            let value = cells.value(row.field(i));
            let parsed = value.map(|v| {
                let number = cells.number(v).filter(|n| (*n as f32).is_finite());
                number.ok_or_else(|| row.place.value_error(&table.names[i], v, "a number", "; a series reads numbers"))
            });
            series.numbers.push(parsed.transpose()?.unwrap_or(f64::NAN));
        }
        if let Some((i, order)) = layout.time {
            let field = row.field(i);
            let value = cells.value(field);
            let time = value.and_then(|v| order.map_or_else(|| cells.number(v), |o| cell::date(v, o)));
            let remedy = "; every row of a series needs its time";
            series.times.push(time.ok_or_else(|| row.place.value_error(&table.names[i], field, "a date or number", remedy))?);
        }
        series.places.push((files.get(row.place.file).copied().unwrap_or(0), row.place.line));
        Ok(())
    })?;
    all.iter_mut().try_for_each(|series| in_order(series, table, layout))?;
    Ok(all)
}

/// Checks that times grow from row to row, or sorts the rows by them. Two rows of one time are refused.
fn in_order(series: &mut Series, table: &Table<'_>, layout: &Layout) -> Result<(), DataError> {
    let Some((column, _)) = layout.time else { return Ok(()) };
    if layout.sort {
        let mut order: Vec<usize> = (0..series.rows()).collect();
        order.sort_by(|a, b| series.times[*a].total_cmp(&series.times[*b]));
        series.numbers = order.iter().flat_map(|i| series.row(*i).to_vec()).collect();
        series.places = order.iter().map(|i| series.places[*i]).collect();
        series.times = order.iter().map(|i| series.times[*i]).collect();
    }
    let Some(at) = series.times.windows(2).position(|pair| pair[1] <= pair[0]) else { return Ok(()) };
    let (file, line) = series.places[at + 1];
    let (file, column) = (table.texts[file as usize].0.name(), table.names[column].clone());
    Err(match series.times[at + 1] == series.times[at] {
        true => TableError::SameTime { file, line, column, other: series.places[at].1 }.into(),
        false => TableError::OutOfOrder { file, line, column, other: series.places[at].1 }.into(),
    })
}

/// The rows as the network reads them: scaled, a missing value replaced by the one before, then the places in the calendar.
pub(crate) fn encode_rows(series: &Series, measures: &[Measure], calendar: Option<bool>) -> Vec<f32> {
    let mut last: Vec<f64> = measures.iter().map(|m| f64::from(m.mean)).collect();
    let mut out = Vec::new();
    for i in 0..series.rows() {
        for ((x, measure), last) in series.row(i).iter().zip(measures).zip(&mut last) {
            if !x.is_nan() {
                *last = *x;
            }
            measure.push(Some(*last), &mut out);
        }
        if let (Some(clock), Some(time)) = (calendar, series.times.get(i)) {
            date::cycles(*time, clock, &mut out);
        }
    }
    out
}
