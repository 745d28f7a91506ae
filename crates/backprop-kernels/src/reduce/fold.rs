//! The element functions of reductions and the vector loops over them.

use crate::math;
use crate::simd::per_isa;
use crate::tile::ops::Flag;
use crate::window::{Channels, Windows, each_channel};

/// How values of one type are reduced in an accumulator type.
pub(super) trait Fold: 'static {
    type Value: Copy;
    type Sum: Copy;
    /// The same reduction of its own partial results.
    type Again: Fold<Value = Self::Sum, Sum = Self::Sum>;
    fn identity() -> Self::Sum;
    fn lift(value: Self::Value) -> Self::Sum;
    fn merge(a: Self::Sum, b: Self::Sum) -> Self::Sum;
    fn lower(sum: Self::Sum) -> Self::Value;
}

macro_rules! folds {
    ($($name:ident : $value:ty, $sum:ty, $again:ty, $identity:expr, ($a:ident, $b:ident) => $merge:expr;)*) => {
        $(pub(super) struct $name;
        impl Fold for $name {
            type Value = $value;
            type Sum = $sum;
            type Again = $again;
            #[inline(always)]
            fn identity() -> $sum { $identity }
            #[inline(always)]
            fn lift(value: $value) -> $sum { value as $sum }
            #[inline(always)]
            fn merge($a: $sum, $b: $sum) -> $sum { $merge }
            #[inline(always)]
            fn lower(sum: $sum) -> $value { sum as $value }
        })*
    };
}
folds! {
    SumF32: f32, f32, SumF32, 0.0, (a, b) => a + b;
    SumF32Wide: f32, f64, SumF64, 0.0, (a, b) => a + b;
    MaxF32: f32, f32, MaxF32, f32::NEG_INFINITY, (a, b) => math::maximum(a, b);
    MinF32: f32, f32, MinF32, f32::INFINITY, (a, b) => math::minimum(a, b);
    SumF64: f64, f64, SumF64, 0.0, (a, b) => a + b;
    MaxF64: f64, f64, MaxF64, f64::NEG_INFINITY, (a, b) => math::wide::maximum(a, b);
    MinF64: f64, f64, MinF64, f64::INFINITY, (a, b) => math::wide::minimum(a, b);
}

/// The sum of the squares, each formed in `f32`.
pub(super) struct SquaresF32Wide;
impl Fold for SquaresF32Wide {
    type Value = f32;
    type Sum = f64;
    type Again = SumF64;
    #[inline(always)]
    fn identity() -> f64 {
        0.0
    }
    #[inline(always)]
    fn lift(value: f32) -> f64 {
        f64::from(value * value)
    }
    #[inline(always)]
    fn merge(a: f64, b: f64) -> f64 {
        a + b
    }
    #[inline(always)]
    fn lower(sum: f64) -> f32 {
        sum as f32
    }
}

/// Wrapping sums and extremes of an integer type.
pub(super) struct SumInt<T>(std::marker::PhantomData<T>);
pub(super) struct MaxInt<T>(std::marker::PhantomData<T>);
pub(super) struct MinInt<T>(std::marker::PhantomData<T>);

macro_rules! integer_folds {
    ($($kind:ident <$t:ty> : $identity:expr, ($a:ident, $b:ident) => $merge:expr;)*) => {
        $(impl Fold for $kind<$t> {
            type Value = $t;
            type Sum = $t;
            type Again = Self;
            #[inline(always)]
            fn identity() -> $t { $identity }
            #[inline(always)]
            fn lift(value: $t) -> $t { value }
            #[inline(always)]
            fn merge($a: $t, $b: $t) -> $t { $merge }
            #[inline(always)]
            fn lower(sum: $t) -> $t { sum }
        })*
    };
}
macro_rules! each_integer {
    ($($t:ty),*) => {
        integer_folds! {
            $(SumInt<$t>: 0, (a, b) => a.wrapping_add(b);
            MaxInt<$t>: <$t>::MIN, (a, b) => a.max(b);
            MinInt<$t>: <$t>::MAX, (a, b) => a.min(b);)*
        }
    };
}
each_integer!(u8, i32, i64, u32, u64);
integer_folds! {
    MaxInt<Flag>: Flag(0), (a, b) => Flag(a.0 | b.0);
    MinInt<Flag>: Flag(1), (a, b) => Flag(a.0 & b.0);
}

