//! Inputs of few channels: their innermost dimension and their channels lie side by side, so a patch has whole runs of both.
//! Where the window reaches over the ends of a line, lines are copied between zeros first.

use super::spec::{ConvDim, Phase};
use crate::gemm::source::Strided;

/// Elements a copying task moves: about 10 µs.
const MOVED: usize = 1 << 15;

/// Lines copied between zeros.
pub(super) struct Pad {
    /// Offset of each line.
    lines: Strided,
    count: usize,
    /// Elements of a line, of the zeros before it, and of both and the zeros behind it.
    len: usize,
    low: usize,
    total: usize,
}

/// How far the patches of a dimension reach over its ends: (elements before it, elements behind it).
fn overhang(dim: &ConvDim) -> (usize, usize) {
    let last = (dim.output.max(1) - 1) * dim.stride + (dim.window.max(1) - 1) * dim.rhs_dilation;
    let behind = last as isize - dim.pad_low - (dim.input as isize - 1);
    (dim.pad_low.max(0) as usize, behind.max(0) as usize)
}

/// Lets the innermost dimension of the input reach as far as its patches do. `channels` are adjacent elements at each position.
pub(super) fn pad(phase: &mut Phase, channels: usize, batches_outside: bool) -> Option<Pad> {
    let spec = &mut phase.spec;
    let (dim, outer) = spec.spatial.split_last_mut()?;
    let (low, high) = overhang(dim);
    if low + high == 0 {
        return None;
    }
    let mut lines: Vec<(usize, isize)> = if batches_outside { vec![(spec.batch, spec.lhs_batch)] } else { Vec::new() };
    lines.extend(outer.iter().map(|d| (d.input, d.lhs)));
    let total = (low + dim.input + high) * channels;
    let pad = Pad {
        count: lines.iter().map(|d| d.0).product(),
        lines: Strided::new(lines),
        len: dim.input * channels,
        low: low * channels,
        total,
    };
    dim.input += low + high;
    dim.pad_low -= low as isize;
    let mut stride = total as isize;
    for dim in outer.iter_mut().rev() {
        dim.lhs = stride;
        stride *= dim.input as isize;
    }
    if batches_outside {
        spec.lhs_batch = stride;
    }
    Some(pad)
}

impl Pad {
    /// Elements of the copy.
    pub fn size(&self) -> usize {
        self.count * self.total
    }

    fn per_task(&self) -> usize {
        (MOVED / self.total.max(1)).max(1)
    }

    pub fn tasks(&self) -> usize {
        self.count.div_ceil(self.per_task())
    }

    /// # Safety
    /// `lhs` is the operand the convolution was planned for, `to` has room for the copy.
    pub unsafe fn copy(&self, task: usize, lhs: *const f32, to: *mut f32) {
        for line in task * self.per_task()..self.count.min((task + 1) * self.per_task()) {
            let (from, to) = (lhs.wrapping_offset(self.lines.offset(line)), to.wrapping_add(line * self.total));
            let end = self.low + self.len;
            // SAFETY: a whole line of the input, and a line of the copy, which is this task's own.
            unsafe {
                to.write_bytes(0, self.low);
                std::ptr::copy_nonoverlapping(from, to.add(self.low), self.len);
                to.add(end).write_bytes(0, self.total - end);
            }
        }
    }
}
