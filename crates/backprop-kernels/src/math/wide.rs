//! The `f64` functions the standard library lacks; `f64` serves for checking, not for speed.

/// −1, +1, or the argument itself for ±0 and NaN.
#[inline(always)]
pub fn sign(x: f64) -> f64 {
    let y = if x > 0.0 { 1.0 } else { x };
    if x < 0.0 { -1.0 } else { y }
}

/// IEEE 754-2019 `maximum`: NaN if either is, and +0 above −0.
#[inline(always)]
pub fn maximum(a: f64, b: f64) -> f64 {
    let equal = f64::from_bits(a.to_bits() & b.to_bits());
    let larger = if a > b { a } else { b };
    let y = if a == b { equal } else { larger };
    if a.is_nan() || b.is_nan() { f64::NAN } else { y }
}

/// IEEE 754-2019 `minimum`: NaN if either is, and −0 below +0.
#[inline(always)]
pub fn minimum(a: f64, b: f64) -> f64 {
    let equal = f64::from_bits(a.to_bits() | b.to_bits());
    let smaller = if a < b { a } else { b };
    let y = if a == b { equal } else { smaller };
    if a.is_nan() || b.is_nan() { f64::NAN } else { y }
}

/// `1/(1 + e⁻ˣ)`, exact in the tails too.
pub fn logistic(x: f64) -> f64 {
    let e = (-x.abs()).exp();
    if x < 0.0 { e / (1.0 + e) } else { 1.0 / (1.0 + e) }
}

/// Error function to about 10⁻¹⁵ relative: the Maclaurin series `2x/√π · e^(−x²) Σ (2x²)ᵏ/(2k+1)!!` up to |x| = 3, then one
/// minus Lentz's continued fraction of erfc (Abramowitz and Stegun 7.1.6 and 7.1.14).
pub fn erf(x: f64) -> f64 {
    let a = x.abs();
    if a.is_nan() || a == 0.0 {
        return x;
    }
    let y = if a < 3.0 { erf_series(a) } else { 1.0 - erfc_fraction(a) };
    y.copysign(x)
}

fn erf_series(a: f64) -> f64 {
    let (mut term, mut sum, mut k) = (1.0, 1.0, 0.0);
    while term > sum * 1e-17 {
        k += 1.0;
        term *= 2.0 * a * a / (2.0 * k + 1.0);
        sum += term;
    }
    std::f64::consts::FRAC_2_SQRT_PI * a * (-a * a).exp() * sum
}

fn erfc_fraction(a: f64) -> f64 {
    if a > 28.0 {
        return 0.0;
    }
    let mut fraction = a;
    for k in (1..=60).rev() {
        fraction = a + f64::from(k) * 0.5 / fraction;
    }
    (-a * a).exp() / (fraction * std::f64::consts::PI.sqrt())
}