/// The most virtual lanes of one row.
pub(super) const LANES: usize = 64;

/// Virtual lanes for a run of that length.
pub(super) fn lanes(len: usize) -> usize {
    match len {
        0..16 => 1,
        16..128 => 16,
        _ => LANES,
    }
}

/// The vector loops of one fold for one instruction set.
pub(crate) struct Loops {
    /// `(lanes, count of lanes, first lane, values, n)`: value `i` joins lane `(first + i) mod count`.
    pub(super) spread: unsafe fn(*mut u8, usize, usize, *const u8, usize),
    /// `(lanes, count of lanes)`: the tree over the lanes, result in lane 0.
    pub(super) gather: unsafe fn(*mut u8, usize),
    /// `(row, values, n)`: value `i` joins element `i` of the row.
    pub(super) columns: unsafe fn(*mut u8, *const u8, usize),
    /// `(row, values, rows, width)`: as [`columns`](Self::columns) for one row of values after the other.
    pub(super) stack: unsafe fn(*mut u8, *const u8, usize, usize),
    /// `(results, values, rows, length)`: whole rows shorter than a tile, each with the lanes of its length.
    pub(super) rows: unsafe fn(*mut u8, *const u8, usize, usize),
    /// `(sums, n)`: identities.
    pub(super) clear: unsafe fn(*mut u8, usize),
    /// `(values, sums, n)`: the final results.
    pub(super) finish: unsafe fn(*mut u8, *const u8, usize),
    /// `(windows, values, sums)`: the rows under each window.
    pub(crate) windows: unsafe fn(Windows<'_>, *const u8, *mut u8),
}

impl Loops {
    pub(super) fn of<F: Fold>(isa: crate::Isa) -> Loops {
        Loops {
            spread: spread::<F>(isa),
            gather: gather::<F>(isa),
            columns: columns::<F>(isa),
            stack: stack::<F>(isa),
            rows: rows::<F>(isa),
            clear: clear::<F>(isa),
            finish: finish::<F>(isa),
            windows: windows::<F>(isa),
        }
    }
}

#[inline(always)]
fn join<F: Fold>(sums: &mut [F::Sum], values: &[F::Value]) {
    for (sum, &value) in sums.iter_mut().zip(values) {
        *sum = F::merge(*sum, F::lift(value));
    }
}

/// Adds whole groups of `W` values to `W` lanes, kept in registers.
#[inline(always)]
fn join_groups<F: Fold, const W: usize>(sums: &mut [F::Sum], values: &[F::Value]) {
    let Some((sums, _)) = sums.split_first_chunk_mut::<W>() else { return };
    let mut held = *sums;
    let (groups, rest) = values.as_chunks::<W>();
    for group in groups {
        for (sum, &value) in held.iter_mut().zip(group) {
            *sum = F::merge(*sum, F::lift(value));
        }
    }
    *sums = held;
    join::<F>(sums, rest);
}

/// Adds the first `W` values of rows that are `width` apart to `W` sums, kept in registers.
#[inline(always)]
fn join_strip<F: Fold, const W: usize>(sums: &mut [F::Sum], values: &[F::Value], width: usize) {
    let Some((sums, _)) = sums.split_first_chunk_mut::<W>() else { return };
    let mut held = *sums;
    for row in values.chunks(width) {
        let Some(row) = row.first_chunk::<W>() else { break };
        for (sum, &value) in held.iter_mut().zip(row) {
            *sum = F::merge(*sum, F::lift(value));
        }
    }
    *sums = held;
}

#[inline(always)]
fn spread_over<F: Fold>(sums: &mut [F::Sum], first: usize, values: &[F::Value]) {
    let count = sums.len();
    let head = if first == 0 { 0 } else { values.len().min(count - first) };
    join::<F>(&mut sums[first..], &values[..head]);
    let values = &values[head..];
    match count {
        LANES => join_groups::<F, LANES>(sums, values),
        16 => join_groups::<F, 16>(sums, values),
        _ => join_groups::<F, 1>(sums, values),
    }
}

#[inline(always)]
fn gather_over<F: Fold>(sums: &mut [F::Sum]) -> F::Sum {
    let mut half = sums.len() / 2;
    while half > 0 {
        let (low, high) = sums.split_at_mut(half);
        for (a, &b) in low.iter_mut().zip(high.iter()) {
            *a = F::merge(*a, b);
        }
        half /= 2;
    }
    sums[0]
}

/// # Safety
/// As documented at [`Loops::spread`].
#[inline(always)]
unsafe fn spread_body<F: Fold, const FMA: bool>(sums: *mut u8, count: usize, first: usize, values: *const u8, n: usize) {
    // SAFETY: promised by the caller.
    let (sums, values) = unsafe { (slice_mut::<F::Sum>(sums, count), slice::<F::Value>(values, n)) };
    spread_over::<F>(sums, first, values);
}

/// # Safety
/// As documented at [`Loops::gather`].
#[inline(always)]
unsafe fn gather_body<F: Fold, const FMA: bool>(sums: *mut u8, count: usize) {
    // SAFETY: promised by the caller.
    gather_over::<F>(unsafe { slice_mut::<F::Sum>(sums, count) });
}

/// # Safety
/// As documented at [`Loops::columns`].
#[inline(always)]
unsafe fn columns_body<F: Fold, const FMA: bool>(sums: *mut u8, values: *const u8, n: usize) {
    // SAFETY: promised by the caller.
    let (sums, values) = unsafe { (slice_mut::<F::Sum>(sums, n), slice::<F::Value>(values, n)) };
    join::<F>(sums, values);
}

/// # Safety
/// As documented at [`Loops::stack`].
#[inline(always)]
unsafe fn stack_body<F: Fold, const FMA: bool>(sums: *mut u8, values: *const u8, rows: usize, width: usize) {
    // SAFETY: promised by the caller.
    let (sums, values) = unsafe { (slice_mut::<F::Sum>(sums, width), slice::<F::Value>(values, rows * width)) };
    let mut at = 0;
    while width - at >= LANES {
        join_strip::<F, LANES>(&mut sums[at..], &values[at..], width);
        at += LANES;
    }
    while width - at >= 16 {
        join_strip::<F, 16>(&mut sums[at..], &values[at..], width);
        at += 16;
    }
    for row in values.chunks_exact(width) {
        join::<F>(&mut sums[at..], &row[at..]);
    }
}

/// # Safety
/// As documented at [`Loops::rows`].
#[inline(always)]
unsafe fn rows_body<F: Fold, const FMA: bool>(results: *mut u8, values: *const u8, rows: usize, length: usize) {
    // SAFETY: promised by the caller.
    let (results, values) = unsafe { (slice_mut::<F::Sum>(results, rows), slice::<F::Value>(values, rows * length)) };
    match lanes(length) {
        LANES => reduce_rows::<F, LANES>(results, values, length),
        16 => reduce_rows::<F, 16>(results, values, length),
        _ => reduce_rows::<F, 1>(results, values, length),
    }
}

#[inline(always)]
fn reduce_rows<F: Fold, const W: usize>(results: &mut [F::Sum], values: &[F::Value], length: usize) {
    for (result, row) in results.iter_mut().zip(values.chunks_exact(length)) {
        let mut sums = [F::identity(); W];
        join_groups::<F, W>(&mut sums, row);
        *result = gather_over::<F>(&mut sums);
    }
}

/// # Safety
/// As documented at [`Loops::clear`].
#[inline(always)]
unsafe fn clear_body<F: Fold, const FMA: bool>(sums: *mut u8, n: usize) {
    // SAFETY: promised by the caller.
    unsafe { slice_mut::<F::Sum>(sums, n) }.fill(F::identity());
}

/// # Safety
/// As documented at [`Loops::finish`].
#[inline(always)]
unsafe fn finish_body<F: Fold, const FMA: bool>(values: *mut u8, sums: *const u8, n: usize) {
    // SAFETY: promised by the caller.
    let (values, sums) = unsafe { (slice_mut::<F::Value>(values, n), slice::<F::Sum>(sums, n)) };
    for (value, &sum) in values.iter_mut().zip(sums) {
        *value = F::lower(sum);
    }
}

struct Joined<'p, F: Fold> {
    windows: Windows<'p>,
    values: *const F::Value,
    sums: *mut F::Sum,
}

