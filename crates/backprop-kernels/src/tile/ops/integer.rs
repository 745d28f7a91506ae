use super::OpFn;
use super::lanes::{Flag, Lane1, Lane2, Lane3, lanes, op1, op2, op3};
use crate::Isa;
use crate::tile::OpCode;

/// Wrapping integer arithmetic that never traps.
pub(super) trait Integer: Copy + Default + Ord {
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    fn div(self, other: Self) -> Self;
    fn rem(self, other: Self) -> Self;
    fn pow(self, other: Self) -> Self;
    fn and(self, other: Self) -> Self;
    fn or(self, other: Self) -> Self;
    fn xor(self, other: Self) -> Self;
    fn shl(self, other: Self) -> Self;
    fn shr(self, other: Self) -> Self;
    fn not(self) -> Self;
    fn neg(self) -> Self;
    fn abs(self) -> Self;
    fn sign(self) -> Self;
}

macro_rules! integer {
    ($t:ty, $unsigned:ty) => {
        impl Integer for $t {
            #[inline(always)]
            fn add(self, other: Self) -> Self {
                self.wrapping_add(other)
            }
            #[inline(always)]
            fn sub(self, other: Self) -> Self {
                self.wrapping_sub(other)
            }
            #[inline(always)]
            fn mul(self, other: Self) -> Self {
                self.wrapping_mul(other)
            }
            #[inline(always)]
            fn div(self, other: Self) -> Self {
                if other == 0 { !0 } else { self.wrapping_div(other) }
            }
            #[inline(always)]
            fn rem(self, other: Self) -> Self {
                if other == 0 { self } else { self.wrapping_rem(other) }
            }
            /// Wrapping power; a negative exponent gives the truncated reciprocal, 0 unless |x| = 1.
            #[inline(always)]
            fn pow(self, other: Self) -> Self {
                #[allow(unused_comparisons, reason = "one source for signed and unsigned")]
                if other < 0 {
                    let odd = other & 1 == 1;
                    return if self == 1 || (self == !0 && !odd) {
                        1
                    } else if self == !0 {
                        self
                    } else {
                        0
                    };
                }
                let (mut base, mut exponent, mut result): (Self, Self, Self) = (self, other, 1);
                while exponent != 0 {
                    if exponent & 1 == 1 {
                        result = result.wrapping_mul(base);
                    }
                    base = base.wrapping_mul(base);
                    exponent >>= 1;
                }
                result
            }
            #[inline(always)]
            fn and(self, other: Self) -> Self {
                self & other
            }
            #[inline(always)]
            fn or(self, other: Self) -> Self {
                self | other
            }
            #[inline(always)]
            fn xor(self, other: Self) -> Self {
                self ^ other
            }
            #[inline(always)]
            fn shl(self, other: Self) -> Self {
                let shifted = self.wrapping_shl(other as u32);
                if (other as $unsigned) < <$t>::BITS as $unsigned { shifted } else { 0 }
            }
            #[inline(always)]
            fn shr(self, other: Self) -> Self {
                let shifted = (self as $unsigned).wrapping_shr(other as u32) as $t;
                if (other as $unsigned) < <$t>::BITS as $unsigned { shifted } else { 0 }
            }
            #[inline(always)]
            fn not(self) -> Self {
                !self
            }
            #[inline(always)]
            fn neg(self) -> Self {
                (0 as $t).wrapping_sub(self)
            }
            #[inline(always)]
            #[allow(unused_comparisons, reason = "one source for signed and unsigned")]
            fn abs(self) -> Self {
                if self < 0 { self.neg() } else { self }
            }
            #[inline(always)]
            #[allow(unused_comparisons, reason = "one source for signed and unsigned")]
            fn sign(self) -> Self {
                if self < 0 { !0 } else { (self != 0) as $t }
            }
        }
    };
}
integer!(u8, u8);
integer!(i32, u32);
integer!(u32, u32);
integer!(i64, u64);
integer!(u64, u64);

lanes! {
    Neg<T: Integer>: false (x: T) -> T = x.neg();
    Abs<T: Integer>: false (x: T) -> T = x.abs();
    Sign<T: Integer>: false (x: T) -> T = x.sign();
    Not<T: Integer>: false (x: T) -> T = x.not();
    NotFlag: false (x: Flag) -> Flag = Flag(x.0 ^ 1);
}

