//! Normalisation: measured on the training part, stored with the model, applied in every batch.

use serde::{Deserialize, Serialize};

use crate::parallel::in_order;
use crate::{DataError, Dataset};

/// How numbers are brought to a common range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Normalise {
    /// As they are.
    None,
    /// Mean 0 and standard deviation 1 over all values together.
    #[default]
    Global,
    /// Mean 0 and standard deviation 1 for each position of the last axis: the channels of an
    /// image, the columns of a series.
    Channel,
    /// Mean 0 and standard deviation 1 for each element of the sample.
    Feature,
    /// The smallest value of all becomes 0, the largest 1.
    Range,
}

/// `y = (x − shift) · factor`, element by element of a sample.
///
/// Element `j` of a sample uses entry `j mod n` of the `n` shifts and factors, so one entry serves
/// all elements, one per channel serves channel-last images, one per element serves tables. The
/// shift is taken off first because `x · factor − shift · factor` would lose digits where the mean
/// is large against the deviation.
///
/// ```
/// use backprop_data::Scale;
///
/// // What other frameworks call Normalize(mean, std), for bytes:
/// let scale = Scale::from_mean_std(&[127.5], &[127.5])?;
/// assert_eq!((scale.shift(), scale.factor()), (&[127.5][..], &[1.0 / 127.5][..]));
/// # Ok::<(), backprop_data::DataError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Parameters", into = "Parameters")]
pub struct Scale {
    shift: Vec<f32>,
    factor: Vec<f32>,
}

/// The stored form, not yet checked.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    shift: Vec<f32>,
    factor: Vec<f32>,
}

impl TryFrom<Parameters> for Scale {
    type Error = DataError;

    fn try_from(p: Parameters) -> Result<Self, DataError> {
        Scale::new(p.shift, p.factor)
    }
}

impl From<Scale> for Parameters {
    fn from(s: Scale) -> Self {
        let Scale { shift, factor } = s;
        Self { shift, factor }
    }
}

impl Scale {
    /// A scale from its shifts and factors.
    ///
    /// # Errors
    /// None at all, different numbers of them, or one that is not finite.
    pub fn new(shift: Vec<f32>, factor: Vec<f32>) -> Result<Self, DataError> {
        let finite = shift.iter().chain(&factor).all(|v| v.is_finite());
        let why = match (shift.len() == factor.len(), shift.is_empty(), finite) {
            (false, ..) => "the numbers must be equal",
            (_, true, _) => "at least one is needed",
            (.., false) => "all must be finite",
            _ => return Ok(Self { shift, factor }),
        };
        Err(scale_error(shift.len(), factor.len(), why))
    }

    /// Leaves every value as it is, to the bit.
    pub fn identity() -> Self {
        let (shift, factor) = (vec![0.0], vec![1.0]);
        Self { shift, factor }
    }

    /// The scale that brings `mean` to 0 and `std` to 1.
    ///
    /// # Errors
    /// As [`new`](Scale::new); a deviation of 0 has an infinite factor.
    pub fn from_mean_std(mean: &[f32], std: &[f32]) -> Result<Self, DataError> {
        let factor = std.iter().map(|s| 1.0 / s).collect();
        Self::new(mean.to_vec(), factor)
    }

    /// Measures `column` of `data`, which must be the training part alone, in two passes and f64.
    ///
    /// The deviation is that of the population (divided by n). A constant element gets factor 1,
    /// so it becomes 0 and stays harmless where later data differ a little.
    ///
    /// # Errors
    /// An empty data set, a column that does not hold numbers, a value that is not finite, or
    /// what reading gave.
    pub fn fit(data: &dyn Dataset, column: usize, how: Normalise) -> Result<Self, DataError> {
        if data.is_empty() {
            let data = data.name().into();
            return Err(DataError::Empty { data });
        }
        let elements = crate::dataset::checked_elements(data, column, 0, 0)?;
        let shape = &data.columns()[column].shape;
        let groups = match how {
            Normalise::None => return Ok(Self::identity()),
            Normalise::Global | Normalise::Range => 1,
            Normalise::Channel => shape.last().copied().unwrap_or(1),
            Normalise::Feature => elements,
        };
        let first = gathered(data, column, elements, Extent::new(groups))?;
        let count = (data.len() * elements / groups) as f64;
        if how == Normalise::Range {
            let [min, max] = [&first.min, &first.max].map(|lanes| lanes.iter().copied());
            let (min, max) = (min.fold(f32::INFINITY, f32::min), max.fold(f32::NEG_INFINITY, f32::max));
            return Ok(Self { shift: vec![min], factor: vec![factor_of(f64::from(max) - f64::from(min))] });
        }
        let means: Vec<f64> = joined(&first.sum, groups).iter().map(|sum| sum / count).collect();
        let second = gathered(data, column, elements, Squares::new(&means))?;
        let factor = joined(&second.sum, groups).into_iter().map(|squares| factor_of((squares / count).sqrt()));
        Ok(Self { factor: factor.collect(), shift: means.iter().map(|&mean| mean as f32).collect() })
    }

