//! The input of a convolution seen as a matrix that is never stored: one row per output position, one term per (window
//! position, channel).

use crate::Isa;
use crate::gemm::KC;
use crate::gemm::pack::{MAX_WIDTH, copy_short, pack_rows, zero_rest};
use crate::gemm::source::{Rows, Source, Strided};

/// Spatial dimensions a convolution can have.
pub(super) const MAX_SPATIAL: usize = 4;
/// The same, with the channels as one more.
pub(super) const MAX_RANK: usize = MAX_SPATIAL + 1;

/// What stands for a row of padding.
pub(super) static ZEROS: [f32; KC] = [0.0; KC];

/// One dimension of the output positions.
#[derive(Clone, Copy)]
pub(super) struct RowDim {
    pub extent: usize,
    /// Elements of the input per step; not used for spatial dimensions, whose position must be checked.
    pub offset: isize,
    /// (spatial dimension, steps of the dilated input per step of the output).
    pub spatial: Option<(usize, isize)>,
}

/// One spatial dimension of the input.
#[derive(Clone, Copy, Default)]
pub(super) struct InputDim {
    pub extent: usize,
    pub stride: isize,
    pub dilation: isize,
    /// Position of window element 0 of output 0 in the dilated input.
    pub origin: isize,
}

/// Patches of an input, gathered on the fly.
pub(super) struct Patches {
    pub groups: Strided,
    /// Outermost first.
    pub rows: Vec<RowDim>,
    pub input: Vec<InputDim>,
    /// Extent of the window and distance between its elements in the dilated input, per spatial dimension.
    pub window: Vec<(usize, isize)>,
    pub channels: usize,
    pub channel: isize,
    /// No patch reaches into padding.
    pub bounded: bool,
    pub isa: Isa,
}

/// Where a row's patch starts.
#[derive(Clone, Copy, Default)]
pub(super) struct Start {
    offset: isize,
    position: [isize; MAX_RANK],
}

impl Patches {
    /// Offset of a window position in the dilated input.
    pub fn window(&self, mut position: usize) -> [isize; MAX_RANK] {
        let mut at = [0; MAX_RANK];
        for (at, &(extent, step)) in at.iter_mut().zip(&self.window).rev() {
            *at = (position % extent) as isize * step;
            position /= extent;
        }
        at
    }

    /// The starts of consecutive rows.
    pub fn starts(&self, rows: Rows, starts: &mut [Start; MAX_WIDTH]) {
        let mut index = [0usize; MAX_RANK + 1];
        let mut rest = rows.first;
        for (i, dim) in self.rows.iter().enumerate().rev() {
            index[i] = rest % dim.extent;
            rest /= dim.extent;
        }
        for start in &mut starts[..rows.count] {
            *start = Start::default();
            for (input, position) in self.input.iter().zip(&mut start.position) {
                *position = input.origin;
            }
            for (dim, &i) in self.rows.iter().zip(&index) {
                match dim.spatial {
                    Some((d, step)) => start.position[d] += i as isize * step,
                    None => start.offset += i as isize * dim.offset,
                }
            }
            for (i, dim) in self.rows.iter().enumerate().rev() {
                index[i] += 1;
                if index[i] < dim.extent {
                    break;
                }
                index[i] = 0;
            }
        }
    }

    /// Offset of a patch's element at a window position, unless it lies in the padding or between dilated elements.
    #[inline(always)]
    pub fn element(&self, start: &Start, window: &[isize; MAX_RANK]) -> Option<isize> {
        let mut offset = start.offset;
        for (d, input) in self.input.iter().enumerate() {
            let mut at = start.position[d] + window[d];
            if input.dilation != 1 {
                if at % input.dilation != 0 {
                    return None;
                }
                at /= input.dilation;
            }
            // A negative position is huge as an unsigned number.
            if at as usize >= input.extent {
                return None;
            }
            offset += at * input.stride;
        }
        Some(offset)
    }
}

impl Source for Patches {
    unsafe fn pack(&self, base: *const f32, batch: usize, rows: Rows, k0: usize, k: usize, dst: *mut f32) {
        let base = base.wrapping_offset(self.groups.offset(batch));
        let mut starts = [Start::default(); MAX_WIDTH];
        self.starts(rows, &mut starts);
        let mut from = [std::ptr::null(); MAX_WIDTH];
        let from = &mut from[..rows.count];
        let mut done = 0;
        while done < k {
            let (position, channel) = ((k0 + done) / self.channels, (k0 + done) % self.channels);
            let len = (self.channels - channel).min(k - done);
            let window = self.window(position);
            for (from, start) in from.iter_mut().zip(&starts) {
                *from = self
                    .element(start, &window)
                    .map_or(std::ptr::null(), |offset| base.wrapping_offset(offset + channel as isize * self.channel));
            }
            let dst = dst.wrapping_add(done * rows.width);
            // SAFETY: an address that is not null is that of an element of the input, with `len` channels behind it.
            unsafe {
                if self.channel == 1 && len >= 8 {
                    from.iter_mut().filter(|f| f.is_null()).for_each(|f| *f = ZEROS.as_ptr());
                    pack_rows(from, 1, len, dst, rows.width, self.isa);
                } else {
                    pack_runs(from, self.channel, len, dst, rows.width);
                }
            }
            done += len;
        }
    }

    fn strides(&self) -> Option<(isize, isize)> {
        None
    }

    fn batch_offset(&self, batch: usize) -> isize {
        self.groups.offset(batch)
    }

    fn is_shared_by_batches(&self) -> bool {
        self.groups.is_zero()
    }
}

/// Packs rows by copying runs of adjacent ones; null stands for zeros.
///
/// # Safety
/// As [`pack_rows`], for the rows that are not null.
unsafe fn pack_runs(rows: &[*const f32], step: isize, k: usize, dst: *mut f32, width: usize) {
    let mut r = 0;
    while r < rows.len() {
        let first = rows[r];
        let mut len = 1;
        while r + len < rows.len()
            && if first.is_null() { rows[r + len].is_null() } else { rows[r + len] == first.wrapping_add(len) }
        {
            len += 1;
        }
        for kk in 0..k {
            let to = dst.wrapping_add(kk * width + r);
            // SAFETY: the run lies within the panel, and its rows are adjacent in the input.
            unsafe {
                if first.is_null() {
                    to.write_bytes(0, len);
                } else {
                    copy_short(first.offset(kk as isize * step), to, len);
                }
            }
        }
        r += len;
    }
    // SAFETY: as the caller vouches.
    unsafe { zero_rest(rows.len(), k, dst, width) };
}
