//! An epilogue of a convolution in phases. A phase has every second output, say, and an epilogue wants whole ranges of rows: so
//! the phases go to the workspace first.

use std::sync::Arc;

use super::spec::ConvSpec;
use crate::Kernel;
use crate::gemm::parts::Parts;
use crate::gemm::{Epilogue, round64};

/// Elements a task hands to the epilogue: about 20 µs.
const MOVED: usize = 1 << 14;

/// The spec whose output is dense in the order (batch, space, feature).
pub(super) fn dense(spec: &ConvSpec) -> ConvSpec {
    let mut dense = spec.clone();
    let mut stride = spec.features as isize;
    for dim in dense.spatial.iter_mut().rev() {
        dim.out = stride;
        stride *= dim.output as isize;
    }
    (dense.out_batch, dense.out_feature) = (stride, 1);
    dense
}

/// The phases of a dense output, then the epilogue.
pub(super) struct Staged {
    pub phases: Parts,
    pub epilogue: Arc<dyn Epilogue>,
    pub rows: usize,
    pub features: usize,
}

impl Staged {
    /// Bytes of the output in the workspace.
    fn output(&self) -> usize {
        round64(4 * self.rows * self.features)
    }

    fn rows_per_task(&self) -> usize {
        (MOVED / self.features.max(1)).max(1)
    }
}

impl Kernel for Staged {
    fn stages(&self) -> usize {
        self.phases.stages() + 1
    }

    fn tasks(&self, stage: usize) -> usize {
        if stage < self.phases.stages() {
            self.phases.tasks(stage)
        } else if self.features == 0 {
            0
        } else {
            self.rows.div_ceil(self.rows_per_task())
        }
    }

    fn workspace(&self) -> usize {
        self.output() + self.phases.workspace()
    }

    fn scratch(&self) -> usize {
        self.phases.scratch().max(self.epilogue.scratch())
    }

    unsafe fn run(&self, stage: usize, task: usize, operands: &[*mut u8], workspace: *mut u8, scratch: *mut u8) {
        if stage < self.phases.stages() {
            let rest = workspace.wrapping_add(self.output());
            // SAFETY: as the caller vouches; the output lies in the workspace, before that of the phases.
            return unsafe { self.phases.run(stage, task, &[operands[0], operands[1], workspace], rest, scratch) };
        }
        let row0 = task * self.rows_per_task();
        let rows = (self.rows - row0).min(self.rows_per_task());
        let tile = workspace.cast::<f32>().wrapping_add(row0 * self.features);
        // SAFETY: the phases have finished these rows.
        unsafe { self.epilogue.apply(0, row0, rows, 0, self.features, tile, self.features, operands, scratch) };
    }
}