    /// What is taken off.
    pub fn shift(&self) -> &[f32] {
        &self.shift
    }

    /// What the difference is multiplied with.
    pub fn factor(&self) -> &[f32] {
        &self.factor
    }

    /// Applies the scale to one sample in place: what [`Dataset::fill_f32`] does to stored values,
    /// for values that come from elsewhere, as in prediction.
    ///
    /// # Errors
    /// A sample whose length is not a multiple of the number of shifts.
    pub fn apply(&self, sample: &mut [f32]) -> Result<(), DataError> {
        match self.tiles(sample.len())? {
            Tiles::Uniform(shift, factor) => sample.iter_mut().for_each(|v| *v = (*v - shift) * factor),
            Tiles::Repeated(r) => in_place(&r.shift[..r.period], &r.factor[..r.period], sample),
            Tiles::Direct(scale) => in_place(&scale.shift, &scale.factor, sample),
        }
        Ok(())
    }

    /// Brings scaled values back: `x = y / factor + shift`. Entry `j` of the values uses entry `j mod n`.
    pub fn undo(&self, values: &mut [f32]) {
        for part in values.chunks_mut(self.shift.len()) {
            for ((v, s), f) in part.iter_mut().zip(&self.shift).zip(&self.factor) {
                *v = *v / f + s;
            }
        }
    }

    /// Prepares the scale for samples of `elements` values.
    pub(crate) fn tiles(&self, elements: usize) -> Result<Tiles<'_>, DataError> {
        self.check_fits(elements)?;
        let n = self.shift.len();
        Ok(match n {
            1 => Tiles::Uniform(self.shift[0], self.factor[0]),
            _ if n <= TILE / 4 && n < elements => Tiles::Repeated(Repeated::new(self, elements)),
            _ => Tiles::Direct(self),
        })
    }

    fn check_fits(&self, elements: usize) -> Result<(), DataError> {
        let n = self.shift.len();
        if elements.is_multiple_of(n) {
            return Ok(());
        }
        let why = "the number must divide the elements of a sample";
        Err(scale_error(n, n, why))
    }
}

fn scale_error(shift: usize, factor: usize, why: &'static str) -> DataError {
    DataError::Scale { shift, factor, why }
}

/// `1 / spread`, or 1 where all values are equal: their sum in f64 is exact (24 bits each, up to
/// 2²⁹ of them), so their spread is exactly 0.
fn factor_of(spread: f64) -> f32 {
    let factor = (1.0 / spread) as f32;
    if factor.is_finite() { factor } else { 1.0 }
}

/// Sums of a pass over the training part. Value `j` of a sample belongs to lane `j` modulo the number of lanes, a multiple of the number
/// of groups: with several lanes a group, sums do not wait for each other.
trait Gather: Clone + Send + Sync {
    /// Adds a sample.
    fn add(&mut self, sample: &[f32]);

    /// Adds what was gathered of later samples.
    fn join(&mut self, later: &Self);

    /// Whether every value was finite.
    fn is_finite(&self) -> bool;
}

/// Lanes of so many groups.
fn lanes(groups: usize) -> usize {
    groups * 32_usize.div_ceil(groups)
}

/// The sums of the groups, of those of their lanes.
fn joined(lanes: &[f64], groups: usize) -> Vec<f64> {
    (0..groups).map(|group| lanes[group..].iter().step_by(groups).sum()).collect()
}

/// What the first pass gathers.
#[derive(Clone)]
struct Extent {
    min: Vec<f32>,
    max: Vec<f32>,
    sum: Vec<f64>,
}

impl Extent {
    fn new(groups: usize) -> Self {
        let lanes = lanes(groups);
        Self { min: vec![f32::INFINITY; lanes], max: vec![f32::NEG_INFINITY; lanes], sum: vec![0.0; lanes] }
    }
}

impl Gather for Extent {
    fn add(&mut self, sample: &[f32]) {
        for part in sample.chunks(self.sum.len()) {
            for (((min, max), sum), &v) in self.min.iter_mut().zip(&mut self.max).zip(&mut self.sum).zip(part) {
                *min = min.min(v);
                *max = max.max(v);
                *sum += f64::from(v);
            }
        }
    }

    fn join(&mut self, later: &Self) {
        self.min.iter_mut().zip(&later.min).for_each(|(a, &b)| *a = a.min(b));
        self.max.iter_mut().zip(&later.max).for_each(|(a, &b)| *a = a.max(b));
        self.sum.iter_mut().zip(&later.sum).for_each(|(a, b)| *a += b);
    }

    fn is_finite(&self) -> bool {
        // No sum of finite f32 leaves f64.
        self.sum.iter().all(|sum| sum.is_finite())
    }
}

/// What the second pass gathers: squares of the deviations from the means.
#[derive(Clone)]
struct Squares {
    mean: Vec<f64>,
    sum: Vec<f64>,
}

impl Squares {
    fn new(means: &[f64]) -> Self {
        let lanes = lanes(means.len());
        Self { mean: means.iter().copied().cycle().take(lanes).collect(), sum: vec![0.0; lanes] }
    }
}

