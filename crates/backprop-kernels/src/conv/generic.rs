//! Convolutions of every element type in plain loops: for checking, and for integers.

use super::patches::MAX_SPATIAL;
use super::spec::ConvSpec;
use crate::gemm::KC;
use crate::gemm::generic::{Element, with_element};
use crate::{DType, Kernel};

/// Multiply-adds of a task.
const TASK: usize = 1 << 16;

/// A convolution of any element type. Operands: lhs, rhs, output; the output overlaps neither.
pub struct ConvGeneric {
    spec: ConvSpec,
    per_task: usize,
    element: unsafe fn(&ConvGeneric, usize, &[*mut u8]),
}

impl ConvGeneric {
    /// Plans a convolution of elements of type `dtype` with sums of type `sum`; `None` where the pair is not supported or for
    /// more than four spatial dimensions.
    ///
    /// Supported are the pairs of [`GemmGeneric`](crate::gemm::GemmGeneric::new).
    pub fn new(spec: &ConvSpec, dtype: DType, sum: DType) -> Option<ConvGeneric> {
        let element = with_element!(dtype, sum, element)?;
        let per_task = (TASK / spec.terms().max(1)).max(1);
        (spec.spatial.len() <= MAX_SPATIAL).then(|| ConvGeneric { spec: spec.clone(), per_task, element })
    }

    fn outputs(&self) -> usize {
        self.spec.positions() * self.spec.features
    }

    /// (lhs, rhs) offsets of a window position for an output position, unless it meets no input.
    fn window(&self, position: &[usize; MAX_SPATIAL], mut window: usize) -> Option<(isize, isize)> {
        let (mut lhs, mut rhs) = (0, 0);
        for (d, dim) in self.spec.spatial.iter().enumerate().rev() {
            let w = window % dim.window;
            window /= dim.window;
            rhs += if dim.reverse { dim.window - 1 - w } else { w } as isize * dim.rhs;
            let at = (position[d] * dim.stride + w * dim.rhs_dilation) as isize - dim.pad_low;
            let step = dim.lhs_dilation as isize;
            if at < 0 || at % step != 0 || at / step >= dim.input as isize {
                return None;
            }
            lhs += at / step * dim.lhs;
        }
        Some((lhs, rhs))
    }
}

/// One output element.
///
/// # Safety
/// As [`Kernel::run`].
unsafe fn element<T: Element>(conv: &ConvGeneric, index: usize, operands: &[*mut u8]) {
    let spec = &conv.spec;
    let groups = spec.groups();
    let (feature, mut rest) = (index % spec.features, index / spec.features);
    let mut position = [0; MAX_SPATIAL];
    let mut out = feature as isize * spec.out_feature;
    for (d, dim) in spec.spatial.iter().enumerate().rev() {
        position[d] = rest % dim.output;
        rest /= dim.output;
        out += position[d] as isize * dim.out;
    }
    out += rest as isize * spec.out_batch;
    let lhs = rest as isize * spec.lhs_batch + (feature / groups.features) as isize * groups.lhs;
    let rhs = feature as isize * spec.rhs_feature;
    let (lhs, rhs) = (operands[0].cast::<T>().wrapping_offset(lhs), operands[1].cast::<T>().wrapping_offset(rhs));
    let (mut total, mut chain) = (T::ZERO, T::ZERO);
    for term in 0..spec.terms() {
        if term > 0 && term % KC == 0 {
            (total, chain) = (T::add(total, chain), T::ZERO);
        }
        let channel = (term % spec.channels) as isize;
        if let Some((l, r)) = conv.window(&position, term / spec.channels) {
            // SAFETY: the position lies in the input and the window.
            chain = unsafe {
                T::madd(chain, *lhs.offset(l + channel * spec.lhs_channel), *rhs.offset(r + channel * spec.rhs_channel))
            };
        }
    }
    // SAFETY: the index is that of an output element.
    unsafe { *operands[2].cast::<T>().offset(out) = T::store(T::add(total, chain)) };
}

impl Kernel for ConvGeneric {
    fn tasks(&self, _stage: usize) -> usize {
        self.outputs().div_ceil(self.per_task)
    }

    unsafe fn run(&self, _stage: usize, task: usize, operands: &[*mut u8], _workspace: *mut u8, _scratch: *mut u8) {
        for index in task * self.per_task..self.outputs().min((task + 1) * self.per_task) {
            // SAFETY: as the caller vouches.
            unsafe { (self.element)(self, index, operands) };
        }
    }
}
