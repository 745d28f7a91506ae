use crate::simd::per_isa;

/// A `Bool` element: one byte, 0 or 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
#[repr(transparent)]
pub(crate) struct Flag(pub(crate) u8);

/// A function of one element.
pub(super) trait Lane1 {
    type A: Copy + Default;
    type O: Copy + Default;
    /// Long enough that a scalar remainder loop would show: the remainder then runs as one padded block.
    const LONG: bool = false;
    fn at<const FMA: bool>(a: Self::A) -> Self::O;
    /// Whether the branch-free formula does not hold and [`exception`](Self::exception) gives the result.
    #[inline(always)]
    fn is_exception(_: Self::A) -> bool {
        false
    }
    fn exception(_: Self::A) -> Self::O {
        Self::O::default()
    }
}

/// A function of two elements.
pub(super) trait Lane2 {
    type A: Copy + Default;
    type O: Copy + Default;
    const LONG: bool = false;
    fn at<const FMA: bool>(a: Self::A, b: Self::A) -> Self::O;
}

/// A function of three elements.
pub(super) trait Lane3 {
    type A: Copy;
    type B: Copy;
    fn at<const FMA: bool>(a: Self::A, b: Self::B, c: Self::B) -> Self::B;
}

/// Elements per padded remainder block: a multiple of every vector width.
const BLOCK: usize = 32;

#[inline(always)]
fn map1<L: Lane1, const FMA: bool>(dst: &mut [L::O], a: &[L::A]) {
    for (d, &a) in dst.iter_mut().zip(a) {
        *d = L::at::<FMA>(a);
    }
}

#[inline(always)]
fn map2<L: Lane2, const FMA: bool>(dst: &mut [L::O], a: &[L::A], b: &[L::A]) {
    for ((d, &a), &b) in dst.iter_mut().zip(a).zip(b) {
        *d = L::at::<FMA>(a, b);
    }
}

/// Replaces the results of exceptional arguments, which are rare: one vector pass finds out that there are none.
#[inline(always)]
fn repair<L: Lane1>(dst: &mut [L::O], a: &[L::A]) {
    if a.iter().fold(false, |found, &a| found | L::is_exception(a)) {
        for (d, &a) in dst.iter_mut().zip(a).filter(|(_, a)| L::is_exception(**a)) {
            *d = L::exception(a);
        }
    }
}

/// # Safety
/// `src` lists one address of `n` elements; `dst` holds `n` elements elsewhere.
#[inline(always)]
unsafe fn body1<L: Lane1, const FMA: bool>(n: usize, dst: *mut u8, src: *const *const u8) {
    // SAFETY: promised by the caller.
    let (d, a) =
        unsafe { (std::slice::from_raw_parts_mut(dst.cast::<L::O>(), n), std::slice::from_raw_parts((*src).cast::<L::A>(), n)) };
    if !L::LONG {
        return map1::<L, FMA>(d, a);
    }
    let whole = n - n % BLOCK;
    let (head, tail) = d.split_at_mut(whole);
    map1::<L, FMA>(head, &a[..whole]);
    if !tail.is_empty() {
        let (mut result, mut padded) = ([L::O::default(); BLOCK], [L::A::default(); BLOCK]);
        padded[..tail.len()].copy_from_slice(&a[whole..]);
        map1::<L, FMA>(&mut result, &padded);
        tail.copy_from_slice(&result[..tail.len()]);
    }
    repair::<L>(d, a);
}

/// # Safety
/// `src` lists two addresses of `n` elements; `dst` holds `n` elements elsewhere.
#[inline(always)]
unsafe fn body2<L: Lane2, const FMA: bool>(n: usize, dst: *mut u8, src: *const *const u8) {
    // SAFETY: promised by the caller.
    let (d, a, b) = unsafe {
        (
            std::slice::from_raw_parts_mut(dst.cast::<L::O>(), n),
            std::slice::from_raw_parts((*src).cast::<L::A>(), n),
            std::slice::from_raw_parts((*src.add(1)).cast::<L::A>(), n),
        )
    };
    if !L::LONG {
        return map2::<L, FMA>(d, a, b);
    }
    let whole = n - n % BLOCK;
    let (head, tail) = d.split_at_mut(whole);
    map2::<L, FMA>(head, &a[..whole], &b[..whole]);
    if !tail.is_empty() {
        let (mut result, mut x, mut y) = ([L::O::default(); BLOCK], [L::A::default(); BLOCK], [L::A::default(); BLOCK]);
        x[..tail.len()].copy_from_slice(&a[whole..]);
        y[..tail.len()].copy_from_slice(&b[whole..]);
        map2::<L, FMA>(&mut result, &x, &y);
        tail.copy_from_slice(&result[..tail.len()]);
    }
}

/// # Safety
/// `src` lists three addresses of `n` elements; `dst` holds `n` elements elsewhere.
#[inline(always)]
unsafe fn body3<L: Lane3, const FMA: bool>(n: usize, dst: *mut u8, src: *const *const u8) {
    // SAFETY: promised by the caller.
    let (d, a, b, c) = unsafe {
        (
            std::slice::from_raw_parts_mut(dst.cast::<L::B>(), n),
            std::slice::from_raw_parts((*src).cast::<L::A>(), n),
            std::slice::from_raw_parts((*src.add(1)).cast::<L::B>(), n),
            std::slice::from_raw_parts((*src.add(2)).cast::<L::B>(), n),
        )
    };
    for (((d, &a), &b), &c) in d.iter_mut().zip(a).zip(b).zip(c) {
        *d = L::at::<FMA>(a, b, c);
    }
}

per_isa! {
    /// The loop over a function of one element.
    pub(super) fn op1[L: Lane1](n: usize, dst: *mut u8, src: *const *const u8) = body1
}
per_isa! {
    /// The loop over a function of two elements.
    pub(super) fn op2[L: Lane2](n: usize, dst: *mut u8, src: *const *const u8) = body2
}
per_isa! {
    /// The loop over a function of three elements.
    pub(super) fn op3[L: Lane3](n: usize, dst: *mut u8, src: *const *const u8) = body3
}
/// Declares zero-sized function types and their element functions.
macro_rules! lanes {
    ($($name:ident $(<$g:ident : $bound:ident>)? : $long:literal ($a:ident : $in:ty) -> $out:ty = $e:expr;)*) => {
        $(pub(super) struct $name $(<$g>(std::marker::PhantomData<$g>))?;
        impl $(<$g: $bound>)? Lane1 for $name $(<$g>)? {
            type A = $in;
            type O = $out;
            const LONG: bool = $long;
            #[inline(always)]
            fn at<const FMA: bool>($a: $in) -> $out { $e }
        })*
    };
    ($($name:ident $(<$g:ident : $bound:ident>)? : $long:literal ($a:ident, $b:ident : $in:ty) -> $out:ty = $e:expr;)*) => {
        $(pub(super) struct $name $(<$g>(std::marker::PhantomData<$g>))?;
        impl $(<$g: $bound>)? Lane2 for $name $(<$g>)? {
            type A = $in;
            type O = $out;
            const LONG: bool = $long;
            #[inline(always)]
            fn at<const FMA: bool>($a: $in, $b: $in) -> $out { $e }
        })*
    };
}
pub(super) use lanes;
