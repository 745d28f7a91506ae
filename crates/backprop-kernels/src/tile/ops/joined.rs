//! Loops over two operations on `f32` at once.

use super::OpFn;
use super::float::{Add32, Mul32, Sub32};
use super::integer::{Equal, Greater, GreaterEqual, Less, LessEqual, Unequal};
use super::lanes::{Flag, Lane2, Lane3, Lane4, op3, op4};
use crate::Isa;
use crate::tile::OpCode;
use std::marker::PhantomData;

/// `second(first(a, b), c)`.
struct Then<F, S>(PhantomData<(F, S)>);
impl<F: Lane2<A = f32, O = f32>, S: Lane2<A = f32, O = f32>> Lane3 for Then<F, S> {
    type A = f32;
    type B = f32;
    #[inline(always)]
    fn at<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
        S::at::<FMA>(F::at::<FMA>(a, b), c)
    }
}

/// `c − first(a, b)`.
struct Off<F>(PhantomData<F>);
impl<F: Lane2<A = f32, O = f32>> Lane3 for Off<F> {
    type A = f32;
    type B = f32;
    #[inline(always)]
    fn at<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
        c - F::at::<FMA>(a, b)
    }
}

/// `x` where the comparison of `a` and `b` holds, else `y`.
struct Where<C>(PhantomData<C>);
impl<C: Lane2<A = f32, O = Flag>> Lane4 for Where<C> {
    #[inline(always)]
    fn at<const FMA: bool>(a: f32, b: f32, x: f32, y: f32) -> f32 {
        if C::at::<FMA>(a, b).0 != 0 { x } else { y }
    }
}

/// The loop of two operations, if there is one. `reversed`: the first one's result is the second operand.
pub(crate) fn joined(first: OpCode, second: OpCode, reversed: bool, isa: Isa) -> Option<OpFn> {
    match first {
        OpCode::Add => then::<Add32>(second, reversed, isa),
        OpCode::Sub => then::<Sub32>(second, reversed, isa),
        OpCode::Mul => then::<Mul32>(second, reversed, isa),
        _ if second == OpCode::Select => chosen(first, isa),
        _ => None,
    }
}

fn then<F: Lane2<A = f32, O = f32>>(second: OpCode, reversed: bool, isa: Isa) -> Option<OpFn> {
    Some(match second {
        OpCode::Add => op3::<Then<F, Add32>>(isa),
        OpCode::Sub if reversed => op3::<Off<F>>(isa),
        OpCode::Sub => op3::<Then<F, Sub32>>(isa),
        OpCode::Mul => op3::<Then<F, Mul32>>(isa),
        _ => return None,
    })
}

fn chosen(comparison: OpCode, isa: Isa) -> Option<OpFn> {
    Some(match comparison {
        OpCode::Eq => op4::<Where<Equal<f32>>>(isa),
        OpCode::Ne => op4::<Where<Unequal<f32>>>(isa),
        OpCode::Lt => op4::<Where<Less<f32>>>(isa),
        OpCode::Le => op4::<Where<LessEqual<f32>>>(isa),
        OpCode::Gt => op4::<Where<Greater<f32>>>(isa),
        OpCode::Ge => op4::<Where<GreaterEqual<f32>>>(isa),
        _ => return None,
    })
}