impl Gather for Squares {
    fn add(&mut self, sample: &[f32]) {
        for part in sample.chunks(self.sum.len()) {
            for ((sum, mean), &v) in self.sum.iter_mut().zip(&self.mean).zip(part) {
                let deviation = f64::from(v) - mean;
                *sum += deviation * deviation;
            }
        }
    }

    fn join(&mut self, later: &Self) {
        self.sum.iter_mut().zip(&later.sum).for_each(|(a, b)| *a += b);
    }

    fn is_finite(&self) -> bool {
        true
    }
}

/// Values that are read at once while a scale is measured, unless a sample has more.
const AT_ONCE: usize = 1 << 15;

/// Reads all rows, unscaled, in blocks whose sums are joined in sequence: what comes out does not depend on the number of threads.
/// Checks that the values are finite.
fn gathered<G: Gather>(data: &dyn Dataset, column: usize, elements: usize, nothing: G) -> Result<G, DataError> {
    let info = &data.columns()[column];
    if info.kind != crate::Kind::Number {
        return Err(DataError::KindDiffers {
            data: data.name().into(),
            column: info.name.clone(),
            found: info.kind.describe(),
            needed: "numbers",
        });
    }
    let rows = (AT_ONCE / elements.max(1)).max(1);
    let blocks: Vec<usize> = (0..data.len()).step_by(rows).collect();
    let gather = |&first: &usize| {
        let rows: Vec<usize> = (first..data.len().min(first + rows)).collect();
        let mut values = vec![0.0; rows.len() * elements];
        data.fill_f32(column, &rows, &Scale::identity(), &mut values)?;
        let mut sums = nothing.clone();
        values.chunks_exact(elements.max(1)).for_each(|sample| sums.add(sample));
        let bad = if sums.is_finite() { None } else { values.iter().position(|v| !v.is_finite()) };
        match bad {
            None => Ok(sums),
            Some(i) => {
                let (data, column) = (data.name().into(), info.name.clone());
                Err(DataError::NotFinite { data, column, row: first + i / elements, value: values[i] })
            }
        }
    };
    let mut all = nothing.clone();
    in_order(&blocks, 1, gather, |_, sums| {
        all.join(&sums);
        Ok(true)
    })?;
    Ok(all)
}

/// Values that become f32 in a batch.
pub(crate) trait ToF32: Copy {
    fn to_f32(self) -> f32;
}

macro_rules! to_f32 {
    ($($t:ty),*) => {$(
        impl ToF32 for $t {
            #[inline]
            fn to_f32(self) -> f32 {
                self as f32
            }
        }
    )*};
}

to_f32!(u8, i16, i32, f32);

/// Longest run of repeated shifts: 1 KiB each for shifts and factors, on the stack.
const TILE: usize = 256;

/// A scale laid out so that the inner loop is long enough for vectors.
#[expect(clippy::large_enum_variant, reason = "filling a batch must not allocate; the value lives on the stack during one fill")]
pub(crate) enum Tiles<'s> {
    Uniform(f32, f32),
    Repeated(Repeated),
    Direct(&'s Scale),
}

/// A few shifts and factors (three channels, say), repeated to a run of `period` elements.
pub(crate) struct Repeated {
    shift: [f32; TILE],
    factor: [f32; TILE],
    period: usize,
}

impl Repeated {
    fn new(scale: &Scale, elements: usize) -> Self {
        let n = scale.shift.len();
        let period = (TILE - TILE % n).min(elements);
        let (mut shift, mut factor) = ([0.0; TILE], [0.0; TILE]);
        for j in 0..period {
            shift[j] = scale.shift[j % n];
            factor[j] = scale.factor[j % n];
        }
        Self { shift, factor, period }
    }
}

impl Tiles<'_> {
    /// Scales one sample.
    pub(crate) fn apply<T: ToF32>(&self, from: &[T], to: &mut [f32]) {
        match self {
            Tiles::Uniform(shift, factor) => {
                for (t, f) in to.iter_mut().zip(from) {
                    *t = (f.to_f32() - shift) * factor;
                }
            }
            Tiles::Repeated(r) => {
                tiled(&r.shift[..r.period], &r.factor[..r.period], from, to);
            }
            Tiles::Direct(scale) => tiled(&scale.shift, &scale.factor, from, to),
        }
    }
}

fn in_place(shift: &[f32], factor: &[f32], sample: &mut [f32]) {
    for part in sample.chunks_mut(shift.len()) {
        for ((v, s), f) in part.iter_mut().zip(shift).zip(factor) {
            *v = (*v - s) * f;
        }
    }
}

fn tiled<T: ToF32>(shift: &[f32], factor: &[f32], from: &[T], to: &mut [f32]) {
    let period = shift.len();
    for (from, to) in from.chunks(period).zip(to.chunks_mut(period)) {
        for (((t, f), s), k) in to.iter_mut().zip(from).zip(shift).zip(factor) {
            *t = (f.to_f32() - s) * k;
        }
    }
}
