use super::{exp, horner, madd};

/// Hyperbolic tangent. Small arguments: minimax coefficients of Moshier, Cephes `tanhf`; otherwise `1 − 2/(e²ˣ + 1)`.
#[inline(always)]
pub fn tanh<const FMA: bool>(x: f32) -> f32 {
    let a = x.abs();
    let z = a * a;
    let tail = [-5.704_988_7e-3, 2.063_909e-2, -5.373_971_6e-2, 1.333_144_2e-1, -3.333_328e-1];
    let poly = horner::<FMA, 5>(z, tail);
    let small = madd::<FMA>(a * z, poly, a);
    let large = 1.0 - 2.0 / (exp::<FMA>(a + a) + 1.0);
    let y = if a < 0.625 { small } else { large };
    y.copysign(x)
}

/// `1/(1 + e⁻ˣ)`, exact in the tails too: the exponential is always taken of −|x|.
#[inline(always)]
pub fn logistic<const FMA: bool>(x: f32) -> f32 {
    let e = exp::<FMA>(-x.abs());
    let numerator = if x < 0.0 { e } else { 1.0 };
    numerator / (1.0 + e)
}

/// Error function. Minimax coefficients published by N. Juffa: `x + x·P(x²)` near 0, `1 − e^Q(|x|)` beyond.
#[inline(always)]
pub fn erf<const FMA: bool>(x: f32) -> f32 {
    let a = x.abs();
    let s = a * a;
    let near = [-5.967_617e-4, 4.991_194e-3, -2.676_813_5e-2, 1.128_199_3e-1, -3.761_253_4e-1, 1.283_791_7e-1];
    let small = madd::<FMA>(horner::<FMA, 6>(s, near), a, a);
    let far = [-1.728_534_7e-5, 3.831_971_3e-4, -3.883_964_4e-3, 2.425_462_2e-2, -1.067_778_8e-1, -6.348_467e-1, -1.287_175_1e-1];
    let exponent = madd::<FMA>(horner::<FMA, 7>(a, far), a, -a);
    let large = 1.0 - exp::<FMA>(exponent);
    let y = if a > 0.921_875 { large } else { small };
    y.copysign(x)
}
