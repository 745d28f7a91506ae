//! Elementary functions in `f32`: one branch-free source for every vector width.
//!
//! Each function is plain arithmetic, bit tricks and selects, `#[inline(always)]`, so that a loop over it vectorises under
//! whatever `#[target_feature]` it is inlined into. `FMA` says whether the multiply-add is fused (AVX2, AVX-512) or two
//! roundings (portable); with the same `FMA` the result is the same bits at every width. Error against `f64`: at most 4 ULP.
//!
//! Denormal arguments and results are ordinary values here: nothing is flushed.

mod exp_log;
mod power;
mod round;
mod special;
mod trig;
pub mod wide;

pub use exp_log::{exp, expm1, log, log1p};
pub use power::{pow, rsqrt, sqrt};
pub use round::{maximum, minimum, sign};
pub use special::{erf, logistic, tanh};
pub use trig::{REDUCIBLE, cos, sin};

/// `a·b + c`, fused or in two roundings.
#[inline(always)]
pub(crate) fn madd<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// `a·b + c` in `f64`, fused or in two roundings.
#[inline(always)]
pub(crate) fn madd64<const FMA: bool>(a: f64, b: f64, c: f64) -> f64 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// Polynomial by Horner's rule, coefficients from the highest power down.
#[inline(always)]
pub(crate) fn horner<const FMA: bool, const N: usize>(x: f32, coefficients: [f32; N]) -> f32 {
    let mut sum = coefficients[0];
    let mut i = 1;
    while i < N {
        sum = madd::<FMA>(sum, x, coefficients[i]);
        i += 1;
    }
    sum
}

/// Polynomial in `f64` by Horner's rule, coefficients from the highest power down.
#[inline(always)]
pub(crate) fn horner64<const FMA: bool, const N: usize>(x: f64, coefficients: [f64; N]) -> f64 {
    let mut sum = coefficients[0];
    let mut i = 1;
    while i < N {
        sum = madd64::<FMA>(sum, x, coefficients[i]);
        i += 1;
    }
    sum
}

#[cfg(test)]
mod tests;
