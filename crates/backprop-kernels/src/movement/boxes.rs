//! A strided copy cut into boxes of about the same size.

use std::ops::Range;

use crate::Isa;
use crate::gemm::pack::store_transposed;

/// Elements of a box that is walked along both operands' rows.
const STRAIGHT: usize = 32_768;
/// Side of a transposed box: its rows and columns stay in the second-level cache.
const SIDE: usize = 128;
/// Side of the squares a transposition moves at once: a cache line of `f32`, so that each line is touched once even where the
/// rows fall into one set of the cache.
const SQUARE: usize = 16;
/// Shorter rows are copied element by element: a call of `memcpy` costs more.
const SHORT: usize = 16;

#[derive(Clone, Copy, Debug)]
struct Dim {
    size: usize,
    source: isize,
    target: isize,
    /// Extent of a box.
    part: usize,
    /// Number of boxes along the dimensions inside this one.
    inside: usize,
}

impl Dim {
    fn parts(&self) -> usize {
        self.size.div_ceil(self.part.max(1))
    }

    /// Where a box lies along this dimension, and its number in the dimensions inside.
    fn locate(&self, number: usize) -> (Range<usize>, usize) {
        let start = number / self.inside * self.part;
        (start..(start + self.part).min(self.size), number % self.inside)
    }
}

/// A copy of every element of a box from one strided place to another, in any order.
#[derive(Clone, Debug)]
pub(super) struct BoxCopy {
    dims: Vec<Dim>,
    /// The last two dimensions are walked in strips of the second last, along which the source is contiguous.
    transposed: bool,
    size: usize,
    boxes: usize,
}

impl BoxCopy {
    pub(super) fn new(shape: &[usize], source: &[isize], target: &[isize], size: usize) -> BoxCopy {
        let mut dims: Vec<Dim> = (0..shape.len())
            .filter(|&d| shape[d] != 1)
            .map(|d| Dim { size: shape[d], source: source[d], target: target[d], part: shape[d], inside: 1 })
            .collect();
        dims.sort_by_key(|dim| std::cmp::Reverse(dim.target.unsigned_abs()));
        let mut merged: Vec<Dim> = Vec::new();
        for dim in dims {
            match merged.last_mut() {
                Some(outer)
                    if outer.source == dim.source * dim.size as isize && outer.target == dim.target * dim.size as isize =>
                {
                    *outer = Dim { size: outer.size * dim.size, ..dim };
                }
                _ => merged.push(dim),
            }
        }
        let transposed = bring_source_rows_inside(&mut merged);
        choose_parts(&mut merged, transposed);
        let boxes = if shape.contains(&0) { 0 } else { merged.iter().map(Dim::parts).product() };
        BoxCopy { dims: merged, transposed, size, boxes }
    }

    pub(super) fn boxes(&self) -> usize {
        self.boxes
    }

    /// Bytes of the copy if it is one contiguous run.
    pub(super) fn contiguous(&self) -> Option<usize> {
        match self.dims[..] {
            [] => Some(self.size * self.boxes),
            [Dim { source: 1, target: 1, size, .. }] => Some(size * self.size),
            _ => None,
        }
    }

    /// Copies one box. The addresses are those of the whole copy's first element.
    ///
    /// # Safety
    /// Every source element is readable, every target element writable and none is part of the source.
    pub(super) unsafe fn run(&self, number: usize, source: *const u8, target: *mut u8) {
        // SAFETY: the caller's promise, element type by size.
        unsafe {
            match self.size {
                1 => copy::<u8>(&self.dims, self.transposed, number, source, target),
                2 => copy::<u16>(&self.dims, self.transposed, number, source.cast(), target.cast()),
                4 => copy::<u32>(&self.dims, self.transposed, number, source.cast(), target.cast()),
                _ => copy::<u64>(&self.dims, self.transposed, number, source.cast(), target.cast()),
            }
        }
    }
}

/// Moves the dimension along which the source is contiguous next to the innermost, where that is another one.
fn bring_source_rows_inside(dims: &mut Vec<Dim>) -> bool {
    let Some(row) = dims.last() else { return false };
    if dims.len() < 2 || row.source.unsigned_abs() <= 1 {
        return false;
    }
    let Some(at) = dims.iter().position(|dim| dim.source == 1) else { return false };
    let strip = dims.remove(at);
    dims.insert(dims.len() - 1, strip);
    true
}