lanes! {
    Add<T: Integer>: false (a, b: T) -> T = a.add(b);
    Sub<T: Integer>: false (a, b: T) -> T = a.sub(b);
    Mul<T: Integer>: false (a, b: T) -> T = a.mul(b);
    Div<T: Integer>: false (a, b: T) -> T = a.div(b);
    Rem<T: Integer>: false (a, b: T) -> T = a.rem(b);
    Pow<T: Integer>: false (a, b: T) -> T = a.pow(b);
    Max<T: Integer>: false (a, b: T) -> T = a.max(b);
    Min<T: Integer>: false (a, b: T) -> T = a.min(b);
    And<T: Integer>: false (a, b: T) -> T = a.and(b);
    Or<T: Integer>: false (a, b: T) -> T = a.or(b);
    Xor<T: Integer>: false (a, b: T) -> T = a.xor(b);
    Shl<T: Integer>: false (a, b: T) -> T = a.shl(b);
    Shr<T: Integer>: false (a, b: T) -> T = a.shr(b);
    AndFlag: false (a, b: Flag) -> Flag = Flag(a.0 & b.0);
    OrFlag: false (a, b: Flag) -> Flag = Flag(a.0 | b.0);
    XorFlag: false (a, b: Flag) -> Flag = Flag(a.0 ^ b.0);
}

/// What comparisons need of an element.
pub(super) trait Ordered: Copy + Default + PartialOrd {}
impl<T: Copy + Default + PartialOrd> Ordered for T {}

lanes! {
    Equal<T: Ordered>: false (a, b: T) -> Flag = Flag(u8::from(a == b));
    Unequal<T: Ordered>: false (a, b: T) -> Flag = Flag(u8::from(a != b));
    Less<T: Ordered>: false (a, b: T) -> Flag = Flag(u8::from(a < b));
    LessEqual<T: Ordered>: false (a, b: T) -> Flag = Flag(u8::from(a <= b));
    Greater<T: Ordered>: false (a, b: T) -> Flag = Flag(u8::from(a > b));
    GreaterEqual<T: Ordered>: false (a, b: T) -> Flag = Flag(u8::from(a >= b));
}

/// `Select`.
pub(super) struct Choose<T>(std::marker::PhantomData<T>);
impl<T: Copy> Lane3 for Choose<T> {
    type A = Flag;
    type B = T;
    #[inline(always)]
    fn at<const FMA: bool>(condition: Flag, a: T, b: T) -> T {
        if condition.0 != 0 { a } else { b }
    }
}

/// `Clamp` of ordered integers.
pub(super) struct Between<T>(std::marker::PhantomData<T>);
impl<T: Integer> Lane3 for Between<T> {
    type A = T;
    type B = T;
    #[inline(always)]
    fn at<const FMA: bool>(low: T, x: T, high: T) -> T {
        x.max(low).min(high)
    }
}

pub(super) fn compare<T: Ordered>(op: OpCode, isa: Isa) -> Option<OpFn> {
    Some(match op {
        OpCode::Eq => op2::<Equal<T>>(isa),
        OpCode::Ne => op2::<Unequal<T>>(isa),
        OpCode::Lt => op2::<Less<T>>(isa),
        OpCode::Le => op2::<LessEqual<T>>(isa),
        OpCode::Gt => op2::<Greater<T>>(isa),
        OpCode::Ge => op2::<GreaterEqual<T>>(isa),
        _ => return None,
    })
}

pub(super) fn lookup<T: Integer>(op: OpCode, isa: Isa) -> Option<OpFn> {
    Some(match op {
        OpCode::Neg => op1::<Neg<T>>(isa),
        OpCode::Abs => op1::<Abs<T>>(isa),
        OpCode::Sign => op1::<Sign<T>>(isa),
        OpCode::Not => op1::<Not<T>>(isa),
        OpCode::Add => op2::<Add<T>>(isa),
        OpCode::Sub => op2::<Sub<T>>(isa),
        OpCode::Mul => op2::<Mul<T>>(isa),
        OpCode::Div => op2::<Div<T>>(isa),
        OpCode::Rem => op2::<Rem<T>>(isa),
        OpCode::Pow => op2::<Pow<T>>(isa),
        OpCode::Max => op2::<Max<T>>(isa),
        OpCode::Min => op2::<Min<T>>(isa),
        OpCode::And => op2::<And<T>>(isa),
        OpCode::Or => op2::<Or<T>>(isa),
        OpCode::Xor => op2::<Xor<T>>(isa),
        OpCode::Shl => op2::<Shl<T>>(isa),
        OpCode::Shr => op2::<Shr<T>>(isa),
        OpCode::Select => op3::<Choose<T>>(isa),
        OpCode::Clamp => op3::<Between<T>>(isa),
        _ => return compare::<T>(op, isa),
    })
}

pub(super) fn lookup_bool(op: OpCode, isa: Isa) -> Option<OpFn> {
    Some(match op {
        OpCode::Not => op1::<NotFlag>(isa),
        OpCode::And | OpCode::Min => op2::<AndFlag>(isa),
        OpCode::Or | OpCode::Max => op2::<OrFlag>(isa),
        OpCode::Xor => op2::<XorFlag>(isa),
        OpCode::Select => op3::<Choose<Flag>>(isa),
        _ => return compare::<Flag>(op, isa),
    })
}
