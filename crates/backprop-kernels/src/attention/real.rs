//! The element types of attention, and products of blocks in them.

use std::ops::{Add, Div, Mul, Neg, Sub};

use super::PANEL;
use crate::ahead::{LINE, prefetch};
use crate::gemm::KC;
use crate::gemm::micro::{Lane, Micro, Tile};
use crate::gemm::pack::pack_rows;
use crate::{Isa, math};

/// C = A·B or C + A·B; strides in elements.
#[derive(Clone, Copy)]
pub(super) struct Product<T> {
    pub rows: usize,
    pub cols: usize,
    pub terms: usize,
    pub a: *const T,
    pub a_row: isize,
    pub a_term: isize,
    pub b: Columns<T>,
    /// Columns are adjacent.
    pub c: *mut T,
    pub c_row: isize,
    pub add: bool,
}

/// A right operand: columns are adjacent within a panel of [`PANEL`].
#[derive(Clone, Copy)]
pub(super) struct Columns<T> {
    pub at: *const T,
    pub term: usize,
    /// From one panel to the next.
    pub panel: usize,
}

impl<T> Columns<T> {
    /// Rows of adjacent columns.
    pub fn rows(at: *mut T, row: usize) -> Columns<T> {
        Columns { at, term: row, panel: PANEL }
    }

    /// What [`transpose`] made of rows with so many terms.
    pub fn transposed(at: *mut T, terms: usize) -> Columns<T> {
        Columns { at, term: PANEL, panel: PANEL * terms }
    }

    fn column(&self, term: usize, col: usize) -> *const T {
        self.at.wrapping_add(term * self.term + col / PANEL * self.panel + col % PANEL)
    }
}

/// `f32`, or `f64` for checking.
pub(super) trait Real:
    Copy
    + PartialOrd
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + Send
    + Sync
    + 'static
{
    const ZERO: Self;
    const ONE: Self;
    const NEG_INFINITY: Self;
    fn of(x: f64) -> Self;
    /// `self · b + c`.
    fn madd<const FMA: bool>(self, b: Self, c: Self) -> Self;
    fn exp<const FMA: bool>(self) -> Self;
    fn log<const FMA: bool>(self) -> Self;

    /// Each element is chains of [`KC`] terms, added in order.
    ///
    /// # Safety
    /// The operands are valid for the extents, B for whole vectors of columns where its panels are; C overlaps neither; the processor
    /// has the instructions.
    unsafe fn multiply(p: &Product<Self>, isa: Isa);

    /// At most [`PANEL`] rows of `terms` terms as one panel, zero beyond the last.
    ///
    /// # Safety
    /// Each row is valid for its terms, `to` for a whole panel; the processor has the instructions.
    unsafe fn panel(rows: &[*const Self], step: isize, terms: usize, to: *mut Self, isa: Isa);
}

impl Real for f32 {
    const ZERO: f32 = 0.0;
    const ONE: f32 = 1.0;
    const NEG_INFINITY: f32 = f32::NEG_INFINITY;

    fn of(x: f64) -> f32 {
        x as f32
    }

    #[inline(always)]
    fn madd<const FMA: bool>(self, b: f32, c: f32) -> f32 {
        math::madd::<FMA>(self, b, c)
    }

    #[inline(always)]
    fn exp<const FMA: bool>(self) -> f32 {
        math::exp::<FMA>(self)
    }

    #[inline(always)]
    fn log<const FMA: bool>(self) -> f32 {
        math::log::<FMA>(self)
    }

    unsafe fn multiply(p: &Product<f32>, isa: Isa) {
        let micro = Micro::of(isa);
        let panels = p.rows.div_ceil(micro.rows).max(1);
        let (base, longer) = (p.rows / panels, p.rows % panels);
        for term in (0..p.terms.max(1)).step_by(KC) {
            let k = (p.terms - term).min(KC);
            for col in (0..p.cols).step_by(micro.cols()) {
                let cols = (p.cols - col).min(micro.cols());
                let b = p.b.column(term, col);
                let mut row = 0;
                for panel in 0..panels {
                    let rows = base + usize::from(panel < longer);
                    let a = p.a.wrapping_offset(row as isize * p.a_row + term as isize * p.a_term);
                    let c = p.c.wrapping_offset(row as isize * p.c_row).wrapping_add(col);
                    let add = p.add || term > 0;
                    let (a_row, b_step) = (p.a_row, p.b.term as isize);
                    let tile = Tile { k, a, a_row, a_step: p.a_term, b, b_step, cols, c, c_row: p.c_row, add, ahead: Lane::NONE };
                    // SAFETY: the tile lies within the operands.
                    unsafe { micro.tile(p.a_row == 1, cols.div_ceil(micro.lanes), rows)(&tile) };
                    row += rows;
                }
            }
        }
    }

