use super::OpFn;
use super::integer::{Choose, compare};
use super::lanes::{Flag, Lane1, Lane2, Lane3, lanes, op1, op2, op3};
use crate::tile::OpCode;
use crate::{Isa, math};

/// A result, or the zero of its sign in place of a denormal one: what compiled functions set the processor to. (It looks at results
/// rounded to 24 bits; of the last half unit below 2⁻¹²⁶ it makes 0, where this has 2⁻¹²⁶.)
#[inline(always)]
fn flush(x: f32) -> f32 {
    if x.abs() < f32::MIN_POSITIVE { 0f32.copysign(x) } else { x }
}

lanes! {
    Neg32: false (x: f32) -> f32 = -x;
    Abs32: false (x: f32) -> f32 = x.abs();
    Sign32: false (x: f32) -> f32 = math::sign(x);
    Floor32: false (x: f32) -> f32 = x.floor();
    Ceil32: false (x: f32) -> f32 = x.ceil();
    Round32: false (x: f32) -> f32 = x.round_ties_even();
    Exp32: true (x: f32) -> f32 = flush(math::exp::<FMA>(x));
    Expm132: true (x: f32) -> f32 = math::expm1::<FMA>(x);
    Log32: true (x: f32) -> f32 = math::log::<FMA>(x);
    Log1p32: true (x: f32) -> f32 = math::log1p::<FMA>(x);
    Sqrt32: false (x: f32) -> f32 = math::sqrt(x);
    Rsqrt32: false (x: f32) -> f32 = math::rsqrt(x);
    Tanh32: true (x: f32) -> f32 = flush(math::tanh::<FMA>(x));
    Logistic32: true (x: f32) -> f32 = flush(math::logistic::<FMA>(x));
    Erf32: true (x: f32) -> f32 = flush(math::erf::<FMA>(x));
    Finite32: false (x: f32) -> Flag = Flag(u8::from(x.abs() < f32::INFINITY));
    Neg64: false (x: f64) -> f64 = -x;
    Abs64: false (x: f64) -> f64 = x.abs();
    Sign64: false (x: f64) -> f64 = math::wide::sign(x);
    Floor64: false (x: f64) -> f64 = x.floor();
    Ceil64: false (x: f64) -> f64 = x.ceil();
    Round64: false (x: f64) -> f64 = x.round_ties_even();
    Exp64: false (x: f64) -> f64 = x.exp();
    Expm164: false (x: f64) -> f64 = x.exp_m1();
    Log64: false (x: f64) -> f64 = x.ln();
    Log1p64: false (x: f64) -> f64 = x.ln_1p();
    Sqrt64: false (x: f64) -> f64 = x.sqrt();
    Rsqrt64: false (x: f64) -> f64 = 1.0 / x.sqrt();
    Tanh64: false (x: f64) -> f64 = x.tanh();
    Logistic64: false (x: f64) -> f64 = math::wide::logistic(x);
    Erf64: false (x: f64) -> f64 = math::wide::erf(x);
    Sin64: false (x: f64) -> f64 = x.sin();
    Cos64: false (x: f64) -> f64 = x.cos();
    Finite64: false (x: f64) -> Flag = Flag(u8::from(x.abs() < f64::INFINITY));
}

lanes! {
    Add32: false (a, b: f32) -> f32 = flush(a + b);
    Sub32: false (a, b: f32) -> f32 = flush(a - b);
    Mul32: false (a, b: f32) -> f32 = flush(a * b);
    Div32: false (a, b: f32) -> f32 = flush(a / b);
    Rem32: false (a, b: f32) -> f32 = flush(a % b);
    Pow32: true (a, b: f32) -> f32 = flush(math::pow::<FMA>(a, b));
    Max32: false (a, b: f32) -> f32 = math::maximum(a, b);
    Min32: false (a, b: f32) -> f32 = math::minimum(a, b);
    Add64: false (a, b: f64) -> f64 = a + b;
    Sub64: false (a, b: f64) -> f64 = a - b;
    Mul64: false (a, b: f64) -> f64 = a * b;
    Div64: false (a, b: f64) -> f64 = a / b;
    Rem64: false (a, b: f64) -> f64 = a % b;
    Pow64: false (a, b: f64) -> f64 = a.powf(b);
    Max64: false (a, b: f64) -> f64 = math::wide::maximum(a, b);
    Min64: false (a, b: f64) -> f64 = math::wide::minimum(a, b);
}

macro_rules! circular {
    ($($name:ident => $near:ident, $far:expr;)*) => {
        $(pub(super) struct $name;
        impl Lane1 for $name {
            type A = f32;
            type O = f32;
            const LONG: bool = true;
            #[inline(always)]
            fn at<const FMA: bool>(x: f32) -> f32 { math::$near::<FMA>(x) }
            #[inline(always)]
            fn is_exception(x: f32) -> bool { x.abs() > math::REDUCIBLE }
            fn exception(x: f32) -> f32 { $far(f64::from(x)) as f32 }
        })*
    };
}
circular! {
    Sin32 => sin, f64::sin;
    Cos32 => cos, f64::cos;
}

