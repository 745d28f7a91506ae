use super::number::Number;
use super::polynomial;

/// 1.5·2²³: adding it rounds a small `f32` to an integer held in the low mantissa bits.
pub(super) const ROUNDER: f32 = 12_582_912.0;
/// Upper part of ln 2 with nine significant bits, so that its product with an exponent is exact (Cody and Waite 1980).
const LN2_HI: f32 = 0.693_359_4;
const LN2_LO: f32 = -2.121_944_4e-4;
/// Below this magnitude `f(x) = x` to the last bit for `expm1` and `log1p`: 2⁻²⁵.
const LINEAR: f32 = 2.980_232_2e-8;

/// 2ⁿ for −126 ≤ n ≤ 127, n the bits of an integer.
#[inline(always)]
fn exp2i<N: Number>(n: N) -> N {
    n.bits_add(integer(n, 127)).bits_shl(23)
}

/// The bits of an integer as a constant.
#[inline(always)]
fn integer<N: Number>(at: N, value: i32) -> N {
    at.constant(f32::from_bits(value as u32))
}

/// Reduces `x` to `(n, eʳ − 1)` with `x = n·ln 2 + r`, |r| ≤ ln 2 / 2. Minimax coefficients: Moshier, Cephes `expf`.
#[inline(always)]
fn exp_parts<N: Number>(x: N) -> (N, N) {
    let shifted = x.madd(x.constant(std::f32::consts::LOG2_E), x.constant(ROUNDER));
    let n = shifted.bits_sub(x.constant(ROUNDER));
    let count = shifted - x.constant(ROUNDER);
    let r = count.madd(x.constant(-LN2_LO), count.madd(x.constant(-LN2_HI), x));
    let tail = [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 5.0e-1];
    let poly = polynomial(r, tail);
    (n, (r * r).madd(poly, r))
}

/// eˣ. Overflows to infinity, underflows gradually through the denormals to 0.
#[inline(always)]
pub(crate) fn exp<N: Number>(x: N) -> N {
    let x = x.constant(89.0).if_less(x);
    let x = x.constant(-104.0).if_greater(x);
    let (n, em1) = exp_parts(x);
    // Two factors, because 2ⁿ itself leaves the range of normal numbers; only the second product can round.
    let half = n.bits_sar(1);
    (x.constant(1.0) + em1) * exp2i(half) * exp2i(n.bits_sub(half))
}

/// eˣ − 1 without cancellation near 0.
#[inline(always)]
pub(crate) fn expm1<N: Number>(x: N) -> N {
    let bounded = x.constant(89.0).if_less(x);
    let bounded = x.constant(-20.0).if_greater(bounded);
    let (n, em1) = exp_parts(bounded);
    // 2ⁿ⁻¹ stays finite where 2ⁿ would not.
    let scale = exp2i(n.bits_sub(integer(x, 1)));
    let y = x.constant(2.0) * em1.madd(scale, scale - x.constant(0.5));
    N::choose(x.abs().less(x.constant(LINEAR)), x, y)
}

/// eˣ − 1 without cancellation near 0, for −87 ≤ x ≤ 87: there 2ⁿ is a normal number.
#[inline(always)]
pub(super) fn expm1_normal<N: Number>(x: N) -> N {
    let (n, em1) = exp_parts(x);
    let scale = exp2i(n);
    em1.madd(scale, scale - x.constant(1.0))
}

/// Splits a positive `x` into `(e, m)` with `x = m·2ᵉ`, √½ ≤ m < √2; `e` as a number.
#[inline(always)]
fn split<N: Number>(x: N) -> (N, N) {
    let denormal = x.less(x.constant(f32::MIN_POSITIVE));
    let scaled = N::choose(denormal, x * x.constant(8_388_608.0), x);
    let e = scaled.bits_sub(integer(x, 0x3f35_04f3)).bits_sar(23);
    let m = scaled.bits_sub(e.bits_shl(23));
    let e = e.bits_to_number();
    (N::choose(denormal, e - x.constant(23.0), e), m)
}

/// ln(1 + f) + e·ln 2 + correction for √½ ≤ 1 + f < √2. Minimax coefficients: Moshier, Cephes `logf`.
#[inline(always)]
fn log_sum<N: Number>(f: N, e: N, correction: N) -> N {
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
    let poly = polynomial(f, tail);
    let small = e.madd(f.constant(LN2_LO), correction);
    let y = (f * z).madd(poly, small);
    let y = f.constant(-0.5).madd(z, y);
    e.madd(f.constant(LN2_HI), f + y)
}

/// Natural logarithm: −∞ at ±0, NaN below 0.
#[inline(always)]
pub(crate) fn log<N: Number>(x: N) -> N {
    let (e, m) = split(x);
    let y = log_sum(m - x.constant(1.0), e, x.constant(0.0));
    let y = N::choose(x.less(x.constant(f32::INFINITY)), y, x);
    let y = N::choose(x.less(x.constant(0.0)), x.constant(f32::NAN), y);
    N::choose(x.equal(x.constant(0.0)), x.constant(f32::NEG_INFINITY), y)
}

/// ln(1 + x) without cancellation near 0: −∞ at −1, NaN below.
#[inline(always)]
pub(crate) fn log1p<N: Number>(x: N) -> N {
    let one = x.constant(1.0);
    let u = one + x;
    let (e, m) = split(u);
    let inside = e.equal(x.constant(0.0));
    // What the rounding of 1 + x lost, relative to u; inside the central interval x itself is the exact reduced argument.
    let lost = N::choose(one.less(x), one - (u - x), x - (u - one));
    let correction = N::choose(inside, x.constant(0.0), lost / u);
    let f = N::choose(inside, x, m - one);
    let y = log_sum(f, e, correction);
    let y = N::choose(x.less(x.constant(f32::INFINITY)), y, x);
    let y = N::choose(x.less(x.constant(-1.0)), x.constant(f32::NAN), y);
    let y = N::choose(x.equal(x.constant(-1.0)), x.constant(f32::NEG_INFINITY), y);
    N::choose(x.abs().less(x.constant(LINEAR)), x, y)
}