    unsafe fn panel(rows: &[*const f32], step: isize, terms: usize, to: *mut f32, isa: Isa) {
        // SAFETY: as the caller vouches.
        unsafe { pack_rows(rows, step, terms, to, PANEL, isa) }
    }
}

impl Real for f64 {
    const ZERO: f64 = 0.0;
    const ONE: f64 = 1.0;
    const NEG_INFINITY: f64 = f64::NEG_INFINITY;

    fn of(x: f64) -> f64 {
        x
    }

    #[inline(always)]
    fn madd<const FMA: bool>(self, b: f64, c: f64) -> f64 {
        math::madd64::<FMA>(self, b, c)
    }

    #[inline(always)]
    fn exp<const FMA: bool>(self) -> f64 {
        f64::exp(self)
    }

    #[inline(always)]
    fn log<const FMA: bool>(self) -> f64 {
        f64::ln(self)
    }

    unsafe fn multiply(p: &Product<f64>, _isa: Isa) {
        for row in 0..p.rows {
            let (a, c) = (p.a.wrapping_offset(row as isize * p.a_row), p.c.wrapping_offset(row as isize * p.c_row));
            for col in 0..p.cols {
                let sum = |first: usize| {
                    let terms = first..p.terms.min(first + KC);
                    // SAFETY: the terms lie within the operands.
                    terms.fold(0.0, |sum, t| sum + unsafe { *a.offset(t as isize * p.a_term) * *p.b.column(t, col) })
                };
                let sum: f64 = (0..p.terms).step_by(KC).map(sum).sum();
                // SAFETY: the element lies within C.
                unsafe { *c.add(col) = if p.add { *c.add(col) + sum } else { sum } };
            }
        }
    }

    unsafe fn panel(rows: &[*const f64], step: isize, terms: usize, to: *mut f64, _isa: Isa) {
        for term in 0..terms {
            for col in 0..PANEL {
                // SAFETY: within the row and the panel by the caller's word.
                unsafe {
                    *to.add(term * PANEL + col) = rows.get(col).map_or(0.0, |row| *row.offset(term as isize * step));
                }
            }
        }
    }
}

/// Rows that are asked for before they are gathered: they lie apart, where the hardware does not see them coming.
const AHEAD: usize = 16;

/// Asks for rows of adjacent columns.
pub(super) fn fetch_rows<T>(from: *const T, [row, col]: [isize; 2], rows: usize, cols: usize) {
    for r in (0..rows).filter(|_| col == 1) {
        let at = from.wrapping_offset(r as isize * row).cast::<u8>();
        (0..cols * size_of::<T>()).step_by(LINE).for_each(|byte| prefetch(at.wrapping_add(byte)));
    }
}

/// Rows as panels of transposed columns, zero beyond the last: a right operand by [`Columns::transposed`].
///
/// # Safety
/// `from` is valid for the rows and terms, `to` for whole panels of them; the processor has the instructions.
pub(super) unsafe fn transpose<T: Real>(from: *const T, [row, col]: [isize; 2], rows: usize, terms: usize, to: *mut T, isa: Isa) {
    let mut starts = [from; PANEL];
    fetch_rows(from, [row, col], rows.min(PANEL), terms);
    for first in (0..rows).step_by(PANEL) {
        let count = (rows - first).min(PANEL);
        let next = first + count;
        fetch_rows(from.wrapping_offset(next as isize * row), [row, col], (rows - next).min(PANEL), terms);
        for (r, start) in starts[..count].iter_mut().enumerate() {
            *start = from.wrapping_offset((first + r) as isize * row);
        }
        // SAFETY: as the caller vouches.
        unsafe { T::panel(&starts[..count], col, terms, to.wrapping_add(first * terms), isa) };
    }
}

/// Rows of adjacent columns, `to_row` apart.
///
/// # Safety
/// `from` is valid for the rows and columns, `to` for the rows.
pub(super) unsafe fn gather<T: Real>(
    from: *const T,
    [row, col]: [isize; 2],
    rows: usize,
    cols: usize,
    to: *mut T,
    to_row: usize,
) {
    fetch_rows(from, [row, col], rows.min(AHEAD), cols);
    for r in 0..rows {
        fetch_rows(from.wrapping_offset((r + AHEAD) as isize * row), [row, col], usize::from(r + AHEAD < rows), cols);
        let (from, to) = (from.wrapping_offset(r as isize * row), to.wrapping_add(r * to_row));
        // SAFETY: as the caller vouches.
        unsafe {
            if col == 1 {
                std::ptr::copy_nonoverlapping(from, to, cols);
            } else {
                (0..cols).for_each(|c| *to.add(c) = *from.offset(c as isize * col));
            }
        }
    }
}