pub(super) struct Clamp32;
impl Lane3 for Clamp32 {
    type A = f32;
    type B = f32;
    #[inline(always)]
    fn at<const FMA: bool>(low: f32, x: f32, high: f32) -> f32 {
        math::minimum(math::maximum(x, low), high)
    }
}

pub(super) struct Clamp64;
impl Lane3 for Clamp64 {
    type A = f64;
    type B = f64;
    #[inline(always)]
    fn at<const FMA: bool>(low: f64, x: f64, high: f64) -> f64 {
        math::wide::minimum(math::wide::maximum(x, low), high)
    }
}

pub(super) fn lookup_f32(op: OpCode, isa: Isa) -> Option<OpFn> {
    Some(match op {
        OpCode::Neg => op1::<Neg32>(isa),
        OpCode::Abs => op1::<Abs32>(isa),
        OpCode::Sign => op1::<Sign32>(isa),
        OpCode::Floor => op1::<Floor32>(isa),
        OpCode::Ceil => op1::<Ceil32>(isa),
        OpCode::RoundNearestEven => op1::<Round32>(isa),
        OpCode::Exp => op1::<Exp32>(isa),
        OpCode::Expm1 => op1::<Expm132>(isa),
        OpCode::Log => op1::<Log32>(isa),
        OpCode::Log1p => op1::<Log1p32>(isa),
        OpCode::Sqrt => op1::<Sqrt32>(isa),
        OpCode::Rsqrt => op1::<Rsqrt32>(isa),
        OpCode::Tanh => op1::<Tanh32>(isa),
        OpCode::Logistic => op1::<Logistic32>(isa),
        OpCode::Erf => op1::<Erf32>(isa),
        OpCode::Sin => op1::<Sin32>(isa),
        OpCode::Cos => op1::<Cos32>(isa),
        OpCode::IsFinite => op1::<Finite32>(isa),
        OpCode::Add => op2::<Add32>(isa),
        OpCode::Sub => op2::<Sub32>(isa),
        OpCode::Mul => op2::<Mul32>(isa),
        OpCode::Div => op2::<Div32>(isa),
        OpCode::Rem => op2::<Rem32>(isa),
        OpCode::Pow => op2::<Pow32>(isa),
        OpCode::Max => op2::<Max32>(isa),
        OpCode::Min => op2::<Min32>(isa),
        OpCode::Clamp => op3::<Clamp32>(isa),
        OpCode::Select => op3::<Choose<f32>>(isa),
        _ => return compare::<f32>(op, isa),
    })
}

pub(super) fn lookup_f64(op: OpCode, isa: Isa) -> Option<OpFn> {
    Some(match op {
        OpCode::Neg => op1::<Neg64>(isa),
        OpCode::Abs => op1::<Abs64>(isa),
        OpCode::Sign => op1::<Sign64>(isa),
        OpCode::Floor => op1::<Floor64>(isa),
        OpCode::Ceil => op1::<Ceil64>(isa),
        OpCode::RoundNearestEven => op1::<Round64>(isa),
        OpCode::Exp => op1::<Exp64>(isa),
        OpCode::Expm1 => op1::<Expm164>(isa),
        OpCode::Log => op1::<Log64>(isa),
        OpCode::Log1p => op1::<Log1p64>(isa),
        OpCode::Sqrt => op1::<Sqrt64>(isa),
        OpCode::Rsqrt => op1::<Rsqrt64>(isa),
        OpCode::Tanh => op1::<Tanh64>(isa),
        OpCode::Logistic => op1::<Logistic64>(isa),
        OpCode::Erf => op1::<Erf64>(isa),
        OpCode::Sin => op1::<Sin64>(isa),
        OpCode::Cos => op1::<Cos64>(isa),
        OpCode::IsFinite => op1::<Finite64>(isa),
        OpCode::Add => op2::<Add64>(isa),
        OpCode::Sub => op2::<Sub64>(isa),
        OpCode::Mul => op2::<Mul64>(isa),
        OpCode::Div => op2::<Div64>(isa),
        OpCode::Rem => op2::<Rem64>(isa),
        OpCode::Pow => op2::<Pow64>(isa),
        OpCode::Max => op2::<Max64>(isa),
        OpCode::Min => op2::<Min64>(isa),
        OpCode::Clamp => op3::<Clamp64>(isa),
        OpCode::Select => op3::<Choose<f64>>(isa),
        _ => return compare::<f64>(op, isa),
    })
}
