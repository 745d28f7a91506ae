//! What happens to rows of scores: the softmax while it is formed, and its derivative.

use super::LANES;
use super::real::Real;
use crate::simd::per_isa;

/// Which keys take part.
#[derive(Clone, Copy)]
pub(super) struct Mask {
    /// Of the first row's query and the block's first key.
    pub at: *const u8,
    pub query: isize,
    pub key: isize,
}

/// Scores of some queries and a block of keys. Columns beyond the valid ones up to whole lanes may be overwritten.
#[derive(Clone, Copy)]
pub(super) struct Scores<T> {
    pub at: *mut T,
    pub row: usize,
    pub rows: usize,
    /// Columns that hold scores, whole lanes.
    pub cols: usize,
    /// Keys of the block.
    pub keys: usize,
    /// How many keys of the block the first row attends to; each next row attends to one more.
    pub causal: Option<isize>,
    pub mask: Option<Mask>,
    pub scale: T,
}

impl<T: Real> Scores<T> {
    /// The columns of a row in whole lanes, the scores of keys that take no part −∞.
    ///
    /// # Safety
    /// The scores and the mask are valid, and nobody else has the row.
    #[inline(always)]
    unsafe fn masked<'a>(&self, r: usize) -> &'a mut [T] {
        let valid = self.causal.map_or(self.keys, |first| (first + r as isize).clamp(0, self.keys as isize) as usize);
        let width = valid.next_multiple_of(LANES).min(self.cols);
        // SAFETY: as the caller vouches.
        let row = unsafe { std::slice::from_raw_parts_mut(self.at.add(r * self.row), width) };
        row[valid..].fill(T::NEG_INFINITY);
        if let Some(mask) = &self.mask {
            let at = mask.at.wrapping_offset(r as isize * mask.query);
            if mask.key == 1 {
                // SAFETY: as the caller vouches.
                let mask = unsafe { std::slice::from_raw_parts(at, valid) };
                row.iter_mut().zip(mask).for_each(|(x, &m)| *x = if m == 0 { T::NEG_INFINITY } else { *x });
            } else {
                for (c, x) in row[..valid].iter_mut().enumerate() {
                    // SAFETY: as the caller vouches.
                    *x = if unsafe { *at.offset(c as isize * mask.key) } == 0 { T::NEG_INFINITY } else { *x };
                }
            }
        }
        row
    }
}

/// Joins virtual lanes in a tree.
#[inline(always)]
fn join<T: Real>(mut lanes: [T; LANES], merge: impl Fn(T, T) -> T) -> T {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] = merge(lanes[i], lanes[i + half]);
        }
        half /= 2;
    }
    lanes[0]
}

/// Σ over whole lanes in virtual lanes.
#[inline(always)]
fn reduce<T: Real>(row: &[T], identity: T, merge: impl Fn(T, T) -> T) -> T {
    let mut lanes = [identity; LANES];
    for chunk in row.chunks_exact(LANES) {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane = merge(*lane, x);
        }
    }
    join(lanes, merge)
}

/// What is known of rows of queries so far, and their part of the result.
#[derive(Clone, Copy)]
pub(super) struct Known<T> {
    /// Largest scaled score.
    pub largest: *mut T,
    /// Sum of exponentials of what scores are below it.
    pub sum: *mut T,
    pub out: *mut T,
    pub out_row: isize,
    pub values: usize,
    /// Nothing is known yet, and the results are not to be read.
    pub first: bool,
}

/// Scores to weights that are not divided by their sum yet; what is known of the rows is brought up to date, and their results rescaled.
///
/// # Safety
/// All of the scores' and the known rows' memory is valid and nobody else's.
#[inline(always)]
unsafe fn weigh_body<T: Real, const FMA: bool>(scores: &Scores<T>, known: &Known<T>) {
    for r in 0..scores.rows {
        // SAFETY: as the caller vouches.
        unsafe {
            let row = scores.masked(r);
            let (largest, sum) = (known.largest.add(r), known.sum.add(r));
            let highest = reduce(row, T::NEG_INFINITY, |a, b| if b > a { b } else { a }) * scores.scale;
            let highest = if highest > *largest { highest } else { *largest };
            // In a row without a key so far −∞ would be taken from −∞.
            let base = if highest == T::NEG_INFINITY { T::ZERO } else { highest };
            for x in row.iter_mut() {
                *x = x.madd::<FMA>(scores.scale, -base).exp::<FMA>();
            }
            let here = reduce(row, T::ZERO, |a, b| a + b);
            let fall = if known.first { T::ONE } else { (*largest - base).exp::<FMA>() };
            *sum = if known.first { here } else { (*sum).madd::<FMA>(fall, here) };
            *largest = highest;
            std::slice::from_raw_parts_mut(scores.at.add(r * scores.row + row.len()), scores.cols - row.len()).fill(T::ZERO);
            if fall != T::ONE {
                let out = known.out.offset(r as isize * known.out_row);
                std::slice::from_raw_parts_mut(out, known.values).iter_mut().for_each(|x| *x = *x * fall);
            }
        }
    }
}

