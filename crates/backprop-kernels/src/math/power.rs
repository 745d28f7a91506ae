use super::{horner64, madd64};

/// Square root, correctly rounded.
#[inline(always)]
pub fn sqrt(x: f32) -> f32 {
    x.sqrt()
}

/// `1/√x` as a correctly rounded root and a correctly rounded division.
#[inline(always)]
pub fn rsqrt(x: f32) -> f32 {
    1.0 / x.sqrt()
}

/// log₂ of a positive finite `f32` given as `f64` (normal there): 2·atanh((m−1)/(m+1))/ln 2 by its series, relative error ≈ 10⁻¹².
#[inline(always)]
fn log2_wide<const FMA: bool>(x: f64) -> f64 {
    let bits = x.to_bits() as i64;
    let e = bits.wrapping_sub(0x3fe6_a09e_667f_3bcd) >> 52;
    let m = f64::from_bits(bits.wrapping_sub(e << 52) as u64);
    let f = (m - 1.0) / (m + 1.0);
    let s = f * f;
    let series = horner64::<FMA, 7>(s, [1.0 / 13.0, 1.0 / 11.0, 1.0 / 9.0, 1.0 / 7.0, 1.0 / 5.0, 1.0 / 3.0, 1.0]);
    // e is small: the sum with 1.5·2⁵² converts it without a 64-bit conversion instruction, which AVX2 lacks.
    let count = f64::from_bits((e as u64).wrapping_add(ROUNDER64.to_bits())) - ROUNDER64;
    madd64::<FMA>(2.0 * std::f64::consts::LOG2_E * f, series, count)
}

/// 1.5·2⁵²: adding it rounds a small `f64` to an integer held in the low mantissa bits.
const ROUNDER64: f64 = 6_755_399_441_055_744.0;

/// 2ᵗ for |t| ≤ 1000 by the Taylor polynomial of degree 9 on |r| ≤ ½, relative error ≈ 10⁻¹¹.
#[inline(always)]
fn exp2_wide<const FMA: bool>(t: f64) -> f64 {
    let shifted = t + ROUNDER64;
    let n = shifted.to_bits().wrapping_sub(ROUNDER64.to_bits());
    let r = (t - (shifted - ROUNDER64)) * std::f64::consts::LN_2;
    let p = horner64::<FMA, 10>(
        r,
        [1.0 / 362_880.0, 1.0 / 40_320.0, 1.0 / 5040.0, 1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0],
    );
    p * f64::from_bits(n.wrapping_add(1023) << 52)
}

/// xʸ with the special cases of IEEE 754-2019 `pow`, computed in `f64` and rounded once.
#[inline(always)]
pub fn pow<const FMA: bool>(x: f32, y: f32) -> f32 {
    let magnitude = x.abs();
    let wide = f64::from(magnitude);
    let log2 = log2_wide::<FMA>(wide);
    let log2 = if magnitude == 0.0 { f64::NEG_INFINITY } else { log2 };
    let log2 = if magnitude == f32::INFINITY { f64::INFINITY } else { log2 };
    let t = f64::from(y) * log2;
    let t = if t > 1000.0 { 1000.0 } else { t };
    let t = if t < -1000.0 { -1000.0 } else { t };
    let result = exp2_wide::<FMA>(t) as f32;
    // 0·∞ above: 1ʸ, (−1)^±∞ and x⁰ are 1.
    let result = if magnitude == 1.0 { 1.0 } else { result };
    let half = y * 0.5;
    let integer = y.floor() == y;
    let odd = integer && half.floor() != half;
    let negative = x.is_sign_negative();
    let result = if negative && odd { -result } else { result };
    let invalid = x < 0.0 && x > f32::NEG_INFINITY && !integer;
    let result = if invalid { f32::NAN } else { result };
    let result = if x.is_nan() || y.is_nan() { f32::NAN } else { result };
    if x == 1.0 || y == 0.0 { 1.0 } else { result }
}
