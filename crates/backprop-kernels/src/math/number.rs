use std::ops::{Add, Div, Mul, Neg, Sub};

/// What a function of one `f32` is written in: the number itself ([`Plain`]), or a note of what is to be done with it (the tile
/// compiler's). Every operation rounds as IEEE 754 says; only [`madd`](Number::madd) may be fused.
pub(crate) trait Number:
    Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self> + Neg<Output = Self>
{
    /// The outcome of a comparison.
    type Truth: Copy;

    /// A constant; `self` only says where it is used.
    fn constant(self, value: f32) -> Self;
    /// `self·b + c`, fused or in two roundings.
    fn madd(self, b: Self, c: Self) -> Self;
    /// |x|.
    fn abs(self) -> Self;
    /// With the sign of another one.
    fn copysign(self, sign: Self) -> Self;
    /// `self` where it is less than `other`, else `other`.
    fn if_less(self, other: Self) -> Self;
    /// `self` where it is greater than `other`, else `other`.
    fn if_greater(self, other: Self) -> Self;
    /// Bitwise and.
    fn bits_and(self, other: Self) -> Self;
    /// Bitwise or.
    fn bits_or(self, other: Self) -> Self;
    /// Sum of the bits as integers, wrapping.
    fn bits_add(self, other: Self) -> Self;
    /// Difference of the bits as integers, wrapping.
    fn bits_sub(self, other: Self) -> Self;
    /// The bits shifted to the left.
    fn bits_shl(self, count: u8) -> Self;
    /// The bits as a signed integer shifted to the right.
    fn bits_sar(self, count: u8) -> Self;
    /// The bits as a signed integer, as a number.
    fn bits_to_number(self) -> Self;
    /// self < other.
    fn less(self, other: Self) -> Self::Truth;
    /// self = other.
    fn equal(self, other: Self) -> Self::Truth;
    /// Whether one of both is NaN.
    fn unordered(self, other: Self) -> Self::Truth;
    /// `yes` where it is true, else `no`.
    fn choose(truth: Self::Truth, yes: Self, no: Self) -> Self;
}

/// A number itself; multiply-adds are fused or not.
#[derive(Clone, Copy)]
pub(super) struct Plain<const FMA: bool>(pub(super) f32);

macro_rules! operators {
    ($($name:ident $method:ident $op:tt;)*) => { $(
        impl<const FMA: bool> $name for Plain<FMA> {
            type Output = Self;
            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                Plain(self.0 $op other.0)
            }
        }
    )* };
}
operators! {
    Add add +;
    Sub sub -;
    Mul mul *;
    Div div /;
}

impl<const FMA: bool> Neg for Plain<FMA> {
    type Output = Self;
    #[inline(always)]
    fn neg(self) -> Self {
        Plain(-self.0)
    }
}

impl<const FMA: bool> Plain<FMA> {
    #[inline(always)]
    fn bits(self) -> i32 {
        self.0.to_bits() as i32
    }

    #[inline(always)]
    fn of_bits(bits: i32) -> Self {
        Plain(f32::from_bits(bits as u32))
    }
}

impl<const FMA: bool> Number for Plain<FMA> {
    type Truth = bool;

    #[inline(always)]
    fn constant(self, value: f32) -> Self {
        Plain(value)
    }
    #[inline(always)]
    fn madd(self, b: Self, c: Self) -> Self {
        Plain(super::madd::<FMA>(self.0, b.0, c.0))
    }
    #[inline(always)]
    fn abs(self) -> Self {
        Plain(self.0.abs())
    }
    #[inline(always)]
    fn copysign(self, sign: Self) -> Self {
        Plain(self.0.copysign(sign.0))
    }
    #[inline(always)]
    fn if_less(self, other: Self) -> Self {
        if self.0 < other.0 { self } else { other }
    }
    #[inline(always)]
    fn if_greater(self, other: Self) -> Self {
        if self.0 > other.0 { self } else { other }
    }
    #[inline(always)]
    fn bits_and(self, other: Self) -> Self {
        Self::of_bits(self.bits() & other.bits())
    }
    #[inline(always)]
    fn bits_or(self, other: Self) -> Self {
        Self::of_bits(self.bits() | other.bits())
    }
    #[inline(always)]
    fn bits_add(self, other: Self) -> Self {
        Self::of_bits(self.bits().wrapping_add(other.bits()))
    }
    #[inline(always)]
    fn bits_sub(self, other: Self) -> Self {
        Self::of_bits(self.bits().wrapping_sub(other.bits()))
    }
    #[inline(always)]
    fn bits_shl(self, count: u8) -> Self {
        Self::of_bits(self.bits() << count)
    }
    #[inline(always)]
    fn bits_sar(self, count: u8) -> Self {
        Self::of_bits(self.bits() >> count)
    }
    #[inline(always)]
    fn bits_to_number(self) -> Self {
        Plain(self.bits() as f32)
    }
    #[inline(always)]
    fn less(self, other: Self) -> bool {
        self.0 < other.0
    }
    #[inline(always)]
    fn equal(self, other: Self) -> bool {
        self.0 == other.0
    }
    #[inline(always)]
    fn unordered(self, other: Self) -> bool {
        self.0.is_nan() || other.0.is_nan()
    }
    #[inline(always)]
    fn choose(truth: bool, yes: Self, no: Self) -> Self {
        if truth { yes } else { no }
    }
}