per_isa! {
    /// [`weigh_body`] for an instruction set.
    pub(super) fn weigh[T: Real](scores: &Scores<T>, known: &Known<T>) = weigh_body
}

/// Divides results by the sums, and writes the logarithms of the sums of exponentials, 0 for rows without a key.
///
/// # Safety
/// As [`weigh_body`]; `log` is valid for so many rows.
#[inline(always)]
unsafe fn finish_body<T: Real, const FMA: bool>(known: &Known<T>, rows: usize, log: *mut T) {
    for r in 0..rows {
        // SAFETY: as the caller vouches.
        unsafe {
            let (largest, sum) = (*known.largest.add(r), *known.sum.add(r));
            let largest = if largest == T::NEG_INFINITY { T::ZERO } else { largest };
            let sum = if sum == T::ZERO { T::ONE } else { sum };
            let out = known.out.offset(r as isize * known.out_row);
            std::slice::from_raw_parts_mut(out, known.values).iter_mut().for_each(|x| *x = *x / sum);
            *log.add(r) = largest + sum.log::<FMA>();
        }
    }
}

per_isa! {
    /// [`finish_body`] for an instruction set.
    pub(super) fn finish[T: Real](known: &Known<T>, rows: usize, log: *mut T) = finish_body
}

/// Gradients of weights beside the scores, and what the derivative needs of each row.
#[derive(Clone, Copy)]
pub(super) struct Slopes<T> {
    /// As the scores.
    pub at: *mut T,
    /// Logarithms of the sums of exponentials.
    pub log: *const T,
    /// Σ gradient·result.
    pub mean: *const T,
}

/// Scores to weights, and the gradients of weights to those of products Q·Kᵀ. Up to [`LANES`] columns after the scores' become zero.
///
/// # Safety
/// As [`weigh_body`]; rows have room for the zeros.
#[inline(always)]
unsafe fn slope_body<T: Real, const FMA: bool>(scores: &Scores<T>, slopes: &Slopes<T>) {
    for r in 0..scores.rows {
        // SAFETY: as the caller vouches.
        unsafe {
            let row = scores.masked(r);
            let slope = slopes.at.add(r * scores.row);
            let gradients = std::slice::from_raw_parts_mut(slope, row.len());
            let (log, mean) = (*slopes.log.add(r), *slopes.mean.add(r));
            for (x, g) in row.iter_mut().zip(gradients) {
                let weight = x.madd::<FMA>(scores.scale, -log).exp::<FMA>();
                *x = weight;
                *g = weight * (*g - mean) * scores.scale;
            }
            let rest = scores.cols + LANES - row.len();
            for at in [scores.at.add(r * scores.row), slope] {
                std::slice::from_raw_parts_mut(at.add(row.len()), rest).fill(T::ZERO);
            }
        }
    }
}

per_isa! {
    /// [`slope_body`] for an instruction set.
    pub(super) fn slope[T: Real](scores: &Scores<T>, slopes: &Slopes<T>) = slope_body
}

/// The sums of products of two rows each: `a` has adjacent columns.
///
/// # Safety
/// Both are valid for the rows and columns, `to` for the rows.
#[inline(always)]
unsafe fn dots_body<T: Real, const FMA: bool>(
    [rows, cols]: [usize; 2],
    a: *const T,
    a_row: usize,
    b: *const T,
    [b_row, b_col]: [isize; 2],
    to: *mut T,
) {
    for r in 0..rows {
        let mut lanes = [T::ZERO; LANES];
        // SAFETY: as the caller vouches.
        unsafe {
            let a = std::slice::from_raw_parts(a.add(r * a_row), cols);
            let b = b.offset(r as isize * b_row);
            let whole = if b_col == 1 { cols - cols % LANES } else { 0 };
            if b_col == 1 {
                let b = std::slice::from_raw_parts(b, whole);
                for (a, b) in a.chunks_exact(LANES).zip(b.chunks_exact(LANES)) {
                    lanes.iter_mut().zip(a).zip(b).for_each(|((lane, &a), &b)| *lane = a.madd::<FMA>(b, *lane));
                }
            }
            for (c, &a) in a.iter().enumerate().skip(whole) {
                lanes[c % LANES] = a.madd::<FMA>(*b.offset(c as isize * b_col), lanes[c % LANES]);
            }
            *to.add(r) = join(lanes, |a, b| a + b);
        }
    }
}

per_isa! {
    /// [`dots_body`] for an instruction set.
    pub(super) fn dots[T: Real](
        extents: [usize; 2], a: *const T, a_row: usize, b: *const T, strides: [isize; 2], to: *mut T,
    ) = dots_body
}