impl<F: Fold> Channels for Joined<'_, F> {
    #[inline(always)]
    unsafe fn lanes<const L: usize>(&self, first: usize) {
        let windows = self.windows;
        for window in 0..windows.count {
            let mut held = [F::identity(); L];
            for &position in windows.positions {
                // SAFETY: as documented at `Loops::windows`.
                let values = unsafe { windows.load::<F::Value, L>(self.values.add(first), window, position) };
                for (sum, value) in held.iter_mut().zip(values) {
                    *sum = F::merge(*sum, F::lift(value));
                }
            }
            let row = window * windows.channels;
            // SAFETY: as documented at `Loops::windows`.
            unsafe { self.sums.add(row + first).cast::<[F::Sum; L]>().write_unaligned(held) };
        }
    }
}

/// # Safety
/// As documented at [`Loops::windows`].
#[inline(always)]
unsafe fn windows_body<F: Fold, const FMA: bool>(windows: Windows<'_>, values: *const u8, sums: *mut u8) {
    let joined: Joined<'_, F> = Joined { windows, values: values.cast(), sums: sums.cast() };
    // SAFETY: promised by the caller.
    unsafe { each_channel(windows.channels, &joined) };
}

/// # Safety
/// `address` holds `n` elements.
#[inline(always)]
unsafe fn slice<'a, T>(address: *const u8, n: usize) -> &'a [T] {
    // SAFETY: promised by the caller.
    unsafe { std::slice::from_raw_parts(address.cast::<T>(), n) }
}

