/// A planned kernel: everything that depends on shapes, dtypes and instruction set was decided when it was made.
///
/// An executor runs stage after stage; within a stage the tasks are independent and may run in any order on any thread.
/// Nothing in `run` allocates, locks or calls the system.
pub trait Kernel: Send + Sync {
    /// Number of stages; a barrier stands between consecutive stages. Never zero.
    fn stages(&self) -> usize {
        1
    }

    /// Independent tasks of a stage: a pure function of shape and dtype. May be zero.
    fn tasks(&self, stage: usize) -> usize;

    /// Among how many stages its work is about equally divided, where it does the same again and again.
    fn rounds(&self) -> usize {
        1
    }

    /// How many of the first stages depend on the second operand alone, a product's weights: runs on other first operands can share them,
    /// because later stages only read the workspace.
    fn shared_stages(&self) -> usize {
        0
    }

    /// In how many equal parts the outermost dimension of its sums' terms is cut: the tasks of the first stage are as many for each part,
    /// one part after the other, and read nothing of the operands but that part. Later stages only add. 1 if it is not cut.
    fn sum_parts(&self) -> usize {
        1
    }

    /// Bytes of memory shared by all tasks and stages of one run (packed panels, split partials), 64-byte aligned.
    fn workspace(&self) -> usize {
        0
    }

    /// Bytes of private memory each running thread provides, 64-byte aligned; contents do not survive a task.
    fn scratch(&self) -> usize {
        0
    }

    /// Runs one task.
    ///
    /// `operands` are the addresses of the inputs, then of the outputs, as the kernel's constructor documents them.
    ///
    /// # Safety
    /// Every operand is valid for the size and alignment (of its element type) fixed at construction, inputs for reads and
    /// outputs for writes; an output overlaps another operand only where the constructor's documentation allows it; `workspace`
    /// and `scratch` have at least the promised sizes; stages run in order, each task of a stage exactly once; and the
    /// processor supports the instruction set the kernel was planned for.
    unsafe fn run(&self, stage: usize, task: usize, operands: &[*mut u8], workspace: *mut u8, scratch: *mut u8);
}
