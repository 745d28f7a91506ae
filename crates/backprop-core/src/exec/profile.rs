use std::time::Duration;

/// Where the time of a program's runs went.
#[derive(Clone, PartialEq, Debug)]
pub struct Profile {
    /// Runs that were measured.
    pub runs: u64,
    /// Threads that took part.
    pub threads: usize,
    /// How long the runs took, all together.
    pub elapsed: Duration,
    /// Every kernel, in the order of the program; those of a loop after the others.
    pub kernels: Vec<KernelTime>,
}

impl Profile {
    /// What the threads had beside kernels: waiting for each other, and for work to be handed out.
    pub fn waiting(&self) -> Duration {
        let busy: Duration = self.kernels.iter().map(|kernel| kernel.time).sum();
        (self.elapsed * self.threads as u32).saturating_sub(busy)
    }
}

/// A kernel and its time.
#[derive(Clone, PartialEq, Debug)]
pub struct KernelTime {
    /// Primitives it computes: `dot_general+add+tanh`.
    pub name: String,
    /// Layer path.
    pub path: String,
    /// Floating-point operations of a call.
    pub flops: u64,
    /// Bytes of the values that a call reads and writes, each counted once.
    pub bytes: usize,
    /// How often a run calls it: 1, or the length of its loop.
    pub calls_per_run: u64,
    /// Time in all threads, over all runs.
    pub time: Duration,
}
