//! Transpositions in registers, for AVX2 and AVX-512.

use std::arch::x86_64::*;

use super::pack::AHEAD;
use crate::ahead::prefetch;

/// Lanes below `count`.
#[inline]
fn mask16(count: usize) -> __mmask16 {
    if count >= 16 { !0 } else { (1 << count) - 1 }
}

/// Packs rows of adjacent terms, 16 by 16, zero beyond the last row.
///
/// # Safety
/// As [`pack_rows`](super::pack::pack_rows) with a step of 1; the processor has AVX-512 F.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn transpose_avx512(rows: &[*const f32], k: usize, dst: *mut f32, width: usize) {
    for r in (0..width).step_by(16) {
        let count = rows.len().saturating_sub(r).min(16);
        let mut from = [std::ptr::null(); 16];
        from[..count].copy_from_slice(&rows[rows.len().min(r)..][..count]);
        let to_mask = mask16(width - r);
        for kk in (0..k).step_by(16) {
            let left = k - kk;
            let from_mask = mask16(left);
            let mut x = [_mm512_setzero_ps(); 16];
            for (i, x) in x.iter_mut().enumerate() {
                if i < count {
                    // SAFETY: the mask covers exactly the terms of a row that exists.
                    *x = unsafe { _mm512_maskz_loadu_ps(from_mask, from[i].wrapping_add(kk)) };
                }
            }
            for (i, y) in transpose16(x).into_iter().enumerate() {
                if i < left {
                    // SAFETY: the mask covers exactly the panel's columns at term kk + i.
                    unsafe { _mm512_mask_storeu_ps(dst.wrapping_add((kk + i) * width + r), to_mask, y) };
                }
            }
        }
    }
}

/// Packs adjacent rows, zero beyond the last.
///
/// # Safety
/// As [`pack_adjacent`](super::pack::pack_adjacent); the processor has AVX-512 F.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn copy_avx512(src: *const f32, rows: usize, step: isize, k: usize, dst: *mut f32, width: usize) {
    for r in (0..width).step_by(16) {
        let (from_mask, to_mask) = (mask16(rows.saturating_sub(r)), mask16(width - r));
        let (mut from, mut to) = (src.wrapping_add(r), dst.wrapping_add(r));
        for _ in 0..k {
            // SAFETY: the masks cover exactly the rows that exist and the panel's columns.
            unsafe { _mm512_mask_storeu_ps(to, to_mask, _mm512_maskz_loadu_ps(from_mask, from)) };
            prefetch(from.wrapping_offset(AHEAD * step));
            (from, to) = (from.wrapping_offset(step), to.wrapping_add(width));
        }
    }
}

/// Transposes a 16 × 16 block.
#[target_feature(enable = "avx512f")]
#[inline]
fn transpose16(x: [__m512; 16]) -> [__m512; 16] {
    let mut y = [_mm512_setzero_ps(); 16];
    // Within each lane of four columns: `y[4 * i + c]` gets column c of each lane, of rows 4 i .. 4 i + 4.
    for i in (0..16).step_by(4) {
        let (a, b) = (_mm512_unpacklo_ps(x[i], x[i + 1]), _mm512_unpackhi_ps(x[i], x[i + 1]));
        let (c, d) = (_mm512_unpacklo_ps(x[i + 2], x[i + 3]), _mm512_unpackhi_ps(x[i + 2], x[i + 3]));
        y[i] = _mm512_shuffle_ps::<0x44>(a, c);
        y[i + 1] = _mm512_shuffle_ps::<0xEE>(a, c);
        y[i + 2] = _mm512_shuffle_ps::<0x44>(b, d);
        y[i + 3] = _mm512_shuffle_ps::<0xEE>(b, d);
    }
    let x = y;
    for c in 0..4 {
        let (a, b) = (_mm512_shuffle_f32x4::<0x44>(x[c], x[4 + c]), _mm512_shuffle_f32x4::<0xEE>(x[c], x[4 + c]));
        let (d, e) = (_mm512_shuffle_f32x4::<0x44>(x[8 + c], x[12 + c]), _mm512_shuffle_f32x4::<0xEE>(x[8 + c], x[12 + c]));
        y[c] = _mm512_shuffle_f32x4::<0x88>(a, d);
        y[4 + c] = _mm512_shuffle_f32x4::<0xDD>(a, d);
        y[8 + c] = _mm512_shuffle_f32x4::<0x88>(b, e);
        y[12 + c] = _mm512_shuffle_f32x4::<0xDD>(b, e);
    }
    y
}

/// Packs rows of adjacent terms, eight terms at a time; returns the number of terms done.
///
/// # Safety
/// As [`pack_rows`](super::pack::pack_rows) with a step of 1.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn transpose_avx2(rows: &[*const f32], k: usize, dst: *mut f32, width: usize) -> usize {
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

/// [`store_transposed`](super::pack::store_transposed) for sixteen rows, eight columns at a time; returns the number of columns
/// done.
///
/// # Safety
/// As there.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn store_sixteen_rows(src: *const f32, ld: usize, cols: usize, dst: *mut f32, step: usize) -> usize {
    let done = cols / 8 * 8;
    for c in (0..done).step_by(8) {
        let mut halves = [[_mm256_setzero_ps(); 8]; 2];
        for (r, x) in halves.as_flattened_mut().iter_mut().enumerate() {
            // SAFETY: eight columns of row r.
            *x = unsafe { _mm256_loadu_ps(src.add(r * ld + c)) };
        }
        let [low, high] = halves.map(|x| transpose8(x));
        for (i, (low, high)) in low.into_iter().zip(high).enumerate() {
            let to = dst.wrapping_add((c + i) * step);
            // SAFETY: sixteen rows of column c + i.
            unsafe {
                _mm256_storeu_ps(to, low);
                _mm256_storeu_ps(to.add(8), high);
            }
        }
    }
    done
}

/// Transposes an 8 × 8 block.
#[target_feature(enable = "avx2")]
#[inline]
fn transpose8(x: [__m256; 8]) -> [__m256; 8] {
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
