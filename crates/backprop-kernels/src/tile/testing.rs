//! What the tests of all kernels share.

use crate::{Isa, Kernel};

/// A small deterministic source of test numbers (splitmix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// A number of moderate size.
    pub(crate) fn float(&mut self) -> f32 {
        (self.next() >> 40) as f32 / 16_777_216.0 * 8.0 - 4.0
    }
}

/// 64-byte aligned zeroed bytes.
pub(crate) fn aligned(bytes: usize) -> Vec<[u64; 8]> {
    vec![[0; 8]; bytes.div_ceil(64).max(1)]
}

/// Runs all tasks of a kernel, in order or reversed.
pub(crate) fn run_kernel(kernel: &dyn Kernel, operands: &[*mut u8], reversed: bool) {
    let mut workspace = aligned(kernel.workspace());
    let mut scratch = aligned(kernel.scratch());
    for stage in 0..kernel.stages() {
        let mut tasks: Vec<usize> = (0..kernel.tasks(stage)).collect();
        if reversed {
            tasks.reverse();
        }
        for task in tasks {
            // Whatever an earlier task left must not matter.
            scratch.iter_mut().for_each(|line| *line = [0x7ff4_dead_7fa4_beef; 8]);
            let (workspace, scratch) = (workspace.as_mut_ptr().cast(), scratch.as_mut_ptr().cast());
            // SAFETY: the test's operands are as the kernel's constructor was told.
            unsafe { kernel.run(stage, task, operands, workspace, scratch) };
        }
    }
}

pub(crate) fn fused_isas() -> impl Iterator<Item = Isa> {
    Isa::available().iter().copied()
}

/// All indices of an iteration space in row-major order.
pub(crate) fn indices(dims: &[usize]) -> Vec<Vec<usize>> {
    let mut result = vec![vec![]];
    for &d in dims {
        result = result.into_iter().flat_map(|i| (0..d).map(move |j| [i.clone(), vec![j]].concat())).collect();
    }
    result
}
