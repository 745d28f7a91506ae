//! From files of series to windows that are ready to be trained on.

use std::ops::Range;
use std::sync::Arc;

use super::{Layout, Series, SeriesFiles, Steps, encode_rows, read};
use crate::coding::{Coding, InputCoding, Measure, SeriesCoding, SeriesColumn, TargetCoding};
use crate::table::rows::{Part, Table};
use crate::table::{ColumnProfile, Dialect, Holds, Moments, TableError, expand, gather};
use crate::{
    Column, DataError, Dataset, InMemory, LoadError, LoadOptions, Loaded, Normalise, NormaliseTarget, Parts, Scale, Subset,
    Values,
};

/// The columns in use, by their number in the table.
struct Uses {
    inputs: Vec<usize>,
    targets: Vec<usize>,
    layout: Layout,
    calendar: Option<bool>,
}

impl SeriesFiles {
    /// Reads the series, splits each by time, measures scales on the training part, and makes windows.
    ///
    /// # Errors
    /// Files that are missing or damaged, columns that are not there or no numbers, times out of order, too few rows.
    pub fn load(&self, options: &LoadOptions) -> Result<Loaded, LoadError> {
        for (key, value) in [("window", self.window), ("horizon", self.horizon), ("stride", self.stride)] {
            if value == 0 {
                return Err(LoadError { key, error: DataError::Zero { what: key } });
            }
        }
        let at = LoadError::at("path");
        let texts = expand(options.base, &self.path).map_err(&at)?;
        let dialect = Dialect::find(&texts[0], &self.format()).map_err(&at)?;
        let table = Table::open(texts.into_iter().map(|t| (t, Part::Train)).collect(), dialect).map_err(&at)?;
        let profile = gather(&table, None).map_err(&at)?;
        let uses = self.uses(&table, &profile.columns, options)?;
        let series = read(&table, &uses.layout).map_err(&at)?;
        Windows { settings: self, options, table: &table, uses: &uses, series: &series }.load()
    }

    fn uses(&self, table: &Table<'_>, columns: &[ColumnProfile], options: &LoadOptions) -> Result<Uses, LoadError> {
        let one = |key, name: &Option<String>| name.as_deref().map(|n| table.column(key, n)).transpose();
        let (time, group) = (one("time", &self.time)?, one("group", &self.group)?);
        let numbers = |i: &usize| Some(*i) != time && Some(*i) != group && columns[*i].holds == Holds::Number;
        let inputs = match options.input {
            Some(names) => table.several("input", names)?,
            None => (0..columns.len()).filter(numbers).collect(),
        };
        let Some(last) = inputs.last() else {
            return Err(TableError::NoInput { data: table.name(), why: ": none holds numbers".into() }.into());
        };
        let targets = match options.target {
            Some(names) => table.several("target", names)?,
            None => vec![*last],
        };
        let order = time.and_then(|i| columns[i].time_order());
        let clock = time.is_some_and(|i| columns[i].clock);
        if self.calendar && order.is_none() {
            let error = TableError::NoDates { data: table.name(), column: self.time.clone().unwrap_or_default() };
            return Err(LoadError { key: "calendar", error: error.into() });
        }
        let numbers = inputs.iter().chain(&targets).copied().collect();
        let layout = Layout { numbers, time: time.map(|i| (i, order)), group, sort: self.sort };
        Ok(Uses { inputs, targets, layout, calendar: self.calendar.then_some(clock) })
    }
}

/// All that making windows needs.
struct Windows<'w> {
    settings: &'w SeriesFiles,
    options: &'w LoadOptions<'w>,
    table: &'w Table<'w>,
    uses: &'w Uses,
    series: &'w [Series],
}

/// Rows of one series: training, validation, test.
type Segments = [Range<usize>; 3];

