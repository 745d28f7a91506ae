//! Register tiles for AVX-512 (14 × 32) and AVX2 (6 × 16).

use std::arch::x86_64::*;

use super::micro::{Micro, Tile, tile_tables};

/// 28 accumulators, two vectors of B and the broadcast of A: 31 of 32 registers, and 28 independent chains cover the latency
/// of the multiply-add (4 cycles, up to 2 a cycle).
pub(super) static AVX512: Micro = Micro::new(
    14,
    16,
    tile_tables!(avx512; 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
    &[(12, avx512::<1, 12, false>), (8, avx512::<2, 8, false>), (6, avx512::<3, 6, false>)],
);

/// 12 accumulators, two vectors of B and the broadcast of A: 15 of 16 registers.
pub(super) static AVX2: Micro =
    Micro::new(6, 8, tile_tables!(avx2; 1 2 3 4 5 6), &[(8, avx2::<1, 8, false>), (4, avx2::<2, 4, false>)]);

/// The body once for every row below `$rows`, written out: a loop of so many instructions is not always unrolled.
macro_rules! each_row {
    ($rows:ident, $i:ident, $body:block) => {
        each_row!(@ $rows $i $body 0 1 2 3 4 5 6 7 8 9 10 11 12 13)
    };
    (@ $rows:ident $i:ident $body:block $($row:literal)*) => {$(
        if $row < $rows {
            const $i: usize = $row;
            $body
        }
    )*};
}

/// Rows of A that share a register: x86 addresses reach a base, and once and twice the distance of rows from it.
const TRIPLE: usize = 3;

/// Where every third row of A starts.
///
/// Were they not hidden from the compiler, it would step one address from row to row: as long a chain of additions as there
/// are rows, which takes the time of the multiply-adds.
#[inline(always)]
#[expect(clippy::pointers_in_nomem_asm_block, reason = "nothing is read there")]
fn bases<const PACKED: bool>(t: &Tile) -> [*const f32; 5] {
    std::array::from_fn(|i| {
        let mut base = t.a.wrapping_offset(if PACKED { 0 } else { (TRIPLE * i) as isize * t.a_row });
        // SAFETY: no instruction at all.
        unsafe { std::arch::asm!("/* {0} */", inout(reg) base, options(pure, nomem, nostack, preserves_flags)) };
        base
    })
}

/// The element of row `i`.
#[inline(always)]
fn element<const PACKED: bool>(bases: &[*const f32; 5], i: usize, row: isize) -> *const f32 {
    if PACKED { bases[0].wrapping_add(i) } else { bases[i / TRIPLE].wrapping_offset((i % TRIPLE) as isize * row) }
}

/// Of so many rows of two vectors, one loads its elements again for each vector.
const AGAIN: usize = 2;

/// Adds the products of a row's element at an address and each vector of columns, one or two, to the row's accumulators.
///
/// Where the multiply-add itself spreads the element, there is one instruction less, but each vector loads it again: what bounds a
/// tile where two threads share a core is the number of instructions, and else that of loads. The compiler would always load once,
/// and all elements it can reach before they are needed, for which there are no registers.
macro_rules! row_avx512 {
    ($row:ident, $acc:ident, $bv:ident, $address:literal, $($operand:tt)*) => {
        if NV == 1 || $row % AGAIN == 1 {
            for (acc, bv) in $acc.iter_mut().zip($bv) {
                std::arch::asm!(
                    concat!("vfmadd231ps {acc}, {b}, dword ptr [", $address, "]{{1to16}}"),
                    acc = inout(zmm_reg) *acc,
                    b = in(zmm_reg) bv,
                    $($operand)*
                    options(pure, readonly, nostack, preserves_flags),
                );
            }
        } else {
            std::arch::asm!(
                concat!("vbroadcastss {x}, dword ptr [", $address, "]"),
                "vfmadd231ps {acc}, {b}, {x}",
                "vfmadd231ps {other}, {c}, {x}",
                x = out(zmm_reg) _,
                acc = inout(zmm_reg) $acc[0],
                other = inout(zmm_reg) $acc[NV - 1],
                b = in(zmm_reg) $bv[0],
                c = in(zmm_reg) $bv[NV - 1],
                $($operand)*
                options(pure, readonly, nostack, preserves_flags),
            )
        }
    };
}

/// One term of a tile, `$term` terms after the one that the addresses of A are of.
macro_rules! term_avx512 {
    ($t:ident, $acc:ident, $mask:ident, $a:ident, $b:ident, $row:ident, $term:literal) => {{
        let mut bv = [_mm512_setzero_ps(); NV];
        for (j, bv) in bv.iter_mut().enumerate() {
            *bv = if j + 1 < NV {
                _mm512_loadu_ps($b.wrapping_add(16 * j))
            } else {
                _mm512_maskz_loadu_ps($mask, $b.wrapping_add(16 * j))
            };
        }
        each_row!(MR, I, {
            let acc = &mut $acc[I];
            if NV > 2 {
                let av = _mm512_set1_ps(*element::<PACKED>(&$a, I, $row).wrapping_add($term));
                for (acc, bv) in acc.iter_mut().zip(bv) {
                    *acc = _mm512_fmadd_ps(av, bv, *acc);
                }
            } else if PACKED {
                row_avx512!(I, acc, bv, "{a} + {at}", a = in(reg) $a[0], at = const 4 * ($term * MR + I),);
            } else {
                let a = $a[I / TRIPLE];
                match I % TRIPLE {
                    0 => row_avx512!(I, acc, bv, "{a} + {at}", a = in(reg) a, at = const 4 * $term,),
                    1 => row_avx512!(I, acc, bv, "{a} + 4 * {row} + {at}", a = in(reg) a, row = in(reg) $row, at = const 4 * $term,),
                    _ => row_avx512!(I, acc, bv, "{a} + 8 * {row} + {at}", a = in(reg) a, row = in(reg) $row, at = const 4 * $term,),
                }
            }
        });
        $b = $b.wrapping_offset($t.b_step);
    }};
}

/// # Safety
/// `t` describes memory valid for MR rows, `t.k` terms and `t.cols` columns; the processor has AVX-512 F.
#[target_feature(enable = "avx512f")]
unsafe fn avx512<const MR: usize, const NV: usize, const PACKED: bool>(t: &Tile) {
    let tail = t.cols - (NV - 1) * 16;
    let mask: __mmask16 = if tail >= 16 { !0 } else { (1 << tail) - 1 };
    let mut acc = [[_mm512_setzero_ps(); NV]; MR];
    let row = if PACKED { 1 } else { t.a_row };
    let (mut a, mut b, mut ahead) = (bases::<PACKED>(t), t.b, t.ahead);
    let adjacent = if PACKED { MR as isize } else { 1 };
    let mut left = t.k;
    if t.a_step == adjacent {
        while left >= 4 {
            for _ in 0..4 {
                ahead.advance();
            }
            // SAFETY: the mask covers exactly the valid columns of B's last vector, and every row of A is valid at these steps.
            unsafe {
                term_avx512!(t, acc, mask, a, b, row, 0);
                term_avx512!(t, acc, mask, a, b, row, 1);
                term_avx512!(t, acc, mask, a, b, row, 2);
                term_avx512!(t, acc, mask, a, b, row, 3);
            }
            a.iter_mut().for_each(|a| *a = a.wrapping_offset(4 * adjacent));
            left -= 4;
        }
    }
    for _ in 0..left {
        // SAFETY: as above.
        unsafe { term_avx512!(t, acc, mask, a, b, row, 0) };
        a.iter_mut().for_each(|a| *a = a.wrapping_offset(t.a_step));
        ahead.advance();
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

/// One term of a tile, `$term` terms after the one that the addresses are of. With a mask, only its columns of the last vector are read:
/// that takes an instruction more, and most tiles are full.
macro_rules! term_avx2 {
    ($t:ident, $acc:ident, $mask:expr, $a:ident, $b:ident, $row:ident, $term:literal) => {{
        let columns = $b.wrapping_offset($term * $t.b_step);
        let mut bv = [_mm256_setzero_ps(); NV];
        for (j, bv) in bv.iter_mut().enumerate() {
            let columns = columns.wrapping_add(8 * j);
            *bv = match $mask {
                Some(mask) if j + 1 == NV => _mm256_maskload_ps(columns, mask),
                _ => _mm256_loadu_ps(columns),
            };
        }
        each_row!(MR, I, {
            let av = _mm256_broadcast_ss(
                &*element::<PACKED>(&$a, I, $row).wrapping_offset($term * if PACKED { MR as isize } else { 1 }),
            );
            for (acc, bv) in $acc[I].iter_mut().zip(bv) {
                *acc = _mm256_fmadd_ps(av, bv, *acc);
            }
        });
    }};
}

/// # Safety
/// `t` describes memory valid for MR rows, `t.k` terms and `t.cols` columns; the processor has AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2<const MR: usize, const NV: usize, const PACKED: bool>(t: &Tile) {
    let tail = t.cols - (NV - 1) * 8;
    let mask = _mm256_cmpgt_epi32(_mm256_set1_epi32(tail.min(8) as i32), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    let mut acc = [[_mm256_setzero_ps(); NV]; MR];
    let row = if PACKED { 1 } else { t.a_row };
    let (mut a, mut b, mut ahead) = (bases::<PACKED>(t), t.b, t.ahead);
    let adjacent = if PACKED { MR as isize } else { 1 };
    let mut left = t.k;
    if t.a_step == adjacent && tail >= 8 {
        while left >= 4 {
            ahead.advance_four();
            // SAFETY: all columns of B's last vector are valid, and every row of A is at these steps.
            unsafe {
                term_avx2!(t, acc, None, a, b, row, 0);
                term_avx2!(t, acc, None, a, b, row, 1);
                term_avx2!(t, acc, None, a, b, row, 2);
                term_avx2!(t, acc, None, a, b, row, 3);
            }
            a.iter_mut().for_each(|a| *a = a.wrapping_offset(4 * adjacent));
            b = b.wrapping_offset(4 * t.b_step);
            left -= 4;
        }
    }
    for _ in 0..left {
        // SAFETY: the mask covers exactly the valid columns of B's last vector, and every row of A is valid at this step.
        unsafe { term_avx2!(t, acc, Some(mask), a, b, row, 0) };
        a.iter_mut().for_each(|a| *a = a.wrapping_offset(t.a_step));
        b = b.wrapping_offset(t.b_step);
        ahead.advance();
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
