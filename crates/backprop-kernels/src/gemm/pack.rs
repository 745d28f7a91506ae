//! Copies of strided operands into panels: `dst[step * width + row]`.

#[cfg(target_arch = "x86_64")]
use super::pack_x86;
use crate::{Isa, ahead::prefetch};

/// Rows of the widest panel.
pub(crate) const MAX_WIDTH: usize = 32;

/// Terms that are asked for before adjacent rows of them are packed: they lie apart, where the hardware does not see them coming.
pub(super) const AHEAD: isize = 16;

/// Packs `rows.len()` rows whose terms lie `step` elements apart; row `r` starts at `rows[r]`.
///
/// # Safety
/// Each row is valid for `k` terms, `dst` for `k * width` elements, `rows.len() <= width`; the processor has the instructions.
pub(crate) unsafe fn pack_rows(rows: &[*const f32], step: isize, k: usize, dst: *mut f32, width: usize, isa: Isa) {
    let mut done = 0;
    #[cfg(target_arch = "x86_64")]
    match isa {
        // SAFETY: as the caller vouches.
        Isa::Avx512 if step == 1 => return unsafe { pack_x86::transpose_avx512(rows, k, dst, width) },
        // SAFETY: as the caller vouches.
        Isa::Avx2 if step == 1 => done = unsafe { pack_x86::transpose_avx2(rows, k, dst, width) },
        _ => (),
    }
    let _ = isa;
    for kk in done..k {
        for (r, row) in rows.iter().enumerate() {
            // SAFETY: r < width and kk < k, within both by the caller's word.
            unsafe { *dst.add(kk * width + r) = *row.offset(kk as isize * step) };
        }
    }
    // SAFETY: as the caller vouches.
    unsafe { zero_rest(rows.len(), k, dst, width) };
}

/// Packs `rows` adjacent rows from `src`, whose terms lie `step` elements apart.
///
/// # Safety
/// `src` is valid for `rows` elements at each of `k` terms, `dst` for `k * width` elements, `rows <= width`; the processor has
/// the instructions.
pub(crate) unsafe fn pack_adjacent(src: *const f32, rows: usize, step: isize, k: usize, dst: *mut f32, width: usize, isa: Isa) {
    #[cfg(target_arch = "x86_64")]
    if isa == Isa::Avx512 {
        // SAFETY: as the caller vouches.
        return unsafe { pack_x86::copy_avx512(src, rows, step, k, dst, width) };
    }
    let _ = isa;
    for kk in 0..k {
        let from = src.wrapping_offset(kk as isize * step);
        prefetch(from.wrapping_offset(AHEAD * step));
        // SAFETY: within both by the caller's word.
        unsafe { copy_short(from, dst.add(kk * width), rows) };
    }
    // SAFETY: as the caller vouches.
    unsafe { zero_rest(rows, k, dst, width) };
}

/// Fills the rows of a panel beyond `rows` with zero.
///
/// # Safety
/// `dst` is valid for `k * width` elements.
pub(crate) unsafe fn zero_rest(rows: usize, k: usize, dst: *mut f32, width: usize) {
    if rows < width {
        for kk in 0..k {
            // SAFETY: within the panel.
            unsafe { std::ptr::write_bytes(dst.add(kk * width + rows), 0, width - rows) };
        }
    }
}

/// Copies at most [`MAX_WIDTH`] elements: a call of `memcpy` costs more than the copy.
///
/// # Safety
/// As `copy_nonoverlapping`.
#[inline(always)]
pub(crate) unsafe fn copy_short(src: *const f32, dst: *mut f32, len: usize) {
    type Eight = [f32; 8];
    type Four = [f32; 4];
    // SAFETY: every block lies within the first `len` elements; blocks may overlap each other, never the other operand.
    unsafe {
        if len >= 8 {
            let mut i = 0;
            while i + 8 <= len {
                dst.add(i).cast::<Eight>().write_unaligned(src.add(i).cast::<Eight>().read_unaligned());
                i += 8;
            }
            let i = len - 8;
            dst.add(i).cast::<Eight>().write_unaligned(src.add(i).cast::<Eight>().read_unaligned());
        } else if len >= 4 {
            let last = src.add(len - 4).cast::<Four>().read_unaligned();
            dst.cast::<Four>().write_unaligned(src.cast::<Four>().read_unaligned());
            dst.add(len - 4).cast::<Four>().write_unaligned(last);
        } else {
            for i in 0..len {
                *dst.add(i) = *src.add(i);
            }
        }
    }
}

/// Stores `rows` × `cols` elements whose rows lie `ld` apart transposed: element (r, c) goes to `dst[c * step + r]`.
///
/// # Safety
/// Both are valid for the rectangle; with `simd`, the processor has AVX2.
pub(crate) unsafe fn store_transposed(
    src: *const f32,
    ld: usize,
    rows: usize,
    cols: usize,
    dst: *mut f32,
    step: usize,
    simd: bool,
) {
    // Sixteen rows at a time, so that whole cache lines are written.
    for row in (0..rows).step_by(16) {
        let mut done = 0;
        #[cfg(target_arch = "x86_64")]
        if simd && rows - row >= 16 {
            // SAFETY: as the caller vouches.
            done = unsafe { pack_x86::store_sixteen_rows(src.add(row * ld), ld, cols, dst.add(row), step) };
        }
        let _ = simd;
        for c in done..cols {
            for r in row..rows.min(row + 16) {
                // SAFETY: as the caller vouches.
                unsafe { *dst.add(c * step + r) = *src.add(r * ld + c) };
            }
        }
    }
}
