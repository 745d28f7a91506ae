/// −1, +1, or the argument itself for ±0 and NaN.
#[inline(always)]
pub fn sign(x: f32) -> f32 {
    let y = if x > 0.0 { 1.0 } else { x };
    if x < 0.0 { -1.0 } else { y }
}

/// IEEE 754-2019 `maximum`: NaN if either is, and +0 above −0.
#[inline(always)]
pub fn maximum(a: f32, b: f32) -> f32 {
    // Equal operands differ at most in the sign of zero.
    let equal = f32::from_bits(a.to_bits() & b.to_bits());
    let larger = if a > b { a } else { b };
    let y = if a == b { equal } else { larger };
    if a.is_nan() || b.is_nan() { f32::NAN } else { y }
}

/// IEEE 754-2019 `minimum`: NaN if either is, and −0 below +0.
#[inline(always)]
pub fn minimum(a: f32, b: f32) -> f32 {
    let equal = f32::from_bits(a.to_bits() | b.to_bits());
    let smaller = if a < b { a } else { b };
    let y = if a == b { equal } else { smaller };
    if a.is_nan() || b.is_nan() { f32::NAN } else { y }
}
