//! Loops over several operations on `f32` at once: what one gives the next finds in a register.
//!
//! Each operation rounds as it would alone: the bits are those of one loop for each. A loop may write where it reads, element by
//! element, because a block of results is stored after all that it follows from was read.

use super::OpFn;
use super::integer::{Equal, Greater, GreaterEqual, Less, LessEqual, Unequal};
use super::lanes::Lane2;
use crate::Isa;
use crate::simd::per_isa;
use crate::tile::OpCode;
use std::marker::PhantomData;

/// The operations of a loop as a tree.
pub(crate) enum Shape {
    /// What is read.
    Source,
    /// An operation on other results.
    Op { op: OpCode, of: &'static [&'static Shape] },
    /// The product of a result with itself.
    Square { of: &'static Shape },
}

/// A function of sources that are read one after the other.
trait Expression: 'static {
    const SHAPE: &'static Shape;
    /// How many sources it reads.
    const SOURCES: usize;
    fn of(next: &mut impl FnMut() -> f32) -> f32;
}

/// The next source.
struct X;
impl Expression for X {
    const SHAPE: &'static Shape = &Shape::Source;
    const SOURCES: usize = 1;
    #[inline(always)]
    fn of(next: &mut impl FnMut() -> f32) -> f32 {
        next()
    }
}

struct Square<A>(PhantomData<A>);
impl<A: Expression> Expression for Square<A> {
    const SHAPE: &'static Shape = &Shape::Square { of: A::SHAPE };
    const SOURCES: usize = A::SOURCES;
    #[inline(always)]
    fn of(next: &mut impl FnMut() -> f32) -> f32 {
        let a = A::of(next);
        a * a
    }
}

macro_rules! arithmetic {
    ($($name:ident: $a:ident, $b:ident => $value:expr;)*) => {
        $(struct $name<A, B>(PhantomData<(A, B)>);
        impl<A: Expression, B: Expression> Expression for $name<A, B> {
            const SHAPE: &'static Shape = &Shape::Op { op: OpCode::$name, of: &[A::SHAPE, B::SHAPE] };
            const SOURCES: usize = A::SOURCES + B::SOURCES;
            #[inline(always)]
            fn of(next: &mut impl FnMut() -> f32) -> f32 {
                let $a = A::of(next);
                let $b = B::of(next);
                $value
            }
        })*
    };
}
arithmetic! {
    Add: a, b => a + b;
    Sub: a, b => a - b;
    Mul: a, b => a * b;
}

/// The third of four sources where the comparison of the first two holds, else the fourth.
macro_rules! choices {
    ($($name:ident: $op:ident $compare:ident;)*) => {
        $(struct $name;
        impl Expression for $name {
            const SHAPE: &'static Shape = &Shape::Op {
                op: OpCode::Select,
                of: &[&Shape::Op { op: OpCode::$op, of: &[X::SHAPE, X::SHAPE] }, X::SHAPE, X::SHAPE],
            };
            const SOURCES: usize = 4;
            #[inline(always)]
            fn of(next: &mut impl FnMut() -> f32) -> f32 {
                let [a, b, x, y] = [next(), next(), next(), next()];
                if $compare::<f32>::at::<false>(a, b).0 != 0 { x } else { y }
            }
        })*
    };
}
choices! {
    IfEq: Eq Equal;
    IfNe: Ne Unequal;
    IfLt: Lt Less;
    IfLe: Le LessEqual;
    IfGt: Gt Greater;
    IfGe: Ge GreaterEqual;
}

/// The most sources of a loop.
pub(crate) const MOST: usize = 8;

/// Elements whose results are held in registers.
const BLOCK: usize = 64;

/// # Safety
/// `src` lists the addresses of `n` elements of each source; `dst` holds `n` elements, and is none of theirs or exactly the same.
#[inline(always)]
unsafe fn expression_body<E: Expression, const FMA: bool>(n: usize, dst: *mut u8, src: *const *const u8) {
    let to = dst.cast::<f32>();
    let mut sources = [std::ptr::null::<f32>(); MOST];
    for (k, source) in sources.iter_mut().enumerate().take(E::SOURCES) {
        // SAFETY: promised by the caller.
        *source = unsafe { (*src.add(k)).cast() };
    }
    let at = |i: usize| {
        let mut k = 0;
        E::of(&mut || {
            k += 1;
            // SAFETY: source `k − 1` has an element `i`.
            unsafe { *sources[k - 1].add(i) }
        })
    };
    let mut done = 0;
    while done + BLOCK <= n {
        let mut block = [0f32; BLOCK];
        block.iter_mut().enumerate().for_each(|(l, value)| *value = at(done + l));
        // SAFETY: a block of the `n` elements.
        unsafe { to.add(done).cast::<[f32; BLOCK]>().write_unaligned(block) };
        done += BLOCK;
    }
    for i in done..n {
        // SAFETY: one of the `n` elements.
        unsafe { *to.add(i) = at(i) };
    }
}

per_isa! { fn expression[E: Expression](n: usize, dst: *mut u8, src: *const *const u8) = expression_body }

/// A loop, and what it computes.
pub(crate) struct Joined {
    pub(crate) shape: &'static Shape,
    pub(crate) function: fn(Isa) -> OpFn,
}

const fn row<E: Expression>() -> Joined {
    Joined { shape: E::SHAPE, function: expression::<E> }
}

/// `(x − mean)·rstd`.
type Normalised = Mul<Sub<X, X>, X>;
/// `(x − mean)·rstd·weight + bias`.
type Scaled = Add<Mul<Normalised, X>, X>;

/// All loops; those of more operations come first.
pub(crate) static JOINED: &[Joined] = &[
    // The derivative of a normalisation: `scale·(g − mean(g) − x̂·mean(g·x̂))`.
    row::<Mul<X, Sub<Sub<X, X>, Mul<Normalised, X>>>>(),
    row::<Add<Scaled, X>>(),
    row::<Scaled>(),
    row::<Mul<Normalised, X>>(),
    row::<Add<Mul<X, X>, Mul<X, X>>>(),
    // A sample's distance from its mean, which is a sum divided by a number.
    row::<Square<Sub<X, Mul<X, X>>>>(),
    row::<Square<Sub<X, X>>>(),
    row::<Add<Add<X, X>, X>>(),
    row::<Add<Sub<X, X>, X>>(),
    row::<Add<Mul<X, X>, X>>(),
    row::<Sub<Add<X, X>, X>>(),
    row::<Sub<Sub<X, X>, X>>(),
    row::<Sub<Mul<X, X>, X>>(),
    row::<Mul<Add<X, X>, X>>(),
    row::<Normalised>(),
    row::<Mul<Mul<X, X>, X>>(),
    row::<Sub<X, Add<X, X>>>(),
    row::<Sub<X, Sub<X, X>>>(),
    row::<Sub<X, Mul<X, X>>>(),
    row::<IfEq>(),
    row::<IfNe>(),
    row::<IfLt>(),
    row::<IfLe>(),
    row::<IfGt>(),
    row::<IfGe>(),
];
