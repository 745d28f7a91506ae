use super::exp_log::ROUNDER;
use super::{horner, madd};

/// π/2 in three `f32` parts (Cody and Waite 1980).
const HALF_PI: [f32; 3] = [1.570_796_4, -4.371_139e-8, -1.715_124_3e-15];
/// π/2 in two `f64` parts, the upper with 33 bits.
const HALF_PI_WIDE: [f64; 2] = [1.570_796_326_734_125_6, 6.077_100_506_506_192e-11];

/// `(n, r)` with `x = n·π/2 + r`, |r| ≤ π/4, for |x| ≤ 10⁴.
#[inline(always)]
fn reduce<const FMA: bool>(x: f32) -> (i32, f32) {
    let shifted = madd::<FMA>(x, std::f32::consts::FRAC_2_PI, ROUNDER);
    let n = (shifted.to_bits() as i32).wrapping_sub(ROUNDER.to_bits() as i32);
    let count = shifted - ROUNDER;
    if FMA {
        let r = madd::<FMA>(-count, HALF_PI[0], x);
        let r = madd::<FMA>(-count, HALF_PI[1], r);
        (n, madd::<FMA>(-count, HALF_PI[2], r))
    } else {
        let count = f64::from(count);
        let r = f64::from(x) - count * HALF_PI_WIDE[0];
        (n, (r - count * HALF_PI_WIDE[1]) as f32)
    }
}

/// sin(r + quadrant·π/2) for |r| ≤ π/4. Minimax coefficients: Moshier, Cephes `sinf`, `cosf`.
#[inline(always)]
fn by_quadrant<const FMA: bool>(quadrant: i32, r: f32) -> f32 {
    let z = r * r;
    let sine = horner::<FMA, 3>(z, [-1.951_529_6e-4, 8.332_161e-3, -1.666_665_5e-1]);
    let sine = madd::<FMA>(r * z, sine, r);
    let cosine = horner::<FMA, 3>(z, [2.443_315_7e-5, -1.388_731_6e-3, 4.166_664_6e-2]);
    let cosine = madd::<FMA>(z * z, cosine, madd::<FMA>(-0.5, z, 1.0));
    let y = if quadrant & 1 == 0 { sine } else { cosine };
    f32::from_bits(y.to_bits() ^ (((quadrant & 2) as u32) << 30))
}

/// The largest magnitude that [`sin`] and [`cos`] reduce within 4 ULP; the tile operations take larger ones through `f64`.
pub const REDUCIBLE: f32 = 1.0e4;

/// Sine. Within 4 ULP for |x| ≤ 10⁴; NaN for infinities.
#[inline(always)]
pub fn sin<const FMA: bool>(x: f32) -> f32 {
    let (n, r) = reduce::<FMA>(x);
    let y = by_quadrant::<FMA>(n, r);
    // −0 and denormals: the polynomial would lose the sign of zero.
    if x.abs() < 1.0e-5 { x } else { y }
}

/// Cosine. Within 4 ULP for |x| ≤ 10⁴; NaN for infinities.
#[inline(always)]
pub fn cos<const FMA: bool>(x: f32) -> f32 {
    let (n, r) = reduce::<FMA>(x);
    by_quadrant::<FMA>(n.wrapping_add(1), r)
}
