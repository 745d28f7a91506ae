//! Register tiles for AVX-512 (12 × 32 or 14 × 32) and AVX2 (6 × 16).

use std::arch::x86_64::*;

use super::micro::{Gathered, Scattered, Tiles, table};
use crate::ahead::{prefetch, prefetch_for_writing};

/// Gathered: 24 accumulators, two vectors of B for each of two terms, the broadcast of A: 29 of 32 registers. Scattered: 28
/// accumulators, two vectors of B and the broadcast of A: 31.
pub(super) static AVX512: Tiles = Tiles {
    rows: 12,
    adjacent: 14,
    lanes: 16,
    gathered: table!(gathered_avx512; 1 2 3 4 5 6 7 8 9 10 11 12),
    scattered: table!(scattered_avx512; 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
};

/// 12 accumulators, two vectors of B and the broadcast of A: 15 of 16 registers.
pub(super) static AVX2: Tiles = Tiles {
    rows: 6,
    adjacent: 6,
    lanes: 8,
    gathered: table!(gathered_avx2; 1 2 3 4 5 6),
    scattered: table!(scattered_avx2; 1 2 3 4 5 6),
};

// Macros, not functions: the compiler must not decide to call them.

/// NV vectors from an address valid for them.
macro_rules! vectors_avx512 {
    ($from:expr) => {{
        let mut vectors = [_mm512_setzero_ps(); NV];
        for (j, vector) in vectors.iter_mut().enumerate() {
            *vector = _mm512_loadu_ps($from.add(16 * j));
        }
        vectors
    }};
}

/// As [`vectors_avx512`].
macro_rules! vectors_avx2 {
    ($from:expr) => {{
        let mut vectors = [_mm256_setzero_ps(); NV];
        for (j, vector) in vectors.iter_mut().enumerate() {
            *vector = _mm256_loadu_ps($from.add(8 * j));
        }
        vectors
    }};
}

/// Stores accumulators to a target valid for its columns of MR rows: the mask covers exactly the valid columns.
macro_rules! store_avx512 {
    ($acc:ident, $to:expr) => {{
        let to = $to;
        let tail = to.cols - (NV - 1) * 16;
        let last: __mmask16 = if tail >= 16 { !0 } else { (1 << tail) - 1 };
        for (i, acc) in $acc.iter().enumerate() {
            for (j, acc) in acc.iter().enumerate() {
                let mask = if j + 1 < NV { !0 } else { last };
                let c = to.c.wrapping_offset(i as isize * to.c_row).wrapping_add(16 * j);
                let sum = if to.add { _mm512_add_ps(_mm512_maskz_loadu_ps(mask, c), *acc) } else { *acc };
                _mm512_mask_storeu_ps(c, mask, sum);
            }
        }
    }};
}

/// As [`store_avx512`]: whole vectors before the last, the mask in the last.
macro_rules! store_avx2 {
    ($acc:ident, $to:expr) => {{
        let to = $to;
        let tail = to.cols - (NV - 1) * 8;
        let mask = _mm256_cmpgt_epi32(_mm256_set1_epi32(tail.min(8) as i32), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
        for (i, acc) in $acc.iter().enumerate() {
            for (j, acc) in acc.iter().enumerate() {
                let c = to.c.wrapping_offset(i as isize * to.c_row).wrapping_add(8 * j);
                if j + 1 < NV {
                    let sum = if to.add { _mm256_add_ps(_mm256_loadu_ps(c), *acc) } else { *acc };
                    _mm256_storeu_ps(c, sum);
                } else {
                    let sum = if to.add { _mm256_add_ps(_mm256_maskload_ps(c, mask), *acc) } else { *acc };
                    _mm256_maskstore_ps(c, mask, sum);
                }
            }
        }
    }};
}

/// # Safety
/// `t` describes memory valid for MR rows, the terms of its runs and its columns; the processor has AVX-512 F.
#[target_feature(enable = "avx512f")]
unsafe fn gathered_avx512<const MR: usize, const NV: usize>(t: &Gathered<'_>) {
    for i in 0..if t.fresh { MR as isize } else { 0 } {
        for j in 0..NV {
            prefetch_for_writing(t.to.c.wrapping_offset(i * t.to.c_row).wrapping_add(16 * j));
        }
    }
    let mut acc = [[_mm512_setzero_ps(); NV]; MR];
    let mut rows = t.rows;
    for run in t.runs {
        let (mut b, terms) = (t.b.wrapping_add(16 * NV * run.first), run.terms);
        let mut term = 0;
        // The addresses of the rows do not fit into registers: two terms share a load of them.
        while term + 2 <= terms {
            // SAFETY: as the caller vouches.
            unsafe {
                let (even, odd) = (vectors_avx512!(b), vectors_avx512!(b.add(16 * NV)));
                for (i, acc) in acc.iter_mut().enumerate() {
                    let a = (*rows.add(i)).add(term);
                    let x = _mm512_set1_ps(*a);
                    for (acc, b) in acc.iter_mut().zip(even) {
                        *acc = _mm512_fmadd_ps(x, b, *acc);
                    }
                    let x = _mm512_set1_ps(*a.add(1));
                    for (acc, b) in acc.iter_mut().zip(odd) {
                        *acc = _mm512_fmadd_ps(x, b, *acc);
                    }
                }
            }
            b = b.wrapping_add(32 * NV);
            term += 2;
        }
        if term < terms {
            // SAFETY: as the caller vouches.
            unsafe {
                let last = vectors_avx512!(b);
                for (i, acc) in acc.iter_mut().enumerate() {
                    let x = _mm512_set1_ps(*(*rows.add(i)).add(term));
                    for (acc, b) in acc.iter_mut().zip(last) {
                        *acc = _mm512_fmadd_ps(x, b, *acc);
                    }
                }
            }
        }
        rows = rows.wrapping_add(t.rows_step);
    }
    // SAFETY: as the caller vouches.
    unsafe { store_avx512!(acc, t.to) };
}

/// # Safety
/// `t` describes memory valid for MR rows and its columns at every term; the processor has AVX-512 F.
#[target_feature(enable = "avx512f")]
unsafe fn scattered_avx512<const MR: usize, const NV: usize>(t: &Scattered<'_>) {
    let mut acc = [[_mm512_setzero_ps(); NV]; MR];
    for term in t.terms {
        let (a, b) = (term.a.wrapping_offset(t.row), t.b.wrapping_offset(term.b));
        prefetch(a.wrapping_offset(t.ahead.0));
        for j in 0..NV {
            prefetch(b.wrapping_offset(t.ahead.1).wrapping_add(16 * j));
        }
        // SAFETY: as the caller vouches.
        unsafe {
            let b = vectors_avx512!(b);
            for (i, acc) in acc.iter_mut().enumerate() {
                let x = _mm512_set1_ps(*a.add(i));
                for (acc, b) in acc.iter_mut().zip(b) {
                    *acc = _mm512_fmadd_ps(x, b, *acc);
                }
            }
        }
    }
    // SAFETY: as the caller vouches.
    unsafe { store_avx512!(acc, t.to) };
}

/// # Safety
/// `t` describes memory valid for MR rows, the terms of its runs and its columns; the processor has AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
unsafe fn gathered_avx2<const MR: usize, const NV: usize>(t: &Gathered<'_>) {
    for i in 0..if t.fresh { MR as isize } else { 0 } {
        prefetch_for_writing(t.to.c.wrapping_offset(i * t.to.c_row));
    }
    let mut acc = [[_mm256_setzero_ps(); NV]; MR];
    let mut rows = t.rows;
    for run in t.runs {
        let mut b = t.b.wrapping_add(8 * NV * run.first);
        // SAFETY: as the caller vouches.
        let from = unsafe { *rows.cast::<[*const f32; MR]>() };
        for term in 0..run.terms {
            // SAFETY: as the caller vouches.
            unsafe {
                let bv = vectors_avx2!(b);
                for (acc, from) in acc.iter_mut().zip(from) {
                    let x = _mm256_broadcast_ss(&*from.add(term));
                    for (acc, b) in acc.iter_mut().zip(bv) {
                        *acc = _mm256_fmadd_ps(x, b, *acc);
                    }
                }
            }
            b = b.wrapping_add(8 * NV);
        }
        rows = rows.wrapping_add(t.rows_step);
    }
    // SAFETY: as the caller vouches.
    unsafe { store_avx2!(acc, t.to) };
}

/// # Safety
/// `t` describes memory valid for MR rows and its columns at every term; the processor has AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
unsafe fn scattered_avx2<const MR: usize, const NV: usize>(t: &Scattered<'_>) {
    let mut acc = [[_mm256_setzero_ps(); NV]; MR];
    for term in t.terms {
        let (a, b) = (term.a.wrapping_offset(t.row), t.b.wrapping_offset(term.b));
        prefetch(a.wrapping_offset(t.ahead.0));
        prefetch(b.wrapping_offset(t.ahead.1));
        // SAFETY: as the caller vouches.
        unsafe {
            let b = vectors_avx2!(b);
            for (i, acc) in acc.iter_mut().enumerate() {
                let x = _mm256_broadcast_ss(&*a.add(i));
                for (acc, b) in acc.iter_mut().zip(b) {
                    *acc = _mm256_fmadd_ps(x, b, *acc);
                }
            }
        }
    }
    // SAFETY: as the caller vouches.
    unsafe { store_avx2!(acc, t.to) };
}
