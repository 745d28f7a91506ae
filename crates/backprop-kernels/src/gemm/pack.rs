//! Copies of strided operands into panels: `dst[step * width + row]`.

/// Rows of the widest panel.
pub(crate) const MAX_WIDTH: usize = 32;

/// Packs `rows.len()` rows whose terms lie `step` elements apart; row `r` starts at `rows[r]`.
///
/// `simd` selects the AVX2 transposition; the portable loop gives the same memory.
///
/// # Safety
/// Each row is valid for `k` terms, `dst` for `k * width` elements, `rows.len() <= width`; with `simd`, the processor has AVX2.
pub(crate) unsafe fn pack_rows(rows: &[*const f32], step: isize, k: usize, dst: *mut f32, width: usize, simd: bool) {
    let mut done = 0;
    #[cfg(target_arch = "x86_64")]
    if simd && step == 1 {
        // SAFETY: as the caller vouches.
        done = unsafe { transpose_avx2(rows, k, dst, width) };
    }
    let _ = simd;
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
/// `src` is valid for `rows` elements at each of `k` terms, `dst` for `k * width` elements, `rows <= width`.
pub(crate) unsafe fn pack_adjacent(src: *const f32, rows: usize, step: isize, k: usize, dst: *mut f32, width: usize) {
    for kk in 0..k {
        // SAFETY: within both by the caller's word.
        unsafe { copy_short(src.offset(kk as isize * step), dst.add(kk * width), rows) };
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

/// Packs rows of adjacent terms, eight terms at a time; returns the number of terms done.
///
/// # Safety
/// As [`pack_rows`] with a step of 1.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn transpose_avx2(rows: &[*const f32], k: usize, dst: *mut f32, width: usize) -> usize {
    use std::arch::x86_64::*;
    let n = rows.len();
    let mut kk = 0;
    while kk + 8 <= k {
        // The groups go from the last to the first: a group of fewer than eight rows is stored whole, and what it spills into
        // the next term is overwritten by that term's first group.
        let mut r = n.div_ceil(8) * 8;
        while r > 0 {
            r -= 8;
            let group = (n - r).min(8);
            let mut x = [_mm256_setzero_ps(); 8];
            for (x, row) in x.iter_mut().zip(&rows[r..r + group]) {
                // SAFETY: terms kk .. kk + 8 of a valid row.
                *x = unsafe { _mm256_loadu_ps(row.add(kk)) };
            }
            let y = transpose8(x);
            for (i, y) in y.into_iter().enumerate() {
                // SAFETY: a whole store that would end behind the panel is replaced by an exact one.
                unsafe {
                    let to = dst.add((kk + i) * width + r);
                    if (kk + i) * width + r + 8 <= k * width {
                        _mm256_storeu_ps(to, y);
                    } else {
                        let mut exact = [0f32; 8];
                        _mm256_storeu_ps(exact.as_mut_ptr(), y);
                        std::ptr::copy_nonoverlapping(exact.as_ptr(), to, group);
                    }
                }
            }
        }
        kk += 8;
    }
    kk
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
    for row in (0..rows).step_by(8) {
        let (src, dst) = (src.wrapping_add(row * ld), dst.wrapping_add(row));
        let mut done = 0;
        #[cfg(target_arch = "x86_64")]
        if simd && rows - row >= 8 {
            // SAFETY: as the caller vouches.
            done = unsafe { store_eight_rows(src, ld, cols, dst, step) };
        }
        let _ = simd;
        for c in done..cols {
            for r in 0..(rows - row).min(8) {
                // SAFETY: as the caller vouches.
                unsafe { *dst.add(c * step + r) = *src.add(r * ld + c) };
            }
        }
    }
}

/// [`store_transposed`] for eight rows, eight columns at a time; returns the number of columns done.
///
/// # Safety
/// As there.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn store_eight_rows(src: *const f32, ld: usize, cols: usize, dst: *mut f32, step: usize) -> usize {
    use std::arch::x86_64::*;
    let mut c = 0;
    while c + 8 <= cols {
        // SAFETY: eight rows of eight columns, within both by the caller's word.
        unsafe {
            let rows = std::array::from_fn(|r| _mm256_loadu_ps(src.add(r * ld + c)));
            for (i, col) in transpose8(rows).into_iter().enumerate() {
                _mm256_storeu_ps(dst.add((c + i) * step), col);
            }
        }
        c += 8;
    }
    c
}

/// Transposes an 8 × 8 block.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
#[inline]
fn transpose8(x: [std::arch::x86_64::__m256; 8]) -> [std::arch::x86_64::__m256; 8] {
    use std::arch::x86_64::*;
    let pair = |a, b| (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
    let ((a0, a1), (a2, a3)) = (pair(x[0], x[1]), pair(x[2], x[3]));
    let ((a4, a5), (a6, a7)) = (pair(x[4], x[5]), pair(x[6], x[7]));
    let quad = |a, b| (_mm256_shuffle_ps::<0x44>(a, b), _mm256_shuffle_ps::<0xEE>(a, b));
    let ((b0, b1), (b2, b3)) = (quad(a0, a2), quad(a1, a3));
    let ((b4, b5), (b6, b7)) = (quad(a4, a6), quad(a5, a7));
    let low = |a, b| _mm256_permute2f128_ps::<0x20>(a, b);
    let high = |a, b| _mm256_permute2f128_ps::<0x31>(a, b);
    [low(b0, b4), low(b1, b5), low(b2, b6), low(b3, b7), high(b0, b4), high(b1, b5), high(b2, b6), high(b3, b7)]
}
