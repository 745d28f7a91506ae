//! The innermost loops of depthwise convolutions: vectors run over the groups.

use crate::Isa;

/// Output positions that share a load of the weights.
pub(super) const QUAD: usize = 4;

/// What stands for padding, whatever the group: as long as the longest vector.
pub(super) static ZEROS: [f32; 16] = [0.0; 16];

/// A run of terms of one window position.
#[derive(Clone, Copy)]
pub(super) struct Segment {
    /// The input of each position, and what of a lane's offset counts: nothing for padding.
    pub lhs: [(*const f32, usize); QUAD],
    pub rhs: *const f32,
    pub terms: usize,
}

/// The chains of one chunk for some positions and groups.
pub(super) struct Quad<'a> {
    pub segments: &'a [Segment],
    /// Distances between terms.
    pub lhs_step: isize,
    pub rhs_step: isize,
    /// Groups.
    pub lanes: usize,
    pub to: [*mut f32; QUAD],
    /// Positions that exist.
    pub rows: usize,
    /// Adds to the destination instead of overwriting it.
    pub add: bool,
}

pub(super) type ChainsFn = unsafe fn(&Quad<'_>);

pub(super) fn chains_for(isa: Isa) -> ChainsFn {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => x86::avx512,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => x86::avx2,
        _ => portable,
    }
}

/// Declares the loops for one vector type; `$load` and `$store` touch at most `count` lanes.
macro_rules! chains {
    ($(#[$features:meta])? $name:ident, $width:literal, $zero:expr, $load:expr, $madd:expr, $add:expr, $store:expr) => {
        /// # Safety
        /// The segments' addresses are valid for their terms and lanes, the destinations for their lanes; the processor has
        /// the instructions.
        $(#[$features])?
        pub(super) unsafe fn $name(quad: &Quad<'_>) {
            for lane in (0..quad.lanes).step_by($width) {
                let count = quad.lanes - lane;
                let mut chains = [$zero; QUAD];
                for segment in quad.segments {
                    for term in 0..segment.terms as isize {
                        let offset = (term * quad.lhs_step) as usize;
                        // SAFETY: as the caller vouches; padding reads the zeros, whatever the offset.
                        unsafe {
                            let weight = $load(segment.rhs.wrapping_offset(term * quad.rhs_step).wrapping_add(lane), count);
                            for (chain, (lhs, mask)) in chains.iter_mut().zip(segment.lhs) {
                                let x = $load(lhs.wrapping_add(offset.wrapping_add(lane) & mask), count);
                                *chain = $madd(x, weight, *chain);
                            }
                        }
                    }
                }
                for (chain, to) in chains.into_iter().zip(quad.to).take(quad.rows) {
                    let to = to.wrapping_add(lane);
                    // SAFETY: `count` lanes of this row exist.
                    unsafe { $store(to, if quad.add { $add($load(to, count), chain) } else { chain }, count) };
                }
            }
        }
    };
}

chains!(
    portable,
    4,
    [0f32; 4],
    |from: *const f32, count: usize| -> [f32; 4] { std::array::from_fn(|l| if l < count { *from.add(l) } else { 0.0 }) },
    |x: [f32; 4], y: [f32; 4], sum: [f32; 4]| -> [f32; 4] { std::array::from_fn(|l| sum[l] + x[l] * y[l]) },
    |x: [f32; 4], y: [f32; 4]| -> [f32; 4] { std::array::from_fn(|l| x[l] + y[l]) },
    |to: *mut f32, value: [f32; 4], count: usize| value.iter().take(count).enumerate().for_each(|(l, v)| *to.add(l) = *v)
);

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{QUAD, Quad};

    #[inline]
    fn mask16(count: usize) -> __mmask16 {
        if count >= 16 { !0 } else { (1 << count) - 1 }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn mask8(count: usize) -> __m256i {
        _mm256_cmpgt_epi32(_mm256_set1_epi32(count.min(8) as i32), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7))
    }

    chains!(
        #[target_feature(enable = "avx512f")]
        avx512,
        16,
        _mm512_setzero_ps(),
        |from, count| _mm512_maskz_loadu_ps(mask16(count), from),
        |x, y, sum| _mm512_fmadd_ps(x, y, sum),
        |x, y| _mm512_add_ps(x, y),
        |to, value, count| _mm512_mask_storeu_ps(to, mask16(count), value)
    );
    chains!(
        #[target_feature(enable = "avx2,fma")]
        avx2,
        8,
        _mm256_setzero_ps(),
        |from, count| _mm256_maskload_ps(from, mask8(count)),
        |x, y, sum| _mm256_fmadd_ps(x, y, sum),
        |x, y| _mm256_add_ps(x, y),
        |to, value, count| _mm256_maskstore_ps(to, mask8(count), value)
    );
}
