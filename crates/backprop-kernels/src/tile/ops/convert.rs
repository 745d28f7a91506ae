use super::OpFn;
use super::lanes::{Flag, Lane1, op1};
use crate::{DType, Isa};

/// Bits of an IEEE binary16.
#[derive(Clone, Copy, Default)]
#[repr(transparent)]
struct Half(u16);

/// Bits of a bfloat16.
#[derive(Clone, Copy, Default)]
#[repr(transparent)]
struct Brain(u16);

/// 2¹¹²: moves the exponent of a binary16 pattern placed in a binary32 to its value; exact for denormals too.
const HALF_BIAS: f32 = f32::from_bits((127 + 112) << 23);

/// Value of a binary16.
#[inline(always)]
pub(crate) fn f32_from_f16(bits: u16) -> f32 {
    let wide = u32::from(bits);
    let magnitude = f32::from_bits((wide & 0x7fff) << 13) * HALF_BIAS;
    let special = f32::from_bits(((wide & 0x7fff) << 13) | 0x7f80_0000);
    let magnitude = if wide & 0x7c00 == 0x7c00 { special } else { magnitude };
    f32::from_bits(magnitude.to_bits() | ((wide & 0x8000) << 16))
}

/// The nearest binary16, ties to even.
#[inline(always)]
pub(crate) fn f16_from_f32(x: f32) -> u16 {
    let bits = x.to_bits();
    let sign = (bits >> 16) & 0x8000;
    let magnitude = bits & 0x7fff_ffff;
    // Adding ½ lets the float adder round a result below 2⁻¹⁴ to a multiple of 2⁻²⁴, the denormal unit.
    let small = (f32::from_bits(magnitude) + 0.5).to_bits().wrapping_sub(0.5f32.to_bits());
    let odd = (magnitude >> 13) & 1;
    let normal = magnitude.wrapping_sub(112 << 23).wrapping_add(0x0fff + odd) >> 13;
    let result = if magnitude < 113 << 23 { small } else { normal };
    let result = if magnitude >= 0x477f_f000 { 0x7c00 } else { result };
    let result = if magnitude > 0x7f80_0000 { 0x7e00 } else { result };
    (result | sign) as u16
}

/// Value of a bfloat16.
#[inline(always)]
pub(crate) fn f32_from_bf16(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// The nearest bfloat16, ties to even.
#[inline(always)]
pub(crate) fn bf16_from_f32(x: f32) -> u16 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
    let quiet = (bits >> 16) | 0x0040;
    (if x.is_nan() { quiet } else { rounded }) as u16
}

/// The nearest `f32` with ties and inexact values rounded to odd, so that a second rounding to a half precision is the nearest.
#[inline(always)]
fn f32_round_odd(x: f64) -> f32 {
    let near = x as f32;
    let back = f64::from(near);
    let bits = near.to_bits();
    // Towards zero first; then the sticky bit.
    let away = back.abs() > x.abs();
    let truncated = bits.wrapping_sub(u32::from(away));
    let inexact = back != x && !x.is_nan();
    f32::from_bits(if inexact { truncated | 1 } else { bits })
}

/// Conversion of one element.
trait ConvertTo<O>: Copy + Default {
    fn convert(self) -> O;
}

macro_rules! as_cast {
    ($($from:ty => $($to:ty),*;)*) => {
        $($(impl ConvertTo<$to> for $from {
            #[inline(always)]
            fn convert(self) -> $to { self as $to }
        })*)*
    };
}
as_cast! {
    u8 => u8, i32, i64, u32, u64, f32, f64;
    i32 => u8, i32, i64, u32, u64, f32, f64;
    i64 => u8, i32, i64, u32, u64, f32, f64;
    u32 => u8, i32, i64, u32, u64, f32, f64;
    u64 => u8, i32, i64, u32, u64, f32, f64;
    f32 => u8, i32, i64, u32, u64, f32, f64;
    f64 => u8, i32, i64, u32, u64, f32, f64;
}

macro_rules! flags_and_halves {
    ($($t:ty),*) => {
        $(impl ConvertTo<Flag> for $t {
            #[inline(always)]
            fn convert(self) -> Flag { Flag(u8::from(self != (0 as $t))) }
        }
        impl ConvertTo<$t> for Flag {
            #[inline(always)]
            fn convert(self) -> $t { u8::from(self.0 != 0) as $t }
        }
        impl ConvertTo<$t> for Half {
            #[inline(always)]
            fn convert(self) -> $t { f32_from_f16(self.0) as $t }
        }
        impl ConvertTo<$t> for Brain {
            #[inline(always)]
            fn convert(self) -> $t { f32_from_bf16(self.0) as $t }
        })*
    };
}
flags_and_halves!(u8, i32, i64, u32, u64, f32, f64);