/// # Safety
/// `address` holds `n` elements that nothing else uses meanwhile.
#[inline(always)]
unsafe fn slice_mut<'a, T>(address: *mut u8, n: usize) -> &'a mut [T] {
    // SAFETY: promised by the caller.
    unsafe { std::slice::from_raw_parts_mut(address.cast::<T>(), n) }
}

per_isa! { fn spread[F: Fold](sums: *mut u8, count: usize, first: usize, values: *const u8, n: usize) = spread_body }
per_isa! { fn gather[F: Fold](sums: *mut u8, count: usize) = gather_body }
per_isa! { fn columns[F: Fold](sums: *mut u8, values: *const u8, n: usize) = columns_body }
per_isa! { fn stack[F: Fold](sums: *mut u8, values: *const u8, rows: usize, width: usize) = stack_body }
per_isa! { fn rows[F: Fold](results: *mut u8, values: *const u8, rows: usize, length: usize) = rows_body }
per_isa! { fn clear[F: Fold](sums: *mut u8, n: usize) = clear_body }
per_isa! { fn finish[F: Fold](values: *mut u8, sums: *const u8, n: usize) = finish_body }
per_isa! { fn windows[F: Fold](windows: Windows<'_>, values: *const u8, sums: *mut u8) = windows_body }