impl Windows<'_> {
    fn load(&self) -> Result<Loaded, LoadError> {
        let segments = self.segments()?;
        let measures = self.measures(&segments);
        let (inputs, targets) = self.encode(&measures)?;
        let (steps, count) = (self.steps(), self.uses.targets.len());
        let mut findings = vec![self.summary()];
        findings.extend(self.missing());
        findings.extend(self.gaps());
        let starts = self.starts(&segments, &targets, &mut findings)?;
        findings
            .extend(["validation", "test"].into_iter().zip(&starts[1..]).filter_map(|(p, s)| self.persistence(p, s, &targets)));
        let data = self.dataset(inputs, targets)?;
        let part = |rows: &Vec<u32>| -> Result<Option<Arc<dyn Dataset>>, DataError> {
            let subset = Subset::new(Arc::clone(&data), rows.clone())?;
            Ok(if rows.is_empty() { None } else { Some(Arc::new(subset)) })
        };
        let train = part(&starts[0])?.ok_or_else(|| TableError::NoTraining { data: self.table.name() })?;
        let mut parts = Parts::in_order(train, 0);
        (parts.validation, parts.test) = (part(&starts[1])?, part(&starts[2])?);
        let target_scale = match self.options.normalize_target {
            NormaliseTarget::None => Scale::identity(),
            _ => self.target_scale(&segments)?,
        };
        let names = |i: &usize| self.table.names[*i].clone();
        let ahead = self.settings.horizon - steps + 1..=self.settings.horizon;
        let target_names = ahead.flat_map(|h| self.uses.targets.iter().map(move |i| format!("{}+{h}", names(i)))).collect();
        let log = self.options.normalize_target == NormaliseTarget::Log;
        debug_assert_eq!(steps * count, parts.train.columns()[1].elements());
        let coding = self.coding(measures);
        let target = TargetCoding::Number { names: target_names, scale: target_scale.clone(), log };
        let coding = Coding::new(InputCoding::Series(coding), target);
        Ok(Loaded { parts, input: 0, target: 1, scale: Scale::identity(), target_scale, coding, findings })
    }

    /// Rows of the target.
    fn steps(&self) -> usize {
        match self.settings.steps {
            Steps::All => self.settings.horizon,
            Steps::Last => 1,
        }
    }

    /// Rows from the first of a window to the last of its target.
    fn span(&self) -> usize {
        self.settings.window.saturating_add(self.settings.horizon)
    }

    fn segments(&self) -> Result<Vec<Segments>, LoadError> {
        for (key, share) in [("test", self.settings.test), ("validation", self.options.validation)] {
            if !(0.0..1.0).contains(&share) {
                return Err(LoadError { key, error: DataError::Share { share } });
            }
        }
        let of = |series: &Series| {
            let rows = series.rows();
            let test = (self.settings.test * rows as f64).round() as usize;
            let validation = (self.options.validation * (rows - test) as f64).round() as usize;
            let train = rows - test - validation;
            [0..train, train..rows - test, rows - test..rows]
        };
        Ok(self.series.iter().map(of).collect())
    }

    fn measures(&self, segments: &[Segments]) -> Vec<Measure> {
        let mut moments = vec![Moments::default(); self.uses.inputs.len()];
        for (series, [train, ..]) in self.series.iter().zip(segments) {
            for i in train.clone() {
                let numbers = moments.iter_mut().zip(series.row(i));
                numbers.filter(|(_, x)| !x.is_nan()).for_each(|(m, x)| m.add(*x));
            }
        }
        moments.iter().map(|m| m.measure(self.options.normalize, false)).collect()
    }

    fn target_scale(&self, segments: &[Segments]) -> Result<Scale, DataError> {
        let count = self.uses.targets.len();
        let mut moments = vec![Moments::default(); count];
        for (series, [train, ..]) in self.series.iter().zip(segments) {
            for i in train.clone() {
                let targets = &series.row(i)[self.uses.inputs.len()..];
                let numbers = moments.iter_mut().zip(targets);
                numbers.filter(|(_, x)| !x.is_nan()).for_each(|(m, x)| m.add(self.unit(*x)));
            }
        }
        let measures: Vec<Measure> = moments.iter().map(|m| m.measure(Normalise::Feature, false)).collect();
        Scale::new(measures.iter().map(|m| m.shift).collect(), measures.iter().map(|m| m.factor).collect())
    }

    /// A target as it is stored: itself or its logarithm.
    fn unit(&self, x: f64) -> f64 {
        if self.options.normalize_target == NormaliseTarget::Log { x.ln() } else { x }
    }

    /// Rows of inputs and rows of targets of all series, one after the other. A missing target is NaN, and no window has it.
    fn encode(&self, measures: &[Measure]) -> Result<(Vec<f32>, Vec<f32>), LoadError> {
        let (mut inputs, mut targets) = (Vec::new(), Vec::new());
        for series in self.series {
            inputs.append(&mut encode_rows(series, measures, self.uses.calendar));
            for i in 0..series.rows() {
                for &x in &series.row(i)[self.uses.inputs.len()..] {
                    if x <= 0.0 && self.options.normalize_target == NormaliseTarget::Log {
                        let error = TableError::SeriesLog { data: series.name(&self.table.name()), value: x };
                        return Err(LoadError { key: "normalize_target", error: error.into() });
                    }
                    targets.push(self.unit(x) as f32);
                }
            }
        }
        Ok((inputs, targets))
    }

    /// First rows of the windows of each part, which lie in one segment of one series and whose target is there.
    fn starts(&self, segments: &[Segments], targets: &[f32], findings: &mut Vec<String>) -> Result<[Vec<u32>; 3], LoadError> {
        let mut starts: [Vec<u32>; 3] = Default::default();
        let (mut first, mut without) = (0, 0);
        for (series, segments) in self.series.iter().zip(segments) {
            for (segment, starts) in segments.iter().zip(&mut starts) {
                let ends = segment.len().saturating_sub(self.span() - 1);
                for i in (segment.start..segment.start + ends).step_by(self.settings.stride) {
                    let row = first + i;
                    if targets[self.target_range(row)].iter().any(|t| t.is_nan()) {
                        without += 1;
                    } else {
                        starts
                            .push(u32::try_from(row).map_err(|_| DataError::TooManyRows { data: self.table.name(), rows: row })?);
                    }
                }
            }
            first += series.rows();
        }
        if without > 0 {
            findings.push(format!("{without} windows are left out because their target is missing"));
        }
        let shares = [1.0, self.options.validation, self.settings.test];
        let names = ["training", "validation", "test"];
        for ((starts, share), part) in starts.iter().zip(shares).zip(names) {
            if starts.is_empty() && share > 0.0 {
                let (data, rows) = (self.table.name(), self.series.iter().map(Series::rows).max().unwrap_or(0));
                let (window, horizon) = (self.settings.window, self.settings.horizon);
                let error = TableError::LongWindow { data, rows, window, horizon, part };
                return Err(LoadError { key: "window", error: error.into() });
            }
        }
        Ok(starts)
    }

    /// Where the targets of the window from row `start` lie.
    fn target_range(&self, start: usize) -> Range<usize> {
        let count = self.uses.targets.len();
        let end = (start + self.span()) * count;
        end - self.steps() * count..end
    }

    fn dataset(&self, inputs: Vec<f32>, targets: Vec<f32>) -> Result<Arc<dyn Dataset>, DataError> {
        let (window, count) = (self.settings.window, self.uses.targets.len());
        let width = self.width();
        let rows = inputs.len() / width;
        let windows = rows + 1 - self.span();
        let input = Column::input("input", &[window, width]);
        let target = Column::target("target", &[self.steps() * count]);
        let offset = self.target_range(0).start;
        let data = InMemory::new(self.table.name())
            .with_windows(input, Arc::new(Values::F32(inputs)), 0, width, windows)?
            .with_windows(target, Arc::new(Values::F32(targets)), offset, count, windows)?;
        Ok(Arc::new(data))
    }

    fn width(&self) -> usize {
        self.uses.inputs.len() + self.uses.calendar.map_or(0, crate::table::date::cycle_count)
    }

    fn coding(&self, measures: Vec<Measure>) -> SeriesCoding {
        let name = |i: &usize| self.table.names[*i].clone();
        let columns = self.uses.inputs.iter().zip(measures);
        SeriesCoding {
            dialect: self.table.dialect.clone(),
            columns: columns.map(|(i, measure)| SeriesColumn { name: name(i), measure }).collect(),
            time: self.uses.layout.time.map(|(i, order)| (name(&i), order)),
            calendar: self.uses.calendar,
            group: self.settings.group.clone(),
            sort: self.settings.sort,
            window: self.settings.window,
        }
    }

    fn summary(&self) -> String {
        let rows: usize = self.series.iter().map(Series::rows).sum();
        let list = |columns: &[usize]| {
            crate::table::rows::list(&columns.iter().map(|i| self.table.names[*i].clone()).collect::<Vec<_>>())
        };
        format!(
            "{}: {rows} rows in {} series; windows of {} rows of {}; the target is {} up to {} rows ahead",
            self.table.name(),
            self.series.len(),
            self.settings.window,
            list(&self.uses.inputs),
            list(&self.uses.targets),
            self.settings.horizon,
        )
    }

    fn missing(&self) -> Option<String> {
        let inputs = self.uses.inputs.len();
        let missing = |s: &Series| (0..s.rows()).map(|i| s.row(i)[..inputs].iter().filter(|x| x.is_nan()).count()).sum::<usize>();
        let count: usize = self.series.iter().map(missing).sum();
        (count > 0).then(|| format!("{count} missing values are replaced by the one before"))
    }

    /// Where rows lie further apart than most: a window takes neighbouring rows all the same.
    fn gaps(&self) -> Option<String> {
        let mut steps: Vec<f64> = self.series.iter().flat_map(|s| s.times.windows(2).map(|t| t[1] - t[0])).collect();
        steps.sort_by(f64::total_cmp);
        let usual = *steps.get(steps.len() / 2)?;
        let wide = steps.iter().filter(|s| **s > 1.5 * usual).count();
        let widest = steps.last().map_or(0.0, |s| s / usual);
        (wide > 0).then(|| format!("{wide} gaps in time, the widest of {widest:.0} usual steps; windows reach over them"))
    }

    /// The error of the forecast that repeats the last value, by which people judge others.
    fn persistence(&self, part: &str, starts: &[u32], targets: &[f32]) -> Option<String> {
        let count = self.uses.targets.len();
        let unit = |x: f32| if self.options.normalize_target == NormaliseTarget::Log { f64::from(x).exp() } else { f64::from(x) };
        let (mut absolute, mut squares, mut terms) = (0.0, 0.0, 0_u64);
        for &start in starts {
            let last = (start as usize + self.settings.window - 1) * count;
            for (i, target) in targets[self.target_range(start as usize)].iter().enumerate() {
                let error = unit(*target) - unit(targets[last + i % count]);
                if !error.is_nan() {
                    (absolute, squares, terms) = (absolute + error.abs(), squares + error * error, terms + 1);
                }
            }
        }
        let n = terms as f64;
        (terms > 0).then(|| {
            format!("repeating the last value on the {part} part: MAE {:.4}, RMSE {:.4}", absolute / n, (squares / n).sqrt())
        })
    }
}