macro_rules! to_halves {
    ($($t:ty, $x:ident => $single:expr;)*) => {
        $(impl ConvertTo<Half> for $t {
            #[inline(always)]
            fn convert(self) -> Half { let $x = self; Half(f16_from_f32($single)) }
        }
        impl ConvertTo<Brain> for $t {
            #[inline(always)]
            fn convert(self) -> Brain { let $x = self; Brain(bf16_from_f32($single)) }
        })*
    };
}
to_halves! {
    u8, x => f32::from(x);
    f32, x => x;
    f64, x => f32_round_odd(x);
    i32, x => f32_round_odd(f64::from(x));
    u32, x => f32_round_odd(f64::from(x));
    i64, x => odd_from_i64(x);
    u64, x => odd_from_u64(x);
    Flag, x => f32::from(u8::from(x.0 != 0));
}

/// As [`f32_round_odd`] of an integer that may not fit an `f64`: the low 12 bits become one sticky bit.
#[inline(always)]
fn odd_from_u64(x: u64) -> f32 {
    let sticky = if x & 0xfff != 0 { 0x800 } else { 0 };
    let kept = if x >> 53 == 0 { x } else { (x & !0xfff) | sticky };
    f32_round_odd(kept as f64)
}

#[inline(always)]
fn odd_from_i64(x: i64) -> f32 {
    let magnitude = odd_from_u64(x.unsigned_abs());
    if x < 0 { -magnitude } else { magnitude }
}

impl ConvertTo<Flag> for Flag {
    #[inline(always)]
    fn convert(self) -> Flag {
        self
    }
}
impl ConvertTo<Flag> for Half {
    #[inline(always)]
    fn convert(self) -> Flag {
        Flag(u8::from(self.0 & 0x7fff != 0))
    }
}
impl ConvertTo<Flag> for Brain {
    #[inline(always)]
    fn convert(self) -> Flag {
        Flag(u8::from(self.0 & 0x7fff != 0))
    }
}
impl ConvertTo<Half> for Half {
    #[inline(always)]
    fn convert(self) -> Half {
        self
    }
}
impl ConvertTo<Brain> for Half {
    #[inline(always)]
    fn convert(self) -> Brain {
        Brain(bf16_from_f32(f32_from_f16(self.0)))
    }
}
impl ConvertTo<Half> for Brain {
    #[inline(always)]
    fn convert(self) -> Half {
        Half(f16_from_f32(f32_from_bf16(self.0)))
    }
}
impl ConvertTo<Brain> for Brain {
    #[inline(always)]
    fn convert(self) -> Brain {
        self
    }
}

struct Cast<A, O>(std::marker::PhantomData<(A, O)>);
impl<A: ConvertTo<O>, O: Copy + Default> Lane1 for Cast<A, O> {
    type A = A;
    type O = O;
    #[inline(always)]
    fn at<const FMA: bool>(a: A) -> O {
        a.convert()
    }
}

/// The conversion loop between two element types.
pub(super) fn lookup(from: DType, to: DType, isa: Isa) -> OpFn {
    match from {
        DType::Bool => target::<Flag>(to, isa),
        DType::U8 => target::<u8>(to, isa),
        DType::I32 => target::<i32>(to, isa),
        DType::I64 => target::<i64>(to, isa),
        DType::U32 => target::<u32>(to, isa),
        DType::U64 => target::<u64>(to, isa),
        DType::F16 => target::<Half>(to, isa),
        DType::BF16 => target::<Brain>(to, isa),
        DType::F32 => target::<f32>(to, isa),
        DType::F64 => target::<f64>(to, isa),
    }
}

/// An element type that converts to every other.
trait ConvertToAll:
    ConvertTo<Flag>
    + ConvertTo<u8>
    + ConvertTo<i32>
    + ConvertTo<i64>
    + ConvertTo<u32>
    + ConvertTo<u64>
    + ConvertTo<Half>
    + ConvertTo<Brain>
    + ConvertTo<f32>
    + ConvertTo<f64>
{
}
impl<T> ConvertToAll for T where
    T: ConvertTo<Flag>
        + ConvertTo<u8>
        + ConvertTo<i32>
        + ConvertTo<i64>
        + ConvertTo<u32>
        + ConvertTo<u64>
        + ConvertTo<Half>
        + ConvertTo<Brain>
        + ConvertTo<f32>
        + ConvertTo<f64>
{
}

fn target<A: ConvertToAll>(to: DType, isa: Isa) -> OpFn {
    match to {
        DType::Bool => op1::<Cast<A, Flag>>(isa),
        DType::U8 => op1::<Cast<A, u8>>(isa),
        DType::I32 => op1::<Cast<A, i32>>(isa),
        DType::I64 => op1::<Cast<A, i64>>(isa),
        DType::U32 => op1::<Cast<A, u32>>(isa),
        DType::U64 => op1::<Cast<A, u64>>(isa),
        DType::F16 => op1::<Cast<A, Half>>(isa),
        DType::BF16 => op1::<Cast<A, Brain>>(isa),
        DType::F32 => op1::<Cast<A, f32>>(isa),
        DType::F64 => op1::<Cast<A, f64>>(isa),
    }
}
