use super::exp_log::expm1_normal;
use super::{exp, horner, madd};

/// Hyperbolic tangent, `(e²ˣ − 1)/(e²ˣ + 1)`. Beyond 9.02 it is 1 to the last bit.
#[inline(always)]
pub fn tanh<const FMA: bool>(x: f32) -> f32 {
    let a = x.abs();
    let a = if a > 9.02 { 9.02 } else { a };
    let e = expm1_normal::<FMA>(a + a);
    (e / (e + 2.0)).copysign(x)
}

/// `1/(1 + e⁻ˣ)`, exact in the tails too: the exponential is always taken of −|x|.
#[inline(always)]
pub fn logistic<const FMA: bool>(x: f32) -> f32 {
    let e = exp::<FMA>(-x.abs());
    let numerator = if x < 0.0 { e } else { 1.0 };
    numerator / (1.0 + e)
}

/// Error function, `1 − e^Q(|x|)` with `Q(a) = −a + a·P(a)`. Beyond 3.95 it is 1 to the last bit. P is the polynomial by Remez's
/// algorithm for `ln(erfc a)/a + 1` on 0 to 3.95 whose error, carried over to erf, is at most 6.6·10⁻⁸, near 0 a sixth of that.
#[inline(always)]
pub fn erf<const FMA: bool>(x: f32) -> f32 {
    let a = x.abs();
    let a = if a > 3.95 { 3.95 } else { a };
    let p = [
        -4.730_607_5e-5,
        4.255_355_7e-4,
        -1.365_056_1e-3,
        -6.915_166e-5,
        1.924_144e-2,
        -1.027_932e-1,
        -6.366_184_4e-1,
        -1.283_791_8e-1,
    ];
    expm1_normal::<FMA>(madd::<FMA>(horner::<FMA, 8>(a, p), a, -a)).copysign(x)
}
