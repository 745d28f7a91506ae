//! Elementary functions in `f32`: one branch-free source for every vector width.
//!
//! Each function is plain arithmetic, bit tricks and selects, `#[inline(always)]`, so that a loop over it vectorises under
//! whatever `#[target_feature]` it is inlined into. `FMA` says whether the multiply-add is fused (AVX2, AVX-512) or two
//! roundings (portable); with the same `FMA` the result is the same bits at every width. Error against `f64`: at most 4 ULP.
//!
//! Denormal arguments and results are ordinary values here; it is tile programs that make zeros of such results.

mod exp_log;
mod number;
mod power;
mod round;
mod special;
mod trig;
pub mod wide;

pub(crate) use number::Number;
use number::Plain;
pub use power::{pow, rsqrt, sqrt};
pub use trig::{REDUCIBLE, cos, sin};

/// The functions in whatever notation: what loops over numbers and compiled programs have in common.
pub(crate) mod general {
    pub(crate) use super::exp_log::{exp, expm1, log, log1p};
    pub(crate) use super::round::{maximum, minimum, sign};
    pub(crate) use super::special::{erf, logistic, tanh};
}

macro_rules! of_one {
    ($($(#[$doc:meta])* $name:ident;)*) => { $(
        $(#[$doc])*
        #[inline(always)]
        pub fn $name<const FMA: bool>(x: f32) -> f32 {
            general::$name(Plain::<FMA>(x)).0
        }
    )* };
}
of_one! {
    /// eˣ. Overflows to infinity, underflows gradually through the denormals to 0.
    exp;
    /// eˣ − 1 without cancellation near 0.
    expm1;
    /// Natural logarithm: −∞ at ±0, NaN below 0.
    log;
    /// ln(1 + x) without cancellation near 0: −∞ at −1, NaN below.
    log1p;
    /// Hyperbolic tangent.
    tanh;
    /// `1/(1 + e⁻ˣ)`, exact in the tails too.
    logistic;
    /// Error function.
    erf;
}

/// −1, +1, or the argument itself for ±0 and NaN.
#[inline(always)]
pub fn sign(x: f32) -> f32 {
    general::sign(Plain::<false>(x)).0
}

/// IEEE 754-2019 `maximum`: NaN if either is, and +0 above −0.
#[inline(always)]
pub fn maximum(a: f32, b: f32) -> f32 {
    general::maximum(Plain::<false>(a), Plain(b)).0
}

/// IEEE 754-2019 `minimum`: NaN if either is, and −0 below +0.
#[inline(always)]
pub fn minimum(a: f32, b: f32) -> f32 {
    general::minimum(Plain::<false>(a), Plain(b)).0
}

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
fn polynomial<N: Number, const D: usize>(x: N, coefficients: [f32; D]) -> N {
    let mut sum = x.constant(coefficients[0]);
    let mut i = 1;
    while i < D {
        sum = sum.madd(x, x.constant(coefficients[i]));
        i += 1;
    }
    sum
}

/// The same of a number itself.
#[inline(always)]
pub(crate) fn horner<const FMA: bool, const N: usize>(x: f32, coefficients: [f32; N]) -> f32 {
    polynomial(Plain::<FMA>(x), coefficients).0
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
