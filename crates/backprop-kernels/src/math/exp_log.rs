use super::{horner, madd};

/// 1.5·2²³: adding it rounds a small `f32` to an integer held in the low mantissa bits.
pub(super) const ROUNDER: f32 = 12_582_912.0;
/// Upper part of ln 2 with nine significant bits, so that its product with an exponent is exact (Cody and Waite 1980).
const LN2_HI: f32 = 0.693_359_4;
const LN2_LO: f32 = -2.121_944_4e-4;
/// Below this magnitude `f(x) = x` to the last bit for `expm1` and `log1p`: 2⁻²⁵.
const LINEAR: f32 = 2.980_232_2e-8;

/// 2ⁿ for −126 ≤ n ≤ 127.
#[inline(always)]
fn exp2i(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) as u32) << 23)
}

/// Reduces `x` to `(n, eʳ − 1)` with `x = n·ln 2 + r`, |r| ≤ ln 2 / 2. Minimax coefficients: Moshier, Cephes `expf`.
#[inline(always)]
fn exp_parts<const FMA: bool>(x: f32) -> (i32, f32) {
    let shifted = madd::<FMA>(x, std::f32::consts::LOG2_E, ROUNDER);
    let n = (shifted.to_bits() as i32).wrapping_sub(ROUNDER.to_bits() as i32);
    let count = shifted - ROUNDER;
    let r = madd::<FMA>(count, -LN2_LO, madd::<FMA>(count, -LN2_HI, x));
    let tail = [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 5.0e-1];
    let poly = horner::<FMA, 6>(r, tail);
    (n, madd::<FMA>(r * r, poly, r))
}

/// eˣ. Overflows to infinity, underflows gradually through the denormals to 0.
#[inline(always)]
pub fn exp<const FMA: bool>(x: f32) -> f32 {
    let x = if x > 89.0 { 89.0 } else { x };
    let x = if x < -104.0 { -104.0 } else { x };
    let (n, em1) = exp_parts::<FMA>(x);
    // Two factors, because 2ⁿ itself leaves the range of normal numbers; only the second product can round.
    let half = n >> 1;
    (1.0 + em1) * exp2i(half) * exp2i(n.wrapping_sub(half))
}

/// eˣ − 1 without cancellation near 0.
#[inline(always)]
pub fn expm1<const FMA: bool>(x: f32) -> f32 {
    let bounded = if x > 89.0 { 89.0 } else { x };
    let bounded = if bounded < -20.0 { -20.0 } else { bounded };
    let (n, em1) = exp_parts::<FMA>(bounded);
    // 2ⁿ⁻¹ stays finite where 2ⁿ would not.
    let scale = exp2i(n.wrapping_sub(1));
    let y = 2.0 * madd::<FMA>(em1, scale, scale - 0.5);
    if x.abs() < LINEAR { x } else { y }
}

/// eˣ − 1 without cancellation near 0, for −87 ≤ x ≤ 87: there 2ⁿ is a normal number.
#[inline(always)]
pub(super) fn expm1_normal<const FMA: bool>(x: f32) -> f32 {
    let (n, em1) = exp_parts::<FMA>(x);
    let scale = exp2i(n);
    madd::<FMA>(em1, scale, scale - 1.0)
}

/// Splits a positive `x` into `(e, m)` with `x = m·2ᵉ`, √½ ≤ m < √2.
#[inline(always)]
fn split(x: f32) -> (i32, f32) {
    let denormal = x < f32::MIN_POSITIVE;
    let scaled = if denormal { x * 8_388_608.0 } else { x };
    let bits = scaled.to_bits() as i32;
    let e = bits.wrapping_sub(0x3f35_04f3) >> 23;
    let m = f32::from_bits(bits.wrapping_sub(e << 23) as u32);
    (if denormal { e.wrapping_sub(23) } else { e }, m)
}

/// ln(1 + f) + e·ln 2 + correction for √½ ≤ 1 + f < √2. Minimax coefficients: Moshier, Cephes `logf`.
#[inline(always)]
fn log_sum<const FMA: bool>(f: f32, e: f32, correction: f32) -> f32 {
    let z = f * f;
    let tail = [
        7.037_683_6e-2,
        -1.151_461e-1,
        1.167_699_9e-1,
        -1.242_014_1e-1,
        1.424_932_3e-1,
        -1.666_805_7e-1,
        2.000_071_5e-1,
        -2.499_999_4e-1,
        3.333_333e-1,
    ];
    let poly = horner::<FMA, 9>(f, tail);
    let small = madd::<FMA>(e, LN2_LO, correction);
    let y = madd::<FMA>(f * z, poly, small);
    let y = madd::<FMA>(-0.5, z, y);
    madd::<FMA>(e, LN2_HI, f + y)
}

/// Natural logarithm: −∞ at ±0, NaN below 0.
#[inline(always)]
pub fn log<const FMA: bool>(x: f32) -> f32 {
    let (e, m) = split(x);
    let y = log_sum::<FMA>(m - 1.0, e as f32, 0.0);
    let y = if x < f32::INFINITY { y } else { x };
    let y = if x < 0.0 { f32::NAN } else { y };
    if x == 0.0 { f32::NEG_INFINITY } else { y }
}

/// ln(1 + x) without cancellation near 0: −∞ at −1, NaN below.
#[inline(always)]
pub fn log1p<const FMA: bool>(x: f32) -> f32 {
    let u = 1.0 + x;
    let (e, m) = split(u);
    let inside = e == 0;
    // What the rounding of 1 + x lost, relative to u; inside the central interval x itself is the exact reduced argument.
    let lost = if x > 1.0 { 1.0 - (u - x) } else { x - (u - 1.0) };
    let correction = if inside { 0.0 } else { lost / u };
    let f = if inside { x } else { m - 1.0 };
    let y = log_sum::<FMA>(f, e as f32, correction);
    let y = if x < f32::INFINITY { y } else { x };
    let y = if x < -1.0 { f32::NAN } else { y };
    let y = if x == -1.0 { f32::NEG_INFINITY } else { y };
    if x.abs() < LINEAR { x } else { y }
}
