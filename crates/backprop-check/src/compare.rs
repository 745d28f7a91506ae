//! Distances between floating-point tensors.

use backprop_core::HostTensor;
use std::fmt;

/// Number of representable `f32` steps from `a` to `b`; 0 for equal values (±0 too) and for two NaN, `u32::MAX` for one NaN.
pub fn ulps(a: f32, b: f32) -> u32 {
    // Two's complement order of the bit patterns is the order of the values.
    let key = |x: f32| {
        let bits = x.to_bits() as i32;
        i64::from(if bits < 0 { i32::MIN.wrapping_sub(bits) } else { bits })
    };
    match (a.is_nan(), b.is_nan()) {
        (true, true) => 0,
        (false, false) => (key(a) - key(b)).unsigned_abs() as u32,
        _ => u32::MAX,
    }
}

/// Error of an `f32` against an exact value, in units of the last place of the value rounded to `f32`. NaN equals NaN;
/// infinities equal what overflows to them.
pub fn ulp_error(got: f32, exact: f64) -> f64 {
    let rounded = exact as f32;
    if got.is_nan() || exact.is_nan() || !rounded.is_finite() || !got.is_finite() {
        return f64::from(ulps(got, rounded));
    }
    let exponent = if rounded == 0.0 { -126 } else { rounded.abs().log2().floor().max(-126.0) as i32 };
    (f64::from(got) - exact).abs() / (exponent as f64 - 23.0).exp2()
}

/// The first place at which two tensors are further apart than allowed.
#[derive(Clone, PartialEq, Debug)]
pub struct Difference {
    /// Element.
    pub index: Vec<usize>,
    /// Expected value.
    pub expected: f64,
    /// Value found.
    pub got: f64,
    /// How many elements differ as much or in any way.
    pub count: usize,
    /// Number of elements.
    pub elements: usize,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Difference { index, expected, got, count, elements } = self;
        let ulps = ulps(*expected as f32, *got as f32);
        write!(f, "at {index:?}: expected {expected:e}, got {got:e} ({ulps} ulp); {count} of {elements} elements differ")
    }
}

impl std::error::Error for Difference {}

/// Compares element by element with a predicate `accept(expected, got)`.
///
/// # Errors
/// The first element that is not accepted.
///
/// # Panics
/// If the types differ.
pub fn compare(expected: &HostTensor, got: &HostTensor, accept: impl Fn(f64, f64) -> bool) -> Result<(), Difference> {
    assert_eq!(expected.ty(), got.ty(), "types of the compared tensors");
    let pairs: Vec<(f64, f64)> = expected.to_f64().into_iter().zip(got.to_f64()).collect();
    let wrong: Vec<usize> = (0..pairs.len()).filter(|&i| !accept(pairs[i].0, pairs[i].1)).collect();
    match wrong.first() {
        None => Ok(()),
        Some(&i) => Err(Difference {
            index: expected.shape().unravel(i),
            expected: pairs[i].0,
            got: pairs[i].1,
            count: wrong.len(),
            elements: pairs.len(),
        }),
    }
}

/// Requires identical bits, except that any NaN equals any NaN.
///
/// # Errors
/// The first element that differs.
///
/// # Panics
/// If the types differ.
pub fn same_bits(expected: &HostTensor, got: &HostTensor) -> Result<(), Difference> {
    let same = |a: f64, b: f64| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
    compare(expected, got, same)?;
    // Large 64-bit integers are not exact in f64.
    let exact = expected.dtype().is_float() || expected.bytes() == got.bytes();
    if exact { Ok(()) } else { compare(expected, got, |_, _| false) }
}

/// Requires every error to be at most `tolerance` of the largest expected magnitude; NaN and infinities must agree.
///
/// # Errors
/// The first element beyond.
///
/// # Panics
/// If the types differ.
pub fn close(expected: &HostTensor, got: &HostTensor, tolerance: f64) -> Result<(), Difference> {
    let finite = expected.to_f64().into_iter().filter(|v| v.is_finite());
    let bound = tolerance * finite.fold(0.0, |m: f64, v| m.max(v.abs()));
    compare(expected, got, |e, g| e == g || e.is_nan() && g.is_nan() || (e - g).abs() <= bound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_steps_between_floats() {
        assert_eq!(ulps(1.0, 1.0 + f32::EPSILON), 1);
        assert_eq!(ulps(0.0, -0.0), 0);
        assert_eq!(ulps(f32::from_bits(1), -f32::from_bits(1)), 2);
        assert_eq!(ulps(f32::NAN, f32::NAN), 0);
        assert_eq!(ulps(f32::NAN, 1.0), u32::MAX);
        assert_eq!(ulps(f32::MAX, f32::INFINITY), 1);
    }

    #[test]
    fn measures_against_the_exact_value() {
        assert_eq!(ulp_error(1.0, 1.0 + f64::from(f32::EPSILON) / 4.0), 0.25);
        assert_eq!(ulp_error(f32::INFINITY, 1e300), 0.0);
        assert_eq!(ulp_error(f32::from_bits(3), f64::from(f32::from_bits(1))), 2.0);
        assert!(ulp_error(1.0, f64::NAN) > 1e9);
    }

    #[test]
    fn says_where_tensors_differ() {
        let a = HostTensor::new([2, 2], &[1.0f32, 2.0, 3.0, 4.0]);
        let b = HostTensor::new([2, 2], &[1.0f32, 2.0, 3.5, 4.0]);
        let (Ok(a), Ok(b)) = (a, b) else { panic!() };
        let difference = same_bits(&a, &b).err().map(|d| d.to_string()).unwrap_or_default();
        assert!(difference.starts_with("at [1, 0]: expected 3e0, got 3.5e0"), "{difference}");
        assert!(close(&a, &b, 0.2).is_ok() && close(&a, &b, 0.1).is_err() && same_bits(&a, &a).is_ok());
    }
}
