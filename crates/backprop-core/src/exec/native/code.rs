//! Compiled code: kernels in phases, with the addresses of their operands.

use super::{assemble::ARENA, profile::Clocks, run::Frame};
use crate::{host::Literal, op::Scan, pass::plan};
use backprop_kernels::{Kernel, pool::Phase as Tasks};
use std::ops::Range;

/// An address: a number of bytes from a base that is known when the code runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pointer {
    pub base: usize,
    pub offset: isize,
}

/// A kernel and its operands; the address after them is that of its workspace.
pub(crate) struct Call {
    /// Position in the list of kernels.
    pub info: usize,
    pub kernel: Box<dyn Kernel>,
    pub operands: Range<usize>,
}

/// The tasks of one stage of one call, from `first_task` of the step on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Launch {
    pub first_task: usize,
    pub call: usize,
    pub stage: usize,
}

/// What happens one after the other.
pub(crate) enum Step {
    /// Tasks of several kernels, all independent.
    Tasks { phase: Tasks, launches: Range<usize> },
    /// A loop, with its operands' addresses; the address after them is that of its workspace.
    Scan(usize, Range<usize>),
    /// Overwrites stretches of the arena that nobody may read any more.
    Poison(Vec<(usize, usize)>),
}

/// What a kernel is and does, for people and checkers.
#[derive(Clone, Debug)]
pub struct KernelInfo {
    /// Primitives it computes: `dot_general+add+tanh`.
    pub name: String,
    /// Layer path.
    pub path: String,
    /// Floating-point operations.
    pub flops: u64,
    /// Bytes of the values it reads and writes, each counted once.
    pub bytes: usize,
    /// Blocks of the plan it reads.
    pub reads: Vec<usize>,
    /// Blocks of the plan it writes.
    pub writes: Vec<usize>,
}

impl KernelInfo {
    /// About how long it takes one thread that has its operands in the second-level cache. Of the time of small kernels this need only
    /// have the order of magnitude.
    fn seconds(&self) -> f64 {
        self.flops as f64 / 100e9 + self.bytes as f64 / 50e9
    }
}

/// Kernels that run at the same time.
#[derive(Clone, Debug)]
pub struct Phase {
    /// Positions in the list of kernels.
    pub kernels: Vec<usize>,
}

/// A stretch of the arena and the values that lie in it one after the other.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    /// Of the kernel that first writes it.
    pub name: String,
    pub life: plan::Block,
    pub values: Vec<usize>,
}

/// Addresses, resolved for one run.
#[derive(Default)]
pub(crate) struct Addresses(pub Vec<*mut u8>);

// SAFETY: the addresses are only dereferenced by kernels during a run, which holds the memory they point into exclusively (or
// shared, for inputs); between runs they are not used. Moving or sharing the list itself is harmless.
unsafe impl Send for Addresses {}
// SAFETY: as above.
unsafe impl Sync for Addresses {}

/// A compiled graph.
#[derive(Default)]
pub(crate) struct Code {
    pub calls: Vec<Call>,
    pub launches: Vec<Launch>,
    pub steps: Vec<Step>,
    pub pointers: Vec<Pointer>,
    pub scans: Vec<ScanCode>,
    pub kernels: Vec<KernelInfo>,
    pub phases: Vec<Phase>,
    pub blocks: Vec<Block>,
    pub offsets: Vec<usize>,
    pub arena: usize,
    pub live: usize,
    /// Bytes of private memory a thread needs, loops included.
    pub scratch: usize,
    pub constants: Vec<Literal>,
    /// By base; filled in before a run.
    pub bases: Addresses,
    /// By pointer; filled in before a run.
    pub addresses: Addresses,
    /// Room for the frames of a run.
    pub frames: Vec<Frame>,
    /// Where time is measured.
    pub clocks: Option<Clocks>,
}

/// Seconds for which no other thread is asked to help in a phase: about twice the time until it has begun and the end is known.
const SHORT: f64 = 2e-6;
/// Seconds for which no other thread is asked to help in a whole step: to bring weights from core to core takes longer than is won.
const ALONE: f64 = 60e-6;

