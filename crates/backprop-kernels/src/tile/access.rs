//! Moving a box of elements between strided memory and a contiguous tile.

use super::program::MAX_RANK;
use crate::DType;

/// Whether a box walked with these strides is one contiguous run.
#[inline]
pub(crate) fn is_contiguous(shape: &[usize], strides: &[isize]) -> bool {
    let mut expected = 1;
    for (&size, &stride) in shape.iter().zip(strides).rev() {
        if size != 1 && stride != expected {
            return false;
        }
        expected *= size as isize;
    }
    true
}

/// Offset in elements of the box's first element.
#[inline]
pub(crate) fn offset_at(origin: &[usize], strides: &[isize]) -> isize {
    origin.iter().zip(strides).map(|(&i, &s)| i as isize * s).sum()
}

/// A box without its dimensions of size 1 and with adjacent dimensions merged where the strides allow it.
pub(crate) struct Walk {
    rank: usize,
    shape: [usize; MAX_RANK],
    strides: [isize; MAX_RANK],
}

impl Walk {
    pub(crate) fn new(shape: &[usize], strides: &[isize]) -> Walk {
        let mut walk = Walk { rank: 0, shape: [1; MAX_RANK], strides: [0; MAX_RANK] };
        for (&size, &stride) in shape.iter().zip(strides) {
            if size == 1 {
                continue;
            }
            if walk.rank > 0 && walk.strides[walk.rank - 1] == stride.wrapping_mul(size as isize) {
                walk.shape[walk.rank - 1] *= size;
                walk.strides[walk.rank - 1] = stride;
            } else {
                walk.shape[walk.rank] = size;
                walk.strides[walk.rank] = stride;
                walk.rank += 1;
            }
        }
        walk
    }

    /// Length and stride of the innermost dimension.
    #[inline]
    pub(super) fn inner(&self) -> (usize, isize) {
        if self.rank == 0 { (1, 0) } else { (self.shape[self.rank - 1], self.strides[self.rank - 1]) }
    }

    /// Calls `row(offset)` for the start of every innermost row, in row-major order.
    #[inline(always)]
    pub(super) fn rows(&self, mut row: impl FnMut(isize)) {
        let outer = self.rank.saturating_sub(1);
        let mut index = [0usize; MAX_RANK];
        let mut offset = 0;
        loop {
            row(offset);
            let mut d = outer;
            loop {
                if d == 0 {
                    return;
                }
                d -= 1;
                index[d] += 1;
                offset += self.strides[d];
                if index[d] < self.shape[d] {
                    break;
                }
                offset -= self.strides[d] * self.shape[d] as isize;
                index[d] = 0;
            }
        }
    }
}

/// Rows shorter than this are copied element by element: a call of `memcpy` costs more.
const SHORT: usize = 16;

/// Calls `row(offset, length, stride)` for every innermost row of a box, in row-major order.
#[inline(always)]
fn rows(shape: &[usize], strides: &[isize], mut row: impl FnMut(isize, usize, isize)) {
    if let Some(([count, length], [apart, stride])) = plane(shape, strides) {
        (0..count as isize).for_each(|i| row(i * apart, length, stride));
        return;
    }
    let walk = Walk::new(shape, strides);
    let (length, stride) = walk.inner();
    walk.rows(|offset| row(offset, length, stride));
}

/// Extents and strides of a box of at most two dimensions, those of size 1 left out and adjacent ones merged: most boxes are that
/// simple.
#[inline(always)]
fn plane(shape: &[usize], strides: &[isize]) -> Option<([usize; 2], [isize; 2])> {
    let (mut extents, mut steps, mut used) = ([1usize; 2], [0isize; 2], 0);
    for (&size, &stride) in shape.iter().zip(strides).rev().filter(|d| *d.0 != 1) {
        if used > 0 && stride == steps[used - 1].wrapping_mul(extents[used - 1] as isize) {
            extents[used - 1] *= size;
        } else if used < 2 {
            (extents[used], steps[used]) = (size, stride);
            used += 1;
        } else {
            return None;
        }
    }
    Some(([extents[1], extents[0]], [steps[1], steps[0]]))
}

/// # Safety
/// Every element of the box around `src` is readable, and `dst` holds as many.
unsafe fn gather_as<T: Copy>(dst: *mut T, src: *const T, shape: &[usize], strides: &[isize]) {
    if let Some(([count, length], [0, 1])) = plane(shape, strides)
        && count > 1
    {
        // SAFETY: `dst` holds `count` rows; a row of the box is readable.
        return unsafe { repeat_row(dst, src, count, length) };
    }
    let mut d = dst;
    rows(shape, strides, |offset, n, stride| {
        // SAFETY: `offset` and the inner steps stay in the box; `d` advances by the row's length each time.
        unsafe {
            let s = src.offset(offset);
            match stride {
                0 => std::slice::from_raw_parts_mut(d, n).fill(*s),
                1 if n >= SHORT => std::ptr::copy_nonoverlapping(s, d, n),
                _ => {
                    for i in 0..n {
                        *d.add(i) = *s.offset(i as isize * stride);
                    }
                }
            }
            d = d.add(n);
        }
    });
}

