//! The innermost loops of depthwise convolutions: vectors run over the groups.

use std::ops::Range;

use super::slide::{INPUTS, ROW, Slide, SlideFn, slides, table_of_slides};
use crate::Isa;
use crate::ahead::{prefetch, prefetch_for_writing};

/// An element of the window (or of the output, for weight gradients) at some positions.
#[derive(Clone, Copy)]
pub(super) struct Tap {
    /// Offset of the input from that of the first tap.
    pub x: isize,
    /// Offset of the weights, or of the sums.
    pub w: isize,
    /// Number among all taps.
    pub index: usize,
    /// The first of the segment's positions at which it meets the input, and the one after the last.
    pub positions: (usize, usize),
}

/// Sums over taps for adjacent positions.
pub(super) struct Spread<'a> {
    pub taps: &'a [Tap],
    /// Number of the first position in its segment.
    pub first: usize,
    pub x: *const f32,
    /// Distance between positions in the input.
    pub x_step: isize,
    pub w: *const f32,
    pub to: *mut f32,
    /// Distance between positions in the output.
    pub to_step: isize,
    /// Groups.
    pub lanes: usize,
    /// Adds to the destination instead of overwriting it.
    pub add: bool,
    /// From the output to that of a later line, which is fetched meanwhile; 0 for none.
    pub ahead: isize,
}

/// Adjacent positions of a weight gradient.
#[derive(Clone, Copy)]
pub(super) struct Line {
    /// The input of tap (0, 0) at the first position; taps outside the input are not read.
    pub x: *const f32,
    pub y: *const f32,
    /// Rows of taps that meet the input.
    pub rows: (usize, usize),
    /// Number of the first position, and how many there are.
    pub first: usize,
    pub count: usize,
}

/// Sums over positions for a rectangle of taps; the chains start at zero.
pub(super) struct Collect<'a> {
    pub lines: &'a [Line],
    /// From the lines' inputs to those of the first column of taps.
    pub shift: isize,
    /// Distance between rows and between columns of taps in the input.
    pub tap: [isize; 2],
    /// Distance between positions in the input and in y.
    pub x_step: isize,
    pub y_step: isize,
    /// The positions at which all columns of taps meet the input.
    pub whole: Range<usize>,
    /// Elsewhere: place of column 0 at position 0, steps between positions and between columns, and extent of the input.
    pub place: [isize; 3],
    pub input: usize,
    /// Sums, and distance between those of rows and of columns of taps.
    pub to: *mut f32,
    pub to_tap: [isize; 2],
    /// Adds to the destination instead of overwriting it.
    pub add: bool,
    /// Groups.
    pub lanes: Range<usize>,
    /// What is fetched meanwhile for later lines, which would otherwise first wait for memory and then compute: from the input
    /// of tap (0, 0) to what a position is the first to meet, and from its element of y to a later one.
    pub ahead: (&'a [isize], isize),
}

