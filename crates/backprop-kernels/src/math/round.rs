use super::number::Number;

/// −1, +1, or the argument itself for ±0 and NaN.
#[inline(always)]
pub(crate) fn sign<N: Number>(x: N) -> N {
    let zero = x.constant(0.0);
    let y = N::choose(zero.less(x), x.constant(1.0), x);
    N::choose(x.less(zero), x.constant(-1.0), y)
}

/// IEEE 754-2019 `maximum`: NaN if either is, and +0 above −0.
#[inline(always)]
pub(crate) fn maximum<N: Number>(a: N, b: N) -> N {
    // Equal operands differ at most in the sign of zero.
    let y = N::choose(a.equal(b), a.bits_and(b), a.if_greater(b));
    N::choose(a.unordered(b), a.constant(f32::NAN), y)
}

/// IEEE 754-2019 `minimum`: NaN if either is, and −0 below +0.
#[inline(always)]
pub(crate) fn minimum<N: Number>(a: N, b: N) -> N {
    let y = N::choose(a.equal(b), a.bits_or(b), a.if_less(b));
    N::choose(a.unordered(b), a.constant(f32::NAN), y)
}
