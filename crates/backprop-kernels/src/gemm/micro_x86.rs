//! Register tiles for AVX-512 (14 × 32) and AVX2 (6 × 16).

use std::arch::x86_64::*;

use super::micro::{Micro, Tile, tile_tables};

/// 28 accumulators, two vectors of B and the broadcast of A: 31 of 32 registers, and 28 independent chains cover the latency
/// of the multiply-add (4 cycles, up to 2 a cycle).
pub(super) static AVX512: Micro = Micro::new(14, 16, tile_tables!(avx512; 1 2 3 4 5 6 7 8 9 10 11 12 13 14));

/// 12 accumulators, two vectors of B and the broadcast of A: 15 of 16 registers.
pub(super) static AVX2: Micro = Micro::new(6, 8, tile_tables!(avx2; 1 2 3 4 5 6));

/// # Safety
/// `t` describes memory valid for MR rows, `t.k` terms and `t.cols` columns; the processor has AVX-512 F.
#[target_feature(enable = "avx512f")]
unsafe fn avx512<const MR: usize, const NV: usize, const PACKED: bool>(t: &Tile) {
    let tail = t.cols - (NV - 1) * 16;
    let mask: __mmask16 = if tail >= 16 { !0 } else { (1 << tail) - 1 };
    let mut acc = [[_mm512_setzero_ps(); NV]; MR];
    let (mut a, mut b) = (t.a, t.b);
    let row = if PACKED { 1 } else { t.a_row };
    for _ in 0..t.k {
        // SAFETY: the mask covers exactly the valid columns of B's last vector, and every row of A is valid at this step.
        unsafe {
            let mut bv = [_mm512_setzero_ps(); NV];
            for (j, bv) in bv.iter_mut().enumerate() {
                *bv = if j + 1 < NV { _mm512_loadu_ps(b) } else { _mm512_maskz_loadu_ps(mask, b.wrapping_add(16 * j)) };
            }
            for (i, acc) in acc.iter_mut().enumerate() {
                let av = _mm512_set1_ps(*a.offset(i as isize * row));
                for (acc, bv) in acc.iter_mut().zip(bv) {
                    *acc = _mm512_fmadd_ps(av, bv, *acc);
                }
            }
        }
        a = a.wrapping_offset(t.a_step);
        b = b.wrapping_offset(t.b_step);
    }
    for (i, acc) in acc.iter().enumerate() {
        for (j, acc) in acc.iter().enumerate() {
            let mask = if j + 1 < NV { !0 } else { mask };
            let c = t.c.wrapping_offset(i as isize * t.c_row).wrapping_add(16 * j);
            // SAFETY: the mask covers exactly the valid columns of row i of C.
            unsafe {
                let sum = if t.add { _mm512_add_ps(_mm512_maskz_loadu_ps(mask, c), *acc) } else { *acc };
                _mm512_mask_storeu_ps(c, mask, sum);
            }
        }
    }
}

/// # Safety
/// `t` describes memory valid for MR rows, `t.k` terms and `t.cols` columns; the processor has AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2<const MR: usize, const NV: usize, const PACKED: bool>(t: &Tile) {
    let tail = t.cols - (NV - 1) * 8;
    let mask = _mm256_cmpgt_epi32(_mm256_set1_epi32(tail.min(8) as i32), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    let mut acc = [[_mm256_setzero_ps(); NV]; MR];
    let (mut a, mut b) = (t.a, t.b);
    let row = if PACKED { 1 } else { t.a_row };
    for _ in 0..t.k {
        // SAFETY: the mask covers exactly the valid columns of B's last vector, and every row of A is valid at this step.
        unsafe {
            let mut bv = [_mm256_setzero_ps(); NV];
            for (j, bv) in bv.iter_mut().enumerate() {
                *bv = if j + 1 < NV { _mm256_loadu_ps(b) } else { _mm256_maskload_ps(b.wrapping_add(8 * j), mask) };
            }
            for (i, acc) in acc.iter_mut().enumerate() {
                let av = _mm256_broadcast_ss(&*a.offset(i as isize * row));
                for (acc, bv) in acc.iter_mut().zip(bv) {
                    *acc = _mm256_fmadd_ps(av, bv, *acc);
                }
            }
        }
        a = a.wrapping_offset(t.a_step);
        b = b.wrapping_offset(t.b_step);
    }
    for (i, acc) in acc.iter().enumerate() {
        for (j, acc) in acc.iter().enumerate() {
            let c = t.c.wrapping_offset(i as isize * t.c_row).wrapping_add(8 * j);
            // SAFETY: only the valid columns of row i of C are touched: whole vectors before the last, the mask in the last.
            unsafe {
                if j + 1 < NV {
                    let sum = if t.add { _mm256_add_ps(_mm256_loadu_ps(c), *acc) } else { *acc };
                    _mm256_storeu_ps(c, sum);
                } else {
                    let sum = if t.add { _mm256_add_ps(_mm256_maskload_ps(c, mask), *acc) } else { *acc };
                    _mm256_maskstore_ps(c, mask, sum);
                }
            }
        }
    }
}