fn choose_parts(dims: &mut [Dim], transposed: bool) {
    let mut room = STRAIGHT;
    let count = dims.len();
    for (d, dim) in dims.iter_mut().enumerate().rev() {
        let most = if transposed && d + 2 >= count { SIDE } else { room };
        dim.part = dim.size.min(most.min(room)).max(1);
        room = (room / dim.part).max(1);
    }
    let mut inside = 1;
    for dim in dims.iter_mut().rev() {
        dim.inside = inside;
        inside *= dim.parts().max(1);
    }
}

/// Copies box `number`, one dimension after the other from the outside in.
///
/// # Safety
/// As [`BoxCopy::run`]; the addresses are those of the first element of these dimensions.
unsafe fn copy<T: Copy>(dims: &[Dim], transposed: bool, number: usize, source: *const T, target: *mut T) {
    // SAFETY: every offset stays in the box.
    unsafe {
        match dims {
            [] => *target = *source,
            [row] => {
                let (range, _) = row.locate(number);
                let start = range.start as isize;
                copy_row(source.offset(start * row.source), target.offset(start * row.target), range.len(), row);
            }
            [strip, row] if transposed => {
                let (strips, number) = strip.locate(number);
                let (rows, _) = row.locate(number);
                let (i, j) = (strips.start as isize, rows.start as isize);
                let source = source.offset(i * strip.source + j * row.source);
                let target = target.offset(i * strip.target + j * row.target);
                transpose(source, target, strips.len(), rows.len(), strip, row);
            }
            [dim, inner @ ..] => {
                let (range, number) = dim.locate(number);
                for i in range {
                    let (s, t) = (i as isize * dim.source, i as isize * dim.target);
                    copy(inner, transposed, number, source.offset(s), target.offset(t));
                }
            }
        }
    }
}

/// # Safety
/// `n` elements at the dimension's strides are readable and writable.
#[inline]
unsafe fn copy_row<T: Copy>(source: *const T, target: *mut T, n: usize, dim: &Dim) {
    // SAFETY: promised by the caller.
    unsafe {
        match (dim.source, dim.target) {
            (1, 1) if n >= SHORT => std::ptr::copy_nonoverlapping(source, target, n),
            (0, 1) => std::slice::from_raw_parts_mut(target, n).fill(*source),
            (s, t) => {
                for i in 0..n as isize {
                    *target.offset(i * t) = *source.offset(i * s);
                }
            }
        }
    }
}

/// Copies `width` × `height` elements, `width` along the source's contiguous dimension, square by square.
///
/// # Safety
/// The elements at both dimensions' strides are readable and writable.
unsafe fn transpose<T: Copy>(source: *const T, target: *mut T, width: usize, height: usize, strip: &Dim, row: &Dim) {
    if let (4, 1, Ok(ld), Ok(step)) = (size_of::<T>(), row.target, row.source.try_into(), strip.target.try_into()) {
        let simd = Isa::detect() != Isa::Portable;
        // SAFETY: promised by the caller; elements of four bytes are moved as they are, and the processor was asked.
        return unsafe { store_transposed(source.cast(), ld, height, width, target.cast(), step, simd) };
    }
    for i in (0..width).step_by(SQUARE) {
        for j in (0..height).step_by(SQUARE) {
            let (across, along) = (SQUARE.min(width - i), SQUARE.min(height - j));
            // SAFETY: promised by the caller; the square stays in the rectangle.
            unsafe {
                let source = source.offset(i as isize + j as isize * row.source);
                let target = target.offset(i as isize * strip.target + j as isize * row.target);
                if (across, along, row.target) == (SQUARE, SQUARE, 1) {
                    turn_square(source, row.source, target, strip.target);
                    continue;
                }
                for l in 0..along as isize {
                    for k in 0..across as isize {
                        *target.offset(k * strip.target + l * row.target) = *source.offset(k + l * row.source);
                    }
                }
            }
        }
    }
}

/// Transposes one square of contiguous rows at those strides.
///
/// # Safety
/// Every row is readable in the source and writable in the target.
#[inline]
unsafe fn turn_square<T: Copy>(source: *const T, from: isize, target: *mut T, to: isize) {
    // SAFETY: promised by the caller.
    unsafe {
        let rows: [[T; SQUARE]; SQUARE] =
            std::array::from_fn(|l| source.offset(l as isize * from).cast::<[T; SQUARE]>().read_unaligned());
        #[allow(clippy::needless_range_loop, reason = "`k` is a column of every row")]
        for k in 0..SQUARE {
            let column: [T; SQUARE] = std::array::from_fn(|l| rows[l][k]);
            target.offset(k as isize * to).cast::<[T; SQUARE]>().write_unaligned(column);
        }
    }
}