impl Code {
    /// Leaves short phases to one thread, and all phases of a short step.
    pub fn leave_short_phases(&mut self) {
        let alone = self.scans.is_empty() && self.kernels.iter().map(KernelInfo::seconds).sum::<f64>() < ALONE;
        self.leave_phases(if alone { f64::INFINITY } else { SHORT });
    }

    /// Leaves phases of fewer than so many seconds to one thread.
    fn leave_phases(&mut self, limit: f64) {
        let seconds = |l: &Launch| {
            let call = &self.calls[l.call];
            self.kernels[call.info].seconds() / call.kernel.rounds() as f64
        };
        for step in &mut self.steps {
            if let Step::Tasks { phase, launches } = step {
                phase.short = self.launches[launches.clone()].iter().map(seconds).sum::<f64>() < limit;
            }
        }
        self.scans.iter_mut().for_each(|scan| scan.body.leave_phases(SHORT));
    }

    /// Reserves everything a run writes to, and fills in the addresses of the constants, which follow `first_constant` bases.
    pub fn prepare(&mut self, first_constant: usize, constants: Vec<Literal>) {
        self.bases.0 = vec![std::ptr::null_mut(); first_constant];
        // Kernels only read what their operands list as inputs.
        self.bases.0.extend(constants.iter().map(|literal| literal.bytes().as_ptr().cast_mut()));
        self.constants = constants;
        self.addresses.0 = vec![std::ptr::null_mut(); self.pointers.len()];
        self.frames.reserve(self.nesting());
    }

    /// How many codes are within each other, this one included.
    fn nesting(&self) -> usize {
        1 + self.scans.iter().map(|scan| scan.body.nesting()).max().unwrap_or(0)
    }

    /// Bytes of constants, those of loops included.
    pub fn constant_bytes(&self) -> usize {
        let own: usize = self.constants.iter().map(|c| c.ty().bytes()).sum();
        own + self.scans.iter().map(|s| s.body.constant_bytes()).sum::<usize>()
    }

    /// Sets the base of the arena and computes all addresses.
    pub fn resolve(&mut self, arena: *mut u8) {
        self.bases.0[ARENA] = arena;
        for (address, pointer) in self.addresses.0.iter_mut().zip(&self.pointers) {
            *address = self.bases.0[pointer.base].wrapping_offset(pointer.offset);
        }
    }
}

/// A compiled loop. Its workspace holds the body's arena, then two buffers of each carried value.
pub(crate) struct ScanCode {
    pub length: usize,
    pub reverse: bool,
    pub constants: usize,
    pub carried: usize,
    pub body: Code,
    /// Bytes of the body's inputs and outputs.
    pub input_bytes: Vec<usize>,
    pub output_bytes: Vec<usize>,
    /// Offset in the workspace of the two buffers of each carried value.
    pub buffers: Vec<[usize; 2]>,
    workspace: usize,
}

impl ScanCode {
    pub fn new(scan: &Scan, body: Code, input_bytes: Vec<usize>, output_bytes: Vec<usize>) -> ScanCode {
        let mut workspace = body.arena;
        // The last iteration writes to the result itself: buffers are for those before.
        let needed = scan.length.saturating_sub(1).min(2);
        let buffers = (0..scan.carried)
            .map(|k| {
                let size = output_bytes[k].next_multiple_of(plan::ALIGNMENT);
                let pair = [workspace, workspace + if needed == 2 { size } else { 0 }];
                workspace += needed * size;
                pair
            })
            .collect();
        ScanCode {
            length: scan.length,
            reverse: scan.reverse,
            constants: scan.constants,
            carried: scan.carried,
            body,
            input_bytes,
            output_bytes,
            buffers,
            workspace,
        }
    }

    /// Bytes of shared memory a run needs.
    pub fn workspace(&self) -> usize {
        self.workspace
    }

    /// Bytes of private memory a thread needs.
    pub fn scratch(&self) -> usize {
        self.body.scratch
    }
}
