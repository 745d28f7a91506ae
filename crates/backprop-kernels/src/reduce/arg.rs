use crate::simd::per_isa;
use crate::{DType, Isa, Kernel};

/// Which extreme an [`ArgReduce`] finds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ArgReduction {
    /// The first largest element; the first NaN wins over every number.
    Max,
    /// The first smallest element; the first NaN wins over every number.
    Min,
}

/// The index of the first extreme along one dimension, and its value.
///
/// The input is [outer, length, inner] in row-major order. Operands: input, indices (`I32`, [outer, inner]), values (the input's
/// type, [outer, inner]); neither output overlaps another operand. A length of 0 gives index 0 and leaves the values alone.
pub struct ArgReduce {
    outer: usize,
    length: usize,
    inner: usize,
    run: unsafe fn(&ArgReduce, usize, &[*mut u8]),
    better: ArgReduction,
    group: usize,
}

impl ArgReduce {
    /// Plans the search for `F32` or `F64` data; `None` for other types or a length beyond `i32`.
    pub fn new(shape: [usize; 3], dtype: DType, reduction: ArgReduction, isa: Isa) -> Option<ArgReduce> {
        let [outer, length, inner] = shape;
        let run = match dtype {
            DType::F32 => search::<f32>(isa),
            DType::F64 => search::<f64>(isa),
            _ => return None,
        };
        i32::try_from(length).ok()?;
        let group = (32_768 / (length * inner).max(1)).max(1);
        Some(ArgReduce { outer, length, inner, run, better: reduction, group })
    }
}

impl Kernel for ArgReduce {
    fn tasks(&self, _stage: usize) -> usize {
        self.outer.div_ceil(self.group)
    }

    unsafe fn run(&self, _stage: usize, task: usize, operands: &[*mut u8], _workspace: *mut u8, _scratch: *mut u8) {
        // SAFETY: the caller's promise.
        unsafe { (self.run)(self, task, operands) };
    }
}

per_isa! { fn search[T: Float](kernel: &ArgReduce, task: usize, operands: &[*mut u8]) = search_body }

/// What is compared.
trait Float: PartialOrd + Copy {}
impl Float for f32 {}
impl Float for f64 {}

/// Values compared side by side.
const LANES: usize = 32;

/// # Safety
/// As [`Kernel::run`].
#[inline(always)]
unsafe fn search_body<T: Float, const FMA: bool>(kernel: &ArgReduce, task: usize, operands: &[*mut u8]) {
    let (length, inner) = (kernel.length, kernel.inner);
    for outer in task * kernel.group..((task + 1) * kernel.group).min(kernel.outer) {
        // SAFETY: the operands have the documented shapes; tasks own disjoint outer positions.
        let (input, indices, values) = unsafe {
            (
                std::slice::from_raw_parts(operands[0].cast::<T>().add(outer * length * inner), length * inner),
                std::slice::from_raw_parts_mut(operands[1].cast::<i32>().add(outer * inner), inner),
                std::slice::from_raw_parts_mut(operands[2].cast::<T>().add(outer * inner), inner),
            )
        };
        match (inner, input) {
            (1, [first, ..]) if length >= LANES / 2 => {
                let at = match kernel.better {
                    ArgReduction::Max => first_extreme(input, *first, |x, best| x > best),
                    ArgReduction::Min => first_extreme(input, *first, |x, best| x < best),
                };
                (indices[0], values[0]) = (at as i32, input[at]);
            }
            _ => first_extremes(kernel.better, input, indices, values),
        }
    }
}

/// Where the first extreme of a row is: the row is gone through for its value, then for its place.
#[inline(always)]
fn first_extreme<T: Float>(row: &[T], first: T, beats: impl Fn(T, T) -> bool) -> usize {
    if is_nan(first) {
        return 0;
    }
    let (groups, rest) = row.as_chunks::<LANES>();
    let mut padded = [first; LANES];
    padded[..rest.len()].copy_from_slice(rest);
    let groups = || groups.iter().chain([&padded]);
    // Flags as wide as what they are about stay in vectors: a NaN, or the first element.
    let (mut best, mut odd) = ([first; LANES], [first; LANES]);
    for group in groups() {
        for ((best, odd), &x) in best.iter_mut().zip(&mut odd).zip(group) {
            *odd = if is_nan(x) { x } else { *odd };
            *best = if beats(x, *best) { x } else { *best };
        }
    }
    if odd.iter().any(|&odd| is_nan(odd)) {
        return row.iter().position(|&x| is_nan(x)).unwrap_or(0);
    }
    let best = halved(best, |a, b| if beats(b, a) { b } else { a });
    for (number, group) in groups().enumerate() {
        let mut places = [i32::MAX; LANES];
        for (i, (place, &x)) in places.iter_mut().zip(group).enumerate() {
            *place = if x == best { i as i32 } else { i32::MAX };
        }
        let place = halved(places, i32::min);
        if place < i32::MAX {
            return number * LANES + place as usize;
        }
    }
    0
}

/// What is left of lanes that are joined half by half.
#[inline(always)]
fn halved<T: Copy>(mut lanes: [T; LANES], join: impl Fn(T, T) -> T) -> T {
    let mut half = LANES / 2;
    while half > 0 {
        let (low, high) = lanes.split_at_mut(half);
        low.iter_mut().zip(high).for_each(|(a, &mut b)| *a = join(*a, b));
        half /= 2;
    }
    lanes[0]
}

/// Likewise for each column of the rows of `indices.len()` values.
#[inline(always)]
fn first_extremes<T: Float>(better: ArgReduction, input: &[T], indices: &mut [i32], values: &mut [T]) {
    let inner = indices.len();
    indices.fill(0);
    let Some(first) = input.get(..inner) else { return };
    values.copy_from_slice(first);
    for (l, row) in input.chunks_exact(inner.max(1)).enumerate().skip(1) {
        for ((best, at), &x) in values.iter_mut().zip(indices.iter_mut()).zip(row) {
            let beats = match better {
                ArgReduction::Max => x > *best,
                ArgReduction::Min => x < *best,
            };
            let replaces = !is_nan(*best) && (beats || is_nan(x));
            *best = if replaces { x } else { *best };
            *at = if replaces { l as i32 } else { *at };
        }
    }
}

/// A NaN is the only value that differs from itself.
#[allow(clippy::eq_op, reason = "the test for NaN of a generic float")]
#[inline(always)]
fn is_nan<T: Float>(x: T) -> bool {
    x != x
}
