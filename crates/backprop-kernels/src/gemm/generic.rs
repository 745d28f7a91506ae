//! Products of every element type in plain loops: for checking, and for integers.

use super::{GemmSpec, KC, Strided};
use crate::{DType, Kernel};

/// Columns that are accumulated together.
const WIDTH: usize = 32;
/// Multiply-adds of a task.
const TASK: usize = 1 << 16;

/// Element arithmetic: load, accumulate, store.
pub(crate) trait Element: Copy {
    /// What sums are formed in.
    type Sum: Copy;
    /// The empty sum.
    const ZERO: Self::Sum;
    /// sum + a · b, without a fused multiply-add; integers wrap.
    fn madd(sum: Self::Sum, a: Self, b: Self) -> Self::Sum;
    fn add(a: Self::Sum, b: Self::Sum) -> Self::Sum;
    fn store(sum: Self::Sum) -> Self;
}

macro_rules! integer_elements {
    ($($t:ty)*) => {$(
        impl Element for $t {
            type Sum = $t;
            const ZERO: $t = 0;
            fn madd(sum: $t, a: $t, b: $t) -> $t {
                sum.wrapping_add(a.wrapping_mul(b))
            }
            fn add(a: $t, b: $t) -> $t {
                a.wrapping_add(b)
            }
            fn store(sum: $t) -> $t {
                sum
            }
        }
    )*};
}

integer_elements!(u8 i32 i64 u32 u64);

macro_rules! float_elements {
    ($($t:ty => $sum:ty, $load:expr, $store:expr;)*) => {$(
        impl Element for $t {
            type Sum = $sum;
            const ZERO: $sum = 0.0;
            fn madd(sum: $sum, a: $t, b: $t) -> $sum {
                sum + $load(a) * $load(b)
            }
            fn add(a: $sum, b: $sum) -> $sum {
                a + b
            }
            fn store(sum: $sum) -> $t {
                $store(sum)
            }
        }
    )*};
}

/// f32 storage with sums in f64.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct WideF32(f32);

float_elements! {
    f64 => f64, std::convert::identity, std::convert::identity;
    f32 => f32, std::convert::identity, std::convert::identity;
    WideF32 => f64, |x: WideF32| f64::from(x.0), |x: f64| WideF32(x as f32);
    half::f16 => f32, half::f16::to_f32, half::f16::from_f32;
    half::bf16 => f32, half::bf16::to_f32, half::bf16::from_f32;
}

/// Calls `$call::<T>` with the Rust type of (storage, accumulation), or gives `None`.
macro_rules! with_element {
    ($dtype:expr, $sum:expr, $name:ident) => {
        match ($dtype, $sum) {
            (DType::F64, DType::F64) => Some($name::<f64> as _),
            (DType::F32, DType::F64) => Some($name::<$crate::gemm::generic::WideF32> as _),
            (DType::F32, DType::F32) => Some($name::<f32> as _),
            (DType::F16, DType::F32) => Some($name::<half::f16> as _),
            (DType::BF16, DType::F32) => Some($name::<half::bf16> as _),
            (DType::U8, DType::U8) => Some($name::<u8> as _),
            (DType::I32, DType::I32) => Some($name::<i32> as _),
            (DType::I64, DType::I64) => Some($name::<i64> as _),
            (DType::U32, DType::U32) => Some($name::<u32> as _),
            (DType::U64, DType::U64) => Some($name::<u64> as _),
            _ => None,
        }
    };
}

pub(crate) use with_element;

/// A batched product of any element type. Operands: A, B, C; C overlaps neither.
pub struct GemmGeneric {
    spec: GemmSpec,
    rows_per_task: usize,
    a: Strided,
    b: Strided,
    c: Strided,
    row: unsafe fn(&GemmGeneric, usize, usize, &[*mut u8]),
}

impl GemmGeneric {
    /// Plans a product of elements of type `dtype` with sums of type `sum`; `None` where the pair is not supported.
    ///
    /// Supported: f64 in f64, f32 in f32 or f64, f16 and bf16 in f32, integers in themselves (wrapping).
    pub fn new(spec: GemmSpec, dtype: DType, sum: DType) -> Option<GemmGeneric> {
        let row = with_element!(dtype, sum, row)?;
        let rows_per_task = (TASK / (spec.n * spec.k).max(1)).max(1);
        let [a, b, c] = [|d: &super::BatchDim| d.a, |d: &super::BatchDim| d.b, |d: &super::BatchDim| d.c]
            .map(|pick| Strided::new(spec.batch.iter().map(|d| (d.extent, pick(d)))));
        Some(GemmGeneric { spec, rows_per_task, a, b, c, row })
    }
}

/// One row of C.
///
/// # Safety
/// As [`Kernel::run`].
unsafe fn row<T: Element>(g: &GemmGeneric, batch: usize, i: usize, operands: &[*mut u8]) {
    let s = &g.spec;
    let a = operands[0].cast::<T>().wrapping_offset(g.a.offset(batch) + i as isize * s.a_row);
    let b = operands[1].cast::<T>().wrapping_offset(g.b.offset(batch));
    let c = operands[2].cast::<T>().wrapping_offset(g.c.offset(batch) + i as isize * s.c_row);
    for j0 in (0..s.n).step_by(WIDTH) {
        let cols = (s.n - j0).min(WIDTH);
        let mut total = [T::ZERO; WIDTH];
        for l0 in (0..s.k).step_by(KC) {
            let mut chain = [T::ZERO; WIDTH];
            for l in l0..s.k.min(l0 + KC) {
                let from = b.wrapping_offset(l as isize * s.b_row + j0 as isize * s.b_col);
                // SAFETY: (i, l) lies within A and (l, j0 + j) within B.
                unsafe {
                    let x = *a.offset(l as isize * s.a_col);
                    for (j, sum) in chain[..cols].iter_mut().enumerate() {
                        *sum = T::madd(*sum, x, *from.offset(j as isize * s.b_col));
                    }
                }
            }
            total.iter_mut().zip(chain).for_each(|(t, c)| *t = if l0 == 0 { c } else { T::add(*t, c) });
        }
        for (j, sum) in total[..cols].iter().enumerate() {
            // SAFETY: (i, j0 + j) lies within C.
            unsafe { *c.offset((j0 + j) as isize * s.c_col) = T::store(*sum) };
        }
    }
}

impl Kernel for GemmGeneric {
    fn tasks(&self, _stage: usize) -> usize {
        if self.spec.n == 0 {
            return 0;
        }
        (self.spec.batches() * self.spec.m).div_ceil(self.rows_per_task)
    }

    unsafe fn run(&self, _stage: usize, task: usize, operands: &[*mut u8], _workspace: *mut u8, _scratch: *mut u8) {
        let rows = self.spec.batches() * self.spec.m;
        for row in task * self.rows_per_task..rows.min((task + 1) * self.rows_per_task) {
            // SAFETY: as the caller vouches.
            unsafe { (self.row)(self, row / self.spec.m, row % self.spec.m, operands) };
        }
    }
}
