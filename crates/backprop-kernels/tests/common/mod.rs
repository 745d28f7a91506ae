//! What the kernel tests share: running a kernel on a pool, and numbers to run it on.
#![allow(dead_code, reason = "every test binary uses its own part")]

pub mod layer;
pub mod space;

use backprop_kernels::Kernel;
use backprop_kernels::pool::Pool;

/// Memory aligned to a cache line, filled with a byte pattern that reads as NaN.
pub struct Aligned {
    lines: Vec<[u64; 8]>,
    skip: usize,
}

impl Aligned {
    pub fn new(bytes: usize) -> Aligned {
        let lines = vec![[0xFFFF_FFFF_FFFF_FFFF; 8]; bytes.div_ceil(64) + 1];
        let skip = lines.as_ptr().cast::<u8>().align_offset(64);
        Aligned { lines, skip }
    }

    pub fn at(&mut self) -> *mut u8 {
        self.lines.as_mut_ptr().cast::<u8>().wrapping_add(self.skip)
    }
}

#[derive(Clone, Copy)]
struct Shared<T>(T);
// SAFETY: the tests hand out addresses whose use the kernel's contract keeps apart.
unsafe impl<T> Sync for Shared<T> {}

/// Runs all stages of a kernel.
///
/// # Safety
/// As `Kernel::run`.
pub unsafe fn run_kernel(kernel: &dyn Kernel, pool: &Pool, operands: &[*mut u8]) {
    let mut workspace = Aligned::new(kernel.workspace());
    let mut scratch: Vec<Aligned> = (0..pool.threads()).map(|_| Aligned::new(kernel.scratch())).collect();
    let scratch: Vec<*mut u8> = scratch.iter_mut().map(Aligned::at).collect();
    let memory = Shared((operands, workspace.at(), &scratch[..]));
    for stage in 0..kernel.stages() {
        let memory = &memory;
        // SAFETY: stages run in order, tasks once, each worker with its own scratch.
        pool.run(kernel.tasks(stage), &move |task, worker| unsafe {
            let (operands, workspace, scratch) = memory.0;
            kernel.run(stage, task, operands, workspace, scratch[worker]);
        });
    }
}

/// Numbers that decide the shapes of a case.
pub struct Dice(pub u64);

impl Dice {
    /// A number from `low` to `high`, both included.
    pub fn roll(&mut self, low: usize, high: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        low + (self.0 >> 33) as usize % (high - low + 1)
    }
}

/// Uniform numbers in [-1, 1), the same for the same seed.
pub fn uniform(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        })
        .collect()
}
