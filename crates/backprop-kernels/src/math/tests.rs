use super::wide;
use crate::tile::ops::lookup;
use crate::{DType, Isa, OpCode};

/// Distance in units of the last place of the `f32` nearest to the reference.
fn ulps(got: f32, reference: f64) -> f64 {
    let nearest = reference as f32;
    if got.to_bits() == nearest.to_bits() || (got.is_nan() && nearest.is_nan()) {
        return 0.0;
    }
    if got.is_nan() || nearest.is_nan() || got.is_sign_negative() != nearest.is_sign_negative() {
        return f64::INFINITY;
    }
    if got.is_infinite() || nearest.is_infinite() {
        // One step below infinity counts as 2^128.
        let finite = |x: f32| {
            if x.is_infinite() { 2f64.powi(128).copysign(f64::from(x)) } else { f64::from(x) }
        };
        return (finite(got) - finite(nearest)).abs() / 2f64.powi(104);
    }
    let exponent = (nearest.abs().to_bits() >> 23).max(1) as i32 - 150;
    (f64::from(got) - reference).abs() / 2f64.powi(exponent)
}

/// The same where a zero stands for what would be denormal.
fn flushed_ulps(got: f32, reference: f64) -> f64 {
    let denormal = reference.abs() < f64::from(f32::MIN_POSITIVE);
    if denormal && got == 0.0 { 0.0 } else { ulps(got, reference) }
}

fn apply1(op: OpCode, isa: Isa, x: &[f32]) -> Vec<f32> {
    let mut y = vec![0f32; x.len()];
    let function = lookup(op, DType::F32, isa).expect("the operation exists");
    // SAFETY: one operand and one result of the same length; the instruction set is available.
    unsafe { function(x.len(), y.as_mut_ptr().cast(), [x.as_ptr().cast()].as_ptr()) };
    y
}

fn apply2(op: OpCode, isa: Isa, a: &[f32], b: &[f32]) -> Vec<f32> {
    let mut y = vec![0f32; a.len()];
    let function = lookup(op, DType::F32, isa).expect("the operation exists");
    // SAFETY: two operands and one result of the same length; the instruction set is available.
    unsafe { function(a.len(), y.as_mut_ptr().cast(), [a.as_ptr().cast(), b.as_ptr().cast()].as_ptr()) };
    y
}

/// Two million bit patterns that cover every exponent and both signs, plus the edges.
fn sweep() -> Vec<f32> {
    let mut x: Vec<f32> = (0..=u32::MAX).step_by(2039).map(f32::from_bits).collect();
    x.extend([0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 1.0, -1.0, f32::MIN_POSITIVE, f32::MAX, f32::MIN]);
    // Where results change over: overflow, underflow, the joints of the approximations, multiples of π/2.
    for centre in [
        88.72284f32,
        -87.33655,
        -103.97208,
        -103.27893,
        3.95,
        9.02,
        0.5,
        std::f32::consts::FRAC_1_SQRT_2,
        std::f32::consts::SQRT_2,
        17.3,
    ] {
        for i in -2000i32..2000 {
            x.push(f32::from_bits(centre.to_bits().wrapping_add_signed(i)));
            x.push(-f32::from_bits(centre.to_bits().wrapping_add_signed(i)));
        }
    }
    for k in 1..6367 {
        let near = (f64::from(k) * std::f64::consts::FRAC_PI_2) as f32;
        x.extend([-1, 0, 1].map(|i| f32::from_bits(near.to_bits().wrapping_add_signed(i))));
    }
    x
}

/// The same function in `f64`.
type Reference = fn(f64) -> f64;

fn rsqrt(x: f64) -> f64 {
    1.0 / x.sqrt()
}

#[test]
fn functions_of_one_argument_stay_within_four_ulp() {
    let table: [(OpCode, Reference); 12] = [
        (OpCode::Exp, f64::exp),
        (OpCode::Expm1, f64::exp_m1),
        (OpCode::Log, f64::ln),
        (OpCode::Log1p, f64::ln_1p),
        (OpCode::Tanh, f64::tanh),
        (OpCode::Logistic, wide::logistic),
        (OpCode::Erf, wide::erf),
        (OpCode::Sqrt, f64::sqrt),
        (OpCode::Rsqrt, rsqrt),
        (OpCode::Sin, f64::sin),
        (OpCode::Cos, f64::cos),
        (OpCode::Abs, f64::abs),
    ];
    let x = sweep();
    for (op, reference) in table {
        for &isa in Isa::available() {
            let (mut worst, mut at) = (0.0, 0.0);
            for (&x, y) in x.iter().zip(apply1(op, isa, &x)) {
                let error = flushed_ulps(y, reference(f64::from(x)));
                if error > worst {
                    (worst, at) = (error, x);
                }
            }
            assert!(worst <= 4.0, "{op:?} on {isa}: {worst} ULP at {at:e}");
        }
    }
}

#[test]
fn pow_stays_within_four_ulp() {
    let exponents = [-8.0, -3.5, -2.0, -1.0, -0.5, -0.1, 0.1, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 7.9, 8.0, 37.25, -91.0];
    let bases: Vec<f32> = (0..=u32::MAX).step_by(30_011).map(f32::from_bits).collect();
    for &isa in Isa::available() {
        for y in exponents {
            let results = apply2(OpCode::Pow, isa, &bases, &vec![y; bases.len()]);
            for (&x, got) in bases.iter().zip(results) {
                let error = flushed_ulps(got, f64::from(x).powf(f64::from(y)));
                assert!(error <= 4.0, "{x:e}^{y} on {isa}: {got:e}, {error} ULP");
            }
        }
    }
}

#[test]
fn pow_special_cases_are_those_of_ieee() {
    let values = [0.0, -0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5, 3.0, -3.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN];
    for &isa in Isa::available() {
        for x in values {
            for y in values {
                let got = apply2(OpCode::Pow, isa, &[x], &[y])[0];
                assert_eq!(ulps(got, f64::from(x).powf(f64::from(y))), 0.0, "{x}^{y} on {isa}: {got}");
            }
        }
    }
}

#[test]
fn extremes_order_zeros_and_propagate_nan() {
    for &isa in Isa::available() {
        for (a, b) in [(0.0f32, -0.0f32), (-0.0, 0.0)] {
            assert_eq!(apply2(OpCode::Max, isa, &[a], &[b])[0].to_bits(), 0.0f32.to_bits());
            assert_eq!(apply2(OpCode::Min, isa, &[a], &[b])[0].to_bits(), (-0.0f32).to_bits());
        }
        for (a, b) in [(f32::NAN, 1.0), (1.0, f32::NAN)] {
            assert!(apply2(OpCode::Max, isa, &[a], &[b])[0].is_nan());
            assert!(apply2(OpCode::Min, isa, &[a], &[b])[0].is_nan());
        }
        assert!(apply1(OpCode::Sign, isa, &[f32::NAN])[0].is_nan());
        assert_eq!(apply1(OpCode::Sign, isa, &[-0.0])[0].to_bits(), (-0.0f32).to_bits());
    }
}
