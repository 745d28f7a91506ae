//! The innermost loops of depthwise convolutions along rows of three taps: what several positions read is loaded once.

use super::chains::{Chains, Tap, bands};

/// Sums over rows of taps for adjacent positions.
pub(super) struct Slide<'a> {
    /// Three for each row of the window.
    pub taps: &'a [Tap],
    /// The input of the first tap at the first position.
    pub x: *const f32,
    /// Distance between the inputs of adjacent taps.
    pub x_step: isize,
    pub w: *const f32,
    pub to: *mut f32,
    /// Distance between positions in the output.
    pub to_step: isize,
    /// Groups.
    pub lanes: usize,
    /// Whether the first input of a row and the last one are no padding.
    pub inside: [bool; 2],
    /// From the output to that of a later line, which is fetched meanwhile; 0 for none.
    pub ahead: isize,
}

pub(super) type SlideFn = unsafe fn(&Slide<'_>);

impl Chains {
    /// Runs for `positions` positions that are one or two taps apart: whole vectors first, then the rest of the groups. `t` describes all
    /// positions of a line.
    ///
    /// # Safety
    /// The addresses are valid for their positions, taps and groups, but for inputs that are padding; the processor has the instructions.
    pub unsafe fn slide(&self, mut t: Slide<'_>, positions: usize, distance: usize) {
        let whole = t.lanes / self.vector * self.vector;
        let parts = [(0, whole), (whole, t.lanes - whole)];
        let (x, w, to, [low, high]) = (t.x, t.w, t.to, t.inside);
        for (part, (first, lanes)) in parts.into_iter().enumerate().filter(|(_, part)| part.1 > 0) {
            t.lanes = lanes;
            t.w = w.wrapping_add(first);
            let slide = self.slide[distance - 1][part];
            for (at, count) in bands(positions, slide.len()) {
                t.inside = [low || at > 0, high || at + count < positions];
                t.x = x.wrapping_offset((at * distance) as isize * t.x_step).wrapping_add(first);
                t.to = to.wrapping_offset(at as isize * t.to_step).wrapping_add(first);
                // SAFETY: as the caller vouches.
                unsafe { slide[count - 1](&t) };
            }
        }
    }
}

/// Taps of a row.
pub(super) const ROW: usize = 3;
/// Inputs of a row that the most positions read, two taps apart.
pub(super) const INPUTS: usize = 2 * (8 - 1) + ROW;

/// Declares the loop for one vector type, for P positions that are D taps apart. The input is loaded before the multiply-adds, of
/// which P follow each other that do not wait for one another.
macro_rules! slides {
    (
        $(#[$features:meta])? $slide:ident $width:literal $zero:expr,
        $load:ident $some_load:ident $madd:ident $store:ident $some_store:ident
    ) => {
        /// # Safety
        /// The addresses are valid for P positions, the taps and the groups; the processor has the instructions.
        $(#[$features])?
        unsafe fn $slide<const P: usize, const D: usize, const WHOLE: bool>(t: &Slide<'_>) {
            for lane in (0..t.lanes).step_by($width) {
                let count = t.lanes - lane;
                let to = t.to.wrapping_add(lane);
                if t.ahead != 0 {
                    (0..P as isize).for_each(|p| prefetch_for_writing(to.wrapping_offset(p * t.to_step + t.ahead)));
                }
                let mut acc = [$zero; P];
                for row in t.taps.chunks_exact(ROW) {
                    let from = t.x.wrapping_offset(row[0].x).wrapping_add(lane);
                    let (mut x, mut w) = ([$zero; INPUTS], [$zero; ROW]);
                    let last = D * (P - 1) + ROW - 1;
                    for (i, x) in x.iter_mut().enumerate().take(last + 1) {
                        if (i > 0 || t.inside[0]) && (i < last || t.inside[1]) {
                            let from = from.wrapping_offset(i as isize * t.x_step);
                            // SAFETY: as the caller vouches.
                            *x = unsafe { if WHOLE { $load!(from) } else { $some_load!(from, count) } };
                        }
                    }
                    for (w, tap) in w.iter_mut().zip(row) {
                        let from = t.w.wrapping_offset(tap.w).wrapping_add(lane);
                        // SAFETY: as the caller vouches.
                        *w = unsafe { if WHOLE { $load!(from) } else { $some_load!(from, count) } };
                    }
                    for (s, w) in w.into_iter().enumerate() {
                        for (p, acc) in acc.iter_mut().enumerate() {
                            let i = p * D + s;
                            if (i > 0 || t.inside[0]) && (i < last || t.inside[1]) {
                                *acc = $madd!(x[i], w, *acc);
                            }
                        }
                    }
                }
                for (p, acc) in acc.into_iter().enumerate() {
                    let to = to.wrapping_offset(p as isize * t.to_step);
                    // SAFETY: as the caller vouches.
                    unsafe { if WHOLE { $store!(to, acc) } else { $some_store!(to, acc, count) } };
                }
            }
        }
    };
}
pub(super) use slides;

/// The table of one `name::<positions, distance, whole>` function.
macro_rules! table_of_slides {
    ($name:ident; $($n:literal)*) => {
        [
            [&[$($name::<$n, 1, true>),*], &[$($name::<$n, 1, false>),*]],
            [&[$($name::<$n, 2, true>),*], &[$($name::<$n, 2, false>),*]],
        ]
    };
}
pub(super) use table_of_slides;