type SpreadFn = unsafe fn(&Spread<'_>);
type CollectFn = unsafe fn(&Collect<'_>);

/// The loops of one instruction set: for pairs of whole vectors (0), and for any number of groups (1).
pub(super) struct Chains {
    /// Groups of a pair of vectors.
    pub pair: usize,
    /// `[positions − 1]`.
    pub spread: [&'static [SpreadFn]; 2],
    /// Groups of a vector.
    pub vector: usize,
    /// `[3 · (rows − 1) + columns − 1]` of taps, for whole vectors (0), and for any number of groups (1).
    pub collect: [&'static [CollectFn; 9]; 2],
    /// `[taps from one position to the next − 1][positions − 1]`, for whole vectors (0), and for any number of groups (1).
    pub slide: [[&'static [SlideFn]; 2]; 2],
}

/// Rows and columns of taps whose sums are formed at once.
pub(super) const TAPS: usize = 3;

impl Chains {
    pub fn of(isa: Isa) -> &'static Chains {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => &x86::AVX512,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => &x86::AVX2,
            _ => &PORTABLE,
        }
    }

    /// Runs for `positions` positions: whole pairs of vectors first, then the rest of the groups.
    ///
    /// # Safety
    /// The addresses are valid for their positions, taps and groups; the processor has the instructions.
    pub unsafe fn spread(&self, mut t: Spread<'_>, positions: usize) {
        let whole = t.lanes / self.pair * self.pair;
        let parts = [(0, whole), (whole, t.lanes - whole)];
        let (x, w, to) = (t.x, t.w, t.to);
        for (part, (first, lanes)) in parts.into_iter().enumerate().filter(|(_, part)| part.1 > 0) {
            t.lanes = lanes;
            t.w = w.wrapping_add(first);
            for (at, count) in bands(positions, self.spread[part].len()) {
                t.first = at;
                t.x = x.wrapping_offset(at as isize * t.x_step).wrapping_add(first);
                t.to = to.wrapping_offset(at as isize * t.to_step).wrapping_add(first);
                // SAFETY: as the caller vouches.
                unsafe { self.spread[part][count - 1](&t) };
            }
        }
    }

    /// Runs for so many rows and columns of taps: whole vectors first, then the rest of the groups.
    ///
    /// # Safety
    /// As [`spread`](Self::spread).
    pub unsafe fn collect(&self, mut t: Collect<'_>, rows: usize, cols: usize) {
        let lanes = t.lanes;
        let whole = lanes.end / self.vector * self.vector;
        for (part, lanes) in [0..whole, whole..lanes.end].into_iter().enumerate().filter(|(_, lanes)| !lanes.is_empty()) {
            t.lanes = lanes;
            // SAFETY: as the caller vouches.
            unsafe { self.collect[part][TAPS * (rows - 1) + cols - 1](&t) };
        }
    }
}

/// (first, count) of parts of at most `most`, as even as possible.
pub(super) fn bands(all: usize, most: usize) -> impl Iterator<Item = (usize, usize)> {
    let bands = all.div_ceil(most);
    let (base, longer) = (all / bands.max(1), all % bands.max(1));
    (0..bands).map(move |i| (i * base + i.min(longer), base + usize::from(i < longer)))
}

/// One tap of adjacent positions: multiplies where it meets the input.
macro_rules! meet_taps {
    (
        $vectors:ident $acc:ident $x:ident $count:ident $t:ident $weights:ident, |$p:ident| $meets:expr,
        $width:literal $load:ident $some_load:ident $madd:ident
    ) => {{
        for (p, acc) in $acc.iter_mut().enumerate() {
            let $p = p;
            if $meets {
                let x = $x.wrapping_offset(p as isize * $t.x_step);
                for (v, acc) in acc.iter_mut().enumerate() {
                    let x = if $vectors == 2 { $load!(x.add(v * $width)) } else { $some_load!(x, $count) };
                    *acc = $madd!(x, $weights[v], *acc);
                }
            }
        }
    }};
}

/// One position of a weight gradient: multiplies with the rows and columns of taps that meet the input, and goes on.
macro_rules! meet {
    (
        $acc:ident $x:ident $y:ident $count:ident $t:ident, |$r:ident| $row:expr, |$s:ident| $col:expr,
        $load:ident $some_load:ident $madd:ident
    ) => {{
        $t.ahead.0.iter().for_each(|ahead| prefetch($x[0].wrapping_offset(*ahead)));
        prefetch($y.wrapping_offset($t.ahead.1));
        let gradient = if WHOLE { $load!($y) } else { $some_load!($y, $count) };
        for ($r, (acc, x)) in $acc.iter_mut().zip(&mut $x).enumerate() {
            if $row {
                for ($s, acc) in acc.iter_mut().enumerate() {
                    if $col {
                        let x = x.wrapping_offset($s as isize * $t.tap[1]);
                        let x = if WHOLE { $load!(x) } else { $some_load!(x, $count) };
                        *acc = $madd!(x, gradient, *acc);
                    }
                }
            }
            *x = x.wrapping_offset($t.x_step);
        }
        $y = $y.wrapping_offset($t.y_step);
    }};
}

/// Declares the loops for one vector type. With V = 2 vectors are whole; `$some_load` and `$some_store` touch `count` lanes.
macro_rules! chains {
    (
        $(#[$features:meta])? $spread:ident $collect:ident $width:literal $zero:expr,
        $load:ident $some_load:ident $madd:ident $add:ident $store:ident $some_store:ident
    ) => {
        /// # Safety
        /// The addresses are valid for P positions, the taps and the groups; the processor has the instructions.
        $(#[$features])?
        pub(super) unsafe fn $spread<const P: usize, const V: usize>(t: &Spread<'_>) {
            for lane in (0..t.lanes).step_by(V * $width) {
                let count = t.lanes - lane;
                let mut acc = [[$zero; V]; P];
                if t.ahead != 0 {
                    for p in 0..P as isize {
                        let to = t.to.wrapping_offset(p * t.to_step + t.ahead).wrapping_add(lane);
                        (0..V).for_each(|v| prefetch_for_writing(to.wrapping_add(v * $width)));
                    }
                }
                for tap in t.taps {
                    let all = tap.positions.0 <= t.first && t.first + P <= tap.positions.1;
                    let x = t.x.wrapping_offset(tap.x).wrapping_add(lane);
                    let w = t.w.wrapping_offset(tap.w).wrapping_add(lane);
                    // SAFETY: as the caller vouches.
                    unsafe {
                        let mut weights = [$zero; V];
                        for (v, weight) in weights.iter_mut().enumerate() {
                            *weight = if V == 2 { $load!(w.add(v * $width)) } else { $some_load!(w, count) };
                        }
                        if all {
                            meet_taps!(V acc x count t weights, |_p| true, $width $load $some_load $madd);
                        } else {
                            let inside = |p: usize| (tap.positions.0..tap.positions.1).contains(&(t.first + p));
                            meet_taps!(V acc x count t weights, |p| inside(p), $width $load $some_load $madd);
                        }
                    }
                }
                for (p, acc) in acc.into_iter().enumerate() {
                    for (v, acc) in acc.into_iter().enumerate() {
                        let to = t.to.wrapping_offset(p as isize * t.to_step).wrapping_add(lane + v * $width);
                        // SAFETY: as the caller vouches.
                        unsafe {
                            if V == 2 {
                                $store!(to, if t.add { $add!($load!(to), acc) } else { acc });
                            } else {
                                $some_store!(to, if t.add { $add!($some_load!(to, count), acc) } else { acc }, count);
                            }
                        }
                    }
                }
            }
        }

        /// # Safety
        /// The addresses are valid for the positions, R rows and S columns of taps that meet the input, and the groups; the
        /// processor has the instructions.
        $(#[$features])?
        pub(super) unsafe fn $collect<const R: usize, const S: usize, const WHOLE: bool>(t: &Collect<'_>) {
            for lane in t.lanes.clone().step_by($width) {
                let count = t.lanes.end - lane;
                let mut acc = [[$zero; S]; R];
                for line in t.lines {
                    let end = line.first + line.count;
                    let low = t.whole.start.clamp(line.first, end);
                    let high = t.whole.end.clamp(low, end);
                    let mut x: [*const f32; R] =
                        std::array::from_fn(|r| line.x.wrapping_offset(t.shift + r as isize * t.tap[0]).wrapping_add(lane));
                    let mut y = line.y.wrapping_add(lane);
                    let rows = line.rows.0..line.rows.1;
                    for (from, to, whole) in [(line.first, low, false), (low, high, true), (high, end, false)] {
                        let mut place = t.place[0] + from as isize * t.place[1];
                        let inside = |place: isize, s: usize| ((place + s as isize * t.place[2]) as usize) < t.input;
                        // SAFETY: as the caller vouches.
                        unsafe {
                            if whole && rows == (0..R) {
                                for _ in from..to {
                                    meet!(acc x y count t, |_r| true, |_s| true, $load $some_load $madd);
                                }
                            } else {
                                for _ in from..to {
                                    meet!(acc x y count t, |r| rows.contains(&r), |s| whole || inside(place, s), $load $some_load $madd);
                                    place += t.place[1];
                                }
                            }
                        }
                    }
                }
                for (r, acc) in acc.into_iter().enumerate() {
                    for (s, acc) in acc.into_iter().enumerate() {
                        let to = t.to.wrapping_offset(r as isize * t.to_tap[0] + s as isize * t.to_tap[1]).wrapping_add(lane);
                        // SAFETY: as the caller vouches.
                        unsafe {
                            if WHOLE {
                                $store!(to, if t.add { $add!($load!(to), acc) } else { acc })
                            } else {
                                $some_store!(to, if t.add { $add!($some_load!(to, count), acc) } else { acc }, count)
                            }
                        }
                    }
                }
            }
        }
    };
}

/// The table of one `name::<n, vectors>` function.
macro_rules! table {
    ($name:ident; $($n:literal)*) => {
        [&[$($name::<$n, 2>),*], &[$($name::<$n, 1>),*]]
    };
}

/// The table of one `name::<rows, columns, whole>` function.
macro_rules! table_of_taps {
    ($name:ident; $($whole:literal)*) => {
        [$(&[
            $name::<1, 1, $whole>, $name::<1, 2, $whole>, $name::<1, 3, $whole>,
            $name::<2, 1, $whole>, $name::<2, 2, $whole>, $name::<2, 3, $whole>,
            $name::<3, 1, $whole>, $name::<3, 2, $whole>, $name::<3, 3, $whole>,
        ]),*]
    };
}

static PORTABLE: Chains = Chains {
    pair: 8,
    spread: table!(spread_portable; 1 2),
    vector: 4,
    collect: table_of_taps!(collect_portable; true false),
    slide: table_of_slides!(slide_portable; 1 2),
};

macro_rules! load4 {
    ($from:expr) => {
        $from.cast::<[f32; 4]>().read_unaligned()
    };
}
macro_rules! some_load4 {
    ($from:expr, $count:expr) => {{
        let mut value = [0f32; 4];
        for (l, value) in value.iter_mut().enumerate().take($count) {
            *value = *$from.add(l);
        }
        value
    }};
}
macro_rules! madd4 {
    ($x:expr, $y:expr, $sum:expr) => {{
        let (x, y, mut sum): ([f32; 4], [f32; 4], [f32; 4]) = ($x, $y, $sum);
        sum.iter_mut().zip(x).zip(y).for_each(|((sum, x), y)| *sum += x * y);
        sum
    }};
}
macro_rules! add4 {
    ($x:expr, $y:expr) => {{
        let (mut x, y): ([f32; 4], [f32; 4]) = ($x, $y);
        x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
        x
    }};
}
macro_rules! store4 {
    ($to:expr, $value:expr) => {
        $to.cast::<[f32; 4]>().write_unaligned($value)
    };
}
macro_rules! some_store4 {
    ($to:expr, $value:expr, $count:expr) => {
        for (l, value) in $value.into_iter().enumerate().take($count) {
            *$to.add(l) = value;
        }
    };
}

chains!(spread_portable collect_portable 4 [0f32; 4], load4 some_load4 madd4 add4 store4 some_store4);
slides!(slide_portable 4 [0f32; 4], load4 some_load4 madd4 store4 some_store4);

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{Chains, Collect, INPUTS, ROW, Slide, Spread, slides, table_of_slides};
    use crate::ahead::{prefetch, prefetch_for_writing};

    /// 12 accumulators and two vectors of weights.
    pub(super) static AVX512: Chains = Chains {
        pair: 32,
        spread: table!(spread_avx512; 1 2 3 4 5 6),
        vector: 16,
        collect: table_of_taps!(collect_avx512; true false),
        slide: table_of_slides!(slide_avx512; 1 2 3 4 5 6 7 8),
    };
    pub(super) static AVX2: Chains = Chains {
        pair: 16,
        spread: table!(spread_avx2; 1 2 3 4 5 6),
        vector: 8,
        collect: table_of_taps!(collect_avx2; true false),
        slide: table_of_slides!(slide_avx2; 1 2 3 4),
    };

    fn mask16(count: usize) -> __mmask16 {
        if count >= 16 { !0 } else { (1 << count) - 1 }
    }

    macro_rules! mask8 {
        ($count:expr) => {
            _mm256_cmpgt_epi32(_mm256_set1_epi32($count.min(8) as i32), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7))
        };
    }
    macro_rules! load16 {
        ($from:expr) => {
            _mm512_loadu_ps($from)
        };
    }
    macro_rules! some_load16 {
        ($from:expr, $count:expr) => {
            _mm512_maskz_loadu_ps(mask16($count), $from)
        };
    }
    macro_rules! madd16 {
        ($x:expr, $y:expr, $sum:expr) => {
            _mm512_fmadd_ps($x, $y, $sum)
        };
    }
    macro_rules! add16 {
        ($x:expr, $y:expr) => {
            _mm512_add_ps($x, $y)
        };
    }
    macro_rules! store16 {
        ($to:expr, $value:expr) => {
            _mm512_storeu_ps($to, $value)
        };
    }
    macro_rules! some_store16 {
        ($to:expr, $value:expr, $count:expr) => {
            _mm512_mask_storeu_ps($to, mask16($count), $value)
        };
    }
    macro_rules! load8 {
        ($from:expr) => {
            _mm256_loadu_ps($from)
        };
    }
    macro_rules! some_load8 {
        ($from:expr, $count:expr) => {
            _mm256_maskload_ps($from, mask8!($count))
        };
    }
    macro_rules! madd8 {
        ($x:expr, $y:expr, $sum:expr) => {
            _mm256_fmadd_ps($x, $y, $sum)
        };
    }
    macro_rules! add8 {
        ($x:expr, $y:expr) => {
            _mm256_add_ps($x, $y)
        };
    }
    macro_rules! store8 {
        ($to:expr, $value:expr) => {
            _mm256_storeu_ps($to, $value)
        };
    }
    macro_rules! some_store8 {
        ($to:expr, $value:expr, $count:expr) => {
            _mm256_maskstore_ps($to, mask8!($count), $value)
        };
    }

    chains!(
        #[target_feature(enable = "avx512f")]
        spread_avx512 collect_avx512 16 _mm512_setzero_ps(),
        load16 some_load16 madd16 add16 store16 some_store16
    );
    slides!(
        #[target_feature(enable = "avx512f")]
        slide_avx512 16 _mm512_setzero_ps(), load16 some_load16 madd16 store16 some_store16
    );
    chains!(
        #[target_feature(enable = "avx2,fma")]
        spread_avx2 collect_avx2 8 _mm256_setzero_ps(),
        load8 some_load8 madd8 add8 store8 some_store8
    );
    slides!(
        #[target_feature(enable = "avx2,fma")]
        slide_avx2 8 _mm256_setzero_ps(), load8 some_load8 madd8 store8 some_store8
    );
}
