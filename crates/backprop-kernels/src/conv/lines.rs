//! Where the patches of a block of rows start, and the addresses of their elements at a window position.

use super::patches::{MAX_RANK, Patches, RowDim, ZEROS};
use crate::simd::per_isa;

/// Rows of a block at most.
pub(super) const MAX_ROWS: usize = 120;

/// The starts of consecutive rows.
pub(super) struct Lines {
    count: usize,
    /// Offset of window position 0, which may lie outside the input.
    offset: [isize; MAX_ROWS],
    /// Its position in each spatial dimension.
    position: [[i32; MAX_ROWS]; MAX_RANK],
}

impl Lines {
    pub fn new() -> Lines {
        Lines { count: 0, offset: [0; MAX_ROWS], position: [[0; MAX_ROWS]; MAX_RANK] }
    }

    /// The rows from `first` on of patches of an input without dilation.
    pub fn fill(&mut self, patches: &Patches, first: usize, count: usize) {
        self.count = count;
        let single = RowDim { extent: 1, offset: 0, spatial: None };
        let (inner, outer) = patches.rows.split_last().unwrap_or((&single, &[]));
        let mut done = 0;
        while done < count {
            let (within, mut rest) = ((first + done) % inner.extent, (first + done) / inner.extent);
            let len = (inner.extent - within).min(count - done);
            let mut position = [0; MAX_RANK];
            for (at, input) in position.iter_mut().zip(&patches.input) {
                *at = input.origin;
            }
            let mut offset = 0;
            for dim in outer.iter().rev() {
                let index = (rest % dim.extent) as isize;
                rest /= dim.extent;
                match dim.spatial {
                    Some((d, step)) => position[d] += index * step,
                    None => offset += index * dim.offset,
                }
            }
            let mut steps = [0; MAX_RANK];
            match inner.spatial {
                Some((d, step)) => {
                    steps[d] = step as i32;
                    position[d] += within as isize * step;
                }
                None => offset += within as isize * inner.offset,
            }
            offset += patches.input.iter().zip(position).map(|(input, at)| at * input.stride).sum::<isize>();
            for (i, to) in self.offset[done..done + len].iter_mut().enumerate() {
                *to = offset + i as isize * inner.offset;
            }
            for d in 0..patches.input.len() {
                for (i, to) in self.position[d][done..done + len].iter_mut().enumerate() {
                    *to = position[d] as i32 + i as i32 * steps[d];
                }
            }
            done += len;
        }
    }
}

impl Lines {
    /// Offset of window position 0 of the first row.
    pub fn start(&self) -> isize {
        self.offset[0]
    }

    /// Rows that have the same place in so many consecutive batches, from `first` on.
    pub fn fill_across(&mut self, patches: &Patches, first: usize, count: usize) {
        self.fill(patches, first, 1);
        self.count = count;
        let step = patches.rows.first().map_or(0, |batch| batch.offset);
        for i in 1..count {
            self.offset[i] = self.offset[0] + i as isize * step;
        }
    }
}

impl Lines {
    /// Writes the addresses of all rows' elements at a window position, where rows have the same place in their batches; false if that
    /// lies in the padding.
    ///
    /// # Safety
    /// `to` has room for the rows.
    pub unsafe fn across(&self, patches: &Patches, window: &[isize; MAX_RANK], lhs: *const f32, to: *mut *const f32) -> bool {
        let mut shift = 0;
        for ((input, at), position) in patches.input.iter().zip(window).zip(&self.position) {
            // A negative position is huge as an unsigned number.
            if (position[0] + *at as i32) as u32 >= input.extent as u32 {
                return false;
            }
            shift += at * input.stride;
        }
        for (i, offset) in self.offset[..self.count].iter().enumerate() {
            // SAFETY: as the caller vouches.
            unsafe { *to.add(i) = lhs.wrapping_offset(shift + offset) };
        }
        true
    }
}

/// Writes the address of every row's element at a window position; those in the padding get that of zeros.
#[inline(always)]
unsafe fn addresses_body<const FMA: bool>(
    lines: &Lines,
    patches: &Patches,
    window: &[isize; MAX_RANK],
    lhs: *const f32,
    to: *mut *const f32,
) {
    let count = lines.count.min(MAX_ROWS);
    let shift: isize = patches.input.iter().zip(window).map(|(input, at)| at * input.stride).sum();
    let lhs = lhs.wrapping_offset(shift);
    // SAFETY: the caller has room for a block.
    let to = unsafe { std::slice::from_raw_parts_mut(to, count) };
    if patches.bounded {
        for (to, offset) in to.iter_mut().zip(&lines.offset) {
            *to = lhs.wrapping_offset(*offset);
        }
        return;
    }
    let mut outside = [0u32; MAX_ROWS];
    for ((input, at), position) in patches.input.iter().zip(window).zip(&lines.position) {
        for (outside, position) in outside[..count].iter_mut().zip(position) {
            // A negative position is huge as an unsigned number.
            *outside |= u32::from((position + *at as i32) as u32 >= input.extent as u32);
        }
    }
    for ((to, offset), outside) in to.iter_mut().zip(&lines.offset).zip(&outside) {
        *to = if *outside == 0 { lhs.wrapping_offset(*offset) } else { ZEROS.as_ptr() };
    }
}

per_isa! {
    /// As [`addresses_body`]: `to` has room for the rows.
    pub(super) fn addresses[](
        lines: &Lines,
        patches: &Patches,
        window: &[isize; MAX_RANK],
        lhs: *const f32,
        to: *mut *const f32,
    ) = addresses_body
}
