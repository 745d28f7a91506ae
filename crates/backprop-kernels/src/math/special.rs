use super::exp_log::{exp, expm1_normal};
use super::number::Number;
use super::polynomial;

/// Hyperbolic tangent, `(e²ˣ − 1)/(e²ˣ + 1)`. Beyond 9.02 it is 1 to the last bit.
#[inline(always)]
pub(crate) fn tanh<N: Number>(x: N) -> N {
    let a = x.constant(9.02).if_less(x.abs());
    let e = expm1_normal(a + a);
    (e / (e + x.constant(2.0))).copysign(x)
}

/// `1/(1 + e⁻ˣ)`, exact in the tails too: the exponential is always taken of −|x|.
#[inline(always)]
pub(crate) fn logistic<N: Number>(x: N) -> N {
    let e = exp(-x.abs());
    let one = x.constant(1.0);
    N::choose(x.less(x.constant(0.0)), e, one) / (one + e)
}

/// Error function, `1 − e^Q(|x|)` with `Q(a) = −a + a·P(a)`. Beyond 3.95 it is 1 to the last bit. P is the polynomial by Remez's
/// algorithm for `ln(erfc a)/a + 1` on 0 to 3.95 whose error, carried over to erf, is at most 6.6·10⁻⁸, near 0 a sixth of that.
#[inline(always)]
pub(crate) fn erf<N: Number>(x: N) -> N {
    let a = x.constant(3.95).if_less(x.abs());
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
    expm1_normal(polynomial(a, p).madd(a, -a)).copysign(x)
}