/// Copies a row `count` times: once from where it is, then from the copies.
///
/// # Safety
/// `src` has `length` readable elements, `dst` holds `count` times as many.
unsafe fn repeat_row<T: Copy>(dst: *mut T, src: *const T, count: usize, length: usize) {
    let (all, mut done) = (count * length, length);
    // SAFETY: as the caller vouches; the copies end where the next begin.
    unsafe {
        std::ptr::copy_nonoverlapping(src, dst, length);
        while done < all {
            let more = done.min(all - done);
            std::ptr::copy_nonoverlapping(dst, dst.add(done), more);
            done += more;
        }
    }
}

/// # Safety
/// Every element of the box around `dst` is writable, and `src` holds as many.
unsafe fn scatter_as<T: Copy>(dst: *mut T, src: *const T, shape: &[usize], strides: &[isize]) {
    let mut s = src;
    rows(shape, strides, |offset, n, stride| {
        // SAFETY: `offset` and the inner steps stay in the box; `s` advances by the row's length each time.
        unsafe {
            let d = dst.offset(offset);
            if stride == 1 && n >= SHORT {
                std::ptr::copy_nonoverlapping(s, d, n);
            } else {
                for i in 0..n {
                    *d.offset(i as isize * stride) = *s.add(i);
                }
            }
            s = s.add(n);
        }
    });
}

/// Copies a strided box into a contiguous tile; `size` is the element size in bytes.
///
/// # Safety
/// Every element of the box around `src` is readable and aligned, `dst` holds as many elements and is no part of the box.
pub(crate) unsafe fn gather(size: usize, dst: *mut u8, src: *const u8, shape: &[usize], strides: &[isize]) {
    // SAFETY: the caller's promise, element type by size.
    unsafe {
        match size {
            1 => gather_as(dst, src, shape, strides),
            2 => gather_as(dst.cast::<u16>(), src.cast(), shape, strides),
            4 => gather_as(dst.cast::<u32>(), src.cast(), shape, strides),
            _ => gather_as(dst.cast::<u64>(), src.cast(), shape, strides),
        }
    }
}

/// Copies a contiguous tile into a strided box; `size` is the element size in bytes.
///
/// # Safety
/// Every element of the box around `dst` is writable and aligned, `src` holds as many elements and is no part of the box.
pub(crate) unsafe fn scatter(size: usize, dst: *mut u8, src: *const u8, shape: &[usize], strides: &[isize]) {
    // SAFETY: the caller's promise, element type by size.
    unsafe {
        match size {
            1 => scatter_as(dst, src, shape, strides),
            2 => scatter_as(dst.cast::<u16>(), src.cast(), shape, strides),
            4 => scatter_as(dst.cast::<u32>(), src.cast(), shape, strides),
            _ => scatter_as(dst.cast::<u64>(), src.cast(), shape, strides),
        }
    }
}

/// # Safety
/// `dst` holds the box's elements.
#[inline(always)]
unsafe fn affine_as<T>(dst: *mut u8, base: i64, walk: &Walk, convert: impl Fn(i64) -> T) {
    let (n, stride) = walk.inner();
    let mut d = dst.cast::<T>();
    walk.rows(|offset| {
        let mut value = base.wrapping_add(offset as i64);
        for i in 0..n {
            // SAFETY: one element of the `n` of this row.
            unsafe { *d.add(i) = convert(value) };
            value = value.wrapping_add(stride as i64);
        }
        // SAFETY: the rows follow each other in `dst`.
        d = unsafe { d.add(n) };
    });
}

/// Writes `base + Σ index·stride` over a box, converted to an index type.
///
/// # Safety
/// `dst` holds the box's elements of type `dtype`, aligned.
pub(crate) unsafe fn affine(dtype: DType, dst: *mut u8, base: i64, walk: &Walk) {
    // SAFETY: the caller's promise, element by type.
    unsafe {
        match dtype {
            DType::I32 | DType::U32 => affine_as(dst, base, walk, |v| v as u32),
            DType::F32 => affine_as(dst, base, walk, |v| v as f32),
            DType::F64 => affine_as(dst, base, walk, |v| v as f64),
            _ => affine_as(dst, base, walk, |v| v as u64),
        }
    }
}

/// Fills `n` elements with the low bytes of `bits`.
///
/// # Safety
/// `dst` holds `n` elements of `size` bytes, aligned.
pub(crate) unsafe fn splat(size: usize, dst: *mut u8, bits: u64, n: usize) {
    // SAFETY: the caller's promise, element type by size.
    unsafe {
        match size {
            1 => std::slice::from_raw_parts_mut(dst, n).fill(bits as u8),
            2 => std::slice::from_raw_parts_mut(dst.cast::<u16>(), n).fill(bits as u16),
            4 => std::slice::from_raw_parts_mut(dst.cast::<u32>(), n).fill(bits as u32),
            _ => std::slice::from_raw_parts_mut(dst.cast::<u64>(), n).fill(bits),
        }
    }
}
